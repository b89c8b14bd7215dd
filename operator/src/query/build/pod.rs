//! Builds the pods of a query: Floe's defaults, overridden by the user's template, then by the fields of `spec.compute`,
//! and finally by what must not be changed.

use std::collections::BTreeMap;

use floe_api::{ComputeSpec, ImagePullPolicy, Quantity, ScratchMedium};
use k8s_openapi::api::core::v1::{Affinity, Pod};
use serde_json::{Map, Value, json};

use super::merge::merge;
use super::secret::{JOB_KEY, PLAN_KEY, TOKEN_KEY, part_name};
use super::{BuildError, CONTROL_PORT, HTTP_PORT, PodInputs, WORKER_PORT, meta};
use crate::query::kubelet::MAIN;
use crate::query::names::{self, Place, Role};

/// User and group of the images, which do not run as root: Pod Security "restricted" requires that.
const ID: i64 = 65532;
const GRACE_SECONDS: i64 = 30;
/// How long a pod tolerates a node that does not answer.
const NODE_SECONDS: i64 = 30;
const CLEAN_SECONDS: i64 = 120;
/// Size of /tmp in workers and cleaning pods, which hardly use it.
const TMP_BYTES: u64 = 256 << 20;
/// Additional space in /tmp for the query's own Python packages.
const PACKAGES_BYTES: u64 = 4 << 30;
/// Ephemeral storage to count for a container's logs.
const LOGS_BYTES: u64 = 64 << 20;
/// Space of the coordinator's disk that results must leave free.
const DISK_SLACK_BYTES: u64 = 64 << 20;
/// The default log level: a few lines per query, and what plan scripts print.
const LOGS: &str = "warn,floe=info";

pub fn pod(place: Place, inputs: &PodInputs<'_>) -> Result<Pod, BuildError> {
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
    let mut pod: Pod = serde_json::from_value(pod).map_err(|e| BuildError::Template(e.to_string()))?;
    if let Some(spec) = &mut pod.spec {
        for container in spec.containers.iter_mut().filter(|container| container.name == MAIN) {
            container.image = inputs.image.map(str::to_owned).or(container.image.take());
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
    labels.extend(compute.labels.clone());
    labels.extend(place.labels(name));
    let mut annotations = BTreeMap::from([
        // Evicting a pod in the middle of a query is expensive.
        ("cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(), "false".to_owned()),
    ]);
    annotations.extend(pod.metadata.annotations.take().unwrap_or_default());
    annotations.extend(compute.annotations.clone());
    pod.metadata = meta(query, place.name(name), labels);
    pod.metadata.annotations = Some(annotations);
    Ok(pod)
}

/// The parts that depend on the role: fields of the container, and the volumes other than /tmp.
struct Part {
    container: Value,
    volumes: Vec<Value>,
    size: Size,
}

/// The resources of the container.
struct Size {
    cpus: Quantity,
    cpu_limit: Option<Quantity>,
    memory: Quantity,
    tmp_bytes: u64,
    /// Ephemeral storage on the node, in addition to /tmp and logs.
    disk_bytes: u64,
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

fn coordinator(inputs: &PodInputs<'_>, place: Place) -> Part {
    let spec = &inputs.query.spec;
    let attempt = match place {
        Place::Coordinator { attempt } | Place::Worker { attempt, .. } => attempt,
        Place::Clean => inputs.attempt,
    };
    let size = &spec.compute.coordinator;
    let mut env = vec![
        env("FLOE_JOB", &format!("/etc/floe/{JOB_KEY}")),
        token(inputs, attempt),
        env("FLOE_LISTEN", &format!("[::]:{CONTROL_PORT}")),
        env("FLOE_HTTP", &format!("[::]:{HTTP_PORT}")),
        env("FLOE_TERMINATION_LOG", "/dev/termination-log"),
        env("FLOE_LINGER_SECONDS", "10"),
        env("POLARS_MAX_THREADS", &threads(&size.cpus)),
    ];
    let disk_bytes = size.scratch.bytes().unwrap_or(0);
    if spec.sink.is_none() {
        let (here, on_disk) = (size.memory.bytes().unwrap_or(0) / 4, disk_bytes.saturating_sub(DISK_SLACK_BYTES));
        env.push(self::env("FLOE_STAY", "true"));
        env.push(self::env("FLOE_RESULT_HERE_BYTES", &here.to_string()));
        env.push(self::env("FLOE_RESULT_DISK_BYTES", &on_disk.to_string()));
    }
    let container = json!({
        "args": ["coordinator"],
        "env": env,
        "ports": [port("control", CONTROL_PORT), port("http", HTTP_PORT)],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": HTTP_PORT},
            "initialDelaySeconds": 20, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 6,
        },
        "volumeMounts": [{"name": "floe-job", "mountPath": "/etc/floe", "readOnly": true}],
    });
    let size = Size {
        cpus: size.cpus.clone(),
        cpu_limit: spec.compute.coordinator_cpu_limit(),
        memory: size.memory.clone(),
        tmp_bytes: disk_bytes,
        disk_bytes: 0,
    };
    Part { container, volumes: vec![job_volume(inputs, attempt, true)], size }
}

fn cleaner(inputs: &PodInputs<'_>) -> Part {
    let size = &inputs.query.spec.compute.coordinator;
    let container = json!({
        "args": ["clean"],
        "env": [
            env("FLOE_JOB", &format!("/etc/floe/{JOB_KEY}")),
            token(inputs, inputs.attempt),
            env("FLOE_TERMINATION_LOG", "/dev/termination-log"),
            env("POLARS_MAX_THREADS", &threads(&size.cpus)),
        ],
        "volumeMounts": [{"name": "floe-job", "mountPath": "/etc/floe", "readOnly": true}],
    });
    let size = Size {
        cpus: size.cpus.clone(),
        cpu_limit: inputs.query.spec.compute.coordinator_cpu_limit(),
        memory: size.memory.clone(),
        tmp_bytes: TMP_BYTES,
        disk_bytes: 0,
    };
    Part { container, volumes: vec![job_volume(inputs, inputs.attempt, false)], size }
}

/// A worker learns its coordinator's address once both run (see `poll`).
fn worker(id: String, inputs: &PodInputs<'_>) -> Part {
    let spec = &inputs.query.spec;
    let compute = &spec.compute;
    let memory = compute.memory.bytes().unwrap_or(0);
    let shuffle = spec.execution.shuffle.memory.as_ref().and_then(Quantity::bytes).unwrap_or(memory / 4).min(memory);
    let mut env = vec![
        token(inputs, inputs.attempt),
        env("FLOE_WORKER_ID", &id),
        env("FLOE_SCRATCH", "/scratch"),
        env("FLOE_MEMORY_DIR", "/memory"),
        env("FLOE_MEMORY_LIMIT", &memory.to_string()),
        env("FLOE_SHUFFLE_MEMORY", &shuffle.to_string()),
        env("FLOE_WORKER_LISTEN", &format!("[::]:{WORKER_PORT}")),
        json!({"name": "FLOE_WORKER_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
        env("POLARS_MAX_THREADS", &threads(&compute.cpus)),
    ];
    if let Some(disk) = compute.scratch.size.as_ref().and_then(Quantity::bytes) {
        env.push(self::env("FLOE_SHUFFLE_DISK", &disk.to_string()));
    }
    let container = json!({
        "args": ["worker"],
        "env": env,
        "ports": [port("http", WORKER_PORT)],
        "volumeMounts": [
            {"name": "floe-scratch", "mountPath": "/scratch"},
            {"name": "floe-memory", "mountPath": "/memory"},
        ],
    });
    let memory_volume =
        json!({"name": "floe-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shuffle.to_string()}});
    let disk = compute.scratch.size.as_ref().filter(|_| compute.scratch.medium == ScratchMedium::EmptyDir);
    let size = Size {
        cpus: compute.cpus.clone(),
        cpu_limit: compute.cpu_limit.clone(),
        memory: compute.memory.clone(),
        tmp_bytes: TMP_BYTES + if compute.requirements.is_empty() { 0 } else { PACKAGES_BYTES },
        disk_bytes: disk.and_then(Quantity::bytes).unwrap_or(0),
    };
    Part { container, volumes: vec![scratch(compute), memory_volume], size }
}

fn scratch(compute: &ComputeSpec) -> Value {
    let scratch = &compute.scratch;
    let limit = scratch.size.as_ref().map(Quantity::as_str);
    let source = match scratch.medium {
        ScratchMedium::EmptyDir => ("emptyDir", json!({"sizeLimit": limit})),
        ScratchMedium::Memory => ("emptyDir", json!({"medium": "Memory", "sizeLimit": limit})),
        ScratchMedium::Claim => (
            "ephemeral",
            json!({"volumeClaimTemplate": {"spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": scratch.storage_class_name,
                "resources": {"requests": {"storage": limit}},
            }}}),
        ),
    };
    json!({"name": "floe-scratch", source.0: source.1})
}

fn identity<'a>(inputs: &PodInputs<'a>) -> (&'a str, &'a str) {
    let meta = &inputs.query.metadata;
    (meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default())
}

/// One volume with the job and, below `plan/`, the plan if it is not part of the job.
fn job_volume(inputs: &PodInputs<'_>, attempt: u32, with_plan: bool) -> Value {
    let (query, uid) = identity(inputs);
    let item = |key: &str, path: String| json!([{"key": key, "path": path}]);
    let mut sources = vec![
        json!({"secret": {"name": names::job_secret(query, uid, attempt), "items": item(JOB_KEY, JOB_KEY.to_owned())}}),
    ];
    if with_plan {
        let path = |part: usize| format!("plan/{}", part_name(part));
        for part in 0..inputs.plan.parts {
            let name = names::plan_secret(query, uid, inputs.plan.attempt, part);
            sources.push(json!({"secret": {"name": name, "items": item(PLAN_KEY, path(part))}}));
        }
        let dsl = inputs.query.spec.plan.dsl.as_ref();
        if let Some(key) = dsl.and_then(|dsl| dsl.config_map_key_ref.as_ref()) {
            sources.push(json!({"configMap": {"name": key.name, "items": item(&key.key, path(0))}}));
        }
        if let Some(key) = dsl.and_then(|dsl| dsl.secret_key_ref.as_ref()) {
            sources.push(json!({"secret": {"name": key.name, "items": item(&key.key, path(0))}}));
        }
    }
    json!({"name": "floe-job", "projected": {"defaultMode": 0o440, "sources": sources}})
}

fn env(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

fn token(inputs: &PodInputs<'_>, attempt: u32) -> Value {
    let (query, uid) = identity(inputs);
    let secret = names::job_secret(query, uid, attempt);
    json!({"name": "FLOE_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": TOKEN_KEY}}})
}

fn port(name: &str, port: u16) -> Value {
    json!({"name": name, "containerPort": port, "protocol": "TCP"})
}

/// Requests and limits memory; requests CPUs without a limit, so that idle ones can be used, unless the user sets one.
/// Ephemeral storage is counted if the user sets the size of the scratch space.
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

fn threads(cpus: &Quantity) -> String {
    cpus.threads().unwrap_or(1).to_string()
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
    let mut container = Map::from_iter([("name".to_owned(), json!(MAIN))]);
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
    json!({"spec": spec})
}

/// Rejects what a template must not set, because Floe's own pods would not work with it.
pub fn check_template(compute: &ComputeSpec) -> Result<(), String> {
    let Some(template) = compute.typed_pod_template().map_err(|e| format!("is not a pod template: {e}"))? else {
        return Ok(());
    };
    let Some(spec) = template.spec else { return Ok(()) };
    for container in spec.containers.iter().filter(|container| container.name == MAIN) {
        if container.command.is_some() || container.args.is_some() {
            return Err(format!("command and args of the container {MAIN} are Floe's own: leave them out"));
        }
        if let Some(variable) = container.env.iter().flatten().find(|variable| variable.name.starts_with("FLOE_")) {
            return Err(format!("{}: names that begin with FLOE_ are Floe's own", variable.name));
        }
    }
    if let Some(volume) = spec.volumes.iter().flatten().find(|volume| volume.name.starts_with("floe-")) {
        return Err(format!("the volume {}: names that begin with floe- are Floe's own", volume.name));
    }
    Ok(())
}
