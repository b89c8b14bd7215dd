//! Runs one job: prepare, drive, commit. If it fails in a way that may be caused by the distribution, and its input is
//! small, runs it a second time on one node.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use floe_api::execution::{Mode, ShuffleCompression, ShufflePlace, ShuffleSpec, WarningPolicy};
use floe_api::job::Job;
use floe_api::quantity::Quantity;
use floe_api::report::WorkerState;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::shuffle::{Reader, Remote};
use crate::{shuffle, sink, telemetry, worker};
use floe_plan::placed;
use floe_scheduler::{Counters as TaskCounters, Limits, Snapshot};
use floe_storage as storage;
use floe_wire::chunk::{OutputId, Pass, RunId};
use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::Exchange;

use super::admission::{Admission, Waiting};
use super::bring::{Room, bring};
use super::commit::{abort, commit};
use super::driver::{Clock, Driven, Run, drive};
use super::explain::{Format, render};
use super::prepare::{Context, Prepared, prepare};
use super::result::ResultHandle;
use super::status::Status;
use super::summary::summaries;
use super::{Engine, Outcome, Provider};

/// Input up to this size is read again to confirm a failure.
const CONFIRM_BYTES: u64 = 256 << 20;
/// Decoding and planning recurse with the plan.
const STACK_BYTES: usize = 256 << 20;
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

pub async fn run(engine: &Engine, job: Job, status: &Arc<Status>, waiting: Waiting) -> Result<Outcome> {
    let began = Instant::now();
    let span = tracing::info_span!(
        "query",
        query = %job.id,
        name = %job.name,
        attempt = job.attempt,
        trace_id = tracing::field::Empty,
        labels = tracing::field::Empty,
        error = tracing::field::Empty,
    );
    telemetry::set_parent(&span, job.traceparent.as_deref().unwrap_or_default());
    telemetry::set_labels(&span, &job.spec.labels);
    let deadline = job.spec.active_deadline_seconds.map(|seconds| began + Duration::from_secs(u64::from(seconds)));
    let query = Query { engine, job: Arc::new(job), status, cancel: status.cancel.clone(), deadline };
    let result = query.run_in_turn(waiting).instrument(span.clone()).await;
    let result = result.map(|outcome| Outcome { duration: began.elapsed(), ..outcome });
    if let Err(error) = &result {
        span.record("error", tracing::field::display(&error.class));
    }
    engine.statuses.counters.count(result.as_ref().map_or_else(|error| error.category.as_str(), |_| "succeeded"));
    // Its line in the log is the query's, too.
    span.in_scope(|| status.finish(&result, began.elapsed()));
    engine.statuses.forget_old();
    result
}

pub(super) struct Query<'a> {
    pub(super) engine: &'a Engine,
    pub(super) job: Arc<Job>,
    status: &'a Arc<Status>,
    pub(super) cancel: CancellationToken,
    pub(super) deadline: Option<Instant>,
}

impl Query<'_> {
    /// Stays registered until the commit is done.
    async fn run_in_turn(&self, waiting: Waiting) -> Result<Outcome> {
        let place = tokio::select! {
            place = waiting.admitted() => place?,
            error = self.stopped("waited for other queries to end") => return Err(error),
        };
        self.status.admitted();
        self.run(&place).await
    }

    async fn run(&self, place: &Admission) -> Result<Outcome> {
        let mode = self.job.spec.execution.mode;
        let source_bytes;
        let error = match self.prepare(place, mode).await {
            Ok(prepared) => {
                source_bytes = prepared.source_bytes;
                let staged = prepared.graph.stages.len() > 1;
                let broadcasts = prepared.graph.broadcasts();
                match self.go(place, prepared, Pass::First).await {
                    Err(error) if error.category == Category::OutOfMemory && broadcasts > 0 => {
                        return self.without_broadcasts(place, broadcasts, error).await;
                    }
                    Err(error) if staged => error,
                    other => return other,
                }
            }
            // Planning writes no data, and a bug in it may not occur on one node.
            Err(error) if error.category == Category::Internal => {
                source_bytes = Some(0);
                error
            }
            Err(error) => return Err(error),
        };
        let doubtful = match error.category {
            Category::User | Category::Internal => true,
            Category::Io | Category::LostWorker | Category::OutOfMemory | Category::Deadline | Category::Cancelled => {
                false
            }
        };
        if !doubtful || mode == Mode::SingleNode || source_bytes.is_none_or(|bytes| bytes > CONFIRM_BYTES) {
            return Err(error);
        }
        tracing::info!(class = error.class, "the query failed and is run again on one node: {error}");
        let prepared = self.prepare(place, Mode::SingleNode).await?;
        let outcome = self.go(place, prepared, Pass::Second).await?;
        Ok(Outcome { fell_back: Some(format!("{}: {}", error.class, error.message)), ..outcome })
    }

    /// Runs once more with hash joins after a plan with broadcasts ran out of memory, if that changes the plan.
    async fn without_broadcasts(&self, place: &Admission, before: usize, error: QueryError) -> Result<Outcome> {
        let mut job = Job::clone(&self.job);
        job.spec.execution.broadcast_limit = Quantity::new("0");
        let prepared = self.prepare_job(place, Arc::new(job), self.job.spec.execution.mode).await?;
        if prepared.graph.broadcasts() >= before {
            let sinks = prepared.sinks;
            self.blocking(move || abort(&sinks), drop).await?;
            return Err(error);
        }
        tracing::info!(class = error.class, "the query is run again without broadcasts: {error}");
        let mut outcome = self.go(place, prepared, Pass::Second).await?;
        outcome.warnings.push(format!("broadcasts were taken back, joins were run by hash: {}", error.message));
        Ok(outcome)
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        unwanted: impl FnOnce(T) + Send + 'static,
    ) -> Result<T> {
        on_thread(work, unwanted).await
    }

    async fn go(&self, place: &Admission, prepared: Prepared, pass: Pass) -> Result<Outcome> {
        let prepared = Arc::new(prepared);
        self.status.plan(&prepared.graph);
        let run = RunId { query: self.job.id.clone(), attempt: self.job.attempt, pass, nonce: self.engine.nonce };
        let counted = Mutex::new(TaskCounters::default());
        let observe = |snapshot: &Snapshot, clock: &Clock| {
            let before =
                std::mem::replace(&mut *counted.lock().unwrap_or_else(PoisonError::into_inner), snapshot.counters);
            self.engine.statuses.counters.add_tasks(before, snapshot.counters);
            self.status.progress(snapshot, clock);
        };
        let (driven, reader) = self.drive(place, &prepared, &run, &observe).await?;
        let driven = driven.map_err(|error| placed(&prepared.texts, error));
        match driven.and_then(|driven| self.unless_warned(driven)) {
            Ok(driven) => self.conclude(&prepared, driven, reader).await,
            Err(error) => {
                let sinks = prepared.sinks.clone();
                if sinks.is_empty() {
                    return Err(error);
                }
                let undo = move || {
                    // Run no second time if another attempt has taken over the sinks.
                    let lost = sinks.iter().find_map(sink::superseded);
                    abort(&sinks);
                    lost
                };
                Err(self.blocking(undo, drop).await?.unwrap_or(error))
            }
        }
    }

    /// Runs a graph; also returns the reader of its outputs.
    pub(super) async fn drive(
        &self,
        place: &Admission,
        prepared: &Prepared,
        run: &RunId,
        observe: &(dyn Fn(&Snapshot, &Clock) + Send + Sync),
    ) -> Result<(Result<Driven>, Reader)> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let remote = remote(&self.job).map(|(uri, options)| Arc::new(Remote::new(uri, run, options)));
        let query = run.to_string();
        let settings =
            worker::Settings { sinks: prepared.sinks.clone(), shuffle: self.shuffle(), remote: remote.clone() };
        self.ready().await;
        let on_worker = |worker: &str, state: WorkerState| self.status.worker(worker, state);
        let driven = drive(Run {
            query: &query,
            place,
            token: &token,
            graph: &prepared.graph,
            settings: floe_wire::pack(&settings)?,
            registry: &self.engine.registry,
            limits: self.limits(),
            deadline: self.deadline,
            cancel: self.cancel.clone(),
            observe,
            on_worker: &on_worker,
            remote: remote.clone(),
        })
        .await;
        let by_path = self.job.spec.execution.shuffle.place != ShufflePlace::Http;
        let reader = Reader { run: query, token, peers: self.engine.registry.peers.clone(), by_path, remote };
        Ok((driven, reader))
    }

    /// Workers on different machines reach each other over a network, where sending bytes costs more than compressing
    /// them.
    fn shuffle(&self) -> ShuffleSpec {
        let mut shuffle = self.job.spec.execution.shuffle.clone();
        let apart = !matches!(self.engine.options.provider, Provider::Local(_));
        if apart && shuffle.place == ShufflePlace::Auto && shuffle.compression == ShuffleCompression::Auto {
            shuffle.compression = ShuffleCompression::Lz4;
        }
        shuffle
    }

    /// The first query of an engine starts with all workers; later ones take those that are there.
    async fn ready(&self) {
        if self.engine.was_ready.load(Ordering::Relaxed) {
            return;
        }
        let deadline = tokio::time::Instant::from_std(self.deadline.unwrap_or_else(|| Instant::now() + FOREVER));
        tokio::select! {
            _ = self.engine.wait_ready() => self.engine.was_ready.store(true, Ordering::Relaxed),
            () = self.cancel.cancelled() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }

    fn limits(&self) -> Limits {
        let execution = &self.job.spec.execution;
        let defaults = Limits::default();
        let patience_ms = match self.engine.options.provider {
            // Workers are added on demand, however long that takes.
            Provider::Joining { .. } => FOREVER.as_millis() as u64,
            Provider::Local(_) | Provider::External { .. } => defaults.no_worker_ms,
        };
        let seed = self.job.id.bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Limits {
            io_per_task: execution.retries + 1,
            speculation: execution.speculation,
            no_worker_ms: self
                .job
                .spec
                .starting_deadline_seconds
                .map_or(patience_ms, |seconds| u64::from(seconds) * 1000),
            seed,
            ..defaults
        }
    }

    /// With `warnings: fail`, a warning of Polars in a task ends the query before anything is visible.
    fn unless_warned(&self, driven: Driven) -> Result<Driven> {
        match driven.warned.as_error() {
            Some(error) if self.job.spec.execution.warnings == WarningPolicy::Fail => Err(error),
            _ => Ok(driven),
        }
    }

    /// Commits; cannot be cancelled from here.
    async fn conclude(&self, prepared: &Arc<Prepared>, driven: Driven, reader: Reader) -> Result<Outcome> {
        let graph = &prepared.graph;
        let mut outcome = Outcome {
            bytes_shuffled: driven.bytes_shuffled,
            stages: summaries(graph, &driven),
            single_worker: graph.single_worker.clone(),
            warnings: graph.warnings.iter().cloned().chain(driven.warned.texts(&graph.warnings)).collect(),
            ..Outcome::default()
        };
        let mut staged = vec![Vec::new(); prepared.sinks.len()];
        let mut rows = Vec::new();
        for won in driven.outputs.iter().flatten() {
            match graph.stages.get(won.task.stage.0 as usize).map(|stage| &stage.output) {
                Some(Exchange::Sink { sink }) => {
                    let missing = || QueryError::internal(format!("the job has no sink {sink}"));
                    staged.get_mut(*sink as usize).ok_or_else(missing)?.push(won.output.staged.clone());
                }
                _ => {
                    outcome.rows += won.output.rows;
                    outcome.bytes_written += won.output.bytes;
                    let id = OutputId { task: won.task, attempt: won.attempt };
                    rows.extend(won.output.chunks.all().iter().map(|chunk| won.output.portion(id, vec![*chunk])));
                }
            }
        }
        if prepared.sinks.is_empty() {
            let room = Room {
                memory_bytes: self.engine.options.remember.here_bytes,
                disk: self.engine.options.result_disk.clone(),
            };
            let (rows, reader) = self.blocking(move || (bring(rows, &room, &reader), reader), drop).await?;
            let handle = ResultHandle::new(rows, prepared.schema.clone(), reader, driven.hold);
            outcome.result = Some(Arc::new(handle));
            return Ok(outcome);
        }
        self.status.committing();
        let sinks = prepared.sinks.clone();
        outcome.sinks = self.blocking(move || commit(&sinks, &staged), drop).await??;
        outcome.rows = outcome.sinks.iter().map(|sink| sink.rows).sum();
        outcome.bytes_written = outcome.sinks.iter().map(|sink| sink.bytes).sum();
        Ok(outcome)
    }
}

/// Runs blocking work on a thread of its own; passes the result to `unwanted` if nobody waits for it any more.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    unwanted: impl FnOnce(T) + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    let span = tracing::Span::current();
    let run = move || {
        let done = span.in_scope(work);
        if let Err(done) = sender.send(done) {
            unwanted(done);
        }
    };
    std::thread::Builder::new()
        .name("floe-plan".into())
        .stack_size(STACK_BYTES)
        .spawn(run)
        .map_err(|error| QueryError::internal(format!("cannot start a thread: {error}")))?;
    receiver.await.map_err(|_| QueryError::internal("a thread of the coordinator died"))
}

/// Prints the stages of a job as text, without running it or taking its sinks.
pub async fn explain(engine: &Engine, job: Job, format: Format) -> Result<String> {
    let (context, mode) = (engine.context(), job.spec.execution.mode);
    let look = move || prepare(&job, &context, mode).map(|prepared| render(&prepared.graph, format));
    on_thread(look, drop).await?
}

impl Engine {
    pub(super) fn context(&self) -> Context {
        Context {
            base: self.options.base.clone(),
            workers: self.planned_workers() as u32,
            threads: self.threads() as u32,
        }
    }
}

/// The job's shuffle store, if it uses one.
fn remote(job: &Job) -> Option<(&str, storage::Options)> {
    let spec = &job.spec.execution.shuffle;
    let uri = spec.uri.as_deref().filter(|_| spec.place == ShufflePlace::Store)?;
    Some((uri, storage::Options::from(&job.storage_options(uri, spec.storage.as_deref()))))
}

/// Removes what runs of the job may have left in its shuffle store. Blocks.
pub(super) fn remove_shuffle(job: &Job) {
    if let Some((uri, options)) = remote(job) {
        shuffle::remove_query(uri, &job.id, &options);
    }
}

pub(super) fn cancelled() -> QueryError {
    QueryError::new(Category::Cancelled, "Cancelled", "the query was cancelled")
}
