//! What the planner knows of a node's output: the fragments that make it, in how many tasks, in what order.

use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

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

#[derive(Clone, Debug)]
pub struct Rel {
    pub branches: Vec<Branch>,
    pub order: Order,
    /// Rows that are equal in these columns are in one task.
    pub hashed: Option<Vec<PlSmallStr>>,
    /// Estimates from statistics, none where unknown.
    pub rows: Option<f64>,
    pub bytes: Option<f64>,
}

impl Rel {
    pub fn one(root: Node) -> Self {
        let branches = vec![Branch { root, width: Width::One }];
        Rel { branches, order: Order::Tasks, hashed: None, rows: None, bytes: None }
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

    pub fn scaled(mut self, factor: f64) -> Self {
        self.rows = self.rows.map(|r| r * factor);
        self.bytes = self.bytes.map(|b| b * factor);
        self
    }
}
