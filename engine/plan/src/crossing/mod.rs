//! Imports plans that the byte rewrite cannot read: a newer Polars resolves the plan, its plan traverser reads it out
//! node by node (`traverse.py`, in a child process), and this module builds a plan of the engine's Polars from that.
//!
//! What the engine lacks is expressed by what it has (`decimal_mul` with a scale, outer joins with conditions, scalar
//! subqueries, windows ordered by several keys), or refused by name. This module knows nothing of SQL, files or stages.

use std::collections::HashMap;

use polars_lazy::frame::LazyFrame;

use crate::recursion::{Placeholder, Recursion};
use floe_wire::error::{QueryError, Result};

pub mod bounded;
mod data;
mod exprs;
mod functions;
pub mod gauss;
mod implied;
mod joins;
mod nodes;
pub mod parsed;
mod plain;
pub mod product;
mod recursive;
mod scalars;
mod texts;
mod titles;
mod values;

pub use data::{Crossing, VERSION};
pub use values::{dtype as dtype_of_data, dtype_data};

/// Python script that reads a plan out.
pub const TRAVERSE: &str = include_str!("traverse.py");
/// Prefix of the literal that marks the first key of a window's ORDER BY with several keys. The index into the orders
/// follows.
pub const ORDER_MARK: &str = "__floe_order_";
/// The frame of nulls for the first table has this many rows, and that of each further table one more: tables are
/// recognized by their height.
pub const FIRST_TABLE_ROWS: usize = 1001;
/// Nesting limit of expressions: all code that walks them recurses.
const MAX_DEPTH: usize = 2_000;

/// Directions of a window's ORDER BY with several keys, which the traverser does not show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    pub descending: Vec<bool>,
    pub nulls_last: Vec<bool>,
}

/// A table that replaces one of the frames, by position.
pub struct Table {
    pub frame: LazyFrame,
    pub columns: Vec<(String, serde_json::Value)>,
}

/// Builds the engine's plan, and returns its recursive tables, which the caller computes. `tables` replace the frames
/// of `FIRST_TABLE_ROWS` rows and more.
pub fn build(crossing: &Crossing, tables: &[&Table], orders: &[Order]) -> Result<(LazyFrame, Vec<Recursion>)> {
    if crossing.version != VERSION {
        return Err(damaged(format!("it is version {} of the crossing, this is version {VERSION}", crossing.version)));
    }
    exprs::check(&crossing.exprs)?;
    let broadcast = scalars::broadcast_columns(crossing);
    let ctx = Context {
        crossing,
        tables,
        exprs: exprs::build_all(&crossing.exprs, orders, &Default::default())?,
        in_rows: if broadcast.is_empty() { None } else { Some(exprs::build_all(&crossing.exprs, orders, &broadcast)?) },
        caches: HashMap::new(),
        working: HashMap::new(),
        recursions: vec![],
    };
    nodes::build(ctx)
}

struct Context<'a> {
    crossing: &'a Crossing,
    tables: &'a [&'a Table],
    exprs: Vec<exprs::Built>,
    /// The same, with the columns of scalar subqueries as columns instead of as their first values.
    in_rows: Option<Vec<exprs::Built>>,
    caches: HashMap<String, LazyFrame>,
    /// Placeholders for the rows of the previous round, by node.
    working: HashMap<usize, Placeholder>,
    recursions: Vec<Recursion>,
}

fn damaged(what: impl std::fmt::Display) -> QueryError {
    QueryError::user("BadPlan", format!("the resolved plan cannot be read: {what}"))
}

/// The error for a feature that the engine's Polars lacks and that cannot be expressed otherwise.
fn lacking(what: impl std::fmt::Display) -> QueryError {
    QueryError::user(
        "UnsupportedPlan",
        format!("{what} is not supported: the engine's Polars does not have it, and nothing else expresses it"),
    )
}

#[cfg(test)]
mod tests;
