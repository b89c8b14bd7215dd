//! One plan per way of distributing nodes, as `floe explain` prints it: `golden.txt`. Changes of the planner show up
//! there for review; `FLOE_UPDATE_GOLDEN=1 cargo test` rewrites the file.

use std::fmt::Write as _;
use std::path::Path;

use polars::prelude::*;
use polars_ops::frame::{AsOfOptions, AsofStrategy};

use floe_planner::{Mode, Options, SinkShape, plan};
use floe_runner::coordinator::explain::{Format, render};

/// Enough rows that both broadcasts and shuffles are worthwhile.
fn sales() -> LazyFrame {
    let n = 600i64;
    df!(
        "shop" => (0..n).map(|i| i % 17).collect::<Vec<_>>(),
        "day" => (0..n).collect::<Vec<_>>(),
        "sum" => (0..n).map(|i| i as f64).collect::<Vec<_>>()
    )
    .unwrap()
    .lazy()
}

fn shops() -> LazyFrame {
    df!("shop" => (0..17i64).collect::<Vec<_>>(), "city" => (0..17).map(|i| format!("c{}", i % 3)).collect::<Vec<_>>())
        .unwrap()
        .lazy()
}

fn ordered(by: &str) -> LazyFrame {
    sales().sort([by], SortMultipleOptions::default())
}

fn join(how: JoinType) -> LazyFrame {
    sales().join(shops(), [col("shop")], [col("shop")], JoinArgs::new(how))
}

fn rolling() -> RollingGroupOptions {
    let (period, offset) = (Duration::parse("7i"), Duration::parse("-7i"));
    RollingGroupOptions { index_column: "day".into(), period, offset, closed_window: ClosedWindow::Right }
}

fn weekly() -> DynamicGroupOptions {
    let week = Duration::parse("7i");
    DynamicGroupOptions {
        index_column: "day".into(),
        every: week,
        period: week,
        offset: Duration::parse("0i"),
        ..Default::default()
    }
}

fn asof() -> LazyFrame {
    let options = AsOfOptions { strategy: AsofStrategy::Backward, ..AsOfOptions::default() };
    let how = JoinType::AsOf(Box::new(options));
    ordered("day").join(ordered("day"), [col("day")], [col("day")], JoinArgs::new(how))
}

fn cases() -> Vec<(&'static str, LazyFrame, Options)> {
    let usual = Options { mode: Mode::Distributed, workers: 3, ..Options::default() };
    let by_hash = Options { broadcast_limit_bytes: 0, ..usual.clone() };
    let some = |limit| Options { broadcast_limit_bytes: limit, ..usual.clone() };
    let single = Options { mode: Mode::SingleNode, ..usual.clone() };
    let one_file = Options { sinks: vec![SinkShape { single_file: true, file_bytes: None }], ..usual.clone() };
    let files = Options { sinks: vec![SinkShape { single_file: false, file_bytes: None }], ..usual.clone() };
    let sums = [col("sum").sum().alias("all"), (col("sum") * col("day")).sum() / len().cast(DataType::Float64)];
    let twice = sales().group_by([col("shop")]).agg([col("sum").max()]).cache();
    vec![
        ("row by row", sales().filter(col("sum").gt(lit(3))).select([col("shop"), col("sum") * lit(2)]), usual.clone()),
        ("aggregates in parts", sales().group_by([col("shop")]).agg(sums), usual.clone()),
        ("whole groups", sales().group_by([col("shop")]).agg([col("sum").median()]), usual.clone()),
        ("groups in order", sales().group_by_stable([col("shop")]).agg([col("sum").sum()]), usual.clone()),
        ("reduction", sales().select([col("sum").mean(), col("day").n_unique()]), usual.clone()),
        ("rows beside an aggregate", sales().with_columns([col("sum") - col("sum").mean()]), usual.clone()),
        ("broadcast join", join(JoinType::Inner), usual.clone()),
        ("hash join", join(JoinType::Full), by_hash.clone()),
        ("hash join with a filter", join(JoinType::Inner), by_hash.clone()),
        (
            "hash join that may become a broadcast",
            {
                let many = df!("day" => (0..3000i64).collect::<Vec<_>>(), "rain" => vec![1.5; 3000]).unwrap().lazy();
                many.join(
                    sales().filter(col("sum").gt(lit(3))),
                    [col("day")],
                    [col("day")],
                    JoinArgs::new(JoinType::Left),
                )
            },
            Options { adaptive: true, ..some(2000) },
        ),
        (
            "join in order",
            sales()
                .join_builder()
                .with(shops())
                .on([col("shop")])
                .how(JoinType::Left)
                .maintain_order(MaintainOrderJoin::Left)
                .finish(),
            by_hash,
        ),
        (
            "narrowed semi join",
            shops().join(sales(), [col("shop")], [col("shop")], JoinArgs::new(JoinType::Semi)),
            some(2000),
        ),
        ("as-of join", asof(), usual.clone()),
        ("cross join", sales().cross_join(shops(), None), usual.clone()),
        ("sort", ordered("sum"), usual.clone()),
        ("top", ordered("sum").limit(5), usual.clone()),
        ("unique", sales().unique(Some(cols(["shop"])), UniqueKeepStrategy::Any), usual.clone()),
        (
            "window",
            sales().with_columns([col("sum").rank(RankOptions::default(), None).over([col("shop")]).unwrap()]),
            usual.clone(),
        ),
        ("union, slice", concat([sales(), sales()], UnionArgs::default()).unwrap().slice(10, 20), usual.clone()),
        ("row index", sales().filter(col("sum").gt(lit(3))).with_row_index("row", None), usual.clone()),
        (
            "common subplan",
            twice.clone().join(
                twice,
                [col("shop")],
                [col("sum").cast(DataType::Int64)],
                JoinArgs::new(JoinType::Inner),
            ),
            usual.clone(),
        ),
        ("running sum", sales().select([col("sum").cum_sum(false)]), usual.clone()),
        (
            "rows that stand near",
            sales().with_columns([col("sum").diff(lit(1), Default::default()).alias("change")]),
            usual.clone(),
        ),
        ("rolling windows", sales().rolling(col("day"), [], rolling()).agg([col("sum").max()]), usual.clone()),
        ("dynamic windows", sales().group_by_dynamic(col("day"), [], weekly()).agg([col("sum").mean()]), usual.clone()),
        (
            "dynamic windows by key",
            sales().group_by_dynamic(col("day"), [col("shop")], weekly()).agg([col("sum").max()]),
            usual.clone(),
        ),
        (
            "group by a window",
            sales().group_by([col("sum").mean().over([col("shop")]).unwrap()]).agg([len()]),
            usual.clone(),
        ),
        ("one worker", sales().select([col("sum").reverse()]), usual.clone()),
        ("single node", sales().group_by([col("shop")]).agg([len()]), single),
        ("sink of one file", ordered("sum"), one_file),
        ("sink of files", sales().filter(col("sum").gt(lit(3))), files.clone()),
        ("sink of files that tasks do not fill", ordered("sum"), {
            let sinks = vec![SinkShape { single_file: false, file_bytes: Some(8000) }];
            Options { adaptive: true, partition_bytes: 100, sinks, ..files }
        }),
    ]
}

#[test]
fn plans_are_the_golden_ones() {
    let mut text = String::new();
    for (name, frame, options) in cases() {
        let ir = floe_plan::optimize(frame.logical_plan).unwrap_or_else(|error| panic!("{name}: {error}"));
        let graph = plan(ir, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(floe_planner::check(&graph), [], "{name}");
        let shown = render(&graph, Format::Text);
        let _ = writeln!(text, "== {name}\n{shown}");
    }
    // Shared nodes have ids from a counter of the process.
    let text = without_ids(&text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden.txt");
    if std::env::var_os("FLOE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = text.lines().zip(golden.lines()).enumerate().find(|(_, (ours, theirs))| ours != theirs);
    assert!(
        text == golden,
        "the planner changed; if rightly, FLOE_UPDATE_GOLDEN=1 cargo test. First difference: {differing:?}"
    );
}

fn without_ids(text: &str) -> String {
    let shown = |line: &str| match line.split_once("CACHE[id: ") {
        Some((before, _)) => format!("{before}CACHE"),
        None => line.to_string(),
    };
    text.lines().map(|line| shown(line.trim_end()) + "\n").collect()
}
