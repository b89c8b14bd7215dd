//! Kills workers at any time, and checks what they leave behind.

use std::time::Duration;

use floe_api::execution::Mode;
use floe_runner::coordinator::Engine;
use floe_wire::error::Category;
use polars::prelude::*;

use crate::support::*;

/// Kills workers at times spread over the duration of the query.
#[test]
fn a_killed_worker_changes_nothing_of_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let glob = parquet(&dir.path().join("in"), 6, 400_000, 100_000);
    let plan = staged(scan(&glob));
    let expected = plan.clone().collect().unwrap();
    runtime().block_on(async {
        let engine = Engine::start(options(3, dir.path())).await.unwrap();
        engine.wait_ready().await;
        let began = std::time::Instant::now();
        run(&engine, job("whole", &plan, Mode::Distributed)).await.unwrap();
        let whole = began.elapsed();
        let mut right = 0;
        for round in 0..8u32 {
            let id = format!("killed-{round}");
            let running = tokio::spawn({
                let (engine, job) = (engine.clone(), job(&id, &plan, Mode::Distributed));
                async move { run(&engine, job).await }
            });
            tokio::time::sleep(whole * (round + 1) / 10).await;
            let victim = engine.worker_processes().into_values().min().expect("a worker");
            kill(victim, libc::SIGKILL);
            let outcome = running.await.unwrap().unwrap_or_else(|error| panic!("round {round}: {error:?}"));
            assert_eq!(outcome.fell_back, None, "round {round}");
            let handle = outcome.result.clone().expect("a result");
            match tokio::task::spawn_blocking(move || handle.read()).await.unwrap() {
                Ok(result) => {
                    assert!(result.equals_missing(&expected), "round {round}");
                    right += 1;
                }
                // The query had finished when its worker died: a result without a sink is stored on the workers.
                Err(error) => assert_eq!(error.class, "LostOutput", "round {round}: {error}"),
            }
        }
        assert!(right >= 3, "{right} of 8 rounds killed a worker before the end");
        assert_eq!(engine.wait_ready().await, 3, "lost workers are replaced");
        stop(engine).await;
    });
    eventually("processes", Duration::from_secs(5), || processes_of(dir.path()));
}

/// A worker that had no CPU for long finds itself given up and ends. What the others hold must stay.
#[test]
fn a_worker_that_was_silent_takes_nothing_with_it_but_its_own() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let engine = Engine::start(options(2, dir.path())).await.unwrap();
        engine.wait_ready().await;
        let shared = std::fs::read_dir(dir.path()).unwrap().flatten().next().expect("a directory of the engine").path();
        std::fs::write(shared.join("of-others"), "").unwrap();
        let workers = engine.worker_processes();
        let silent = workers.keys().min().unwrap().clone();
        kill(workers[&silent], libc::SIGSTOP);
        tokio::time::sleep(Duration::from_secs(11)).await;
        kill(workers[&silent], libc::SIGCONT);
        let ends = std::time::Instant::now();
        while engine.worker_processes().contains_key(&silent) {
            assert!(ends.elapsed() < Duration::from_secs(30), "it goes on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(shared.join("of-others").exists(), "it removed what others use");
        assert_eq!(engine.wait_ready().await, 2, "it is replaced");
        stop(engine).await;
    });
    eventually("processes", Duration::from_secs(5), || processes_of(dir.path()));
}

#[test]
fn a_broadcast_that_turns_out_too_large_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let glob = parquet(&dir.path().join("in"), 4, 100_000, 5_000);
    // All pairs of the rows of a small frame: no statistics predict their number.
    let few = df!["x" => (0..2_500i64).collect::<Vec<_>>(), "g" => vec![1i64; 2_500]].unwrap().lazy();
    let pairs = few.clone().join(few, [col("g")], [col("g")], JoinArgs::new(JoinType::Inner));
    let pairs = pairs.select([(col("x") + col("x_right") * lit(10_000_000i64)).alias("k")]);
    let plan = scan(&glob).join(pairs, [col("k")], [col("k")], JoinArgs::new(JoinType::Inner)).select([len()]);
    let expected = plan.clone().collect().unwrap();
    runtime().block_on(async {
        let engine = Engine::start(options(2, dir.path())).await.unwrap();
        let mut job = job("taken-back", &plan, Mode::Distributed);
        job.spec.compute.memory = floe_api::quantity::Quantity::new("64Mi");
        let outcome = run(&engine, job).await.unwrap();
        let warned = outcome.warnings.iter().filter(|warning| warning.contains("broadcasts were taken back"));
        assert_eq!(warned.count(), 1, "{:?}", outcome.warnings);
        assert_eq!(outcome.fell_back, None);
        assert!(frame(&outcome).await.equals_missing(&expected));
        stop(engine).await;
    });
}

#[test]
fn a_query_that_kills_every_worker_fails_by_name() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let engine = Engine::start(options(2, dir.path())).await.unwrap();
        engine.wait_ready().await;
        let running = tokio::spawn({
            let (engine, job) = (engine.clone(), job("deadly", &endless(), Mode::Distributed));
            async move { run(&engine, job).await }
        });
        let killer = tokio::spawn({
            let engine = engine.clone();
            async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    for pid in engine.worker_processes().into_values() {
                        let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
                    }
                }
            }
        });
        let error = running.await.unwrap().err().expect("it cannot succeed");
        killer.abort();
        assert_eq!(error.category, Category::LostWorker, "{error:?}");
        stop(engine).await;
    });
}

#[test]
fn out_of_memory_is_reported_and_the_engine_goes_on() {
    use polars::prelude::{IntoLazy, SortOptions, col, df};
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(2, dir.path());
    if let floe_runner::coordinator::Provider::Local(local) = &mut options.provider {
        local.memory_limit_bytes = Some(200 << 20);
    }
    let side = |name: &str| df!(name => (0..12_000i64).collect::<Vec<_>>()).unwrap().lazy();
    // 144 million pairs that must be in memory at the same time.
    let huge = side("a").cross_join(side("b"), None).select([(col("a") * col("b")).sort(SortOptions::default())]);
    runtime().block_on(async {
        let engine = Engine::start(options).await.unwrap();
        let error = run(&engine, job("huge", &huge, Mode::Distributed)).await.err().expect("it does not fit");
        assert_eq!(error.category, Category::OutOfMemory, "{error:?}");
        let fine = run(&engine, job("fine", &staged(small()), Mode::Distributed)).await.unwrap();
        assert!(fine.rows > 0);
        stop(engine).await;
    });
}

/// A shuffle without a seed gives another order each time: partitions made from two runs would not match.
#[test]
fn random_orders_come_from_one_run() {
    use polars::prelude::{DataType, IntoLazy, SortMultipleOptions, SortOptions, col, df, lit};
    let dir = tempfile::tempdir().unwrap();
    let rows = 900_000i64;
    let numbers = df!("k" => (0..rows).collect::<Vec<_>>()).unwrap().lazy();
    let slow = (0..60).fold(col("r"), |e, step| (e * lit(31) + lit(step)) % lit(1_000_003));
    let plan = numbers
        .with_columns([col("k").shuffle(None).alias("r")])
        .group_by([col("k")])
        .agg([col("r").sum().cast(DataType::Int64)])
        .with_columns([slow.alias("slow")])
        .select([col("k"), col("r"), col("slow").sort(SortOptions::default()).over([col("k")]).unwrap()])
        .sort(["r"], SortMultipleOptions::default());
    runtime().block_on(async {
        let engine = Engine::start(options(3, dir.path())).await.unwrap();
        engine.wait_ready().await;
        let chance = |id: &str| {
            let mut job = job(id, &plan, Mode::Distributed);
            job.spec.execution.partitions_per_worker = Some(8);
            job
        };
        let began = std::time::Instant::now();
        run(&engine, chance("whole")).await.unwrap();
        let whole = began.elapsed();
        let mut again = 0;
        for round in 0..6u32 {
            let running = tokio::spawn({
                let (engine, job) = (engine.clone(), chance(&format!("chance-{round}")));
                async move { run(&engine, job).await }
            });
            tokio::time::sleep(whole * (round + 3) / 10).await;
            let mut workers: Vec<i32> = engine.worker_processes().into_values().collect();
            workers.sort_unstable();
            kill(workers[round as usize % workers.len()], libc::SIGKILL);
            let outcome = running.await.unwrap().unwrap_or_else(|error| panic!("round {round}: {error:?}"));
            assert_eq!(outcome.fell_back, None, "round {round}");
            again += u32::from(outcome.stages.iter().any(|stage| stage.attempts > stage.tasks));
            let handle = outcome.result.clone().expect("a result");
            match tokio::task::spawn_blocking(move || handle.read()).await.unwrap() {
                Ok(result) => {
                    let numbers = result.column("r").unwrap().i64().unwrap().clone();
                    let right = numbers.into_no_null_iter().eq(0..rows);
                    assert!(right, "round {round}: some numbers are drawn twice and others never");
                }
                Err(error) => assert_eq!(error.class, "LostOutput", "round {round}: {error}"),
            }
        }
        assert!(again >= 2, "{again} of 6 rounds lost something");
        stop(engine).await;
    });
}
