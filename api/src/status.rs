//! What the operator tells about a query. Bounded: at most `MAX_STAGES` stages, so that the object always fits.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of stages listed in a status; further ones are only counted.
pub const MAX_STAGES: usize = 1000;

/// The state of a query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistributedQueryStatus {
    /// Phase of the query. Succeeded, Failed and Cancelled are final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Reason of the phase, as one word: Unschedulable, ImagePull, OutOfMemory, BadPlan, MissingData, AccessDenied, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason as a sentence, with what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Accepted, CoordinatorReady, WorkersReady, Planned, Succeeded and CleanedUp, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the current attempt's pods are made of. Later changes (an upgrade of the operator, `spec.compute`) apply to
    /// the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinnedStatus>,
    /// The attempt at the whole query, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The coordinator that runs the attempt, if the query borrows a context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<BorrowedStatus>,
    /// When the attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_started_at: Option<Time>,
    /// Number of attempts that failed because of the infrastructure, limited by `backoffLimit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// Number of queries ahead in line, while the query waits for the namespace's quota or for its share.
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
    /// When the coordinator started on the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the query ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Time from the query's creation to its start, as text: waiting for pods, quotas or Secrets, or suspended.
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
    /// Bytes exchanged between workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_shuffled: Option<u64>,
    /// Location of the result. That of a directory ends in `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_uri: Option<String>,
    /// Which pods hold a result without a sink until it expires.
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

/// The phase of a query.
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
    /// A terminal phase never changes.
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

/// What the pods of one attempt are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedStatus {
    /// Image of coordinator and workers.
    pub image: String,
    /// CPUs of each worker.
    pub cpus: String,
    /// CPU limit of each worker, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    /// Memory of each worker.
    pub memory: String,
    /// A digest of `spec.compute` without the number of workers.
    pub compute: String,
}

/// Which pods hold a result without a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResultHolder {
    /// The coordinator's pod is kept; the workers are removed.
    Coordinator,
    /// All pods are kept: the result is larger than the coordinator's space.
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
    /// Number of workers wanted: as many as the tasks need, between `minWorkers` and `maxWorkers`.
    pub desired: u32,
    /// Both as text (`3/4`); for an ended query, how many it had at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// How often each worker of this attempt was lost and replaced, by its number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10000))]
    pub replaced: BTreeMap<String, u32>,
    /// How often each worker of this attempt was released because it was not needed, by its number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10000))]
    pub released: BTreeMap<String, u32>,
    /// Since when the tasks have needed fewer workers than are wanted.
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
    /// State of the stage.
    #[serde(default)]
    pub state: StageState,
    /// Tasks that are done.
    pub tasks_done: u32,
    /// Total number of tasks; 0 while it is not known.
    pub tasks_total: u32,
    /// Rows in its output.
    #[serde(default)]
    pub rows: u64,
    /// Bytes in its output.
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

/// The state of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    #[default]
    Waiting,
    Running,
    Done,
    Failed,
}

/// A node of the plan that runs on one worker.
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
