//! Warnings of Polars inside a worker process reach the client.

use std::path::Path;

use floe_api::execution::{Mode, WarningPolicy};
use floe_api::job::Job;
use polars::prelude::*;
use polars_ops::frame::{AsOfOptions, AsofStrategy};

use crate::support::*;

/// Polars cannot check the order within groups, and warns each time it joins some.
fn unchecked() -> LazyFrame {
    let by = Some(vec![PlSmallStr::from_static("k")]);
    let options = AsOfOptions {
        strategy: AsofStrategy::Backward,
        left_by: by.clone(),
        right_by: by,
        check_sortedness: true,
        ..AsOfOptions::default()
    };
    let right = small().with_columns([(col("v") * lit(2)).alias("w")]);
    small().join(right, [col("v")], [col("v")], JoinArgs::new(JoinType::AsOf(Box::new(options))))
}

fn with_sink(mut job: Job, dir: &Path) -> Job {
    let sink = serde_json::json!({ "uri": format!("{}/out/", dir.display()), "format": "parquet" });
    job.spec.sink = Some(serde_json::from_value(sink).unwrap());
    job
}

#[test]
fn warnings_of_tasks_are_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(dir.path(), &job("warned", &unchecked(), Mode::Distributed), 3, &[]);
    let done = coordinator.wait_for(|event| event["type"] == "done" || event["type"] == "error");
    let warnings: Vec<&str> =
        done["outcome"]["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect();
    assert_eq!(warnings, ["Polars: Sortedness of columns cannot be checked when 'by' groups provided"], "{done}");
    assert!(done["outcome"].get("fellBack").is_none(), "{done}");
    let tasks = done["outcome"]["stages"].as_array().unwrap().iter().map(|stage| stage["tasks"].as_u64().unwrap());
    assert!(tasks.max() > Some(1), "{done}");
    assert_eq!(coordinator.wait(), Some(0));
}

#[test]
fn warnings_as_errors_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut job = with_sink(job("strict", &unchecked(), Mode::Distributed), dir.path());
    job.spec.execution.warnings = WarningPolicy::Fail;
    let mut coordinator = Coordinator::start(dir.path(), &job, 2, &[]);
    let ended = coordinator.wait_for(|event| event["type"] == "done" || event["type"] == "error");
    assert_eq!((ended["type"].as_str(), ended["class"].as_str()), (Some("error"), Some("WarningAsError")), "{ended}");
    assert_eq!(coordinator.wait(), Some(2));
    assert!(files_below(&dir.path().join("out")).is_empty());
}

/// Polars also warns while it plans what the user wrote.
#[test]
fn warnings_of_planning_are_reported() {
    let right = small().with_columns([(col("v") * lit(2)).alias("w")]);
    let how = JoinArgs { coalesce: JoinCoalesce::CoalesceColumns, ..JoinArgs::new(JoinType::Left) };
    let plan = small().join(right, [col("k") + lit(0)], [col("v")], how);
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(dir.path(), &job("planned", &plan, Mode::Auto), 1, &[]);
    let planned = coordinator.wait_for(|event| event["type"] == "planned" || event["type"] == "error");
    let warnings = planned["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("turning off key coalescing"), "{planned}");
    assert_eq!(coordinator.wait(), Some(0));
}
