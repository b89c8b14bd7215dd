//! `ComputeContext`: a coordinator and workers that stay, which queries borrow by `spec.compute.contextRef`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ComputeSpec, Quantity, StorageSpec, quantity};

/// A long-running coordinator and workers that queries share.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "floe.dev",
    version = "v1alpha1",
    kind = "ComputeContext",
    plural = "computecontexts",
    singular = "computecontext",
    shortname = "cc",
    category = "all",
    namespaced,
    status = "ComputeContextStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A coordinator and workers that stay: queries borrow them by spec.compute.contextRef instead of starting pods of their own.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the context is: Starting, Ready, Idle, Changing or Failed"),
    printcolumn(name = "Workers", type_ = "string", json_path = ".status.workers.summary", description = "Workers connected / wanted"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.queriesRunning", description = "Queries that run"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.queriesWaiting", description = "Queries that wait for others to end"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the context was created"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".status.memory", priority = 1, description = "Memory in use on the workers"),
    printcolumn(name = "Coordinator", type_ = "string", json_path = ".status.coordinator", priority = 1, description = "Where the coordinator listens"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1, description = "What holds the context up"),
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name names pods: write at most 50 lower-case letters, digits and -, beginning with a letter"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.minWorkers <= self.maxWorkers").message("spec.minWorkers must not be above spec.maxWorkers"),
    validation = Rule::new("!has(self.compute.workers) && !has(self.compute.minWorkers) && !has(self.compute.maxWorkers)").message("spec.compute.workers, minWorkers and maxWorkers are those of a query: write spec.minWorkers and spec.maxWorkers"),
    validation = Rule::new("!has(self.compute.contextRef)").message("spec.compute.contextRef is a query's: a context has pods of its own"),
)]
pub struct ComputeContextSpec {
    /// Minimum number of workers while the context is in use, and until `idleTimeoutSeconds` after its last query.
    #[serde(default = "one")]
    #[schemars(range(max = 10000))]
    pub min_workers: u32,
    /// Maximum number of workers. There may be more pods for a while when workers are replaced or removed.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_workers: u32,
    /// Size of workers and coordinator, and everything about their pods, as in a query.
    #[serde(default)]
    pub compute: ComputeSpec,
    /// Storage of queries that have no `spec.storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Remove all workers this many seconds after the last query ends. The next query starts them again.
    #[serde(default = "half_an_hour")]
    #[schemars(range(max = 31536000))]
    pub idle_timeout_seconds: u32,
    /// Remove surplus workers only after there have been more workers than tasks for this many seconds.
    #[serde(default = "a_minute")]
    #[schemars(range(max = 86400))]
    pub cooldown_seconds: u32,
    /// Maximum number of queries that run at once and share the workers; further ones wait.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_queries_at_once: u32,
    /// Limits on waiting queries.
    #[serde(default)]
    pub queue: QueueSpec,
    /// How to share the workers evenly. If unset, each query gets the same share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fair_share: Option<FairShareSpec>,
}

fn one() -> u32 {
    1
}

fn two() -> u32 {
    2
}

fn sixteen() -> u32 {
    16
}

fn a_minute() -> u32 {
    60
}

fn half_an_hour() -> u32 {
    1800
}

impl Default for ComputeContextSpec {
    fn default() -> Self {
        Self {
            min_workers: one(),
            max_workers: two(),
            compute: ComputeSpec::default(),
            storage: None,
            idle_timeout_seconds: half_an_hour(),
            cooldown_seconds: a_minute(),
            max_queries_at_once: sixteen(),
            queue: QueueSpec::default(),
            fair_share: None,
        }
    }
}

/// Limits on the queries that wait at the coordinator. Further ones wait as objects and are retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueSpec {
    /// Maximum number of queries that wait at the coordinator.
    #[schemars(range(max = 100000))]
    pub max_queries: u32,
    /// Memory of the coordinator for the plans of waiting queries.
    #[schemars(schema_with = "quantity::schema")]
    pub max_size: Quantity,
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self { max_queries: 1000, max_size: Quantity::new("128Mi") }
    }
}

/// Queries with the same value of a label share one part of the workers, however many they are: they start in turn with
/// those of other values, and together get the same share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FairShareSpec {
    /// A key of the queries' `spec.labels`, such as `user`. Queries without this label share one part.
    #[schemars(length(min = 1, max = 317))]
    pub label: String,
    /// Label values with a larger share, as multiples of one part: `{alice: 2}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::weights")]
    pub weights: BTreeMap<String, u32>,
}

/// The state of the context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputeContextStatus {
    /// Phase of the context. In every phase but Failed it accepts queries, which wait if necessary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ContextPhase>,
    /// What holds the context up, as one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What holds the context up and what to do about it, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Accepted, CoordinatorReady and WorkersReady, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Workers connected and wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<ContextWorkers>,
    /// Queries that are planned or run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_running: Option<u32>,
    /// Queries that wait for others to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_waiting: Option<u32>,
    /// Tasks that could start and have no worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_waiting: Option<u32>,
    /// Memory in use on the workers and their total, as text (`3Gi/16Gi`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// HTTP address of the coordinator that takes queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
    /// Coordinators with their workers, the newest last. A change of image or sizes adds one; the others are removed
    /// once their queries have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub revisions: Vec<RevisionStatus>,
    /// The revision that takes queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<u32>,
    /// Since when this revision takes queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_since: Option<Time>,
    /// Since when there is no query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Time>,
    /// Since when there are more workers than wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surplus_since: Option<Time>,
    /// Number of workers created so far. Each has its own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_made: Option<u32>,
    /// Number of workers lost in quick succession; replacements are created after a delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_lost: Option<u32>,
    /// When the last worker was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_lost_at: Option<Time>,
}

/// The phase of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ContextPhase {
    /// No coordinator answers yet.
    Starting,
    /// There are workers, or they are on their way.
    Ready,
    /// The coordinator runs without workers until the next query.
    Idle,
    /// A new revision is starting because the spec has changed.
    Changing,
    /// The spec cannot run as it is.
    Failed,
}

impl ContextPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            ContextPhase::Starting => "Starting",
            ContextPhase::Ready => "Ready",
            ContextPhase::Idle => "Idle",
            ContextPhase::Changing => "Changing",
            ContextPhase::Failed => "Failed",
        }
    }
}

/// Workers of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextWorkers {
    /// Workers that are connected and take tasks.
    pub ready: u32,
    /// Workers that are wanted.
    pub wanted: u32,
    /// Both as text (`3/4`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// A coordinator with its workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Number of the revision, from 1. A lost coordinator is replaced by a new revision.
    pub number: u32,
    /// Image of its pods.
    pub image: String,
    /// Digest of everything that its pods are made of.
    pub digest: String,
    /// When it was started.
    pub started_at: Time,
    /// Number of coordinators lost in quick succession before this one.
    #[serde(default)]
    pub failures: u32,
}
