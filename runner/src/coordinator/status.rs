//! The state of each query: its phase, plan, progress and result. Filled by `run`, read by `http`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use floe_api::StageState;
use floe_api::job::Job;
use floe_api::report::{self, Event, Report, RunPhase, StageProgress, WorkerEvent, WorkerState};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use floe_scheduler::{Counters as TaskCounters, Snapshot};
use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::StageGraph;

use super::driver::Clock;
use super::events;
use super::result::ResultHandle;
use super::summary::{stage_events, summary};
use super::{Outcome, explain};

/// What a warm engine keeps of finished queries, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remember {
    /// The number of queries, together with their results.
    pub queries: usize,
    /// Bytes of all results together. The oldest are dropped first, and never the newest.
    pub result_bytes: u64,
    /// The largest result, in bytes, kept in the coordinator's memory, where it outlives the workers.
    pub here_bytes: u64,
}

impl Default for Remember {
    fn default() -> Self {
        Remember { queries: 64, result_bytes: 1 << 30, here_bytes: 256 << 20 }
    }
}

pub struct Status {
    pub id: String,
    pub name: String,
    pub attempt: u32,
    pub events: broadcast::Sender<Event>,
    pub cancel: CancellationToken,
    /// Grants access to this query's endpoints, and no other's.
    pub token: String,
    keep_result: bool,
    state: Mutex<State>,
}

struct State {
    number: u64,
    phase: RunPhase,
    graph: Option<StageGraph>,
    stages: Vec<StageProgress>,
    summary: Option<report::Outcome>,
    error: Option<QueryError>,
    result: Option<Arc<ResultHandle>>,
    /// The result was dropped to make room for others.
    dropped: bool,
}

impl Status {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn admitted(&self) {
        self.state().phase = RunPhase::Planning;
    }

    pub fn plan(&self, graph: &StageGraph) {
        let mut state = self.state();
        state.phase = RunPhase::Running;
        state.stages.clear();
        // Fragments are large, and not needed here.
        let mut light = graph.clone();
        light.stages.iter_mut().for_each(|stage| stage.fragment = bytes::Bytes::new());
        state.graph = Some(light);
        drop(state);
        self.send(|| Event::Planned(events::plan(graph)));
    }

    pub fn progress(&self, snapshot: &Snapshot, clock: &Clock) {
        let stages = stage_events(snapshot, clock);
        let mut state = self.state();
        let before = std::mem::replace(&mut state.stages, stages.clone());
        drop(state);
        for stage in stages {
            let same = |old: &&StageProgress| StageProgress { elapsed_ms: stage.elapsed_ms, ..(*old).clone() } == stage;
            let untold = before.iter().find(|old| old.id == stage.id);
            let waits = stage.state == StageState::Waiting && untold.is_none();
            if !waits && untold.filter(same).is_none() {
                self.send(|| Event::Stage(stage.clone()));
            }
        }
    }

    /// All tasks are done and the result is about to become visible.
    pub fn committing(&self) {
        self.state().phase = RunPhase::Committing;
    }

    pub fn worker(&self, worker: &str, state: WorkerState) {
        self.send(|| Event::Worker(WorkerEvent { id: worker.to_string(), state }));
    }

    pub fn finish(&self, result: &Result<Outcome>, elapsed: Duration) {
        let mut state = self.state();
        match result {
            Ok(outcome) => {
                state.phase = RunPhase::Succeeded;
                state.result = outcome.result.clone().filter(|_| self.keep_result);
                let summary = summary(outcome);
                state.summary = Some(summary.clone());
                drop(state);
                tracing::info!(elapsed_ms = elapsed.as_millis() as u64, rows = outcome.rows, "query succeeded");
                self.send(|| Event::Done { outcome: Box::new(summary) });
            }
            Err(error) => {
                state.phase =
                    if error.category == Category::Cancelled { RunPhase::Cancelled } else { RunPhase::Failed };
                let running = state.stages.iter_mut().filter(|stage| stage.state == StageState::Running);
                let failed: Vec<StageProgress> = running
                    .map(|stage| {
                        stage.state = StageState::Failed;
                        stage.clone()
                    })
                    .collect();
                state.error = Some(error.clone());
                drop(state);
                tracing::info!(
                    elapsed_ms = elapsed.as_millis() as u64,
                    category = error.category.as_str(),
                    class = error.class,
                    "query failed: {error}"
                );
                failed.into_iter().for_each(|stage| self.send(|| Event::Stage(stage.clone())));
                self.send(|| Event::Error(events::error(error)));
            }
        }
    }

    fn send(&self, event: impl FnOnce() -> Event) {
        if self.events.receiver_count() > 0 {
            // All receivers may be gone by now.
            let _ = self.events.send(event());
        }
    }

    /// Waits while the query runs; returns at once if it is queued or has ended.
    pub async fn worked(&self) {
        // Subscribe before looking, so that no end is missed in between.
        let mut events = self.events.subscribe();
        if self.finished() || self.state().phase == RunPhase::Waiting {
            return;
        }
        loop {
            match events.recv().await {
                Ok(Event::Done { .. } | Event::Error(_)) | Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(_)) if self.finished() => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
            }
        }
    }

    /// `workers`: those that are connected. `ahead`: how many queries are ahead of it.
    pub fn report(&self, workers: Vec<String>, ahead: Option<usize>) -> Report {
        let state = self.state();
        Report {
            plan: state.graph.as_ref().map(events::plan),
            workers,
            engine: None,
            id: self.id.clone(),
            name: self.name.clone(),
            attempt: self.attempt,
            phase: state.phase,
            ahead: ahead.filter(|_| state.phase == RunPhase::Waiting),
            stages: state.stages.clone(),
            outcome: state.summary.clone(),
            error: state.error.as_ref().map(events::error),
        }
    }

    pub fn explain(&self, format: explain::Format) -> Option<String> {
        self.state().graph.as_ref().map(|graph| explain::render(graph, format))
    }

    pub fn result(&self) -> Option<Arc<ResultHandle>> {
        self.state().result.clone()
    }

    pub fn is_dropped(&self) -> bool {
        self.state().dropped
    }

    fn result_bytes(&self) -> u64 {
        self.state().result.as_ref().map_or(0, |result| result.bytes())
    }

    /// Drops the result; readers that have begun keep it to their end.
    fn drop_result(&self) {
        let mut state = self.state();
        state.dropped |= state.result.take().is_some();
    }

    pub fn finished(&self) -> bool {
        match self.state().phase {
            RunPhase::Waiting | RunPhase::Planning | RunPhase::Running | RunPhase::Committing => false,
            RunPhase::Succeeded | RunPhase::Failed | RunPhase::Cancelled => true,
        }
    }
}

#[derive(Default)]
pub struct Statuses {
    /// Whether results are kept for clients that ask for them later.
    keep_results: bool,
    pub remember: Remember,
    queries: Mutex<(u64, HashMap<String, Arc<Status>>)>,
    pub counters: Counters,
}

/// Queries by how they ended, and what happened to their tasks.
#[derive(Default)]
pub struct Counters {
    ended: Mutex<HashMap<&'static str, u64>>,
    tasks: Mutex<TaskCounters>,
}

impl Counters {
    /// Adds what happened to a query's tasks between two looks at its scheduler.
    pub fn add_tasks(&self, before: TaskCounters, now: TaskCounters) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).add(now.since(before));
    }

    pub fn tasks(&self) -> TaskCounters {
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self, outcome: &'static str) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
    }

    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = ended.iter().map(|(name, count)| (*name, *count)).collect();
        all.sort_unstable();
        all
    }
}

impl Statuses {
    pub fn new(keep_results: bool, remember: Remember) -> Statuses {
        Statuses { keep_results, remember, ..Statuses::default() }
    }

    fn queries(&self) -> MutexGuard<'_, (u64, HashMap<String, Arc<Status>>)> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a job; its id must be a valid file name that is not in use. `token`: grants access to the query, if
    /// the client chose one.
    pub fn start(
        &self,
        job: &Job,
        token: Option<String>,
        events: broadcast::Sender<Event>,
        cancel: CancellationToken,
    ) -> Result<Arc<Status>> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if job.id.is_empty() || job.id.len() > 128 || job.id.starts_with('.') || !job.id.bytes().all(fits) {
            let message = format!("job id {:?} must be letters, digits, '-', '_' and '.'", job.id);
            return Err(QueryError::user("BadSpec", message));
        }
        let mut queries = self.queries();
        if queries.1.get(&job.id).is_some_and(|query| !query.finished()) {
            return Err(QueryError::user("BadSpec", format!("a query {} is running", job.id)));
        }
        queries.0 += 1;
        let state = State {
            number: queries.0,
            phase: RunPhase::Waiting,
            graph: None,
            stages: Vec::new(),
            summary: None,
            error: None,
            result: None,
            dropped: false,
        };
        let status = Arc::new(Status {
            id: job.id.clone(),
            name: job.name.clone(),
            attempt: job.attempt,
            events,
            cancel,
            token: token.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string()),
            keep_result: self.keep_results,
            state: Mutex::new(state),
        });
        queries.1.insert(job.id.clone(), status.clone());
        Ok(status)
    }

    pub fn get(&self, id: &str) -> Option<Arc<Status>> {
        self.queries().1.get(id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Status>> {
        self.queries().1.values().cloned().collect()
    }

    pub fn remove(&self, id: &str) {
        self.queries().1.remove(id);
    }

    /// Forgets the oldest finished queries, and drops the oldest results of the others.
    pub fn forget_old(&self) {
        let mut queries = self.queries();
        let finished = queries.1.values().filter(|query| query.finished());
        let mut finished: Vec<(u64, Arc<Status>)> =
            finished.map(|query| (query.state().number, query.clone())).collect();
        finished.sort_unstable_by_key(|(number, _)| *number);
        if finished.len() > 2 * self.remember.queries {
            let forgotten = finished.len() - self.remember.queries;
            finished.drain(..forgotten).for_each(|(_, query)| drop(queries.1.remove(&query.id)));
        }
        drop(queries);
        let sizes: Vec<u64> = finished.iter().map(|(_, query)| query.result_bytes()).collect();
        let dropped = too_many(&sizes, self.remember.result_bytes);
        finished[..dropped].iter().for_each(|(_, query)| query.drop_result());
    }
}

/// How many of the oldest results to drop, so that the rest fit into `limit` bytes; the newest stays in any case.
fn too_many(sizes: &[u64], limit: u64) -> usize {
    let mut left: u64 = sizes.iter().sum();
    let Some((_, older)) = sizes.split_last() else { return 0 };
    let goes = |size: &&u64| {
        let over = left > limit;
        left -= **size;
        over
    };
    older.iter().take_while(goes).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_results_make_room() {
        assert_eq!(too_many(&[], 10), 0);
        assert_eq!(too_many(&[4, 3, 3], 10), 0);
        assert_eq!(too_many(&[4, 3, 4], 10), 1);
        assert_eq!(too_many(&[0, 4, 3, 4], 4), 3);
        assert_eq!(too_many(&[1, 1, 100], 10), 2, "the newest stays");
        assert_eq!(too_many(&[100], 10), 0);
    }
}
