//! Queries that share workers by their memory: none fails for what another takes.

use std::path::Path;
use std::time::Duration;

use floe_api::execution::Mode;
use floe_runner::coordinator::{Engine, Options, Provider};
use floe_wire::error::Category;
use polars::prelude::*;

use crate::support::*;

fn limited(workers: usize, scratch: &Path, limit: u64, outputs: u64) -> Options {
    let mut options = options(workers, scratch);
    if let Provider::Local(local) = &mut options.provider {
        (local.memory_limit_bytes, local.shuffle_memory_bytes) = (Some(limit), Some(outputs));
    }
    // Results stay with the workers.
    options.remember.here_bytes = 0;
    options
}

/// Sorts this many pairs of rows, which have to be in memory together.
fn pairs(side: i64) -> LazyFrame {
    let of = |name: &str| df!(name => (0..side).collect::<Vec<_>>()).unwrap().lazy();
    let product = (col("a") * col("b")).sort(SortOptions::default());
    of("a").cross_join(of("b"), None).select([product])
}

#[test]
fn outputs_of_another_query_make_way_for_a_task() {
    let dir = tempfile::tempdir().unwrap();
    let rows = 6_000_000i64;
    let kept = df!("v" => (0..rows).collect::<Vec<_>>()).unwrap();
    std::fs::create_dir_all(dir.path().join("in")).unwrap();
    let file = std::fs::File::create(dir.path().join("in/0.parquet")).unwrap();
    ParquetWriter::new(file).finish(&mut kept.clone()).unwrap();
    let kept_plan = scan(&format!("{}/in/*.parquet", dir.path().display()));
    let kept_plan = kept_plan.with_columns([(col("v") * lit(3)).alias("w")]);
    runtime().block_on(async {
        let engine = Engine::start(limited(1, dir.path(), 256 << 20, 128 << 20)).await.unwrap();
        let first = run(&engine, job("first", &kept_plan, Mode::Distributed)).await.unwrap();
        assert_eq!(on_disk(dir.path()), 0, "the first query's result is in memory");
        // It fits the worker, but not beside that.
        let second = run(&engine, job("second", &pairs(3_200), Mode::Distributed)).await.unwrap();
        assert_eq!(second.fell_back, None);
        let attempts: u64 = second.stages.iter().map(|stage| u64::from(stage.attempts)).sum();
        println!("{attempts} attempts, {} MiB went to disk", on_disk(dir.path()) >> 20);
        assert!(on_disk(dir.path()) > 64 << 20, "the first query's result went to disk");
        // And is still there.
        let frame = frame(&first).await;
        assert_eq!(frame.height(), rows as usize);
        assert_eq!(frame.column("v").unwrap().i64().unwrap().get(1_234_567), Some(1_234_567));
        drop((first, second));
        stop(engine).await;
    });
}

#[test]
fn a_query_that_eats_memory_fails_no_small_one() {
    let dir = tempfile::tempdir().unwrap();
    let plan = staged(small());
    let expected = plan.clone().collect().unwrap();
    runtime().block_on(async {
        let engine = Engine::start(limited(2, dir.path(), 200 << 20, 25 << 20)).await.unwrap();
        engine.wait_ready().await;
        let eater = tokio::spawn({
            let (engine, job) = (engine.clone(), job("eater", &pairs(12_000), Mode::Distributed));
            async move { run(&engine, job).await }
        });
        let mut rounds = 0;
        while !eater.is_finished() || rounds < 5 {
            let small = run(&engine, job(&format!("small-{rounds}"), &plan, Mode::Distributed));
            let small = tokio::time::timeout(Duration::from_secs(60), small).await.expect("it is not held up");
            let outcome = small.unwrap_or_else(|error| panic!("round {rounds}: {error:?}"));
            assert_eq!(outcome.fell_back, None, "round {rounds}");
            assert!(frame(&outcome).await.equals_missing(&expected), "round {rounds}");
            rounds += 1;
        }
        let error = eater.await.unwrap().err().expect("it does not fit");
        assert_eq!(error.category, Category::OutOfMemory, "{error:?}");
        println!("{rounds} small queries beside it");
        stop(engine).await;
    });
}

/// Bytes of the engine's outputs that are on disk.
fn on_disk(scratch: &Path) -> u64 {
    let outputs = files_below(scratch).into_iter().filter(|file| file.extension().is_some_and(|end| end == "ipc"));
    outputs.map(|file| file.metadata().map_or(0, |data| data.len())).sum()
}
