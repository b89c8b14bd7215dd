//! Sinks as their users see them: number and size of files, and of the tasks and stages that write them.

use std::path::Path;

use floe_api::execution::Mode;
use floe_runner::coordinator::{Engine, Outcome};
use polars::prelude::*;
use serde_json::{Value, json};

use crate::support::*;

const ROWS: i64 = 400_000;

fn written(dir: &Path, id: &str, plan: &LazyFrame, sink: Value) -> Outcome {
    let mut job = job(id, plan, Mode::Distributed);
    // Split scans as for workers with almost no memory.
    job.spec.execution.scan_task_bytes = Some("64Ki".into());
    job.spec.sink = Some(serde_json::from_value(sink).unwrap());
    runtime().block_on(async {
        let engine = Engine::start(options(2, dir)).await.unwrap();
        let outcome = run(&engine, job).await.unwrap();
        assert_eq!(outcome.fell_back, None);
        stop(engine).await;
        outcome
    })
}

fn tasks(outcome: &Outcome) -> Vec<usize> {
    outcome.stages.iter().map(|stage| stage.tasks as usize).collect()
}

#[test]
fn files_have_the_requested_size_however_scans_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let plan = scan(&parquet(&dir.path().join("in"), 4, ROWS as usize / 4, 500));
    let all = plan.clone().collect().unwrap();
    let uri = |name: &str| format!("{}/{name}", dir.path().display());
    let back = |name: &str| scan(&uri(name)).collect().unwrap();

    let outcome = written(dir.path(), "large", &plan, json!({ "uri": uri("large/"), "format": "parquet" }));
    assert_eq!(tasks(&outcome), [2], "one for each worker");
    assert_eq!(outcome.sinks[0].files, 2);
    assert!(back("large/*.parquet").equals(&all), "names sort in the order of the rows");

    let sink = json!({ "uri": uri("small/"), "format": "ipc", "maxFileSize": "1Mi" });
    let outcome = written(dir.path(), "small", &plan, sink);
    let sizes: Vec<u64> =
        files_below(&dir.path().join("small")).iter().map(|path| path.metadata().unwrap().len()).collect();
    let total: u64 = sizes.iter().sum();
    assert_eq!(outcome.sinks[0].bytes, total);
    // Polars starts no new file before it has a batch of 122,880 rows.
    assert!(sizes.len() == 4 && sizes.iter().all(|size| *size < 5 << 20), "{sizes:?}");

    let sink = json!({ "uri": uri("one.parquet") });
    let outcome = written(dir.path(), "one", &plan, sink);
    assert_eq!(tasks(&outcome).last(), Some(&1), "one task writes");
    assert!(back("one.parquet").equals(&all));

    let some = plan.clone().filter((col("v") % lit(3)).eq(lit(0)));
    let outcome = written(dir.path(), "some", &some, json!({ "uri": uri("some.parquet") }));
    let tasks = tasks(&outcome);
    assert!(tasks.len() == 2 && tasks[1] == 1, "{tasks:?}");
    assert!(back("some.parquet").equals(&some.collect().unwrap()));
}

#[test]
fn files_are_filled_however_small_the_partitions_of_an_exchange_are() {
    let dir = tempfile::tempdir().unwrap();
    let input = scan(&parquet(&dir.path().join("in"), 4, 1_000_000, 4_000_000));
    let others = input.clone().select([col("k"), col("v").alias("w")]);
    let plan = input.select([col("k"), col("v")]).join(others, [col("k")], [col("k")], JoinArgs::new(JoinType::Inner));
    let mut job = job("files", &plan, Mode::Distributed);
    // Partitions of 8 MiB.
    job.spec.compute.memory = "64Mi".into();
    let uri = format!("{}/out/", dir.path().display());
    job.spec.sink = Some(serde_json::from_value(json!({ "uri": uri, "format": "parquet" })).unwrap());
    let outcome = runtime().block_on(async {
        let engine = Engine::start(options(2, dir.path())).await.unwrap();
        let outcome = run(&engine, job).await.unwrap();
        stop(engine).await;
        outcome
    });
    let tasks = tasks(&outcome);
    let [.., joins, writers] = tasks[..] else { panic!("{tasks:?}") };
    assert!(joins >= 8 && writers == 2, "{tasks:?}");
    assert_eq!((outcome.fell_back, outcome.sinks[0].files), (None, 2));
    let sorted = |frame: LazyFrame| frame.sort(["k"], SortMultipleOptions::default()).collect().unwrap();
    assert!(sorted(scan(&format!("{uri}*.parquet"))).equals(&sorted(plan)));
}

#[test]
fn partitions_come_in_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let plan = scan(&parquet(&dir.path().join("in"), 4, 20_000, 5));
    let uri = format!("{}/out/", dir.path().display());
    let sink = json!({ "uri": uri, "format": "parquet", "partitionBy": ["k"], "includeKeys": true });
    let outcome = written(dir.path(), "partitions", &plan, sink);
    assert_eq!((outcome.sinks[0].rows, outcome.sinks[0].files), (80_000, 10), "five keys, two tasks");
    let sorted = |frame: LazyFrame| frame.sort(["v"], SortMultipleOptions::default()).collect().unwrap();
    let back = scan(&format!("{uri}**/*.parquet")).select([col("k"), col("v"), col("s")]);
    assert!(sorted(back).equals(&sorted(plan)));
}
