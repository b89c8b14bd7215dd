//! Recursive tables (`WITH RECURSIVE`). The engine's Polars has no such node, so the caller iterates: it computes the
//! anchor, then the step over the rows of the previous round, until a round returns no rows. In plans, empty frames
//! stand for rows that are not computed yet; each is identified by its address.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::dsl::DslPlan;

use crate::inputs::inputs_mut;
use floe_polars::{on_big_stack, polars_error};
use floe_wire::error::{QueryError, Result};

/// Round limit: a recursion with more rounds is treated as infinite.
pub const MOST_ROUNDS: usize = 1_000;
/// Size limit of a recursive table: all its rows pass through the coordinator.
pub const MOST_BYTES: usize = 256 << 20;

/// An empty frame that stands for rows that are not computed yet.
#[derive(Clone, Debug)]
pub struct Placeholder(Arc<DataFrame>);

impl Placeholder {
    pub fn new(schema: SchemaRef) -> Self {
        Placeholder(Arc::new(DataFrame::empty_with_schema(&schema)))
    }

    /// A frame of these columns without rows.
    pub fn rows(&self) -> DataFrame {
        (*self.0).clone()
    }

    pub fn plan(&self) -> DslPlan {
        DslPlan::DataFrameScan { df: self.0.clone(), schema: self.0.schema().clone() }
    }
}

/// A recursive table.
#[derive(Clone, Debug)]
pub struct Recursion {
    /// The rows of the first round.
    pub anchor: DslPlan,
    /// The rows of the next round, computed from those of the previous one, for which `working` stands.
    pub step: DslPlan,
    pub working: Vec<Placeholder>,
    /// Stands for all rows of the table.
    pub whole: Placeholder,
    /// Errors for too many rounds and for too many bytes.
    pub endless: QueryError,
    pub large: QueryError,
}

impl Recursion {
    pub fn new(anchor: DslPlan, step: DslPlan, working: Vec<Placeholder>, whole: Placeholder) -> Self {
        let refused = |message: String| QueryError::user("QueryTooLarge", message);
        Recursion {
            anchor,
            step,
            working,
            whole,
            endless: refused(format!("the recursive table has not come to an end after {MOST_ROUNDS} rounds")),
            large: refused(format!("the recursive table has more than {} MiB", MOST_BYTES >> 20)),
        }
    }

    /// The step over the rows of the previous round.
    pub fn over(&self, rows: &DataFrame) -> Result<DslPlan> {
        on_big_stack(|| {
            let mut plan = self.step.clone();
            self.working.iter().for_each(|working| put_in(&mut plan, working, rows));
            Ok(plan)
        })
    }
}

/// Replaces a placeholder by rows.
fn put_in(plan: &mut DslPlan, placeholder: &Placeholder, rows: &DataFrame) {
    if let DslPlan::DataFrameScan { df, schema } = plan {
        if Arc::ptr_eq(df, &placeholder.0) {
            (*df, *schema) = (Arc::new(rows.clone()), rows.schema().clone());
        }
        return;
    }
    for input in inputs_mut(plan) {
        put_in(input, placeholder, rows);
    }
}

impl crate::Loaded {
    /// Replaces the first recursion by its rows wherever it is used, and removes it from the list.
    pub fn fill(&mut self, rows: &DataFrame) -> Result<()> {
        let done = self.recursions.remove(0);
        on_big_stack(|| {
            put_in(&mut self.plan, &done.whole, rows);
            for later in &mut self.recursions {
                put_in(&mut later.anchor, &done.whole, rows);
                put_in(&mut later.step, &done.whole, rows);
            }
            Ok(())
        })
    }

    /// For callers that cannot iterate: refuses recursive tables.
    pub fn without_recursion(self) -> Result<Self> {
        if self.recursions.is_empty() {
            return Ok(self);
        }
        let message = "a recursive table (WITH RECURSIVE) is made round by round, which is done for queries that run and nowhere else";
        Err(QueryError::user("UnsupportedPlan", message))
    }
}

/// Casts the rows of a round to the anchor's types.
pub fn as_anchor(rows: DataFrame, anchor: &Schema) -> Result<DataFrame> {
    if rows.schema().as_ref() == anchor {
        return Ok(rows);
    }
    let columns = rows.columns().iter().zip(anchor.iter());
    let cast = columns.map(|(column, (name, dtype))| Ok(column.strict_cast(dtype)?.with_name(name.clone())));
    let cast = cast.collect::<PolarsResult<Vec<_>>>().map_err(polars_error)?;
    DataFrame::new(rows.height(), cast).map_err(polars_error)
}
