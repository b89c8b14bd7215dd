//! Nodes that look at other rows than their own, on several tasks: the same results as on one, and no node on one
//! worker.

use polars::prelude::*;
use polars_ops::frame::{AsOfOptions, AsofStrategy};

use super::stages::{check, explained, three_workers};
use floe_wire::graph::StageGraph;

fn rows() -> LazyFrame {
    let n = 1000i64;
    df!(
        "g" => (0..n).map(|i| i * 7 % 11).collect::<Vec<_>>(),
        "t" => (0..n).map(|i| i / 3 * 2).collect::<Vec<_>>(),
        "x" => (0..n).map(|i| (i % 5 != 0).then_some(i * 7919 % 101)).collect::<Vec<_>>(),
        "f" => (0..n).map(|i| (i * 31 % 17) as f64).collect::<Vec<_>>()
    )
    .unwrap()
    .lazy()
}

/// Rows that leave some tasks empty.
fn gaps() -> LazyFrame {
    rows().filter(col("t").lt(lit(90)).or(col("t").gt(lit(600))))
}

fn distributed(name: &str, plan: &LazyFrame) -> StageGraph {
    let graph = check(name, plan, &three_workers(), true);
    assert!(graph.single_worker.is_empty(), "{name}: {:?}\n{}", graph.single_worker, explained(&graph));
    graph
}

fn rolling(size: usize, center: bool) -> RollingOptionsFixedWindow {
    RollingOptionsFixedWindow { window_size: size, min_periods: 1, center, ..Default::default() }
}

#[test]
fn columns_that_take_rows_of_other_tasks() {
    let columns = [
        ("shift", col("x").shift(lit(3))),
        ("shift up", col("x").shift(lit(-400))),
        ("shift far", col("x").shift(lit(500))),
        ("shift and fill", col("x").shift_and_fill(lit(2), lit(-1i64))),
        ("diff", col("x").diff(lit(1), Default::default())),
        ("rolling sum", col("x").rolling_sum(rolling(7, false))),
        ("rolling centre", col("f").rolling_min(rolling(8, true))),
        ("rolling mean", col("f").cast(DataType::Int32).rolling_mean(rolling(7, false))),
        ("rolling max", col("f").rolling_max(rolling(600, false))),
        ("running sum", col("x").cum_sum(false)),
        ("running sum from below", col("x").cum_sum(true)),
        ("running count", col("x").cum_count(false)),
        ("running greatest", col("x").cum_max(false)),
        ("running least", col("x").cum_min(true)),
        ("fill from above", col("x").fill_null_with_strategy(FillNullStrategy::Forward(None))),
        ("fill from below", col("x").fill_null_with_strategy(FillNullStrategy::Backward(None))),
        ("fill a little", col("x").fill_null_with_strategy(FillNullStrategy::Forward(Some(1)))),
        ("run", (col("x") / lit(40)).rle_id()),
        ("run of nulls", when(col("t").lt(lit(300))).then(lit(NULL)).otherwise(col("f")).rle_id() * lit(2)),
        ("is unique", (col("x") * col("f")).is_unique()),
        ("is duplicated", col("f").is_duplicated()),
        ("is first", col("x").is_first_distinct()),
        ("is last", (col("x") + lit(1)).is_last_distinct()),
        ("row numbers", int_range(lit(0), len(), 1, DataType::Int64)),
        ("over what was computed", (col("f") - col("f").mean()).cum_sum(false) / col("f").sum()),
    ];
    for (name, column) in columns {
        distributed(name, &rows().with_columns([column.clone().alias("new")]));
        distributed(name, &gaps().select([col("t"), column.alias("new")]));
    }
    let several = [
        col("x").shift(lit(1)).alias("a"),
        col("x").cum_sum(false).alias("b"),
        (col("x") - col("x").mean().over([col("g")]).unwrap()).alias("c"),
        col("x").max().alias("d"),
    ];
    distributed("several ways", &rows().with_columns(several));
    let one = rows().filter(col("t").lt(lit(200))).slice(3, 50);
    check("one task", &one.select([col("x").is_unique().sum()]), &three_workers(), true);
    distributed("filter", &rows().filter(col("x").shift(lit(1)).gt(col("x").mean())));
}

#[test]
fn windows_that_are_none_and_keys_that_are_more_than_columns() {
    let constant = rows().with_columns([col("x").sum().over([lit(1)]).unwrap().alias("s")]);
    distributed("one group", &constant);
    distributed(
        "a constant among the keys",
        &rows().with_columns([col("x").sum().over([col("g"), lit(1)]).unwrap().alias("s")]),
    );
    distributed("row by row", &rows().with_columns([(col("x") + lit(1)).over([col("g")]).unwrap().alias("s")]));
    let keys = rows().group_by_stable([col("x").gt(col("x").mean()).alias("k")]).agg([col("f").sum(), len()]);
    distributed("keys beside an aggregate", &keys);
    let sorted = rows().sort_by_exprs(
        [col("f").sum().over([col("g")]).unwrap(), col("t")],
        SortMultipleOptions::default().with_maintain_order(true),
    );
    distributed("sorted by a window", &sorted);
}

#[test]
fn values_of_all_rows_in_order() {
    for plan in [rows(), gaps()] {
        let values = [
            col("x").first(),
            col("f").last(),
            col("t").index_of(lit(640i64)).alias("i"),
            col("g").first_non_null().alias("n"),
        ];
        distributed("first and last", &plan.select(values));
    }
}

fn windows(every: &str, period: &str) -> DynamicGroupOptions {
    DynamicGroupOptions {
        index_column: "t".into(),
        every: Duration::parse(every),
        period: Duration::parse(period),
        offset: Duration::parse("0i"),
        ..Default::default()
    }
}

/// Days in this time zone have 23 to 25 hours.
#[test]
fn windows_by_the_clock_of_a_zone() {
    let zone = TimeZone::opt_try_new(Some("America/Chicago")).unwrap();
    let zoned = |step: i64| {
        let moment = DataType::Datetime(TimeUnit::Milliseconds, zone.clone());
        rows().with_columns([(col("t") * lit(step)).cast(moment)])
    };
    let all = [
        ("1w", "1w", "0ns", StartBy::Friday, Label::Left),
        ("1d", "3d", "0ns", StartBy::WindowBound, Label::DataPoint),
        ("31m", "31m", "0ns", StartBy::DataPoint, Label::DataPoint),
        ("31m", "2h", "0ns", StartBy::WindowBound, Label::Right),
        ("1mo", "2mo", "-1mo", StartBy::WindowBound, Label::Left),
    ];
    for (every, period, offset, start_by, label) in all {
        let offset = Duration::parse(offset);
        let options =
            || DynamicGroupOptions { offset, start_by, label, include_boundaries: true, ..windows(every, period) };
        for step in [13 * 3_600_000, 60_000, 40 * 86_400_000] {
            let name = format!("every {every}, {period}, steps of {step}");
            let plan = zoned(step).group_by_dynamic(col("t"), [], options()).agg([col("x").sum(), len()]);
            distributed(&name, &plan);
        }
    }
    let options =
        DynamicGroupOptions { offset: Duration::parse("0ns"), start_by: StartBy::DataPoint, ..windows("1d2h", "1d2h") };
    let mixed = zoned(13 * 3_600_000).group_by_dynamic(col("t"), [], options).agg([len()]);
    let graph = check("days and hours", &mixed, &three_workers(), true);
    assert_eq!(graph.single_worker.len(), 1, "{}", explained(&graph));
}

#[test]
fn windows_over_an_index() {
    let mean = col("f").cast(DataType::Int32).mean().alias("m");
    let aggs = || [col("x").sum(), mean.clone(), col("x").first().alias("first"), len().alias("n")];
    for (every, period) in [("10i", "10i"), ("10i", "35i"), ("50i", "20i")] {
        let plan = rows().group_by_dynamic(col("t"), [], windows(every, period)).agg(aggs());
        distributed(&format!("every {every}, {period}"), &plan);
        let plan = gaps().group_by_dynamic(col("t"), [], windows(every, period)).agg([col("f").median(), col("x")]);
        distributed(&format!("whole windows of {every}, {period}"), &plan);
        let plan = rows().group_by_dynamic(col("t"), [col("g")], windows(every, period)).agg(aggs());
        distributed(&format!("by key, every {every}, {period}"), &plan);
    }
    for (offset, period) in [("-9i", "9i"), ("0i", "9i"), ("-3i", "9i"), ("4i", "2i"), ("-900i", "100i")] {
        let options = RollingGroupOptions {
            index_column: "t".into(),
            period: Duration::parse(period),
            offset: Duration::parse(offset),
            closed_window: ClosedWindow::Right,
        };
        let plan = gaps().rolling(col("t"), [], options.clone()).agg(aggs());
        distributed(&format!("rolling {period} at {offset}"), &plan);
        let plan = rows().rolling(col("t"), [col("g")], options).agg(aggs());
        distributed(&format!("rolling by key, {period} at {offset}"), &plan);
    }
}

#[test]
fn rows_not_known_to_be_in_order() {
    let mixed = rows().with_columns([(col("t") % lit(400)).alias("t")]);
    let unknown = rows().with_columns([(col("t") + lit(1)).alias("t")]);
    let dynamic = |rows: LazyFrame, period: &str| {
        rows.group_by_dynamic(col("t"), [], windows("10i", period)).agg([col("x").sum(), col("f").median()])
    };
    distributed("dynamic", &dynamic(unknown.clone(), "10i"));
    distributed("dynamic, windows that overlap", &dynamic(unknown.clone(), "25i"));
    let rolling = |rows: LazyFrame| {
        let options =
            RollingGroupOptions { period: Duration::parse("9i"), offset: Duration::parse("-9i"), ..Default::default() };
        rows.rolling(col("t"), [], options).agg([col("x").sum()])
    };
    distributed("rolling", &rolling(unknown.clone()));
    let within = col("x").sum().rolling(col("t"), Duration::parse("9i"), Duration::parse("-9i"), ClosedWindow::Right);
    distributed("rolling, as a column", &unknown.clone().with_columns([within.alias("w")]));
    // The streaming engine makes windows of rows in any order; split into tasks, they would differ.
    for (what, plan) in [("group_by_dynamic", dynamic(mixed.clone(), "10i")), ("rolling", rolling(mixed))] {
        let ir = floe_plan::optimize(plan.logical_plan).unwrap();
        let error = super::stages::distributed(ir, &three_workers()).unwrap_err();
        assert_eq!(error.class, "InvalidOperationError");
        assert!(error.message.contains(&format!("'{what}' is not sorted, please sort")), "{error}");
    }
    let how = JoinType::AsOf(Box::new(AsOfOptions { strategy: AsofStrategy::Backward, ..AsOfOptions::default() }));
    let how = JoinArgs::new(how);
    distributed("as-of", &unknown.join(rows(), [col("t")], [col("t")], how));
}

#[test]
fn columns_below_each_other_and_merged_rows() {
    let unpivoted_of = |rows: LazyFrame| {
        let (on, index) = (Some(cols(["x", "g"])), cols(["t"]));
        rows.unpivot(UnpivotArgsDSL { on, index, variable_name: None, value_name: None })
    };
    let unpivoted = unpivoted_of(rows());
    // The streaming engine itself returns them in the order of its morsels.
    let graph = check("unpivot", &unpivoted, &three_workers(), false);
    assert!(graph.single_worker.is_empty(), "{:?}", graph.single_worker);
    let merged = rows().merge_sorted(gaps(), ["t"], true).unwrap();
    distributed("merge", &merged);
}

#[test]
fn values_of_values_are_taken_once() {
    for value in
        [col("x").null_count().sum(), (col("x").sum() + col("f").max()).max(), col("x").n_unique().shift(lit(0))]
    {
        let name = value.to_string();
        check(&name, &rows().select([value.clone()]), &three_workers(), true);
        check(&name, &rows().with_columns([value.alias("new")]), &three_workers(), true);
    }
}

/// `is_unique` and similar functions treat a null struct like one whose fields are all null, but their hashes differ.
#[test]
fn null_structs_are_compared_as_polars_does() {
    let field = when((col("x") % lit(3)).eq(lit(0))).then(lit(NULL)).otherwise(col("x") * lit(1000) + col("t"));
    let value = as_struct(vec![field.alias("f")]);
    // One null struct, and one whose field is null.
    let none = |t: i64| col("t").eq(lit(t)).and(col("x").is_null());
    let value = when(none(600)).then(lit(NULL)).otherwise(value);
    let few = rows().filter(none(600).or(none(6)).or((col("x") % lit(3)).neq(lit(0))));
    let columns = [
        value.clone().is_unique().alias("unique"),
        value.clone().is_duplicated().alias("duplicated"),
        value.clone().is_first_distinct().alias("first"),
        value.is_last_distinct().alias("last"),
    ];
    for column in columns {
        check("null structs", &few.clone().select([col("t"), column]), &three_workers(), true);
    }
}

/// The neighbours of rows in an unspecified order depend on the run of the common subplan, so they must come from one
/// run.
#[test]
fn rows_combined_by_position_stay_together() {
    let sums = rows().group_by([col("g")]).agg([(col("x").sum() % lit(4)).alias("rest")]).cache();
    let unique = sums.clone().select([col("rest").is_unique().alias("u"), col("rest").alias("same")]);
    let plan = concat_lf_horizontal([sums, unique], HConcatOptions::default()).unwrap();
    let apart = plan.filter(col("rest").neq(col("same")));
    let (ours, _) =
        super::stages::distributed(floe_plan::optimize(apart.logical_plan).unwrap(), &three_workers()).unwrap();
    assert_eq!(ours.height(), 0, "{ours}");
}

/// With few rows, gather them to sort them; no later stage requests neighbouring rows.
#[test]
fn runs_of_a_few_ordered_groups() {
    let few = rows().limit(20).collect().unwrap().lazy();
    let groups = few.group_by_stable([col("g")]).agg([col("x").min()]);
    check("runs", &groups.with_columns([col("x").rle_id().alias("run")]), &three_workers(), true);
}

/// Rows without a promised order stay so through any number of nodes on one worker.
#[test]
fn nodes_on_one_worker_over_rows_in_any_order() {
    let groups = rows().group_by([col("g")]).agg([col("x").sum()]);
    let turned = groups.select([col("x").reverse()]).with_columns([col("x").reverse().is_not_null().alias("known")]);
    check("turned twice", &turned, &three_workers(), false);
    let others = rows().limit(11).select([col("t")]);
    let beside = concat_lf_horizontal([turned, others], HConcatOptions::default()).unwrap();
    check("beside others", &beside.select([col("x"), col("known")]), &three_workers(), false);
}

/// Polars fails on some of these without any group.
#[test]
fn tasks_without_groups() {
    let few = rows().filter(col("g").eq(lit(3)));
    let whole = few.group_by([col("g")]);
    let aggregates =
        [col("x").arg_max(), col("f").arg_min().alias("least"), (col("t").arg_max() + lit(1)).alias("next")];
    distributed("arguments", &whole.agg(aggregates));
    let none = rows().filter(col("t").gt(lit(5000))).group_by([col("g"), col("t")]);
    // Polars itself fails here.
    let none = none.agg([col("x").arg_max().alias("at")]).logical_plan;
    let (none, _) = super::stages::distributed(floe_plan::optimize(none).unwrap(), &three_workers()).unwrap();
    assert_eq!(none.height(), 0, "{none}");
}
