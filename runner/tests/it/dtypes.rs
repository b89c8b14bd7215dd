//! Functions that are split over tasks, by input dtype: results have Polars' own type, and what Polars refuses is
//! refused.

use polars::prelude::*;
use polars_ops::frame::{AsOfOptions, AsofStrategy};

use super::stages::{check, distributed, explained, three_workers};
use floe_wire::graph::StageGraph;

const ROWS: i64 = 300;

fn of(dtype: DataType) -> LazyFrame {
    let x: Vec<Option<i64>> = (0..ROWS).map(|i| (i % 11 != 3).then_some(i * 37 % 23)).collect();
    df!("i" => (0..ROWS).collect::<Vec<_>>(), "x" => x).unwrap().lazy().with_columns([col("x").cast(dtype)])
}

fn split(name: &str, plan: &LazyFrame) -> StageGraph {
    let graph = check(name, plan, &three_workers(), true);
    assert!(graph.single_worker.is_empty(), "{name}: {:?}\n{}", graph.single_worker, explained(&graph));
    graph
}

#[test]
fn running_functions_in_the_type_that_polars_computes_in() {
    let numbers = [
        DataType::Int8,
        DataType::UInt8,
        DataType::Int16,
        DataType::UInt16,
        DataType::Int32,
        DataType::UInt32,
        DataType::Int64,
        DataType::UInt64,
        DataType::Int128,
        DataType::Float64,
    ];
    for dtype in &numbers {
        for reverse in [false, true] {
            for (name, column) in [
                ("sum", col("x").cum_sum(reverse)),
                ("product", (col("x") % lit(3)).cum_prod(reverse)),
                ("least", col("x").cum_min(reverse)),
                ("greatest", col("x").cum_max(reverse)),
                ("count", col("x").cum_count(reverse)),
            ] {
                split(&format!("{name} of {dtype}, {reverse}"), &of(dtype.clone()).with_columns([column.alias("r")]));
            }
        }
    }
    let least_of = [
        DataType::Date,
        DataType::Time,
        DataType::Datetime(TimeUnit::Milliseconds, None),
        DataType::Duration(TimeUnit::Nanoseconds),
        DataType::Float32,
        DataType::UInt128,
    ];
    for dtype in &least_of {
        let plan =
            of(dtype.clone()).with_columns([col("x").cum_min(true).alias("r"), col("x").cum_max(false).alias("s")]);
        split(&format!("least of {dtype}"), &plan);
    }
    split("sum of durations", &of(DataType::Duration(TimeUnit::Milliseconds)).select([col("x").cum_sum(false)]));
}

/// Polars computes everything on one node where tasks would use another type, or where a function is missing for it.
#[test]
fn running_functions_that_are_not_split() {
    let wide = of(DataType::UInt128).select([(col("x") + lit(1)).cum_prod(false)]);
    let graph = check("product of UInt128", &wide, &three_workers(), true);
    assert_eq!(graph.single_worker.len(), 1, "{}", explained(&graph));
    let refused = [
        (DataType::String, col("x").cum_sum(false)),
        (DataType::Date, col("x").cum_sum(false)),
        (DataType::Date, col("x").cum_prod(false)),
        (DataType::Datetime(TimeUnit::Microseconds, None), col("x").cum_prod(true)),
        (DataType::Duration(TimeUnit::Microseconds), col("x").cum_prod(false)),
        (DataType::Decimal(10, 2), col("x").cum_prod(false)),
        (DataType::Binary, col("x").cum_prod(false)),
        (DataType::String, col("x").cum_max(false)),
    ];
    for (dtype, column) in refused {
        // Numbers are cast to strings first, and those to binary.
        let plan = match dtype {
            DataType::Binary => of(DataType::String).with_columns([col("x").cast(DataType::Binary)]),
            ref dtype => of(dtype.clone()),
        };
        let plan = plan.select([column.clone()]);
        let alone = plan.clone().collect_with_engine(Engine::Streaming).map(drop).unwrap_err();
        let ir = floe_plan::optimize(plan.logical_plan).unwrap();
        let ours = distributed(ir, &three_workers()).map(drop).unwrap_err();
        assert_eq!(ours, floe_polars::polars_error(alone), "{column} of {dtype}");
    }
}

/// A count beyond 32 bits would be needed to see a failure; so check in the plan that counts are summed in 64 bits.
#[test]
fn running_counts_are_summed_in_64_bits() {
    let graph = split("count", &of(DataType::String).select([col("x").cum_count(false)]));
    let explain = graph.stages.iter().flat_map(|stage| stage.explain.iter()).cloned().collect::<Vec<_>>().join("\n");
    assert!(explain.contains("cast(UInt64)") || explain.contains("cast(u64)"), "{explain}");
    split("runs", &of(DataType::String).select([col("x").rle_id()]));
}

fn window(size: usize) -> RollingOptionsFixedWindow {
    RollingOptionsFixedWindow { window_size: size, min_periods: 1, ..Default::default() }
}

/// Rolling sums of floats carry the rounding errors of all earlier rows, so the result must be bit-identical to one
/// node's.
#[test]
fn windows_whose_rounding_goes_on_stay_together() {
    let n = 900i64;
    // Large values first, then zeros: the remainder of the first must not leak into the windows of the second.
    let f: Vec<f64> = (0..n).map(|i| if i < 200 { (i * 7919 % 101) as f64 * 0.1 + 1e3 } else { 0.0 }).collect();
    let rows = df!("i" => (0..n).collect::<Vec<_>>(), "f" => f, "n" => (0..n).map(|i| (i * 31 % 17) as i32).collect::<Vec<_>>());
    let rows = rows.unwrap().lazy();
    let by = || RollingGroupOptions {
        index_column: "i".into(),
        period: Duration::parse("50i"),
        offset: Duration::parse("-50i"),
        ..Default::default()
    };
    let dynamic = || DynamicGroupOptions {
        index_column: "i".into(),
        every: Duration::parse("10i"),
        period: Duration::parse("40i"),
        offset: Duration::parse("0i"),
        ..Default::default()
    };
    let inexact = [
        ("rolling sum", rows.clone().select([col("f").rolling_sum(window(50))])),
        ("rolling mean", rows.clone().select([col("f").rolling_mean(window(50))])),
        ("rolling deviation", rows.clone().select([col("f").rolling_std(window(50))])),
        ("rolling groups", rows.clone().rolling(col("i"), [], by()).agg([col("f").mean()])),
        ("overlapping groups", rows.clone().group_by_dynamic(col("i"), [], dynamic()).agg([col("f").sum()])),
    ];
    for (name, plan) in inexact {
        let alone = plan.clone().collect_with_engine(Engine::Streaming).unwrap().unwrap_single();
        let ir = floe_plan::optimize(plan.logical_plan).unwrap();
        let (ours, graph) = distributed(ir, &three_workers()).unwrap();
        assert!(ours.equals_missing(&alone), "{name}: {alone}\n{ours}");
        assert!(!graph.single_worker.is_empty(), "{name}");
    }
    for (name, plan) in [
        ("sum of whole numbers", rows.clone().select([col("n").rolling_sum(window(50))])),
        ("mean of whole numbers", rows.clone().select([col("n").rolling_mean(window(50))])),
        ("greatest", rows.clone().select([col("f").rolling_max(window(50))])),
        ("groups of whole numbers", rows.clone().rolling(col("i"), [], by()).agg([col("n").sum()])),
        (
            "apart",
            rows.group_by_dynamic(col("i"), [], DynamicGroupOptions { period: Duration::parse("10i"), ..dynamic() })
                .agg([col("f").sum()]),
        ),
    ] {
        split(name, &plan);
    }
}

/// Rows at the edge of a task, or of a batch of the engine, have peaks like all others.
#[test]
fn peaks_of_types_stored_as_numbers() {
    let fixed =
        DataType::from_frozen_categories(FrozenCategories::new((0..23).map(|i| i.to_string().leak() as &str)).unwrap());
    for dtype in [DataType::Date, DataType::Decimal(10, 2), DataType::Duration(TimeUnit::Microseconds)] {
        let plan = of(dtype.clone()).with_columns([col("x").peak_max().alias("p"), col("x").peak_min().alias("q")]);
        let alone = plan.clone().collect_with_engine(Engine::InMemory).unwrap().unwrap_single();
        let (ours, _) = distributed(floe_plan::optimize(plan.logical_plan).unwrap(), &three_workers()).unwrap();
        assert!(ours.equals_missing(&alone), "{dtype}: {alone}\n{ours}");
    }
    let texts = of(DataType::Int64).with_columns([col("x").cast(DataType::String)]);
    for dtype in [fixed, DataType::from_categories(Categories::global())] {
        let plan = texts.clone().select([col("x").cast(dtype.clone()).peak_max()]);
        let alone = plan.clone().collect_with_engine(Engine::InMemory).unwrap().unwrap_single();
        let (ours, _) = distributed(floe_plan::optimize(plan.logical_plan).unwrap(), &three_workers()).unwrap();
        assert!(ours.equals_missing(&alone), "{dtype}: {alone}\n{ours}");
    }
}

/// Polars checks that rows are sorted within their `by` keys, and nothing else.
#[test]
fn grouped_as_of_joins_refuse_what_polars_refuses() {
    let rows = |swap: Option<usize>| {
        let mut t: Vec<i64> = (0..ROWS).map(|i| i % 100).collect();
        if let Some(at) = swap {
            t.swap(at, at + 1);
        }
        df!("k" => (0..ROWS).map(|i| i / 100).collect::<Vec<_>>(), "t" => t, "v" => (0..ROWS).collect::<Vec<_>>())
            .unwrap()
            .lazy()
    };
    let join = |left: LazyFrame, right: LazyFrame| {
        let by = Some(vec![PlSmallStr::from_static("k")]);
        let options = AsOfOptions {
            strategy: AsofStrategy::Backward,
            left_by: by.clone(),
            right_by: by,
            check_sortedness: true,
            ..AsOfOptions::default()
        };
        left.join(right, [col("t")], [col("t")], JoinArgs::new(JoinType::AsOf(Box::new(options))))
    };
    let by_key = |frame: LazyFrame| frame.sort(["k"], SortMultipleOptions::default().with_maintain_order(true));
    let sorted = |frame: LazyFrame| frame.sort(["k", "t"], SortMultipleOptions::default());
    let by_hash = floe_planner::Options { broadcast_limit_bytes: 0, ..three_workers() };
    for options in [three_workers(), by_hash] {
        let split = [
            ("in order", join(by_key(rows(None)), by_key(rows(None)))),
            ("sorted", join(sorted(rows(Some(57))), sorted(rows(None)))),
            ("not known to be in order", join(rows(Some(57)), rows(Some(3)))),
            ("one side known", join(by_key(rows(Some(57))), rows(None))),
        ];
        for (name, plan) in split {
            let graph = check(name, &plan, &options, true);
            assert!(graph.single_worker.is_empty(), "{name}: {:?}\n{}", graph.single_worker, explained(&graph));
        }
        // At the edge of one of three tasks, at its beginning and inside.
        for at in [99, 98, 100, 57, 199, 200, 250] {
            for (left, right) in [(Some(at), None), (None, Some(at))] {
                let plan = join(by_key(rows(left)), by_key(rows(right)));
                let alone = plan.clone().collect_with_engine(Engine::Streaming).map(drop).unwrap_err();
                let ir = floe_plan::optimize(plan.logical_plan).unwrap();
                let ours = distributed(ir, &options).map(drop).unwrap_err();
                assert_eq!(ours, floe_polars::polars_error(alone), "{left:?} {right:?}");
            }
        }
    }
}
