//! Which properties a relation loses when a node is put on it.

use super::*;

fn names(all: &[&str]) -> Vec<PlSmallStr> {
    all.iter().map(|name| PlSmallStr::from_str(name)).collect()
}

/// A relation with every property set. They contradict each other, so that none can be derived from another.
fn full() -> Rel {
    let by = |column: &str| Clustered { column: column.into(), source: "s".into(), leaf: Node(7) };
    Rel {
        order: Order::Tags { columns: names(&["t", "u"]), local: true },
        hashed: Some(names(&["a", "b"])),
        ranged: Some(Ranged { columns: names(&["b", "c"]), bounds: Arc::from([5]) }),
        clustered: vec![by("c"), by("d")],
        rows: Some(100.0),
        bytes: Some(1000.0),
        likely: 0.5,
        ..Rel::new(Node(1), Width::Many(4), Order::Free)
    }
}

fn put(effect: Effect<'_>) -> Rel {
    full().put(effect, |_| Node(2))
}

fn effect(kind: usize, names: Names<'_>) -> Effect<'_> {
    match kind {
        0 => Effect::RowByRow(names),
        1 => Effect::WithinTask(names),
        _ => Effect::WithinTaskInOrder(names),
    }
}

fn columns(rel: &Rel) -> Vec<PlSmallStr> {
    let ranged = rel.ranged.iter().flat_map(|ranged| ranged.columns.clone());
    let clustered = rel.clustered.iter().map(|by| by.column.clone());
    rel.hashed.iter().flatten().cloned().chain(ranged).chain(clustered).chain(rel.tags().to_vec()).collect()
}

const ALL: [&str; 6] = ["a", "b", "c", "d", "t", "u"];

#[test]
fn a_row_wise_node_keeps_every_property() {
    let (before, rel) = (full(), put(Effect::RowByRow(Names::Same)));
    assert_eq!(rel.root(), Node(2));
    assert_eq!(
        (rel.hashed, rel.ranged, rel.clustered, rel.order),
        (before.hashed, before.ranged, before.clustered, before.order)
    );
    assert_eq!((rel.rows, rel.bytes, rel.likely), (before.rows, before.bytes, before.likely));
}

/// Whichever columns are dropped: no property names one of them afterwards, and the others are kept.
#[test]
fn a_dropped_column_is_dropped_from_every_property() {
    for set in 0..1u32 << ALL.len() {
        let (kept, gone): (Vec<_>, Vec<_>) = ALL.iter().enumerate().partition(|(at, _)| set & (1 << at) != 0);
        let of = |some: Vec<(usize, &&str)>| some.into_iter().map(|(_, name)| PlSmallStr::from_str(name)).collect();
        let (kept, gone): (Vec<PlSmallStr>, Vec<PlSmallStr>) = (of(kept), of(gone));
        let kept_of = |name: &PlSmallStr| kept.contains(name).then(|| name.clone());
        for kind in 0..3 {
            let (row_by_row, in_order) = (kind == 0, kind != 1);
            let all = [
                put(effect(kind, Names::Only(&kept))),
                put(effect(kind, Names::Except(&gone))),
                put(effect(kind, Names::Renamed(&kept_of))),
            ];
            for rel in &all {
                assert!(columns(rel).iter().all(|name| kept.contains(name)), "{kept:?}: {rel:?}");
                let has = |name: &str| kept.iter().any(|kept| kept == name);
                assert_eq!(rel.hashed.is_some(), has("a") && has("b"), "{kept:?}: {rel:?}");
                assert_eq!(rel.ranged.is_some(), has("b") || has("c"), "{kept:?}: {rel:?}");
                let clustered = usize::from(has("c")) + usize::from(has("d"));
                assert_eq!(rel.clustered.len(), if row_by_row { clustered } else { 0 }, "{kept:?}: {rel:?}");
                assert_eq!(rel.is_tagged(), has("t") && has("u"), "{kept:?}: {rel:?}");
                assert_eq!(rel.locally_ordered(), in_order || !rel.is_tagged());
                assert_eq!(rel.order == Order::Free, !rel.is_tagged());
            }
        }
    }
}

#[test]
fn properties_follow_renamed_columns() {
    let swapped = |name: &PlSmallStr| -> Option<PlSmallStr> {
        match name.as_str() {
            "a" => Some("b".into()),
            "b" => Some("a".into()),
            "t" => Some("v".into()),
            other => Some(other.into()),
        }
    };
    let rel = put(Effect::RowByRow(Names::Renamed(&swapped)));
    assert!(rel.is_hashed_by(&names(&["b", "a"])) && !rel.is_hashed_by(&names(&["a", "b"])));
    assert_eq!(rel.ranged().map(|ranged| ranged.columns.clone()), Some(names(&["a", "c"])));
    assert_eq!(rel.tags(), names(&["v", "u"]));
    // The scan still uses the old name.
    let moved = |name: &PlSmallStr| (name == "c").then(|| PlSmallStr::from_static("z"));
    let rel = put(Effect::RowByRow(Names::Renamed(&moved)));
    let [by] = rel.clustered() else { panic!("{rel:?}") };
    assert_eq!((by.column.as_str(), by.source.as_str()), ("z", "s"));
}

#[test]
fn a_node_that_looks_at_a_task_fixes_how_its_scan_is_cut() {
    let rel = put(Effect::WithinTaskInOrder(Names::Same));
    assert!(rel.clustered.is_empty() && rel.hashed.is_some() && rel.ranged.is_some() && rel.is_tagged());
    let rel = put(Effect::WithinTask(Names::Same));
    assert!(rel.clustered.is_empty() && rel.hashed.is_some() && rel.ranged.is_some());
    assert!(rel.is_tagged() && !rel.locally_ordered());
    let by_place = |effect| full().in_promised_order().put(effect, |_| Node(2)).order;
    assert_eq!(by_place(Effect::WithinTask(Names::Same)), Order::Free);
    assert_eq!(by_place(Effect::WithinTaskInOrder(Names::Same)), Order::Tasks);
    assert_eq!(by_place(Effect::Opaque), Order::Free);
}

#[test]
fn an_opaque_node_loses_every_property() {
    let rel = put(Effect::Opaque);
    assert!(rel.hashed.is_none() && rel.ranged.is_none() && rel.clustered.is_empty());
    assert_eq!((rel.order, rel.rows, rel.bytes, rel.likely), (Order::Free, None, None, 1.0));
    assert_eq!((rel.branches[0].root, rel.branches[0].width), (Node(2), Width::Many(4)));
}

#[test]
fn an_exchange_forgets_where_rows_are() {
    let rel = full().exchanged(Node(3), Width::Many(9), Order::Free);
    assert!(rel.hashed.is_none() && rel.ranged.is_none() && rel.clustered.is_empty() && rel.tasks() == 9);
    assert_eq!((rel.rows, rel.bytes, rel.likely), (Some(100.0), Some(1000.0), 0.5));
    let rel = full().gathered(Node(3));
    assert!(rel.hashed.is_none() && rel.ranged.is_none() && rel.clustered.is_empty() && rel.is_one());
    assert_eq!(rel.order, Order::Tags { columns: names(&["t", "u"]), local: false });
    // Rows that are kept can no longer be cut.
    let rel = full().kept(Node(3));
    assert!(rel.clustered.is_empty() && rel.ranged.is_some() && rel.tasks() == 4);
    // A scan that is cut again has other rows in its tasks.
    let rel = full().recut(8);
    assert!(rel.hashed.is_none() && rel.ranged.is_none() && rel.tasks() == 8);
    let rel = full().cut_by(Ranged { columns: names(&["c"]), bounds: Arc::from([1, 2]) }, 3);
    assert!(rel.hashed.is_none() && rel.clustered.is_empty() && rel.tasks() == 3);
}

#[test]
fn concatenated_relations_are_in_order_if_each_is() {
    let one = |order| Rel::new(Node(1), Width::Many(2), order).sized(Some(1.0), None);
    let both = |a, b| Rel::stacked(vec![one(a), one(b)]).unwrap();
    assert_eq!(both(Order::Tasks, Order::Tasks).order, Order::Tasks);
    for (a, b) in [(Order::Free, Order::Tasks), (Order::Tasks, Order::Free), (full().order, full().order)] {
        assert_eq!(both(a, b).order, Order::Free);
    }
    let all = Rel::stacked(vec![full(), full()]).unwrap();
    assert!(all.hashed.is_none() && all.ranged.is_none() && all.clustered.is_empty() && all.tasks() == 8);
    assert_eq!((all.rows, all.bytes), (Some(200.0), Some(2000.0)));
    assert!(Rel::stacked(Vec::new()).is_none());
}

#[test]
fn an_order_that_nobody_promises_is_no_promise() {
    let free = Rel::new(Node(1), Width::One, Order::Free);
    let settled = free.settled();
    assert_eq!(settled.order, Order::Tasks);
    assert_eq!(settled.row_order(&settled.branches()[0]), RowOrder::Any);
    let kept = settled.clone().kept(Node(2));
    assert_eq!(kept.row_order(&kept.branches()[0]), RowOrder::Any);
    let sorted = settled.in_promised_order();
    assert_eq!(sorted.row_order(&sorted.branches()[0]), RowOrder::Promised);
}
