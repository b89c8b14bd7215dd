//! Builds the pods of a query: Floe's defaults, overridden by the user's template, then by the fields of `spec.compute`,
//! then by the template of the pod's role, and finally by what must not be changed.

use std::collections::BTreeMap;

use floe_api::{ComputeSpec, ImagePullPolicy, VolumeSpec};
use k8s_openapi::api::core::v1::{Affinity, Pod};
use serde_json::{Map, Value, json};

use super::merge::merge;
use super::parts::{Part, Size, cleaner, coordinator, env, worker};
use super::{BuildError, PodInputs, meta};
use crate::gang::{self, Pair};
use crate::query::kubelet::MAIN;
use crate::query::names::{Place, Role};

/// User and group of the images, which do not run as root: Pod Security "restricted" requires that.
const ID: i64 = 65532;
const GRACE_SECONDS: i64 = 30;
/// How long a pod tolerates a node that does not answer.
const NODE_SECONDS: i64 = 30;
const CLEAN_SECONDS: i64 = 120;
/// What a container's logs take of the node's disk.
const LOGS_BYTES: u64 = 64 << 20;
/// The default log level: a few lines per query, and what plan scripts print.
const LOGS: &str = "warn,floe=info";

pub fn pod(place: Place, inputs: &PodInputs<'_>) -> Result<Pod, BuildError> {
    let mut pod = alone(place, inputs)?;
    if let (Some(gang), Some(attempt)) = (inputs.gang, place.attempt()) {
        gang::enlist(&mut pod, gang, inputs.query, place, &pod_pair(attempt, inputs)?);
    }
    Ok(pod)
}

/// A coordinator and a worker of the attempt, as they would be alone.
pub fn pod_pair(attempt: u32, inputs: &PodInputs<'_>) -> Result<Pair, BuildError> {
    Ok(Pair {
        coordinator: alone(Place::Coordinator { attempt }, inputs)?,
        worker: alone(Place::Worker { attempt, index: 0, replacement: 0 }, inputs)?,
    })
}

fn alone(place: Place, inputs: &PodInputs<'_>) -> Result<Pod, BuildError> {
    let query = inputs.query;
    let name = query.metadata.name.as_deref().unwrap_or_default();
    let compute = &query.spec.compute;
    let mut pod = match place.role() {
        Role::Coordinator => own(compute, inputs, coordinator(inputs, place)),
        Role::Worker => own(compute, inputs, worker(place.name(name), inputs)),
        Role::Clean => own(compute, inputs, cleaner(inputs)),
    };
    if let Some(template) = &compute.pod_template {
        merge(&mut pod, &template_part(template));
    }
    merge(&mut pod, &from_compute(compute));
    let of_role = match place.role() {
        Role::Coordinator | Role::Clean => &compute.coordinator.pod_template,
        Role::Worker => &compute.worker_pod_template,
    };
    if let Some(template) = of_role {
        merge(&mut pod, &template_part(template));
    }
    let mut pod: Pod = serde_json::from_value(pod).map_err(|e| BuildError::Template(e.to_string()))?;
    let additions = inputs.grant.map(|grant| grant.additions(place.role()));
    if let Some(spec) = &mut pod.spec {
        for container in spec.containers.iter_mut().filter(|container| container.name == MAIN) {
            container.image = inputs.image.map(str::to_owned).or(container.image.take());
        }
        if let Some(additions) = additions {
            spec.node_selector.get_or_insert_default().extend(additions.node_selector.clone());
            spec.tolerations.get_or_insert_default().extend(additions.tolerations.iter().cloned());
        }
        spec.restart_policy = Some("Never".to_owned());
        spec.automount_service_account_token = Some(false);
        spec.image_pull_secrets = spec.image_pull_secrets.take().filter(|secrets| !secrets.is_empty());
        if place.role() == Role::Clean {
            spec.active_deadline_seconds = Some(CLEAN_SECONDS);
        }
        if spec.affinity.as_ref() == Some(&Affinity::default()) {
            spec.affinity = None;
        }
        // Give up an unresponsive node soon, unless the user sets a toleration.
        let tolerations = spec.tolerations.get_or_insert_default();
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            if !tolerations.iter().any(|t| t.key.as_deref().is_none_or(|k| k == key)) {
                tolerations.push(k8s_openapi::api::core::v1::Toleration {
                    key: Some(key.to_owned()),
                    operator: Some("Exists".to_owned()),
                    effect: Some("NoExecute".to_owned()),
                    toleration_seconds: Some(NODE_SECONDS),
                    value: None,
                });
            }
        }
    }
    let mut labels = pod.metadata.labels.take().unwrap_or_default();
    // A template cannot make it look like one of a gang.
    labels.remove(gang::LABEL);
    labels.extend(additions.iter().flat_map(|additions| additions.labels.clone()));
    labels.extend(place.labels(name));
    let mut annotations = BTreeMap::from([
        // Evicting a pod in the middle of a query is expensive.
        ("cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(), "false".to_owned()),
    ]);
    annotations.extend(pod.metadata.annotations.take().unwrap_or_default());
    annotations.extend(additions.iter().flat_map(|additions| additions.annotations.clone()));
    pod.metadata = meta(query, place.name(name), labels);
    pod.metadata.annotations = Some(annotations);
    Ok(pod)
}

/// Floe's pod, before the user's changes.
fn own(compute: &ComputeSpec, inputs: &PodInputs<'_>, part: Part) -> Value {
    let image = compute.image.as_deref().unwrap_or(&inputs.defaults.runner_image);
    let mut container = json!({
        "name": MAIN,
        "image": image,
        "command": ["floe-runner"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "env": [env("RUST_LOG", LOGS)],
        "volumeMounts": [{"name": "floe-tmp", "mountPath": "/tmp"}],
    });
    let general: Vec<Value> = inputs.defaults.runner_env.iter().map(|(name, value)| env(name, value)).collect();
    merge(&mut container, &json!({"env": general}));
    for (name, value) in compute.variables_of_functions() {
        merge(&mut container, &json!({"env": [env(name, &value)]}));
    }
    merge(&mut container, &json!({"env": [env("TMPDIR", "/tmp"), env("HOME", "/tmp")]}));
    merge(&mut container, &part.container);
    // The defaults for pulling apply to Floe's image, not to the query's own.
    let own_image = compute.image.is_none();
    if let (Some(policy), true) = (&inputs.defaults.pull_policy, own_image) {
        merge(&mut container, &json!({"imagePullPolicy": policy}));
    }
    let resources = resources(&part.size, compute.scratch.size.is_some());
    merge(&mut container, &json!({"resources": resources}));
    let pull_secrets: Vec<Value> =
        inputs.defaults.pull_secrets.iter().filter(|_| own_image).map(|name| json!({"name": name})).collect();
    let mut volumes = vec![json!({"name": "floe-tmp", "emptyDir": {"sizeLimit": part.size.tmp_bytes.to_string()}})];
    volumes.extend(part.volumes);
    json!({
        "metadata": {},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": ID,
                "runAsGroup": ID,
                "fsGroup": ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "imagePullSecrets": pull_secrets,
            "volumes": volumes,
        },
    })
}

/// Memory is requested and limited; CPUs are only requested, so that idle ones can be used, unless the user limits them. The
/// node's disk is counted where the user says how large the scratch space is.
fn resources(size: &Size, counts_disk: bool) -> Value {
    let (cpus, memory) = (size.cpus.as_str(), size.memory.as_str());
    let mut resources = json!({"requests": {"cpu": cpus, "memory": memory}, "limits": {"memory": memory}});
    if let Some(limit) = &size.cpu_limit {
        resources["limits"]["cpu"] = json!(limit.as_str());
    }
    if counts_disk {
        let bytes = json!((size.disk_bytes + size.tmp_bytes + LOGS_BYTES).to_string());
        resources["requests"]["ephemeral-storage"] = bytes.clone();
        resources["limits"]["ephemeral-storage"] = bytes;
    }
    resources
}

/// Takes only labels and annotations from the template's metadata: name and owner are Floe's.
fn template_part(template: &Value) -> Value {
    let mut part = Map::new();
    let mut kept = Map::new();
    for key in ["labels", "annotations"] {
        if let Some(value) = template.get("metadata").and_then(|m| m.get(key)) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    part.insert("metadata".to_owned(), Value::Object(kept));
    if let Some(spec) = template.get("spec") {
        part.insert("spec".to_owned(), spec.clone());
    }
    Value::Object(part)
}

/// The fields of `spec.compute` that correspond to pod fields.
fn from_compute(compute: &ComputeSpec) -> Value {
    let mut spec = Map::new();
    let mut put = |key: &str, value: Value| {
        spec.insert(key.to_owned(), value);
    };
    if !compute.node_selector.is_empty() {
        put("nodeSelector", json!(compute.node_selector));
    }
    if !compute.tolerations.is_empty() {
        put("tolerations", json!(compute.tolerations));
    }
    if let Some(affinity) = &compute.affinity {
        put("affinity", json!(affinity));
    }
    if !compute.topology_spread_constraints.is_empty() {
        put("topologySpreadConstraints", json!(compute.topology_spread_constraints));
    }
    if let Some(account) = &compute.service_account_name {
        put("serviceAccountName", json!(account));
    }
    if let Some(class) = &compute.priority_class_name {
        put("priorityClassName", json!(class));
    }
    if !compute.image_pull_secrets.is_empty() {
        put("imagePullSecrets", json!(compute.image_pull_secrets));
    }
    let volumes = &compute.volumes;
    if !volumes.is_empty() {
        put("volumes", volumes.iter().map(volume).collect());
    }
    let mut container = Map::from_iter([("name".to_owned(), json!(MAIN))]);
    if !volumes.is_empty() {
        container.insert("volumeMounts".to_owned(), volumes.iter().map(mount).collect());
    }
    if !compute.env.is_empty() {
        container.insert("env".to_owned(), json!(compute.env));
    }
    if !compute.env_from.is_empty() {
        container.insert("envFrom".to_owned(), json!(compute.env_from));
    }
    if let Some(policy) = compute.image_pull_policy {
        let policy = match policy {
            ImagePullPolicy::Always => "Always",
            ImagePullPolicy::IfNotPresent => "IfNotPresent",
            ImagePullPolicy::Never => "Never",
        };
        container.insert("imagePullPolicy".to_owned(), json!(policy));
    }
    put("containers", json!([container]));
    json!({"metadata": {"labels": compute.labels, "annotations": compute.annotations}, "spec": spec})
}

fn volume(volume: &VolumeSpec) -> Value {
    let mut made = Map::from_iter([("name".to_owned(), json!(volume.name))]);
    for source in volume.sources() {
        let told = match source {
            "persistentVolumeClaim" => json!(volume.persistent_volume_claim),
            "configMap" => json!(volume.config_map),
            "secret" => json!(volume.secret),
            _ => json!(volume.empty_dir),
        };
        made.insert(source.to_owned(), told);
    }
    Value::Object(made)
}

fn mount(volume: &VolumeSpec) -> Value {
    let mut made = json!({"name": volume.name, "mountPath": volume.mount_path.trim_end_matches('/')});
    if let Some(sub) = &volume.sub_path {
        made["subPath"] = json!(sub);
    }
    if !volume.is_writable() {
        made["readOnly"] = json!(true);
    }
    made
}
