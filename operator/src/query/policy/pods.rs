//! What the policy says of the pods that a query describes: its templates and its volumes. Pure.

use floe_api::{ComputeSpec, FieldError, Quantity};
use k8s_openapi::api::core::v1::{
    Container, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecurityContext,
    Volume,
};
use serde_json::Value;

use super::{Policy, TemplateRule, allows};
use crate::query::kubelet::MAIN;

impl Policy {
    /// Everything that templates and volumes ask for and may not have.
    pub(super) fn pod_faults(&self, compute: &ComputeSpec) -> Vec<FieldError> {
        let mut faults = Vec::new();
        for (i, volume) in compute.volumes.iter().enumerate() {
            for kind in volume.sources().into_iter().filter(|kind| !allows(&self.volumes, kind)) {
                let message = format!("a {kind} is not allowed: {} are", self.volumes.join(", "));
                faults.push(FieldError::new(format!("spec.compute.volumes[{i}]"), message));
            }
        }
        for (path, template) in compute.pod_templates() {
            if self.pod_template == TemplateRule::None {
                faults.push(FieldError::new(path, "is not allowed: leave it out"));
            } else if let Some(pod) = spec_of(template) {
                faults.extend(self.template_faults(path, &pod));
            }
        }
        faults
    }

    fn template_faults(&self, path: &str, pod: &PodSpec) -> Vec<FieldError> {
        let mut faults = Vec::new();
        let mut refuse = |path: &str, message: String| faults.push(FieldError::new(path, message));
        for container in containers(pod) {
            let path = format!("{path}: container {}", container.name);
            if let Some(message) = container.image.as_deref().and_then(|image| self.image_fault(image)) {
                refuse(&path, message);
            }
            if !self.environment && (container.env.is_some() || container.env_from.is_some()) {
                refuse(&path, "environment variables are not allowed".into());
            }
            if self.max_memory.is_some() {
                match (container.name == MAIN, memory(container.resources.as_ref())) {
                    (true, (limit, request)) if limit.is_some() || request.is_some() => {
                        refuse(&path, "its memory is that of spec.compute, which is limited: leave it out here".into());
                    }
                    (false, (None, _)) => {
                        refuse(&path, "must have resources.limits.memory, because memory is limited".into());
                    }
                    _ => {}
                }
            }
        }
        if self.max_memory.is_some() && memory(pod.resources.as_ref()) != (None, None) {
            refuse(path, "resources of whole pods are not allowed, because memory is limited: leave them out".into());
        }
        for name in pod.service_account_name.iter().chain(&pod.service_account) {
            if !allows(&self.service_accounts, name) {
                let path = format!("{path}: serviceAccountName");
                refuse(&path, format!("the service account {name} is not allowed"));
            }
        }
        for volume in pod.volumes.iter().flatten() {
            for kind in kinds(volume).iter().filter(|kind| !allows(&self.volumes, kind)) {
                refuse(path, format!("the volume {} is a {kind}, which is not allowed", volume.name));
            }
            let image = volume.image.as_ref().and_then(|image| image.reference.as_deref());
            if let Some(message) = image.and_then(|image| self.image_fault(image)) {
                refuse(&format!("{path}: volume {}", volume.name), message);
            }
        }
        if self.pod_template == TemplateRule::Restricted {
            for what in beyond(pod) {
                refuse(path, format!("{what} is not allowed: leave it out"));
            }
        }
        faults
    }

    fn image_fault(&self, image: &str) -> Option<String> {
        let is_allowed = allows(&self.images, image);
        (!is_allowed).then(|| format!("the image {image} is not allowed: {} are", self.images.join(", ")))
    }
}

/// Bytes of the memory that the templates' own containers have, in all pods.
pub(super) fn bytes_beside(compute: &ComputeSpec, workers: u32) -> u128 {
    let one = |template: &Value| -> u128 {
        let Some(pod) = spec_of(template) else { return 0 };
        containers(&pod)
            .filter(|container| container.name != MAIN)
            .filter_map(|container| memory(container.resources.as_ref()).0)
            .map(u128::from)
            .sum()
    };
    let pods = |path: &str| match path {
        "spec.compute.podTemplate" => u128::from(workers) + 1,
        "spec.compute.workerPodTemplate" => u128::from(workers),
        _ => 1,
    };
    compute.pod_templates().map(|(path, template)| one(template) * pods(path)).sum()
}

fn spec_of(template: &Value) -> Option<PodSpec> {
    // What cannot be read was told as a fault of the query before.
    serde_json::from_value::<PodTemplateSpec>(template.clone()).ok()?.spec
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.containers.iter().chain(pod.init_containers.iter().flatten())
}

/// Bytes of memory: limit and request.
fn memory(resources: Option<&ResourceRequirements>) -> (Option<u64>, Option<u64>) {
    let of =
        |list: Option<&std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
            list.and_then(|list| list.get("memory")).and_then(|amount| Quantity::new(amount.0.as_str()).bytes())
        };
    (of(resources.and_then(|r| r.limits.as_ref())), of(resources.and_then(|r| r.requests.as_ref())))
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
    let security = pod.security_context.clone().unwrap_or_default();
    let mut found: Vec<String> = [
        ("hostNetwork", pod.host_network == Some(true)),
        ("hostPID", pod.host_pid == Some(true)),
        ("hostIPC", pod.host_ipc == Some(true)),
        ("nodeName", pod.node_name.is_some()),
        ("hostPath", pod.volumes.iter().flatten().any(|volume| volume.host_path.is_some())),
        (
            "serviceAccountToken",
            pod.volumes.iter().flatten().any(|volume| kinds(volume).iter().any(|kind| kind == "serviceAccountToken")),
        ),
    ]
    .into_iter()
    .chain(pod_rights(&security))
    .filter(|(_, is_set)| *is_set)
    .map(|(name, _)| name.to_owned())
    .collect();
    for container in containers(pod) {
        let name = &container.name;
        if container.ports.iter().flatten().any(|port| port.host_port.is_some()) {
            found.push(format!("hostPort of container {name}"));
        }
        let Some(security) = &container.security_context else { continue };
        let rights = container_rights(security).into_iter().filter(|(_, is_set)| *is_set);
        found.extend(rights.map(|(field, _)| format!("{field} of container {name}")));
    }
    found
}

fn is_unconfined(profile: Option<&SeccompProfile>) -> bool {
    profile.is_some_and(|profile| profile.type_ == "Unconfined")
}

fn pod_rights(security: &PodSecurityContext) -> [(&'static str, bool); 5] {
    let windows = security.windows_options.as_ref();
    [
        ("runAsNonRoot: false", security.run_as_non_root == Some(false)),
        ("runAsUser: 0", security.run_as_user == Some(0)),
        ("seccompProfile Unconfined", is_unconfined(security.seccomp_profile.as_ref())),
        ("sysctls", security.sysctls.as_ref().is_some_and(|sysctls| !sysctls.is_empty())),
        ("hostProcess", windows.is_some_and(|windows| windows.host_process == Some(true))),
    ]
}

fn container_rights(security: &SecurityContext) -> [(&'static str, bool); 8] {
    let adds = security.capabilities.as_ref().is_some_and(|c| c.add.as_ref().is_some_and(|add| !add.is_empty()));
    let windows = security.windows_options.as_ref();
    [
        ("privileged", security.privileged == Some(true)),
        ("allowPrivilegeEscalation", security.allow_privilege_escalation == Some(true)),
        ("capabilities.add", adds),
        ("runAsNonRoot: false", security.run_as_non_root == Some(false)),
        ("runAsUser: 0", security.run_as_user == Some(0)),
        ("seccompProfile Unconfined", is_unconfined(security.seccomp_profile.as_ref())),
        ("procMount", security.proc_mount.as_deref().is_some_and(|mount| mount != "Default")),
        ("hostProcess", windows.is_some_and(|windows| windows.host_process == Some(true))),
    ]
}
