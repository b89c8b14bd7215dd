//! `ComputeContext`: a coordinator and workers that stay, which queries borrow by `spec.compute.contextRef`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ComputeSpec, Quantity, StorageSpec, quantity};

/// A coordinator and workers that stay and are shared by queries.
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
    /// Workers that are kept while the context is in use, and until `idleTimeoutSeconds` after its last query.
    #[serde(default = "one")]
    #[schemars(range(max = 10000))]
    pub min_workers: u32,
    /// The most workers at a time. While workers are replaced or leave, more pods may be there.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_workers: u32,
    /// Size of workers and coordinator, and everything about their pods, as in a query.
    #[serde(default)]
    pub compute: ComputeSpec,
    /// The storage of queries that have no `spec.storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// So long after the end of the last query all workers go; the next query brings them back.
    #[serde(default = "half_an_hour")]
    #[schemars(range(max = 31536000))]
    pub idle_timeout_seconds: u32,
    /// For so long there must be more workers than tasks before some of them go.
    #[serde(default = "a_minute")]
    #[schemars(range(max = 86400))]
    pub cooldown_seconds: u32,
    /// Queries that run at once and share the workers; more wait.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_queries_at_once: u32,
    /// How many queries may wait.
    #[serde(default)]
    pub queue: QueueSpec,
    /// Among whom the workers are shared evenly. Left out, among queries.
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

/// Queries that wait at the coordinator. Those beyond these limits wait as objects, and are tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueSpec {
    /// Queries that wait at once.
    #[schemars(range(max = 100000))]
    pub max_queries: u32,
    /// Memory of the coordinator for the plans of those that wait.
    #[schemars(schema_with = "quantity::schema")]
    pub max_size: Quantity,
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self { max_queries: 1000, max_size: Quantity::new("128Mi") }
    }
}

/// Queries with one value of a label share what is theirs, however many they are: they start in turn with those of other values,
/// and together get as much of the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FairShareSpec {
    /// A key of the queries' `spec.labels`, such as `user`. Queries without it stand together.
    #[schemars(length(min = 1, max = 317))]
    pub label: String,
    /// Values that get more than one part, with their parts: `{alice: 2}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::weights")]
    pub weights: BTreeMap<String, u32>,
}

/// Where the context is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputeContextStatus {
    /// Where the context is. Every phase but Failed takes queries, which wait if need be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ContextPhase>,
    /// What holds it up, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a sentence, with what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Accepted, CoordinatorReady and WorkersReady, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
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
    /// Memory in use on the workers of what they have, as text (`3Gi/16Gi`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Where the coordinator that takes queries listens (HTTP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
    /// Coordinators with their workers, the newest last. After a change of image or sizes there is a new one, and the others
    /// go when their queries have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub revisions: Vec<RevisionStatus>,
    /// The revision that takes queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<u32>,
    /// Since when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_since: Option<Time>,
    /// Since when there is no query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Time>,
    /// Since when there are more workers than wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surplus_since: Option<Time>,
    /// Workers made so far; each has a number of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_made: Option<u32>,
    /// Workers that were lost one soon after the other, and when the last was: the next ones are made after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_lost: Option<u32>,
    /// When the last worker was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_lost_at: Option<Time>,
}

/// Where a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ContextPhase {
    /// No coordinator answers yet.
    Starting,
    /// There are workers, or they are on their way.
    Ready,
    /// The coordinator runs without workers until the next query.
    Idle,
    /// A changed spec is being put in place.
    Changing,
    /// The spec cannot be run as it is.
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
    /// Its number, from 1. A coordinator that was lost is followed by one of the next number.
    pub number: u32,
    /// Image of its pods.
    pub image: String,
    /// A digest of what its pods are made of.
    pub digest: String,
    /// When it was begun.
    pub started_at: Time,
    /// Coordinators that were lost one soon after the other before this one.
    #[serde(default)]
    pub failures: u32,
}
