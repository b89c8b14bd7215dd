//! Moves one query through its stages: feeds events to the scheduler and carries out its decisions. Waits for messages,
//! the scheduler's timer, the deadline and cancellation, and for nothing else.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use floe_api::report::WorkerState;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::proto::{self, Attempt, to_worker};
use crate::shuffle::Remote;
use crate::telemetry;
use floe_planner::{Cuts, Form};
use floe_scheduler::cluster::Demand;
use floe_scheduler::{Action, Event, Limits, Outcome, ResolvedInputs, Snapshot, State, Won};
use floe_wire::chunk::OutputId;
use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::{StageGraph, StageId, TaskId};
use floe_wire::task::TaskSpec;

use super::admission::Admission;
use super::registry::{Registry, Signal};
use super::warned::Warned;

/// How long the workers may take to stop a query's last tasks before staged files are removed under them.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// The inputs of one run.
pub struct Run<'a> {
    /// The name of the run.
    pub query: &'a str,
    /// The query's registration with the cluster scheduler.
    pub place: &'a Admission,
    pub token: &'a str,
    pub graph: &'a StageGraph,
    /// `worker::Settings`, encoded.
    pub settings: bytes::Bytes,
    pub registry: &'a Arc<Registry>,
    pub limits: Limits,
    pub deadline: Option<Instant>,
    pub cancel: CancellationToken,
    /// Called after changes, at most once per `OBSERVE_EVERY`.
    pub observe: &'a (dyn Fn(&Snapshot, &Clock) + Send + Sync),
    /// The shuffle store; none: outputs stay on the workers.
    pub remote: Option<Arc<Remote>>,
    pub on_worker: &'a (dyn Fn(&str, WorkerState) + Send + Sync),
}

/// The times at which stages began and ended, and how many attempts at their tasks were launched.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    began: HashMap<StageId, Instant>,
    ended: HashMap<StageId, Instant>,
    attempts: HashMap<StageId, u32>,
}

impl Clock {
    pub fn elapsed_ms(&self, stage: StageId) -> u64 {
        let Some(began) = self.began.get(&stage) else { return 0 };
        let until = self.ended.get(&stage).copied().unwrap_or_else(Instant::now);
        until.saturating_duration_since(*began).as_millis() as u64
    }

    pub fn attempts(&self, stage: StageId) -> u32 {
        self.attempts.get(&stage).copied().unwrap_or(0)
    }
}

/// What a successful run leaves.
pub struct Driven {
    pub outputs: Vec<Vec<Won>>,
    pub snapshot: Snapshot,
    pub clock: Clock,
    /// Bytes of exchanges between stages.
    pub bytes_shuffled: u64,
    /// Polars' warnings in tasks.
    pub warned: Warned,
    /// Dropping it tells the workers that the query is over.
    pub hold: Hold,
}

/// Keeps the query's outputs, on its workers and in the shuffle store, until this is dropped.
pub struct Hold {
    registry: Arc<Registry>,
    query: String,
    pub(super) workers: HashSet<String>,
    remote: Option<Arc<Remote>>,
}

impl Hold {
    fn send_end(&self) {
        for worker in &self.workers {
            if let Some(link) = self.registry.link(worker) {
                let end = proto::QueryEnd { query: self.query.clone() };
                link.send(to_worker::Message::QueryEnd(end));
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.send_end();
        if let Some(remote) = self.remote.take() {
            remote.remove_all_later();
        }
    }
}

pub(super) struct Driver<'a> {
    pub(super) run: Run<'a>,
    began: Instant,
    pub(super) state: State,
    /// How stages were resolved so far.
    cuts: Cuts,
    pub(super) hold: Hold,
    pub(super) fragments: HashSet<(String, StageId)>,
    /// Launched attempts that have not reported their end, with their workers.
    pub(super) out: HashMap<(TaskId, u32), String>,
    wake: Option<Instant>,
    clock: Clock,
    spans: HashMap<StageId, Span>,
    pub(super) shuffled: u64,
    pub(super) warned: Warned,
    observed: Instant,
    pub(super) changed: bool,
    /// The demand last reported to the cluster scheduler.
    pub(super) reported_demand: Option<Demand>,
    /// The cluster scheduler asked for the demand again.
    pub(super) demand_requested: bool,
}

/// Runs a query to its end. On failure, returns once the workers have stopped its tasks, or after `STOP_TIMEOUT`.
pub async fn drive(run: Run<'_>) -> Result<Driven> {
    let mut signals = run.registry.listen(run.query, &run.place.query);
    // Stops listening even if this future is dropped before its end.
    let _listening = Listening { registry: run.registry.clone(), query: run.query.to_string() };
    Driver::new(run)?.drive(&mut signals).await
}

struct Listening {
    registry: Arc<Registry>,
    query: String,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.registry.unlisten(&self.query);
    }
}

impl<'a> Driver<'a> {
    fn new(run: Run<'a>) -> Result<Driver<'a>> {
        let state = State::new(run.graph, run.limits)?;
        let hold = Hold {
            registry: run.registry.clone(),
            query: run.query.to_string(),
            workers: HashSet::new(),
            remote: run.remote.clone(),
        };
        let now = Instant::now();
        Ok(Driver {
            run,
            began: now,
            state,
            cuts: Cuts::default(),
            hold,
            fragments: HashSet::new(),
            out: HashMap::new(),
            wake: None,
            clock: Clock::default(),
            spans: HashMap::new(),
            shuffled: 0,
            warned: Warned::default(),
            observed: now,
            changed: true,
            reported_demand: None,
            demand_requested: false,
        })
    }

    async fn drive(mut self, signals: &mut UnboundedReceiver<Signal>) -> Result<Driven> {
        let mut queue = VecDeque::from([Event::Tick]);
        let (mut cancelled, mut late) = (false, false);
        loop {
            while let Ok(signal) = signals.try_recv() {
                self.on_signal(signal, &mut queue);
            }
            while let Some(event) = queue.pop_front() {
                if let Some(outcome) = self.step(event, &mut queue) {
                    return self.finish(outcome, signals).await;
                }
            }
            if self.report_demand(signals, &mut queue) {
                continue;
            }
            self.observe(false);
            let wake = self.wake.map(tokio::time::Instant::from_std);
            let deadline = self.run.deadline.map(tokio::time::Instant::from_std);
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(signal) => self.on_signal(signal, &mut queue),
                    None => return Err(QueryError::internal("the query lost its workers' messages")),
                },
                () = sleep_until(wake), if wake.is_some() => {
                    self.wake = None;
                    queue.push_back(Event::Tick);
                }
                () = sleep_until(deadline), if deadline.is_some() && !late => {
                    late = true;
                    queue.push_back(Event::DeadlineReached);
                }
                () = self.run.cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    queue.push_back(Event::Cancel);
                }
                () = tokio::time::sleep(OBSERVE_EVERY), if self.changed => {}
            }
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn step(&mut self, event: Event, queue: &mut VecDeque<Event>) -> Option<Outcome> {
        let now = self.now();
        for action in floe_scheduler::decide(&mut self.state, event, now) {
            match action {
                Action::Resolve { stage, finer } => {
                    let answer = match self.resolve(stage, finer) {
                        Ok(_) if self.cuts.form(stage) == Some(Form::LeftOut) => Event::LeftOut { stage, finer },
                        Ok(tasks) => Event::Resolved { stage, finer, tasks },
                        Err(error) => Event::ResolveFailed { stage, error },
                    };
                    queue.push_back(answer);
                }
                Action::Launch { task, attempt, worker, alone: _ } => {
                    if let Err(error) = self.launch(task, attempt, &worker) {
                        queue.push_back(Event::TaskFailed { task, attempt, worker, error });
                    }
                }
                Action::Cancel { task, attempt, worker } => {
                    self.out.remove(&(task, attempt));
                    if let Some(link) = self.run.registry.link(&worker) {
                        link.send(to_worker::Message::Cancel(Attempt::new(self.run.query, task, attempt)));
                    }
                }
                Action::Release { stage } => self.release(stage),
                Action::WakeAt(at) => self.wake = Some(self.began + Duration::from_millis(at)),
                Action::Finish { result } => return Some(result),
            }
        }
        None
    }

    fn resolve(&mut self, stage: StageId, finer: u32) -> Result<Vec<ResolvedInputs>> {
        let before = self.cuts.form(stage);
        let tasks = self.cuts.resolve(self.run.graph, stage, &self.state, finer)?;
        self.clock.began.entry(stage).or_insert_with(Instant::now);
        if before.is_some() && before != self.cuts.form(stage) {
            // Workers may hold the fragment of the stage's former form.
            self.fragments.retain(|(_, of)| *of != stage);
        }
        let mut resolved: Vec<ResolvedInputs> = Vec::with_capacity(tasks);
        for task in (0..tasks as u32).map(|task| TaskId { stage, task }) {
            let (inputs, bytes): (Vec<TaskId>, Vec<u64>) = self.cuts.reads(task, &self.state)?.into_iter().unzip();
            // After a shuffle every task reads from all producers: they share one list.
            let same = resolved.last().filter(|last| *last.inputs == *inputs).map(|last| last.inputs.clone());
            resolved.push(ResolvedInputs { inputs: same.unwrap_or_else(|| inputs.into()), bytes });
        }
        Ok(resolved)
    }

    fn launch(&mut self, task: TaskId, attempt: u32, worker: &str) -> Result<()> {
        let lost = |what: &str| QueryError::new(Category::LostWorker, "WorkerLost", format!("worker {worker} {what}"));
        let link = self.run.registry.link(worker).ok_or_else(|| lost("is gone"))?;
        let unknown = || QueryError::internal(format!("there is no stage {}", task.stage.0));
        let stage = self.run.graph.stages.get(task.stage.0 as usize).ok_or_else(unknown)?;
        let leaves = self.cuts.inputs(self.run.graph, task, self.state.inputs(task), &self.state)?;
        if self.hold.workers.insert(worker.to_string()) {
            link.send(to_worker::Message::QueryStart(proto::QueryStart {
                query: self.run.query.to_string(),
                token: self.run.token.to_string(),
                settings_msgpack: self.run.settings.clone(),
            }));
        }
        if self.fragments.insert((worker.to_string(), stage.id)) {
            link.send(to_worker::Message::Fragment(proto::Fragment {
                query: self.run.query.to_string(),
                stage: stage.id.0,
                fragment: self.cuts.fragment(stage).clone(),
            }));
        }
        let span = self.spans.entry(stage.id).or_insert_with(
            || tracing::info_span!("stage", query = self.run.query, stage = stage.id.0, label = %stage.label),
        );
        let spec = TaskSpec { id: OutputId { task, attempt }, leaves, output: stage.output.clone() };
        let message = proto::Task {
            attempt: Some(Attempt::new(self.run.query, task, attempt)),
            spec_msgpack: floe_wire::pack(&spec)?,
            traceparent: telemetry::traceparent(span),
        };
        if !link.send(to_worker::Message::Task(message)) {
            return Err(lost("no longer listens"));
        }
        self.out.insert((task, attempt), worker.to_string());
        Ok(())
    }

    fn release(&mut self, stage: StageId) {
        for worker in &self.hold.workers {
            if let Some(link) = self.run.registry.link(worker) {
                let release = proto::Release { query: self.run.query.to_string(), stage: stage.0 };
                link.send(to_worker::Message::Release(release));
            }
        }
    }

    fn observe(&mut self, last: bool) {
        if !last && (!self.changed || self.observed.elapsed() < OBSERVE_EVERY) {
            return;
        }
        self.changed = false;
        self.observed = Instant::now();
        let snapshot = self.snapshot();
        (self.run.observe)(&snapshot, &self.clock);
    }

    fn snapshot(&mut self) -> Snapshot {
        let snapshot = self.state.progress();
        for stage in &snapshot.stages {
            self.clock.attempts.insert(stage.id, self.state.attempts(stage.id));
            if stage.phase == floe_scheduler::StagePhase::Done && self.clock.began.contains_key(&stage.id) {
                self.clock.ended.entry(stage.id).or_insert_with(Instant::now);
                self.spans.remove(&stage.id);
            }
        }
        snapshot
    }

    async fn finish(mut self, outcome: Outcome, signals: &mut UnboundedReceiver<Signal>) -> Result<Driven> {
        self.observe(true);
        let error = match outcome {
            Outcome::Succeeded { outputs } => {
                let snapshot = self.snapshot();
                let Driver { clock, shuffled, warned, hold, .. } = self;
                return Ok(Driven { outputs, snapshot, clock, bytes_shuffled: shuffled, warned, hold });
            }
            Outcome::Failed(error) => error,
            Outcome::Cancelled => QueryError::new(Category::Cancelled, "Cancelled", "the query was cancelled"),
        };
        // Tasks that still write would leave staged files behind: wait for them, but not for long.
        self.hold.send_end();
        let mut left = std::mem::take(&mut self.hold.workers);
        let _ = tokio::time::timeout(STOP_TIMEOUT, async {
            while !left.is_empty() {
                match signals.recv().await {
                    Some(Signal::Gone { worker } | Signal::WorkerLost { worker, .. }) => left.remove(&worker),
                    Some(_) => false,
                    None => break,
                };
            }
        })
        .await;
        Err(error)
    }
}

/// How often progress is reported.
const OBSERVE_EVERY: Duration = Duration::from_millis(100);

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
