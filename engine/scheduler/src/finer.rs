//! Cuts a stage again, into smaller tasks, if one does not fit a worker's memory: drops all its outputs so far and
//! resolves it anew. That is possible until a reader has been resolved by its outputs. Also undoes a broadcast that was
//! chosen by measured size.

use super::decide::Step;
use super::state::{Cut, Stage, TaskState, task_id};
use super::{Action, Outcome, ResolvedInputs};
use floe_wire::error::{Category, QueryError};
use floe_wire::graph::{StageId, TaskId};

/// Why a stage is being cut again.
#[derive(Clone, Debug)]
pub(super) struct Short {
    /// The task that ran out of memory, and its error.
    by: TaskId,
    error: QueryError,
    /// The number of tasks it had: the same number again changes nothing.
    tasks: usize,
    /// It gets another form, so that its number of tasks may stay the same.
    reformed: bool,
}

impl Step<'_> {
    /// Cuts a stage again after one of its tasks ran out of memory alone on its worker.
    pub(super) fn cut_finer(&mut self, by: TaskId, error: QueryError) {
        let at = by.stage.0 as usize;
        let stage = &self.state.stages[at];
        let unread = |reader: &usize| self.state.stages[*reader].cut == Cut::Waiting;
        if stage.finer >= self.state.limits.finer_per_stage || !stage.readers.iter().all(unread) {
            let error = self.does_not_fit(by, &error);
            return self.finish(Outcome::Failed(error));
        }
        let replaced = stage.replaces.filter(|replaced| self.state.stages[*replaced].cut == Cut::LeftOut);
        let short = Short { by, error, tasks: stage.tasks.len(), reformed: replaced.is_some() };
        self.take_back(at);
        self.state.stages[at].short = Some(short);
        if let Some(replaced) = replaced {
            self.take_back(replaced);
        }
        // Its inputs may have been released, since no other stage wanted them.
        self.revive();
        self.state.counters.retries += 1;
        self.state.counters.cut_finer += 1;
    }

    /// Drops all outputs of a stage and has it resolved anew.
    fn take_back(&mut self, at: usize) {
        let mut made = false;
        for task in 0..self.state.stages[at].tasks.len() {
            let id = task_id(at, task);
            self.cancel_attempts(id);
            self.state.ready.remove(&id);
            self.state.ready_alone.remove(&id);
            if let TaskState::Backoff { until } = self.state.stages[at].tasks[task].state {
                self.state.sleeping.remove(&(until, id));
            }
            made |= self.state.stages[at].tasks[task].next_attempt > 0;
        }
        let stage = &mut self.state.stages[at];
        stage.launched_before += stage.launched();
        // Attempts of the old tasks may still report, and must not be mistaken for those of the new ones.
        let used = stage.tasks.iter().map(|task| task.next_attempt).max();
        stage.first_attempt = stage.first_attempt.max(used.unwrap_or(0));
        stage.tasks.clear();
        stage.durations.clear();
        (stage.open, stage.available, stage.blocked) = (0, 0, 0);
        (stage.rows, stage.bytes) = (0, 0);
        stage.finer += 1;
        stage.cut = Cut::Waiting;
        if made {
            self.out.push(Action::Release { stage: StageId(at as u32) });
        }
    }

    /// Whether a stage that was cut again has smaller tasks now; if not, fails the query.
    pub(super) fn is_finer(&mut self, at: usize, given: &[ResolvedInputs]) -> bool {
        let Some(Short { by, error, tasks, reformed }) = self.state.stages[at].short.take() else { return true };
        if reformed || given.len() > tasks {
            return true;
        }
        let error = self.does_not_fit(by, &error);
        self.finish(Outcome::Failed(error));
        false
    }

    /// Makes the error for it; the task's own message comes first, unchanged.
    fn does_not_fit(&self, by: TaskId, error: &QueryError) -> QueryError {
        let Stage { label, finer, .. } = &self.state.stages[by.stage.0 as usize];
        let name = match label.as_str() {
            "" => format!("task {} of stage {}", by.task, by.stage.0),
            label => format!("task {} of stage {} ({label})", by.task, by.stage.0),
        };
        let tried = match finer {
            0 => String::new(),
            1 => ", and so it did in smaller parts".to_string(),
            times => format!(", and so it did in smaller parts {times} times"),
        };
        let message = format!(
            "{} ({name} had a worker for itself and ran out of memory{tried}; it cannot be cut any further: give the \
             workers more memory with spec.compute.memory, or take more workers, so that partitions are smaller)",
            error.message
        );
        QueryError::new(Category::OutOfMemory, error.class.clone(), message)
    }
}
