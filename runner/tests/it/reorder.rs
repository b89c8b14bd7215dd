//! Reordered joins give the same rows as joins in the written order.

use floe_api::execution::Mode;
use floe_runner::coordinator::Engine;
use polars::prelude::*;

use crate::support::*;

#[test]
fn the_rows_are_those_of_the_written_order() {
    let dir = tempfile::tempdir().unwrap();
    let numbers = |n: i64, of: fn(i64) -> i64| (0..n).map(of).collect::<Vec<_>>();
    let table = |name: &str, frame: PolarsResult<DataFrame>| {
        let path = dir.path().join(name);
        ParquetWriter::new(std::fs::File::create(&path).unwrap()).finish(&mut frame.unwrap()).unwrap();
        scan(path.to_str().unwrap())
    };
    let n = 20_000;
    let fact = df!["k" => numbers(n, |i| i), "g" => numbers(n, |i| i % 10), "v" => numbers(n, |i| i * 31 % 977)];
    let many = df!["g" => numbers(1000, |i| i % 10), "v" => numbers(1000, |i| i)];
    let few = df!["k" => numbers(40, |i| i * 500), "v" => numbers(40, |i| -i)];
    let inner = |suffix: &str| JoinArgs { suffix: Some(suffix.into()), ..JoinArgs::new(JoinType::Inner) };
    let joined = table("fact.parquet", fact)
        .join(table("many.parquet", many), [col("g")], [col("g")], inner("_many"))
        .join(table("few.parquet", few), [col("k")], [col("k")], inner("_few"));
    let ir = floe_plan::optimize(joined.clone().logical_plan).unwrap();
    let graph = floe_planner::plan(ir, &floe_planner::Options::default()).unwrap();
    assert!(
        graph.notes.iter().any(|note| note.contains("fact.parquet, few.parquet, many.parquet")),
        "{:?}",
        graph.notes
    );

    let sorted = joined.sort(["k", "v_many"], SortMultipleOptions::default());
    let expected = sorted.clone().collect().unwrap();
    assert_eq!(expected.shape(), (4000, 5));
    runtime().block_on(async {
        let engine = Engine::start(options(2, dir.path())).await.unwrap();
        for mode in [Mode::Distributed, Mode::SingleNode] {
            for reorder in [true, false] {
                let mut job = job(&format!("{mode:?}-{reorder}"), &sorted, mode);
                job.spec.execution.reorder_joins = reorder;
                let outcome = run(&engine, job).await.unwrap();
                assert!(frame(&outcome).await.equals_missing(&expected), "{mode:?} {reorder}");
            }
        }
        stop(engine).await;
    });
}

#[test]
fn semi_and_anti_joins_below_inner_ones_keep_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let table = |name: &str, frame: PolarsResult<DataFrame>| {
        let path = dir.path().join(name);
        ParquetWriter::new(std::fs::File::create(&path).unwrap()).finish(&mut frame.unwrap()).unwrap();
        scan(path.to_str().unwrap())
    };
    let n = 5_000i64;
    let maybe = |i: &i64| (i % 9 != 0).then_some(i % 40);
    let keys = |n: i64| (0..n).map(|i| i % 10).collect::<Vec<_>>();
    let values = |n: i64| (0..n).collect::<Vec<_>>();
    let some_of = |n: i64| values(n).iter().map(maybe).collect::<Vec<_>>();
    let fact = table("fact.parquet", df!["g" => keys(n), "k" => some_of(n), "v" => values(n)]);
    let many = table("many.parquet", df!["g" => keys(400), "l" => some_of(400), "w" => values(400)]);
    let some = table("some.parquet", df!["x" => [Some(3i64), Some(7), Some(7), None, Some(90)]]);
    for (how, on) in [(JoinType::Semi, "k"), (JoinType::Anti, "k"), (JoinType::Semi, "l"), (JoinType::Anti, "l")] {
        for nulls_equal in [false, true] {
            let args = JoinArgs { nulls_equal, ..JoinArgs::new(how.clone()) };
            let joined = fact.clone().join(many.clone(), [col("g")], [col("g")], JoinArgs::new(JoinType::Inner));
            let joined = joined.join(some.clone(), [col(on)], [col("x")], args);
            let ir = floe_plan::optimize(joined.clone().logical_plan).unwrap();
            let graph = floe_planner::plan(ir, &floe_planner::Options::default()).unwrap();
            assert!(graph.notes.iter().any(|note| note.contains("join is done on")), "{how:?} {on}: {:?}", graph.notes);
            let sorted = joined.sort(["v", "w"], SortMultipleOptions::default());
            let expected = sorted.clone().collect().unwrap();
            runtime().block_on(async {
                let engine = Engine::start(options(2, dir.path())).await.unwrap();
                let outcome = run(&engine, job("semis", &sorted, Mode::Distributed)).await.unwrap();
                assert!(frame(&outcome).await.equals_missing(&expected), "{how:?} {on} {nulls_equal}");
                stop(engine).await;
            });
        }
    }
}
