//! Runs one task with Polars: fills the fragment's leaves with the task's data, runs it on the streaming engine and
//! lays the result out for its readers. Knows files only through `Store`, and nothing of scheduling.

mod databases;
mod incoming;
mod inline;
mod keys;
mod leaves;
mod no_groups;
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
use floe_wire::graph::{Exchange, TaskId};
use floe_wire::task::{NodeMetrics, Portion, TaskOutput, TaskSpec};

pub use incoming::ReadBudget;
pub use inline::{Inline, run_here};

use outgoing::Outgoing;

/// The outputs of one run, for reading.
pub trait Outputs: Send + Sync {
    fn open(&self, output: OutputId, place: &Place, span: Span) -> Result<Buffer<u8>, TaskError>;
}

/// Where outputs of one run are read and written: the shuffle, as a task sees it.
pub trait Store: Outputs {
    fn create(&self, output: OutputId) -> Result<Box<dyn OutputWriter>>;
}

/// The output of one attempt while it is written; dropping it unfinished deletes it.
pub trait OutputWriter: std::io::Write + Send {
    fn position(&self) -> u64;
    /// Whether it has grown out of memory.
    fn on_disk(&self) -> bool {
        false
    }
    fn finish(self: Box<Self>) -> Result<Place>;
}

/// Transforms each frame on its way to a sink. The second argument: the bytes that the sink has written so far.
pub type EachFrame = dyn Fn(DataFrame, u64) -> PolarsResult<DataFrame> + Send + Sync;

/// The rows and bytes that went into a sink, and the bytes it wrote.
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
    /// The error that stopped the sink; the store behind it knows more of it than the engine.
    fn failure(&self) -> Option<QueryError>;
    /// The plan ran to its end: returns what the coordinator needs to commit.
    fn finish(self: Box<Self>) -> Result<Vec<bytes::Bytes>>;
}

/// Opens the sink with this index for one task attempt.
pub type OpenSink = dyn Fn(u32, TaskId, u32) -> Result<Box<dyn RowSink>> + Send + Sync;

#[derive(Clone)]
pub struct Context {
    /// The name of the run, by which Polars' warnings are attributed while its tasks run.
    pub query: String,
    pub store: Arc<dyn Store>,
    pub open_sink: Arc<OpenSink>,
    pub compression: Option<IpcCompression>,
    /// The compression of outputs that have grown out of memory.
    pub disk_compression: Option<IpcCompression>,
    /// Bytes of a batch that is laid out for the exchange.
    pub batch_bytes: usize,
    /// Bytes of a sorted run for a range exchange.
    pub run_bytes: usize,
    /// The read-ahead budget that the tasks of this process share.
    pub read_budget: Arc<ReadBudget>,
    /// Inputs from this size on, in bytes, are read while the engine runs; smaller ones before it starts.
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

/// Keeps the first error, since the engine can only report errors of its own types.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<TaskError>>>);

impl Failure {
    /// Keeps the error and returns it as one of the engine's.
    fn keep(&self, error: impl Into<TaskError>) -> PolarsError {
        let error = error.into();
        let told = PolarsError::ComputeError(error.to_string().into());
        lock(&self.0).get_or_insert(error);
        told
    }

    /// Ties calls of Python functions to the task: its query, its cancellation, its first error.
    fn of_functions(&self, ctx: &Context) -> floe_plan::functions::Task {
        let kept = self.clone();
        floe_plan::functions::Task {
            query: ctx.query.as_str().into(),
            cancel: ctx.cancel.clone(),
            keep: Arc::new(move |error| kept.keep(error)),
        }
    }

    fn take(&self) -> Option<TaskError> {
        lock(&self.0).take()
    }

    /// Runs a callback of the engine; keeps its error or panic.
    fn watch<T>(&self, run: impl FnOnce() -> Result<T>) -> PolarsResult<T> {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        ran.unwrap_or_else(|panic| Err(panic_error(&*panic))).map_err(|error| self.keep(error))
    }
}

/// Counts that the worker's heartbeat reads while a task runs.
#[derive(Default)]
pub struct Progress {
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
}

/// Runs one task from its inputs to its written output. Blocks.
pub fn run(fragment: &Fragment, task: &TaskSpec, ctx: &Context) -> Result<TaskOutput, TaskError> {
    let listener = Listener::of_task(&ctx.query);
    let Fragment { placeholders, tag, summary, filters: wanted, .. } = fragment;
    let mut plan = fragment.copy_of_plan();
    let mut out = TaskOutput::default();
    let mut filters = Vec::new();
    let failure = Failure::default();
    if *placeholders {
        // Key summaries come after all that the plan reads.
        let (inputs, summaries) = task.leaves.split_at(task.leaves.len().saturating_sub(wanted.len()));
        filters = keys::read(wanted, summaries, ctx, &mut out)?;
        leaves::bound(&mut plan, filters.iter().filter_map(|filter| filter.scan.as_ref()));
        leaves::fill(&mut plan, inputs, ctx, &failure, &mut out)?;
    }
    databases::open(&mut plan, ctx, &failure)?;
    ctx.check()?;
    let ran = Instant::now();
    floe_plan::functions::bind(&mut plan, &failure.of_functions(ctx));
    no_groups::settle(&mut plan);
    if let Exchange::Sink { sink } = task.output {
        let sink = (ctx.open_sink)(sink, task.id.task, task.id.attempt)?;
        written::run(plan, filters, sink, ctx, &failure, &mut out)?;
        out.metrics.run_us = ran.elapsed().as_micros() as u64;
        out.warnings = listener.take();
        return Ok(out);
    }
    let outgoing = Arc::new(Mutex::new(Outgoing::new(task, ctx, filters, tag.as_ref(), summary.as_ref())));
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

/// Runs the plan on the streaming engine: passes its rows to `take` as they are made, in order, and returns the
/// engine's counts.
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
    // An error while reading or writing rows is the cause of whatever the engine reports.
    match (failure.take(), ran) {
        (Some(error), _) => Err(error),
        (None, Ok(ran)) => Ok(ran.map_err(floe_polars::polars_error)?),
        (None, Err(panic)) => Err(panic_error(&*panic).into()),
    }
}

/// A panic of the engine, as Python shows it. Not retried: it comes from the plan and its data, and would happen again.
pub fn panic_error(payload: &(dyn std::any::Any + Send)) -> QueryError {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the engine panicked".into());
    QueryError::user("PanicException", text)
}

/// Reads the rows of outputs into one frame.
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
