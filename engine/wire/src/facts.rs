//! What the planner states about a stage, in plain data. No task needs any of it to run: it is what `StageGraph::check`
//! holds the graph against, and what `floe explain` can show.

use serde::{Deserialize, Serialize};

/// Columns that Floe adds for its own use begin like this. They must never reach the user.
pub const HIDDEN_PREFIX: &str = "__floe_";

/// A column as the checker sees it: the type is Polars' own word for it, to be compared and shown, never parsed.
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
    /// The columns that are exchanged, in order, with the row tag if the stage adds one.
    pub columns: Vec<Column>,
    /// The tasks that are planned; ranges and merged partitions may turn out fewer.
    pub tasks: u32,
    pub order: RowOrder,
    /// The fragment's placeholders, in the order of the leaves that fill them.
    pub placeholders: Vec<Placeholder>,
    /// The key columns that it writes a summary of, for the runtime filters of other stages.
    pub key_summary: Option<Vec<String>>,
    /// The key columns of its runtime filters; each reads one of the last leaves.
    pub key_filters: Vec<Vec<String>>,
    /// How its joins are done, and why so.
    #[serde(default)]
    pub joins: Vec<JoinDecision>,
}

/// How a join is done, and what else was possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinDecision {
    /// The join, for people.
    pub join: String,
    pub chosen: JoinOption,
    pub reason: String,
    /// The cheapest of the others that are possible.
    pub runner_up: Option<JoinOption>,
    pub refused: Vec<RefusedOption>,
}

/// A way to do a join that is possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinOption {
    pub strategy: String,
    pub cost: JoinCost,
}

/// What a way to do a join is expected to cost; none: unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinCost {
    pub network_bytes: Option<u64>,
    /// Held by each task of the join.
    pub held_bytes: Option<u64>,
    /// Stages that wait for each other.
    pub rounds: u32,
}

/// A way to do a join that is not possible, or not worth it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedOption {
    pub strategy: String,
    pub why: String,
}

/// The order of a stage's output, read producer by producer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowOrder {
    /// Nobody may rely on it.
    #[default]
    None,
    /// Polars promises none here, so the one that the rows happen to have is as good as any, and readers may settle on it.
    Any,
    /// The order that Polars promises.
    Promised,
    /// Sorted by these columns, rows are in the order that Polars promises.
    Tags(Vec<String>),
}

/// An input of a fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placeholder {
    /// The columns that the fragment expects.
    pub columns: Vec<Column>,
    /// Why every task may hold all of it, where it is broadcast.
    pub bound: Option<BroadcastBound>,
}

/// Why it is safe that every task of a stage reads the whole of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BroadcastBound {
    /// It is expected to have `expected_bytes`, and up to `limit_bytes` are broadcast.
    Estimate { expected_bytes: u64, limit_bytes: u64 },
    /// This form of the stage is taken only if no more bytes than this were measured.
    Measured { limit_bytes: u64 },
    /// It has no more rows than this whatever the data: aggregates of all rows, rows at the edges of tasks.
    Rows { max_rows: u64 },
    /// The operation has no other distributed form (cross and inequality joins, as-of joins without keys).
    OnlyForm,
}

/// What the query must give at one of its ends: a sink, or the result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOutput {
    /// The columns of the user's plan.
    pub columns: Vec<Column>,
    /// Whether Polars promises an order of its rows.
    pub ordered: bool,
}
