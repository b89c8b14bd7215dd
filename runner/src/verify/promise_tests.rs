//! What plans promise about the order of their rows.

use polars::prelude::*;

use super::*;

fn frame() -> LazyFrame {
    df!("k" => [1, 1, 2], "v" => [3, 2, 1]).unwrap().lazy()
}

fn order(lf: LazyFrame) -> Order {
    of_plan(lf.logical_plan)
}

#[test]
fn rows_keep_their_order_through_row_wise_nodes() {
    assert_eq!(order(frame()), Order::Exact);
    assert_eq!(order(frame().filter(col("k").gt(lit(1))).with_columns([col("v") + lit(1)]).slice(0, 2)), Order::Exact);
}

#[test]
fn groups_promise_an_order_only_when_asked() {
    assert_eq!(order(frame().group_by([col("k")]).agg([col("v").sum()])), Order::Any);
    assert_eq!(order(frame().group_by_stable([col("k")]).agg([col("v").sum()])), Order::Exact);
}

#[test]
fn a_stable_sort_promises_all_and_an_unstable_one_its_keys() {
    let unstable = SortMultipleOptions::default();
    let stable = SortMultipleOptions::default().with_maintain_order(true);
    assert_eq!(order(frame().sort(["k"], stable)), Order::Exact);
    assert_eq!(order(frame().sort(["k"], unstable.clone())), Order::By(vec!["k".into()]));
    let renamed = frame().sort(["k"], unstable.clone()).select([col("k").alias("key"), col("v")]);
    assert_eq!(order(renamed), Order::By(vec!["key".into()]));
    let gone = frame().sort(["k"], unstable).select([col("v")]);
    assert_eq!(order(gone), Order::Any);
}

#[test]
fn joins_unions_and_uniques_by_their_options() {
    let join = |maintain_order| {
        frame().join_builder().with(frame()).on([col("k")]).how(JoinType::Inner).maintain_order(maintain_order).finish()
    };
    assert_eq!(order(join(MaintainOrderJoin::None)), Order::Any);
    assert_eq!(order(join(MaintainOrderJoin::LeftRight)), Order::Exact);
    assert_eq!(order(frame().unique(None, UniqueKeepStrategy::First)), Order::Any);
    assert_eq!(order(frame().unique_stable(None, UniqueKeepStrategy::First)), Order::Exact);
}

#[test]
fn a_cut_takes_rows_by_chance_where_no_order_is_promised() {
    let join = |order| {
        let builder = frame().join_builder().with(frame()).on([col("k")]).how(JoinType::Semi);
        builder.maintain_order(order).finish()
    };
    let cuts = |lf: LazyFrame| cut_of(lf.logical_plan) != Cut::None;
    assert!(cuts(join(MaintainOrderJoin::None).slice(0, 1)));
    assert!(cuts(join(MaintainOrderJoin::None).with_columns([col("v") + lit(1)]).slice(0, 1).select([col("v").sum()])));
    assert!(!cuts(join(MaintainOrderJoin::Left).slice(0, 1)));
    assert!(!cuts(join(MaintainOrderJoin::None).sort(["v"], SortMultipleOptions::default()).slice(0, 1)));
    assert!(cuts(frame().group_by([col("k")]).agg([col("v").sum()]).slice(1, 1)));
    assert!(!cuts(frame().slice(0, 1).group_by([col("k")]).agg([col("v").sum()])));
}

#[test]
fn a_cut_of_unordered_rows_fixes_the_height_unless_something_above_looks_at_the_rows() {
    let groups = || frame().group_by([col("k")]).agg([col("v").sum()]).slice(0, 2);
    let cut = |lf: LazyFrame| cut_of(lf.logical_plan);
    assert_eq!(cut(groups()), Cut::AtTop);
    assert_eq!(cut(groups().with_columns([col("v") * lit(2)])), Cut::AtTop);
    assert_eq!(cut(groups().sort(["v"], SortMultipleOptions::default())), Cut::AtTop);
    assert_eq!(cut(groups().filter(col("v").gt(lit(1)))), Cut::Below);
    assert_eq!(cut(groups().group_by([col("v")]).agg([len()])), Cut::Below);
    assert_eq!(cut(groups().filter(col("v").gt(lit(1))).unique(None, UniqueKeepStrategy::Any).slice(0, 1)), Cut::Below);
    assert_eq!(cut(frame().slice(0, 2)), Cut::None);
}
