//! Puts the coordinator's report into the status: stages, progress, counts. Everything is bounded, so that the object
//! stays small enough whatever the plan.

use floe_api::report::{Outcome, PlanReport, Report};
use floe_api::{DistributedQueryStatus, MAX_STAGES, SingleWorkerStatus, SinkSpec, StageState, StageStatus};

use super::draft::cut;

const MAX_NOTES: usize = 100;
const MAX_LABEL_BYTES: usize = 200;
const MAX_NOTE_BYTES: usize = 1000;

/// Shows the report of a running coordinator.
pub fn show(status: &mut DistributedQueryStatus, report: &Report) {
    let Some(plan) = &report.plan else { return };
    let mut stages: Vec<StageStatus> = plan
        .stages
        .iter()
        .map(|stage| StageStatus {
            id: stage.id,
            label: cut(&stage.label, MAX_LABEL_BYTES),
            tasks_total: stage.tasks.unwrap_or(0),
            ..StageStatus::default()
        })
        .collect();
    for seen in &report.stages {
        let Some(stage) = stages.iter_mut().find(|stage| stage.id == seen.id) else { continue };
        stage.state = seen.state;
        stage.tasks_done = seen.tasks_done;
        stage.tasks_total = seen.tasks_total.max(seen.tasks_done);
        stage.rows = seen.rows;
        stage.bytes = seen.bytes;
    }
    let (mut done, mut total, mut finished) = (0u64, 0u64, 0u32);
    for stage in &stages {
        done += u64::from(stage.tasks_done);
        // A stage whose number of tasks is unknown counts as one.
        total += u64::from(stage.tasks_total.max(1));
        finished += u32::from(stage.state == StageState::Done);
    }
    // Never 100% before the commit, which comes after the last task.
    status.progress = Some(format!("{}%", (done * 100).checked_div(total).unwrap_or(0).min(99)));
    put_stages(status, stages, finished);
    notes(status, plan);
}

/// Shows the outcome of a query that succeeded; `sink` is the spec's, if it has one.
pub fn show_outcome(
    status: &mut DistributedQueryStatus,
    report: Option<&Report>,
    outcome: &Outcome,
    sink: Option<&SinkSpec>,
) {
    if let Some(report) = report {
        show(status, report);
    }
    if outcome.stages.len() >= status.stages.len() {
        let stages: Vec<StageStatus> = outcome
            .stages
            .iter()
            .map(|stage| StageStatus {
                id: stage.id,
                label: cut(&stage.label, MAX_LABEL_BYTES),
                state: StageState::Done,
                tasks_done: stage.tasks,
                tasks_total: stage.tasks,
                rows: stage.rows,
                bytes: stage.bytes,
            })
            .collect();
        let count = stages.len() as u32;
        put_stages(status, stages, count);
    } else {
        // A termination message may leave some of them out.
        for stage in &mut status.stages {
            stage.state = StageState::Done;
            stage.tasks_total = stage.tasks_total.max(stage.tasks_done);
            stage.tasks_done = stage.tasks_total;
        }
        let total = status.stages_total.unwrap_or(0);
        status.stages_summary = Some(format!("{total}/{total}"));
    }
    status.progress = Some("100%".to_owned());
    status.rows = Some(outcome.rows);
    status.bytes_written = Some(outcome.bytes_written);
    status.bytes_shuffled = Some(outcome.bytes_shuffled);
    status.result_uri = result_uri(outcome, sink);
    if !outcome.single_worker.is_empty() {
        status.single_worker = single_worker(&outcome.single_worker);
    }
    if !outcome.warnings.is_empty() {
        status.warnings = warnings(&outcome.warnings);
    }
    if let Some(why) = &outcome.fell_back {
        // Put it first, so that truncation never drops it.
        let warning = format!("the stages failed, and the query ran again on one worker: {why}");
        status.warnings.insert(0, cut(&warning, MAX_NOTE_BYTES));
        status.warnings.truncate(MAX_NOTES);
    }
}

/// Where the result is, as the user wrote it: the slash at the end tells that it is a directory, and readers go by it.
fn result_uri(outcome: &Outcome, sink: Option<&SinkSpec>) -> Option<String> {
    let uri = outcome.sink_uri.as_ref()?;
    let as_written = sink.map(|sink| &sink.uri).filter(|written| written.trim_end_matches('/') == uri);
    Some(as_written.unwrap_or(uri).clone())
}

/// Marks the stages that were running when the query failed.
pub fn show_failure(status: &mut DistributedQueryStatus, report: Option<&Report>) {
    if let Some(report) = report {
        show(status, report);
    }
    for stage in status.stages.iter_mut().filter(|stage| stage.state == StageState::Running) {
        stage.state = StageState::Failed;
    }
}

fn put_stages(status: &mut DistributedQueryStatus, mut stages: Vec<StageStatus>, finished: u32) {
    let count = stages.len() as u32;
    stages.truncate(MAX_STAGES);
    status.stages = stages;
    status.stages_total = Some(count);
    status.stages_summary = Some(format!("{finished}/{count}"));
}

fn notes(status: &mut DistributedQueryStatus, plan: &PlanReport) {
    status.single_worker = single_worker(&plan.single_worker);
    status.warnings = warnings(&plan.warnings);
}

fn warnings(all: &[String]) -> Vec<String> {
    all.iter().take(MAX_NOTES).map(|warning| cut(warning, MAX_NOTE_BYTES)).collect()
}

fn single_worker(nodes: &[SingleWorkerStatus]) -> Vec<SingleWorkerStatus> {
    let nodes = nodes.iter().take(MAX_NOTES);
    nodes
        .map(|node| SingleWorkerStatus {
            stage: node.stage,
            node: cut(&node.node, MAX_LABEL_BYTES),
            reason: cut(&node.reason, MAX_NOTE_BYTES),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use floe_api::report::{StageInfo, StageProgress};

    #[test]
    fn a_status_fits_an_object_whatever_the_plan_is_like() {
        let long = "é".repeat(5000);
        let node = |stage| SingleWorkerStatus { stage, node: long.clone(), reason: long.clone() };
        let report = Report {
            stages: (0..3000)
                .map(|id| StageProgress {
                    id,
                    state: StageState::Running,
                    rows: u64::MAX,
                    bytes: u64::MAX,
                    ..Default::default()
                })
                .collect(),
            plan: Some(PlanReport {
                stages: (0..3000)
                    .map(|id| StageInfo { id, label: long.clone(), tasks: Some(u32::MAX), ..StageInfo::default() })
                    .collect(),
                single_worker: (0..300).map(node).collect(),
                warnings: vec![long.clone(); 300],
            }),
            ..Report::default()
        };
        let mut status = DistributedQueryStatus::default();
        show(&mut status, &report);
        assert_eq!((status.stages.len(), status.stages_total), (MAX_STAGES, Some(3000)));
        assert_eq!(status.stages_summary.as_deref(), Some("0/3000"));
        let bytes = serde_json::to_vec(&status).unwrap().len();
        assert!(bytes < 800_000, "an object holds some 1.5 MB, its spec included: {bytes}");
        let outcome = Outcome { fell_back: Some(long), ..Outcome::default() };
        show_outcome(&mut status, Some(&report), &outcome, None);
        assert_eq!(status.stages_summary.as_deref(), Some("3000/3000"));
        assert!(serde_json::to_vec(&status).unwrap().len() < 800_000);
        assert_eq!(status.warnings.len(), MAX_NOTES);
        assert!(status.warnings[0].starts_with("the stages failed"), "however many others there are");
    }

    #[test]
    fn the_result_is_where_the_spec_says_in_its_words() {
        let at = |reported: &str, written: Option<&str>| {
            let outcome = Outcome { sink_uri: Some(reported.to_owned()), ..Outcome::default() };
            let sink = written.map(|uri| SinkSpec { uri: uri.to_owned(), ..SinkSpec::default() });
            let mut status = DistributedQueryStatus::default();
            show_outcome(&mut status, None, &outcome, sink.as_ref());
            status.result_uri.unwrap()
        };
        assert_eq!(at("s3://b/out", Some("s3://b/out/")), "s3://b/out/");
        assert_eq!(at("s3://b/out.csv", Some("s3://b/out.csv")), "s3://b/out.csv");
        // The plan has its own sink, or the spec's was changed before the query was seen to start.
        assert_eq!(at("s3://b/own", None), "s3://b/own");
        assert_eq!(at("s3://b/out", Some("s3://b/other/")), "s3://b/out");
    }

    #[test]
    fn a_fall_back_to_one_worker_is_a_warning_with_its_reason() {
        let why = "ShapeError: zip node received unequal inputs";
        let outcome: Outcome = serde_json::from_value(serde_json::json!({
            "rows": 1, "fellBack": why, "warnings": ["zfill differs"],
        }))
        .unwrap();
        let mut status = DistributedQueryStatus::default();
        show_outcome(&mut status, None, &outcome, None);
        let fell_back = format!("the stages failed, and the query ran again on one worker: {why}");
        assert_eq!(status.warnings, [fell_back, "zfill differs".to_owned()]);
        let mut status = DistributedQueryStatus::default();
        show_outcome(&mut status, None, &Outcome { fell_back: None, ..outcome }, None);
        assert_eq!(status.warnings, ["zfill differs"]);
    }
}
