//! Tests the checks on sound graphs of real plans; each rule about fragments is broken in one of them.

use bytes::Bytes;
use polars::prelude::*;
use polars_plan::plans::{AExpr, IR};

use super::check;
use crate::{Fragment, Mode, Options, SourceUnit, plan};
use floe_wire::check::Finding;
use floe_wire::facts::{Column, Grouping, Placeholder, RowOrder};
use floe_wire::graph::{Exchange, Leaf, StageGraph, StageId};

fn sales() -> LazyFrame {
    let n = 600i64;
    df!("shop" => (0..n).map(|i| i % 17).collect::<Vec<_>>(), "day" => (0..n).collect::<Vec<_>>()).unwrap().lazy()
}

fn shops() -> LazyFrame {
    df!("shop" => (0..17i64).collect::<Vec<_>>(), "city" => (0..17i64).map(|i| i % 3).collect::<Vec<_>>())
        .unwrap()
        .lazy()
}

fn graph(frame: LazyFrame, broadcast_limit_bytes: u64) -> StageGraph {
    let ir = floe_plan::optimize(frame.logical_plan).unwrap();
    let options = Options { mode: Mode::Distributed, workers: 3, broadcast_limit_bytes, ..Options::default() };
    let graph = plan(ir, &options).unwrap();
    assert_eq!(check(&graph), [], "a sound graph");
    graph
}

fn join(how: JoinType, broadcast_limit_bytes: u64) -> StageGraph {
    graph(sales().join(shops(), [col("shop")], [col("shop")], JoinArgs::new(how)), broadcast_limit_bytes)
}

/// Changes the nodes of a stage's fragment.
fn change(graph: &mut StageGraph, stage: usize, mut f: impl FnMut(&mut IR)) {
    let mut fragment = Fragment::unpack(&graph.stages[stage].fragment).unwrap();
    for at in 0..fragment.plan.lp_arena.len() {
        f(fragment.plan.lp_arena.get_mut(polars_utils::arena::Node(at)));
    }
    graph.stages[stage].fragment = fragment.pack().unwrap();
}

/// Lets the expressions of a stage's fragment read another column.
fn read_instead(graph: &mut StageGraph, stage: usize, column: &str, other: &str) {
    let mut fragment = Fragment::unpack(&graph.stages[stage].fragment).unwrap();
    for at in 0..fragment.plan.expr_arena.len() {
        if let AExpr::Column(name) = fragment.plan.expr_arena.get_mut(polars_utils::arena::Node(at))
            && name == column
        {
            *name = other.into();
        }
    }
    graph.stages[stage].fragment = fragment.pack().unwrap();
}

/// Exchanges rows by another of the columns.
fn exchange_by(graph: &mut StageGraph, column: usize) {
    for stage in &mut graph.stages {
        if let Exchange::Hash { keys, .. } = &mut stage.output {
            *keys = vec![stage.facts.columns[column].name.clone()];
        }
    }
}

#[test]
fn fragments_are_what_is_stated() {
    let sound = join(JoinType::Inner, 1 << 20);
    let mut broken = sound.clone();
    broken.stages[1].fragment = Bytes::from_static(b"no fragment");
    assert!(matches!(check(&broken)[..], [Finding::FragmentUnreadable { stage: StageId(1), .. }]));

    let mut broken = sound.clone();
    broken.stages[1].fragment = sound.stages[0].fragment.clone();
    assert_eq!(check(&broken), [Finding::FragmentLeaves { stage: StageId(1), found: 1, stated: 2 }]);

    let mut broken = sound;
    for columns in [&mut broken.stages[1].facts.columns, &mut broken.outputs[0].columns] {
        columns[1] = Column::new("other", "Int64");
    }
    let found = check(&broken);
    assert!(matches!(found[..], [Finding::FragmentColumns { stage: StageId(1), .. }]), "{found:?}");
}

#[test]
fn a_claimed_order_is_given() {
    let claim = |mut graph: StageGraph| {
        let last = graph.stages.len() - 1;
        graph.stages[last].facts.order = RowOrder::Promised;
        check(&graph)
    };
    assert_eq!(claim(graph(sales().filter(col("day").gt(lit(3))), 0)), []);
    assert_eq!(claim(graph(sales().sort(["shop"], SortMultipleOptions::default()), 0)), []);
    let no_order = |frame| matches!(claim(graph(frame, 0))[..], [Finding::OrderNotGiven { .. }]);
    assert!(no_order(sales().group_by([col("shop")]).agg([col("day").sum()])));
    assert!(no_order(sales().unique(Some(cols(["shop"])), UniqueKeepStrategy::Any)));
    assert!(no_order(sales().join(shops(), [col("shop")], [col("shop")], JoinArgs::new(JoinType::Full))));
    // A missing sort: what is read by ranges comes in any order.
    let mut unsorted = graph(sales().sort(["shop"], SortMultipleOptions::default()), 0);
    let last = unsorted.stages.len() - 1;
    change(&mut unsorted, last, |ir| {
        if let IR::Sort { input, .. } = ir {
            *ir = IR::Slice { input: *input, offset: 0, len: 1000 };
        }
    });
    let why = "ranges of keys are not sorted".to_owned();
    assert_eq!(check(&unsorted), [Finding::OrderNotGiven { stage: StageId(last as u32), why }]);
}

#[test]
fn ranges_are_cut_by_what_is_sorted() {
    let by =
        || sales().sort(["shop", "day"], SortMultipleOptions::default().with_order_descending_multi([true, false]));
    let sound = graph(by(), 0);
    let last = sound.stages.len() - 1;
    let broken = |change: &dyn Fn(&mut StageGraph)| {
        let mut graph = sound.clone();
        change(&mut graph);
        matches!(check(&graph)[..], [Finding::OrderNotGiven { .. }])
    };
    assert!(broken(&|graph| read_instead(graph, last, "shop", "day")));
    assert!(broken(&|graph| read_instead(graph, last, "day", "shop")));
    assert!(broken(&|graph| read_instead(graph, last - 1, "shop", "day")));
    assert!(broken(&|graph| change(graph, last, |ir| {
        if let IR::Sort { sort_options, .. } = ir {
            sort_options.descending = vec![false, false];
        }
    })));
}

#[test]
fn the_rows_of_a_join_are_in_one_task() {
    let apart = |graph: &StageGraph| matches!(check(graph)[..], [Finding::JoinApart { .. }]);
    let rename = |graph: &mut StageGraph, how: JoinType| {
        change(graph, graph.stages.len() - 1, |ir| {
            if let IR::Join { options, .. } = ir {
                std::sync::Arc::make_mut(options).args.how = how.clone();
            }
        });
    };
    // Joins that keep unmatched rows of the broadcast side: every task would emit them.
    let mut broadcast = join(JoinType::Inner, 1 << 20);
    rename(&mut broadcast, JoinType::Left);
    assert_eq!(check(&broadcast), []);
    let mut checked = broadcast.clone();
    change(&mut checked, 1, |ir| {
        if let IR::Join { options, .. } = ir {
            std::sync::Arc::make_mut(options).args.validation = JoinValidation::OneToOne;
        }
    });
    assert!(apart(&checked), "{:?}", check(&checked));
    rename(&mut broadcast, JoinType::Right);
    assert!(apart(&broadcast), "{:?}", check(&broadcast));

    // Sides that are exchanged by other columns than the join compares.
    let mut by_hash = join(JoinType::Inner, 0);
    for stage in &mut by_hash.stages {
        if let Exchange::Hash { keys, .. } = &mut stage.output {
            *keys = vec![stage.facts.columns[1].name.clone()];
            stage.facts.key_summary = stage.facts.key_summary.as_ref().map(|_| keys.clone());
        }
    }
    assert!(apart(&by_hash), "{:?}", check(&by_hash));
}

#[test]
fn computed_keys_of_a_join_are_exchanged_as_they_are_compared() {
    let key = || col("shop") % lit(5);
    let mut by_hash = graph(sales().join(shops(), [key()], [key()], JoinArgs::new(JoinType::Inner)), 0);
    let writes = by_hash.stages.iter().position(|stage| stage.facts.columns.iter().any(|c| c.name == "day")).unwrap();
    read_instead(&mut by_hash, writes, "shop", "day");
    assert!(matches!(check(&by_hash)[..], [Finding::JoinApart { .. }]), "{:?}", check(&by_hash));
}

#[test]
fn the_rows_of_a_group_are_in_one_task() {
    let frames = [
        sales().group_by([col("shop")]).agg([col("day").median()]),
        sales().unique(Some(cols(["shop"])), UniqueKeepStrategy::None),
        sales().unique(Some(cols(["shop"])), UniqueKeepStrategy::Any),
        sales().with_columns([col("day").sum().over([col("shop")]).unwrap().alias("sum")]),
        sales().with_columns([col("day").sum().over([col("shop") % lit(3)]).unwrap().alias("sum")]),
        sales().filter(col("shop").is_unique()),
    ];
    for (i, frame) in frames.into_iter().enumerate() {
        let mut broken = graph(frame, 0);
        exchange_by(&mut broken, 1);
        let found = check(&broken);
        assert!(matches!(found[..], [Finding::GroupsApart { .. }]), "frame {i}: {found:?}");
    }
    // Keys that are computed otherwise by those who write the rows.
    let mut broken = graph(sales().group_by([col("shop") % lit(3)]).agg([col("day").median()]), 0);
    read_instead(&mut broken, 0, "shop", "day");
    assert!(matches!(check(&broken)[..], [Finding::GroupsApart { .. }]), "{:?}", check(&broken));
}

#[test]
fn groups_stay_together_until_their_keys_change() {
    // The second group-by and the window need no exchange of their own, and categories are exchanged as text.
    let again =
        sales().group_by([col("shop")]).agg([col("day").median()]).group_by([col("shop")]).agg([col("day").median()]);
    assert_eq!(graph(again, 0).stages.len(), 2);
    let text = col("shop").cast(DataType::String).cast(DataType::from_categories(Categories::global()));
    let named = || sales().with_columns([text.clone().alias("name")]);
    let twice = |over: Expr| {
        let first = named().with_columns([col("day").max().over([over.clone()]).unwrap().alias("max")]);
        first.with_columns([(col("day") - col("max")).mean().over([over]).unwrap().alias("mean")])
    };
    graph(twice(col("name")), 0);
    graph(twice(col("shop") % lit(3)), 0);
    graph(named().group_by([col("name"), (col("day") % lit(2)).alias("odd")]).agg([col("shop").median()]), 0);
}

#[test]
fn partial_groups_are_combined() {
    let sums = || graph(sales().group_by([col("shop")]).agg([col("day").sum()]), 0);
    let partial = |graph: &StageGraph| graph.stages[0].facts.groupings == [Grouping::Partial];
    assert!(partial(&sums()) && sums().stages[1].facts.groupings == [Grouping::Whole]);
    let mut as_whole = sums();
    as_whole.stages[0].facts.groupings = vec![Grouping::Whole];
    assert!(matches!(check(&as_whole)[..], [Finding::GroupsApart { .. }]), "{:?}", check(&as_whole));
    let mut never = sums();
    never.stages[1].facts.groupings = vec![Grouping::Partial];
    assert_eq!(check(&never), [Finding::PartialGroups { stage: StageId(1) }]);
}

/// A scan of rows in the order of `k`, in ten row groups.
fn in_order_of_k(dir: &std::path::Path, name: &str) -> LazyFrame {
    let path = dir.join(format!("{name}.parquet"));
    let mut frame = df!("k" => (0..1000i64).collect::<Vec<_>>(), name => (0..1000i64).collect::<Vec<_>>()).unwrap();
    let file = std::fs::File::create(&path).unwrap();
    ParquetWriter::new(file).with_row_group_size(Some(100)).finish(&mut frame).unwrap();
    LazyFrame::scan_parquet(PlRefPath::new(path.to_str().unwrap()), ScanArgsParquet::default()).unwrap()
}

#[test]
fn sides_that_are_joined_where_they_lie_are_cut_at_the_same_keys() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| in_order_of_k(dir.path(), name));
    let sums = a.group_by([col("k").alias("n")]).agg([col("a").sum()]);
    let sound = graph(sums.join(b, [col("n")], [col("k")], JoinArgs::new(JoinType::Inner)), 0);
    let ranged = |graph: &StageGraph| graph.stages[0].facts.placeholders.iter().all(|leaf| leaf.ranges.is_some());
    assert!(sound.stages.len() == 1 && ranged(&sound), "{:?}", sound.stages);
    let apart = |change: &dyn Fn(&mut StageGraph)| {
        let mut graph = sound.clone();
        change(&mut graph);
        matches!(check(&graph)[..], [Finding::JoinApart { .. }])
    };
    let leaf = |graph: &mut StageGraph, f: &dyn Fn(&mut Placeholder)| f(&mut graph.stages[0].facts.placeholders[1]);
    // Other cuts than the other side has; a side that is not cut by a key; a side that is cut by another column.
    assert!(apart(&|graph| {
        leaf(graph, &|side| side.ranges.as_mut().unwrap().bounds[0] += 1);
        let Leaf::Source { per_task, .. } = &mut graph.stages[0].leaves[1] else { panic!() };
        let whole = SourceUnit::Files { first: 0, count: 1, rows: None, rows_before: 0, keep: None };
        per_task.iter_mut().for_each(|unit| *unit = crate::fragment::encode(&whole).unwrap());
    }));
    assert!(apart(&|graph| leaf(graph, &|side| side.ranges = None)));
    assert!(apart(&|graph| leaf(graph, &|side| side.ranges.as_mut().unwrap().columns = vec!["b".into()])));
}

#[test]
fn an_order_is_promised_where_every_node_keeps_it() {
    let ordered = |frame| graph(frame, 0).outputs[0].ordered;
    let sums = || sales().group_by([col("shop")]).agg([col("day").sum()]);
    assert!(ordered(sales().filter(col("day").gt(lit(3)))));
    assert!(ordered(sums().sort(["shop"], SortMultipleOptions::default())));
    assert!(!ordered(sums()));
    assert!(!ordered(sums().filter(col("day").gt(lit(3)))));
    assert!(!ordered(concat([sales(), sums()], UnionArgs::default()).unwrap()));
    assert!(!ordered(sales().unique(None, UniqueKeepStrategy::Any).limit(5)));
    assert!(ordered(sales().unique_stable(None, UniqueKeepStrategy::First)));
}
