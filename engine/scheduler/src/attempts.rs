//! Ends attempts, reported or not, cancels them, and frees the slots they hold.

use super::Action;
use super::decide::Step;
use super::retry::Fault;
use super::state::{Attempt, Task, TaskState};
use floe_wire::graph::TaskId;

impl Step<'_> {
    pub(super) fn give_up_silent(&mut self) {
        let limit = self.state.limits.silent_ms;
        let mut silent = Vec::new();
        for id in &self.state.running {
            let attempts = self.state.task(*id).map(Task::attempts).unwrap_or_default();
            for attempt in attempts {
                let since = attempt.heard.map(|heard| self.now.saturating_sub(heard));
                if let Some(ms) = since.filter(|ms| *ms >= limit) {
                    silent.push((*id, attempt.number, self.state.workers[attempt.worker].name.clone(), ms));
                }
            }
        }
        for (task, attempt, worker, ms) in silent {
            if let Some(ended) = self.end_attempt(task, attempt, &worker) {
                self.out.push(Action::Cancel { task, attempt, worker });
                self.attempt_failed(task, ended.worker, Fault::Silent(ms));
            }
        }
    }

    pub(super) fn attempt_mut(&mut self, id: TaskId, number: u32, worker: &str) -> Option<&mut Attempt> {
        let at = *self.state.worker_index.get(worker)?;
        let attempts = self.state.task_mut(id)?.attempts_mut();
        attempts.iter_mut().find(|attempt| attempt.number == number && attempt.worker == at)
    }

    /// Removes a running attempt from its task and its worker; none if it is not running there.
    pub(super) fn end_attempt(&mut self, id: TaskId, number: u32, worker: &str) -> Option<Attempt> {
        let at = *self.state.worker_index.get(worker)?;
        let task = self.state.task_mut(id)?;
        let TaskState::Running(attempts) = &mut task.state else { return None };
        let place = attempts.iter().position(|attempt| attempt.number == number && attempt.worker == at)?;
        let ended = attempts.remove(place);
        let none_left = attempts.is_empty();
        if none_left {
            self.state.running.remove(&id);
        }
        self.leave_worker(&ended);
        Some(ended)
    }

    fn leave_worker(&mut self, attempt: &Attempt) {
        let worker = &mut self.state.workers[attempt.worker];
        worker.running = worker.running.saturating_sub(1);
        worker.alone &= !attempt.alone;
    }

    /// Removes all attempts that run on a worker; returns their tasks in ascending order.
    pub(super) fn end_attempts_on(&mut self, worker: usize) -> Vec<TaskId> {
        let mut ended = Vec::new();
        for id in self.state.running.clone() {
            let Some(Task { state: TaskState::Running(attempts), .. }) = self.state.task_mut(id) else { continue };
            let before = attempts.len();
            attempts.retain(|attempt| attempt.worker != worker);
            if attempts.len() < before {
                ended.push(id);
            }
            if attempts.is_empty() {
                self.state.running.remove(&id);
            }
        }
        ended
    }

    /// Stops every attempt of a task.
    pub(super) fn cancel_attempts(&mut self, id: TaskId) {
        let Some(Task { state: TaskState::Running(attempts), .. }) = self.state.task_mut(id) else { return };
        let attempts = std::mem::take(attempts);
        self.state.running.remove(&id);
        for attempt in attempts {
            self.leave_worker(&attempt);
            let worker = self.state.workers[attempt.worker].name.clone();
            self.out.push(Action::Cancel { task: id, attempt: attempt.number, worker });
        }
    }
}
