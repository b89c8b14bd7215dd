//! Writes a task's rows to the query's sink: the sink becomes the root of the task's plan, so that the engine writes
//! rows as it produces them, and the task holds none.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use polars_core::prelude::*;
use polars_plan::plans::IRPlan;

use super::keys::Filter;
use super::{Context, Failure, RowSink, stream};
use floe_polars::polars_error;
use floe_wire::error::{Result, TaskError};
use floe_wire::task::TaskOutput;

/// Runs a plan to its end, its rows into the sink. Blocks.
pub fn run(
    mut plan: IRPlan,
    filters: Vec<Filter>,
    sink: Box<dyn RowSink>,
    ctx: &Context,
    failure: &Failure,
    out: &mut TaskOutput,
) -> Result<(), TaskError> {
    let schema = plan.lp_arena.get(plan.lp_top).schema(&plan.lp_arena).into_owned();
    let (watched, task) = (failure.clone(), ctx.clone());
    let each = move |df: DataFrame, written: u64| {
        watched.watch(|| {
            task.check()?;
            let df = filters.iter().try_fold(df, |df, filter| filter.keep(df))?;
            task.progress.rows.fetch_add(df.height() as u64, Ordering::Relaxed);
            task.progress.bytes.fetch_max(written, Ordering::Relaxed);
            of_types(df, &schema)
        })
    };
    sink.attach(&mut plan, Arc::new(each))?;
    let ran = stream(plan, failure);
    out.metrics.nodes = ran.map_err(|error| match (error, sink.failure()) {
        (TaskError::Query(_), Some(failure)) => failure.into(),
        (error, _) => error,
    })?;
    ctx.check()?;
    let passed = sink.passed();
    (out.rows, out.size) = (passed.rows, passed.size);
    out.staged = sink.finish()?;
    Ok(())
}

/// Casts columns to the types that the plan predicted, which the files must have.
fn of_types(df: DataFrame, schema: &Schema) -> Result<DataFrame> {
    let fits = |(column, dtype): (&Column, &DataType)| column.dtype() == dtype;
    if df.columns().iter().zip(schema.iter_values()).all(fits) {
        return Ok(df);
    }
    let height = df.height();
    let columns = df.into_columns().into_iter().zip(schema.iter_values());
    let cast =
        columns.map(|(column, dtype)| if fits((&column, dtype)) { Ok(column) } else { column.strict_cast(dtype) });
    let columns = cast.collect::<PolarsResult<Vec<_>>>().map_err(polars_error)?;
    DataFrame::new(height, columns).map_err(polars_error)
}
