//! What the cluster's administrator allows queries: images, plans, sizes, and how much a pod template may set. The
//! chart makes a ValidatingAdmissionPolicy of the same values, which rejects a query when it is created; this also
//! covers queries that came another way or existed before. Pure.

mod pods;

use floe_api::{DistributedQuerySpec, FieldError, Quantity};
use serde::{Deserialize, Serialize};

/// Allows everything, unless it says otherwise.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Images that queries may name; a trailing * matches any ending.
    images: Vec<String>,
    plans: Vec<String>,
    python_functions: Switch,
    pod_template: TemplateRule,
    /// Kinds of volumes, of the query's own and in templates, as a pod names them; `serviceAccountToken` is one of projected
    /// volumes.
    volumes: Vec<String>,
    service_accounts: Vec<String>,
    environment: bool,
    max_workers: Option<u32>,
    max_memory: Option<Quantity>,
    max_active_deadline_seconds: Option<u32>,
    max_ttl_seconds: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Switch {
    #[default]
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum TemplateRule {
    #[default]
    Any,
    /// Nothing that gives access to the node, the API server, or more rights than Floe's own pods have.
    Restricted,
    None,
}

impl Default for Policy {
    fn default() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            images: all(),
            plans: vec!["dsl".into(), "sql".into(), "python".into()],
            python_functions: Switch::Allow,
            pod_template: TemplateRule::Any,
            volumes: all(),
            service_accounts: all(),
            environment: true,
            max_workers: None,
            max_memory: None,
            max_active_deadline_seconds: None,
            max_ttl_seconds: None,
        }
    }
}

/// Parses the operator's option, which is JSON. An empty one allows everything.
pub fn read(text: &str) -> Result<Policy, String> {
    match text.trim() {
        "" => Ok(Policy::default()),
        text => serde_json::from_str(text).map_err(|error| format!("is no policy: {error}")),
    }
}

impl Policy {
    /// Whether plans may contain Python functions. The runner enforces it, because only the runner reads plans.
    pub fn allows_functions(&self) -> bool {
        self.python_functions == Switch::Allow
    }

    /// Everything that the spec asks for and may not have.
    pub fn faults(&self, spec: &DistributedQuerySpec) -> Vec<FieldError> {
        let mut faults = Vec::new();
        let mut refuse = |path: &str, message: String| faults.push(FieldError::new(path, message));
        let compute = &spec.compute;
        for (plan, given) in
            [("dsl", spec.plan.dsl.is_some()), ("sql", spec.plan.sql.is_some()), ("python", spec.plan.python.is_some())]
        {
            if given && !self.plans.iter().any(|allowed| allowed == plan) {
                refuse(&format!("spec.plan.{plan}"), format!("is not allowed: write {}", self.plans.join(" or ")));
            }
        }
        if let Some(name) = &compute.image
            && !allows(&self.images, name)
        {
            let message = format!("the image {name} is not allowed: {} are", self.images.join(", "));
            refuse("spec.compute.image", message);
        }
        if let Some(name) = &compute.service_account_name
            && !allows(&self.service_accounts, name)
        {
            refuse("spec.compute.serviceAccountName", format!("the service account {name} is not allowed"));
        }
        let gives = !compute.env.is_empty() || !compute.env_from.is_empty();
        if gives && !self.environment {
            refuse("spec.compute.env", "environment variables are not allowed: leave env and envFrom out".into());
        }
        let workers = compute.worker_count();
        if let Some(most) = self.max_workers.filter(|most| workers > *most) {
            refuse("spec.compute.workers", format!("{workers} workers are not allowed: at most {most} are"));
        }
        if let Some(most) = &self.max_memory {
            let bytes = |quantity: &Quantity| u128::from(quantity.bytes().unwrap_or(0));
            let asked = bytes(&compute.memory) * u128::from(workers)
                + bytes(&compute.coordinator.memory)
                + pods::bytes_beside(compute, workers);
            if asked > bytes(most) {
                let message = format!(
                    "coordinator and workers together have {} MiB, and at most {most} are allowed",
                    asked >> 20
                );
                refuse("spec.compute.memory", message);
            }
        }
        if let Some(most) = self.max_active_deadline_seconds
            && spec.active_deadline_seconds.is_none_or(|seconds| seconds > most)
        {
            refuse("spec.activeDeadlineSeconds", format!("must be given, and at most {most}"));
        }
        let ttl = spec.ttl_seconds_after_finished.clone().unwrap_or_default();
        if let Some(most) = self.max_ttl_seconds
            && [ttl.succeeded, ttl.failed].iter().any(|seconds| seconds.is_none_or(|seconds| seconds > most))
        {
            let message = format!("succeeded and failed must be given, and at most {most}");
            refuse("spec.ttlSecondsAfterFinished", message);
        }
        faults.extend(self.pod_faults(compute));
        faults
    }
}

/// Whether the list contains the name, or a prefix of it followed by *.
fn allows(list: &[String], name: &str) -> bool {
    list.iter().any(|allowed| match allowed.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => allowed == name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: &str) -> DistributedQuerySpec {
        let text = format!(
            "apiVersion: floe.dev/v1alpha1\nkind: DistributedQuery\nmetadata: {{name: q}}\nspec:\n  plan: {{python: {{script: result = 1}}}}\n{more}"
        );
        floe_api::from_yaml(&text).unwrap().spec
    }

    #[test]
    fn what_is_not_said_is_allowed() {
        let rich = spec(
            "  compute: {image: 'a/b:1', workers: 500, podTemplate: {spec: {hostNetwork: true, containers: []}}}\n",
        );
        assert!(read("").unwrap().faults(&rich).is_empty() && read("{}").unwrap().faults(&rich).is_empty());
        assert!(read(r#"{"image": []}"#).unwrap_err().contains("unknown field"));
    }

    #[test]
    fn each_rule_refuses_by_name() {
        let template = |spec: &str| format!("  compute: {{podTemplate: {{spec: {{containers: [], {spec}}}}}}}\n");
        let container =
            |more: &str| format!("  compute: {{podTemplate: {{spec: {{containers: [{{name: floe, {more}}}]}}}}}}\n");
        let cases = [
            (r#"{"plans": ["dsl"]}"#, String::new(), "spec.plan.python: is not allowed: write dsl"),
            (
                r#"{"images": ["a/*"]}"#,
                "  compute: {image: 'b/x:1'}\n".into(),
                "the image b/x:1 is not allowed: a/* are",
            ),
            (r#"{"images": ["a/*"]}"#, container("image: 'b/x:1'"), "container floe: the image b/x:1"),
            (r#"{"serviceAccounts": []}"#, "  compute: {serviceAccountName: s}\n".into(), "service account s"),
            (r#"{"serviceAccounts": []}"#, template("serviceAccountName: s"), "service account s"),
            (
                r#"{"environment": false}"#,
                "  compute: {env: [{name: A, value: b}]}\n".into(),
                "leave env and envFrom out",
            ),
            (r#"{"environment": false}"#, container("env: [{name: A, value: b}]"), "environment variables"),
            (r#"{"maxWorkers": 3}"#, "  compute: {maxWorkers: 4}\n".into(), "4 workers are not allowed: at most 3 are"),
            (r#"{"maxMemory": "8Gi"}"#, "  compute: {workers: 4}\n".into(), "have 9216 MiB, and at most 8Gi"),
            (r#"{"maxActiveDeadlineSeconds": 60}"#, String::new(), "must be given, and at most 60"),
            (
                r#"{"maxTtlSeconds": 60}"#,
                "  ttlSecondsAfterFinished: {succeeded: 9, failed: 99}\n".into(),
                "at most 60",
            ),
            (r#"{"podTemplate": "none"}"#, template("dnsPolicy: Default"), "odTemplate: is not allowed"),
            (r#"{"podTemplate": "restricted"}"#, template("hostNetwork: true"), "hostNetwork is not allowed"),
            (
                r#"{"podTemplate": "restricted"}"#,
                container("securityContext: {privileged: true}"),
                "privileged of container",
            ),
            (r#"{"podTemplate": "restricted"}"#, template("volumes: [{name: v, hostPath: {path: /}}]"), "hostPath"),
            (
                r#"{"podTemplate": "restricted"}"#,
                template("volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]"),
                "serviceAccountToken is not allowed",
            ),
            (r#"{"volumes": ["configMap"]}"#, template("volumes: [{name: v, emptyDir: {}}]"), "v is a emptyDir"),
            (
                r#"{"volumes": ["configMap"]}"#,
                "  compute: {volumes: [{name: v, mountPath: /v, secret: {secretName: s}}]}\n".into(),
                "spec.compute.volumes[0]: a secret is not allowed: configMap are",
            ),
            (
                r#"{"images": ["a/*"]}"#,
                template("volumes: [{name: v, image: {reference: 'b/x:1'}}]"),
                "volume v: the image b/x:1",
            ),
            (
                r#"{"podTemplate": "restricted"}"#,
                container("securityContext: {runAsUser: 0}"),
                "runAsUser: 0 of container floe is not allowed",
            ),
            (
                r#"{"podTemplate": "restricted"}"#,
                template("securityContext: {runAsNonRoot: false}"),
                "runAsNonRoot: false is not allowed",
            ),
            (
                r#"{"podTemplate": "restricted"}"#,
                template("securityContext: {seccompProfile: {type: Unconfined}}"),
                "seccompProfile Unconfined",
            ),
            (
                r#"{"maxMemory": "8Gi"}"#,
                container("resources: {limits: {memory: 64Gi}}"),
                "container floe: its memory is that of spec.compute",
            ),
            (
                r#"{"maxMemory": "8Gi"}"#,
                "  compute: {podTemplate: {spec: {containers: [{name: side, image: s}]}}}\n".into(),
                "container side: must have resources.limits.memory",
            ),
            // Two workers and the coordinator have one each, of 1Gi, beside 5Gi.
            (
                r#"{"maxMemory": "7Gi"}"#,
                "  compute: {podTemplate: {spec: {containers: [{name: side, resources: {limits: {memory: 1Gi}}}]}}}\n"
                    .into(),
                "have 8192 MiB, and at most 7Gi",
            ),
        ];
        // No template is a way around what holds for another.
        let places = ["podTemplate: {", "workerPodTemplate: {", "coordinator: {podTemplate: {"];
        let cases: Vec<_> = cases
            .into_iter()
            .flat_map(|(policy, more, words)| {
                // How many pods there are, and the image of Floe's own container, hang on the template.
                let is_alike = !words.contains("MiB") && !more.contains("name: floe, image");
                let places = places.iter().filter(|_| more.contains(places[0]) && is_alike).map(|place| {
                    let end = if place.starts_with("coordinator") { "}}\n" } else { "}\n" };
                    let text = more.replace(places[0], place);
                    format!("{}{end}", text.trim_end().strip_suffix('}').unwrap_or(&text))
                });
                let mut texts: Vec<String> = places.collect();
                if texts.is_empty() {
                    texts.push(more);
                }
                texts.into_iter().map(move |text| (policy, text, words))
            })
            .collect();
        for (policy, more, words) in cases {
            let found = read(policy).unwrap().faults(&spec(&more));
            let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(text.contains(words) && found.len() == 1, "{policy} {more} must be refused by {words:?}: {text:?}");
        }
    }

    #[test]
    fn what_keeps_to_the_rules_passes() {
        let policy = r#"{"images": ["a/*"], "plans": ["python"], "podTemplate": "restricted", "volumes": ["configMap"],
            "serviceAccounts": ["reader"], "environment": true, "maxWorkers": 4, "maxMemory": "9Gi",
            "maxActiveDeadlineSeconds": 60, "maxTtlSeconds": 60}"#;
        let sound = "  activeDeadlineSeconds: 60\n  ttlSecondsAfterFinished: {succeeded: 60, failed: 1}\n  compute: {image: 'a/b:1', \
            workers: 4, serviceAccountName: reader, podTemplate: {spec: {containers: [{name: floe, image: 'a/c'}], \
            volumes: [{name: v, configMap: {name: c}}]}}}\n";
        assert_eq!(read(policy).unwrap().faults(&spec(sound)), []);
    }
}
