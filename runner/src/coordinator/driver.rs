//! Moves one query through its stages: feeds the scheduler what happens and carries out what it decides. Waits for
//! messages, the scheduler's timer, the deadline and cancellation, and for nothing else.

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
use floe_planner::Cuts;
use floe_scheduler::cluster::Demand;
use floe_scheduler::{Action, Event, Limits, Outcome, ResolvedInputs, Snapshot, State, Won};
use floe_wire::chunk::OutputId;
use floe_wire::error::{Category, QueryError, Result, TaskError};
use floe_wire::graph::{Exchange, StageGraph, StageId, TaskId, TaskSpec};

use super::admission::{Admission, Granted};
use super::registry::{Registry, Signal};
use super::warned::Warned;

/// How long the workers may take to stop a query's last tasks before staged files are removed under them.
const STOP_WITHIN: Duration = Duration::from_secs(4);

/// What a driver is given.
pub struct Run<'a> {
    /// The name of the run.
    pub query: &'a str,
    /// The query's place in the engine.
    pub place: &'a Admission,
    pub token: &'a str,
    pub graph: &'a StageGraph,
    /// worker::Settings
    pub settings: bytes::Bytes,
    pub registry: &'a Arc<Registry>,
    pub limits: Limits,
    pub deadline: Option<Instant>,
    pub cancel: CancellationToken,
    /// Called after every change, at most every so often.
    pub observe: &'a (dyn Fn(&Snapshot, &Clock) + Send + Sync),
    /// Where outputs go, unless they stay with the workers.
    pub remote: Option<Arc<Remote>>,
    pub on_worker: &'a (dyn Fn(&str, WorkerState) + Send + Sync),
}

/// When stages began and ended.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    began: HashMap<StageId, Instant>,
    ended: HashMap<StageId, Instant>,
}

impl Clock {
    pub fn elapsed_ms(&self, stage: StageId) -> u64 {
        let Some(began) = self.began.get(&stage) else { return 0 };
        let until = self.ended.get(&stage).copied().unwrap_or_else(Instant::now);
        until.saturating_duration_since(*began).as_millis() as u64
    }
}

/// What a run that succeeded leaves.
pub struct Driven {
    pub outputs: Vec<Vec<Won>>,
    pub snapshot: Snapshot,
    pub clock: Clock,
    pub attempts: Vec<u32>,
    /// Bytes of exchanges between stages.
    pub bytes_shuffled: u64,
    /// What Polars warned of in tasks.
    pub warned: Warned,
    /// Tells the workers that the query is over, when dropped.
    pub hold: Hold,
}

/// The query's place on the workers: its outputs stay until this is dropped.
pub struct Hold {
    registry: Arc<Registry>,
    query: String,
    workers: HashSet<String>,
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

struct Driver<'a> {
    run: Run<'a>,
    began: Instant,
    state: State,
    /// What was decided on the stages so far.
    cuts: Cuts,
    hold: Hold,
    fragments: HashSet<(String, StageId)>,
    /// Attempts launched and not heard the end of.
    out: HashMap<(TaskId, u32), String>,
    wake: Option<Instant>,
    clock: Clock,
    spans: HashMap<StageId, Span>,
    shuffled: u64,
    warned: Warned,
    observed: Instant,
    changed: bool,
    /// What the cluster scheduler knows of this query.
    said: Option<Demand>,
    /// It wants to hear it again.
    called: bool,
}

/// Runs a query to its end. On failure the workers have stopped its tasks (or had their time to).
pub async fn drive(run: Run<'_>) -> Result<Driven> {
    let mut signals = run.registry.listen(run.query, &run.place.query);
    // Undone also when this future is dropped half-way.
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
            said: None,
            called: false,
        })
    }

    async fn drive(mut self, signals: &mut UnboundedReceiver<Signal>) -> Result<Driven> {
        let mut queue = VecDeque::from([Event::Tick]);
        let (mut cancelled, mut late) = (false, false);
        loop {
            while let Ok(signal) = signals.try_recv() {
                self.hear(signal, &mut queue);
            }
            while let Some(event) = queue.pop_front() {
                if let Some(outcome) = self.step(event, &mut queue) {
                    return self.finish(outcome, signals).await;
                }
            }
            if self.say_demand(signals, &mut queue) {
                continue;
            }
            self.observe(false);
            let wake = self.wake.map(tokio::time::Instant::from_std);
            let deadline = self.run.deadline.map(tokio::time::Instant::from_std);
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(signal) => self.hear(signal, &mut queue),
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

    fn hear(&mut self, signal: Signal, queue: &mut VecDeque<Event>) {
        self.changed = true;
        let event = match signal {
            Signal::WorkerUp { worker } => {
                (self.run.on_worker)(&worker, WorkerState::Up);
                // What of it is for this query is granted to it.
                Event::WorkerUp { worker, slots: 0 }
            }
            Signal::WorkerDraining { worker } => {
                (self.run.on_worker)(&worker, WorkerState::Draining);
                Event::WorkerDraining { worker }
            }
            Signal::WorkerLost { worker, out_of_memory } => {
                (self.run.on_worker)(&worker, WorkerState::Lost);
                self.hold.workers.remove(&worker);
                self.fragments.retain(|(holder, _)| *holder != worker);
                if out_of_memory {
                    // Nothing is to be tried again there, whichever of its tasks is heard of first.
                    queue.push_back(Event::WorkerDraining { worker: worker.clone() });
                }
                let gone: Vec<_> = self.out.iter().filter(|(_, at)| **at == worker).map(|(id, _)| *id).collect();
                for (task, attempt) in gone {
                    self.out.remove(&(task, attempt));
                    if out_of_memory {
                        let message = format!("worker {worker} was killed while it was close to its memory limit");
                        let error = QueryError::new(Category::OutOfMemory, "OutOfMemory", message);
                        queue.push_back(Event::TaskFailed { task, attempt, worker: worker.clone(), error });
                    }
                }
                Event::WorkerLost { worker }
            }
            Signal::Started { worker, task, attempt } => Event::Started { task, attempt, worker },
            Signal::Progress { worker, task, attempt, rows, bytes } => {
                Event::Progress { task, attempt, worker, rows, bytes }
            }
            Signal::Done { worker, task, attempt, mut output } => {
                self.out.remove(&(task, attempt));
                self.warned.add(std::mem::take(&mut output.warnings));
                if self.exchanges(task.stage) {
                    self.shuffled += output.bytes;
                }
                Event::TaskDone { task, attempt, worker, output }
            }
            Signal::Failed { worker, task, attempt, error } => {
                self.out.remove(&(task, attempt));
                match error {
                    TaskError::Query(error) => Event::TaskFailed { task, attempt, worker, error },
                    TaskError::Lost { outputs, message } => {
                        tracing::info!(stage = task.stage.0, task = task.task, worker, "inputs are lost: {message}");
                        Event::InputsLost { task, attempt, worker, lost: outputs }
                    }
                }
            }
            Signal::Called => {
                self.called = true;
                return;
            }
            Signal::Gone { .. } => return,
        };
        queue.push_back(event);
    }

    /// Tells the cluster scheduler what runs and what could, if that has changed; whether there is more to take in.
    fn say_demand(&mut self, signals: &UnboundedReceiver<Signal>, queue: &mut VecDeque<Event>) -> bool {
        let demand = self.state.demand();
        if !self.called && self.said.as_ref() == Some(&demand) {
            return false;
        }
        let answer = self.run.registry.demand(&self.run.place.query, demand.clone(), || signals.is_empty());
        let Some(grants) = answer else { return true };
        self.said = Some(demand);
        self.called = false;
        let granted = |granted: Granted| {
            let Granted { worker, slots, whole } = granted;
            Event::Granted { worker, slots, whole }
        };
        queue.extend(grants.into_iter().map(granted));
        !queue.is_empty()
    }

    fn exchanges(&self, stage: StageId) -> bool {
        match self.run.graph.stages.get(stage.0 as usize).map(|stage| &stage.output) {
            Some(Exchange::Hash { .. } | Exchange::Range { .. } | Exchange::Whole) => true,
            Some(Exchange::Result | Exchange::Sink { .. }) | None => false,
        }
    }

    fn step(&mut self, event: Event, queue: &mut VecDeque<Event>) -> Option<Outcome> {
        let now = self.now();
        for action in floe_scheduler::decide(&mut self.state, event, now) {
            match action {
                Action::Resolve { stage, finer } => {
                    let answer = match self.resolve(stage, finer) {
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
            // Workers may have the former one.
            self.fragments.retain(|(_, of)| *of != stage);
        }
        let mut resolved: Vec<ResolvedInputs> = Vec::with_capacity(tasks);
        for task in (0..tasks as u32).map(|task| TaskId { stage, task }) {
            let (inputs, bytes): (Vec<TaskId>, Vec<u64>) = self.cuts.reads(task, &self.state)?.into_iter().unzip();
            // Behind a shuffle every task reads of all producers: one list does for all.
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
                let attempts = snapshot.stages.iter().map(|stage| self.state.attempts(stage.id)).collect();
                let Driver { clock, shuffled, warned, hold, .. } = self;
                return Ok(Driven { outputs, snapshot, clock, attempts, bytes_shuffled: shuffled, warned, hold });
            }
            Outcome::Failed(error) => error,
            Outcome::Cancelled => QueryError::new(Category::Cancelled, "Cancelled", "the query was cancelled"),
        };
        // Tasks that still write would leave staged files behind: they are waited for, but not for long.
        self.hold.send_end();
        let mut left = std::mem::take(&mut self.hold.workers);
        let _ = tokio::time::timeout(STOP_WITHIN, async {
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

/// How often progress is told.
const OBSERVE_EVERY: Duration = Duration::from_millis(100);

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
