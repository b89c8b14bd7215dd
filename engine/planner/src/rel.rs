//! What the planner knows of a node's output: the fragments that make it, in how many tasks, in what order.

use std::sync::Arc;

use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use floe_wire::facts::RowOrder;

/// What a filter is counted on to let pass.
const FILTERED: f64 = 0.5;

/// In how many tasks a fragment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    One,
    Many(u32),
}

/// One fragment (still open: nodes can be put on top) and its tasks. A relation has several after a union.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    pub root: Node,
    pub width: Width,
    /// Polars promises no order of its rows: the one that they have is as good as any.
    pub any_order: bool,
}

impl Branch {
    pub fn new(root: Node, width: Width) -> Self {
        Branch { root, width, any_order: false }
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

/// A column that rises over the row groups of the scan `leaf`, where it is called `source`.
#[derive(Clone, Debug, PartialEq)]
pub struct Clustered {
    pub column: PlSmallStr,
    pub source: PlSmallStr,
    pub leaf: Node,
}

#[derive(Clone, Debug)]
pub struct Rel {
    pub branches: Vec<Branch>,
    pub order: Order,
    /// Rows that are equal in these columns are in one task.
    pub hashed: Option<Vec<PlSmallStr>>,
    /// Rows with equal values in one of its columns are in one task, by ranges of those values.
    pub ranged: Option<Ranged>,
    /// Columns by which the scan at the bottom can still be cut: everything above it looks at one row at a time.
    pub clustered: Vec<Clustered>,
    /// Estimates from statistics, none where unknown.
    pub rows: Option<f64>,
    pub bytes: Option<f64>,
    /// The part of these that is likely there: what filters look like. It decides which side of a join is waited for,
    /// not what is held whole in memory.
    pub likely: f64,
}

impl Rel {
    pub fn one(root: Node) -> Self {
        let branches = vec![Branch::new(root, Width::One)];
        Rel::of(branches, Order::Tasks)
    }

    pub fn of(branches: Vec<Branch>, order: Order) -> Self {
        Rel { branches, order, hashed: None, ranged: None, clustered: Vec::new(), rows: None, bytes: None, likely: 1.0 }
    }

    /// Whoever asks for the order of these rows gets the one that they have, if Polars promises none.
    pub fn settled(mut self) -> Self {
        if self.order == Order::Free {
            self.branches.iter_mut().for_each(|branch| branch.any_order = true);
            self.order = Order::Tasks;
        }
        self
    }

    /// Nothing is known any more of which rows are together.
    pub fn scattered(self) -> Self {
        Rel { hashed: None, ranged: None, clustered: Vec::new(), ..self }
    }

    /// A node that looks at all rows of a task was put on top: the tasks are now what they are.
    pub fn fixed(mut self) -> Self {
        self.clustered.clear();
        self
    }

    /// What is known of where rows are, for columns that go on under another name or not at all.
    pub fn renamed(mut self, new_name: impl Fn(&PlSmallStr) -> Option<PlSmallStr>) -> Self {
        self.clustered = std::mem::take(&mut self.clustered)
            .into_iter()
            .filter_map(|by| Some(Clustered { column: new_name(&by.column)?, ..by }))
            .collect();
        self.ranged = self.ranged.and_then(|ranged| {
            let columns: Vec<_> = ranged.columns.iter().filter_map(&new_name).collect();
            (!columns.is_empty()).then_some(Ranged { columns, ..ranged })
        });
        self
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

    /// In how many tasks it runs.
    pub fn tasks(&self) -> u32 {
        let of = |branch: &Branch| if let Width::Many(tasks) = branch.width { tasks } else { 1 };
        self.branches.iter().map(of).sum()
    }

    /// All in one task of one fragment.
    pub fn is_one(&self) -> bool {
        self.branches.len() == 1 && self.branches[0].width == Width::One
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

    pub fn likely_rows(&self) -> Option<f64> {
        self.rows.map(|rows| rows * self.likely)
    }

    pub fn likely_bytes(&self) -> Option<f64> {
        self.bytes.map(|bytes| bytes * self.likely)
    }

    /// Rows and bytes where rows with equal keys meet: as many rows as the larger side has, and the columns of both.
    pub fn joined_size(&self, other: &Rel) -> (Option<f64>, Option<f64>) {
        (self.rows.zip(other.rows).map(|(a, b)| a.max(b)), self.bytes.zip(other.bytes).map(|(a, b)| a + b))
    }

    /// Bytes where every row looks its match up in `other`.
    pub fn looked_up_bytes(&self, other: &Rel) -> Option<f64> {
        self.bytes.zip(other.bytes).map(|(rows, found)| rows + found.min(rows))
    }

    /// Rows that pass a filter: no more than half is all that is counted on, `part` of them is what it looks like.
    pub fn filtered(self, part: f64) -> Self {
        let likely = self.likely * (part / FILTERED).min(1.0);
        Rel { likely, ..self.scaled(FILTERED) }
    }

    pub fn scaled(mut self, factor: f64) -> Self {
        self.rows = self.rows.map(|r| r * factor);
        self.bytes = self.bytes.map(|b| b * factor);
        self
    }
}
