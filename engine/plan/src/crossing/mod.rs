//! The way in for what the byte rewrite cannot read: a plan that a newer Polars resolved, read out node by node by its
//! plan traverser (`traverse.py`, in a child process), becomes a plan of the engine's Polars here.
//!
//! What the engine lacks is expressed by what it has (`decimal_mul` with a scale, outer joins with conditions, scalar
//! subqueries, windows with an order of several keys), or refused by name. Nothing here knows of SQL, files or stages.

use std::collections::HashMap;

use polars_lazy::frame::LazyFrame;

use crate::recursion::{Placeholder, Recursion};
use floe_wire::error::{QueryError, Result};

mod data;
mod exprs;
mod functions;
mod implied;
mod joins;
mod nodes;
mod recursive;
mod scalars;
mod texts;
mod titles;
mod values;

pub use data::{Crossing, VERSION};
pub use values::{dtype as dtype_of_data, dtype_data};

/// The Python that reads a plan out.
pub const TRAVERSE: &str = include_str!("traverse.py");
/// What the first key of a window's order compares with when the order has several keys: the number of the order in
/// `Orders` follows.
pub const ORDER_MARK: &str = "__floe_order_";
/// Frames of tables have this many rows and one more for each table before them, so that they can be told apart.
pub const FIRST_TABLE_ROWS: usize = 1001;
/// Deeper expressions than this are refused: everything that walks them does so on the stack.
const MAX_DEPTH: usize = 2_000;

/// Directions of a window's order of several keys, which the traverser does not show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    pub descending: Vec<bool>,
    pub nulls_last: Vec<bool>,
}

/// What is put in for the frames of tables, in their order.
pub struct Table {
    pub frame: LazyFrame,
    pub columns: Vec<(String, serde_json::Value)>,
}

/// The engine's plan, and the recursive tables in it, which are still to be made. `tables` stand in for frames of
/// `FIRST_TABLE_ROWS` rows and more.
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
    /// The same with columns of scalar subqueries as columns, not as their first rows.
    in_rows: Option<Vec<exprs::Built>>,
    caches: HashMap<String, LazyFrame>,
    /// What stands for the rows of a round, by node.
    working: HashMap<usize, Placeholder>,
    recursions: Vec<Recursion>,
}

fn damaged(what: impl std::fmt::Display) -> QueryError {
    QueryError::user("BadPlan", format!("the resolved plan cannot be read: {what}"))
}

/// What this engine's Polars lacks and nothing expresses.
fn lacking(what: impl std::fmt::Display) -> QueryError {
    QueryError::user(
        "UnsupportedPlan",
        format!("{what} is not supported: the engine's Polars does not have it, and nothing else expresses it"),
    )
}

#[cfg(test)]
mod tests;
