//! Runs a worker's task threads: a queue in arrival order, threads with large stacks that run one task each, panics
//! caught, cancellation by a flag. Knows nothing of the control stream; reports are passed to a function.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::proto::Attempt;
use floe_wire::error::{Category, QueryError, Result, TaskError};
use floe_wire::task::{NodeMetrics, TaskOutput};

use super::queries::Query;

/// Stack of a task thread: deep plans recurse; unused pages cost nothing.
const STACK_BYTES: usize = 256 << 20;

pub struct Job {
    pub attempt: Attempt,
    pub query: Arc<Query>,
    pub spec: Bytes,
    pub traceparent: String,
}

/// A running task.
pub struct Running {
    pub attempt: Attempt,
    pub cancel: Arc<AtomicBool>,
    pub progress: Arc<floe_exec::Progress>,
    /// The error to report in place of its result, if the worker stops it for another reason than a cancellation.
    verdict: Mutex<Option<QueryError>>,
}

pub enum Report {
    Started(Attempt),
    Ended(Attempt, Result<TaskOutput, TaskError>),
}

/// Counts of what the task threads have done.
#[derive(Default)]
pub struct Counters {
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    pub run_us: AtomicU64,
    nodes: Mutex<BTreeMap<String, NodeMetrics>>,
}

impl Counters {
    fn count(&self, result: &Result<TaskOutput, TaskError>) {
        match result {
            Ok(output) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                self.rows.fetch_add(output.rows, Ordering::Relaxed);
                self.bytes.fetch_add(output.bytes, Ordering::Relaxed);
                self.run_us.fetch_add(output.metrics.run_us, Ordering::Relaxed);
                let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
                for node in &output.metrics.nodes {
                    nodes.entry(node.node.clone()).or_default().add(node);
                }
            }
            Err(_) => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Counts by kind of Polars' node, over all tasks so far.
    pub fn nodes(&self) -> BTreeMap<String, NodeMetrics> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type RunTask = dyn Fn(&Job, &Running) -> Result<TaskOutput, TaskError> + Send + Sync;
type Reporter = dyn Fn(Report) + Send + Sync;

pub struct Slots {
    state: Mutex<State>,
    wake: Condvar,
    /// Detached tasks whose threads still run.
    detached: AtomicU32,
    pub counters: Counters,
    run: Box<RunTask>,
    report: Box<Reporter>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    running: HashMap<Attempt, Arc<Running>>,
    closed: bool,
}

impl Slots {
    pub fn start(
        slots: u32,
        run: impl Fn(&Job, &Running) -> Result<TaskOutput, TaskError> + Send + Sync + 'static,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Result<Arc<Slots>> {
        let this = Arc::new(Slots {
            state: Mutex::default(),
            wake: Condvar::new(),
            detached: AtomicU32::new(0),
            counters: Counters::default(),
            run: Box::new(run),
            report: Box::new(report),
        });
        for _ in 0..slots.max(1) {
            this.spawn()?;
        }
        Ok(this)
    }

    fn spawn(self: &Arc<Self>) -> Result<()> {
        let this = self.clone();
        std::thread::Builder::new()
            .name("floe-task".into())
            .stack_size(STACK_BYTES)
            .spawn(move || this.serve())
            .map(drop)
            .map_err(|error| QueryError::internal(format!("cannot start a task thread: {error}")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn submit(&self, job: Job) {
        self.state().waiting.push_back(job);
        self.wake.notify_one();
    }

    fn next(&self) -> Option<(Job, Arc<Running>)> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                let running = Arc::new(Running {
                    attempt: job.attempt.clone(),
                    cancel: Arc::default(),
                    progress: Arc::default(),
                    verdict: Mutex::default(),
                });
                state.running.insert(job.attempt.clone(), running.clone());
                return Some((job, running));
            }
            state = self.wake.wait_timeout(state, Duration::from_secs(5)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn serve(self: Arc<Self>) {
        while let Some((job, running)) = self.next() {
            (self.report)(Report::Started(job.attempt.clone()));
            let result = catch_unwind(AssertUnwindSafe(|| (self.run)(&job, &running)))
                .unwrap_or_else(|panic| Err(panicked(panic.as_ref()).into()));
            let Job { attempt, query, .. } = job;
            // Drop the query before the report: its end waits for this.
            drop(query);
            if self.state().running.remove(&attempt).is_none() {
                // Detached meanwhile: another thread has the slot, and the result is not needed.
                self.detached.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            let result = match running.verdict.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(verdict) => Err(verdict.into()),
                None if result.is_err() && running.cancel.load(Ordering::Acquire) => {
                    Err(QueryError::new(Category::Cancelled, "Cancelled", "the task was cancelled").into())
                }
                None => result,
            };
            self.counters.count(&result);
            (self.report)(Report::Ended(attempt, result));
        }
    }

    /// Asks a task to stop; returns whether it runs.
    pub fn cancel(&self, attempt: &Attempt) -> bool {
        let mut state = self.state();
        state.waiting.retain(|job| job.attempt != *attempt);
        match state.running.get(attempt) {
            Some(running) => {
                running.cancel.store(true, Ordering::Release);
                true
            }
            None => false,
        }
    }

    /// Asks all tasks of a query to stop; returns those that run.
    pub fn cancel_query(&self, query: &str) -> Vec<Attempt> {
        let mut state = self.state();
        state.waiting.retain(|job| job.attempt.query != query);
        let running = state.running.values().filter(|running| running.attempt.query == query);
        running
            .map(|running| {
                running.cancel.store(true, Ordering::Release);
                running.attempt.clone()
            })
            .collect()
    }

    /// Stops a task with an error of the worker's own, which is reported in place of its result.
    pub fn stop_with(&self, running: &Running, verdict: QueryError) {
        *running.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        running.cancel.store(true, Ordering::Release);
    }

    /// Detaches a task that does not stop: a new thread takes over its slot.
    pub fn detach(self: &Arc<Self>, attempt: &Attempt) -> Result<()> {
        let mut state = self.state();
        if state.running.remove(attempt).is_none() {
            return Ok(());
        }
        self.detached.fetch_add(1, Ordering::AcqRel);
        drop(state);
        self.spawn()
    }

    pub fn running(&self) -> Vec<Arc<Running>> {
        self.state().running.values().cloned().collect()
    }

    pub fn runs(&self, attempt: &Attempt) -> bool {
        self.state().running.contains_key(attempt)
    }

    pub fn idle(&self) -> bool {
        let state = self.state();
        state.running.is_empty() && state.waiting.is_empty()
    }

    pub fn detached(&self) -> u32 {
        self.detached.load(Ordering::Acquire)
    }

    pub fn close(&self) {
        self.state().closed = true;
        self.wake.notify_all();
    }
}

/// Turns a panic into an internal error; the second run on one node shows whether Floe or Polars is at fault.
pub fn panicked(panic: &(dyn std::any::Any + Send)) -> QueryError {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_string(),
    };
    QueryError::new(Category::Internal, "PanicException", text)
}
