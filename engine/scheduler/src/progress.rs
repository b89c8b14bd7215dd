//! Reports a query's state for users: in progress events, the status endpoint and the summary.

use serde::{Deserialize, Serialize};

use super::state::{Cut, State, TaskState};
use floe_wire::graph::StageId;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub stages: Vec<StageProgress>,
    pub counters: Counters,
    /// Workers that take tasks.
    pub workers: u32,
    pub slots: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageProgress {
    pub id: StageId,
    pub label: String,
    pub phase: StagePhase,
    /// 0 before the stage is resolved.
    pub tasks: u32,
    /// Done tasks, except those that are being made again.
    pub done: u32,
    pub running: u32,
    /// Rows that done tasks have written, each task counted once, plus rows that running ones have read so far.
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StagePhase {
    /// Its inputs are not available yet.
    Waiting,
    /// Being cut into tasks.
    Resolving,
    Running,
    Done,
    /// The result does not depend on it.
    Unused,
}

impl StagePhase {
    pub fn is_final(self) -> bool {
        match self {
            StagePhase::Done | StagePhase::Unused => true,
            StagePhase::Waiting | StagePhase::Resolving | StagePhase::Running => false,
        }
    }
}

/// What happened to the tasks so far, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub launched: u64,
    pub failed_attempts: u64,
    pub retries: u64,
    /// Second attempts of slow tasks, and how many of them finished first.
    pub speculative: u64,
    pub speculative_won: u64,
    pub lost_outputs: u64,
    /// Stages that were cut again because their tasks did not fit.
    pub cut_finer: u64,
    /// Done tasks that had to run again.
    pub made_again: u64,
}

impl Counters {
    /// What was counted after `before`, an earlier look at the same scheduler.
    pub fn since(self, before: Counters) -> Counters {
        self.combine(before, u64::saturating_sub)
    }

    pub fn add(&mut self, more: Counters) {
        *self = self.combine(more, u64::saturating_add);
    }

    fn combine(self, other: Counters, each: impl Fn(u64, u64) -> u64) -> Counters {
        Counters {
            launched: each(self.launched, other.launched),
            failed_attempts: each(self.failed_attempts, other.failed_attempts),
            retries: each(self.retries, other.retries),
            speculative: each(self.speculative, other.speculative),
            speculative_won: each(self.speculative_won, other.speculative_won),
            lost_outputs: each(self.lost_outputs, other.lost_outputs),
            cut_finer: each(self.cut_finer, other.cut_finer),
            made_again: each(self.made_again, other.made_again),
        }
    }
}

impl State {
    pub fn progress(&self) -> Snapshot {
        let up = || self.workers.iter().filter(|worker| worker.usable());
        Snapshot {
            stages: (0..self.stages.len()).map(|at| self.stage_progress(at)).collect(),
            counters: self.counters,
            workers: up().count() as u32,
            slots: up().map(|worker| worker.slots).sum(),
        }
    }

    fn stage_progress(&self, at: usize) -> StageProgress {
        let stage = &self.stages[at];
        let (mut done, mut running, mut rows, mut bytes) = (0, 0, stage.rows, stage.bytes);
        for task in &stage.tasks {
            match &task.state {
                TaskState::Done(_) => done += 1,
                TaskState::Gone => done += u32::from(task.counted),
                TaskState::Running(attempts) => {
                    // Empty only for a moment, while a query ends.
                    running += u32::from(!attempts.is_empty());
                    if !task.counted {
                        rows += attempts.iter().map(|attempt| attempt.rows).max().unwrap_or(0);
                        bytes += attempts.iter().map(|attempt| attempt.bytes).max().unwrap_or(0);
                    }
                }
                TaskState::Pending { .. } | TaskState::Backoff { .. } => {}
            }
        }
        let phase = match stage.cut {
            Cut::Waiting if stage.useful => StagePhase::Waiting,
            Cut::Waiting => StagePhase::Unused,
            Cut::Asked => StagePhase::Resolving,
            Cut::LeftOut => StagePhase::Done,
            Cut::Done if stage.complete() => StagePhase::Done,
            Cut::Done => StagePhase::Running,
        };
        StageProgress {
            id: StageId(at as u32),
            label: stage.label.clone(),
            phase,
            tasks: stage.tasks.len() as u32,
            done,
            running,
            rows,
            bytes,
        }
    }

    /// Attempts of a stage's tasks that were launched so far.
    pub fn attempts(&self, stage: StageId) -> u32 {
        let Some(stage) = self.stages.get(stage.0 as usize) else { return 0 };
        stage.launched_before + stage.launched()
    }
}
