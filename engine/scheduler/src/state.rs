//! Holds the state of a query: its stages and tasks, its workers, its budgets. Only data and getters; `decide`,
//! `lineage`, `place` and `retry` change it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Millis;
use super::finer::Short;
use super::progress::Counters;
use super::retry::{Faults, Limits};
use floe_wire::catalog::{Catalog, Found};
use floe_wire::chunk::OutputId;
use floe_wire::error::QueryError;
use floe_wire::graph::{StageId, TaskId};
use floe_wire::task::TaskOutput;

/// One running query.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) limits: Limits,
    pub(super) stages: Vec<Stage>,
    /// Stages whose outputs are the result, in the order of `Outcome::Succeeded`.
    pub(super) targets: Vec<usize>,
    pub(super) workers: Vec<Worker>,
    pub(super) worker_index: HashMap<String, usize>,
    pub(super) phase: Phase,
    /// Pending tasks whose inputs are all there, in launch order; those that must run alone are kept apart.
    pub(super) ready: BTreeSet<TaskId>,
    pub(super) ready_alone: BTreeSet<TaskId>,
    pub(super) sleeping: BTreeSet<(Millis, TaskId)>,
    pub(super) running: BTreeSet<TaskId>,
    pub(super) budget: Faults,
    pub(super) no_worker_since: Option<Millis>,
    pub(super) armed: Option<Millis>,
    pub(super) now: Millis,
    pub(super) counters: Counters,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    Running,
    /// A user error is known; tasks before it may still report an earlier one.
    Failing {
        by: TaskId,
        error: QueryError,
        until: Millis,
    },
    Over,
}

#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub label: String,
    pub inputs: Vec<usize>,
    pub readers: Vec<usize>,
    pub target: bool,
    /// It is a target, or a target depends on it. Other stages never run.
    pub useful: bool,
    /// Its tasks may write something else when they run again (`Stage::nondeterminism`). If one is made again after its
    /// output was lost, all that was made from the former output is made again with it, so that no result mixes the
    /// two.
    pub unstable: bool,
    pub cut: Cut,
    /// How often it was cut again, into smaller tasks.
    pub finer: u32,
    pub short: Option<Short>,
    /// The stage that its adaptive form replaces.
    pub replaces: Option<usize>,
    /// Attempt numbers below this are used up.
    pub first_attempt: u32,
    /// Attempts of the tasks that it was cut into before.
    pub launched_before: u32,
    pub tasks: Vec<Task>,
    /// Tasks that are wanted and not done.
    pub open: usize,
    /// Tasks whose output is available.
    pub available: usize,
    /// Pending tasks that wait for an input.
    pub blocked: usize,
    /// Bytes that one of its tasks reads on average, if the planner gave them for each.
    pub mean_bytes: Option<u64>,
    /// Durations of won attempts in ascending order, for the median.
    pub durations: Vec<Millis>,
    pub rows: u64,
    pub bytes: u64,
}

/// Whether a stage has been cut into tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Waiting,
    Asked,
    Done,
    /// It has no tasks: its reader runs in its adaptive form.
    LeftOut,
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    /// In ascending order, each once. Tasks that read the same, as after a shuffle, share the list.
    pub inputs: Arc<[TaskId]>,
    /// Bytes read of each; empty if not known.
    pub bytes: Vec<u64>,
    pub state: TaskState,
    pub next_attempt: u32,
    pub faults: Faults,
    /// Workers with which it was lost, for the message.
    pub lost_with: Vec<usize>,
    /// It has used up its retries: the attempts that run are the last.
    pub exhausted: Option<QueryError>,
    pub alone: bool,
    /// The end of the pause after its last IO failure.
    pub not_before: Millis,
    /// The worker on which it failed last, to be avoided if possible.
    pub avoid: Option<usize>,
    /// The worker that holds most of its input.
    pub home: Option<usize>,
    /// Whether its rows and bytes are in the stage's sums.
    pub counted: bool,
}

#[derive(Clone, Debug)]
pub(super) enum TaskState {
    /// To be launched; `missing` inputs are not available yet.
    Pending {
        missing: usize,
    },
    /// To be launched after a pause.
    Backoff {
        until: Millis,
    },
    /// One attempt, or two where the first is slow.
    Running(Vec<Attempt>),
    Done(Done),
    /// It was done, but its output is lost or released, and not wanted.
    Gone,
}

#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub number: u32,
    pub worker: usize,
    pub started: Option<Millis>,
    /// When the last `Progress` came.
    pub heard: Option<Millis>,
    pub alone: bool,
    /// No other task can run beside it.
    pub by_itself: bool,
    pub speculative: bool,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Done {
    pub attempt: u32,
    pub worker: usize,
    pub output: TaskOutput,
    /// The worker with which its output would be lost, if any.
    pub holder: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub name: String,
    /// Tasks of this query that may run there at once.
    pub slots: u32,
    /// No task of other queries runs there.
    pub whole: bool,
    pub status: WorkerStatus,
    pub running: u32,
    /// The task that runs there must run alone.
    pub alone: bool,
    /// Number of launches so far, which evens out the spread of short tasks.
    pub launches: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerStatus {
    Up,
    Draining,
    Lost,
}

impl Worker {
    pub fn free(&self) -> u32 {
        match self.status {
            WorkerStatus::Up if self.alone => 0,
            WorkerStatus::Up => self.slots.saturating_sub(self.running),
            WorkerStatus::Draining | WorkerStatus::Lost => 0,
        }
    }

    /// Whether it takes tasks, even if it has no slot for this query now.
    pub fn usable(&self) -> bool {
        match self.status {
            WorkerStatus::Up => true,
            WorkerStatus::Draining | WorkerStatus::Lost => false,
        }
    }
}

impl Task {
    pub fn new(inputs: Arc<[TaskId]>, bytes: Vec<u64>) -> Self {
        Self {
            inputs,
            bytes,
            state: TaskState::Gone,
            next_attempt: 0,
            faults: Faults::default(),
            lost_with: Vec::new(),
            exhausted: None,
            alone: false,
            not_before: 0,
            avoid: None,
            home: None,
            counted: false,
        }
    }

    pub fn done(&self) -> Option<&Done> {
        match &self.state {
            TaskState::Done(done) => Some(done),
            TaskState::Pending { .. } | TaskState::Backoff { .. } | TaskState::Running(_) | TaskState::Gone => None,
        }
    }

    pub fn attempts(&self) -> &[Attempt] {
        match &self.state {
            TaskState::Running(attempts) => attempts,
            TaskState::Pending { .. } | TaskState::Backoff { .. } | TaskState::Done(_) | TaskState::Gone => &[],
        }
    }

    pub fn attempts_mut(&mut self) -> &mut [Attempt] {
        match &mut self.state {
            TaskState::Running(attempts) => attempts,
            TaskState::Pending { .. } | TaskState::Backoff { .. } | TaskState::Done(_) | TaskState::Gone => &mut [],
        }
    }

    /// The bytes that it reads, as far as they are known.
    pub fn bytes_read(&self) -> u64 {
        self.bytes.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    pub fn reads(&self, task: TaskId) -> bool {
        self.inputs.binary_search(&task).is_ok()
    }
}

impl Stage {
    pub fn resolved(&self) -> bool {
        match self.cut {
            Cut::Done | Cut::LeftOut => true,
            Cut::Waiting | Cut::Asked => false,
        }
    }

    /// Whether it is being resolved.
    pub fn asked(&self) -> bool {
        match self.cut {
            Cut::Asked => true,
            Cut::Waiting | Cut::Done | Cut::LeftOut => false,
        }
    }

    /// Attempts of its present tasks.
    pub fn launched(&self) -> u32 {
        self.tasks.iter().map(|task| task.next_attempt.saturating_sub(self.first_attempt)).sum()
    }

    /// Whether all its wanted tasks are done.
    pub fn complete(&self) -> bool {
        self.resolved() && self.open == 0
    }
}

impl State {
    /// The outputs that a task reads, in ascending order, as the planner gave them when its stage was resolved.
    pub fn inputs(&self, task: TaskId) -> &[TaskId] {
        self.task(task).map(|task| &*task.inputs).unwrap_or_default()
    }

    /// The query has ended; every further event yields nothing.
    pub fn is_over(&self) -> bool {
        match self.phase {
            Phase::Over => true,
            Phase::Running | Phase::Failing { .. } => false,
        }
    }

    /// The stage, if it is being resolved for the `finer`-th time.
    pub(super) fn asked(&self, id: StageId, finer: u32) -> Option<usize> {
        let at = id.0 as usize;
        self.stages.get(at).filter(|stage| stage.finer == finer && stage.asked()).map(|_| at)
    }

    pub(super) fn task(&self, id: TaskId) -> Option<&Task> {
        self.stages.get(id.stage.0 as usize)?.tasks.get(id.task as usize)
    }

    pub(super) fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.stages.get_mut(id.stage.0 as usize)?.tasks.get_mut(id.task as usize)
    }

    pub(super) fn stage_of(&mut self, id: TaskId) -> &mut Stage {
        &mut self.stages[id.stage.0 as usize]
    }

    pub(super) fn is_available(&self, id: TaskId) -> bool {
        self.task(id).is_some_and(|task| task.done().is_some())
    }

    /// Whether all inputs of a task are available.
    pub(super) fn has_inputs(&self, id: TaskId) -> bool {
        self.task(id).is_some_and(|task| task.inputs.iter().all(|input| self.is_available(*input)))
    }

    pub(super) fn worker(&mut self, name: &str) -> usize {
        if let Some(at) = self.worker_index.get(name) {
            return *at;
        }
        let at = self.workers.len();
        self.worker_index.insert(name.to_owned(), at);
        self.workers.push(Worker {
            name: name.to_owned(),
            slots: 0,
            whole: false,
            // Known by name only: counts as lost until it is reported up.
            status: WorkerStatus::Lost,
            running: 0,
            alone: false,
            launches: 0,
        });
        at
    }

    pub(super) fn name(&self, id: TaskId) -> String {
        let label = self.stages.get(id.stage.0 as usize).map_or("", |stage| stage.label.as_str());
        match label {
            "" => format!("task {} of stage {}", id.task, id.stage.0),
            label => format!("task {} of stage {} ({label})", id.task, id.stage.0),
        }
    }
}

/// The current outputs.
impl Catalog for State {
    fn tasks(&self, stage: StageId) -> Option<u32> {
        let stage = self.stages.get(stage.0 as usize).filter(|stage| stage.resolved())?;
        Some(stage.tasks.len() as u32)
    }

    fn output(&self, task: TaskId) -> Option<Found<'_>> {
        let done = self.task(task)?.done()?;
        Some(Found { id: OutputId { task, attempt: done.attempt }, output: &done.output })
    }
}

pub(super) fn task_id(stage: usize, task: usize) -> TaskId {
    // Stage and task counts come from u32 ids.
    TaskId { stage: StageId(stage as u32), task: task as u32 }
}
