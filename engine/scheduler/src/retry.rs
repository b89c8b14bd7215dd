//! Decides what follows a failed attempt: another one now, later or alone, or the end of the query. Defines all limits.

use super::decide::Step;
use super::state::{Phase, TaskState};
use super::{Action, Millis, Outcome};
use floe_wire::error::{Category, QueryError};
use floe_wire::graph::TaskId;

/// The limits of a query. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// IO failures of one task; the last one ends the query.
    pub io_per_task: u32,
    /// Retries after IO failures in the whole query.
    pub io_per_query: u32,
    /// Pause before the first retry; doubled each time up to `io_backoff_max_ms`, and shortened by a pseudo-random
    /// amount of up to half, which is the same in every run.
    pub io_backoff_ms: Millis,
    pub io_backoff_max_ms: Millis,
    /// Times that a task may be lost with its worker; the last one ends the query.
    pub lost_per_task: u32,
    /// After this many losses a task runs alone, so that it harms no other and the cause is certain.
    pub lost_until_alone: u32,
    /// Losses of running work or wanted outputs in the whole query.
    pub lost_per_query: u32,
    /// Times that a task may fail to fetch inputs; the last one ends the query.
    pub fetch_per_task: u32,
    /// Times a stage is cut into smaller parts because one of its tasks ran out of memory alone on a worker.
    pub finer_per_stage: u32,
    pub internal_per_task: u32,
    /// How long the query waits for a worker that takes tasks while it has none.
    pub no_worker_ms: Millis,
    /// How long a user error waits for an earlier task that still runs and may report an earlier error, so that the
    /// user reads the same error each time.
    pub user_error_wait_ms: Millis,
    /// An attempt that has sent `Progress` is given up after this long without another.
    pub silent_ms: Millis,
    /// Whether slow tasks get second attempts.
    pub speculation: bool,
    /// How many tasks of a stage must be done before one of the others counts as slow.
    pub slow_after_done: usize,
    /// An attempt is slow if it takes longer than this percentage of the stage's median …
    pub slow_percent: u64,
    /// … and longer than this.
    pub slow_min_ms: Millis,
    /// Salt of the backoff's jitter (the query's, so that queries do not retry in step).
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            io_per_task: 5,
            io_per_query: 256,
            io_backoff_ms: 200,
            io_backoff_max_ms: 10_000,
            lost_per_task: 4,
            lost_until_alone: 2,
            lost_per_query: 128,
            fetch_per_task: 6,
            finer_per_stage: 3,
            internal_per_task: 2,
            no_worker_ms: 600_000,
            user_error_wait_ms: 100,
            silent_ms: 900_000,
            speculation: true,
            slow_after_done: 3,
            slow_percent: 200,
            slow_min_ms: 5_000,
            seed: 0,
        }
    }
}

/// Failures counted by kind, of one task or of the whole query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub io: u32,
    pub lost: u32,
    pub fetch: u32,
    pub internal: u32,
}

/// How a running attempt ended without an output.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Failed {
        error: QueryError,
        by_itself: bool,
    },
    /// Lost with its worker, which counts once in the query's budget, not per attempt.
    WorkerLost,
    /// It sent no `Progress` for this long.
    Silent(Millis),
    InputsLost,
}

impl Step<'_> {
    /// Handles an attempt that ended without output and was taken from the task's list.
    pub(super) fn attempt_failed(&mut self, id: TaskId, worker: usize, fault: Fault) {
        let limits = self.state.limits;
        let others_run = match self.state.task(id) {
            Some(task) => !task.attempts().is_empty(),
            None => return,
        };
        self.state.counters.failed_attempts += 1;
        let mut budget = self.state.budget;
        let Some(task) = self.state.task_mut(id) else { return };
        let too_many;
        match &fault {
            Fault::Failed { error, by_itself } => match error.category {
                Category::User => return self.fail_user(id, error.clone()),
                Category::Deadline => return self.finish(Outcome::Failed(error.clone())),
                Category::Io => {
                    task.faults.io += 1;
                    budget.io += 1;
                    task.avoid = Some(worker);
                    too_many = task.faults.io >= limits.io_per_task || budget.io > limits.io_per_query;
                    task.not_before = self.now.saturating_add(backoff(&limits, id, task.faults.io));
                }
                // The scheduler did not cancel it: its worker is leaving. A user's cancellation is an event of its own.
                Category::LostWorker | Category::Cancelled => {
                    task.faults.lost += 1;
                    budget.lost += 1;
                    task.lost_with.push(worker);
                    too_many = task.faults.lost >= limits.lost_per_task || budget.lost > limits.lost_per_query;
                }
                Category::OutOfMemory => {
                    // If it ran alone on its worker, only cutting the stage finer can help, which is more than a retry.
                    // Otherwise it may still fit alone.
                    if *by_itself {
                        return self.cut_finer(id, error.clone());
                    }
                    task.alone = true;
                    too_many = false;
                }
                Category::Internal => {
                    task.faults.internal += 1;
                    task.avoid = Some(worker);
                    too_many = task.faults.internal >= limits.internal_per_task;
                }
            },
            Fault::WorkerLost => {
                task.faults.lost += 1;
                task.lost_with.push(worker);
                too_many = task.faults.lost >= limits.lost_per_task;
            }
            Fault::Silent(_) => {
                task.faults.lost += 1;
                budget.lost += 1;
                task.lost_with.push(worker);
                task.avoid = Some(worker);
                too_many = task.faults.lost >= limits.lost_per_task || budget.lost > limits.lost_per_query;
            }
            Fault::InputsLost => {
                task.faults.fetch += 1;
                too_many = task.faults.fetch >= limits.fetch_per_task;
            }
        }
        if task.faults.lost >= limits.lost_until_alone {
            task.alone = true;
        }
        self.state.budget = budget;
        if too_many {
            let error = self.given_up(id, worker, fault);
            if let Some(task) = self.state.task_mut(id) {
                task.exhausted.get_or_insert(error);
            }
        }
        if others_run {
            return;
        }
        if let Some(error) = self.state.task(id).and_then(|task| task.exhausted.clone()) {
            return self.finish(Outcome::Failed(error));
        }
        self.state.counters.retries += 1;
        match self.state.task(id).map(|task| task.not_before).filter(|until| *until > self.now) {
            Some(until) => self.set_backoff(id, until),
            None => self.set_pending(id),
        }
    }

    /// The error of a query whose task used up its retries. The task's own message comes first, unchanged.
    fn given_up(&self, id: TaskId, worker: usize, fault: Fault) -> QueryError {
        let name = self.state.name(id);
        let worker = &self.state.workers[worker].name;
        let faults = self.state.task(id).map(|task| task.faults).unwrap_or_default();
        match fault {
            Fault::Failed { error, by_itself: _ } => {
                let message = match error.category {
                    Category::Io if faults.io >= self.state.limits.io_per_task => {
                        format!("{} ({name} failed {} times, last on worker {worker})", error.message, faults.io)
                    }
                    Category::Io => format!(
                        "{} ({name}; the query used up its {} retries of IO failures)",
                        error.message, self.state.limits.io_per_query
                    ),
                    Category::Internal => {
                        format!("{} ({name} failed {} times, last on worker {worker})", error.message, faults.internal)
                    }
                    Category::LostWorker | Category::Cancelled => return self.lost_too_often(id, Some(error.message)),
                    Category::User | Category::Deadline | Category::OutOfMemory => error.message,
                };
                QueryError::new(error.category, error.class, message)
            }
            Fault::WorkerLost => self.lost_too_often(id, None),
            Fault::Silent(ms) => {
                self.lost_too_often(id, Some(format!("worker {worker} said nothing of it for {} s", ms / 1000)))
            }
            Fault::InputsLost => QueryError::new(
                Category::LostWorker,
                "InputsLost",
                format!(
                    "{name} could not read outputs of earlier tasks {} times, last on worker {worker}",
                    faults.fetch
                ),
            ),
        }
    }

    fn lost_too_often(&self, id: TaskId, last: Option<String>) -> QueryError {
        let Some(task) = self.state.task(id) else { return self.lost_budget_spent() };
        if task.faults.lost < self.state.limits.lost_per_task {
            return self.lost_budget_spent();
        }
        let mut names: Vec<&str> = task.lost_with.iter().map(|at| self.state.workers[*at].name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let last = last.map(|last| format!(": {last}")).unwrap_or_default();
        QueryError::new(
            Category::LostWorker,
            "WorkerLost",
            format!(
                "{} was lost with its worker {} times (workers {}){last}. If it is what ends them, most likely by its \
                 memory, give the workers more with spec.compute.memory",
                self.state.name(id),
                task.faults.lost,
                names.join(", ")
            ),
        )
    }

    pub(super) fn lost_budget_spent(&self) -> QueryError {
        let limit = self.state.limits.lost_per_query;
        let message = format!("workers or their outputs were lost more than {limit} times while the query ran");
        QueryError::new(Category::LostWorker, "WorkerLost", message)
    }

    /// Ends the query with a user error, after a short wait if an earlier task may still report an earlier one.
    pub(super) fn fail_user(&mut self, by: TaskId, error: QueryError) {
        let until = match &self.state.phase {
            Phase::Running => self.now.saturating_add(self.state.limits.user_error_wait_ms),
            Phase::Failing { by: first, until, .. } if by < *first => *until,
            Phase::Failing { .. } | Phase::Over => return,
        };
        self.state.phase = Phase::Failing { by, error, until };
        let later: Vec<TaskId> = self.state.running.range(by..).copied().collect();
        for id in later {
            self.cancel_attempts(id);
            if let Some(task) = self.state.task_mut(id) {
                task.state = TaskState::Gone;
            }
        }
        self.state.ready.clear();
        self.state.ready_alone.clear();
        self.state.sleeping.clear();
    }

    /// Ends the wait for earlier errors when no earlier task runs any more, or the time is up.
    pub(super) fn settle_failing(&mut self) {
        let (by, until, error) = match &self.state.phase {
            Phase::Failing { by, until, error } => (*by, *until, error.clone()),
            Phase::Running | Phase::Over => return,
        };
        let earlier_runs = self.state.running.range(..by).next().is_some();
        if !earlier_runs || self.now >= until {
            return self.finish(Outcome::Failed(error));
        }
        if self.state.armed.is_none_or(|armed| armed > until || armed <= self.now) {
            self.state.armed = Some(until);
            self.out.push(Action::WakeAt(until));
        }
    }
}

/// The pause before retry `failures`: exponential, shortened by up to half by a hash of task and retry.
fn backoff(limits: &Limits, id: TaskId, failures: u32) -> Millis {
    let doublings = failures.saturating_sub(1).min(32);
    let full = limits.io_backoff_ms.saturating_mul(1 << doublings).min(limits.io_backoff_max_ms);
    let task = (u64::from(id.stage.0) << 32) | u64::from(id.task);
    let random = mix(limits.seed ^ mix(task ^ mix(u64::from(failures))));
    full - random % (full / 2 + 1)
}

/// The finalizer of splitmix64.
fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
