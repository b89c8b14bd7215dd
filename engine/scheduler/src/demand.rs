//! Makes a query's demand for the cluster scheduler: what it runs, and what it could start if it had the slots.

use std::collections::BTreeMap;

use super::State;
use super::cluster::{Demand, Request, Running};
use super::place::LOOK_AHEAD_TASKS;
use super::state::{Phase, WorkerStatus};
use floe_wire::graph::TaskId;

impl State {
    /// The demand, to be reported if it has changed after all queued events were applied.
    pub fn demand(&self) -> Demand {
        let busy = self.workers.iter().filter(|worker| worker.running > 0);
        let running = busy.map(|on| Running { worker: on.name.clone(), tasks: on.running, alone: on.alone }).collect();
        match self.phase {
            Phase::Running => Demand {
                running,
                requests: self.requests(),
                alone: u32::try_from(self.ready_alone.len()).unwrap_or(u32::MAX),
                slow: self.slow(),
            },
            Phase::Failing { .. } | Phase::Over => Demand { running, ..Demand::default() },
        }
    }

    /// Preferred workers for the first of the tasks that could start; for the rest only their number.
    fn requests(&self) -> Vec<Request> {
        let mut groups = BTreeMap::<(Option<usize>, Option<usize>), u32>::new();
        for id in self.ready.iter().take(LOOK_AHEAD_TASKS) {
            let Some(task) = self.task(*id) else { continue };
            let takes = |worker: &usize| self.workers[*worker].status == WorkerStatus::Up;
            let near = task.home.filter(|home| task.avoid != Some(*home)).filter(takes);
            *groups.entry((near, task.avoid.filter(takes))).or_default() += 1;
        }
        let rest = self.ready.len().saturating_sub(LOOK_AHEAD_TASKS);
        if rest > 0 {
            let anywhere = groups.entry((None, None)).or_default();
            *anywhere = anywhere.saturating_add(u32::try_from(rest).unwrap_or(u32::MAX));
        }
        let name = |at: Option<usize>| at.map(|at| self.workers[at].name.clone());
        let request = |((near, avoid), tasks)| Request { near: name(near), avoid: name(avoid), tasks };
        groups.into_iter().map(request).collect()
    }

    /// Workers whose tasks are slow and would get a second attempt elsewhere.
    fn slow(&self) -> Vec<String> {
        if !self.ready_alone.is_empty() {
            return Vec::new();
        }
        let slow = |id: &&TaskId| self.slow_at(**id).is_some_and(|slow| slow <= self.now) && self.has_inputs(**id);
        let first = |id: &TaskId| Some(self.workers[self.task(*id)?.attempts().first()?.worker].name.clone());
        self.running.iter().filter(slow).take(LOOK_AHEAD_TASKS).filter_map(first).collect()
    }
}
