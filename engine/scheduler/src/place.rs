//! Places tasks on workers: locality, even spread, tasks that run alone, speculation.

use std::cmp::Reverse;

use super::decide::Step;
use super::state::{Attempt, State, Task, TaskState};
use super::{Action, Millis};
use floe_wire::graph::{StageId, TaskId};

/// Ready tasks of a stage to search for one with its data on a free worker.
pub(super) const LOOK_AHEAD_TASKS: usize = 256;

impl State {
    /// Bytes of a task's inputs on each worker, and in all.
    fn input_bytes(&self, id: TaskId) -> (Vec<u64>, u64) {
        let mut by_worker = vec![0u64; self.workers.len()];
        let mut total = 0u64;
        let Some(task) = self.task(id) else { return (by_worker, total) };
        for (at, input) in task.inputs.iter().enumerate() {
            let Some(done) = self.task(*input).and_then(Task::done) else { continue };
            let bytes = task.bytes.get(at).copied().unwrap_or(done.output.bytes);
            total = total.saturating_add(bytes);
            if let Some(holder) = done.holder {
                by_worker[holder] = by_worker[holder].saturating_add(bytes);
            }
        }
        (by_worker, total)
    }

    /// The worker that holds more than half of what a task reads. (After a shuffle all workers hold about the same; an
    /// even spread then matters more than a slightly larger share.)
    pub(super) fn home(&self, id: TaskId) -> Option<usize> {
        let (by_worker, total) = self.input_bytes(id);
        by_worker.iter().position(|bytes| *bytes > total / 2)
    }

    /// The best worker with a free slot, among those that `allowed` accepts.
    fn best_worker(&self, id: TaskId, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let free = |at: &usize| self.workers[*at].free() > 0 && allowed(*at);
        (0..self.workers.len()).find(free)?;
        let task = self.task(id)?;
        let (by_worker, _) = self.input_bytes(id);
        let key = |at: usize| {
            let worker = &self.workers[at];
            let load = u64::from(worker.running) * 1000 / u64::from(worker.slots.max(1));
            let away = task.home.is_some_and(|home| home != at);
            (task.avoid == Some(at), away, load, Reverse(by_worker[at]), worker.launches, at)
        };
        (0..self.workers.len()).filter(free).min_by_key(|at| key(*at))
    }

    /// When the running attempt of a task counts as slow, if it can. The time that it waited on its worker before it
    /// started does not count: a second attempt would only wait elsewhere.
    pub(super) fn slow_at(&self, id: TaskId) -> Option<Millis> {
        let task = self.task(id)?;
        let stage = self.stages.get(id.stage.0 as usize)?;
        let [attempt] = task.attempts() else { return None };
        // A task that needs a worker for itself gets no second attempt.
        if !self.limits.speculation
            || task.alone
            || task.exhausted.is_some()
            || stage.durations.len() < self.limits.slow_after_done.max(1)
        {
            return None;
        }
        // A task that reads more may take longer: a second attempt at a skewed partition would only take as long again.
        let share = |mean: u64| task.bytes_read().saturating_mul(100).checked_div(mean).unwrap_or(100);
        let share = stage.mean_bytes.map_or(100, share).max(100);
        let median = stage.durations[stage.durations.len() / 2].saturating_mul(share) / 100;
        let slow = (median.saturating_mul(self.limits.slow_percent) / 100).max(self.limits.slow_min_ms);
        Some(attempt.started?.saturating_add(slow).saturating_add(1).max(task.not_before))
    }
}

impl Step<'_> {
    /// Launches ready tasks, those of earlier stages first.
    pub(super) fn place(&mut self) {
        let reserved = self.place_alone();
        let mut from = TaskId { stage: StageId(0), task: 0 };
        while self.has_free_slot(&reserved) {
            let Some(first) = self.state.ready.range(from..).next().copied() else { return };
            let stage = first.stage;
            let same_stage = self.state.ready.range(first..).take_while(|id| id.stage == stage);
            let looked_at: Vec<TaskId> = same_stage.take(LOOK_AHEAD_TASKS).copied().collect();
            let last = looked_at.last().copied().unwrap_or(first);
            let mut others = Vec::new();
            for id in looked_at {
                let task = self.state.task(id);
                let home = task.and_then(|task| task.home.filter(|home| task.avoid != Some(*home)));
                match home.filter(|home| !reserved.contains(home) && self.state.workers[*home].free() > 0) {
                    Some(home) => self.launch(id, home, false, false),
                    None => others.push(id),
                }
            }
            for id in others {
                match self.state.best_worker(id, |worker| !reserved.contains(&worker)) {
                    Some(worker) => self.launch(id, worker, false, false),
                    None => return,
                }
            }
            from = TaskId { stage, task: last.task.saturating_add(1) };
        }
    }

    fn has_free_slot(&self, reserved: &[usize]) -> bool {
        self.state.workers.iter().enumerate().any(|(at, worker)| worker.free() > 0 && !reserved.contains(&at))
    }

    /// Launches tasks that must run alone on idle workers without other queries. For those left over it reserves as
    /// many of these workers, the least busy first, which get nothing new until they are idle.
    fn place_alone(&mut self) -> Vec<usize> {
        for id in self.state.ready_alone.clone() {
            let workers = &self.state.workers;
            match self.state.best_worker(id, |worker| workers[worker].whole && workers[worker].running == 0) {
                Some(worker) => self.launch(id, worker, true, false),
                None => break,
            }
        }
        let waiting = self.state.ready_alone.len();
        if waiting == 0 {
            return Vec::new();
        }
        let workers = &self.state.workers;
        let own = |at: &usize| workers[*at].usable() && workers[*at].slots > 0 && workers[*at].whole;
        let mut reserved: Vec<usize> = (0..workers.len()).filter(own).collect();
        reserved.sort_by_key(|at| (workers[*at].running, *at));
        reserved.truncate(waiting);
        reserved
    }

    /// Starts second attempts of slow tasks, if slots are left over.
    pub(super) fn speculate(&mut self) {
        if !self.state.ready_alone.is_empty() || !self.has_free_slot(&[]) {
            return;
        }
        for id in self.state.running.clone() {
            if self.state.slow_at(id).is_none_or(|slow| slow > self.now) {
                continue;
            }
            let Some(task) = self.state.task(id) else { continue };
            let first = task.attempts().first().map(|attempt| attempt.worker);
            if !self.state.has_inputs(id) {
                continue;
            }
            if let Some(worker) = self.state.best_worker(id, |worker| Some(worker) != first) {
                self.launch(id, worker, false, true);
            }
        }
    }

    fn launch(&mut self, id: TaskId, worker: usize, alone: bool, speculative: bool) {
        if !self.state.stage_of(id).resolved() {
            return;
        }
        let on = &self.state.workers[worker];
        let by_itself = alone || on.whole && on.slots <= 1;
        let Some(task) = self.state.task_mut(id) else { return };
        let number = task.next_attempt;
        task.next_attempt += 1;
        let attempt =
            Attempt { number, worker, started: None, heard: None, alone, by_itself, speculative, rows: 0, bytes: 0 };
        match &mut task.state {
            TaskState::Running(attempts) => attempts.push(attempt),
            TaskState::Pending { .. } | TaskState::Backoff { .. } | TaskState::Done(_) | TaskState::Gone => {
                task.state = TaskState::Running(vec![attempt]);
            }
        }
        self.state.ready.remove(&id);
        self.state.ready_alone.remove(&id);
        self.state.running.insert(id);
        self.state.counters.launched += 1;
        self.state.counters.speculative += u64::from(speculative);
        let on = &mut self.state.workers[worker];
        on.running += 1;
        on.alone |= alone;
        on.launches += 1;
        let worker = on.name.clone();
        self.out.push(Action::Launch { task: id, attempt: number, worker, alone });
    }
}
