//! Simulates the work of a query's workers, for tests: stage by stage, each task for some seconds, with outputs that
//! later stages read. It produces the coordinator's reports, and counts what is lost with a worker.

use std::collections::{BTreeMap, BTreeSet};

use floe_api::report::{EngineReport, EngineWorker, PlanReport, Report, RunPhase, StageInfo, StageProgress};
use floe_api::{Phase, StageState};

use super::world::World;
use super::{Action, Plan};
use crate::coordinator::Verdict;
use crate::query::facts::PodFacts;
use crate::query::names::Place;

/// A worker is drained once it has been idle and has held no outputs for this long.
const QUIET_SECONDS: u32 = 3;

/// A stage.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub tasks: u32,
    /// Seconds per task.
    pub seconds: u32,
    /// Its outputs stay on the workers until the next stage is done. Other outputs are on the coordinator.
    pub is_held: bool,
}

#[derive(Clone, Debug)]
pub struct Labour {
    stages: Vec<Work>,
    at: usize,
    /// Tasks of the stage that no worker runs.
    waiting: u32,
    /// Seconds left of each worker's task.
    running: BTreeMap<String, u32>,
    /// Stages whose outputs a worker holds.
    held: BTreeMap<String, BTreeSet<usize>>,
    draining: BTreeMap<String, u32>,
    /// Tasks and outputs that were lost with their workers.
    pub lost: u32,
    /// How often a worker was told to drain that had been told before.
    pub told_again: u32,
}

impl Labour {
    pub fn new(stages: &[Work]) -> Labour {
        Labour {
            stages: stages.to_vec(),
            at: 0,
            waiting: stages[0].tasks,
            running: BTreeMap::new(),
            held: BTreeMap::new(),
            draining: BTreeMap::new(),
            lost: 0,
            told_again: 0,
        }
    }

    /// Starts another attempt.
    pub fn begin_again(&mut self) {
        *self = Labour { lost: self.lost, ..Labour::new(&self.stages) };
    }

    pub fn stage(&self) -> usize {
        self.at
    }

    pub fn is_over(&self) -> bool {
        self.at == self.stages.len()
    }

    pub fn needs(&self, worker: &str) -> bool {
        self.running.contains_key(worker) || self.held.get(worker).is_some_and(|stages| !stages.is_empty())
    }

    pub fn drain(&mut self, worker: &str) {
        self.told_again += u32::from(self.draining.contains_key(worker));
        self.draining.entry(worker.to_owned()).or_insert(0);
    }

    /// Advances the report's workers by one second, and updates the report.
    pub fn go_on(&mut self, report: &mut Report) {
        if !matches!(report.phase, RunPhase::Planning | RunPhase::Running) {
            return;
        }
        let is_there = |worker: &String| report.workers.contains(worker);
        let before = self.running.len();
        self.running.retain(|worker, _| is_there(worker));
        let gone = u32::try_from(before - self.running.len()).unwrap();
        self.waiting += gone;
        self.lost += gone;
        self.held.retain(|worker, stages| {
            self.lost += u32::from(!is_there(worker) && !stages.is_empty());
            is_there(worker)
        });
        self.draining.retain(|worker, _| is_there(worker));
        let at = self.at;
        self.running.retain(|worker, left| {
            *left -= 1;
            if *left == 0 && self.stages[at].is_held {
                self.held.entry(worker.clone()).or_default().insert(at);
            }
            *left > 0
        });
        if self.waiting == 0 && self.running.is_empty() && !self.is_over() {
            self.at += 1;
            self.waiting = self.stages.get(self.at).map_or(0, |work| work.tasks);
            // The stage that reads them is done.
            self.held
                .values_mut()
                .for_each(|stages| stages.retain(|stage| stage + 1 >= self.at && self.at < self.stages.len()));
        }
        for worker in &report.workers {
            if self.waiting > 0 && !self.draining.contains_key(worker) && !self.running.contains_key(worker) {
                self.running.insert(worker.clone(), self.stages[self.at].seconds);
                self.waiting -= 1;
            }
        }
        for worker in self.draining.keys().cloned().collect::<Vec<_>>() {
            let is_quiet = !self.needs(&worker);
            self.draining.entry(worker).and_modify(|quiet| *quiet = if is_quiet { *quiet + 1 } else { 0 });
        }
        if !report.workers.is_empty() {
            report.phase = RunPhase::Running;
        }
        self.tell(report);
    }

    fn tell(&self, report: &mut Report) {
        let worker = |id: &String| EngineWorker {
            id: id.clone(),
            tasks: u32::from(self.running.contains_key(id)),
            shuffle_bytes: self.held.get(id).map_or(0, |stages| stages.len() as u64),
            draining: self.draining.contains_key(id),
            drained: self.draining.get(id).is_some_and(|quiet| *quiet >= QUIET_SECONDS),
            ..EngineWorker::default()
        };
        report.engine = Some(EngineReport {
            queries_running: 1,
            // A query that is being planned has no tasks yet.
            tasks_waiting: if report.phase == RunPhase::Running { self.waiting } else { 0 },
            workers: report.workers.iter().map(worker).collect(),
            ..EngineReport::default()
        });
        let number = |stage: usize| u32::try_from(stage).unwrap();
        let info = |(stage, work): (usize, &Work)| StageInfo {
            id: number(stage),
            tasks_at_most: work.tasks,
            ..StageInfo::default()
        };
        report.plan =
            Some(PlanReport { stages: self.stages.iter().enumerate().map(info).collect(), ..PlanReport::default() });
        let progress = |stage: usize| StageProgress {
            id: number(stage),
            state: match stage.cmp(&self.at) {
                std::cmp::Ordering::Less => StageState::Done,
                std::cmp::Ordering::Equal => StageState::Running,
                std::cmp::Ordering::Greater => StageState::Waiting,
            },
            ..StageProgress::default()
        };
        report.stages = (0..self.stages.len()).map(progress).collect();
    }
}

impl World {
    /// A query with one to three workers and this work, stage by stage.
    pub fn elastic(stages: &[Work]) -> Self {
        let mut world = Self::new();
        let compute = &mut world.query.spec.compute;
        (compute.workers, compute.min_workers, compute.max_workers) = (None, Some(1), Some(3));
        world.labour = Some(Labour::new(stages));
        world
    }

    /// Asserts that while the attempt goes on, no worker is removed that runs a task or holds outputs that are still
    /// read, unless the spec now asks for fewer.
    pub fn hold_needed(&self, decided: &Plan) {
        let (Some(labour), Some(report)) = (&self.labour, &self.report) else { return };
        let lead = self
            .pods
            .values()
            .find(|pod| pod.place == Place::Coordinator { attempt: self.status().attempt.unwrap_or(0) });
        let goes =
            |name: &str| decided.actions.iter().any(|a| matches!(a, Action::DeletePod { name: of, .. } if of == name));
        let goes_on = decided.status.attempt == self.status().attempt
            && matches!(decided.status.phase, Some(Phase::Planning | Phase::Running))
            && Verdict::of(report).is_none()
            && lead.is_some_and(|lead| lead.is_running() && !goes(&lead.name));
        let most = self.query.spec.compute.worker_count();
        let is_wanted = |pod: &&PodFacts| !matches!(pod.place, Place::Worker { index, .. } if index >= most);
        let stays = |pod: &&PodFacts| goes_on && pod.is_running() && pod.loss().is_none();
        for pod in self.pods.values().filter(is_wanted).filter(stays).filter(|pod| goes(&pod.name)) {
            assert!(!labour.needs(&pod.name), "{} is needed: {labour:?}", pod.name);
        }
    }

    /// How many workers it needs to start.
    pub fn least(&self) -> usize {
        self.query.spec.compute.workers_to_start() as usize
    }

    /// Number of workers wanted, and ready.
    pub fn workers(&self) -> (u32, u32) {
        self.status().workers.map_or((0, 0), |workers| (workers.desired, workers.ready))
    }
}
