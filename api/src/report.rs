//! What a coordinator reports about a query while it runs and when it has ended, on its standard output, its HTTP port
//! and in its termination message. `floe` and the operator read it.
//!
//! The JSON form is a contract: coordinator and operator may come from different releases. So a missing field has its
//! default, an unknown field is ignored, and `tests/report.rs` fixes the form.

use serde::{Deserialize, Deserializer, Serialize};

use crate::status::{SingleWorkerStatus, StageState};

/// One line of the progress stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Event {
    /// The plan was cut into stages, or cut again for a second run.
    Planned(PlanReport),
    Stage(StageProgress),
    Worker(WorkerEvent),
    Done {
        #[serde(default)]
        outcome: Box<Outcome>,
    },
    Error(RunError),
}

/// The answer of the status endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    pub id: String,
    pub name: String,
    /// The attempt at the query; 0 from a coordinator that does not report it.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempt: u32,
    pub phase: RunPhase,
    /// While the query waits: how many queries start before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    pub stages: Vec<StageProgress>,
    /// Present once the query is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanReport>,
    /// Ids of the workers that are connected; on a cluster the names of their pods.
    pub workers: Vec<String>,
    /// The load of its workers, from a coordinator that runs no other queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a coordinator reports about its workers and the work for them, as a basis for scaling.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EngineReport {
    pub queries_running: u32,
    /// Queries that wait for others to end.
    pub queries_waiting: u32,
    /// Tasks that could start and have no worker.
    pub tasks_waiting: u32,
    /// Number of results without a sink that it keeps.
    pub results: u32,
    pub workers: Vec<EngineWorker>,
}

/// A connected worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EngineWorker {
    /// On a cluster the name of its pod.
    pub id: String,
    /// Tasks that it runs or was granted.
    pub tasks: u32,
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    /// Bytes of outputs that queries may still read.
    pub shuffle_bytes: u64,
    /// It takes no more tasks.
    pub draining: bool,
    /// It takes no more tasks, runs none and holds no outputs that a query could read.
    pub drained: bool,
}

/// The state of a coordinator's query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunPhase {
    /// Waits for other queries to end.
    Waiting,
    #[default]
    Planning,
    Running,
    Committing,
    Succeeded,
    Failed,
    Cancelled,
}

/// The stages of the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanReport {
    pub stages: Vec<StageInfo>,
    pub single_worker: Vec<SingleWorkerStatus>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageInfo {
    pub id: u32,
    pub label: String,
    /// Before the query starts this is known only for stages that read base data.
    pub tasks: Option<u32>,
    /// The maximum number of tasks that it is planned for; 0 from a coordinator that does not report it.
    #[serde(skip_serializing_if = "is_zero")]
    pub tasks_at_most: u32,
    /// Ids of the stages that it reads.
    pub deps: Vec<u32>,
    /// How its rows are passed to its readers, in words.
    pub exchange: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageProgress {
    pub id: u32,
    #[serde(deserialize_with = "known_state")]
    pub state: StageState,
    pub tasks_done: u32,
    pub tasks_total: u32,
    /// Attempts at its tasks that were started; 0 from a coordinator that does not tell.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    pub rows: u64,
    pub bytes: u64,
    pub elapsed_ms: u64,
}

/// Shows an unknown state (from a newer release) as waiting.
fn known_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StageState, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    Ok(match text.as_ref() {
        "running" => StageState::Running,
        "done" => StageState::Done,
        "failed" => StageState::Failed,
        _ => StageState::Waiting,
    })
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerEvent {
    pub id: String,
    pub state: WorkerState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WorkerState {
    Up,
    Draining,
    Lost,
}

/// The header with which the submitter of a job gives the query a token of its own.
pub const QUERY_TOKEN: &str = "x-floe-query-token";

/// The outcome of a query that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outcome {
    pub rows: u64,
    pub bytes_written: u64,
    pub bytes_shuffled: u64,
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_uri: Option<String>,
    pub files: u64,
    pub stages: Vec<StageSummary>,
    /// The first rows of a result without a sink, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// A result without a sink no longer depends on the workers: it is on the coordinator or in a store.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub workers_free: bool,
    /// Why the query ran again on one node, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<String>,
    pub single_worker: Vec<SingleWorkerStatus>,
    pub warnings: Vec<String>,
}

/// A stage that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageSummary {
    pub id: u32,
    pub label: String,
    pub tasks: u32,
    pub attempts: u32,
    pub rows: u64,
    pub bytes: u64,
    pub elapsed_ms: u64,
}

/// Why a query failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    pub category: Category,
    /// Polars' class of the error as Python names it (`ColumnNotFoundError`, `ComputeError`, …), or one of Floe's own
    /// (`BadSpec`, `ScriptTimeout`, …).
    #[serde(default)]
    pub class: String,
    #[serde(default)]
    pub message: String,
}

/// The kind of failure: it determines retries, metric labels, reasons of conditions and exit codes. An unknown category
/// counts as a fault of Floe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Category {
    /// The plan, the spec or the data are at fault: never retried.
    #[serde(alias = "user")]
    User,
    /// A file or store did not answer or answered wrongly: retried with backoff within a budget.
    #[serde(alias = "io")]
    Io,
    /// A worker was lost with the task or with outputs that are needed.
    #[serde(alias = "lost-worker")]
    LostWorker,
    /// The task ran out of memory: retried alone on a worker, with smaller partitions where possible.
    #[serde(alias = "out-of-memory")]
    OutOfMemory,
    /// `activeDeadlineSeconds` passed.
    #[serde(alias = "deadline")]
    Deadline,
    /// The user asked for it.
    #[serde(alias = "cancelled")]
    Cancelled,
    /// A fault of Floe's own.
    #[default]
    #[serde(other)]
    Internal,
}

impl Category {
    pub const ALL: [Category; 7] = [
        Category::User,
        Category::Io,
        Category::LostWorker,
        Category::OutOfMemory,
        Category::Deadline,
        Category::Cancelled,
        Category::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Category::User => "user",
            Category::Io => "io",
            Category::LostWorker => "lost-worker",
            Category::OutOfMemory => "out-of-memory",
            Category::Deadline => "deadline",
            Category::Cancelled => "cancelled",
            Category::Internal => "internal",
        }
    }

    /// The exit code of `floe` and of the coordinator.
    pub const fn exit_code(self) -> u8 {
        match self {
            Category::User => 2,
            Category::Io => 3,
            Category::LostWorker => 4,
            Category::OutOfMemory => 5,
            Category::Deadline => 6,
            Category::Cancelled => 130,
            Category::Internal => 70,
        }
    }
}

/// Exit code of a worker that wants to be replaced by a new process: a task could not be stopped, or memory ran out.
pub const WORKER_RESTART: u8 = 75;
/// Exit code of a worker whose coordinator is gone or never appeared.
pub const WORKER_ORPHANED: u8 = 69;
