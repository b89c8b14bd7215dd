//! Turns one event into actions: applies the event and what follows from the new state. Its rules are in `lineage`
//! (which work is wanted), `place` (where it runs) and `retry` (what is retried).

use super::retry::Fault;
use super::state::{Cut, Done, Phase, Stage, State, Task, TaskState, Worker, WorkerStatus, task_id};
use super::{Action, Event, Millis, Outcome, ResolvedInputs, Won};
use floe_wire::chunk::{OutputId, Place};
use floe_wire::error::{Category, QueryError};
use floe_wire::graph::{StageId, TaskId};
use floe_wire::task::TaskOutput;

/// Applies one event and returns the actions to carry out, in order. Total: any event may come in any state.
pub fn decide(state: &mut State, event: Event, now: Millis) -> Vec<Action> {
    state.now = state.now.max(now);
    let now = state.now;
    let mut step = Step { state, now, out: Vec::new() };
    match step.state.phase {
        Phase::Running => {
            step.apply(event);
            step.settle();
        }
        Phase::Failing { .. } => {
            step.apply_failing(event);
            step.settle_failing();
        }
        Phase::Over => {}
    }
    step.out
}

pub(super) struct Step<'a> {
    pub state: &'a mut State,
    pub now: Millis,
    pub out: Vec<Action>,
}

impl Step<'_> {
    fn apply(&mut self, event: Event) {
        match event {
            Event::WorkerUp { worker, slots } => {
                let at = self.state.worker(&worker);
                let worker = &mut self.state.workers[at];
                worker.slots = slots;
                worker.whole = true;
                worker.status = WorkerStatus::Up;
            }
            Event::Granted { worker, slots, whole } => self.granted(&worker, slots, whole),
            Event::WorkerDraining { worker } => {
                let at = self.state.worker(&worker);
                let worker = &mut self.state.workers[at];
                match worker.status {
                    WorkerStatus::Up => worker.status = WorkerStatus::Draining,
                    WorkerStatus::Draining | WorkerStatus::Lost => {}
                }
            }
            Event::WorkerLost { worker } => self.worker_lost(&worker),
            Event::Resolved { stage, finer, tasks } => self.resolved(stage, finer, tasks),
            Event::LeftOut { stage, finer } => self.left_out(stage, finer),
            Event::ResolveFailed { stage, error } => {
                if self.state.stages.get(stage.0 as usize).is_some_and(Stage::asked) {
                    self.finish(Outcome::Failed(error));
                }
            }
            Event::Started { task, attempt, worker } => {
                let now = self.now;
                if let Some(attempt) = self.attempt_mut(task, attempt, &worker) {
                    attempt.started.get_or_insert(now);
                }
            }
            Event::Progress { task, attempt, worker, rows, bytes } => {
                let now = self.now;
                if let Some(attempt) = self.attempt_mut(task, attempt, &worker) {
                    attempt.started.get_or_insert(now);
                    attempt.heard = Some(now);
                    // Messages may be reordered; progress never goes back.
                    attempt.rows = attempt.rows.max(rows);
                    attempt.bytes = attempt.bytes.max(bytes);
                }
            }
            Event::TaskDone { task, attempt, worker, output } => self.task_done(task, attempt, &worker, output),
            Event::TaskFailed { task, attempt, worker, error } => {
                if let Some(ended) = self.end_attempt(task, attempt, &worker) {
                    self.attempt_failed(task, ended.worker, Fault::Failed { error, by_itself: ended.by_itself });
                }
            }
            Event::InputsLost { task, attempt, worker, lost } => self.inputs_lost(task, attempt, &worker, lost),
            Event::Cancel => self.finish(Outcome::Cancelled),
            Event::DeadlineReached => self.deadline_reached(),
            Event::Tick => {}
        }
    }

    /// Applies an event after a user error: only earlier tasks that still run matter, and no task is started any more.
    fn apply_failing(&mut self, event: Event) {
        match event {
            Event::TaskFailed { task, attempt, worker, error } => {
                if self.end_attempt(task, attempt, &worker).is_some() {
                    match error.category {
                        Category::User => self.fail_user(task, error),
                        Category::Io
                        | Category::LostWorker
                        | Category::OutOfMemory
                        | Category::Deadline
                        | Category::Cancelled
                        | Category::Internal => {}
                    }
                }
            }
            Event::TaskDone { task, attempt, worker, output: _ }
            | Event::InputsLost { task, attempt, worker, lost: _ } => {
                if self.end_attempt(task, attempt, &worker).is_some() {
                    // A slower attempt of the same task would only report the same.
                    self.cancel_attempts(task);
                }
            }
            Event::WorkerLost { worker } => {
                let at = self.state.worker(&worker);
                self.end_attempts_on(at);
            }
            // These would only hide the known error.
            Event::Cancel | Event::DeadlineReached => {
                if let Phase::Failing { error, .. } = &self.state.phase {
                    let error = error.clone();
                    self.finish(Outcome::Failed(error));
                }
            }
            Event::Granted { worker, slots, whole } => self.granted(&worker, slots, whole),
            Event::WorkerUp { .. }
            | Event::WorkerDraining { .. }
            | Event::Resolved { .. }
            | Event::LeftOut { .. }
            | Event::ResolveFailed { .. }
            | Event::Started { .. }
            | Event::Progress { .. }
            | Event::Tick => {}
        }
    }

    /// Takes the actions that follow from the present state.
    fn settle(&mut self) {
        if self.is_running() {
            self.wake_sleepers();
            self.give_up_silent();
        }
        if !self.is_running() {
            return self.settle_failing();
        }
        self.ask_for_tasks();
        if self.state.targets.iter().all(|target| self.is_there(*target)) {
            return self.succeed();
        }
        self.place();
        self.speculate();
        self.watch_for_standstill();
        if self.is_running() {
            self.set_alarm();
        }
    }

    fn granted(&mut self, name: &str, slots: u32, whole: bool) {
        let at = self.state.worker(name);
        let worker = &mut self.state.workers[at];
        worker.slots = slots;
        worker.whole = whole;
    }

    fn worker_lost(&mut self, name: &str) {
        let at = self.state.worker(name);
        match self.state.workers[at].status {
            WorkerStatus::Up | WorkerStatus::Draining => {}
            WorkerStatus::Lost => return,
        }
        let ended = self.end_attempts_on(at);
        let worker = &mut self.state.workers[at];
        worker.status = WorkerStatus::Lost;
        worker.slots = 0;
        worker.running = 0;
        worker.alone = false;
        self.lose_outputs_on(at);
        for id in &ended {
            self.attempt_failed(*id, at, Fault::WorkerLost);
        }
        let again = self.revive();
        if !ended.is_empty() || again > 0 {
            self.count_loss();
        }
    }

    fn inputs_lost(&mut self, id: TaskId, attempt: u32, worker: &str, lost: Vec<OutputId>) {
        let Some(ended) = self.end_attempt(id, attempt, worker) else { return };
        let mut any = false;
        for input in lost {
            let read = self.state.task(id).is_some_and(|task| task.reads(input.task));
            // If it was made again meanwhile, the report is about the former output.
            let same = self.state.task(input.task).and_then(Task::done).filter(|done| done.attempt == input.attempt);
            if read && same.is_some_and(|done| done.output.place.can_be_lost()) {
                self.lose_output(input.task);
                any = true;
            }
        }
        self.attempt_failed(id, ended.worker, Fault::InputsLost);
        if any {
            self.revive();
            self.count_loss();
        }
    }

    fn count_loss(&mut self) {
        self.state.budget.lost += 1;
        if self.state.budget.lost > self.state.limits.lost_per_query {
            let error = self.lost_budget_spent();
            self.finish(Outcome::Failed(error));
        }
    }

    fn resolved(&mut self, id: StageId, finer: u32, given: Vec<ResolvedInputs>) {
        let Some(at) = self.state.asked(id, finer).filter(|at| self.is_finer(*at, &given)) else { return };
        let tasks = match self.state.cut_into(at, given) {
            Ok(tasks) => tasks,
            Err(error) => return self.finish(Outcome::Failed(error)),
        };
        let stage = &mut self.state.stages[at];
        stage.cut = Cut::Done;
        stage.open = tasks.len();
        let known = tasks.iter().all(|task| task.bytes.len() == task.inputs.len());
        let bytes = || tasks.iter().fold(0u64, |sum, task| sum.saturating_add(task.bytes_read()));
        stage.mean_bytes = known.then(|| bytes().checked_div(tasks.len() as u64)).flatten();
        stage.tasks = tasks;
        for task in 0..self.state.stages[at].tasks.len() {
            self.set_pending(task_id(at, task));
        }
        self.inputs_are_known(at);
    }

    fn left_out(&mut self, id: StageId, finer: u32) {
        let Some(at) = self.state.asked(id, finer) else { return };
        self.state.stages[at].cut = Cut::LeftOut;
        self.inputs_are_known(at);
    }

    /// Which outputs a stage reads is known by now.
    fn inputs_are_known(&mut self, at: usize) {
        // An input was lost while this stage was being resolved: perhaps none of its tasks reads it.
        if self.state.stages[at].inputs.iter().any(|input| !self.is_there(*input)) {
            self.revive();
        }
        self.release_inputs(at);
    }

    fn task_done(&mut self, id: TaskId, attempt: u32, worker: &str, output: TaskOutput) {
        let Some(won) = self.end_attempt(id, attempt, worker) else { return };
        self.cancel_attempts(id);
        if won.speculative {
            self.state.counters.speculative_won += 1;
        }
        let took = won.started.map(|started| self.now.saturating_sub(started));
        let holder = match output.place {
            Place::Inline(_) | Place::Store => None,
            Place::Worker { .. } => Some(won.worker),
        };
        let (rows, bytes) = (output.rows, output.bytes);
        let done = Done { attempt, worker: won.worker, output, holder };
        let Some(task) = self.state.task_mut(id) else { return };
        task.state = TaskState::Done(done);
        let first_time = !task.counted;
        task.counted = true;
        let stage = self.state.stage_of(id);
        stage.available += 1;
        stage.open = stage.open.saturating_sub(1);
        if first_time {
            stage.rows = stage.rows.saturating_add(rows);
            stage.bytes = stage.bytes.saturating_add(bytes);
        }
        // Time that it waited on its worker does not count towards the stage's durations.
        if let Some(took) = took {
            let place = stage.durations.partition_point(|other| *other < took);
            stage.durations.insert(place, took);
        }
        self.unblock_readers(id);
        // It finished without an input that was lost meanwhile, which may no longer be wanted.
        if self.state.counters.lost_outputs > 0 && !self.state.has_inputs(id) {
            self.revive();
        }
        self.release_inputs(id.stage.0 as usize);
    }

    fn deadline_reached(&mut self) {
        let snapshot = self.state.progress();
        let done = snapshot.stages.iter().filter(|stage| stage.phase.is_final()).count();
        let running = snapshot.stages.iter().find(|stage| stage.running > 0);
        let at = running.map_or(String::new(), |stage| {
            format!("; stage {} ({}) had {} of {} tasks done", stage.id.0, stage.label, stage.done, stage.tasks)
        });
        let message = format!("the deadline passed with {done} of {} stages done{at}", snapshot.stages.len());
        self.finish(Outcome::Failed(QueryError::new(Category::Deadline, "DeadlineExceeded", message)));
    }

    fn succeed(&mut self) {
        let mut outputs = Vec::with_capacity(self.state.targets.len());
        for target in self.state.targets.clone() {
            let mut won = Vec::with_capacity(self.state.stages[target].tasks.len());
            for (at, task) in self.state.stages[target].tasks.iter().enumerate() {
                if let Some(done) = task.done() {
                    won.push(Won {
                        task: task_id(target, at),
                        attempt: done.attempt,
                        worker: self.state.workers[done.worker].name.clone(),
                        output: done.output.clone(),
                    });
                }
            }
            outputs.push(won);
        }
        self.finish(Outcome::Succeeded { outputs });
    }

    pub(super) fn finish(&mut self, result: Outcome) {
        if self.state.is_over() {
            return;
        }
        for id in self.state.running.clone() {
            self.cancel_attempts(id);
            if let Some(task) = self.state.task_mut(id) {
                task.state = TaskState::Gone;
            }
        }
        self.state.phase = Phase::Over;
        self.out.push(Action::Finish { result });
    }

    /// Fails the query rather than let it wait forever: if it has had no worker for too long, or (only through a bug in
    /// the scheduler) if nothing is under way at all.
    fn watch_for_standstill(&mut self) {
        let state = &mut *self.state;
        let asked = state.stages.iter().any(Stage::asked);
        let usable = state.workers.iter().any(|worker| worker.usable());
        let waiting = !state.ready.is_empty() || !state.ready_alone.is_empty();
        let has_room = |worker: &Worker| worker.free() > 0 && (!state.ready.is_empty() || worker.whole);
        let waits_for_slots = waiting && usable && !state.workers.iter().any(has_room);
        if !state.running.is_empty() || asked || !state.sleeping.is_empty() || waits_for_slots {
            state.no_worker_since = None;
        } else if waiting && !usable {
            let since = *state.no_worker_since.get_or_insert(self.now);
            let waited = self.now.saturating_sub(since);
            if waited >= state.limits.no_worker_ms {
                let seen = state.workers.iter().filter(|worker| worker.launches > 0).count();
                let message = match seen {
                    0 => format!("no worker came within {} s", waited / 1000),
                    seen => format!("no worker for {} s: all are gone or leaving ({seen} had worked)", waited / 1000),
                };
                self.finish(Outcome::Failed(QueryError::new(Category::LostWorker, "NoWorkers", message)));
            }
        } else {
            state.no_worker_since = None;
            let error = QueryError::internal("the query came to a standstill: nothing runs and nothing can be started");
            self.finish(Outcome::Failed(error));
        }
    }

    /// Requests a `Tick` for when time alone changes the state. An alarm that is too early does no harm, and is kept.
    fn set_alarm(&mut self) {
        let state = &mut *self.state;
        let limits = &state.limits;
        let mut next: Option<Millis> = state.sleeping.first().map(|(until, _)| *until);
        let mut at = |time: Millis| next = Some(next.map_or(time, |next| next.min(time)));
        if let Some(since) = state.no_worker_since {
            at(since.saturating_add(limits.no_worker_ms));
        }
        for id in &state.running {
            let Some(task) = state.task(*id) else { continue };
            for attempt in task.attempts() {
                if let Some(heard) = attempt.heard {
                    at(heard.saturating_add(limits.silent_ms));
                }
            }
            if let Some(slow) = state.slow_at(*id).filter(|slow| *slow > self.now) {
                at(slow);
            }
        }
        let Some(next) = next else { return };
        let next = next.max(self.now + 1);
        if state.armed.is_none_or(|armed| armed <= self.now || next < armed) {
            state.armed = Some(next);
            self.out.push(Action::WakeAt(next));
        }
    }

    fn wake_sleepers(&mut self) {
        while let Some((until, id)) = self.state.sleeping.first().copied() {
            if until > self.now {
                return;
            }
            self.state.sleeping.remove(&(until, id));
            self.set_pending(id);
        }
    }

    pub(super) fn is_running(&self) -> bool {
        match self.state.phase {
            Phase::Running => true,
            Phase::Failing { .. } | Phase::Over => false,
        }
    }
}
