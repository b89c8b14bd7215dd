//! The progress stream: what the coordinator's stdout, the status endpoint and the clients show. The JSON form is a
//! contract with them.

use serde::Serialize;

use floe_scheduler::{StagePhase, StageProgress};
use floe_wire::error::{Category, QueryError};
use floe_wire::graph::{Exchange, Leaf, SingleWorker, StageGraph};

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    Planned { stages: Vec<StageInfo>, single_worker: Vec<SingleWorker>, warnings: Vec<String> },
    Stage(StageState),
    Worker { id: String, state: WorkerState },
    Done { outcome: Box<Summary> },
    Error { category: Category, class: String, message: String },
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageInfo {
    pub id: u32,
    pub label: String,
    /// Known before the query starts only for stages that read base data.
    pub tasks: Option<u32>,
    pub deps: Vec<u32>,
    pub exchange: String,
}

#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StageState {
    pub id: u32,
    pub state: RunState,
    pub tasks_done: u32,
    pub tasks_total: u32,
    pub rows: u64,
    pub bytes: u64,
    pub elapsed_ms: u64,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum RunState {
    Waiting,
    Running,
    Done,
    Failed,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum WorkerState {
    Up,
    Draining,
    Lost,
}

/// What a finished query tells.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<String>,
    pub single_worker: Vec<SingleWorker>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageSummary {
    pub id: u32,
    pub label: String,
    pub tasks: u32,
    pub attempts: u32,
    pub rows: u64,
    pub bytes: u64,
    pub elapsed_ms: u64,
}

impl From<&QueryError> for Event {
    fn from(error: &QueryError) -> Self {
        Event::Error { category: error.category, class: error.class.clone(), message: error.message.clone() }
    }
}

impl StageState {
    pub fn of(stage: &StageProgress, elapsed_ms: u64) -> StageState {
        StageState {
            id: stage.id.0,
            state: match stage.phase {
                StagePhase::Waiting | StagePhase::Unused => RunState::Waiting,
                StagePhase::Resolving | StagePhase::Running => RunState::Running,
                StagePhase::Done => RunState::Done,
            },
            tasks_done: stage.done,
            tasks_total: stage.tasks,
            rows: stage.rows,
            bytes: stage.bytes,
            elapsed_ms,
        }
    }
}

pub fn planned(graph: &StageGraph) -> Event {
    Event::Planned {
        stages: stage_infos(graph),
        single_worker: graph.single_worker.clone(),
        warnings: graph.warnings.clone(),
    }
}

pub fn stage_infos(graph: &StageGraph) -> Vec<StageInfo> {
    let stages = graph.stages.iter().map(|stage| {
        let (mut deps, mut tasks) = (Vec::new(), None);
        for leaf in &stage.leaves {
            match leaf {
                Leaf::Source { per_task, .. } => tasks = Some(per_task.len() as u32),
                Leaf::Exchange { stages, .. } => deps.extend(stages.iter().map(|stage| stage.0)),
            }
        }
        deps.sort_unstable();
        deps.dedup();
        StageInfo { id: stage.id.0, label: stage.label.clone(), tasks, deps, exchange: exchange(&stage.output) }
    });
    stages.collect()
}

pub fn exchange(exchange: &Exchange) -> String {
    match exchange {
        Exchange::Hash { keys, partitions } => format!("hash({}) x {partitions}", keys.join(", ")),
        Exchange::Range { key, partitions } => format!("range({key}) x {partitions}"),
        Exchange::Whole => "whole".to_string(),
        Exchange::Result => "result".to_string(),
        Exchange::Sink { sink } => format!("sink {sink}"),
    }
}
