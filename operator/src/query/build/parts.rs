//! What pods have by their role: parts of the container, volumes, sizes. The rest of a pod is in `pod`.

use floe_api::execution::default_shuffle_memory_bytes;
use floe_api::{ComputeSpec, Quantity, ScratchMedium};
use serde_json::{Value, json};

use super::secret::{JOB_KEY, PLAN_KEY, TOKEN_KEY, part_name};
use super::{CONTROL_PORT, HTTP_PORT, PodInputs, WORKER_PORT};
use crate::query::names::{self, Place};

/// /tmp of workers and cleaning pods, which hardly use it.
const TMP_BYTES: u64 = 256 << 20;
/// More of it for packages of the query's own.
const PACKAGES_BYTES: u64 = 4 << 30;
/// Of the coordinator's space, what a result leaves free.
const DISK_SLACK_BYTES: u64 = 64 << 20;

/// What depends on the role: parts of the container, and the volumes other than /tmp.
pub struct Part {
    pub container: Value,
    pub volumes: Vec<Value>,
    pub size: Size,
}

/// What the container gets.
pub struct Size {
    pub cpus: Quantity,
    pub cpu_limit: Option<Quantity>,
    pub memory: Quantity,
    pub tmp_bytes: u64,
    /// Of the node's disk, beside /tmp and logs.
    pub disk_bytes: u64,
}

pub fn coordinator(inputs: &PodInputs<'_>, place: Place) -> Part {
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

pub fn cleaner(inputs: &PodInputs<'_>) -> Part {
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

/// A worker is told its coordinator's address once both run (see `poll`).
pub fn worker(id: String, inputs: &PodInputs<'_>) -> Part {
    let spec = &inputs.query.spec;
    let compute = &spec.compute;
    let memory = compute.memory.bytes().unwrap_or(0);
    let shuffle = spec.execution.shuffle.memory.as_ref().and_then(Quantity::bytes);
    let shuffle = shuffle.unwrap_or_else(|| default_shuffle_memory_bytes(memory)).min(memory);
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

pub fn env(name: &str, value: &str) -> Value {
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

fn threads(cpus: &Quantity) -> String {
    cpus.threads().unwrap_or(1).to_string()
}
