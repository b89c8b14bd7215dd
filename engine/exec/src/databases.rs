//! A leaf whose rows come from a database while the engine works: a batch at a time, over one connection.
//!
//! The engine asks for numbered parts, as of an exchange (`source`), but nobody knows how many batches there will be. So
//! there are as many numbers as the guess of rows makes likely, and more; batches grow once there are more than that, and
//! the last number stands for all that is left. Numbers after the last row stand for nothing. Several threads of the engine
//! ask at one time, and in any order: whoever asks for a number reads up to it, and keeps what is before it for the others.
//! None waits for another to ask, which could be waiting for a thread.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use floe_plan::databases;
use polars_core::prelude::*;
use polars_plan::plans::{DataFrameUdf, FunctionIR, IR, IRPlan, UdfSchema};
use polars_utils::arena::Node;

use super::source::{PART, numbers};
use super::{Context, Failure, leaves};
use floe_polars::polars_error;
use floe_postgres::{Limits, Reading, Unit};
use floe_wire::error::{QueryError, Result, TaskError};

/// A batch is handed over once it has this many bytes, or the rows of `Limits`.
const BATCH_BYTES: usize = 16 << 20;
/// Numbers beyond twice the batches that are likely.
const SPARE: u64 = 256;
/// After so many unlikely batches, they double, ...
const GROWS_AFTER: u64 = 32;
/// ... and no more often than this.
const MOST_DOUBLINGS: u32 = 8;

/// Puts the rows of tables into a fragment that holds its own data.
pub fn open(plan: &mut IRPlan, ctx: &Context, failure: &Failure) -> Result<(), TaskError> {
    let mut stack = vec![plan.lp_top];
    let mut found = Vec::new();
    while let Some(node) = stack.pop() {
        let ir = plan.lp_arena.get(node);
        if let IR::DataFrameScan { df, schema, output_schema } = ir
            && let Some(units) = databases::units(df)?
        {
            found.push((node, units, output_schema.as_ref().unwrap_or(schema).clone()));
        }
        stack.extend(ir.inputs());
    }
    // A common subplan is met once for each of its readers.
    found.sort_by_key(|(node, ..)| node.0);
    found.dedup_by_key(|(node, ..)| node.0);
    found.into_iter().try_for_each(|(node, units, schema)| put(plan, node, units, schema, ctx, failure))
}

/// Puts the rows of `units`, one after another, in place of a leaf.
pub fn put(
    plan: &mut IRPlan,
    node: Node,
    units: Vec<Unit>,
    schema: SchemaRef,
    ctx: &Context,
    failure: &Failure,
) -> Result<(), TaskError> {
    let likely = batches(&units, &schema);
    let rows = Rows::new(units, schema.clone(), ctx.cancel.clone(), likely);
    if schema.is_empty() {
        // The engine has no morsels without columns: their number is all there is.
        let df = DataFrame::new(rows.count()?, vec![]).map_err(polars_error)?;
        leaves::frame(plan, node, df, schema, false);
        return Ok(());
    }
    plan.lp_arena.replace(node, numbers(rows.count_of_numbers() as usize)?);
    let watched = Watched { rows: Arc::new(rows), failure: failure.clone() };
    let function = FunctionIR::Opaque {
        function: Arc::new(watched),
        schema: Some(Arc::new(move |_: &Schema| Ok::<_, PolarsError>(schema.clone())) as Arc<dyn UdfSchema>),
        predicate_pd: false,
        projection_pd: false,
        streamable: true,
        fmt_str: PlSmallStr::from_static("database"),
    };
    leaves::put_above(plan, node, |input| IR::MapFunction { input, function });
    Ok(())
}

/// How many batches the guesses make likely.
fn batches(units: &[Unit], schema: &Schema) -> u64 {
    let rows: u64 = units.iter().map(|unit| unit.rows).sum();
    let bytes: u64 = units.iter().map(|unit| unit.bytes).sum::<u64>().max(rows * schema.len() as u64 * 8);
    (rows / Limits::default().rows as u64).max(bytes / BATCH_BYTES as u64) + units.len() as u64
}

struct State {
    /// Statements that are still to be read, with what reads them.
    waiting: VecDeque<(Arc<Unit>, usize)>,
    reading: Option<Reading>,
    /// The number of the next batch.
    next: u64,
    ended: bool,
    /// Batches that were read before anyone asked for them.
    kept: HashMap<u64, DataFrame>,
}

struct Rows {
    state: Mutex<State>,
    schema: SchemaRef,
    cancel: Arc<AtomicBool>,
    likely: u64,
}

impl Rows {
    fn new(units: Vec<Unit>, schema: SchemaRef, cancel: Arc<AtomicBool>, likely: u64) -> Rows {
        let units = units.into_iter().map(Arc::new);
        let waiting = units.flat_map(|unit| (0..unit.selects.len()).map(move |at| (unit.clone(), at)));
        let state = State { waiting: waiting.collect(), reading: None, next: 0, ended: false, kept: HashMap::new() };
        Rows { state: Mutex::new(state), schema, cancel, likely }
    }

    fn count_of_numbers(&self) -> u64 {
        2 * self.likely + SPARE
    }

    fn limits(&self, number: u64) -> Limits {
        let unlikely = number.saturating_sub(self.likely + GROWS_AFTER) / GROWS_AFTER;
        let times = 1usize << u32::try_from(unlikely).unwrap_or(u32::MAX).min(MOST_DOUBLINGS);
        Limits { rows: Limits::default().rows * times, bytes: BATCH_BYTES * times }
    }

    /// The batch with this number; nothing after the last row.
    fn batch(&self, number: u64) -> Result<Option<DataFrame>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.next <= number && !state.ended {
            let Some(df) = self.read(&mut state)? else { break };
            let at = state.next;
            state.next += 1;
            state.kept.insert(at, df);
        }
        let mut all = state.kept.remove(&number);
        if number + 1 == self.count_of_numbers() {
            while let Some(more) = self.read(&mut state)? {
                match &mut all {
                    Some(all) => {
                        all.vstack_mut_owned(more).map_err(polars_error)?;
                    }
                    None => all = Some(more),
                }
            }
        }
        Ok(all)
    }

    fn read(&self, state: &mut State) -> Result<Option<DataFrame>> {
        let batch = self.next_batch(state)?;
        batch.map(|batch| databases::frame(batch, &self.schema)).transpose()
    }

    fn next_batch(&self, state: &mut State) -> Result<Option<floe_postgres::Batch>> {
        let next = self.read_on(state);
        if next.is_err() {
            // The task has failed: what is left is not worth a connection.
            state.waiting.clear();
            state.ended = true;
        }
        next
    }

    fn read_on(&self, state: &mut State) -> Result<Option<floe_postgres::Batch>> {
        let limits = self.limits(state.next);
        let stopped = || self.cancel.load(Ordering::Relaxed);
        loop {
            let mut reading = match state.reading.take() {
                Some(reading) => reading,
                None => {
                    let Some((unit, at)) = state.waiting.pop_front() else {
                        state.ended = true;
                        return Ok(None);
                    };
                    let open = async move {
                        let missing = || QueryError::internal("a part of a table without its statement");
                        unit.open(unit.selects.get(at).ok_or_else(missing)?, limits).await
                    };
                    floe_postgres::runtime::wait(open, &stopped)?
                }
            };
            // While it waits it belongs to the future, so that who stops waiting ends the statement.
            let next = async move {
                reading.set_limits(limits);
                let batch = reading.next().await?;
                Ok((reading, batch))
            };
            let (reading, batch) = floe_postgres::runtime::wait(next, &stopped)?;
            if let Some(batch) = batch {
                state.reading = Some(reading);
                return Ok(Some(batch));
            }
        }
    }

    /// The number of all rows.
    fn count(&self) -> Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = 0;
        while let Some(batch) = self.next_batch(&mut state)? {
            rows += batch.rows;
        }
        Ok(rows)
    }
}

struct Watched {
    rows: Arc<Rows>,
    failure: Failure,
}

impl DataFrameUdf for Watched {
    fn call_udf(&self, numbers: DataFrame) -> PolarsResult<DataFrame> {
        let mut all: Option<DataFrame> = None;
        for number in numbers.column(PART)?.u64()?.iter().flatten() {
            let Some(rows) = self.rows.batch(number).map_err(|error| self.failure.keep(error))? else { continue };
            match &mut all {
                Some(all) => {
                    all.vstack_mut_owned(rows)?;
                }
                None => all = Some(rows),
            }
        }
        Ok(all.unwrap_or_else(|| DataFrame::empty_with_schema(&self.rows.schema)))
    }
}
