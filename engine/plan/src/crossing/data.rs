//! The crossing format: a plan of a newer Polars as plain data, as `traverse.py` writes it. Only the shape is here;
//! `nodes`, `exprs` and `functions` give it meaning.

use serde::Deserialize;
use serde_json::Value;

/// Version of this format; others are refused.
pub const VERSION: u32 = 2;

/// Nodes and expressions refer to each other by position, and only to earlier ones.
#[derive(Debug, Deserialize)]
pub struct Crossing {
    pub version: u32,
    /// Version of Polars that resolved the plan.
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
    /// Columns and types as Polars resolved them.
    pub schema: Vec<(String, Value)>,
}

/// An output column: its name, and the position of its expression.
pub type Named = (String, usize);

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NodeKind {
    Frame {
        columns: Vec<String>,
        dtypes: Vec<Value>,
        height: usize,
        /// Whether all values are null; `values` is empty then.
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
    /// In a step: the rows of the previous round.
    WorkingTable,
    /// A node that the traverser cannot read.
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
    /// A literal whose type is not resolved yet.
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
        /// Type of the input, in casts of decimals to integers.
        #[serde(default)]
        from: Option<Value>,
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
        /// Output type, where the arguments do not imply it.
        #[serde(default)]
        dtype: Option<Value>,
    },
    /// A function over the elements of each list.
    ListEval {
        name: String,
        args: Vec<Value>,
        input: usize,
    },
    /// The keys of a window's ORDER BY with several keys.
    RowEncode {
        input: Vec<usize>,
    },
    /// An expression that the traverser cannot read.
    Unknown {
        name: String,
    },
}

/// A duration: months, weeks, days, nanoseconds, whether it counts rows, whether it is negative.
pub type Span = (i64, i64, i64, i64, bool, bool);
