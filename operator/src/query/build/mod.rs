//! Builds the objects of a query from its spec. Pure: no client, no clock.

mod merge;
mod network_policy;
mod parts;
mod pins;
mod pod;
mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use floe_api::DistributedQuery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use super::facts::PlanSecrets;
use crate::gang::Gang;
use crate::kueue::Grant;

pub use network_policy::{Clients, network_policy};
pub use pins::{pinned, pins};
pub use pod::{pod, pod_pair};
pub use secret::{PLAN_KEY, TOKEN_KEY, job_secrets, read_first};

/// Ports of the pods: the coordinator's gRPC and HTTP, a worker's HTTP.
pub const CONTROL_PORT: u16 = 7070;
pub const HTTP_PORT: u16 = 7071;
pub const WORKER_PORT: u16 = 7072;

/// Options of the operator that become part of the objects.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    pub runner_image: String,
    pub pull_policy: Option<String>,
    pub pull_secrets: Vec<String>,
    /// Environment of every runner container.
    pub runner_env: Vec<(String, String)>,
    /// Where the operator runs, for the NetworkPolicy. Without a namespace only the query's own pods are admitted.
    pub operator_namespace: Option<String>,
    pub operator_labels: BTreeMap<String, String>,
    /// Who else reads from coordinators.
    pub clients: Clients,
    /// Who places the pods of an attempt together, if anyone.
    pub gang: Option<Gang>,
}

/// Everything that a pod is built from.
pub struct PodInputs<'a> {
    pub query: &'a DistributedQuery,
    pub defaults: &'a Defaults,
    /// The Secrets of a plan too large for the job; only coordinators read it.
    pub plan: PlanSecrets,
    /// The attempt whose Secret a cleaning pod uses.
    pub attempt: u32,
    /// The image that the attempt began with; overrides the current settings.
    pub image: Option<&'a str>,
    /// What Kueue has granted: its pods go to the nodes of their flavors.
    pub grant: Option<&'a Grant>,
    /// Who places the attempt's pods together.
    pub gang: Option<Gang>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the pod template cannot be merged: {0}")]
    Template(String),
    #[error("the job cannot be written: {0}")]
    Job(#[from] serde_json::Error),
}

pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.meta().name.clone().unwrap_or_default(),
        uid: object.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn meta(query: &DistributedQuery, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: query.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![owner(query)]),
        ..ObjectMeta::default()
    }
}
