//! Decides which work is wanted: resolves stages whose inputs are available, makes lost outputs again as far back as
//! needed and no further, releases outputs that have no readers any more.

use std::collections::BTreeSet;

use super::decide::Step;
use super::state::{Cut, TaskState, task_id};
use super::{Action, Millis};
use floe_wire::graph::{StageId, TaskId};

impl Step<'_> {
    /// Whether all outputs of a stage are available.
    pub(super) fn is_there(&self, stage: usize) -> bool {
        let stage = &self.state.stages[stage];
        stage.resolved() && stage.available == stage.tasks.len()
    }

    pub(super) fn ask_for_tasks(&mut self) {
        for at in 0..self.state.stages.len() {
            let stage = &self.state.stages[at];
            if stage.useful && stage.cut == Cut::Waiting && stage.inputs.iter().all(|input| self.is_there(*input)) {
                self.state.stages[at].cut = Cut::Asked;
                let finer = self.state.stages[at].finer;
                self.out.push(Action::Resolve { stage: StageId(at as u32), finer });
            }
        }
    }

    pub(super) fn set_pending(&mut self, id: TaskId) {
        let Some(task) = self.state.task(id) else { return };
        let missing = task.inputs.iter().filter(|input| !self.state.is_available(**input)).count();
        if missing > 0 {
            self.state.stage_of(id).blocked += 1;
        }
        if let Some(task) = self.state.task_mut(id) {
            task.state = TaskState::Pending { missing };
        }
        if missing == 0 {
            self.set_ready(id);
        }
    }

    pub(super) fn set_backoff(&mut self, id: TaskId, until: Millis) {
        if let Some(task) = self.state.task_mut(id) {
            task.state = TaskState::Backoff { until };
            self.state.sleeping.insert((until, id));
        }
    }

    fn set_ready(&mut self, id: TaskId) {
        let home = self.state.home(id);
        let Some(task) = self.state.task_mut(id) else { return };
        task.home = home;
        if task.alone {
            self.state.ready_alone.insert(id);
        } else {
            self.state.ready.insert(id);
        }
    }

    /// An output is there again: launches the tasks that waited for it alone.
    pub(super) fn unblock_readers(&mut self, id: TaskId) {
        for reader in self.state.stages[id.stage.0 as usize].readers.clone() {
            if self.state.stages[reader].blocked == 0 {
                continue;
            }
            for at in 0..self.state.stages[reader].tasks.len() {
                let stage = &mut self.state.stages[reader];
                let task = &mut stage.tasks[at];
                if !task.reads(id) {
                    continue;
                }
                let TaskState::Pending { missing } = &mut task.state else { continue };
                *missing = missing.saturating_sub(1);
                if *missing == 0 {
                    stage.blocked = stage.blocked.saturating_sub(1);
                    self.set_ready(task_id(reader, at));
                }
            }
        }
    }

    pub(super) fn lose_outputs_on(&mut self, worker: usize) {
        for stage in 0..self.state.stages.len() {
            for task in 0..self.state.stages[stage].tasks.len() {
                let held = self.state.stages[stage].tasks[task].done();
                if held.is_some_and(|done| done.holder == Some(worker)) {
                    self.lose_output(task_id(stage, task));
                }
            }
        }
    }

    /// Marks an output as gone. `revive` then decides whether it is made again.
    pub(super) fn lose_output(&mut self, id: TaskId) {
        let Some(task) = self.state.task_mut(id) else { return };
        let TaskState::Done(done) = &task.state else { return };
        task.avoid = Some(done.worker);
        task.state = TaskState::Gone;
        self.state.stage_of(id).available -= 1;
        self.state.counters.lost_outputs += 1;
    }

    /// Recomputes which tasks are needed after outputs were lost, from the targets backwards: needed tasks without an
    /// output become pending again, running attempts that are not needed are stopped. Returns the number of tasks that
    /// run again.
    pub(super) fn revive(&mut self) -> usize {
        if !self.is_running() {
            return 0;
        }
        let wanted = self.wanted_and_consistent();
        self.state.ready.clear();
        self.state.ready_alone.clear();
        for stage in &mut self.state.stages {
            stage.blocked = 0;
            stage.open = 0;
        }
        let mut again = 0;
        let mut pending = Vec::new();
        for (stage, wanted) in wanted.iter().enumerate() {
            for (task, wanted) in wanted.iter().enumerate() {
                let id = task_id(stage, task);
                let was_done = self.state.stages[stage].tasks[task].counted;
                let state = &mut self.state.stages[stage].tasks[task].state;
                let mut open = *wanted;
                match (&*state, *wanted) {
                    (TaskState::Done(_), _) => open = false,
                    (TaskState::Gone, true) => {
                        again += usize::from(was_done);
                        pending.push(id);
                    }
                    (TaskState::Pending { .. }, true) => pending.push(id),
                    (TaskState::Running(_) | TaskState::Backoff { .. }, true) | (TaskState::Gone, false) => {}
                    (TaskState::Pending { .. }, false) => *state = TaskState::Gone,
                    (TaskState::Backoff { until }, false) => {
                        let entry = (*until, id);
                        *state = TaskState::Gone;
                        self.state.sleeping.remove(&entry);
                    }
                    (TaskState::Running(_), false) => {
                        self.cancel_attempts(id);
                        self.state.stages[stage].tasks[task].state = TaskState::Gone;
                    }
                }
                self.state.stages[stage].open += usize::from(open);
            }
        }
        for id in pending {
            self.set_pending(id);
        }
        self.state.counters.made_again += again as u64;
        for stage in 0..self.state.stages.len() {
            self.release_inputs(stage);
        }
        again
    }

    /// The wanted tasks, after outputs that no longer fit together were dropped: if a task of an unstable stage is made
    /// again, everything made from its former output, by however many steps, must be made again, too.
    fn wanted_and_consistent(&mut self) -> Vec<Vec<bool>> {
        let mut seen = BTreeSet::new();
        loop {
            let wanted = self.wanted();
            let mut other: Vec<TaskId> = Vec::new();
            for (at, stage) in self.state.stages.iter().enumerate().filter(|(_, stage)| stage.unstable) {
                for (number, task) in stage.tasks.iter().enumerate() {
                    let gone = match task.state {
                        TaskState::Gone => task.counted,
                        TaskState::Pending { .. }
                        | TaskState::Backoff { .. }
                        | TaskState::Running(_)
                        | TaskState::Done(_) => false,
                    };
                    if gone && wanted[at][number] && seen.insert(task_id(at, number)) {
                        other.push(task_id(at, number));
                    }
                }
            }
            if other.is_empty() {
                return wanted;
            }
            while let Some(id) = other.pop() {
                for reader in self.state.stages[id.stage.0 as usize].readers.clone() {
                    for at in 0..self.state.stages[reader].tasks.len() {
                        let made = task_id(reader, at);
                        if self.state.stages[reader].tasks[at].reads(id) && seen.insert(made) {
                            self.drop_made(made);
                            other.push(made);
                        }
                    }
                }
            }
        }
    }

    /// Drops a task's output, or cancels its attempts.
    fn drop_made(&mut self, id: TaskId) {
        let Some(task) = self.state.task(id) else { return };
        match &task.state {
            TaskState::Done(_) => {
                self.lose_output(id);
                if let Some(task) = self.state.task_mut(id) {
                    // Its worker is not at fault.
                    task.avoid = None;
                }
            }
            TaskState::Running(_) => {
                self.cancel_attempts(id);
                if let Some(task) = self.state.task_mut(id) {
                    task.state = TaskState::Pending { missing: 0 };
                }
            }
            TaskState::Pending { .. } | TaskState::Backoff { .. } | TaskState::Gone => {}
        }
    }

    /// By stage and task: a target's tasks, all tasks of a stage that has a reader not yet cut into tasks, and what is
    /// read by a wanted task that is not done.
    fn wanted(&self) -> Vec<Vec<bool>> {
        let stages = &self.state.stages;
        let mut wanted: Vec<Vec<bool>> = stages.iter().map(|stage| vec![stage.target; stage.tasks.len()]).collect();
        for (at, stage) in stages.iter().enumerate().rev() {
            if !stage.useful {
                continue;
            }
            if !stage.resolved() {
                for input in &stage.inputs {
                    wanted[*input].fill(true);
                }
                continue;
            }
            for (number, task) in stage.tasks.iter().enumerate() {
                if wanted[at][number] && task.done().is_none() {
                    for input in task.inputs.iter() {
                        wanted[input.stage.0 as usize][input.task as usize] = true;
                    }
                }
            }
        }
        wanted
    }

    /// If a stage is complete: releases those of its inputs that no other stage waits for.
    pub(super) fn release_inputs(&mut self, stage: usize) {
        if !self.is_running() {
            return;
        }
        // From reader to input, and on to the inputs of that.
        let mut readers = vec![stage];
        while let Some(reader) = readers.pop() {
            for input in self.state.stages[reader].inputs.clone() {
                let stages = &self.state.stages;
                let wanted = stages[input].readers.iter().any(|reader| !stages[*reader].complete());
                if stages[input].target || wanted || stages[input].available == 0 {
                    continue;
                }
                for task in &mut self.state.stages[input].tasks {
                    task.state = TaskState::Gone;
                }
                self.state.stages[input].available = 0;
                self.out.push(Action::Release { stage: StageId(input as u32) });
                readers.push(input);
            }
        }
    }
}
