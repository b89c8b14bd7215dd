//! The JSON form of what a query tells, which other releases and other programs read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use floe_api::report::{
    Category, EngineReport, EngineWorker, Event, Outcome, PlanReport, Report, RunError, RunPhase, StageInfo,
    StageProgress, StageSummary, WorkerEvent, WorkerState,
};
use floe_api::{SingleWorkerStatus, StageState};
use serde_json::{Value, json};

fn single_worker() -> SingleWorkerStatus {
    SingleWorkerStatus { stage: 2, node: "SORT".into(), reason: "keeps order".into() }
}

fn plan() -> PlanReport {
    let info = |id, tasks, tasks_at_most| StageInfo {
        id,
        label: "scan t".into(),
        tasks,
        tasks_at_most,
        deps: vec![0],
        exchange: "hash(k) x 4".into(),
    };
    PlanReport {
        stages: vec![info(0, Some(8), 0), info(1, None, 4)],
        single_worker: vec![single_worker()],
        warnings: vec!["careful".into()],
    }
}

fn plan_json() -> Value {
    json!({
        "stages": [
            {"id": 0, "label": "scan t", "tasks": 8, "deps": [0], "exchange": "hash(k) x 4"},
            {"id": 1, "label": "scan t", "tasks": null, "tasksAtMost": 4, "deps": [0], "exchange": "hash(k) x 4"},
        ],
        "singleWorker": [{"stage": 2, "node": "SORT", "reason": "keeps order"}],
        "warnings": ["careful"],
    })
}

fn progress() -> StageProgress {
    StageProgress {
        id: 3,
        state: StageState::Running,
        tasks_done: 1,
        tasks_total: 2,
        attempts: 7,
        rows: 4,
        bytes: 5,
        elapsed_ms: 6,
    }
}

fn progress_json() -> Value {
    json!({"id": 3, "state": "running", "tasksDone": 1, "tasksTotal": 2, "attempts": 7, "rows": 4, "bytes": 5,
           "elapsedMs": 6})
}

fn outcome() -> Outcome {
    let stage = StageSummary { id: 0, label: "scan".into(), tasks: 2, attempts: 3, rows: 4, bytes: 5, elapsed_ms: 6 };
    Outcome {
        rows: 1,
        bytes_written: 2,
        bytes_shuffled: 3,
        duration_ms: 4,
        sink_uri: Some("out/".into()),
        files: 5,
        stages: vec![stage],
        table: Some("shape".into()),
        workers_free: true,
        fell_back: Some("why".into()),
        single_worker: vec![single_worker()],
        warnings: vec!["careful".into()],
    }
}

fn outcome_json() -> Value {
    json!({
        "rows": 1, "bytesWritten": 2, "bytesShuffled": 3, "durationMs": 4, "sinkUri": "out/", "files": 5,
        "stages": [{"id": 0, "label": "scan", "tasks": 2, "attempts": 3, "rows": 4, "bytes": 5, "elapsedMs": 6}],
        "table": "shape", "workersFree": true, "fellBack": "why",
        "singleWorker": [{"stage": 2, "node": "SORT", "reason": "keeps order"}],
        "warnings": ["careful"],
    })
}

fn error() -> RunError {
    RunError { category: Category::OutOfMemory, class: "OutOfMemory".into(), message: "m".into() }
}

fn tagged(tag: &str, mut value: Value) -> Value {
    value["type"] = tag.into();
    value
}

#[test]
fn events_have_their_form() {
    let error_json = json!({"category": "OutOfMemory", "class": "OutOfMemory", "message": "m"});
    let worker = |state| Event::Worker(WorkerEvent { id: "w0-1".into(), state });
    let events = [
        (Event::Planned(plan()), tagged("planned", plan_json())),
        (Event::Stage(progress()), tagged("stage", progress_json())),
        (worker(WorkerState::Up), json!({"type": "worker", "id": "w0-1", "state": "up"})),
        (worker(WorkerState::Draining), json!({"type": "worker", "id": "w0-1", "state": "draining"})),
        (worker(WorkerState::Lost), json!({"type": "worker", "id": "w0-1", "state": "lost"})),
        (Event::Done { outcome: Box::new(outcome()) }, json!({"type": "done", "outcome": outcome_json()})),
        (Event::Error(error()), tagged("error", error_json)),
    ];
    for (event, form) in events {
        assert_eq!(serde_json::to_value(&event).unwrap(), form);
        assert_eq!(serde_json::from_value::<Event>(form).unwrap(), event);
    }
}

fn engine() -> EngineReport {
    let worker = EngineWorker {
        id: "w".into(),
        tasks: 1,
        memory_bytes: 2,
        memory_limit_bytes: 3,
        shuffle_bytes: 4,
        draining: true,
        drained: false,
    };
    EngineReport { queries_running: 1, queries_waiting: 2, tasks_waiting: 3, results: 4, workers: vec![worker] }
}

fn engine_json() -> Value {
    json!({
        "queriesRunning": 1, "queriesWaiting": 2, "tasksWaiting": 3, "results": 4,
        "workers": [{"id": "w", "tasks": 1, "memoryBytes": 2, "memoryLimitBytes": 3, "shuffleBytes": 4, "draining": true,
                     "drained": false}],
    })
}

#[test]
fn the_engine_has_its_form() {
    assert_eq!(serde_json::to_value(engine()).unwrap(), engine_json());
    assert_eq!(serde_json::from_value::<EngineReport>(engine_json()).unwrap(), engine());
    assert_eq!(serde_json::from_value::<EngineReport>(json!({"newer": 1})).unwrap(), EngineReport::default());
}

#[test]
fn the_status_has_its_form() {
    let report = Report {
        id: "i".into(),
        name: "n".into(),
        attempt: 3,
        phase: RunPhase::Committing,
        ahead: Some(2),
        stages: vec![progress()],
        plan: Some(plan()),
        workers: vec!["w".into()],
        engine: Some(engine()),
        outcome: Some(outcome()),
        error: Some(error()),
    };
    let form = json!({
        "id": "i", "name": "n", "attempt": 3, "phase": "Committing", "ahead": 2, "stages": [progress_json()], "plan": plan_json(),
        "workers": ["w"], "engine": engine_json(), "outcome": outcome_json(),
        "error": {"category": "OutOfMemory", "class": "OutOfMemory", "message": "m"},
    });
    assert_eq!(serde_json::to_value(&report).unwrap(), form);
    assert_eq!(serde_json::from_value::<Report>(form).unwrap(), report);
    let early = json!({"id": "", "name": "", "phase": "Planning", "stages": [], "workers": []});
    assert_eq!(serde_json::to_value(Report::default()).unwrap(), early);
    for (phase, word) in [
        (RunPhase::Waiting, "Waiting"),
        (RunPhase::Planning, "Planning"),
        (RunPhase::Running, "Running"),
        (RunPhase::Committing, "Committing"),
        (RunPhase::Succeeded, "Succeeded"),
        (RunPhase::Failed, "Failed"),
        (RunPhase::Cancelled, "Cancelled"),
    ] {
        assert_eq!(serde_json::to_value(phase).unwrap(), word);
    }
}

#[test]
fn optional_parts_are_left_out() {
    let form = json!({
        "rows": 0, "bytesWritten": 0, "bytesShuffled": 0, "durationMs": 0, "files": 0, "stages": [],
        "singleWorker": [], "warnings": [],
    });
    assert_eq!(serde_json::to_value(Outcome::default()).unwrap(), form);
}

#[test]
fn what_another_release_says_is_read_as_far_as_it_is_known() {
    let more = json!({"phase": "Running", "stages": [{"id": 1, "state": "paused", "new": 1}], "new": {}});
    let report: Report = serde_json::from_value(more).unwrap();
    assert_eq!((report.phase, report.stages[0].state), (RunPhase::Running, StageState::Waiting));
    let less: Event = serde_json::from_value(json!({"type": "done", "outcome": {"rows": 5}})).unwrap();
    assert_eq!(less, Event::Done { outcome: Box::new(Outcome { rows: 5, ..Outcome::default() }) });
    let error: RunError = serde_json::from_value(json!({"category": "Novel"})).unwrap();
    assert_eq!(error, RunError { category: Category::Internal, ..RunError::default() });
}

#[test]
fn categories_are_read_by_their_names_and_by_the_words_that_people_see() {
    let names = ["User", "Io", "LostWorker", "OutOfMemory", "Deadline", "Cancelled", "Internal"];
    let codes = [2, 3, 4, 5, 6, 130, 70];
    for ((category, name), code) in Category::ALL.into_iter().zip(names).zip(codes) {
        assert_eq!(serde_json::to_value(category).unwrap(), name);
        assert_eq!(serde_json::from_value::<Category>(json!(name)).unwrap(), category);
        assert_eq!(serde_json::from_value::<Category>(json!(category.as_str())).unwrap(), category);
        assert_eq!(category.exit_code(), code);
    }
}
