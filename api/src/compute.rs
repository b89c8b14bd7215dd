//! What a query runs on: workers, their size, and everything about their pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvFromSource, EnvVar, LocalObjectReference, Toleration, TopologySpreadConstraint,
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NameRef, Quantity, VolumeSpec, quantity, schema};

/// The number of workers if neither `workers` nor `maxWorkers` is given.
pub const DEFAULT_WORKERS: u32 = 2;

/// What the query runs on.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.workers) || (!has(self.minWorkers) && !has(self.maxWorkers))").message("write either compute.workers or compute.minWorkers and compute.maxWorkers"),
    validation = Rule::new("!has(self.minWorkers) || has(self.maxWorkers)").message("compute.minWorkers needs compute.maxWorkers beside it"),
    validation = Rule::new("!has(self.minWorkers) || !has(self.maxWorkers) || self.minWorkers <= self.maxWorkers").message("compute.minWorkers must not be above compute.maxWorkers"),
    validation = Rule::new("!has(self.env) || self.env.all(e, !e.name.startsWith('FLOE_'))").message("names of compute.env that begin with FLOE_ are Floe's own"),
    validation = Rule::new("!has(self.requirements) || self.requirements.all(r, !r.startsWith('-'))").message("compute.requirements names packages: pip's options go into its variables (PIP_INDEX_URL in compute.env)"),
    validation = Rule::new("!has(self.contextRef) || !(has(self.image) || has(self.podTemplate) || has(self.workerPodTemplate) || has(self.coordinator.podTemplate) || has(self.affinity) || has(self.serviceAccountName) || has(self.env) || has(self.envFrom) || has(self.requirements) || has(self.volumes))").message("image, podTemplate, workerPodTemplate, coordinator.podTemplate, affinity, serviceAccountName, env, envFrom, requirements and volumes belong to the context that compute.contextRef names: leave them out"),
    validation = Rule::new("!has(self.volumes) || self.volumes.all(v, self.volumes.exists_one(w, w.mountPath == v.mountPath))").message("two of compute.volumes are mounted at the same path: mount each at a path of its own"),
    validation = Rule::new("quantity(string(self.cpus)).isGreaterThan(quantity('0'))").message("compute.cpus must be above 0, such as 1 or 500m"),
    validation = Rule::new("quantity(string(self.memory)).compareTo(quantity('64Mi')) >= 0").message("compute.memory must be at least 64Mi, such as 2Gi"),
    validation = Rule::new("!has(self.cpuLimit) || quantity(string(self.cpuLimit)).compareTo(quantity(string(self.cpus))) >= 0").message("compute.cpuLimit must not be below compute.cpus"),
    validation = Rule::new("!has(self.coordinator.cpuLimit) || quantity(string(self.coordinator.cpuLimit)).compareTo(quantity(string(self.coordinator.cpus))) >= 0").message("compute.coordinator.cpuLimit must not be below compute.coordinator.cpus"),
)]
pub struct ComputeSpec {
    /// Fixed number of workers. If neither this nor `maxWorkers` is set, two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub workers: Option<u32>,
    /// Minimum number of workers: the query starts with this many. If unset, it has `maxWorkers` all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub min_workers: Option<u32>,
    /// Maximum number of workers. The query has more than `minWorkers` while tasks wait for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_workers: Option<u32>,
    /// CPUs of each worker: a whole number or thousandths (`500m`).
    #[serde(default = "one_cpu")]
    #[schemars(schema_with = "quantity::schema")]
    pub cpus: Quantity,
    /// CPU limit of a worker's container. If unset, the worker also uses idle CPUs of its node. A namespace with a
    /// quota on `limits.cpu` needs it; the coordinator then has a limit as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub cpu_limit: Option<Quantity>,
    /// Memory of each worker. Shuffles are kept in it as long as they fit; the engine spills to `scratch` before it
    /// runs out.
    #[serde(default = "two_gi")]
    #[schemars(schema_with = "quantity::schema")]
    pub memory: Quantity,
    /// Space for shuffles and spilling, per worker.
    #[serde(default)]
    pub scratch: ScratchSpec,
    /// Size of the coordinator, which plans, schedules and commits.
    #[serde(default)]
    pub coordinator: CoordinatorSpec,
    /// Image of coordinator and workers. If unset, the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When nodes pull the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets with credentials of the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// A pod template that is merged over Floe's own for coordinator and workers; the main container is named `floe`.
    /// The other fields of `compute` override it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub pod_template: Option<serde_json::Value>,
    /// A pod template for workers only. It overrides `podTemplate` and the other fields of `compute`. The coordinator's is
    /// `coordinator.podTemplate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub worker_pod_template: Option<serde_json::Value>,
    /// Volumes that coordinator and workers mount, for files that they share: data, certificates, drivers. Other kinds of
    /// volumes go into `podTemplate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volumes")]
    pub volumes: Vec<VolumeSpec>,
    /// Labels that a node must have to run the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the pods, as in a pod's `spec.affinity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub affinity: Option<Affinity>,
    /// How the pods are spread, as in a pod's `spec.topologySpreadConstraints`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::any_object_list")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Service account of the pods, for workload identity of a cloud. Its token is not mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Environment variables of coordinator and workers. The plan's Python functions see only these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets whose keys become environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env_from: Vec<EnvFromSource>,
    /// Packages that the plan's Python functions import, as lines of a requirements file (`scikit-learn==1.5.2`, with
    /// hashes if given). Each pod installs them before its first call, from wheels only, from the index of
    /// `PIP_INDEX_URL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 2048)))]
    pub requirements: Vec<String>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Additional labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Additional annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Run on the coordinator and workers of this `ComputeContext` in the namespace, without pods of the query's own.
    /// The context determines the sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_ref: Option<NameRef>,
}

impl Default for ComputeSpec {
    fn default() -> Self {
        Self {
            workers: None,
            min_workers: None,
            max_workers: None,
            cpus: one_cpu(),
            cpu_limit: None,
            memory: two_gi(),
            scratch: ScratchSpec::default(),
            coordinator: CoordinatorSpec::default(),
            image: None,
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            pod_template: None,
            worker_pod_template: None,
            volumes: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            service_account_name: None,
            env: Vec::new(),
            env_from: Vec::new(),
            requirements: Vec::new(),
            priority_class_name: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            context_ref: None,
        }
    }
}

impl ComputeSpec {
    /// The number of workers that the query is planned for, which is also the maximum.
    pub fn worker_count(&self) -> u32 {
        self.workers.or(self.max_workers).unwrap_or(DEFAULT_WORKERS)
    }

    /// The number of workers that must be ready before the query starts, which is also the minimum.
    pub fn workers_to_start(&self) -> u32 {
        self.workers.or(self.min_workers).or(self.max_workers).unwrap_or(DEFAULT_WORKERS)
    }

    /// Environment variables that tell a query's processes about its Python functions: the names of `env`, which
    /// functions see, and the packages.
    pub fn variables_of_functions(&self) -> Vec<(&'static str, String)> {
        let names: Vec<&str> = self.env.iter().map(|variable| variable.name.as_str()).collect();
        let told = [("FLOE_FUNCTION_ENV", names.join(",")), ("FLOE_REQUIREMENTS", self.requirements.join("\n"))];
        told.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// All pod templates, with the paths of their fields.
    pub fn pod_templates(&self) -> impl Iterator<Item = (&'static str, &serde_json::Value)> {
        [
            ("spec.compute.podTemplate", &self.pod_template),
            ("spec.compute.coordinator.podTemplate", &self.coordinator.pod_template),
            ("spec.compute.workerPodTemplate", &self.worker_pod_template),
        ]
        .into_iter()
        .filter_map(|(path, template)| Some((path, template.as_ref()?)))
    }
}

fn one_cpu() -> Quantity {
    Quantity::new("1")
}

fn two_gi() -> Quantity {
    Quantity::new("2Gi")
}

/// When nodes pull the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Space for shuffles and spilling.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.storageClassName) || (has(self.medium) && self.medium == 'claim')").message("scratch.storageClassName goes with scratch.medium: claim only"))]
#[x_kube(validation = Rule::new("!has(self.medium) || self.medium != 'claim' || has(self.size)").message("scratch.medium: claim needs scratch.size, such as 50Gi"))]
pub struct ScratchSpec {
    /// `emptyDir`: the node's disk. `memory`: a memory-backed emptyDir, counted as the pod's memory. `claim`: an
    /// ephemeral volume claim.
    #[serde(default)]
    pub medium: ScratchMedium,
    /// Size of the volume, which shuffles and spilling respect. If set, coordinator and workers also request and limit
    /// ephemeral storage (`ephemeral-storage`). If unset, an emptyDir has no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub size: Option<Quantity>,
    /// Storage class of the claim. If unset, the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// The kind of volume for scratch space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ScratchMedium {
    #[default]
    EmptyDir,
    Memory,
    Claim,
}

/// Size of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CoordinatorSpec {
    /// CPUs of the coordinator.
    #[schemars(schema_with = "quantity::schema")]
    pub cpus: Quantity,
    /// CPU limit of the coordinator. If unset, it also uses idle CPUs of its node; if `compute.cpuLimit` is set, its
    /// limit is then `cpus`, but at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub cpu_limit: Option<Quantity>,
    /// Memory of the coordinator. A plan that carries large frames needs a few times their size.
    #[schemars(schema_with = "quantity::schema")]
    pub memory: Quantity,
    /// Disk space that it may use on its node: for files that a script writes, and for a result without a sink that is
    /// larger than a quarter of its memory.
    #[schemars(schema_with = "quantity::schema")]
    pub scratch: Quantity,
    /// A pod template for the coordinator only. It overrides `compute.podTemplate` and the other fields of `compute`. The
    /// pod that cleans up after a lost coordinator has it, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub pod_template: Option<serde_json::Value>,
}

impl Default for CoordinatorSpec {
    fn default() -> Self {
        Self {
            cpus: Quantity::new("500m"),
            cpu_limit: None,
            memory: Quantity::new("1Gi"),
            scratch: Quantity::new("4Gi"),
            pod_template: None,
        }
    }
}

impl ComputeSpec {
    /// The coordinator's CPU limit: its own, or one that becomes necessary because the workers have a limit.
    pub fn coordinator_cpu_limit(&self) -> Option<Quantity> {
        let own = &self.coordinator;
        let one = Quantity::new("1");
        let least = if own.cpus.milli() > one.milli() { own.cpus.clone() } else { one };
        own.cpu_limit.clone().or_else(|| self.cpu_limit.as_ref().map(|_| least))
    }
}
