//! Stages that fail where one node does not: the second run's rows are the user's, and everybody is told.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::execution::Mode;
use floe_api::{DslSource, PlanSource};

use crate::support::*;

/// Writes a plan with a function that fails the first time that a worker calls it, and never again. Single-node Polars,
/// which `floe verify` asks in its own process, sees no failure.
const FAILS_ONCE: &str = r#"
import sys
import polars as pl

failed = sys.argv[1]

def once(values):
    import os
    pid, at_worker = os.getpid(), False
    while pid > 1:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            at_worker |= b"worker" in line.read().split(b"\0")
        with open(f"/proc/{pid}/stat") as stat:
            pid = int(stat.read().rsplit(")", 1)[1].split()[1])
    if at_worker:
        try:
            os.mkdir(failed)
        except FileExistsError:
            return values
        raise ValueError("not the first time")
    return values

rows = pl.LazyFrame({"k": [i % 7 for i in range(1000)], "v": range(1000)})
called = rows.with_columns(pl.col("v").map_batches(once, return_dtype=pl.Int64, is_elementwise=True))
sys.stdout.buffer.write(called.group_by("k").agg(pl.col("v").sum()).sort("k").serialize())
"#;

/// The bytes of the plan, whose function fails until `failed` exists.
fn plan(python: &Path, failed: &Path) -> Vec<u8> {
    let mut child =
        Command::new(python).arg("-").arg(failed).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(FAILS_ONCE.as_bytes()).unwrap();
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    assert!(status.success() && !failed.exists());
    stdout
}

#[test]
fn rows_of_the_second_run_are_the_result_and_everybody_is_told() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let failed = dir.path().join("failed");
    let mut job = job("falls-back", &small(), Mode::Distributed);
    let dsl = DslSource { inline: Some(STANDARD.encode(plan(&python, &failed))), ..DslSource::default() };
    job.spec.plan = PlanSource { dsl: Some(dsl), ..PlanSource::default() };
    let mut coordinator =
        Coordinator::start(dir.path(), &job, 2, &[("FLOE_PYTHON", python.to_str().unwrap().to_owned())]);
    let done = coordinator.wait_for(|event| event["type"] == "done" || event["type"] == "error");
    assert!(failed.exists(), "the stages did not fail: {done}");
    let outcome = &done["outcome"];
    assert!(outcome["fellBack"].as_str().is_some_and(|why| why.contains("not the first time")), "{done}");
    assert_eq!((outcome["rows"].as_u64(), outcome["stages"].as_array().map(Vec::len)), (Some(7), Some(1)), "{done}");
    // The sums of 0, 7, 14 … 994 and of 6, 13 … 993.
    let table = outcome["table"].as_str().unwrap();
    assert!(table.contains("71071") && table.contains("70929"), "{table}");
    assert_eq!(coordinator.wait(), Some(0));
}

#[test]
fn verify_takes_a_fall_back_for_a_fault_unless_it_is_allowed() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let failed = dir.path().join("failed");
    let file = dir.path().join("falls-back.bin");
    std::fs::write(&file, plan(&python, &failed)).unwrap();
    let verify = |more: &[&str]| {
        let ran = Command::new(RUNNER)
            .args(["verify", "--workers", "2", "--jobs", "1"])
            .args(more)
            .arg(&file)
            .env("FLOE_PYTHON", &python)
            .output()
            .unwrap();
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let (code, said) = verify(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not the first time"), "{said}");
    std::fs::remove_dir(&failed).unwrap();
    let (code, said) = verify(&["--allow-fall-back"]);
    assert!(failed.exists(), "the stages did not fail: {said}");
    assert_eq!(code, Some(0), "{said}");
    // Once its first call is over, it is a plan like any other.
    assert_eq!(verify(&[]).0, Some(0));
}
