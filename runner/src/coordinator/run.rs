//! One job from start to end: prepared, driven, committed; and looked at a second time, on one node, when it fails in
//! a way that might be the distribution's fault and its input is small.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use floe_api::execution::{Mode, ShuffleCompression, ShufflePlace, ShuffleSpec, WarningPolicy};
use floe_api::job::Job;
use floe_api::quantity::Quantity;
use floe_api::report::{self, StageProgress, StageSummary, WorkerState};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::shuffle::{Reader, Remote};
use crate::{shuffle, sink, telemetry, worker};
use floe_scheduler::{Limits, Snapshot, StagePhase};
use floe_storage as storage;
use floe_wire::chunk::{Chunk, OutputId, Pass, Place, RunId};
use floe_wire::error::{Category, QueryError, Result, TaskError};
use floe_wire::graph::{Exchange, Portion, StageGraph};

use super::admission::{Admission, Waiting};
use super::driver::{Clock, Driven, Run, drive};
use super::events;
use super::prepare::{Context, Prepared, prepare};
use super::result::ResultHandle;
use super::status::Status;
use super::{Engine, Outcome, Provider};

/// Input up to this size is read again to confirm a failure.
const CONFIRM_BYTES: u64 = 256 << 20;
/// Decoding and planning recurse with the plan.
const STACK_BYTES: usize = 256 << 20;
const COMMIT_ATTEMPTS: u32 = 4;
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
    status.finish(&result, began.elapsed());
    engine.statuses.forget_old();
    result
}

struct Query<'a> {
    engine: &'a Engine,
    job: Arc<Job>,
    status: &'a Arc<Status>,
    cancel: CancellationToken,
    deadline: Option<Instant>,
}

impl Query<'_> {
    /// The place is held until all is committed.
    async fn run_in_turn(&self, waiting: Waiting) -> Result<Outcome> {
        let deadline = self.deadline.map(tokio::time::Instant::from_std);
        let place = tokio::select! {
            place = waiting.admitted() => place?,
            () = self.cancel.cancelled() => return Err(cancelled()),
            () = async { tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await },
                if deadline.is_some() => return Err(late("waited for other queries to end")),
        };
        self.status.admitted();
        self.run(&place).await
    }

    async fn run(&self, place: &Admission) -> Result<Outcome> {
        let mode = self.job.spec.execution.mode;
        let source_bytes;
        let error = match self.prepare(mode).await {
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
            // Planning touches no data: what went wrong inside Floe there may go well on one node.
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
        let prepared = self.prepare(Mode::SingleNode).await?;
        let outcome = self.go(place, prepared, Pass::Second).await?;
        Ok(Outcome { fell_back: Some(format!("{}: {}", error.class, error.message)), ..outcome })
    }

    /// Once more with joins by hash, after memory ran out in a plan with broadcasts; if that changes anything.
    async fn without_broadcasts(&self, place: &Admission, before: usize, error: QueryError) -> Result<Outcome> {
        let mut job = Job::clone(&self.job);
        job.spec.execution.broadcast_limit = Quantity::new("0");
        let prepared = self.prepare_job(Arc::new(job), self.job.spec.execution.mode).await?;
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

    async fn prepare(&self, mode: Mode) -> Result<Prepared> {
        self.prepare_job(self.job.clone(), mode).await
    }

    /// On a thread of its own; whoever no longer waits gets the sinks undone.
    async fn prepare_job(&self, job: Arc<Job>, mode: Mode) -> Result<Prepared> {
        let context = self.engine.context();
        let prepared = self.blocking(
            move || prepare(&job, &context, mode, true),
            |prepared| {
                if let Ok(prepared) = prepared {
                    abort(&prepared.sinks);
                }
            },
        );
        let deadline = self.deadline.map(tokio::time::Instant::from_std);
        tokio::select! {
            prepared = prepared => prepared?,
            () = self.cancel.cancelled() => Err(cancelled()),
            () = async { tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await },
                if deadline.is_some() => Err(late("was planned")),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
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

    async fn go(&self, place: &Admission, prepared: Prepared, pass: Pass) -> Result<Outcome> {
        let prepared = Arc::new(prepared);
        let graph = &prepared.graph;
        self.status.plan(graph);
        let token = uuid::Uuid::new_v4().simple().to_string();
        let (id, attempt, nonce) = (self.job.id.clone(), self.job.attempt, self.engine.nonce);
        let run = RunId { query: id, attempt, pass, nonce };
        let remote = remote(&self.job).map(|(uri, options)| Arc::new(Remote::new(uri, &run, options)));
        let query = run.to_string();
        let settings =
            worker::Settings { sinks: prepared.sinks.clone(), shuffle: self.shuffle(), remote: remote.clone() };
        self.ready().await;
        let observe = |snapshot: &Snapshot, clock: &Clock| self.status.progress(snapshot, clock);
        let on_worker = |worker: &str, state: WorkerState| self.status.worker(worker, state);
        let driven = drive(Run {
            query: &query,
            place,
            token: &token,
            graph,
            settings: floe_wire::pack(&settings)?,
            registry: &self.engine.registry,
            limits: self.limits(),
            deadline: self.deadline,
            cancel: self.cancel.clone(),
            observe: &observe,
            on_worker: &on_worker,
            remote: remote.clone(),
        })
        .await;
        let by_path = self.job.spec.execution.shuffle.place != ShufflePlace::Http;
        let reader = Reader { run: query, token, peers: self.engine.registry.peers.clone(), by_path, remote };
        match driven.and_then(|driven| self.unless_warned(driven)) {
            Ok(driven) => self.conclude(&prepared, driven, reader).await,
            Err(error) => {
                let sinks = prepared.sinks.clone();
                if sinks.is_empty() {
                    return Err(error);
                }
                let undo = move || {
                    // Whatever failed: there is nothing to look at a second time where another attempt is at it.
                    let lost = sinks.iter().find_map(sink::superseded);
                    abort(&sinks);
                    lost
                };
                Err(self.blocking(undo, drop).await?.unwrap_or(error))
            }
        }
    }

    /// Workers on machines of their own reach each other over a network, where bytes are dearer than packing them.
    fn shuffle(&self) -> ShuffleSpec {
        let mut shuffle = self.job.spec.execution.shuffle.clone();
        let apart = matches!(self.engine.options.provider, Provider::External { .. });
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
        let seed = self.job.id.bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Limits {
            io_per_task: execution.retries + 1,
            speculation: execution.speculation,
            no_worker_ms: self
                .job
                .spec
                .starting_deadline_seconds
                .map_or(defaults.no_worker_ms, |seconds| u64::from(seconds) * 1000),
            seed,
            ..defaults
        }
    }

    /// With `warnings: fail`, what Polars warned of in a task ends the query before anything is visible.
    fn unless_warned(&self, driven: Driven) -> Result<Driven> {
        match driven.warned.as_error() {
            Some(error) if self.job.spec.execution.warnings == WarningPolicy::Fail => Err(error),
            _ => Ok(driven),
        }
    }

    /// From here on there is no way back: a cancellation comes too late.
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
            let limit = self.engine.options.remember.here_bytes;
            let (rows, reader) = self.blocking(move || (brought_here(rows, limit, &reader), reader), drop).await?;
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

impl Engine {
    pub(super) fn context(&self) -> Context {
        Context {
            base: self.options.base.clone(),
            workers: self.expected_workers() as u32,
            threads: self.threads() as u32,
        }
    }
}

/// Where the job's runs keep their shuffle, if that is a store.
fn remote(job: &Job) -> Option<(&str, storage::Options)> {
    let spec = &job.spec.execution.shuffle;
    let uri = spec.uri.as_deref().filter(|_| spec.place == ShufflePlace::Store)?;
    Some((uri, storage::Options::from(&job.storage_options(uri, spec.storage.as_deref()))))
}

/// Removes what runs of the job may have left in its shuffle store. Blocking.
pub(super) fn remove_shuffle(job: &Job) {
    if let Some((uri, options)) = remote(job) {
        shuffle::remove_query(uri, &job.id, &options);
    }
}

/// A result of moderate size comes to the coordinator, so that it no longer rests on its workers: those of this machine
/// are mapped, which costs nothing. What cannot be brought stays where it is. Each portion is one chunk. Blocking.
fn brought_here(rows: Vec<Portion>, limit_bytes: u64, reader: &Reader) -> Vec<Portion> {
    if rows.iter().flat_map(|portion| &portion.chunks).map(|chunk| chunk.len).sum::<u64>() > limit_bytes {
        return rows;
    }
    let bring = |portion: &Portion| match (&portion.place, &portion.chunks[..]) {
        (Place::Worker { .. } | Place::Store, [chunk]) => {
            let place = Place::Inline(reader.open(portion.output, &portion.place, chunk.span())?);
            let chunks = vec![Chunk { offset: 0, ..*chunk }];
            Ok::<_, TaskError>(Portion { output: portion.output, place, chunks })
        }
        _ => Ok(portion.clone()),
    };
    match rows.iter().map(bring).collect() {
        Ok(here) => here,
        Err(error) => {
            tracing::warn!("the result stays with its workers: {error}");
            rows
        }
    }
}

fn commit(sinks: &[sink::Plan], staged: &[Vec<Vec<bytes::Bytes>>]) -> Result<Vec<sink::Summary>> {
    let mut done = Vec::with_capacity(sinks.len());
    for (sink, staged) in sinks.iter().zip(staged) {
        let mut attempt = 1;
        let summary = loop {
            match sink::commit(sink, staged) {
                // A commit goes on where it stopped.
                Err(error) if error.category == Category::Io && attempt < COMMIT_ATTEMPTS => {
                    tracing::warn!("the commit is tried again: {error}");
                    std::thread::sleep(Duration::from_millis(200 << attempt));
                    attempt += 1;
                }
                Err(error) => {
                    abort(sinks);
                    return Err(error);
                }
                Ok(summary) => break summary,
            }
        };
        done.push(summary);
    }
    Ok(done)
}

fn abort(sinks: &[sink::Plan]) {
    for sink in sinks {
        if let Err(error) = sink::abort(sink) {
            tracing::warn!(uri = sink.uri(), "cannot remove staged files: {error}");
        }
    }
}

fn summaries(graph: &StageGraph, driven: &Driven) -> Vec<StageSummary> {
    let stages = driven.snapshot.stages.iter().zip(&driven.attempts).zip(&graph.stages);
    let ran = stages.filter(|((progress, _), _)| progress.phase != StagePhase::Unused);
    ran.map(|((progress, attempts), stage)| StageSummary {
        id: stage.id.0,
        label: stage.label.clone(),
        tasks: progress.tasks,
        attempts: *attempts,
        rows: progress.rows,
        bytes: progress.bytes,
        elapsed_ms: driven.clock.elapsed_ms(stage.id),
    })
    .collect()
}

pub(super) fn cancelled() -> QueryError {
    QueryError::new(Category::Cancelled, "Cancelled", "the query was cancelled")
}

fn late(what: &str) -> QueryError {
    let message = format!("activeDeadlineSeconds passed while the query {what}");
    QueryError::new(Category::Deadline, "DeadlineExceeded", message)
}

/// The summary as clients read it; the table is theirs to add.
pub fn summary(outcome: &Outcome) -> report::Outcome {
    report::Outcome {
        rows: outcome.rows,
        bytes_written: outcome.bytes_written,
        bytes_shuffled: outcome.bytes_shuffled,
        duration_ms: outcome.duration.as_millis() as u64,
        sink_uri: outcome.sinks.first().map(|sink| sink.uri.clone()),
        files: outcome.sinks.iter().map(|sink| sink.files).sum(),
        stages: outcome.stages.clone(),
        table: None,
        fell_back: outcome.fell_back.clone(),
        single_worker: events::single_worker(&outcome.single_worker),
        warnings: outcome.warnings.clone(),
    }
}

/// Progress as events, one for each stage that changed.
pub(super) fn stage_events(snapshot: &Snapshot, clock: &Clock) -> Vec<StageProgress> {
    snapshot.stages.iter().map(|stage| events::progress(stage, clock.elapsed_ms(stage.id))).collect()
}
