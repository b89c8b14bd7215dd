//! Reads rows of earlier stages into a task: a few threads read ahead of the engine under a budget of bytes, and the
//! rows are handed over in the promised order as the engine requests them, so that no task holds its whole input.
//!
//! Adjacent ranges of one file are one request. Bytes that are read but not yet decoded count against the budget, which
//! all tasks of a worker share; what the engine waits for is read regardless of the budget, so that tasks with several
//! inputs never deadlock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use polars_buffer::Buffer;
use polars_core::prelude::*;

use super::{Context, Store};
use floe_polars::{concat_frames, frame_from_ipc};
use floe_wire::chunk::{Chunk, OutputId, Place, Span};
use floe_wire::error::{Category, QueryError, Result, TaskError};
use floe_wire::task::Portion;

/// A request asks for about this many bytes…
const REQUEST_BYTES: u64 = 4 << 20;
/// …and rows, …
const REQUEST_ROWS: u64 = 256 << 10;
/// …and reads up to this many unwanted bytes where that joins two ranges.
const GAP_BYTES: u64 = 16 << 10;
/// Rows of a morsel handed to the engine.
const MORSEL_ROWS: u64 = 100_000;
/// Most requests of one input in flight at once.
const MAX_REQUESTS: usize = 8;
const READER_STACK_BYTES: usize = 1 << 20;
/// How often a waiting thread checks for cancellation and room in the budget.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes that the tasks of a worker may together read ahead.
#[derive(Debug)]
pub struct ReadBudget {
    max_bytes: u64,
    used_bytes: AtomicU64,
}

impl ReadBudget {
    pub fn new(max_bytes: u64) -> Arc<ReadBudget> {
        Arc::new(ReadBudget { max_bytes, used_bytes: AtomicU64::new(0) })
    }

    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Reserves bytes if there is room.
    fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Taken> {
        let fits = |used: u64| (used.saturating_add(bytes) <= self.max_bytes).then_some(used + bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Taken { budget: self.clone(), bytes })
    }

    /// Reserves bytes even if there is no room.
    fn take(self: &Arc<Self>, bytes: u64) -> Taken {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Taken { budget: self.clone(), bytes }
    }
}

/// Reserved bytes of the budget, given back when dropped.
#[derive(Debug)]
struct Taken {
    budget: Arc<ReadBudget>,
    bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A range of one output, with its chunks in the promised order of their rows.
struct Range {
    output: OutputId,
    place: Place,
    span: Span,
    chunks: Vec<Chunk>,
}

/// What is read and decoded together: one range, or several small ones.
#[derive(Default)]
struct Request {
    ranges: Vec<Range>,
    bytes: u64,
    rows: u64,
}

impl Request {
    /// The number of parts in which its rows are handed over.
    fn parts(&self) -> u64 {
        self.rows.div_ceil(MORSEL_ROWS).max(1)
    }
}

/// The state of one request.
enum Slot {
    Waiting,
    /// Being read by a reader, or by the engine itself.
    Coming,
    Read(Vec<Buffer<u8>>, Taken),
    Decoding,
    /// Rows, and the parts that are still to be handed over.
    Rows(DataFrame, u64),
    Handed,
    Failed(TaskError),
}

struct State {
    slots: Vec<Slot>,
    /// The first request that no reader has taken yet.
    next: usize,
    closed: bool,
    /// Readers were started.
    started: bool,
}

/// One input of a task.
pub struct Incoming {
    requests: Vec<Request>,
    /// By number of the part: its request, and its number within that.
    parts: Vec<(u32, u32)>,
    schema: SchemaRef,
    store: Arc<dyn Store>,
    budget: Arc<ReadBudget>,
    cancel: Arc<AtomicBool>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Incoming {
    pub fn new(outputs: &[Portion], schema: SchemaRef, ctx: &Context) -> Incoming {
        let requests = requests(outputs);
        let parts = requests.iter().enumerate();
        let parts = parts.flat_map(|(at, request)| (0..request.parts()).map(move |part| (at as u32, part as u32)));
        Incoming {
            parts: parts.collect(),
            schema,
            store: ctx.store.clone(),
            budget: ctx.read_budget.clone(),
            cancel: ctx.cancel.clone(),
            state: Mutex::new(State {
                slots: requests.iter().map(|_| Slot::Waiting).collect(),
                next: 0,
                closed: false,
                started: false,
            }),
            changed: Condvar::new(),
            requests,
        }
    }

    /// The number of parts in which the rows are handed over.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// The schema of the rows, taken from the first of them.
    pub fn peek(&self) -> Result<SchemaRef, TaskError> {
        let state = self.decoded(0)?;
        Ok(match &state.slots[0] {
            Slot::Rows(df, _) => df.schema().clone(),
            _ => self.schema.clone(),
        })
    }

    /// The rows of one part. Blocks. Each part is handed over once, and the engine asks for them roughly in order.
    pub fn part(self: &Arc<Self>, number: usize) -> Result<DataFrame, TaskError> {
        let Some((request, part)) = self.parts.get(number).copied() else {
            let message = format!("part {number} of {} was asked for", self.parts.len());
            return Err(QueryError::internal(message).into());
        };
        self.start_readers();
        let request = request as usize;
        let mut state = self.decoded(request)?;
        let slot = &mut state.slots[request];
        let Slot::Rows(df, left) = slot else {
            return Err(QueryError::internal(format!("part {number} was asked for twice")).into());
        };
        let rows = df.height() as u64;
        let parts = self.requests[request].parts();
        let (from, to) = (rows * u64::from(part) / parts, rows * (u64::from(part) + 1) / parts);
        let whole = from == 0 && to == rows;
        let out = if whole { df.clone() } else { df.slice(from as i64, (to - from) as usize) };
        *left -= 1;
        if *left == 0 {
            *slot = Slot::Handed;
        }
        Ok(out)
    }

    /// Stops the readers.
    fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once the rows of a request are decoded; reads and decodes them here if no reader does.
    fn decoded(&self, at: usize) -> Result<MutexGuard<'_, State>, TaskError> {
        let mut state = self.state();
        loop {
            match &mut state.slots[at] {
                Slot::Rows(..) | Slot::Handed => return Ok(state),
                Slot::Failed(error) => return Err(error.clone()),
                Slot::Waiting => {
                    state.slots[at] = Slot::Coming;
                    drop(state);
                    let taken = self.budget.take(self.requests[at].bytes);
                    let read = polars_async::executor::block_in_place(|| self.read(at));
                    state = self.state();
                    state.slots[at] = came(read, taken);
                }
                slot @ Slot::Read(..) => {
                    let Slot::Read(bytes, taken) = std::mem::replace(slot, Slot::Decoding) else { continue };
                    drop(state);
                    let rows = contained(|| self.decode(at, bytes));
                    drop(taken);
                    state = self.state();
                    state.slots[at] = match rows {
                        Ok(df) => Slot::Rows(df, self.requests[at].parts()),
                        Err(error) => Slot::Failed(error),
                    };
                    self.changed.notify_all();
                }
                Slot::Coming | Slot::Decoding => {
                    if self.cancel.load(Ordering::Relaxed) {
                        return Err(QueryError::new(Category::Cancelled, "Cancelled", "the task was cancelled").into());
                    }
                    drop(state);
                    polars_async::executor::block_in_place(|| {
                        let state = self.state();
                        if matches!(state.slots[at], Slot::Coming | Slot::Decoding) {
                            drop(self.changed.wait_timeout(state, POLL_INTERVAL));
                        }
                    });
                    state = self.state();
                }
            }
        }
    }

    fn read(&self, at: usize) -> Result<Vec<Buffer<u8>>, TaskError> {
        let ranges = self.requests[at].ranges.iter();
        contained(|| ranges.map(|range| self.store.open(range.output, &range.place, range.span)).collect())
    }

    fn decode(&self, at: usize, read: Vec<Buffer<u8>>) -> Result<DataFrame, TaskError> {
        let mut rows = Vec::new();
        for (Range { span, chunks, .. }, bytes) in self.requests[at].ranges.iter().zip(read) {
            for chunk in chunks {
                let from = (chunk.offset - span.offset) as usize;
                let bytes = bytes.get(from..from + chunk.len as usize);
                let bytes = bytes.ok_or_else(|| QueryError::internal("a chunk lies outside of what was read"))?;
                rows.push(frame_from_ipc(bytes, chunk.rows as usize, &self.schema)?);
            }
        }
        let mut rows = concat_frames(rows, &self.schema)?;
        rows.rechunk_mut();
        Ok(rows)
    }

    fn start_readers(self: &Arc<Self>) {
        let mut state = self.state();
        if std::mem::replace(&mut state.started, true) {
            return;
        }
        drop(state);
        // One reader fewer than requests: the engine itself reads the one that it waits for.
        for _ in 0..MAX_REQUESTS.min(self.requests.len() - 1) {
            let this = self.clone();
            let reader = std::thread::Builder::new().name("floe-read".into()).stack_size(READER_STACK_BYTES);
            if let Err(error) = reader.spawn(move || this.read_ahead()) {
                tracing::warn!("no reader could be started: {error}");
            }
        }
    }

    /// A reader: takes one request after the other while the budget has room.
    fn read_ahead(&self) {
        let mut state = self.state();
        loop {
            while matches!(state.slots.get(state.next), Some(slot) if !matches!(slot, Slot::Waiting)) {
                state.next += 1;
            }
            let at = state.next;
            if state.closed || at >= state.slots.len() || self.cancel.load(Ordering::Relaxed) {
                return;
            }
            let Some(taken) = self.budget.try_take(self.requests[at].bytes) else {
                state = self.changed.wait_timeout(state, POLL_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            };
            state.slots[at] = Slot::Coming;
            drop(state);
            let read = self.read(at);
            state = self.state();
            state.slots[at] = came(read, taken);
            self.changed.notify_all();
        }
    }
}

/// Turns a panic into an error, since other threads wait for the outcome.
fn contained<T>(work: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    done.unwrap_or_else(|panic| Err(super::panic_error(&*panic).into()))
}

fn came(read: Result<Vec<Buffer<u8>>, TaskError>, taken: Taken) -> Slot {
    match read {
        Ok(bytes) => Slot::Read(bytes, taken),
        Err(error) => Slot::Failed(error),
    }
}

/// An input as a plan holds it; dropping it stops the readers.
pub struct Reading(pub Arc<Incoming>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Joins chunks, in their order, into ranges where they follow each other in one output, and into requests where they
/// are small.
fn requests(outputs: &[Portion]) -> Vec<Request> {
    let mut all: Vec<Request> = Vec::new();
    for (portion, chunk) in outputs.iter().flat_map(|portion| portion.chunks.iter().map(move |chunk| (portion, chunk)))
    {
        let fits = |request: &&mut Request| {
            request.bytes + chunk.len <= REQUEST_BYTES && request.rows + u64::from(chunk.rows) <= REQUEST_ROWS
        };
        match all.last_mut().filter(fits) {
            Some(request) => request.add(portion, chunk),
            None => {
                let mut request = Request::default();
                request.add(portion, chunk);
                all.push(request);
            }
        }
    }
    all
}

impl Request {
    fn add(&mut self, portion: &Portion, chunk: &Chunk) {
        self.rows += u64::from(chunk.rows);
        if let Some(Range { output, place, span, chunks }) = self.ranges.last_mut()
            && !matches!(place, Place::Inline(_))
            && *output == portion.output
            && let Some(gap) = chunk.offset.checked_sub(span.offset + span.len)
            && gap <= GAP_BYTES
        {
            self.bytes += gap + chunk.len;
            span.len += gap + chunk.len;
            chunks.push(*chunk);
        } else {
            self.bytes += chunk.len;
            let (output, place) = (portion.output, portion.place.clone());
            self.ranges.push(Range { output, place, span: chunk.span(), chunks: vec![*chunk] });
        }
    }
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
