//! Recursive tables (`WITH RECURSIVE`). The engine's Polars has no such node, so whoever runs the query goes round: the rows of
//! the anchor, then those of the step over the rows of the round before, until a round gives none. In plans, empty frames
//! stand for what is not known yet, each told by its own place in memory.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::dsl::DslPlan;

use crate::inputs::inputs_mut;
use floe_polars::{on_big_stack, polars_error};
use floe_wire::error::{QueryError, Result};

/// A recursion that goes on longer has no end.
pub const MOST_ROUNDS: usize = 1_000;
/// All rows of one pass through the coordinator.
pub const MOST_BYTES: usize = 256 << 20;

/// A frame that stands for rows that are not known yet.
#[derive(Clone, Debug)]
pub struct Placeholder(Arc<DataFrame>);

impl Placeholder {
    pub fn new(schema: SchemaRef) -> Self {
        Placeholder(Arc::new(DataFrame::empty_with_schema(&schema)))
    }

    /// No rows, of its columns.
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
    /// The first rows.
    pub anchor: DslPlan,
    /// The rows that follow from those of the round before, which `working` stands for.
    pub step: DslPlan,
    pub working: Vec<Placeholder>,
    /// Stands for all rows.
    pub whole: Placeholder,
    /// What to say where it goes on too long, or grows too large.
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

    /// The step over these rows.
    pub fn over(&self, rows: &DataFrame) -> Result<DslPlan> {
        on_big_stack(|| {
            let mut plan = self.step.clone();
            self.working.iter().for_each(|working| put_in(&mut plan, working, rows));
            Ok(plan)
        })
    }
}

/// Puts rows in for a placeholder.
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
    /// Puts the rows of the first recursion in wherever it is used, and takes it off the list.
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

    /// For who cannot go round.
    pub fn without_recursion(self) -> Result<Self> {
        if self.recursions.is_empty() {
            return Ok(self);
        }
        let message = "a recursive table (WITH RECURSIVE) is made round by round, which is done for queries that run and nowhere else";
        Err(QueryError::user("UnsupportedPlan", message))
    }
}

/// The rows of a round with the types of the anchor.
pub fn as_anchor(rows: DataFrame, anchor: &Schema) -> Result<DataFrame> {
    if rows.schema().as_ref() == anchor {
        return Ok(rows);
    }
    let columns = rows.columns().iter().zip(anchor.iter());
    let cast = columns.map(|(column, (name, dtype))| Ok(column.strict_cast(dtype)?.with_name(name.clone())));
    let cast = cast.collect::<PolarsResult<Vec<_>>>().map_err(polars_error)?;
    DataFrame::new(rows.height(), cast).map_err(polars_error)
}
