//! Explains what the API server refuses, and what to do. Pure.

use std::time::Duration;

use crate::error::Failure;

#[derive(Clone, Debug)]
pub struct Refused {
    /// URL of the API server.
    pub url: String,
}

impl Refused {
    pub fn tell(&self, what: &str, error: &kube::Error) -> Failure {
        match error {
            kube::Error::Api(status) => self.answered(what, status),
            kube::Error::Auth(error) => Failure::Denied(format!(
                "{what}: the kubeconfig's credentials for {} cannot be had: {}. To do: log in to the cluster again",
                self.url,
                root(error)
            )),
            kube::Error::SerdeError(error) => Failure::Cluster(format!("{what}: the answer cannot be read: {error}")),
            other => Failure::Cluster(format!(
                "{what}: the cluster at {} does not answer: {}. To do: check the address in the kubeconfig and the way \
                 to it (network, VPN, proxy)",
                self.url,
                root(other)
            )),
        }
    }

    pub fn silent(&self, what: &str, waited: Duration) -> Failure {
        Failure::Cluster(format!("{what}: the cluster at {} has not answered within {} s", self.url, waited.as_secs()))
    }

    fn answered(&self, what: &str, status: &kube::core::Status) -> Failure {
        let message = status.message.trim();
        let program = crate::program::name();
        match status.code {
            401 => Failure::Denied(format!(
                "{what}: the cluster at {} does not accept your credentials. To do: log in again (a token may have \
                 expired), or choose other ones by --context or --kubeconfig",
                self.url
            )),
            403 => Failure::Denied(format!(
                "{what}: {message}. To do: ask an administrator for that right; `{program} doctor` shows which you have"
            )),
            404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => Failure::Usage(format!(
                "{what}: the cluster at {} does not know this kind of Floe. To do: install Floe there (docs/kubernetes.md), \
                 or choose another cluster by --context",
                self.url
            )),
            409 if !conflicts(status).is_empty() => Failure::Usage(format!(
                "{what}: {}. To do: --force-conflicts takes these fields over",
                conflicts(status).join("; ")
            )),
            400 | 404 | 405 | 409 | 413 | 422 => Failure::Usage(format!("{what}: {message}")),
            429 => Failure::Cluster(format!("{what}: the cluster is too busy ({message}); try again")),
            _ => Failure::Cluster(format!("{what}: {message}")),
        }
    }
}

/// The fields that others have set, from a refused server-side apply.
fn conflicts(status: &kube::core::Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| format!("{}: {}", cause.field.trim_start_matches('.'), cause.message))
        .collect()
}

/// The innermost cause: for connections, the kernel's message.
fn root(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(cause) = at.source() {
        at = cause;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(status: serde_json::Value) -> (String, u8) {
        let refused = Refused { url: "https://c:6443".into() };
        let failure = refused.tell("cannot read query q", &kube::Error::Api(serde_json::from_value(status).unwrap()));
        (failure.to_string(), failure.code())
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let named = json!({"name": "q", "kind": "distributedqueries"});
        for (status, told_of, code) in [
            (json!({"code": 401, "message": "Unauthorized"}), "log in again", 3),
            (json!({"code": 403, "message": "user may not"}), "user may not. To do: ask an administrator", 3),
            (json!({"code": 404, "message": "404 page not found"}), "install Floe there", 2),
            (json!({"code": 404, "message": "q not found", "details": named}), "cannot read query q: q not found", 2),
            (json!({"code": 422, "message": "spec.plan: wrong"}), "cannot read query q: spec.plan: wrong", 2),
            (json!({"code": 500, "message": "etcd"}), "etcd", 3),
            (
                json!({"code": 409, "message": "Apply failed", "details": {"causes": [{"reason": "FieldManagerConflict",
                    "field": ".spec.suspend", "message": "conflict with \"kubectl\""}]}}),
                "spec.suspend: conflict with \"kubectl\". To do: --force-conflicts",
                2,
            ),
        ] {
            let (text, is) = told(status.clone());
            assert!(text.contains(told_of), "{status}: {text}");
            assert_eq!(is, code, "{status}");
        }
    }
}
