//! Errors of the effects, typed by step. The category is the metric's label, from a bounded set.

use floe_api::Reason;

use super::build::BuildError;
use super::facts::Trouble;

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("{what} cannot be read: {source}")]
    Read { what: &'static str, source: kube::Error },
    #[error("the query has no namespace or UID")]
    Anonymous,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{kind} {name}: {source}")]
    Api { kind: &'static str, name: String, source: kube::Error },
    #[error("{kind} {name} is there already and belongs to something else")]
    Foreign { kind: &'static str, name: String },
    #[error("{kind} {name} of a query of the same name that was deleted is on its way out")]
    Former { kind: &'static str, name: String },
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("{0}")]
    Incomplete(&'static str),
    /// The coordinator of a context did not do what it was asked to.
    #[error("context {context}: {source}")]
    Asked { context: String, source: AskError },
}

/// Errors of asking a context's coordinator.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("its coordinator cannot be asked: {0}")]
    Silent(String),
    /// The limit on running and waiting queries is reached.
    #[error("{0}")]
    Full(String),
    #[error("its coordinator refuses the job: {0}")]
    Refused(String),
}

#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("somebody else wrote the query in between")]
    Conflict,
    #[error("the status cannot be written: {0}")]
    Write(kube::Error),
    #[error("the status cannot be made: {0}")]
    Serialize(#[from] serde_json::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("observe: {0}")]
    Observe(#[from] ObserveError),
    #[error("apply: {0}")]
    Apply(#[from] ApplyError),
    #[error("status: {0}")]
    Status(#[from] StatusError),
}

impl Error {
    pub fn category(&self) -> &'static str {
        match self {
            Error::Observe(ObserveError::Read { .. }) => "observe",
            Error::Observe(ObserveError::Anonymous) => "invalid",
            Error::Apply(error) => error.category(),
            Error::Status(StatusError::Conflict) => "conflict",
            Error::Status(StatusError::Write(_) | StatusError::Serialize(_)) => "status",
        }
    }
}

impl ApplyError {
    pub fn category(&self) -> &'static str {
        match self.trouble() {
            Trouble { reason: Reason::ClusterError, .. } => "cluster",
            Trouble { reason: Reason::NameTaken | Reason::Waiting, .. } => "name-taken",
            Trouble { reason: Reason::BadSpec, .. } => "invalid",
            Trouble { .. } => "refused",
        }
    }

    /// Whether a quota is full: there is room again once another query ends.
    pub fn is_quota(&self) -> bool {
        match self {
            ApplyError::Api { source: kube::Error::Api(answer), .. } => {
                answer.code == 403 && answer.message.contains("exceeded quota")
            }
            ApplyError::Api { .. }
            | ApplyError::Foreign { .. }
            | ApplyError::Former { .. }
            | ApplyError::Build(_)
            | ApplyError::Asked { .. }
            | ApplyError::Incomplete(_) => false,
        }
    }

    /// Which quota, and its numbers.
    pub fn quota_words(&self) -> String {
        let text = match self {
            ApplyError::Api { source: kube::Error::Api(answer), .. } => answer.message.clone(),
            other => other.to_string(),
        };
        let from = text.find("exceeded quota").unwrap_or(0);
        text.get(from..).unwrap_or(&text).to_owned()
    }

    /// How the status describes the error.
    pub fn trouble(&self) -> Trouble {
        let (reason, message, fatal) = match self {
            ApplyError::Foreign { .. } => (Reason::NameTaken, self.to_string(), false),
            ApplyError::Former { .. } => (Reason::Waiting, self.to_string(), false),
            ApplyError::Build(_) => (Reason::BadSpec, self.to_string(), true),
            ApplyError::Incomplete(_) => (Reason::ClusterError, self.to_string(), false),
            ApplyError::Asked { source: AskError::Silent(_), .. } => (Reason::Unreachable, self.to_string(), false),
            ApplyError::Asked { source: AskError::Full(_), .. } => (Reason::ContextFull, self.to_string(), false),
            ApplyError::Asked { source: AskError::Refused(_), .. } => (Reason::BadSpec, self.to_string(), true),
            ApplyError::Api { kind, name, source: kube::Error::Api(answer) } => {
                let words = answer.message.as_str();
                let (reason, fatal) = refusal(answer.code, words);
                (reason, format!("{kind} {name}: {words}{}", what_to_write(words)), fatal)
            }
            ApplyError::Api { kind, name, source } => (Reason::ClusterError, format!("{kind} {name}: {source}"), false),
        };
        Trouble { reason, message, fatal }
    }
}

/// Names the field to set if a quota requires a resource that the pod does not specify.
fn what_to_write(words: &str) -> &'static str {
    match words {
        _ if !words.contains("must specify") => "",
        _ if words.contains("limits.cpu") => " (write spec.compute.cpuLimit)",
        _ if words.contains("ephemeral-storage") => " (write spec.compute.scratch.size)",
        _ => "",
    }
}

/// Classifies a refusal of the API server, and tells whether it is permanent.
fn refusal(code: u16, words: &str) -> (Reason, bool) {
    match code {
        403 if words.contains("exceeded quota") || words.contains("failed quota") => (Reason::Quota, false),
        403 if words.contains("usage per") => (Reason::Quota, false),
        403 if words.contains("violates PodSecurity") => (Reason::PodSecurity, false),
        403 => (Reason::Forbidden, words.contains("is being terminated")),
        400 | 413 | 422 => (Reason::BadSpec, true),
        _ => (Reason::ClusterError, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_the_servers_words() {
        let cases = [
            (403, "pods \"q-1-w0-0\" is forbidden: exceeded quota: small, requested: memory=2Gi", Reason::Quota, false),
            (
                403,
                "pods \"q\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi",
                Reason::Quota,
                false,
            ),
            (
                403,
                "pods \"q\" is forbidden: violates PodSecurity \"restricted:latest\": privileged",
                Reason::PodSecurity,
                false,
            ),
            (
                403,
                "pods \"q\" is forbidden: error looking up service account n/x: serviceaccount \"x\" not found",
                Reason::Forbidden,
                false,
            ),
            (
                403,
                "unable to create new content in namespace n because it is being terminated",
                Reason::Forbidden,
                true,
            ),
            (422, "Pod \"q\" is invalid: spec.containers[0].env[0].name: Invalid value", Reason::BadSpec, true),
            (500, "etcdserver: request timed out", Reason::ClusterError, false),
        ];
        assert_eq!(
            what_to_write("failed quota: q: must specify limits.cpu for: floe"),
            " (write spec.compute.cpuLimit)"
        );
        assert_eq!(what_to_write("exceeded quota: q, requested: limits.cpu=2"), "");
        for (code, words, reason, fatal) in cases {
            assert_eq!(refusal(code, words), (reason, fatal), "{words}");
        }
    }
}
