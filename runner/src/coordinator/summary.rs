//! Makes a query's summary and progress events for clients.

use floe_api::report::{self, StageProgress, StageSummary};
use floe_scheduler::{Snapshot, StagePhase};
use floe_wire::graph::StageGraph;

use super::driver::{Clock, Driven};
use super::{Outcome, events};

pub fn summaries(graph: &StageGraph, driven: &Driven) -> Vec<StageSummary> {
    let stages = driven.snapshot.stages.iter().zip(&graph.stages);
    let ran = stages.filter(|(progress, _)| progress.phase != StagePhase::Unused);
    ran.map(|(progress, stage)| StageSummary {
        id: stage.id.0,
        label: stage.label.clone(),
        tasks: progress.tasks,
        attempts: driven.clock.attempts(stage.id),
        rows: progress.rows,
        bytes: progress.bytes,
        elapsed_ms: driven.clock.elapsed_ms(stage.id),
    })
    .collect()
}

/// Makes the summary; clients add the table of rows themselves.
pub fn summary(outcome: &Outcome) -> report::Outcome {
    report::Outcome {
        rows: outcome.rows,
        bytes_written: outcome.bytes_written,
        bytes_shuffled: outcome.bytes_shuffled,
        duration_ms: outcome.duration.as_millis() as u64,
        sink_uri: outcome.sinks.first().map(|sink| sink.uri.clone()),
        files: outcome.sinks.iter().map(|sink| sink.files).sum(),
        stages: outcome.stages.clone(),
        table: None,
        workers_free: outcome.result.as_ref().is_some_and(|result| !result.needs_workers()),
        fell_back: outcome.fell_back.clone(),
        single_worker: events::single_worker(&outcome.single_worker),
        warnings: outcome.warnings.clone(),
    }
}

/// Makes progress events, one for each stage that changed.
pub fn stage_events(snapshot: &Snapshot, clock: &Clock) -> Vec<StageProgress> {
    snapshot.stages.iter().map(|stage| events::progress(stage, clock)).collect()
}
