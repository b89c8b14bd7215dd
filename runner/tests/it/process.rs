//! The coordinator as a process: events, exit codes, and no leftovers however it ends.

use std::path::Path;
use std::time::Duration;

use floe_api::execution::Mode;
use floe_api::job::Job;

use crate::support::*;

const SOON: Duration = Duration::from_secs(6);

fn with_sink(mut job: Job, dir: &Path) -> Job {
    let sink = serde_json::json!({ "uri": format!("{}/out/", dir.display()), "format": "parquet" });
    job.spec.sink = Some(serde_json::from_value(sink).unwrap());
    job
}

fn nothing_left(dir: &Path, scratch: &Path, pid: u32) {
    eventually("processes", SOON, || processes_of(scratch));
    eventually("scratch files", SOON, || files_below(scratch));
    eventually("scratch directories", SOON, || std::fs::read_dir(scratch).into_iter().flatten().collect());
    eventually("memory files", SOON, || memory_dirs_of(pid));
    eventually("files at the sink", SOON, || files_below(&dir.join("out")));
}

#[test]
fn a_job_runs_and_reports_events() {
    let dir = tempfile::tempdir().unwrap();
    let glob = parquet(&dir.path().join("in"), 2, 50_000, 500);
    let job = with_sink(job("told", &staged(scan(&glob)), Mode::Distributed), dir.path());
    let mut coordinator = Coordinator::start(dir.path(), &job, 2, &[]);
    let planned = coordinator.wait_for(|event| event["type"] == "planned");
    assert!(planned["stages"].as_array().unwrap().len() >= 3, "{planned}");
    let done = coordinator.wait_for(|event| event["type"] == "done" || event["type"] == "error");
    assert_eq!(done["outcome"]["rows"], 500, "{done}");
    assert!(done["outcome"]["files"].as_u64().unwrap() >= 1, "{done}");
    assert_eq!(coordinator.wait(), Some(0));
    assert!(!files_below(&dir.path().join("out")).is_empty());
    eventually("processes", SOON, || processes_of(&coordinator.scratch));
    eventually("scratch", SOON, || std::fs::read_dir(&coordinator.scratch).into_iter().flatten().collect());
}

#[test]
fn without_a_sink_the_first_rows_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(dir.path(), &job("shown", &small(), Mode::Auto), 1, &[]);
    let done = coordinator.wait_for(|event| event["type"] == "done" || event["type"] == "error");
    assert!(done["outcome"]["table"].as_str().unwrap().contains("shape: (200, 2)"), "{done}");
    assert_eq!(coordinator.wait(), Some(0));
}

#[test]
fn a_killed_coordinator_leaves_nothing() {
    for delay in [0, 300, 900] {
        let dir = tempfile::tempdir().unwrap();
        let glob = parquet(&dir.path().join("in"), 4, 800_000, 400_000);
        let job = with_sink(job("killed", &staged(scan(&glob)), Mode::Distributed), dir.path());
        let mut coordinator = Coordinator::start(dir.path(), &job, 3, &[]);
        coordinator.wait_running();
        std::thread::sleep(Duration::from_millis(delay));
        if coordinator.child.try_wait().unwrap().is_some() {
            continue;
        }
        let pid = coordinator.child.id();
        coordinator.signal(libc::SIGKILL);
        coordinator.wait();
        if files_below(&dir.path().join("out")).iter().any(|path| path.extension().is_some_and(|e| e == "parquet")) {
            continue; // It had committed before the signal arrived.
        }
        nothing_left(dir.path(), &coordinator.scratch, pid);
    }
}

#[test]
fn cancelling_stops_the_workers_and_says_so() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let dir = tempfile::tempdir().unwrap();
        let job = with_sink(job("cancelled", &endless(), Mode::Distributed), dir.path());
        let mut coordinator = Coordinator::start(dir.path(), &job, 2, &[]);
        coordinator.wait_running();
        let pid = coordinator.child.id();
        coordinator.signal(signal);
        let error = coordinator.wait_for(|event| event["type"] == "error");
        assert_eq!(error["category"], "Cancelled", "{error}");
        assert_eq!(coordinator.wait(), Some(130));
        nothing_left(dir.path(), &coordinator.scratch, pid);
    }
}

#[test]
fn a_closed_stdin_cancels() {
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(dir.path(), &job("closed", &endless(), Mode::Distributed), 2, &[]);
    coordinator.wait_running();
    coordinator.close_stdin();
    assert_eq!(coordinator.wait(), Some(130));
}

#[test]
fn the_deadline_ends_a_query() {
    let dir = tempfile::tempdir().unwrap();
    let mut job = job("late", &endless(), Mode::Distributed);
    job.spec.active_deadline_seconds = Some(2);
    let mut coordinator = Coordinator::start(dir.path(), &job, 2, &[]);
    let error = coordinator.wait_for(|event| event["type"] == "error");
    assert_eq!(error["category"], "Deadline", "{error}");
    assert_eq!(coordinator.wait(), Some(6));
    nothing_left(dir.path(), &coordinator.scratch, coordinator.child.id());
}

#[test]
fn an_invalid_job_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("job.json");
    std::fs::write(&file, "{\"id\": 5}").unwrap();
    let out = std::process::Command::new(RUNNER)
        .args(["coordinator", "--events", "stdout", "--job"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    let event: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((event["type"].as_str(), event["class"].as_str()), (Some("error"), Some("BadSpec")), "{event}");
}
