//! Builds a query's state from what the planner gives, and checks it: the graph at the start, each stage's tasks later.

use std::collections::{BTreeSet, HashMap};

use super::ResolvedInputs;
use super::progress::Counters;
use super::retry::{Faults, Limits};
use super::state::{Cut, Phase, Stage, State, Task};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{Exchange, StageGraph, TaskId};

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
                unstable: stage.nondeterminism.is_some(),
                cut: Cut::Waiting,
                finer: 0,
                short: None,
                replaces: stage.adaptive.as_ref().map(|form| form.replaces.0 as usize),
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
            budget: Faults::default(),
            no_worker_since: None,
            armed: None,
            now: 0,
            counters: Counters::default(),
        })
    }

    /// The tasks of a stage as the planner cut it, checked against the graph.
    pub(super) fn cut_into(&self, stage: usize, given: Vec<ResolvedInputs>) -> Result<Vec<Task>> {
        let mut tasks: Vec<Task> = Vec::with_capacity(given.len());
        for ResolvedInputs { inputs, bytes } in given {
            // Tasks that read the same share the list, which was then checked already.
            let same = tasks.last().filter(|last| *last.inputs == *inputs).map(|last| last.inputs.clone());
            let unknown =
                |id: &&TaskId| !self.stages[stage].inputs.contains(&(id.stage.0 as usize)) || self.task(**id).is_none();
            if same.is_none()
                && let Some(id) = inputs.iter().find(unknown)
            {
                let read = format!("task {} of stage {}", id.task, id.stage.0);
                let message = format!("stage {stage} was resolved to read {read}, which is no input of it");
                return Err(QueryError::internal(message));
            }
            if !inputs.is_sorted_by(|a, b| a < b) || !(bytes.is_empty() || bytes.len() == inputs.len()) {
                let task = tasks.len();
                let message = format!("what task {task} of stage {stage} reads is not in order, or without sizes");
                return Err(QueryError::internal(message));
            }
            let mut task = Task::new(same.unwrap_or(inputs), bytes);
            task.next_attempt = self.stages[stage].first_attempt;
            tasks.push(task);
        }
        Ok(tasks)
    }
}
