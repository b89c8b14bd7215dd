//! Cuts a stage into tasks once its inputs are done and their sizes are measured. What each task reads is kept as a
//! rule (these partitions, this range of keys); the chunks are looked up when the task is launched, so that a stage of
//! N tasks which read N partitions of M outputs never takes N x M entries, and finds outputs that were made again.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use floe_wire::catalog::{Catalog, Found};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{AdaptiveForm, Coalescing, Leaf, Stage, StageGraph, StageId, TaskId};
use floe_wire::task::LeafInput;

use crate::exchanges::leaf_cut::{By, LeafCut, fewest, found, in_memory, leaf_cut, producers};

/// How the stages of a run were resolved so far. Decisions stay: outputs that are made again are read by the tasks of
/// the first resolution.
#[derive(Debug, Default)]
pub struct Cuts {
    stages: HashMap<StageId, Cut>,
}

/// Which form of a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    AsPlanned,
    /// With the fragment of another stage in it.
    Adaptive,
    /// It has no tasks: the stage that reads it runs in its adaptive form.
    LeftOut,
}

#[derive(Debug)]
struct Cut {
    form: Form,
    leaves: Vec<LeafCut>,
    /// For each task, which parts of the leaves it reads.
    tasks: Vec<Range<u32>>,
}

impl Cuts {
    /// Resolves a stage whose inputs are all in the catalog and returns its number of tasks. `finer`: how often its
    /// tasks turned out too large for a worker; if ever, tasks get smaller and nothing is broadcast by measured size.
    pub fn resolve(&mut self, graph: &StageGraph, id: StageId, catalog: &dyn Catalog, finer: u32) -> Result<usize> {
        let stage = stage_of(graph, id)?;
        let cut = match graph.left_out(id) {
            Some(form) if finer == 0 && fits(form, catalog)? => {
                Cut { form: Form::LeftOut, leaves: Vec::new(), tasks: Vec::new() }
            }
            _ => self.cut(graph, stage, catalog, graph.coalescing.map(|coalescing| coalescing.finer(finer)))?,
        };
        let tasks = cut.tasks.len();
        self.stages.insert(id, cut);
        Ok(tasks)
    }

    /// The form that a stage runs in, if it was resolved.
    pub fn form(&self, stage: StageId) -> Option<Form> {
        self.stages.get(&stage).map(|cut| cut.form)
    }

    /// The fragment of a resolved stage, in the form that runs.
    pub fn fragment<'a>(&self, stage: &'a Stage) -> &'a Bytes {
        match (self.form(stage.id), &stage.adaptive) {
            (Some(Form::Adaptive), Some(form)) => &form.fragment,
            (Some(Form::Adaptive | Form::AsPlanned | Form::LeftOut) | None, _) => &stage.fragment,
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
        // Several leaves may read one output.
        reads.dedup_by(|next, first| {
            let same = next.0 == first.0;
            first.1 += if same { next.1 } else { 0 };
            same
        });
        Ok(reads)
    }

    /// The inputs of a task, with their current places. `reads`: the outputs that `reads` returned when the stage was
    /// resolved; others may be gone, since they are not read.
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

    fn cut(
        &self,
        graph: &StageGraph,
        stage: &Stage,
        catalog: &dyn Catalog,
        coalescing: Option<Coalescing>,
    ) -> Result<Cut> {
        let taken = stage.adaptive.as_ref().is_some_and(|other| self.form(other.replaces) == Some(Form::LeftOut));
        let form = if taken { Form::Adaptive } else { Form::AsPlanned };
        let planned = leaves_of(stage, form);
        let leaves =
            planned.iter().map(|leaf| leaf_cut(graph, coalescing, leaf, catalog)).collect::<Result<Vec<_>>>()?;
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
        if let Some(most_bytes) = graph.max_broadcast_bytes.filter(|_| parts > 1) {
            leaves.iter().try_for_each(|leaf| leaf.can_be_sent(most_bytes, catalog))?;
        }
        let sizes = sizes(&leaves, parts, catalog)?;
        let tasks = match coalescing {
            Some(coalescing) if leaves.iter().all(LeafCut::can_be_merged) => {
                let coalescing = leaves.iter().fold(coalescing, |coalescing, leaf| leaf.coalescing(coalescing));
                let bytes: Vec<u64> = sizes.iter().map(|size| size.unwrap_or(0)).collect();
                merged(&bytes, coalescing)
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
    match (form, &stage.adaptive) {
        (Form::Adaptive, Some(form)) => &form.leaves,
        (Form::Adaptive | Form::AsPlanned | Form::LeftOut, _) => &stage.leaves,
    }
}

/// Whether the small side of a join was measured to be small enough.
fn fits(form: &AdaptiveForm, catalog: &dyn Catalog) -> Result<bool> {
    let mut made = 0;
    for task in producers(&form.small, catalog)? {
        let output = found(catalog, task)?.output;
        made += output.size.max(output.bytes);
    }
    Ok(made <= form.bytes)
}

/// The bytes of every part, over all leaves that are read by hash or by neighbours; `None` for a part that no task
/// wrote.
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
    for leaf in leaves.iter().filter(|leaf| matches!(leaf.by, By::Neighbours { .. })) {
        for (producer, size) in leaf.producers.iter().zip(&mut sizes) {
            let output = found(catalog, *producer)?.output;
            let bytes = output.chunks.all().iter().map(|chunk| chunk.len).sum();
            *size.get_or_insert(0) += in_memory(output, bytes);
        }
    }
    Ok(sizes)
}

/// Coalesces neighbouring partitions into tasks of about equal size.
fn merged(sizes: &[u64], coalescing: Coalescing) -> Vec<Range<u32>> {
    let total: u64 = sizes.iter().sum();
    let wanted = fewest(coalescing, total, sizes.len() as u32) as usize;
    let mut runs = Vec::with_capacity(wanted);
    let (mut from, mut before) = (0, 0u64);
    for (at, size) in sizes.iter().enumerate() {
        if runs.len() + 1 == wanted {
            break;
        }
        before += size;
        let (left, open) = (sizes.len() - at - 1, wanted - runs.len() - 1);
        // This task has its share, or each task to come needs one of the partitions left.
        if before * wanted as u64 >= total * (runs.len() as u64 + 1) || left == open {
            runs.push(from..at as u32 + 1);
            from = at as u32 + 1;
        }
    }
    runs.push(from..sizes.len() as u32);
    runs
}

/// Drops tasks whose partitions are empty, unless an input may still write to them; keeps one, since even an empty
/// input may have a result.
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
