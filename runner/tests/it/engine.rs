//! The engine as a library: warm workers, many queries.

use std::time::{Duration, Instant};

use floe_api::execution::Mode;
use floe_wire::error::Category;
use polars::prelude::*;

use crate::support::*;

#[test]
fn a_query_in_stages_gives_what_polars_gives() {
    let dir = tempfile::tempdir().unwrap();
    let glob = parquet(&dir.path().join("in"), 4, 100_000, 5_000);
    let expected = staged(scan(&glob)).collect().unwrap();
    runtime().block_on(async {
        let engine = floe_runner::coordinator::Engine::start(options(3, dir.path())).await.unwrap();
        let outcome = run(&engine, job("staged", &staged(scan(&glob)), Mode::Distributed)).await.unwrap();
        assert!(outcome.stages.len() >= 3, "{:?}", outcome.stages);
        assert_eq!(outcome.fell_back, None);
        assert!(frame(&outcome).await.equals_missing(&expected));
        drop(outcome);
        stop(engine).await;
    });
    eventually("processes", Duration::from_secs(5), || processes_of(dir.path()));
}

/// The aim is 20 ms over Polars alone on an idle machine; this bound leaves room for a busy one.
#[test]
fn warm_workers_answer_small_queries_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let plan = staged(small());
    let expected = plan.clone().collect().unwrap();
    runtime().block_on(async {
        let engine = floe_runner::coordinator::Engine::start(options(3, dir.path())).await.unwrap();
        assert_eq!(engine.wait_ready().await, 3);
        let mut times = Vec::new();
        for round in 0..40 {
            let began = Instant::now();
            let outcome = run(&engine, job(&format!("small-{round}"), &plan, Mode::Distributed)).await.unwrap();
            times.push(began.elapsed());
            assert!(frame(&outcome).await.equals_missing(&expected));
            assert!(outcome.stages.len() >= 3);
        }
        times.sort();
        let alone = Instant::now();
        plan.clone().collect().unwrap();
        println!("small query: median {:?}, Polars alone {:?}", times[20], alone.elapsed());
        assert!(times[20] < Duration::from_millis(400), "{times:?}");
        stop(engine).await;
    });
}

#[test]
fn many_queries_share_the_workers() {
    let dir = tempfile::tempdir().unwrap();
    let plan = staged(small());
    let expected = plan.clone().collect().unwrap();
    runtime().block_on(async {
        let engine = floe_runner::coordinator::Engine::start(options(3, dir.path())).await.unwrap();
        engine.wait_ready().await;
        let began = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for number in 0..100 {
            let (engine, job) = (engine.clone(), job(&format!("many-{number}"), &plan, Mode::Distributed));
            running.spawn(async move { frame(&run(&engine, job).await.unwrap()).await });
        }
        while let Some(result) = running.join_next().await {
            assert!(result.unwrap().equals_missing(&expected));
        }
        println!("100 queries at once: {:?}", began.elapsed());
        stop(engine).await;
    });
}

#[test]
fn a_user_error_is_the_one_of_polars() {
    let dir = tempfile::tempdir().unwrap();
    let plan = small().with_columns([col("v").cast(DataType::String).str().to_integer(lit(2), None, true)]);
    let plan = staged(plan.select([col("k"), col("v")]));
    let expected = plan.clone().collect().unwrap_err();
    runtime().block_on(async {
        let engine = floe_runner::coordinator::Engine::start(options(2, dir.path())).await.unwrap();
        let error = run(&engine, job("wrong", &plan, Mode::Distributed)).await.err().unwrap();
        assert_eq!(error.category, Category::User);
        assert_eq!(error.class, "ComputeError");
        assert!(expected.to_string().contains(error.message.lines().next().unwrap()), "{error} / {expected}");
        let fine = run(&engine, job("fine", &staged(small()), Mode::Distributed)).await.unwrap();
        assert!(fine.rows > 0, "the workers go on");
        stop(engine).await;
    });
}

#[test]
fn the_same_id_runs_once_at_a_time_and_odd_ids_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let engine = floe_runner::coordinator::Engine::start(options(1, dir.path())).await.unwrap();
        for id in ["", "../x", "a/b", ".x"] {
            let error = run(&engine, job(id, &small(), Mode::Auto)).await.err().unwrap();
            assert_eq!((error.category, error.class.as_str()), (Category::User, "BadSpec"), "{id}");
        }
        let twice = tokio::join!(
            run(&engine, job("same", &staged(small()), Mode::Distributed)),
            run(&engine, job("same", &staged(small()), Mode::Distributed)),
        );
        assert!(twice.0.is_ok() && twice.1.is_err());
        stop(engine).await;
    });
}
