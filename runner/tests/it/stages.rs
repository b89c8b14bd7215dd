//! Plans cut into stages and run task by task in this process, compared with the same plan run as a whole; also the
//! number of stages. `floe-runner verify` does the same with real workers, for any number of random plans.

use std::sync::Arc;

use polars::prelude::*;
use polars_plan::plans::{IR, IRPlan};

use floe_exec::{Context, Inline, ReadBudget};
use floe_planner::{Mode, Options, plan};
use floe_runner::verify::compare::{Order, compare};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::*;

fn context() -> Context {
    Context {
        query: "q".into(),
        store: Arc::new(Inline),
        open_sink: Arc::new(|_, _, _| Err(QueryError::internal("no sink here"))),
        compression: None,
        disk_compression: None,
        batch_bytes: 1 << 10,
        run_bytes: 1 << 10,
        read_budget: ReadBudget::new(1 << 20),
        stream_from_bytes: u64::MAX,
        cancel: Arc::default(),
        progress: Arc::default(),
    }
}

pub fn distributed(ir: IRPlan, options: &Options) -> Result<(DataFrame, StageGraph)> {
    let schema = output_schema(&ir);
    let graph = plan(ir, options)?;
    assert_eq!(floe_planner::check(&graph), [], "{}", explained(&graph));
    let rows = floe_exec::run_here(&graph, &context(), |stage| stage.0 % 2 == 1)?;
    Ok((floe_exec::read(&rows, &schema, &Inline)?, graph))
}

fn output_schema(ir: &IRPlan) -> SchemaRef {
    let node = match ir.root() {
        IR::Sink { input, .. } => *input,
        _ => ir.lp_top,
    };
    ir.lp_arena.get(node).schema(&ir.lp_arena).into_owned()
}

pub fn three_workers() -> Options {
    Options { mode: Mode::Distributed, workers: 3, ..Options::default() }
}

/// Runs the plan both ways and returns the stages. Compares rows in any order unless `ordered`.
pub fn check(name: &str, plan: &LazyFrame, options: &Options, ordered: bool) -> StageGraph {
    let load = || floe_plan::optimize(plan.logical_plan.clone()).unwrap();
    let expected = plan.clone().collect_with_engine(Engine::Streaming).unwrap().unwrap_single();
    let (ours, graph) = distributed(load(), options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let order = if ordered { Order::Exact } else { Order::Any };
    let verdict = compare(&expected, &ours, &order);
    assert!(verdict.is_equal(), "{name}: {verdict:?}\n{expected}\n{ours}\n{}", explained(&graph));
    graph
}

pub fn explained(graph: &StageGraph) -> String {
    graph.stages.iter().map(|stage| format!("{} -> {:?}\n", stage.label, stage.output)).collect()
}

fn shuffles(graph: &StageGraph) -> usize {
    graph.stages.iter().filter(|stage| matches!(stage.output, Exchange::Hash { .. })).count()
}

/// A file sorted by `k`, with runs of equal values across the borders of row groups.
fn in_key_order(dir: &std::path::Path, name: &str, rows: i64, repeat: i64) -> LazyFrame {
    let k: Vec<i64> = (0..rows).map(|row| row / repeat).collect();
    let mut frame = df!("k" => &k, name => (0..rows).map(|row| row * 7919 % 101).collect::<Vec<_>>()).unwrap();
    let path = dir.join(format!("{name}.parquet"));
    let file = std::fs::File::create(&path).unwrap();
    let writer = ParquetWriter::new(file).with_row_group_size(Some(500)).with_statistics(StatisticsOptions::full());
    writer.finish(&mut frame).unwrap();
    LazyFrame::scan_parquet(PlRefPath::new(path.to_str().unwrap()), ScanArgsParquet::default()).unwrap()
}

#[test]
fn data_in_key_order_is_not_shuffled() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (in_key_order(dir.path(), "a", 30_000, 3), in_key_order(dir.path(), "b", 10_007, 1));
    let options = Options { broadcast_limit_bytes: 0, ..three_workers() };
    for how in [JoinType::Inner, JoinType::Left, JoinType::Right, JoinType::Full, JoinType::Semi, JoinType::Anti] {
        let args = JoinArgs::new(how.clone());
        let plan = a.clone().filter(col("a").gt(lit(40))).join(b.clone(), [col("k")], [col("k")], args);
        let graph = check(&format!("{how} join"), &plan, &options, false);
        assert_eq!(graph.stages.len(), 1, "{how}:\n{}", explained(&graph));
    }
    let renamed = b.clone().select([col("k").alias("key"), (col("b") + lit(1)).alias("c")]);
    let plan = a.clone().join(renamed, [col("k")], [col("key")], JoinArgs::new(JoinType::Inner));
    let plan = plan.group_by([col("k")]).agg([col("a").median(), col("c").sum()]);
    let graph = check("renamed key, then groups", &plan, &options, false);
    assert_eq!(graph.stages.len(), 1, "{}", explained(&graph));
    let other = b.clone().with_columns([(col("k") % lit(100)).alias("k")]);
    let plan = a.clone().join(other, [col("k")], [col("k")], JoinArgs::new(JoinType::Inner));
    let graph = check("a key that is computed", &plan, &options, false);
    assert_eq!(shuffles(&graph), 2, "{}", explained(&graph));
}

#[test]
fn groups_windows_and_unique_rows_of_data_in_key_order() {
    let dir = tempfile::tempdir().unwrap();
    let a = in_key_order(dir.path(), "a", 30_000, 3);
    let stable = a.clone().group_by_stable([col("k")]).agg([col("a").first(), col("a").n_unique().alias("n")]);
    let window = a.clone().with_columns([col("a").max().over([col("k")]).unwrap().alias("most")]);
    let unique = a.clone().unique_stable(Some(cols(["k"])), UniqueKeepStrategy::First);
    for (name, plan, ordered) in [("groups", stable, true), ("window", window, false), ("unique", unique, true)] {
        let graph = check(name, &plan, &three_workers(), ordered);
        assert_eq!(shuffles(&graph), 0, "{name}:\n{}", explained(&graph));
    }
    let sliced = a.slice(5, 20_000).group_by([col("k")]).agg([col("a").sum()]);
    check("groups of a slice", &sliced, &three_workers(), false);
}

#[test]
fn a_small_side_narrows_the_large_one() {
    let dir = tempfile::tempdir().unwrap();
    let large = in_key_order(dir.path(), "large", 30_000, 1).select([(col("k") % lit(1000)).alias("k"), col("large")]);
    let keys = df!("k" => [Some(1i64), Some(5), Some(5), None, Some(5000)], "s" => ["a", "b", "c", "d", "e"]).unwrap();
    let options = Options { broadcast_limit_bytes: 1000, ..three_workers() };
    for how in [JoinType::Semi, JoinType::Anti] {
        let plan = keys.clone().lazy().join(large.clone(), [col("k")], [col("k")], JoinArgs::new(how.clone()));
        let graph = check(&how.to_string(), &plan, &options, false);
        assert_eq!(shuffles(&graph), 0, "{how}:\n{}", explained(&graph));
    }
}

#[test]
fn keys_of_the_smaller_side_drop_rows_of_the_larger() {
    let dir = tempfile::tempdir().unwrap();
    let large = in_key_order(dir.path(), "large", 30_000, 1);
    let other = df!(
        "k" => (0..40_000i64).map(|i| (i % 9 != 0).then_some(i * 31 % 5000)).collect::<Vec<_>>(),
        "s" => (0..40_000).map(|i| (i % 5 != 0).then(|| format!("s{}", i % 1500))).collect::<Vec<_>>(),
        "x" => (0..40_000).map(f64::from).collect::<Vec<_>>()
    );
    let other = other.unwrap().lazy();
    let small = df!(
        "k" => [Some(3i64), Some(500), Some(500), None, Some(29_000), Some(-5)],
        "s" => [Some("s1"), Some("s2"), None, Some("s4"), Some("no"), None],
    );
    let small = small.unwrap().lazy();
    let options = Options { broadcast_limit_bytes: 0, ..three_workers() };
    let keyed = |graph: &StageGraph| {
        graph
            .stages
            .iter()
            .flat_map(|stage| &stage.leaves)
            .any(|leaf| matches!(leaf, Leaf::Exchange { read: Read::KeySummaries, .. }))
    };
    for nulls_equal in [false, true] {
        for how in [JoinType::Inner, JoinType::Left, JoinType::Right, JoinType::Full, JoinType::Semi, JoinType::Anti] {
            let args = JoinArgs { nulls_equal, ..JoinArgs::new(how.clone()) };
            for (at, (left, right)) in
                [(small.clone(), other.clone()), (other.clone(), small.clone())].into_iter().enumerate()
            {
                for keys in [vec![col("k")], vec![col("s")], vec![col("k"), col("s")], vec![col("k") + lit(1)]] {
                    let plan = left.clone().join(right.clone(), keys.clone(), keys, args.clone());
                    let graph = check(&format!("{how} {nulls_equal} {at}"), &plan, &options, false);
                    let droppable = match how {
                        JoinType::Inner | JoinType::Semi => true,
                        JoinType::Left | JoinType::Anti => at == 0,
                        JoinType::Right => at == 1,
                        _ => false,
                    };
                    assert_eq!(keyed(&graph), droppable, "{how} {at}:\n{}", explained(&graph));
                }
            }
        }
    }
    let scanned = large.filter(col("large").gt(lit(3))).select([col("k").alias("key"), col("large")]);
    let plan = scanned.join(small.clone(), [col("key")], [col("k")], JoinArgs::new(JoinType::Inner));
    let graph = check("a scan with bounds", &plan, &options, false);
    assert!(
        graph.stages.iter().any(|stage| stage.explain.iter().any(|line| line.contains("within their bounds in \"k\"")))
    );
    let none = small.filter(col("k").gt(lit(1_000_000)));
    let plan = other.join(none, [col("k")], [col("k")], JoinArgs::new(JoinType::Inner));
    check("no keys at all", &plan, &options, false);
    let off = Options { runtime_filters: false, ..options };
    assert!(!keyed(&check("without filters", &plan, &off, false)));
}

#[test]
fn a_side_that_turns_out_small_is_sent_whole() {
    let k = |rows: i64| (0..rows).map(|i| i * 31 % 5000).collect::<Vec<_>>();
    let large =
        df!("k" => k(40_000), "x" => (0..40_000).map(f64::from).collect::<Vec<_>>(), "y" => k(40_000)).unwrap().lazy();
    let other = df!("k" => k(20_000), "z" => (0..20_000i64).collect::<Vec<_>>()).unwrap().lazy();
    let options = Options { broadcast_limit_bytes: 20_000, adaptive: true, runtime_filters: false, ..three_workers() };
    for rows in [0i64, 50, 19_000] {
        let some = other.clone().filter(col("z").lt(lit(rows)));
        for how in [JoinType::Inner, JoinType::Left, JoinType::Right, JoinType::Full, JoinType::Semi, JoinType::Anti] {
            for right_small in [true, false] {
                let (l, r) = if right_small { (large.clone(), some.clone()) } else { (some.clone(), large.clone()) };
                let plan = l.join(r, [col("k")], [col("k")], JoinArgs::new(how.clone()));
                let name = format!("{how} {rows} {right_small}");
                let wanted = match how {
                    JoinType::Inner => true,
                    JoinType::Left | JoinType::Semi | JoinType::Anti => right_small,
                    JoinType::Right => !right_small,
                    _ => false,
                };
                for options in [options.clone(), Options { runtime_filters: true, ..options.clone() }] {
                    // A small left side of a semi or anti join then narrows the right one.
                    let narrowed = options.runtime_filters && !right_small;
                    let graph = check(&name, &plan, &options, false);
                    let switches = graph.stages.iter().any(|stage| stage.adaptive.is_some());
                    assert!(switches == wanted || narrowed, "{name}:\n{}", explained(&graph));
                }
            }
        }
    }
}

#[test]
fn rows_beside_aggregates_of_all_rows() {
    let frame = df!("g" => (0..1000i64).map(|i| i % 7).collect::<Vec<_>>(), "x" => (0..1000).map(f64::from).collect::<Vec<_>>());
    let frame = frame.unwrap().lazy();
    let plans = [
        ("centred", frame.clone().with_columns([(col("x") - col("x").mean()).alias("c")])),
        ("two", frame.clone().select([col("g"), col("x") / col("x").sum(), col("x").max().alias("most")])),
        ("only an aggregate", frame.clone().with_columns([col("x").std(1).alias("s"), col("g").n_unique().alias("n")])),
        ("filter", frame.clone().filter(col("x").gt(col("x").mean()))),
    ];
    for (name, plan) in plans {
        let graph = check(name, &plan, &three_workers(), true);
        assert!(graph.single_worker.is_empty(), "{name}: {:?}", graph.single_worker);
    }
    let some = when(col("x").gt(lit(900))).then(lit(NULL)).otherwise(col("x"));
    let reduced = frame.select([
        col("g").n_unique(),
        col("x").null_count().alias("nulls"),
        col("x").var(1).alias("v"),
        some.has_nulls().alias("some"),
        col("x").has_nulls().alias("none"),
    ]);
    let graph = check("reduction", &reduced, &three_workers(), true);
    assert!(graph.single_worker.is_empty(), "{:?}", graph.single_worker);
}

#[test]
fn small_parts_are_read_together() {
    let frame = df!("k" => (0..5000i64).collect::<Vec<_>>(), "v" => (0..5000i64).collect::<Vec<_>>()).unwrap().lazy();
    let plan = frame.clone().group_by([col("k") / lit(3)]).agg([col("v").median()]);
    let plan = plan.join(frame, [col("k")], [col("k")], JoinArgs::new(JoinType::Full));
    for (adaptive, bytes) in [(false, 128 << 20), (true, 128 << 20), (true, 1000)] {
        let options = Options {
            adaptive,
            partitions_per_worker: Some(5),
            partition_bytes: bytes,
            broadcast_limit_bytes: 0,
            ..three_workers()
        };
        check("merged", &plan, &options, false);
    }
}

#[test]
fn rows_of_one_list_keep_their_order() {
    let frame = df!("k" => (0..60i64).map(|i| i % 2).collect::<Vec<_>>(), "v" => (0..60i64).rev().collect::<Vec<_>>());
    let lists = frame.unwrap().lazy().group_by_stable([col("k")]).agg([col("v").slice(lit(0), lit(20))]);
    let options = ExplodeOptions { empty_as_null: true, keep_nulls: true };
    let plan = lists.explode(cols(["v"]), options).group_by_stable([col("v")]).agg([]);
    check("groups of exploded rows", &plan, &three_workers(), true);
}

#[test]
fn parts_of_one_row_do_not_make_a_column_sorted() {
    let frame =
        df!("k" => (0..9i64).map(|i| i / 3).collect::<Vec<_>>(), "v" => (0..9i64).collect::<Vec<_>>()).unwrap().lazy();
    let most = col("v").max().over_with_options(
        Some([col("k")]),
        Some(([col("v")], SortOptions::default().with_order_descending(true))),
        Default::default(),
    );
    let options = Options { workers: 9, ..three_workers() };
    check("the most of falling values", &frame.with_columns([most.unwrap().alias("most")]), &options, true);
}

#[test]
fn frames_keep_the_marks_of_sorted_columns() {
    let mut falling = Series::new("v".into(), (0..30i64).map(|i| 9 - i / 3).collect::<Vec<_>>());
    falling.set_sorted_flag(polars_core::series::IsSorted::Descending);
    let k = Column::new("k".into(), (0..30i64).map(|i| i / 15).collect::<Vec<_>>());
    let frame = DataFrame::new(30, vec![k, falling.into_column()]).unwrap().lazy();
    check("the place of the least of ties", &frame.select([col("v").arg_min()]), &three_workers(), true);
}

#[test]
fn row_numbers_are_an_order_of_their_own() {
    let frame = df!("id" => (0..500i64).map(|i| i % 90).collect::<Vec<_>>()).unwrap().lazy();
    let numbered = frame.group_by([col("id")]).agg([]).with_row_index("n", None);
    let plan = numbered.group_by_stable([col("n")]).agg([]);
    check("groups of row numbers", &plan, &three_workers(), true);
}

#[test]
fn rows_that_meet_themselves_keep_both_orders() {
    let frame = df!["k" => (0..400i64).map(|i| i * 7 % 60).collect::<Vec<_>>(), "s" => (0..400i64).map(|i| i * 5 % 9).collect::<Vec<_>>()];
    let unique = frame.unwrap().lazy().unique_stable_generic(Some(vec![col("k"), col("s")]), UniqueKeepStrategy::First);
    let mut args = JoinArgs::new(JoinType::Full);
    args.maintain_order = MaintainOrderJoin::LeftRight;
    let joined = unique.clone().join(unique, [col("k")], [col("k")], args).with_comm_subplan_elim(true);
    let options = Options { broadcast_limit_bytes: 0, ..three_workers() };
    check("a self join", &joined, &options, true);
}

#[test]
fn matches_of_one_row_keep_their_order() {
    let keys = |n: i64| df!["k" => (0..n).map(|i| i * 7 % 20).collect::<Vec<_>>()].unwrap().lazy();
    let places =
        df!["k" => (0..60i64).map(|i| i % 20).collect::<Vec<_>>(), "id" => (0..60i64).rev().collect::<Vec<_>>()]
            .unwrap();
    let mut full = JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns);
    full.maintain_order = MaintainOrderJoin::LeftRight;
    let mut inner = JoinArgs::new(JoinType::Inner);
    inner.maintain_order = MaintainOrderJoin::LeftRight;
    let rows = keys(30).join(keys(25), [col("k")], [col("k")], full).join(places.lazy(), [col("k")], [col("k")], inner);
    let plan = rows.group_by_stable([col("k"), col("id")]).agg([len()]);
    check("groups of matches", &plan, &three_workers(), true);
}

#[test]
fn a_join_on_one_worker_is_sliced_once() {
    let frame = df!["x" => (0..9i64).collect::<Vec<_>>()].unwrap().lazy();
    let sorted = frame.clone().sort(["x"], Default::default()).slice(0, 5);
    let joined = sorted.cross_join(frame.select([col("x").sum().alias("y")]), None).slice(3, 12);
    check("a slice of a cross join", &joined, &three_workers(), true);
}

#[test]
fn functions_that_only_look_row_wise() {
    let lists = Series::new("l".into(), (0..300).map(|i| Series::new("".into(), [i % 3, i % 5])).collect::<Vec<_>>());
    let frame = df!("x" => (0..300).map(|i| i % 4).collect::<Vec<i32>>()).unwrap().lazy();
    check("a list for each row", &frame.select([col("x").is_in(lit(lists), false)]), &three_workers(), true);

    let lengths =
        |of: i64| (0..300i64).map(|i| Series::new("".into(), vec![i; ((i + of) % 3 + 1) as usize])).collect::<Vec<_>>();
    let frame = df!("a" => lengths(0), "b" => lengths(1)).unwrap().lazy();
    let explode = |name: &str| col(name).explode(ExplodeOptions { empty_as_null: true, keep_nulls: true });
    check("two lists beside each other", &frame.select([explode("a") * explode("b")]), &three_workers(), true);
}

#[test]
fn numbers_of_categories_are_those_of_one_process() {
    let category = DataType::from_categories(Categories::global());
    let names = df!["c" => ["x", "y", "x"]].unwrap().lazy().with_column(col("c").cast(category));
    for (expr, whole) in [
        (col("c").to_physical(), true),
        (col("c").cast(DataType::Int64), true),
        (col("c").cast(DataType::String), false),
    ] {
        let ir = names.clone().group_by([expr.alias("key")]).agg([len()]).to_alp_optimized().unwrap();
        let graph = plan(ir, &three_workers()).unwrap();
        assert_eq!(graph.stages.len() == 1, whole, "{}", explained(&graph));
        assert_eq!(graph.single_worker.iter().any(|s| s.reason.contains("each process for itself")), whole);
    }
    let lists = names.group_by([lit(1).alias("one")]).agg([col("c")]);
    for (expr, whole) in
        [(col("c").list().min(), true), (col("c").list().arg_max(), true), (col("c").list().len(), false)]
    {
        let ir = lists.clone().select([expr]).to_alp_optimized().unwrap();
        assert_eq!(plan(ir, &three_workers()).unwrap().stages.len() == 1, whole);
    }
}
