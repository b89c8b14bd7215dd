//! The parts of Kueue's objects that Floe reads and writes: Workloads and flavors of its API `v1beta2`. Pure data.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodTemplateSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use kube::api::{ApiResource, GroupVersionKind};
use serde::{Deserialize, Serialize};

/// On a query: the LocalQueue that it waits in.
pub const QUEUE_NAME: &str = "kueue.x-k8s.io/queue-name";
/// On a query: the WorkloadPriorityClass.
pub const PRIORITY_CLASS: &str = "kueue.x-k8s.io/priority-class";
/// On a Workload: the UID of what it stands for.
pub const JOB_UID: &str = "kueue.x-k8s.io/job-uid";

/// The pod sets of a query's Workload.
pub const COORDINATOR: &str = "coordinator";
pub const WORKERS: &str = "workers";

/// Types of a Workload's conditions.
pub const QUOTA_RESERVED: &str = "QuotaReserved";
pub const ADMITTED: &str = "Admitted";
pub const EVICTED: &str = "Evicted";
pub const REQUEUED: &str = "Requeued";
pub const PODS_READY: &str = "PodsReady";
pub const FINISHED: &str = "Finished";

/// Something that waits for a share of a cluster, as Kueue sees it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kueue.x-k8s.io",
    version = "v1beta2",
    kind = "Workload",
    plural = "workloads",
    namespaced,
    status = "WorkloadStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    #[serde(default)]
    pub pod_sets: Vec<PodSet>,
    pub queue_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_ref: Option<PriorityClassRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSet {
    pub name: String,
    #[serde(default)]
    pub template: PodTemplateSpec,
    pub count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_count: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityClassRef {
    pub group: String,
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    pub conditions: Vec<Condition>,
    pub admission: Option<Admission>,
    pub admission_checks: Vec<AdmissionCheck>,
    pub reclaimable_pods: Vec<Reclaimable>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Admission {
    pub cluster_queue: String,
    pub pod_set_assignments: Vec<Assignment>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Assignment {
    pub name: String,
    /// The flavor of each resource.
    pub flavors: BTreeMap<String, String>,
    pub count: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdmissionCheck {
    pub name: String,
    pub state: String,
    pub message: String,
    pub pod_set_updates: Vec<PodSetUpdate>,
}

/// What an admission check adds to the pods of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSetUpdate {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaimable {
    pub name: String,
    pub count: u32,
}

/// A kind of node that quotas of Kueue are about. It may have no spec at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FlavorSpec {
    pub node_labels: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
}

/// A kind of Kueue's that belongs to the whole cluster.
pub fn cluster_kind(kind: &str, plural: &str) -> ApiResource {
    let named = ApiResource::from_gvk(&GroupVersionKind::gvk("kueue.x-k8s.io", "v1beta2", kind));
    ApiResource { plural: plural.to_owned(), ..named }
}
