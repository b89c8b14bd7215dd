//! Puts the coordinator's report into the status: stages, progress, counts. Everything is bounded, so that the object
//! stays small enough whatever the plan.

use floe_api::report::{Outcome, PlanReport, Report, StageInfo, StageSummary};
use floe_api::{DistributedQueryStatus, MAX_STAGES, SingleWorkerStatus, StageState, StageStatus};

use super::draft::cut;

const MAX_NOTES: usize = 100;
const MAX_LABEL_BYTES: usize = 200;
const MAX_NOTE_BYTES: usize = 1000;
/// Edges of the graph of stages that are listed, in all.
const MAX_EDGES: usize = 10_000;

/// Shows the report of a running coordinator.
pub fn show(status: &mut DistributedQueryStatus, report: &Report) {
    let Some(plan) = &report.plan else { return };
    let mut edges = MAX_EDGES;
    let mut stages: Vec<StageStatus> = plan
        .stages
        .iter()
        .map(|stage| StageStatus {
            id: stage.id,
            label: cut(&stage.label, MAX_LABEL_BYTES),
            tasks_total: stage.tasks.unwrap_or(0),
            depends_on: depends_on(stage, &mut edges),
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
        stage.attempts = (seen.attempts > 0).then_some(seen.attempts);
        let has_ended = matches!(seen.state, StageState::Done | StageState::Failed);
        stage.elapsed_ms = has_ended.then_some(seen.elapsed_ms);
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

/// Shows the outcome of a query that succeeded.
pub fn show_outcome(status: &mut DistributedQueryStatus, report: Option<&Report>, outcome: &Outcome) {
    if let Some(report) = report {
        show(status, report);
    }
    if outcome.stages.len() >= status.stages.len() {
        let stages: Vec<StageStatus> = outcome.stages.iter().map(|stage| ended(stage, &status.stages)).collect();
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
    status.duration_ms = Some(outcome.duration_ms);
    status.rows = Some(outcome.rows);
    status.bytes_written = Some(outcome.bytes_written);
    status.bytes_shuffled = Some(outcome.bytes_shuffled);
    status.result_uri = outcome.sink_uri.clone();
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

/// A stage of a query that succeeded. What it reads is known from before, unless the query was planned again since.
fn ended(stage: &StageSummary, before: &[StageStatus]) -> StageStatus {
    let label = cut(&stage.label, MAX_LABEL_BYTES);
    let known = before.iter().find(|known| known.id == stage.id && known.label == label);
    StageStatus {
        id: stage.id,
        depends_on: known.and_then(|known| known.depends_on.clone()),
        label,
        state: StageState::Done,
        tasks_done: stage.tasks,
        tasks_total: stage.tasks,
        rows: stage.rows,
        bytes: stage.bytes,
        attempts: Some(stage.attempts),
        elapsed_ms: Some(stage.elapsed_ms),
    }
}

/// A list with some left out would draw a wrong graph: it is given whole or, when too many came before it, not at all.
fn depends_on(stage: &StageInfo, left: &mut usize) -> Option<Vec<u32>> {
    *left = left.checked_sub(stage.deps.len()).filter(|_| stage.deps.len() <= MAX_STAGES)?;
    Some(stage.deps.clone())
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
    use floe_api::report::StageProgress;

    #[test]
    fn a_status_fits_an_object_whatever_the_plan_is_like() {
        let long = "é".repeat(5000);
        let node = |stage| SingleWorkerStatus { stage, node: long.clone(), reason: long.clone() };
        let report = Report {
            stages: (0..3000)
                .map(|id| StageProgress {
                    id,
                    rows: u64::MAX,
                    bytes: u64::MAX,
                    state: StageState::Done,
                    attempts: u32::MAX,
                    elapsed_ms: u64::MAX,
                    ..Default::default()
                })
                .collect(),
            plan: Some(PlanReport {
                stages: (0..3000)
                    .map(|id| StageInfo {
                        id,
                        label: long.clone(),
                        tasks: Some(u32::MAX),
                        deps: (0..id).collect(),
                        ..StageInfo::default()
                    })
                    .collect(),
                single_worker: (0..300).map(node).collect(),
                warnings: vec![long.clone(); 300],
            }),
            ..Report::default()
        };
        let mut status = DistributedQueryStatus::default();
        show(&mut status, &report);
        assert_eq!((status.stages.len(), status.stages_total), (MAX_STAGES, Some(3000)));
        assert_eq!(status.stages_summary.as_deref(), Some("3000/3000"));
        assert_eq!(status.stages[100].depends_on.as_ref().map(Vec::len), Some(100));
        assert_eq!(status.stages[999].depends_on, None, "too many to list, and none is left out of a list");
        let bytes = serde_json::to_vec(&status).unwrap().len();
        assert!(bytes < 800_000, "an object holds some 1.5 MB, its spec included: {bytes}");
        let outcome = Outcome { fell_back: Some(long), ..Outcome::default() };
        show_outcome(&mut status, Some(&report), &outcome);
        assert_eq!(status.stages_summary.as_deref(), Some("3000/3000"));
        assert!(serde_json::to_vec(&status).unwrap().len() < 800_000);
        assert_eq!(status.warnings.len(), MAX_NOTES);
        assert!(status.warnings[0].starts_with("the stages failed"), "however many others there are");
    }

    #[test]
    fn stages_tell_what_they_read_and_how_they_went() {
        let progress = |id: u32, state: StageState, attempts: u32| StageProgress {
            id,
            state,
            attempts,
            elapsed_ms: 5,
            ..StageProgress::default()
        };
        let info = |id: u32, deps: &[u32]| StageInfo {
            id,
            label: format!("stage {id}"),
            deps: deps.to_vec(),
            ..StageInfo::default()
        };
        let plan = PlanReport { stages: vec![info(0, &[]), info(1, &[0]), info(2, &[0, 1])], ..PlanReport::default() };
        let stages = vec![
            progress(0, StageState::Done, 3),
            progress(1, StageState::Running, 1),
            progress(2, StageState::Waiting, 0),
        ];
        let report = Report { stages, plan: Some(plan), ..Report::default() };
        let told = |status: &DistributedQueryStatus| -> Vec<_> {
            let stages = status.stages.iter();
            stages.map(|stage| (stage.depends_on.clone(), stage.attempts, stage.elapsed_ms)).collect()
        };
        let mut status = DistributedQueryStatus::default();
        show(&mut status, &report);
        // The time of a stage that runs would be another in every status.
        let want = [(Some(vec![]), Some(3), Some(5)), (Some(vec![0]), Some(1), None), (Some(vec![0, 1]), None, None)];
        assert_eq!((told(&status), status.duration_ms), (want.to_vec(), None));

        let summary = |id: u32, label: &str| StageSummary {
            id,
            label: label.to_owned(),
            attempts: 4,
            elapsed_ms: 9,
            ..StageSummary::default()
        };
        // Planned again for one worker, which no report has told.
        let stages = vec![summary(0, "stage 0"), summary(1, "stage 1"), summary(2, "another")];
        let outcome = Outcome { duration_ms: 1234, stages, ..Outcome::default() };
        show_outcome(&mut status, Some(&report), &outcome);
        let want = [(Some(vec![]), Some(4), Some(9)), (Some(vec![0]), Some(4), Some(9)), (None, Some(4), Some(9))];
        assert_eq!((told(&status), status.duration_ms), (want.to_vec(), Some(1234)));
    }

    #[test]
    fn a_fall_back_to_one_worker_is_a_warning_with_its_reason() {
        let why = "ShapeError: zip node received unequal inputs";
        let outcome: Outcome = serde_json::from_value(serde_json::json!({
            "rows": 1, "fellBack": why, "warnings": ["zfill differs"],
        }))
        .unwrap();
        let mut status = DistributedQueryStatus::default();
        show_outcome(&mut status, None, &outcome);
        let fell_back = format!("the stages failed, and the query ran again on one worker: {why}");
        assert_eq!(status.warnings, [fell_back, "zfill differs".to_owned()]);
        let mut status = DistributedQueryStatus::default();
        show_outcome(&mut status, None, &Outcome { fell_back: None, ..outcome });
        assert_eq!(status.warnings, ["zfill differs"]);
    }
}
