//! A stage cut into tasks, once its inputs are done and their real sizes are known. What each task reads is kept as a rule
//! (these partitions, this range of keys); the chunks themselves are looked up when the task is launched, so that a stage
//! of N tasks which read N partitions of M outputs never takes N x M entries, and finds outputs that were made again.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use floe_wire::catalog::{Catalog, Found};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{Instead, Leaf, LeafInput, Merge, Stage, StageGraph, StageId, TaskId};

use super::leaf_cut::{By, LeafCut, fewest, found, in_memory, leaf_cut, producers};

/// How the stages of a run were resolved so far. What was decided stays: outputs that are made again are read by the
/// tasks of the first resolution.
#[derive(Debug, Default)]
pub struct Cuts {
    stages: HashMap<StageId, Cut>,
}

/// Which form of a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    AsPlanned,
    /// With the work of another stage in it.
    Instead,
    /// Not at all: the stage that reads it took its other form. It has no tasks.
    LeftOut,
}

#[derive(Debug)]
struct Cut {
    form: Form,
    leaves: Vec<LeafCut>,
    /// By task, which of the parts that the leaves are cut into it reads.
    tasks: Vec<Range<u32>>,
}

impl Cuts {
    /// Decides on a stage whose inputs are all in the catalog. Tells into how many tasks it was cut. `finer`: times that
    /// tasks of this stage turned out too large for a worker; nothing that is measured is trusted as much as before then.
    pub fn resolve(&mut self, graph: &StageGraph, id: StageId, catalog: &dyn Catalog, finer: u32) -> Result<usize> {
        let stage = stage_of(graph, id)?;
        let cut = match graph.left_out(id) {
            Some(instead) if finer == 0 && fits(instead, catalog)? => {
                Cut { form: Form::LeftOut, leaves: Vec::new(), tasks: Vec::new() }
            }
            _ => self.cut(graph, stage, catalog, graph.merge.map(|merge| merge.finer(finer)))?,
        };
        let tasks = cut.tasks.len();
        self.stages.insert(id, cut);
        Ok(tasks)
    }

    /// What was decided on a stage, if it was resolved.
    pub fn form(&self, stage: StageId) -> Option<Form> {
        self.stages.get(&stage).map(|cut| cut.form)
    }

    /// The fragment of a resolved stage, in the form that runs.
    pub fn fragment<'a>(&self, stage: &'a Stage) -> &'a Bytes {
        match (self.form(stage.id), &stage.instead) {
            (Some(Form::Instead), Some(instead)) => &instead.fragment,
            (Some(Form::Instead | Form::AsPlanned | Form::LeftOut) | None, _) => &stage.fragment,
        }
    }

    /// The outputs that a task reads, in ascending order, with the bytes read of each.
    pub fn reads(&self, task: TaskId, catalog: &dyn Catalog) -> Result<Vec<(TaskId, u64)>> {
        let (cut, part) = self.part(task)?;
        let mut reads: Vec<(TaskId, u64)> = Vec::new();
        for leaf in &cut.leaves {
            for (number, producer) in leaf.producers.iter().enumerate() {
                let counted = leaf.may_differ && leaf.by.counts(number as u32, &part);
                if !counted && !leaf.by.concerns(number as u32, &part) {
                    continue;
                }
                let found = found(catalog, *producer)?;
                let mut bytes = leaf.may_differ.then_some(0);
                if counted {
                    reads.extend(bytes.map(|bytes| (*producer, bytes)));
                    continue;
                }
                match &leaf.by {
                    By::KeySummaries => bytes = found.output.summary.map(|span| span.len).or(bytes),
                    by => by.choose(&part, found.output, &mut |chunk| *bytes.get_or_insert(0) += chunk.len),
                }
                reads.extend(bytes.map(|bytes| (*producer, bytes)));
            }
        }
        reads.sort_unstable();
        // Of several leaves.
        reads.dedup_by(|next, first| {
            let same = next.0 == first.0;
            first.1 += if same { next.1 } else { 0 };
            same
        });
        Ok(reads)
    }

    /// The inputs of a task as they lie now. `reads`: what `reads` told of it when the stage was resolved; of other
    /// outputs it reads nothing, so that they need not be there any more.
    pub fn inputs(
        &self,
        graph: &StageGraph,
        task: TaskId,
        reads: &[TaskId],
        catalog: &dyn Catalog,
    ) -> Result<Vec<LeafInput>> {
        let (cut, part) = self.part(task)?;
        let planned = leaves_of(stage_of(graph, task.stage)?, cut.form);
        let mut inputs = Vec::with_capacity(cut.leaves.len());
        for (leaf, planned) in cut.leaves.iter().zip(planned) {
            let concerned = leaf.producers.iter().enumerate().filter(|(number, producer)| {
                leaf.by.concerns(*number as u32, &part) && reads.binary_search(producer).is_ok()
            });
            let outputs = concerned.map(|(_, producer)| found(catalog, *producer));
            inputs.push(match (&leaf.by, planned) {
                (By::Source, Leaf::Source { per_task, .. }) => {
                    let unit = per_task.get(part.start as usize).cloned();
                    LeafInput::Source(unit.ok_or_else(|| QueryError::internal("a task has no base data"))?)
                }
                (By::KeySummaries, _) => {
                    let noted = outputs.map(|found| found.map(|Found { id, output }| output.key_summary(id)));
                    LeafInput::KeySummaries(noted.filter_map(Result::transpose).collect::<Result<_>>()?)
                }
                (by, _) => {
                    let mut portions = Vec::new();
                    for found in outputs {
                        let Found { id, output } = found?;
                        let mut chunks = Vec::new();
                        by.choose(&part, output, &mut |chunk| chunks.push(*chunk));
                        if !chunks.is_empty() {
                            portions.push(output.portion(id, chunks));
                        }
                    }
                    let before = leaf.rows_before(&part, catalog)?;
                    LeafInput::Rows { outputs: portions, range: by.key_range(&part), before }
                }
            });
        }
        Ok(inputs)
    }

    fn part(&self, task: TaskId) -> Result<(&Cut, Range<u32>)> {
        let cut = self.stages.get(&task.stage);
        cut.and_then(|cut| Some((cut, cut.tasks.get(task.task as usize)?.clone())))
            .ok_or_else(|| QueryError::internal(format!("stage {} has no task {}", task.stage.0, task.task)))
    }

    fn cut(&self, graph: &StageGraph, stage: &Stage, catalog: &dyn Catalog, merge: Option<Merge>) -> Result<Cut> {
        let taken = stage.instead.as_ref().is_some_and(|other| self.form(other.without) == Some(Form::LeftOut));
        let form = if taken { Form::Instead } else { Form::AsPlanned };
        let planned = leaves_of(stage, form);
        let leaves = planned.iter().map(|leaf| leaf_cut(graph, merge, leaf, catalog)).collect::<Result<Vec<_>>>()?;
        let mut parts: Option<usize> = None;
        for wanted in planned.iter().zip(&leaves).filter_map(|(planned, leaf)| leaf.parts(graph, planned)) {
            match parts {
                Some(others) if others != wanted => {
                    let message =
                        format!("the inputs of stage {} are cut into {others} and {wanted} parts", stage.id.0);
                    return Err(QueryError::internal(message));
                }
                _ => parts = Some(wanted),
            }
        }
        let parts = parts.unwrap_or(1);
        if let Some(most_bytes) = graph.broadcast_most_bytes.filter(|_| parts > 1) {
            leaves.iter().try_for_each(|leaf| leaf.can_be_sent(most_bytes, catalog))?;
        }
        let sizes = sizes(&leaves, parts, catalog)?;
        let tasks = match merge {
            Some(merge) if leaves.iter().all(LeafCut::can_be_merged) => {
                let bytes: Vec<u64> = sizes.iter().map(|size| size.unwrap_or(0)).collect();
                merged(&bytes, merge)
            }
            _ => (0..parts as u32).map(|part| part..part + 1).collect(),
        };
        let tasks = without_empty(&leaves, tasks, &sizes, catalog)?;
        Ok(Cut { form, leaves, tasks })
    }
}

fn stage_of(graph: &StageGraph, id: StageId) -> Result<&Stage> {
    let missing = || QueryError::internal(format!("there is no stage {}", id.0));
    graph.stages.get(id.0 as usize).ok_or_else(missing)
}

fn leaves_of(stage: &Stage, form: Form) -> &[Leaf] {
    match (form, &stage.instead) {
        (Form::Instead, Some(instead)) => &instead.leaves,
        (Form::Instead | Form::AsPlanned | Form::LeftOut, _) => &stage.leaves,
    }
}

/// Whether the small side of a join is small indeed.
fn fits(instead: &Instead, catalog: &dyn Catalog) -> Result<bool> {
    let mut made = 0;
    for task in producers(&instead.small, catalog)? {
        let output = found(catalog, task)?.output;
        made += output.size.max(output.bytes);
    }
    Ok(made <= instead.bytes)
}

/// Bytes of every partition over all leaves that are read by hash; none where nobody wrote to it.
fn sizes(leaves: &[LeafCut], parts: usize, catalog: &dyn Catalog) -> Result<Vec<Option<u64>>> {
    let mut sizes = vec![None; parts];
    for leaf in leaves.iter().filter(|leaf| matches!(leaf.by, By::Hash)) {
        for producer in &leaf.producers {
            let output = found(catalog, *producer)?.output;
            for (partition, bytes) in output.chunks.bytes_by_partition() {
                let unknown = || QueryError::internal("a partition that the exchange does not have");
                let size = sizes.get_mut(partition as usize).ok_or_else(unknown)?;
                *size.get_or_insert(0) += in_memory(output, bytes);
            }
        }
    }
    Ok(sizes)
}

/// Neighbouring partitions put together, so that tasks are of about equal size.
fn merged(sizes: &[u64], merge: Merge) -> Vec<Range<u32>> {
    let total: u64 = sizes.iter().sum();
    let wanted = fewest(merge, total, sizes.len() as u32) as usize;
    let mut runs = Vec::with_capacity(wanted);
    let (mut from, mut before) = (0, 0u64);
    for (at, size) in sizes.iter().enumerate() {
        if runs.len() + 1 == wanted {
            break;
        }
        before += size;
        let (left, open) = (sizes.len() - at - 1, wanted - runs.len() - 1);
        // The run has its share, or every run that is still wanted gets one of the partitions that are left.
        if before * wanted as u64 >= total * (runs.len() as u64 + 1) || left == open {
            runs.push(from..at as u32 + 1);
            from = at as u32 + 1;
        }
    }
    runs.push(from..sizes.len() as u32);
    runs
}

/// Partitions that nobody wrote to need no task, unless somebody may write to them yet; one is kept, for what even an empty
/// input gives.
fn without_empty(
    leaves: &[LeafCut],
    tasks: Vec<Range<u32>>,
    sizes: &[Option<u64>],
    catalog: &dyn Catalog,
) -> Result<Vec<Range<u32>>> {
    let fixed = |leaf: &LeafCut| leaf.may_differ || matches!(leaf.by, By::Source | By::Forward { .. });
    if !leaves.iter().any(LeafCut::is_by_partition) || leaves.iter().any(fixed) {
        return Ok(tasks);
    }
    let (mut full, mut empty) = (Vec::with_capacity(tasks.len()), None);
    for task in tasks {
        let written = sizes.get(task.start as usize..task.end as usize).unwrap_or_default();
        let mut has_rows = written.iter().any(Option::is_some);
        for leaf in leaves.iter().filter(|leaf| matches!(leaf.by, By::Range { .. })) {
            for producer in &leaf.producers {
                if has_rows {
                    break;
                }
                leaf.by.choose(&task, found(catalog, *producer)?.output, &mut |_| has_rows = true);
            }
        }
        if has_rows {
            full.push(task);
        } else {
            empty = Some(task);
        }
    }
    if full.is_empty() {
        full.extend(empty);
    }
    Ok(full)
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
