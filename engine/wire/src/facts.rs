//! States facts about stages, in plain data. No task needs them: `StageGraph::check` compares the graph with them, and
//! `floe explain` shows them.

use serde::{Deserialize, Serialize};

/// Prefix of the columns that Floe adds for its own use, which must never reach the user.
pub const HIDDEN_PREFIX: &str = "__floe_";

/// A column as the checker sees it: the type is as Polars prints it, to compare and show, never to parse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub dtype: String,
}

impl Column {
    pub fn new(name: impl Into<String>, dtype: impl Into<String>) -> Self {
        Column { name: name.into(), dtype: dtype.into() }
    }
}

/// What is stated about one stage, or about the adaptive form of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFacts {
    /// The columns that are exchanged, in order, with the order tag if the stage adds one.
    pub columns: Vec<Column>,
    /// The planned number of tasks; ranges and coalesced partitions may turn out fewer.
    pub tasks: u32,
    pub order: RowOrder,
    /// The fragment's placeholders, in the order of the leaves that fill them.
    pub placeholders: Vec<Placeholder>,
    /// The key columns that it summarizes for the runtime filters of other stages.
    pub key_summary: Option<Vec<String>>,
    /// The key columns of its runtime filters; each reads one of the last leaves.
    pub key_filters: Vec<Vec<String>>,
    /// How its joins are done, and why.
    #[serde(default)]
    pub joins: Vec<JoinDecision>,
    /// The ranges of a key that its tasks give rows of, if they are cut by one.
    #[serde(default)]
    pub ranges: Option<KeyRanges>,
    /// The group-bys and uniques of the fragment, top down, inputs left to right.
    #[serde(default)]
    pub groupings: Vec<Grouping>,
}

/// What a group-by or unique does to groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grouping {
    /// It has all rows of its groups, or combines what partial ones made of them.
    #[default]
    Whole,
    /// Each task groups the rows that it has; a later one combines the groups.
    Partial,
}

/// Cuts rows into tasks by an integer or date: the first task has those with a key below `bounds[0]`, and so on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRanges {
    /// Columns that all hold the key, as after a join.
    pub columns: Vec<String>,
    pub bounds: Vec<i64>,
}

/// How a join is done, and what else was possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinDecision {
    /// The join in words.
    pub join: String,
    pub chosen: JoinOption,
    pub reason: String,
    /// The cheapest of the other possible strategies.
    pub runner_up: Option<JoinOption>,
    pub refused: Vec<RefusedOption>,
}

/// A possible join strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinOption {
    pub strategy: String,
    pub cost: JoinCost,
}

/// The expected cost of a join strategy; none: unknown. The least `handled_bytes` decide, then the least `likely_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinCost {
    /// What tasks handle on the way: a byte that is exchanged by hash counts as several that are broadcast.
    pub handled_bytes: Option<u64>,
    /// The same, of the rows that filters and keys are likely to leave.
    pub likely_bytes: Option<u64>,
    pub network_bytes: Option<u64>,
    /// Held by each task of the join.
    pub held_bytes: Option<u64>,
    /// Stages that wait for one another.
    pub rounds: u32,
}

/// A join strategy that is not possible, or not worth it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedOption {
    pub strategy: String,
    pub why: String,
}

/// The order of a stage's output, read producer by producer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowOrder {
    /// Must not be relied on.
    #[default]
    None,
    /// Polars promises none here: any order is right, and readers may keep the present one.
    Any,
    /// The order that Polars promises.
    Promised,
    /// Sorting by these columns gives the order that Polars promises.
    Tags(Vec<String>),
}

/// An input of a fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placeholder {
    /// The columns that the fragment expects.
    pub columns: Vec<Column>,
    /// Why every task may hold all of it, where it is broadcast.
    pub bound: Option<BroadcastBound>,
    /// The ranges of a key that a scan is cut by, if so.
    #[serde(default)]
    pub ranges: Option<KeyRanges>,
}

/// Why every task of a stage may read the whole of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BroadcastBound {
    /// It is expected to have `expected_bytes`, and up to `limit_bytes` are broadcast.
    Estimate { expected_bytes: u64, limit_bytes: u64 },
    /// This form of the stage is chosen only if no more bytes than this were measured.
    Measured { limit_bytes: u64 },
    /// It has at most this many rows, whatever the data: aggregates of all rows, halo rows.
    Rows { max_rows: u64 },
    /// The operation has no other distributed form (cross and inequality joins, as-of joins without keys).
    OnlyForm,
}

/// What the query must deliver to one of its sinks, or as its result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOutput {
    /// The columns of the user's plan.
    pub columns: Vec<Column>,
    /// Whether Polars promises an order of its rows.
    pub ordered: bool,
}
