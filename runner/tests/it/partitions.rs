//! Where Polars' own nodes look at all rows, partitions must give the same results as Polars over all rows, empty
//! partitions included.

use floe_api::execution::Mode;
use floe_api::quantity::Quantity;
use floe_runner::coordinator::Engine;
use polars::prelude::*;

use crate::support::*;

/// A broadcast limit of 0: both sides are shuffled by hash.
const BY_HASH: &str = "0";

/// Results of single-node Polars and of three workers, in any row order.
fn both(plan: LazyFrame, broadcast_limit: &str) -> (Result<DataFrame, String>, Result<DataFrame, String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut job = job("partitions", &plan, Mode::Distributed);
    job.spec.execution.broadcast_limit = Quantity::new(broadcast_limit);
    let sorted = |frame: DataFrame| frame.sort(["k"], SortMultipleOptions::default()).unwrap();
    let distributed = runtime().block_on(async {
        let engine = Engine::start(options(3, dir.path())).await.unwrap();
        let result = match run(&engine, job).await {
            Ok(outcome) => {
                assert_eq!(outcome.fell_back, None);
                Ok(sorted(frame(&outcome).await))
            }
            Err(error) => Err(error.to_string()),
        };
        stop(engine).await;
        result
    });
    (plan.collect().map(sorted).map_err(|e| e.to_string()), distributed)
}

/// Polars' inner join by several keys would skip the uniqueness check in a partition that has rows on one side only.
#[test]
fn keys_that_must_be_unique_are_checked_in_every_partition() {
    let left = df!("k" => [0i64, 2], "s" => ["b", "c"]).unwrap().lazy();
    let twice = df!("k" => [1i64, 1, 2], "s" => ["huge", "huge", "c"]).unwrap().lazy();
    let once = df!("k" => [1i64, 0, 2], "s" => ["huge", "huge", "c"]).unwrap().lazy();
    let join = |right: LazyFrame| {
        let builder = left.clone().join_builder().with(right).on([col("k"), col("s")]);
        builder.how(JoinType::Inner).validate(JoinValidation::ManyToOne).finish()
    };
    let (alone, distributed) = both(join(twice), BY_HASH);
    let (alone, distributed) = (alone.unwrap_err(), distributed.unwrap_err());
    assert!(alone.contains("did not fulfill m:1 validation"), "{alone}");
    assert!(distributed.contains("did not fulfill m:1 validation"), "{distributed}");

    let (alone, distributed) = both(join(once), BY_HASH);
    let alone = alone.unwrap();
    assert_eq!(alone.height(), 1);
    assert!(alone.equals_missing(&distributed.unwrap()));
}

/// Polars repeats structs with nulls only on the side that its cross join holds in memory.
#[test]
fn cross_joins_repeat_structs_with_nulls() {
    let rows = df!("k" => (0..10i64).collect::<Vec<_>>()).unwrap().lazy();
    let structs = df!("v" => [Some(-6i64), None, Some(1)])
        .unwrap()
        .lazy()
        .select([when(col("v").is_null()).then(lit(NULL)).otherwise(as_struct(vec![col("v")])).alias("s")]);
    let structs = structs.collect().unwrap().lazy();
    for plan in [rows.clone().cross_join(structs.clone(), None), structs.cross_join(rows, None)] {
        let (_, distributed) = both(plan, "1Mi");
        let distributed = distributed.unwrap();
        assert_eq!(distributed.height(), 30);
        assert_eq!(distributed.column("s").unwrap().null_count(), 10);
    }
}

/// Without rows, Polars makes windows without the columns of their bounds.
#[test]
fn windows_by_key_have_their_bounds_where_a_partition_has_no_rows() {
    let rows = df!("k" => [1i64, 1, 1], "t" => [0i64, 3, 7], "v" => [1i64, 2, 3]).unwrap().lazy();
    let options = DynamicGroupOptions {
        every: Duration::parse("5i"),
        period: Duration::parse("5i"),
        offset: Duration::parse("0i"),
        include_boundaries: true,
        ..Default::default()
    };
    let windows = rows.group_by_dynamic(col("t"), [col("k")], options).agg([col("v").sum()]);
    let (alone, distributed) = both(windows, BY_HASH);
    let (alone, distributed) = (alone.unwrap(), distributed.unwrap());
    assert_eq!((alone.height(), alone.width()), (2, 5));
    assert_eq!(alone, distributed);
}
