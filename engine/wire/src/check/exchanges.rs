//! Checks that rows with equal keys are in one task: exchanges have their keys, the sides of a hash join match, and the
//! leaves of a stage are cut into the same tasks.

use super::{Finding, Form, has_column};
use crate::graph::{Exchange, Leaf, Read, Stage, StageGraph, StageId};

/// Checks that a stage writes what its exchange says.
pub(super) fn check_output(graph: &StageGraph, stage: &Stage, findings: &mut Vec<Finding>) {
    let id = stage.id;
    let keys: &[String] = match &stage.output {
        Exchange::Hash { keys, .. } => keys,
        Exchange::Range { key, .. } => std::slice::from_ref(key),
        Exchange::Whole => return,
        Exchange::Result | Exchange::Sink { .. } => {
            if !graph.roots.contains(&id) {
                findings.push(Finding::NotARoot { stage: id });
            }
            return;
        }
    };
    if keys.is_empty() {
        findings.push(Finding::NoExchangeKey { stage: id });
    }
    for key in keys.iter().filter(|key| !has_column(&stage.facts.columns, key)) {
        findings.push(Finding::MissingExchangeKey { stage: id, key: key.clone() });
    }
    if stage.output.partitions() == 0 {
        findings.push(Finding::NoPartitions { stage: id });
    }
}

/// Checks that what a stage reads by partition is partitioned, and all of it in the same way.
pub(super) fn check_inputs(graph: &StageGraph, form: Form<'_>, findings: &mut Vec<Finding>) {
    let stage = form.stage;
    let mut hashed: Option<&Stage> = None;
    for (leaf, input) in form.leaves.iter().enumerate() {
        let Leaf::Exchange { stages, read } = input else { continue };
        for input in stages.iter().map(|id| &graph.stages[id.0 as usize]) {
            match (&input.output, read) {
                (Exchange::Result | Exchange::Sink { .. }, _) => {
                    if graph.roots.contains(&input.id) {
                        findings.push(Finding::OutputRead { reader: stage, input: input.id });
                    }
                }
                (Exchange::Hash { .. }, Read::Partition) => match hashed {
                    None => hashed = Some(input),
                    Some(first) => check_sides(stage, first, input, findings),
                },
                (Exchange::Range { .. }, Read::Partition) => {
                    let first = &graph.stages[stages[0].0 as usize];
                    if first.output != input.output {
                        findings.push(Finding::MixedExchanges { stage, leaf, one: first.id, other: input.id });
                    }
                }
                (Exchange::Whole, Read::Partition) => {
                    findings.push(Finding::NotPartitioned { stage, leaf, input: input.id });
                }
                (
                    _,
                    Read::All
                    | Read::Forward
                    | Read::Neighbours { .. }
                    | Read::Before
                    | Read::After
                    | Read::KeySummaries,
                ) => {}
            }
        }
    }
}

fn check_sides(stage: StageId, left: &Stage, right: &Stage, findings: &mut Vec<Finding>) {
    let (left_partitions, right_partitions) = (left.output.partitions(), right.output.partitions());
    if left_partitions != right_partitions {
        findings.push(Finding::PartitionCounts {
            stage,
            left: left.id,
            right: right.id,
            left_partitions,
            right_partitions,
        });
    }
    // A missing key is reported elsewhere.
    let (Some(left_types), Some(right_types)) = (key_types(left), key_types(right)) else { return };
    if left_types != right_types {
        findings.push(Finding::KeyTypes { stage, left: left.id, right: right.id, left_types, right_types });
    }
}

fn key_types(stage: &Stage) -> Option<Vec<String>> {
    let Exchange::Hash { keys, .. } = &stage.output else { return None };
    let of = |key: &String| stage.facts.columns.iter().find(|column| column.name == *key);
    let types: Option<Vec<String>> = keys.iter().map(|key| of(key).map(|column| column.dtype.clone())).collect();
    types.filter(|types| !types.is_empty())
}

/// A number of tasks: `known`, plus the task counts of the stages `of`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tasks {
    known: u32,
    of: Vec<StageId>,
}

/// What a leaf requires of the tasks of its stage.
#[derive(PartialEq, Eq)]
enum Cut {
    /// Any number of tasks.
    Any,
    Into(Tasks),
    Partitions,
    /// Cut once the rows are known, so no other leaf can be cut the same way.
    BySize,
}

/// Checks that the leaves of a stage are cut into the same tasks, whatever the sizes, and into as many as planned.
pub(super) fn check_tasks(graph: &StageGraph, findings: &mut Vec<Finding>) {
    let mut tasks: Vec<Tasks> = Vec::with_capacity(graph.stages.len());
    for stage in &graph.stages {
        let mut own = Tasks { known: 1, of: Vec::new() };
        for form in stage.forms() {
            let cuts: Vec<Cut> = form.leaves.iter().map(|leaf| cut(graph, leaf, &tasks)).collect();
            let deciding: Vec<usize> = (0..cuts.len()).filter(|at| cuts[*at] != Cut::Any).collect();
            if let [first, rest @ ..] = &deciding[..] {
                let other = rest.iter().find(|at| cuts[**at] != cuts[*first] || cuts[**at] == Cut::BySize);
                if let Some(other) = other {
                    findings.push(Finding::TaskCounts { stage: stage.id, one: *first, other: *other });
                }
                own = match &cuts[*first] {
                    Cut::Into(tasks) if stage.adaptive.is_none() => tasks.clone(),
                    _ => Tasks { known: 0, of: vec![stage.id] },
                };
            }
            let planned = form.facts.tasks;
            let cut = form.leaves.iter().find_map(|leaf| planned_tasks(graph, leaf)).unwrap_or(1);
            if planned != cut {
                findings.push(Finding::PlannedTasks { stage: stage.id, planned, cut });
            }
        }
        tasks.push(own);
    }
}

fn cut(graph: &StageGraph, leaf: &Leaf, tasks: &[Tasks]) -> Cut {
    let (stages, read) = match leaf {
        Leaf::Source { per_task, .. } => return Cut::Into(Tasks { known: per_task.len() as u32, of: Vec::new() }),
        Leaf::Exchange { stages, read } => (stages, read),
    };
    match read {
        Read::All | Read::KeySummaries => Cut::Any,
        Read::Partition => match stages.first().map(|id| &graph.stages[id.0 as usize].output) {
            Some(Exchange::Range { .. }) => Cut::BySize,
            Some(Exchange::Hash { .. }) => Cut::Partitions,
            // Reported elsewhere.
            Some(Exchange::Whole | Exchange::Result | Exchange::Sink { .. }) | None => Cut::Any,
        },
        Read::Neighbours { .. } => Cut::BySize,
        Read::Forward | Read::Before | Read::After => {
            let mut sum = Tasks::default();
            for stage in stages {
                let one = &tasks[stage.0 as usize];
                sum.known += one.known;
                sum.of.extend(&one.of);
            }
            sum.of.sort_unstable();
            Cut::Into(sum)
        }
    }
}

/// The number of tasks that a leaf was planned for; none: any.
fn planned_tasks(graph: &StageGraph, leaf: &Leaf) -> Option<u32> {
    let (stages, read) = match leaf {
        Leaf::Source { per_task, .. } => return Some(per_task.len() as u32),
        Leaf::Exchange { stages, read } => (stages, read),
    };
    let stages = stages.iter().map(|id| &graph.stages[id.0 as usize]);
    match read {
        Read::All | Read::KeySummaries => None,
        Read::Partition => stages.map(|stage| stage.output.partitions()).max(),
        Read::Forward | Read::Neighbours { .. } | Read::Before | Read::After => {
            Some(stages.map(|stage| stage.facts.tasks).sum())
        }
    }
}
