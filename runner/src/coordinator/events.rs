//! The coordinator's reports, made from what the engine knows. Their vocabulary is `floe_api::report`.

use floe_api::report::{PlanReport, RunError, StageInfo, StageProgress};
use floe_api::{SingleWorkerStatus, StageState};
use floe_scheduler::StagePhase;
use floe_wire::error::QueryError;
use floe_wire::graph::{Exchange, Leaf, SingleWorker, StageGraph};

use super::driver::Clock;

pub fn error(error: &QueryError) -> RunError {
    RunError { category: error.category, class: error.class.clone(), message: error.message.clone() }
}

pub fn progress(stage: &floe_scheduler::StageProgress, clock: &Clock) -> StageProgress {
    StageProgress {
        id: stage.id.0,
        state: match stage.phase {
            StagePhase::Waiting | StagePhase::Unused => StageState::Waiting,
            StagePhase::Resolving | StagePhase::Running => StageState::Running,
            StagePhase::Done => StageState::Done,
        },
        tasks_done: stage.done,
        tasks_total: stage.tasks,
        attempts: clock.attempts(stage.id),
        rows: stage.rows,
        bytes: stage.bytes,
        elapsed_ms: clock.elapsed_ms(stage.id),
    }
}

pub fn plan(graph: &StageGraph) -> PlanReport {
    PlanReport {
        stages: stage_infos(graph),
        single_worker: single_worker(&graph.single_worker),
        warnings: graph.warnings.clone(),
    }
}

pub fn single_worker(nodes: &[SingleWorker]) -> Vec<SingleWorkerStatus> {
    let told = nodes.iter().map(|node| SingleWorkerStatus {
        stage: node.stage.0,
        node: node.node.clone(),
        reason: node.reason.clone(),
    });
    told.collect()
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
        StageInfo {
            id: stage.id.0,
            label: stage.label.clone(),
            tasks,
            tasks_at_most: stage.facts.tasks,
            deps,
            exchange: exchange(&stage.output),
        }
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
