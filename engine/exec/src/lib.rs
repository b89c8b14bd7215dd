//! One task run with Polars: fills the fragment's leaves with the task's data, runs it on the streaming engine and
//! lays the result out for its readers. Knows files only through `Store`, and nothing of scheduling.

mod incoming;
mod inline;
mod keys;
mod leaves;
mod nodes;
mod outgoing;
mod partition;
mod source;
mod write;
mod written;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use polars_buffer::Buffer;
use polars_core::prelude::*;
use polars_io::ipc::IpcCompression;
use polars_plan::dsl::{CallbackSinkType, SinkTypeIR, SpecialEq};
use polars_plan::plans::{IR, IRPlan};
use polars_plan::prelude::PlanCallback;
use polars_stream::StreamingQuery;

use floe_planner::Fragment;
use floe_polars::warnings::Listener;
use floe_polars::{concat_frames, frame_from_ipc};
use floe_wire::chunk::{OutputId, Place, Span};
use floe_wire::error::{Category, QueryError, Result, TaskError};
use floe_wire::graph::{Exchange, NodeMetrics, Portion, TaskId, TaskOutput, TaskSpec};

pub use incoming::ReadBudget;
pub use inline::{Inline, run_here};

use outgoing::Outgoing;

/// Outputs of one run, to be read.
pub trait Outputs: Send + Sync {
    fn open(&self, output: OutputId, place: &Place, span: Span) -> Result<Buffer<u8>, TaskError>;
}

/// Where outputs of one run are read and written: the shuffle, seen from a task.
pub trait Store: Outputs {
    fn create(&self, output: OutputId) -> Result<Box<dyn OutputWriter>>;
}

/// The output of one attempt while it is written; dropped unfinished, it is gone.
pub trait OutputWriter: std::io::Write + Send {
    fn position(&self) -> u64;
    fn finish(self: Box<Self>) -> Result<Place>;
}

/// What a task does with each frame on its way to a sink. It is told how many bytes the sink has written so far.
pub type EachFrame = dyn Fn(DataFrame, u64) -> PolarsResult<DataFrame> + Send + Sync;

/// What went into a sink, and what came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub rows: u64,
    /// Bytes of the rows in memory.
    pub size: u64,
    /// Bytes of files.
    pub written: u64,
}

/// The query's sink as one task sees it: the end of its plan, so that the engine writes rows as it makes them.
pub trait RowSink: Send {
    /// Puts the sink on top of the plan. Frames go through `each` first: many at once, in no order.
    fn attach(&self, plan: &mut IRPlan, each: Arc<EachFrame>) -> Result<()>;
    fn passed(&self) -> Passed;
    /// What stopped the sink: the store behind it knows more of that than the engine.
    fn failure(&self) -> Option<QueryError>;
    /// The plan ran to its end: what the coordinator needs to commit.
    fn finish(self: Box<Self>) -> Result<Vec<bytes::Bytes>>;
}

/// Opens the sink with this index for one task attempt.
pub type OpenSink = dyn Fn(u32, TaskId, u32) -> Result<Box<dyn RowSink>> + Send + Sync;

#[derive(Clone)]
pub struct Context {
    /// The name of the run, for what Polars warns of while its tasks are at work.
    pub query: String,
    pub store: Arc<dyn Store>,
    pub open_sink: Arc<OpenSink>,
    pub compression: Option<IpcCompression>,
    /// Bytes of rows that are laid out for the exchange at once.
    pub batch_bytes: usize,
    /// Bytes of rows that are sorted at once for an exchange by range.
    pub run_bytes: usize,
    /// What the tasks of this process may have read ahead.
    pub read_budget: Arc<ReadBudget>,
    /// Inputs from this size on are read while the engine works on them; smaller ones before it starts.
    pub stream_from_bytes: u64,
    pub cancel: Arc<AtomicBool>,
    pub progress: Arc<Progress>,
}

impl Context {
    fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(QueryError::new(Category::Cancelled, "Cancelled", "the task was cancelled"));
        }
        Ok(())
    }
}

/// The first error behind whatever the engine says: it knows none but its own.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<TaskError>>>);

impl Failure {
    /// The error as the engine takes it.
    fn keep(&self, error: impl Into<TaskError>) -> PolarsError {
        let error = error.into();
        let told = PolarsError::ComputeError(error.to_string().into());
        lock(&self.0).get_or_insert(error);
        told
    }

    fn take(&self) -> Option<TaskError> {
        lock(&self.0).take()
    }

    /// Runs what the engine calls; neither an error nor a panic of it is lost.
    fn watch<T>(&self, run: impl FnOnce() -> Result<T>) -> PolarsResult<T> {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        ran.unwrap_or_else(|panic| Err(panic_error(&*panic))).map_err(|error| self.keep(error))
    }
}

/// Read by the worker's heartbeat while a task runs.
#[derive(Default)]
pub struct Progress {
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
}

/// Blocking: one task from its inputs to its written output.
pub fn run(fragment: &Fragment, task: &TaskSpec, ctx: &Context) -> Result<TaskOutput, TaskError> {
    let begun = Instant::now();
    let listener = Listener::of_task(&ctx.query);
    let Fragment { placeholders, tag, notes, filters: wanted, .. } = fragment;
    let mut plan = fragment.copy_of_plan();
    let mut out = TaskOutput::default();
    let mut filters = Vec::new();
    let failure = Failure::default();
    if *placeholders {
        // Notes of keys come behind all that the plan reads.
        let (inputs, notes) = task.leaves.split_at(task.leaves.len().saturating_sub(wanted.len()));
        filters = keys::read(wanted, notes, ctx, &mut out)?;
        leaves::bound(&mut plan, filters.iter().filter_map(|filter| filter.scan.as_ref()));
        leaves::fill(&mut plan, inputs, ctx, &failure, &mut out)?;
    }
    out.metrics.decode_us = begun.elapsed().as_micros() as u64;
    ctx.check()?;
    let ran = Instant::now();
    if let Exchange::Sink { sink } = task.output {
        let sink = (ctx.open_sink)(sink, task.id.task, task.id.attempt)?;
        written::run(plan, filters, sink, ctx, &failure, &mut out)?;
        out.metrics.run_us = ran.elapsed().as_micros() as u64;
        out.warnings = listener.take();
        return Ok(out);
    }
    let outgoing = Arc::new(Mutex::new(Outgoing::new(task, ctx, filters, tag.as_ref(), notes.as_ref())));
    let rows = outgoing.clone();
    out.metrics.nodes = execute(plan, failure, move |df| lock(&rows).take(df))?;
    ctx.check()?;
    lock(&outgoing).finish(&mut out)?;
    out.metrics.run_us = (ran.elapsed().as_micros() as u64).saturating_sub(out.metrics.write_us);
    out.warnings = listener.take();
    Ok(out)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The plan on the streaming engine: its rows go to `take` as they are made, in order, and what the engine counted comes
/// back.
fn execute(
    mut plan: IRPlan,
    failure: Failure,
    take: impl FnMut(DataFrame) -> Result<()> + Send + 'static,
) -> Result<Vec<NodeMetrics>, TaskError> {
    let (watched, take) = (failure.clone(), Mutex::new(take));
    let function = move |df: DataFrame| watched.watch(|| lock(&take)(df)).map(|()| false);
    plan.ensure_root_node_is_sink();
    if let IR::Sink { payload, .. } = plan.lp_arena.get_mut(plan.lp_top) {
        *payload = SinkTypeIR::Callback(CallbackSinkType {
            function: PlanCallback::Rust(SpecialEq::new(Arc::new(function))),
            maintain_order: true,
            chunk_size: None,
        });
    }
    stream(plan, &failure)
}

/// Runs a plan that ends in a sink.
fn stream(mut plan: IRPlan, failure: &Failure) -> Result<Vec<NodeMetrics>, TaskError> {
    let run = || {
        let query = StreamingQuery::build(plan.lp_top, &mut plan.lp_arena, &mut plan.expr_arena)?;
        let counted = nodes::watch(&query);
        query.execute().map(|_| counted())
    };
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    // What went wrong with the rows, coming or going, is the cause of whatever the engine says of it.
    match (failure.take(), ran) {
        (Some(error), _) => Err(error),
        (None, Ok(ran)) => Ok(ran.map_err(floe_polars::polars_error)?),
        (None, Err(panic)) => Err(panic_error(&*panic).into()),
    }
}

/// A panic of the engine, as Python shows it. It comes from the plan and its data, and would come again: no retry.
pub fn panic_error(payload: &(dyn std::any::Any + Send)) -> QueryError {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the engine panicked".into());
    QueryError::user("PanicException", text)
}

/// Rows of outputs as one frame.
pub fn read(portions: &[Portion], schema: &SchemaRef, store: &dyn Outputs) -> Result<DataFrame, TaskError> {
    let mut frames = Vec::with_capacity(portions.iter().map(|portion| portion.chunks.len()).sum());
    for Portion { output, place, chunks } in portions {
        for chunk in chunks {
            let bytes = store.open(*output, place, chunk.span())?;
            frames.push(frame_from_ipc(&bytes, chunk.rows as usize, schema)?);
        }
    }
    Ok(concat_frames(frames, schema)?)
}
