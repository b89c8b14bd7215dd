//! What the cluster's administrator allows queries: images, plans, sizes, and how much a pod template may set. The
//! chart makes a ValidatingAdmissionPolicy of the same values, which rejects a query when it is created; this also
//! covers queries that came another way or existed before. Pure.

use floe_api::{DistributedQuerySpec, FieldError, Quantity};
use k8s_openapi::api::core::v1::{PodSpec, Volume};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Allows everything, unless it says otherwise.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Images that queries may name; a trailing * matches any ending.
    images: Vec<String>,
    plans: Vec<String>,
    python_functions: Switch,
    pod_template: TemplateRule,
    /// Kinds of volumes in a template, as a pod names them; `serviceAccountToken` is one of projected volumes.
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
        let image = |path: &str, image: &str, refuse: &mut dyn FnMut(&str, String)| {
            if !allows(&self.images, image) {
                refuse(path, format!("the image {image} is not allowed: {} are", self.images.join(", ")));
            }
        };
        if let Some(name) = &compute.image {
            image("spec.compute.image", name, &mut refuse);
        }
        let account = |path: &str, name: &str, refuse: &mut dyn FnMut(&str, String)| {
            if !allows(&self.service_accounts, name) {
                refuse(path, format!("the service account {name} is not allowed"));
            }
        };
        if let Some(name) = &compute.service_account_name {
            account("spec.compute.serviceAccountName", name, &mut refuse);
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
            let asked = bytes(&compute.memory) * u128::from(workers) + bytes(&compute.coordinator.memory);
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
        let Some(template) = compute.typed_pod_template().ok().flatten() else { return faults };
        if self.pod_template == TemplateRule::None {
            refuse("spec.compute.podTemplate", "is not allowed: leave it out".into());
            return faults;
        }
        let Some(pod) = template.spec else { return faults };
        for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
            let path = format!("spec.compute.podTemplate: container {}", container.name);
            if let Some(name) = &container.image {
                image(&path, name, &mut refuse);
            }
            if !self.environment && (container.env.is_some() || container.env_from.is_some()) {
                refuse(&path, "environment variables are not allowed".into());
            }
        }
        if let Some(name) = pod.service_account_name.as_ref().or(pod.service_account.as_ref()) {
            account("spec.compute.podTemplate: serviceAccountName", name, &mut refuse);
        }
        for volume in pod.volumes.iter().flatten() {
            for kind in kinds(volume).iter().filter(|kind| !allows(&self.volumes, kind)) {
                let message = format!("the volume {} is a {kind}, which is not allowed", volume.name);
                refuse("spec.compute.podTemplate", message);
            }
        }
        if self.pod_template == TemplateRule::Restricted {
            for what in beyond(&pod) {
                refuse("spec.compute.podTemplate", format!("{what} is not allowed: leave it out"));
            }
        }
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

/// The sources of the volume.
fn kinds(volume: &Volume) -> Vec<String> {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut kinds: Vec<String> =
        value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).filter(|key| key != "name").collect();
    let sources = value.pointer("/projected/sources").and_then(Value::as_array);
    if sources.into_iter().flatten().any(|source| source.get("serviceAccountToken").is_some()) {
        kinds.push("serviceAccountToken".to_owned());
    }
    kinds
}

/// What a template asks for beyond Floe's own pods.
fn beyond(pod: &PodSpec) -> Vec<String> {
    let mut found = Vec::new();
    for (name, is_set) in [
        ("hostNetwork", pod.host_network == Some(true)),
        ("hostPID", pod.host_pid == Some(true)),
        ("hostIPC", pod.host_ipc == Some(true)),
        ("nodeName", pod.node_name.is_some()),
        ("hostPath", pod.volumes.iter().flatten().any(|volume| volume.host_path.is_some())),
        (
            "serviceAccountToken",
            pod.volumes.iter().flatten().any(|volume| kinds(volume).iter().any(|kind| kind == "serviceAccountToken")),
        ),
    ] {
        if is_set {
            found.push(name.to_owned());
        }
    }
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let name = &container.name;
        if container.ports.iter().flatten().any(|port| port.host_port.is_some()) {
            found.push(format!("hostPort of container {name}"));
        }
        let Some(security) = &container.security_context else { continue };
        let adds = security.capabilities.as_ref().is_some_and(|c| c.add.as_ref().is_some_and(|add| !add.is_empty()));
        for (field, is_set) in [
            ("privileged", security.privileged == Some(true)),
            ("allowPrivilegeEscalation", security.allow_privilege_escalation == Some(true)),
            ("capabilities.add", adds),
        ] {
            if is_set {
                found.push(format!("{field} of container {name}"));
            }
        }
    }
    found
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
            (r#"{"podTemplate": "none"}"#, template("dnsPolicy: Default"), "spec.compute.podTemplate: is not allowed"),
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
        ];
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
