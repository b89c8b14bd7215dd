//! One task run with Polars: fills the fragment's leaves with the task's data, runs it on the streaming engine and
//! lays the result out for its readers. Knows files only through `Store`, and nothing of scheduling.

mod carried;
mod frames;
mod keys;
mod leaves;
mod nodes;
mod partition;
mod shuffled;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use polars_buffer::Buffer;
use polars_core::prelude::*;
use polars_core::query_result::QueryResult;
use polars_io::ipc::IpcCompression;
use polars_plan::plans::IRPlan;
use polars_stream::StreamingQuery;

use crate::error::{Category, QueryError, Result};
use crate::graph::{Location, NodeMetrics, Piece, TaskId, TaskOutput, TaskSpec};
use crate::planner::Fragment;

pub use frames::{frame_from_ipc, frame_to_ipc};
pub use shuffled::Shuffled;

/// Where outputs are written and inputs are read: the shuffle, seen from a task.
pub trait Store: Send + Sync {
    fn create(&self, query: &str, task: TaskId, attempt: u32) -> Result<Box<dyn PieceWriter>>;
    fn open(&self, query: &str, piece: &Piece) -> Result<Buffer<u8>>;
}

/// One task's data file while it is written; dropped unfinished, it is gone.
pub trait PieceWriter: std::io::Write + Send {
    fn position(&self) -> u64;
    fn finish(self: Box<Self>) -> Result<Location>;
}

/// Rows on their way to the query's sink.
pub trait RowSink: Send {
    fn write(&mut self, df: DataFrame) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<Vec<bytes::Bytes>>;
}

/// Opens the sink with this index for one task attempt.
pub type OpenSink = dyn Fn(u32, TaskId, u32) -> Result<Box<dyn RowSink>> + Send + Sync;

pub struct Context {
    pub query: String,
    pub store: Arc<dyn Store>,
    pub open_sink: Arc<OpenSink>,
    pub compression: Option<IpcCompression>,
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

/// Read by the worker's heartbeat while a task runs.
#[derive(Default)]
pub struct Progress {
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
}

/// Blocking: one task from its inputs to its written output.
pub fn run(fragment: &[u8], task: &TaskSpec, ctx: &Context) -> Result<TaskOutput> {
    let begun = Instant::now();
    let fragment = Fragment::unpack(fragment)?;
    let mut out = TaskOutput::default();
    let mut plan = fragment.plan;
    let mut filters = Vec::new();
    if fragment.placeholders {
        // Notes of keys come behind all that the plan reads.
        let (inputs, notes) = task.leaves.split_at(task.leaves.len().saturating_sub(fragment.filters.len()));
        filters = keys::read(&fragment.filters, notes, ctx, &mut out)?;
        leaves::bound(&mut plan, filters.iter().filter_map(|filter| filter.scan.as_ref()));
        leaves::fill(&mut plan, inputs, ctx, &mut out)?;
    }
    out.metrics.decode_us = begun.elapsed().as_micros() as u64;
    ctx.check()?;
    let ran = Instant::now();
    let (mut df, nodes) = execute(plan)?;
    out.metrics.nodes = nodes;
    out.metrics.run_us = ran.elapsed().as_micros() as u64;
    ctx.check()?;
    let written = Instant::now();
    for filter in &filters {
        df = filter.keep(df)?;
    }
    if let Some(tag) = &fragment.tag {
        df = write::tagged(df, &tag.column, tag.base(task.id.task))?;
    }
    out.rows = df.height() as u64;
    out.size = df.estimated_size() as u64;
    ctx.progress.rows.store(out.rows, Ordering::Relaxed);
    let note = fragment.notes.as_ref().filter(|_| df.height() > 0).map(|notes| keys::note(&df, notes)).transpose()?;
    write::output(df, note, task, ctx, &mut out)?;
    ctx.progress.bytes.store(out.bytes, Ordering::Relaxed);
    out.metrics.write_us = written.elapsed().as_micros() as u64;
    Ok(out)
}

/// The plan on the streaming engine: its result in memory, and what the engine counted.
pub fn execute(mut plan: IRPlan) -> Result<(DataFrame, Vec<NodeMetrics>)> {
    plan.ensure_root_node_is_sink();
    let run = || {
        let query = StreamingQuery::build(plan.lp_top, &mut plan.lp_arena, &mut plan.expr_arena)?;
        let counted = nodes::watch(&query);
        query.execute().map(|result| (result, counted()))
    };
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|p| panic_error(&*p))?;
    let (result, nodes) = ran.map_err(crate::plan::polars_error)?;
    let df = match result {
        QueryResult::Single(df) => df,
        QueryResult::Multiple(mut dfs) => dfs.pop().unwrap_or_else(DataFrame::empty),
    };
    Ok((df, nodes))
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

/// Pieces of the query's result as one frame.
pub fn read(pieces: &[Piece], schema: &SchemaRef, query: &str, store: &dyn Store) -> Result<DataFrame> {
    frames::read_pieces(pieces, schema, query, store)
}
