//! Checks what must hold at every step of a simulated query against books of its own, kept only from the events it was
//! given and the actions it took, by plain recursion where the scheduler counts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::scenario::{Kept, Scenario, id};
use super::seen::Seen;
use crate::{Action, Event, Millis, Outcome, StagePhase, State};
use floe_wire::catalog::Catalog;
use floe_wire::chunk::*;
use floe_wire::error::Category;
use floe_wire::graph::*;

/// What the query may use of a worker.
#[derive(Clone, Copy, Debug, Default)]
struct On {
    slots: u32,
    takes: bool,
    whole: bool,
}

#[derive(Clone, Debug)]
struct Running {
    worker: String,
    started: Option<Millis>,
    alone: bool,
    by_itself: bool,
}

#[derive(Clone, Debug)]
pub(super) struct There {
    pub(super) attempt: u32,
    holder: Option<String>,
    inline: bool,
}

pub struct Watch<'a> {
    pub(super) scenario: &'a Scenario,
    workers: BTreeMap<String, On>,
    resolving: HashSet<usize>,
    resolved: HashSet<usize>,
    /// Tasks of the stages that were cut.
    cut: HashMap<usize, usize>,
    finer: HashMap<usize, u32>,
    /// Stages with a task that did not fit though it ran alone.
    short: HashSet<usize>,
    /// Stages that were left out for one that starts over.
    left_out_before: HashSet<usize>,
    running: BTreeMap<(TaskId, u32), Running>,
    pub(super) there: HashMap<TaskId, There>,
    counted: BTreeSet<TaskId>,
    /// The attempt that won last.
    pub(super) version: HashMap<TaskId, u32>,
    /// Unstable tasks that are being made again, and running ones that read what they made before.
    again: HashSet<TaskId>,
    must_stop: HashSet<(TaskId, u32)>,
    released: HashSet<TaskId>,
    attempts: HashMap<TaskId, u32>,
    lost: HashMap<TaskId, u32>,
    alone: HashSet<TaskId>,
    io_pause: HashMap<TaskId, Millis>,
    /// User errors told by running attempts.
    pub(super) user_errors: BTreeSet<TaskId>,
    won: HashMap<usize, usize>,
    /// Workers that got tasks in this step.
    given_more: BTreeSet<String>,
    pub finished: Option<Outcome>,
    pub seen: Seen,
}

impl<'a> Watch<'a> {
    pub fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            workers: BTreeMap::new(),
            resolving: HashSet::new(),
            resolved: HashSet::new(),
            cut: HashMap::new(),
            finer: HashMap::new(),
            short: HashSet::new(),
            left_out_before: HashSet::new(),
            running: BTreeMap::new(),
            there: HashMap::new(),
            counted: BTreeSet::new(),
            version: HashMap::new(),
            again: HashSet::new(),
            must_stop: HashSet::new(),
            released: HashSet::new(),
            attempts: HashMap::new(),
            lost: HashMap::new(),
            alone: HashSet::new(),
            io_pause: HashMap::new(),
            user_errors: BTreeSet::new(),
            won: HashMap::new(),
            given_more: BTreeSet::new(),
            finished: None,
            seen: Seen::default(),
        }
    }

    fn reads(&self, task: TaskId) -> &'a [TaskId] {
        &self.scenario.reads[task.stage.0 as usize][task.task as usize]
    }

    fn inputs(&self, stage: usize) -> Vec<usize> {
        let graph = &self.scenario.graph;
        graph.inputs(&graph.stages[stage]).into_iter().map(|input| input.0 as usize).collect()
    }

    fn tasks(&self, stage: usize) -> usize {
        self.cut.get(&stage).copied().unwrap_or(self.scenario.reads[stage].len())
    }

    /// A stage starts over: its tasks, or those of the stage that it may leave out, did not fit.
    fn take_back(&mut self, stage: usize, finer: u32) {
        let allowed = self.short.remove(&stage) || self.left_out_before.remove(&stage);
        assert!(allowed, "stage {stage} is fine enough");
        if let Some(form) = &self.scenario.graph.stages[stage].adaptive {
            self.left_out_before.insert(form.replaces.0 as usize);
        }
        assert!(!self.running.keys().any(|(task, _)| task.stage.0 as usize == stage), "old tasks of stage {stage} run");
        let others = |task: &TaskId| task.stage.0 as usize != stage;
        let used = self.attempts.iter().filter(|(task, _)| !others(task)).map(|(_, next)| *next).max().unwrap_or(0);
        self.attempts.extend((0..self.scenario.reads[stage].len()).map(|task| (id(stage, task), used)));
        self.there.retain(|task, _| others(task));
        self.counted.retain(others);
        self.alone.retain(others);
        self.lost.retain(|task, _| others(task));
        self.io_pause.retain(|task, _| others(task));
        self.released.retain(others);
        self.won.remove(&stage);
        self.cut.remove(&stage);
        self.resolved.remove(&stage);
        self.resolving.remove(&stage);
        self.finer.insert(stage, finer);
        self.seen.cut_finer += 1;
    }

    fn is_target(&self, stage: usize) -> bool {
        self.scenario.graph.roots.contains(&StageId(stage as u32))
    }

    /// Whether the output of each task is needed, straight from the definition.
    fn needed(&self) -> HashSet<TaskId> {
        let mut needed = HashSet::new();
        for stage in (0..self.scenario.reads.len()).rev().filter(|stage| self.scenario.useful[*stage]) {
            for task in 0..self.tasks(stage) {
                if self.is_target(stage) {
                    needed.insert(id(stage, task));
                }
            }
            for input in self.inputs(stage).iter().filter(|_| !self.resolved.contains(&stage)) {
                needed.extend((0..self.tasks(*input)).map(|task| id(*input, task)));
            }
            if self.resolved.contains(&stage) {
                for task in (0..self.tasks(stage)).map(|task| id(stage, task)) {
                    if needed.contains(&task) && !self.there.contains_key(&task) {
                        needed.extend(self.reads(task));
                    }
                }
            }
        }
        needed
    }

    /// Something of this query runs on a worker, or an output that is needed lies there.
    pub fn has_stake(&self, worker: &str) -> bool {
        let needed = self.needed();
        let holds = |(task, there): (&TaskId, &There)| there.holder.as_deref() == Some(worker) && needed.contains(task);
        self.running.values().any(|run| run.worker == worker) || self.there.iter().any(holds)
    }

    fn runs(&self, task: TaskId) -> Vec<&Running> {
        self.running.range((task, 0)..=(task, u32::MAX)).map(|(_, run)| run).collect()
    }

    fn ended(&mut self, task: TaskId, attempt: u32, worker: &str) -> Option<Running> {
        let live = self.running.get(&(task, attempt)).is_some_and(|run| run.worker == worker);
        if !live {
            self.seen.ignored += 1;
            return None;
        }
        self.running.remove(&(task, attempt))
    }

    fn lost_once(&mut self, task: TaskId) {
        let lost = self.lost.entry(task).or_default();
        *lost += 1;
        if *lost >= self.scenario.limits.lost_until_alone {
            self.alone.insert(task);
        }
    }

    /// Records what the scheduler is about to be told.
    pub fn told(&mut self, event: &Event, now: Millis) {
        self.given_more.clear();
        match event {
            Event::WorkerUp { worker, slots } => {
                self.workers.insert(worker.clone(), On { slots: *slots, takes: true, whole: true });
            }
            Event::Granted { worker, slots, whole } => {
                let on = self.workers.get_mut(worker).expect("granted on a worker that is not there");
                (on.slots, on.whole) = (*slots, *whole);
            }
            Event::WorkerDraining { worker } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.takes = false;
                }
            }
            Event::WorkerLost { worker } => {
                if self.workers.remove(worker).is_some() {
                    let gone = self.running.iter().filter(|(_, run)| run.worker == *worker);
                    let gone: Vec<(TaskId, u32)> = gone.map(|(key, _)| *key).collect();
                    for key in gone {
                        self.running.remove(&key);
                        self.lost_once(key.0);
                    }
                    self.there.retain(|_, there| there.holder.as_ref() != Some(worker));
                }
            }
            Event::Resolved { stage, finer, tasks } => {
                let at = stage.0 as usize;
                let asked = self.finer.get(&at).copied().unwrap_or(0);
                if self.resolving.contains(&at) && *finer == asked && self.resolved.insert(at) {
                    self.cut.insert(at, tasks.len());
                }
            }
            Event::LeftOut { stage, finer } => {
                let at = stage.0 as usize;
                if self.resolving.contains(&at) && *finer == 0 && self.resolved.insert(at) {
                    self.cut.insert(at, 0);
                }
            }
            Event::TaskDone { task, attempt, worker, output } => {
                if self.ended(*task, *attempt, worker).is_some() {
                    let holder = match output.place {
                        Place::Worker { .. } => Some(worker.clone()),
                        Place::Inline(_) | Place::Store => None,
                    };
                    let inline = self.scenario.kept[task.stage.0 as usize] == Kept::Inline;
                    let there = There { attempt: *attempt, holder, inline };
                    assert!(self.there.insert(*task, there).is_none(), "{task:?} done twice");
                    self.counted.insert(*task);
                    self.version.insert(*task, *attempt);
                    self.again.remove(task);
                    *self.won.entry(task.stage.0 as usize).or_default() += 1;
                    if self.workers.get(worker).is_some_and(|worker| !worker.takes) {
                        self.seen.drained_spared += 1;
                    }
                }
            }
            Event::TaskFailed { task, attempt, worker, error } => {
                if let Some(run) = self.ended(*task, *attempt, worker) {
                    match error.category {
                        Category::User => {
                            self.user_errors.insert(*task);
                        }
                        Category::Io => {
                            self.io_pause.insert(*task, now);
                        }
                        Category::LostWorker | Category::Cancelled => self.lost_once(*task),
                        Category::OutOfMemory if run.by_itself => {
                            self.short.insert(task.stage.0 as usize);
                        }
                        Category::OutOfMemory => {
                            self.alone.insert(*task);
                        }
                        Category::Deadline | Category::Internal => {}
                    }
                }
            }
            Event::InputsLost { task, attempt, worker, lost } => {
                if self.ended(*task, *attempt, worker).is_some() {
                    self.seen.inputs_lost += 1;
                    for input in lost {
                        let there = self.there.get(&input.task);
                        if there.is_some_and(|there| there.attempt == input.attempt && !there.inline) {
                            self.there.remove(&input.task);
                        }
                    }
                }
            }
            Event::Started { task, attempt, worker } | Event::Progress { task, attempt, worker, .. } => {
                if let Some(run) = self.running.get_mut(&(*task, *attempt)).filter(|run| run.worker == *worker) {
                    run.started.get_or_insert(now);
                }
            }
            Event::ResolveFailed { .. } | Event::Cancel | Event::DeadlineReached | Event::Tick => {}
        }
        if self.user_errors.is_empty() {
            self.drop_what_does_not_fit();
        }
    }

    /// Drops all that was made from the former output of an unstable task that is to be made again.
    fn drop_what_does_not_fit(&mut self) {
        loop {
            let needed = self.needed();
            let of_again = |task: &&TaskId| {
                let unstable = self.scenario.unstable[task.stage.0 as usize] && self.counted.contains(task);
                unstable && !self.there.contains_key(task) && !self.again.contains(task)
            };
            let Some(again) = needed.iter().filter(of_again).min().copied() else { return };
            self.again.insert(again);
            let mut stale = HashSet::from([again]);
            for stage in again.stage.0 as usize + 1..self.scenario.reads.len() {
                for task in (0..self.scenario.reads[stage].len()).map(|task| id(stage, task)) {
                    if self.resolved.contains(&stage) && self.reads(task).iter().any(|read| stale.contains(read)) {
                        stale.insert(task);
                        self.seen.stale += u64::from(self.there.remove(&task).is_some());
                        let runs = self.running.range((task, 0)..=(task, u32::MAX)).map(|(key, _)| *key);
                        self.must_stop.extend(runs);
                    }
                }
            }
        }
    }

    /// Checks one action, in the order in which they are carried out.
    pub fn took(&mut self, state: &State, action: &Action, now: Millis) {
        assert!(self.finished.is_none(), "{action:?} after the end");
        match action {
            Action::Resolve { stage, finer } => {
                let at = stage.0 as usize;
                if *finer > self.finer.get(&at).copied().unwrap_or(0) {
                    self.take_back(at, *finer);
                }
                assert!(self.scenario.useful[at], "{stage:?} is of no use");
                assert!(self.resolving.insert(at), "{stage:?} resolved twice");
                for input in self.inputs(at) {
                    assert!(self.resolved.contains(&input), "{stage:?} resolved before its input {input}");
                    let count = self.tasks(input);
                    assert!((0..count).all(|task| self.there.contains_key(&id(input, task))), "{stage:?} too early");
                    assert_eq!(state.tasks(StageId(input as u32)), Some(count as u32));
                }
            }
            Action::Launch { task, attempt, worker, alone } => {
                self.check_launch(*task, *attempt, worker, *alone, now);
                if !*alone {
                    self.given_more.insert(worker.clone());
                }
                let on = self.workers.get(worker).copied().unwrap_or_default();
                let run = Running {
                    worker: worker.clone(),
                    started: None,
                    alone: *alone,
                    by_itself: *alone || on.whole && on.slots <= 1,
                };
                self.running.insert((*task, *attempt), run);
            }
            Action::Cancel { task, attempt, worker } => {
                let run = self.running.remove(&(*task, *attempt));
                assert_eq!(run.map(|run| run.worker).as_deref(), Some(worker.as_str()), "cancelled what does not run");
                let short = self.short.contains(&(task.stage.0 as usize));
                let told_to = self.must_stop.remove(&(*task, *attempt)) || short;
                let silent = !told_to && !self.there.contains_key(task) && self.needed().contains(task);
                if silent && !state.is_over() && self.user_errors.is_empty() {
                    self.seen.silent += 1;
                    self.lost_once(*task);
                }
            }
            Action::Release { stage } => {
                let at = stage.0 as usize;
                if self.short.contains(&at) {
                    let finer = self.finer.get(&at).copied().unwrap_or(0) + 1;
                    self.take_back(at, finer);
                } else {
                    let needed = self.needed();
                    for task in (0..self.tasks(at)).map(|task| id(at, task)) {
                        assert!(!needed.contains(&task), "{task:?} released while needed");
                        self.there.remove(&task);
                        self.released.insert(task);
                    }
                }
                self.seen.released += 1;
            }
            Action::WakeAt(time) => assert!(*time > now, "woken in the past"),
            Action::Finish { result } => {
                assert!(self.running.is_empty(), "ended with {:?} running", self.running);
                self.check_end(state, result);
                self.finished = Some(result.clone());
            }
        }
    }

    fn check_launch(&mut self, task: TaskId, attempt: u32, worker: &str, alone: bool, now: Millis) {
        self.seen.launches += 1;
        assert!(self.user_errors.is_empty(), "{task:?} launched after a user error");
        assert!(self.resolved.contains(&(task.stage.0 as usize)), "{task:?} launched before its stage was resolved");
        for read in self.reads(task) {
            assert!(self.there.contains_key(read), "{task:?} launched without its input {read:?}");
        }
        assert!(!self.there.contains_key(&task), "{task:?} launched though its output is there");
        assert!(self.needed().contains(&task), "{task:?} launched though nobody needs it");
        let On { slots, takes, whole } = self.workers.get(worker).copied().unwrap_or_default();
        assert!(takes, "{task:?} launched on {worker}, which is gone or draining");
        let beside: Vec<&Running> = self.running.values().filter(|run| run.worker == worker).collect();
        assert!(beside.len() < slots as usize, "{task:?} launched on {worker}, which is full");
        assert!(beside.iter().all(|run| !run.alone), "{task:?} launched beside one that must be alone");
        assert!(!alone || beside.is_empty() && whole, "{task:?} is not alone on {worker}");
        assert_eq!(alone, self.alone.contains(&task), "{task:?} must run alone, or need not");
        let next = self.attempts.entry(task).or_default();
        assert_eq!(*next, attempt, "attempts of {task:?} are not in order");
        *next += 1;
        self.seen.alone += u64::from(alone);

        let limits = &self.scenario.limits;
        if let Some(paused) = self.io_pause.remove(&task) {
            assert!(now - paused >= limits.io_backoff_ms / 2, "{task:?} tried again without a pause");
        }
        match self.runs(task).as_slice() {
            [] => {}
            [first] => {
                assert!(limits.speculation && !alone, "{task:?} launched twice");
                assert!(first.worker != worker, "both attempts of {task:?} on {worker}");
                let started = first.started.expect("slow before it started");
                assert!(now - started > limits.slow_min_ms, "{task:?} is not slow");
                let done = self.won.get(&(task.stage.0 as usize)).copied().unwrap_or(0);
                assert!(done >= limits.slow_after_done, "{task:?} is slow beside nothing");
            }
            many => panic!("{task:?} launched with {} attempts running", many.len()),
        }
        self.seen.speculative += u64::from(!self.runs(task).is_empty());
        if self.counted.contains(&task) {
            self.seen.made_again += 1;
            self.seen.released_made_again += u64::from(self.released.contains(&task));
        }
    }

    /// After all actions of a step.
    pub fn settled(&mut self, state: &State, now: Millis) {
        self.seen.steps += 1;
        if self.finished.is_some() || !self.user_errors.is_empty() {
            return;
        }
        assert!(self.must_stop.is_empty(), "{:?} read what is being made again", self.must_stop);
        let needed = self.needed();
        for (task, _) in self.running.keys() {
            assert!(needed.contains(task), "{task:?} runs though nobody needs it");
        }
        self.check_idle(&needed, now);
        let progress = state.progress();
        for stage in &progress.stages {
            let at = stage.id.0 as usize;
            let tasks = (0..self.tasks(at)).map(|task| id(at, task));
            let done = tasks
                .filter(|task| self.there.contains_key(task) || self.counted.contains(task) && !needed.contains(task));
            assert_eq!(stage.done as usize, done.count(), "stage {at} counts wrongly");
            assert!(stage.done + stage.running <= stage.tasks || stage.phase == StagePhase::Waiting);
        }
    }

    /// What can run must run, except on workers that are kept free for tasks that must run alone.
    fn check_idle(&self, needed: &HashSet<TaskId>, now: Millis) {
        let startable = needed.iter().filter(|task| {
            self.resolved.contains(&(task.stage.0 as usize))
                && !self.there.contains_key(task)
                && self.runs(**task).is_empty()
                && self.reads(**task).iter().all(|read| self.there.contains_key(read))
        });
        // A task in its pause does not wait for a worker; when the pause ends is not known here.
        let paused = |task: &&TaskId| {
            self.io_pause.get(task).is_some_and(|at| now - at <= self.scenario.limits.io_backoff_max_ms)
        };
        let (alone, others): (Vec<&TaskId>, Vec<&TaskId>) = startable.partition(|task| self.alone.contains(task));
        let usable = || self.workers.iter().filter(|(_, on)| on.takes && on.slots > 0);
        for (worker, on) in usable() {
            let beside: Vec<&Running> = self.running.values().filter(|run| run.worker == *worker).collect();
            let free = beside.len() < on.slots as usize && beside.iter().all(|run| !run.alone);
            let idles = on.whole && beside.is_empty() && !alone.iter().all(paused);
            assert!(!idles, "{worker} idles and {alone:?} wait");
            let has_room = free && (alone.is_empty() || !on.whole) && !others.iter().all(paused);
            assert!(!has_room, "{worker} has room and {others:?} wait");
        }
        let waiting = alone.iter().filter(|task| !paused(task)).count();
        // Workers that other queries have a part of are kept free by the cluster scheduler.
        let own = || usable().filter(|(_, on)| on.whole);
        let kept_free = own().filter(|(worker, _)| !self.given_more.contains(*worker)).count();
        assert!(kept_free >= waiting.min(own().count()), "{alone:?} wait and {:?} got more", self.given_more);
    }
}
