//! A query's state from what the planner gives, checked: the graph at the start, the tasks of each stage later.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ResolvedInputs;
use super::progress::Counters;
use super::retry::{Faults, Limits};
use super::state::{Cut, Phase, Stage, State, Task};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{Exchange, StageGraph, StageId, TaskId};

impl State {
    /// Fails if the graph is not in dependency order or names stages that do not exist.
    pub fn new(graph: &StageGraph, limits: Limits) -> Result<Self> {
        let count = graph.stages.len();
        let mut stages = Vec::with_capacity(count);
        for (at, stage) in graph.stages.iter().enumerate() {
            if stage.id.0 as usize != at {
                return Err(QueryError::internal(format!("stage {} stands at place {at} of the graph", stage.id.0)));
            }
            let inputs: BTreeSet<usize> = graph.inputs(stage).iter().map(|input| input.0 as usize).collect();
            if let Some(input) = inputs.last().filter(|input| **input >= at) {
                return Err(QueryError::internal(format!("stage {at} reads stage {input}, which is not before it")));
            }
            stages.push(Stage {
                label: stage.label.clone(),
                inputs: inputs.into_iter().collect(),
                readers: Vec::new(),
                target: false,
                useful: false,
                unstable: false,
                cut: Cut::Waiting,
                finer: 0,
                short: None,
                without: stage.instead.as_ref().map(|instead| instead.without.0 as usize),
                first_attempt: 0,
                launched_before: 0,
                tasks: Vec::new(),
                open: 0,
                available: 0,
                blocked: 0,
                mean_bytes: None,
                durations: Vec::new(),
                rows: 0,
                bytes: 0,
            });
        }

        let mut targets = Vec::with_capacity(graph.roots.len());
        for root in &graph.roots {
            if root.0 as usize >= count {
                return Err(QueryError::internal(format!("the result is stage {}, which does not exist", root.0)));
            }
            targets.push(root.0 as usize);
        }
        for (at, stage) in graph.stages.iter().enumerate() {
            match stage.output {
                Exchange::Sink { .. } if !targets.contains(&at) => targets.push(at),
                Exchange::Sink { .. }
                | Exchange::Hash { .. }
                | Exchange::Range { .. }
                | Exchange::Whole
                | Exchange::Result => {}
            }
        }
        for target in &targets {
            stages[*target].target = true;
            stages[*target].useful = true;
        }
        for at in (0..count).rev() {
            if stages[at].useful {
                for input in stages[at].inputs.clone() {
                    stages[input].useful = true;
                    stages[input].readers.push(at);
                }
            }
        }

        Ok(Self {
            limits,
            stages,
            targets,
            workers: Vec::new(),
            worker_index: HashMap::new(),
            phase: Phase::Running,
            ready: BTreeSet::new(),
            ready_alone: BTreeSet::new(),
            sleeping: BTreeSet::new(),
            running: BTreeSet::new(),
            epoch: 0,
            budget: Faults::default(),
            no_worker_since: None,
            armed: None,
            now: 0,
            counters: Counters::default(),
        })
    }

    /// Says that tasks of this stage may write other rows, or rows to other partitions, when they run again (a sample
    /// without seed, any row of several, a limit without order). Where one is made again after its output was lost, all
    /// that was made from the former output is made again with it, so that no result mixes the two. To be said before
    /// the first event.
    pub fn set_unstable(&mut self, stage: StageId) {
        if let Some(stage) = self.stages.get_mut(stage.0 as usize) {
            stage.unstable = true;
        }
    }

    /// The tasks of a stage as the planner cut it, checked against the graph.
    pub(super) fn cut_into(&self, stage: usize, given: Vec<ResolvedInputs>) -> Result<Vec<Task>> {
        let mut tasks: Vec<Task> = Vec::with_capacity(given.len());
        for ResolvedInputs { mut inputs, mut bytes } in given {
            for id in &inputs {
                if !self.stages[stage].inputs.contains(&(id.stage.0 as usize)) || self.task(*id).is_none() {
                    let read = format!("task {} of stage {}", id.task, id.stage.0);
                    let message = format!("stage {stage} was resolved to read {read}, which is no input of it");
                    return Err(QueryError::internal(message));
                }
            }
            if bytes.len() == inputs.len() {
                let mut sums = BTreeMap::<TaskId, u64>::new();
                for (id, bytes) in inputs.iter().zip(&bytes) {
                    let sum = sums.entry(*id).or_default();
                    *sum = sum.saturating_add(*bytes);
                }
                (inputs, bytes) = sums.into_iter().unzip();
            } else {
                inputs.sort_unstable();
                inputs.dedup();
                bytes.clear();
            }
            let same = tasks.last().filter(|last| *last.inputs == *inputs).map(|last| last.inputs.clone());
            let mut task = Task::new(same.unwrap_or_else(|| inputs.into()), bytes);
            task.next_attempt = self.stages[stage].first_attempt;
            tasks.push(task);
        }
        Ok(tasks)
    }
}
