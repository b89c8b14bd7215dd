//! `Rel`: what the planner knows of a node's output: the fragments that compute it, their number of tasks, which rows
//! are together, in what order, and estimates of size.
//!
//! The fields are private, and a property is lost unless it is explicitly kept: `put` puts a node on a relation with an
//! `Effect`, which says what the node does to rows, and drops every property that does not follow from that. What a
//! node adds is set by a method of its own (`in_order`, `hashed_by`, `sized`, …), next to which the reason can be
//! given.

use std::sync::Arc;

use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::strategies::SideSize;
use floe_wire::facts::{KeyRanges, RowOrder};

/// Share of rows that a filter is assumed to pass in the safe estimate, on which memory depends.
const SAFE_SELECTIVITY: f64 = 0.5;

/// The number of tasks that a fragment runs in.
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
    /// Polars promises no order of its rows: any order is right.
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

/// The known order of rows across the tasks of all branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Must not be relied on.
    Free,
    /// Task by task, row by row, as Polars promises it.
    Tasks,
    /// A stable sort by these u64 columns (nulls last) gives the promised order. `local`: within a task, rows
    /// already stand in that order.
    Tags { columns: Vec<PlSmallStr>, local: bool },
}

/// Each task holds one range of integers: the first those below `bounds[0]`, and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranged {
    /// Columns that all hold the key (those of both sides of a join).
    pub columns: Vec<PlSmallStr>,
    pub bounds: Arc<[i64]>,
}

/// A column that is sorted over the row groups of the scan `leaf`, where its name is `source`.
#[derive(Clone, Debug, PartialEq)]
pub struct Clustered {
    pub column: PlSmallStr,
    pub source: PlSmallStr,
    pub leaf: Node,
}

/// Which columns pass through a node unchanged, and under which name.
pub enum Names<'a> {
    /// All columns; there may be new ones.
    Same,
    /// All columns but these, which are computed.
    Except(&'a [PlSmallStr]),
    /// Just these.
    Only(&'a [PlSmallStr]),
    /// All columns under the name that this function returns; none: dropped.
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
    /// Looks at one row at a time: drops it, changes it, or puts several in its place.
    RowByRow(Names<'a>),
    /// Looks at all rows of a task; keeps some, in any order.
    WithinTask(Names<'a>),
    /// Looks at all rows of a task; keeps some, in their order.
    WithinTaskInOrder(Names<'a>),
    /// Makes other rows, of which nothing is known.
    Opaque,
}

#[derive(Clone, Debug)]
pub struct Rel {
    branches: Vec<Branch>,
    order: Order,
    /// Rows that are equal in these columns are in one task.
    hashed: Option<Vec<PlSmallStr>>,
    /// Each task has a range of values: rows with equal values in one of the columns are in one task.
    ranged: Option<Ranged>,
    /// Columns by which the scan at the bottom can still be cut, since everything above it is row-wise.
    clustered: Vec<Clustered>,
    /// Estimates from statistics; none where unknown.
    rows: Option<f64>,
    bytes: Option<f64>,
    /// The share of `rows` and `bytes` that is likely to be left, judged by the filters. It decides which side of a
    /// join is waited for, not what is held whole in memory.
    likely: f64,
}

/// Constructors.
impl Rel {
    /// Nothing is known of the rows but their order.
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

    /// Concatenates relations, the first on top. The promised order holds if it holds for all.
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

    /// The same rows, read by other tasks through an exchange: only the size is still known.
    pub fn exchanged(&self, leaf: Node, width: Width, order: Order) -> Self {
        Rel { rows: self.rows, bytes: self.bytes, likely: self.likely, ..Rel::new(leaf, width, order) }
    }

    /// The same rows, written by their tasks and read back by as many, in one fragment.
    pub fn kept(&self, leaf: Node) -> Self {
        let width = if self.is_one() { Width::One } else { Width::Many(self.tasks()) };
        let branch = Branch { root: leaf, width, any_order: self.any_order() };
        Rel { branches: vec![branch], hashed: None, clustered: Vec::new(), ..self.clone() }
    }

    /// The same rows in one task, branch after branch.
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

/// What nodes do to properties.
impl Rel {
    /// Puts a node on every branch, and drops the properties that do not follow from its effect.
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
                // Tags keep the former order, whatever order the rows come in.
                Some(columns) => Order::Tags { columns, local: local && in_order },
                None => Order::Free,
            },
            other if in_order => other,
            Order::Tasks | Order::Free => Order::Free,
        };
        self
    }

    /// Forgets which rows are together.
    pub fn scattered(self) -> Self {
        Rel { hashed: None, ranged: None, clustered: Vec::new(), ..self }
    }

    /// Forgets the order. Tags, if any, become ordinary columns.
    pub fn in_any_order(self) -> Self {
        Rel { order: Order::Free, ..self }
    }
}

/// What is known of rows beyond the effects of their nodes.
impl Rel {
    /// The last node gives the order that Polars promises.
    pub fn in_promised_order(mut self) -> Self {
        self.branches.iter_mut().for_each(|branch| branch.any_order = false);
        Rel { order: Order::Tasks, ..self }
    }

    pub fn in_order(self, order: Order) -> Self {
        Rel { order, ..self }
    }

    /// If Polars promises no order, treats the present one as promised from here on.
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

    /// The scan at the bottom was cut into tasks by ranges of a key.
    pub fn cut_by(self, ranged: Ranged, tasks: u32) -> Self {
        Rel { ranged: Some(ranged), clustered: Vec::new(), ..self.recut(tasks) }
    }

    pub fn sized(self, rows: Option<f64>, bytes: Option<f64>) -> Self {
        Rel { rows, bytes, ..self }
    }

    /// Sets the share of rows that is likely to be left.
    pub fn likely(self, likely: f64) -> Self {
        Rel { likely, ..self }
    }

    /// Applies a filter: half of the rows are assumed to pass, `part` of them is likely.
    pub fn filtered(self, part: f64) -> Self {
        let likely = self.likely * (part / SAFE_SELECTIVITY).min(1.0);
        Rel { likely, ..self.scaled(SAFE_SELECTIVITY) }
    }

    pub fn scaled(self, factor: f64) -> Self {
        let (rows, bytes) = (self.rows.map(|rows| rows * factor), self.bytes.map(|bytes| bytes * factor));
        Rel { rows, bytes, ..self }
    }
}

/// Getters.
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

    /// Whether all rows are in one task of one fragment.
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

    /// Whether Polars promises no order of some of the rows.
    pub fn is_in_any_order(&self) -> bool {
        self.order == Order::Free || self.order == Order::Tasks && self.branches.iter().any(|branch| branch.any_order)
    }

    /// Whether the rows of a task are in the promised order, or none is promised.
    pub fn locally_ordered(&self) -> bool {
        match &self.order {
            Order::Free | Order::Tasks => true,
            Order::Tags { local, .. } => *local,
        }
    }

    /// The order that a stage states for a branch.
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

    /// The same in plain data, for the checks.
    pub fn key_ranges(&self) -> Option<KeyRanges> {
        let Ranged { columns, bounds } = self.ranged.as_ref()?;
        Some(KeyRanges { columns: columns.iter().map(|name| name.to_string()).collect(), bounds: bounds.to_vec() })
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

    /// The size as the cost of a join sees it.
    pub fn size(&self) -> SideSize {
        SideSize { bytes: self.bytes, rows: self.rows, likely: self.likely, tasks: self.tasks(), is_one: self.is_one() }
    }

    /// Rows and bytes of an equi-join: as many rows as the larger side has, with the columns of both.
    pub fn joined_size(&self, other: &Rel) -> (Option<f64>, Option<f64>) {
        (self.rows.zip(other.rows).map(|(a, b)| a.max(b)), self.bytes.zip(other.bytes).map(|(a, b)| a + b))
    }

    /// Bytes of a join in which every row looks up its match in `other`.
    pub fn looked_up_bytes(&self, other: &Rel) -> Option<f64> {
        self.bytes.zip(other.bytes).map(|(rows, found)| rows + found.min(rows))
    }
}

#[cfg(test)]
#[path = "rel_tests.rs"]
mod tests;
