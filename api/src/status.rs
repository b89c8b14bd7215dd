//! What the operator tells about a query. Bounded: at most `MAX_STAGES` stages, so that the object always fits.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stages listed in a status; what is beyond is only counted.
pub const MAX_STAGES: usize = 1000;

/// What became of the query so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistributedQueryStatus {
    /// Where the query is. Succeeded, Failed and Cancelled are final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why it is there, in one word: Unschedulable, ImagePull, OutOfMemory, BadPlan, MissingData, AccessDenied, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a sentence, with what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Accepted, CoordinatorReady, WorkersReady, Planned, Succeeded and CleanedUp, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the pods of the current try are made of; what changes meanwhile (an upgrade of the operator, `spec.compute`) holds
    /// for the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinnedStatus>,
    /// Which try at the whole query this is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The coordinator that the try runs at, if the query borrows a context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<BorrowedStatus>,
    /// When that try began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_started_at: Option<Time>,
    /// Tries that failed for reasons of the infrastructure; `backoffLimit` bounds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// While the query waits for the namespace's quota: how many queries wait for it and come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u32>,
    /// Workers ready and wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkerCounts>,
    /// The stages of the plan, at most 1000 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub stages: Vec<StageStatus>,
    /// How many stages the plan has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages_total: Option<u32>,
    /// Stages done / planned, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages_summary: Option<String>,
    /// Share of the tasks that are done, as text (`45%`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// When the coordinator took the query up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the query ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Time from the query's creation to its start, as text: for pods, quotas, Secrets, while it was suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited: Option<String>,
    /// Time from the query's creation to its end, as text (`1m12s`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Milliseconds that its coordinator took for it, from taking it up to the commit; of a query that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Rows of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes written to the sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_written: Option<u64>,
    /// Bytes that went from worker to worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_shuffled: Option<u64>,
    /// Where the result is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_uri: Option<String>,
    /// Who holds a result without a sink until its time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_with: Option<ResultHolder>,
    /// Nodes of the plan that run on one worker, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub single_worker: Vec<SingleWorkerStatus>,
    /// What the user should know: differences between Polars versions, ignored options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub warnings: Vec<String>,
}

/// Where a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    Pending,
    Starting,
    Planning,
    Running,
    Committing,
    Succeeded,
    Failed,
    Cancelled,
    Suspended,
}

impl Phase {
    /// A terminal phase stays.
    pub fn is_terminal(self) -> bool {
        match self {
            Phase::Succeeded | Phase::Failed | Phase::Cancelled => true,
            Phase::Pending
            | Phase::Starting
            | Phase::Planning
            | Phase::Running
            | Phase::Committing
            | Phase::Suspended => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Starting => "Starting",
            Phase::Planning => "Planning",
            Phase::Running => "Running",
            Phase::Committing => "Committing",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
            Phase::Cancelled => "Cancelled",
            Phase::Suspended => "Suspended",
        }
    }
}

/// What the pods of one try are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedStatus {
    /// Image of coordinator and workers.
    pub image: String,
    /// CPUs of each worker.
    pub cpus: String,
    /// The most CPUs of each worker, if they are limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    /// Memory of each worker.
    pub memory: String,
    /// A digest of `spec.compute` without the number of workers.
    pub compute: String,
}

/// Who holds a result without a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResultHolder {
    /// Its pod stays, and the workers are gone.
    Coordinator,
    /// All pods stay: the result is larger than the space of the coordinator.
    Workers,
}

/// The coordinator of a context that runs the query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BorrowedStatus {
    /// Name of the context.
    pub name: String,
    /// Name of the coordinator's pod, at which the result is read.
    pub coordinator: String,
    /// The UID of that pod.
    pub coordinator_uid: String,
}

/// Workers of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerCounts {
    /// Workers that are ready.
    pub ready: u32,
    /// Workers that are wanted: between `minWorkers` and `maxWorkers` as many as its tasks need.
    pub desired: u32,
    /// Both as text (`3/4`); of a query that has ended, how many it had in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Workers of this attempt that were lost and replaced: how often, by the worker's number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10000))]
    pub replaced: BTreeMap<String, u32>,
    /// Workers of this attempt that were not needed any more and let go: how often, by the worker's number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10000))]
    pub released: BTreeMap<String, u32>,
    /// Since when its tasks need fewer workers than are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surplus_since: Option<Time>,
}

/// One stage of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Its number.
    pub id: u32,
    /// What it does: `scan lineitem, filter, partial group by`.
    pub label: String,
    /// Where it is.
    #[serde(default)]
    pub state: StageState,
    /// Tasks that are done.
    pub tasks_done: u32,
    /// Tasks in all; 0 while that is not known.
    pub tasks_total: u32,
    /// Rows that it put out.
    #[serde(default)]
    pub rows: u64,
    /// Bytes that it put out.
    #[serde(default)]
    pub bytes: u64,
    /// Stages whose output it reads; empty for one that reads tables only, absent where the plan has too many to list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub depends_on: Option<Vec<u32>>,
    /// Attempts at its tasks so far: more than `tasksTotal` if some ran again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Milliseconds from the start of its first task to the end of its last one, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
}

/// Where a stage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    #[default]
    Waiting,
    Running,
    Done,
    Failed,
}

/// A node that runs on one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SingleWorkerStatus {
    /// The stage it is in.
    pub stage: u32,
    /// The node.
    pub node: String,
    /// Why it cannot be distributed.
    pub reason: String,
}
