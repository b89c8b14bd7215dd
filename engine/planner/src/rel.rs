//! What the planner knows of a node's output: the fragments that make it, in how many tasks, which rows are together, in
//! what order, and how much it is.
//!
//! The fields are private: what is known is lost unless it is kept. A node is put on a relation by `put` with an `Effect`,
//! which says what the node does to rows, and drops all that does not follow from that. What a node adds to what is known
//! is said by a verb of its own (`in_order`, `hashed_by`, `sized`, …), where the reason can stand beside it.

use std::sync::Arc;

use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use super::strategies::SideSize;
use floe_wire::facts::RowOrder;

/// The part of the rows that a filter is counted on to let pass.
const COUNTED_ON_TO_PASS: f64 = 0.5;

/// In how many tasks a fragment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    One,
    Many(u32),
}

impl Width {
    pub fn tasks(self) -> u32 {
        match self {
            Width::One => 1,
            Width::Many(tasks) => tasks,
        }
    }
}

/// One fragment (still open: nodes can be put on top) and its tasks. A relation has several after a union.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Branch {
    root: Node,
    width: Width,
    /// Polars promises no order of its rows: the one that they have is as good as any.
    any_order: bool,
}

impl Branch {
    pub fn root(&self) -> Node {
        self.root
    }

    pub fn width(&self) -> Width {
        self.width
    }
}

/// What is known of the order of rows over the tasks of all branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nobody may rely on it.
    Free,
    /// Task by task, row by row, as Polars promises it.
    Tasks,
    /// A stable sort by these u64 columns (nulls last) gives the promised order. `local`: within a task, rows
    /// already stand in that order.
    Tags { columns: Vec<PlSmallStr>, local: bool },
}

/// Each task has one range of whole numbers: the first those below `bounds[0]`, and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranged {
    /// Columns that all have the key (a join's two sides).
    pub columns: Vec<PlSmallStr>,
    pub bounds: Arc<[i64]>,
}

/// A column that is sorted over the row groups of the scan `leaf`, where it is called `source`.
#[derive(Clone, Debug, PartialEq)]
pub struct Clustered {
    pub column: PlSmallStr,
    pub source: PlSmallStr,
    pub leaf: Node,
}

/// Which columns go on as they were, and under which name.
pub enum Names<'a> {
    /// All of them; there may be new ones.
    Same,
    /// All but these, which are computed anew.
    Except(&'a [PlSmallStr]),
    /// Just these.
    Only(&'a [PlSmallStr]),
    /// Under the name that this gives them; none: not at all.
    Renamed(&'a dyn Fn(&PlSmallStr) -> Option<PlSmallStr>),
}

impl Names<'_> {
    fn of(&self, name: &PlSmallStr) -> Option<PlSmallStr> {
        match self {
            Names::Same => Some(name.clone()),
            Names::Except(gone) => (!gone.contains(name)).then(|| name.clone()),
            Names::Only(kept) => kept.contains(name).then(|| name.clone()),
            Names::Renamed(new_name) => new_name(name),
        }
    }
}

/// What a node does to the rows of a relation.
pub enum Effect<'a> {
    /// It looks at one row at a time: drops it, changes it, or makes several of it, in its place.
    RowByRow(Names<'a>),
    /// It looks at the rows of a task, of which it leaves some, in any order.
    WithinTask(Names<'a>),
    /// It looks at the rows of a task, of which it leaves some, in their order.
    WithinTaskInOrder(Names<'a>),
    /// It makes other rows, of which nothing is known.
    Opaque,
}

#[derive(Clone, Debug)]
pub struct Rel {
    branches: Vec<Branch>,
    order: Order,
    /// Rows that are equal in these columns are in one task.
    hashed: Option<Vec<PlSmallStr>>,
    /// Rows with equal values in one of its columns are in one task, by ranges of those values.
    ranged: Option<Ranged>,
    /// Columns by which the scan at the bottom can still be cut: everything above it looks at one row at a time.
    clustered: Vec<Clustered>,
    /// Estimates from statistics, none where unknown.
    rows: Option<f64>,
    bytes: Option<f64>,
    /// The part of these that is likely there: what filters look like. It decides which side of a join is waited for,
    /// not what is held whole in memory.
    likely: f64,
}

/// Relations to begin with.
impl Rel {
    /// Rows of which nothing is known but their order.
    pub fn new(root: Node, width: Width, order: Order) -> Self {
        Rel {
            branches: vec![Branch { root, width, any_order: false }],
            order,
            hashed: None,
            ranged: None,
            clustered: Vec::new(),
            rows: None,
            bytes: None,
            likely: 1.0,
        }
    }

    /// The rows of several relations, those of the first on top. They keep the promised order if all do.
    pub fn stacked(rels: Vec<Rel>) -> Option<Self> {
        rels.into_iter().map(Rel::scattered).reduce(|mut all, rel| {
            all.branches.extend(rel.branches);
            all.rows = all.rows.zip(rel.rows).map(|(a, b)| a + b);
            all.bytes = all.bytes.zip(rel.bytes).map(|(a, b)| a + b);
            all.likely = all.likely.max(rel.likely);
            if all.order != Order::Tasks || rel.order != Order::Tasks {
                all.order = Order::Free;
            }
            all
        })
    }

    /// The same rows, read by other tasks through an exchange: only how many there are is still known.
    pub fn exchanged(&self, leaf: Node, width: Width, order: Order) -> Self {
        Rel { rows: self.rows, bytes: self.bytes, likely: self.likely, ..Rel::new(leaf, width, order) }
    }

    /// The same rows, kept by the tasks that made them and read by as many, in one fragment.
    pub fn kept(&self, leaf: Node) -> Self {
        let width = if self.is_one() { Width::One } else { Width::Many(self.tasks()) };
        let branch = Branch { root: leaf, width, any_order: self.any_order() };
        Rel { branches: vec![branch], hashed: None, clustered: Vec::new(), ..self.clone() }
    }

    /// The same rows in one task, one branch below the other.
    pub fn gathered(&self, leaf: Node) -> Self {
        let order = match &self.order {
            Order::Tags { columns, .. } => Order::Tags { columns: columns.clone(), local: false },
            other => other.clone(),
        };
        let mut rel = self.exchanged(leaf, Width::One, order);
        rel.branches[0].any_order = self.any_order();
        rel
    }

    fn any_order(&self) -> bool {
        self.branches.iter().all(|branch| branch.any_order)
    }
}

/// What nodes do.
impl Rel {
    /// Puts a node on every branch. What does not follow from its effect is no longer known.
    pub fn put(mut self, effect: Effect<'_>, mut node: impl FnMut(Node) -> Node) -> Self {
        for branch in &mut self.branches {
            branch.root = node(branch.root);
        }
        self.after(effect)
    }

    fn after(mut self, effect: Effect<'_>) -> Self {
        let (names, row_by_row, in_order) = match &effect {
            Effect::RowByRow(names) => (names, true, true),
            Effect::WithinTaskInOrder(names) => (names, false, true),
            Effect::WithinTask(names) => (names, false, false),
            Effect::Opaque => {
                self.branches.iter_mut().for_each(|branch| branch.any_order = false);
                (self.rows, self.bytes, self.likely) = (None, None, 1.0);
                return self.scattered().in_any_order();
            }
        };
        let all = |columns: &[PlSmallStr]| columns.iter().map(|name| names.of(name)).collect::<Option<Vec<_>>>();
        self.hashed = self.hashed.and_then(|columns| all(&columns));
        self.ranged = self.ranged.and_then(|ranged| {
            let columns: Vec<_> = ranged.columns.iter().filter_map(|name| names.of(name)).collect();
            (!columns.is_empty()).then_some(Ranged { columns, ..ranged })
        });
        let clustered = std::mem::take(&mut self.clustered).into_iter().filter(|_| row_by_row);
        self.clustered = clustered.filter_map(|by| Some(Clustered { column: names.of(&by.column)?, ..by })).collect();
        self.order = match self.order {
            Order::Tags { columns, local } => match all(&columns) {
                // In whatever order rows come, their tags tell the one that they had.
                Some(columns) => Order::Tags { columns, local: local && in_order },
                None => Order::Free,
            },
            other if in_order => other,
            Order::Tasks | Order::Free => Order::Free,
        };
        self
    }

    /// Nothing is known any more of which rows are together.
    pub fn scattered(self) -> Self {
        Rel { hashed: None, ranged: None, clustered: Vec::new(), ..self }
    }

    /// Nobody may rely on the order any more. Tags, if any, are columns like others from here on.
    pub fn in_any_order(self) -> Self {
        Rel { order: Order::Free, ..self }
    }
}

/// What is said of rows beyond what their nodes do.
impl Rel {
    /// The last node gives the order that Polars promises.
    pub fn in_promised_order(mut self) -> Self {
        self.branches.iter_mut().for_each(|branch| branch.any_order = false);
        Rel { order: Order::Tasks, ..self }
    }

    pub fn in_order(self, order: Order) -> Self {
        Rel { order, ..self }
    }

    /// Whoever asks for the order of these rows gets the one that they have, if Polars promises none.
    pub fn settled(mut self) -> Self {
        if self.order == Order::Free {
            self.branches.iter_mut().for_each(|branch| branch.any_order = true);
            self.order = Order::Tasks;
        }
        self
    }

    /// Rows that are equal in these columns are in one task.
    pub fn hashed_by(self, columns: &[PlSmallStr]) -> Self {
        Rel { hashed: Some(columns.to_vec()), ..self }
    }

    /// The scan at the bottom can be cut by these columns.
    pub fn clustered_by(self, clustered: Vec<Clustered>) -> Self {
        Rel { clustered, ..self }
    }

    /// The scan at the bottom was cut into other tasks.
    pub fn recut(mut self, tasks: u32) -> Self {
        let width = if tasks == 1 { Width::One } else { Width::Many(tasks) };
        self.branches.iter_mut().for_each(|branch| branch.width = width);
        Rel { hashed: None, ranged: None, ..self }
    }

    /// The scan at the bottom was cut into tasks by ranges.
    pub fn cut_by(self, ranged: Ranged, tasks: u32) -> Self {
        Rel { ranged: Some(ranged), clustered: Vec::new(), ..self.recut(tasks) }
    }

    pub fn sized(self, rows: Option<f64>, bytes: Option<f64>) -> Self {
        Rel { rows, bytes, ..self }
    }

    /// The part of the rows that is likely there.
    pub fn likely(self, likely: f64) -> Self {
        Rel { likely, ..self }
    }

    /// Rows that pass a filter: no more than half is all that is counted on, `part` of them is what it looks like.
    pub fn filtered(self, part: f64) -> Self {
        let likely = self.likely * (part / COUNTED_ON_TO_PASS).min(1.0);
        Rel { likely, ..self.scaled(COUNTED_ON_TO_PASS) }
    }

    pub fn scaled(self, factor: f64) -> Self {
        let (rows, bytes) = (self.rows.map(|rows| rows * factor), self.bytes.map(|bytes| bytes * factor));
        Rel { rows, bytes, ..self }
    }
}

/// What is known.
impl Rel {
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// The top node of the first branch: the columns of all branches are its columns.
    pub fn root(&self) -> Node {
        self.branches[0].root
    }

    /// In how many tasks it runs.
    pub fn tasks(&self) -> u32 {
        self.branches.iter().map(|branch| branch.width.tasks()).sum()
    }

    /// All in one task of one fragment.
    pub fn is_one(&self) -> bool {
        self.branches.len() == 1 && self.branches[0].width == Width::One
    }

    pub fn order(&self) -> &Order {
        &self.order
    }

    pub fn is_tagged(&self) -> bool {
        matches!(self.order, Order::Tags { .. })
    }

    pub fn tags(&self) -> &[PlSmallStr] {
        match &self.order {
            Order::Tags { columns, .. } => columns,
            Order::Free | Order::Tasks => &[],
        }
    }

    /// Rows of a task stand in the promised order, or there is none.
    pub fn locally_ordered(&self) -> bool {
        match &self.order {
            Order::Free | Order::Tasks => true,
            Order::Tags { local, .. } => *local,
        }
    }

    /// What its stage states about the order of a branch.
    pub fn row_order(&self, branch: &Branch) -> RowOrder {
        match &self.order {
            Order::Free => RowOrder::None,
            Order::Tasks if branch.any_order => RowOrder::Any,
            Order::Tasks => RowOrder::Promised,
            Order::Tags { columns, .. } => RowOrder::Tags(columns.iter().map(|column| column.to_string()).collect()),
        }
    }

    pub fn is_hashed_by(&self, columns: &[PlSmallStr]) -> bool {
        self.hashed.as_deref() == Some(columns)
    }

    pub fn ranged(&self) -> Option<&Ranged> {
        self.ranged.as_ref()
    }

    pub fn clustered(&self) -> &[Clustered] {
        &self.clustered
    }

    pub fn rows(&self) -> Option<f64> {
        self.rows
    }

    pub fn bytes(&self) -> Option<f64> {
        self.bytes
    }

    pub fn likelihood(&self) -> f64 {
        self.likely
    }

    /// What a join can know of its size.
    pub fn size(&self) -> SideSize {
        SideSize { bytes: self.bytes, rows: self.rows, likely: self.likely, tasks: self.tasks(), is_one: self.is_one() }
    }

    /// Rows and bytes where rows with equal keys meet: as many rows as the larger side has, and the columns of both.
    pub fn joined_size(&self, other: &Rel) -> (Option<f64>, Option<f64>) {
        (self.rows.zip(other.rows).map(|(a, b)| a.max(b)), self.bytes.zip(other.bytes).map(|(a, b)| a + b))
    }

    /// Bytes where every row looks its match up in `other`.
    pub fn looked_up_bytes(&self, other: &Rel) -> Option<f64> {
        self.bytes.zip(other.bytes).map(|(rows, found)| rows + found.min(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<PlSmallStr> {
        all.iter().map(|name| PlSmallStr::from_str(name)).collect()
    }

    /// All that can be known of rows, of which the parts contradict each other: none is derived from another.
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
    fn what_looks_at_rows_one_by_one_keeps_what_is_known() {
        let (before, rel) = (full(), put(Effect::RowByRow(Names::Same)));
        assert_eq!(rel.root(), Node(2));
        assert_eq!(
            (rel.hashed, rel.ranged, rel.clustered, rel.order),
            (before.hashed, before.ranged, before.clustered, before.order)
        );
        assert_eq!((rel.rows, rel.bytes, rel.likely), (before.rows, before.bytes, before.likely));
    }

    /// Whatever set of columns goes: nothing that is known afterwards names one of them, and what does not is kept.
    #[test]
    fn a_column_that_is_gone_is_gone_from_all_that_is_known() {
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
    fn columns_go_on_under_their_new_names() {
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
        // The scan still calls it as it did.
        let moved = |name: &PlSmallStr| (name == "c").then(|| PlSmallStr::from_static("z"));
        let rel = put(Effect::RowByRow(Names::Renamed(&moved)));
        let [by] = rel.clustered() else { panic!("{rel:?}") };
        assert_eq!((by.column.as_str(), by.source.as_str()), ("z", "s"));
    }

    #[test]
    fn what_looks_at_the_rows_of_a_task_fixes_them() {
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
    fn of_opaque_rows_nothing_is_known() {
        let rel = put(Effect::Opaque);
        assert!(rel.hashed.is_none() && rel.ranged.is_none() && rel.clustered.is_empty());
        assert_eq!((rel.order, rel.rows, rel.bytes, rel.likely), (Order::Free, None, None, 1.0));
        assert_eq!((rel.branches[0].root, rel.branches[0].width), (Node(2), Width::Many(4)));
    }

    #[test]
    fn behind_an_exchange_rows_are_somewhere_else() {
        let rel = full().exchanged(Node(3), Width::Many(9), Order::Free);
        assert!(rel.hashed.is_none() && rel.ranged.is_none() && rel.clustered.is_empty() && rel.tasks() == 9);
        assert_eq!((rel.rows, rel.bytes, rel.likely), (Some(100.0), Some(1000.0), 0.5));
        let rel = full().gathered(Node(3));
        assert!(rel.hashed.is_none() && rel.ranged.is_none() && rel.clustered.is_empty() && rel.is_one());
        assert_eq!(rel.order, Order::Tags { columns: names(&["t", "u"]), local: false });
        // Kept where they are, they can no longer be cut.
        let rel = full().kept(Node(3));
        assert!(rel.clustered.is_empty() && rel.ranged.is_some() && rel.tasks() == 4);
        // A scan that is cut anew has other rows in its tasks.
        let rel = full().recut(8);
        assert!(rel.hashed.is_none() && rel.ranged.is_none() && rel.tasks() == 8);
        let rel = full().cut_by(Ranged { columns: names(&["c"]), bounds: Arc::from([1, 2]) }, 3);
        assert!(rel.hashed.is_none() && rel.clustered.is_empty() && rel.tasks() == 3);
    }

    #[test]
    fn relations_one_below_the_other_are_in_order_if_each_is() {
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
}
