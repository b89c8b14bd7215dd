//! What it takes to read a stage's fragment once for all of its tasks, and to copy it for each:
//! `cargo bench --workspace --locked --bench fragments`.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::time::{Duration, Instant};

use floe_planner::{Fragment, Mode, Options, plan};
use polars::prelude::*;

const RUNS: u32 = 200;

/// Group, join, sort over a frame of a few columns: the size of a query that people write.
fn query() -> LazyFrame {
    let n = 600i64;
    let sales = df!(
        "shop" => (0..n).map(|i| i % 17).collect::<Vec<_>>(),
        "day" => (0..n).collect::<Vec<_>>(),
        "sum" => (0..n).map(|i| i as f64).collect::<Vec<_>>()
    );
    let sales = sales.unwrap().lazy();
    let step = |e: Expr, at: i32| when(e.clone().gt(lit(at))).then(e.clone() * lit(2)).otherwise(e + lit(at));
    let sums = (0..12).map(|at| step(col("sum"), at).sum().alias(format!("sum{at}"))).collect::<Vec<_>>();
    let by_shop = sales.clone().filter(col("day").gt(lit(3))).group_by([col("shop")]).agg(sums);
    let joined = sales.join(by_shop, [col("shop")], [col("shop")], JoinArgs::new(JoinType::Inner));
    joined.with_columns([(col("sum") / col("sum3")).alias("part")]).sort(["part"], SortMultipleOptions::default())
}

fn mean(mut work: impl FnMut()) -> Duration {
    let began = Instant::now();
    (0..RUNS).for_each(|_| work());
    began.elapsed() / RUNS
}

fn main() {
    let ir = floe_plan::optimize(query().logical_plan).unwrap();
    let options = Options { mode: Mode::Distributed, workers: 3, broadcast_limit_bytes: 0, ..Options::default() };
    for stage in plan(ir, &options).unwrap().stages {
        let fragment = Fragment::unpack(&stage.fragment).unwrap();
        let read = mean(|| drop(Fragment::unpack(&stage.fragment).unwrap()));
        let copied = mean(|| drop(fragment.copy_of_plan()));
        println!("stage {} ({} bytes): {read:?} to read, {copied:?} to copy", stage.id.0, stage.fragment.len());
    }
}
