//! What crosses: a plan of a newer Polars as plain data, as `traverse.py` writes it. Only its shape is here; what it
//! means is in `nodes`, `exprs` and `functions`.

use serde::Deserialize;
use serde_json::Value;

/// The version of this format. A writer of another one is refused.
pub const VERSION: u32 = 2;

/// Nodes and expressions name each other by position; what is named comes first.
#[derive(Debug, Deserialize)]
pub struct Crossing {
    pub version: u32,
    /// The version of Polars that resolved the plan.
    pub polars: String,
    pub root: usize,
    pub nodes: Vec<Node>,
    pub exprs: Vec<ExprData>,
}

#[derive(Debug, Deserialize)]
pub struct Node {
    #[serde(flatten)]
    pub kind: NodeKind,
    pub inputs: Vec<usize>,
    /// Columns and their types as Polars resolved them.
    pub schema: Vec<(String, Value)>,
}

/// An output column: its name and the position of its expression.
pub type Named = (String, usize);

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NodeKind {
    Frame {
        columns: Vec<String>,
        dtypes: Vec<Value>,
        height: usize,
        /// Whether it has nothing but nulls, which are left out then.
        nulls: bool,
        values: Vec<Vec<Value>>,
    },
    Filter {
        predicate: usize,
    },
    Select {
        exprs: Vec<Named>,
    },
    WithColumns {
        exprs: Vec<Named>,
    },
    Project,
    GroupBy {
        keys: Vec<Named>,
        aggs: Vec<Named>,
        maintain_order: bool,
        slice: Option<(i64, usize)>,
    },
    Join {
        how: Value,
        left_on: Vec<usize>,
        right_on: Vec<usize>,
        predicate: Option<usize>,
        nulls_equal: bool,
        slice: Option<(i64, usize)>,
        suffix: String,
        coalesce: bool,
        maintain_order: String,
    },
    Sort {
        by: Vec<usize>,
        maintain_order: bool,
        nulls_last: Vec<bool>,
        descending: Vec<bool>,
        slice: Option<(i64, usize)>,
    },
    Slice {
        offset: i64,
        len: usize,
    },
    Union {
        slice: Option<(i64, usize)>,
        maintain_order: bool,
    },
    Hconcat {
        options: (bool, bool, bool),
    },
    Distinct {
        keep: String,
        subset: Option<Vec<String>>,
        maintain_order: bool,
        slice: Option<(i64, usize)>,
    },
    Cache {
        id: String,
    },
    Map {
        name: String,
        args: Vec<Value>,
    },
    MergeSorted {
        key: Value,
    },
    /// A recursive table: its inputs are the anchor and the step.
    Recursive,
    /// In a step, the rows of the round before.
    WorkingTable,
    /// What the traverser cannot show.
    Unknown {
        name: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ExprData {
    Column {
        name: String,
    },
    Literal {
        dtype: Value,
        value: Value,
    },
    /// A literal whose type is not settled.
    Dyn {
        value: Value,
    },
    Series {
        name: String,
        dtype: Value,
        values: Vec<Value>,
    },
    Binary {
        op: String,
        left: usize,
        right: usize,
    },
    Cast {
        input: usize,
        dtype: Value,
        options: u8,
    },
    Ternary {
        predicate: usize,
        truthy: usize,
        falsy: usize,
    },
    Len,
    Agg {
        name: String,
        input: Vec<usize>,
        options: Value,
    },
    Filter {
        input: usize,
        by: usize,
    },
    Gather {
        input: usize,
        index: usize,
        scalar: bool,
    },
    Explode {
        input: usize,
        options: (bool, bool),
    },
    Slice {
        input: usize,
        offset: usize,
        length: usize,
    },
    Alias {
        input: usize,
        name: String,
    },
    Sort {
        input: usize,
        maintain_order: bool,
        nulls_last: bool,
        descending: bool,
    },
    SortBy {
        input: usize,
        by: Vec<usize>,
        maintain_order: bool,
        nulls_last: Vec<bool>,
        descending: Vec<bool>,
    },
    Over {
        input: usize,
        partition_by: Vec<usize>,
        order_by: Option<usize>,
        descending: bool,
        nulls_last: bool,
        mapping: String,
    },
    Rolling {
        input: usize,
        index: usize,
        period: Span,
        offset: Span,
        closed: String,
    },
    Function {
        name: String,
        args: Vec<Value>,
        input: Vec<usize>,
        /// The type of what it gives, where the arguments do not tell it.
        #[serde(default)]
        dtype: Option<Value>,
    },
    /// A function over the elements of every list.
    ListEval {
        name: String,
        args: Vec<Value>,
        input: usize,
    },
    /// The keys of a window's order, of which there are several.
    RowEncode {
        input: Vec<usize>,
    },
    /// What the traverser cannot show.
    Unknown {
        name: String,
    },
}

/// A duration: months, weeks, days, nanoseconds, whether it counts rows, whether it is negative.
pub type Span = (i64, i64, i64, i64, bool, bool);
