//! A stage cut into tasks, once its inputs are done and their real sizes are known.

use std::collections::HashMap;

use bytes::Bytes;

use crate::error::{QueryError, Result};
use crate::graph::{Exchange, KeyRange, Leaf, LeafInput, Piece, PieceOut, Read, StageGraph, StageId, TaskId, TaskOutput};

/// One task of a stage: its data, and the tasks whose outputs hold it.
#[derive(Clone, Debug)]
pub struct ResolvedTask {
    pub leaves: Vec<LeafInput>,
    pub inputs: Vec<TaskId>,
}

/// One piece of a finished task, with where it came from.
struct From<'a> {
    task: TaskId,
    out: &'a PieceOut,
}

pub fn resolve(
    graph: &StageGraph,
    stage: StageId,
    done: &HashMap<StageId, Vec<TaskOutput>>,
) -> Result<Vec<ResolvedTask>> {
    let leaves = &graph.stages[stage.0 as usize].leaves;
    let mut tasks: Option<usize> = None;
    let mut ranges: HashMap<usize, Vec<Range>> = HashMap::new();
    for (i, leaf) in leaves.iter().enumerate() {
        let wanted = match leaf {
            Leaf::Source { per_task, .. } => Some(per_task.len()),
            Leaf::Exchange { read: Read::All, .. } => None,
            Leaf::Exchange { stages, read: Read::Forward } => Some(producers(stages, done)?.len()),
            Leaf::Exchange { stages, read: Read::Partition } => {
                let first = stages.first().and_then(|s| graph.stages.get(s.0 as usize));
                match first.map(|s| &s.output) {
                    Some(Exchange::Hash { partitions, .. }) => Some(*partitions as usize),
                    Some(Exchange::Range { partitions, .. }) => {
                        let cut = cut_ranges(&pieces(stages, done)?, *partitions as usize);
                        let n = cut.len();
                        ranges.insert(i, cut);
                        Some(n)
                    },
                    _ => return Err(QueryError::internal("partitions are read of a stage that makes none")),
                }
            },
        };
        match (tasks, wanted) {
            (Some(a), Some(b)) if a != b => {
                return Err(QueryError::internal(format!("the inputs of stage {} are cut into {a} and {b} parts", stage.0)));
            },
            (None, Some(n)) => tasks = Some(n),
            _ => {},
        }
    }
    let all = (0..tasks.unwrap_or(1)).map(|t| task(graph, leaves, t, done, &ranges)).collect::<Result<Vec<_>>>()?;
    Ok(without_empty(leaves, all))
}

/// Partitions that nobody wrote to need no task; one is kept, for what even an empty input gives.
fn without_empty(leaves: &[Leaf], tasks: Vec<ResolvedTask>) -> Vec<ResolvedTask> {
    let by_partition = |i: usize| matches!(&leaves[i], Leaf::Exchange { read: Read::Partition, .. });
    if !(0..leaves.len()).any(by_partition) || !leaves.iter().all(|l| matches!(l, Leaf::Exchange { read, .. } if *read != Read::Forward)) {
        return tasks;
    }
    let holds_rows = |task: &ResolvedTask| {
        task.leaves.iter().enumerate().any(|(i, l)| {
            by_partition(i) && matches!(l, LeafInput::Pieces { pieces, .. } if !pieces.is_empty())
        })
    };
    let (mut full, mut empty): (Vec<_>, Vec<_>) = tasks.into_iter().partition(holds_rows);
    if full.is_empty() {
        full.extend(empty.pop());
    }
    full
}

fn task(
    graph: &StageGraph,
    leaves: &[Leaf],
    t: usize,
    done: &HashMap<StageId, Vec<TaskOutput>>,
    ranges: &HashMap<usize, Vec<Range>>,
) -> Result<ResolvedTask> {
    let mut out = ResolvedTask { leaves: Vec::with_capacity(leaves.len()), inputs: Vec::new() };
    for (i, leaf) in leaves.iter().enumerate() {
        match leaf {
            Leaf::Source { per_task, .. } => out.leaves.push(LeafInput::Source(per_task[t].clone())),
            Leaf::Exchange { stages, read } => {
                let all = pieces(stages, done)?;
                let mut before = 0;
                let mut range = None;
                let chosen: Vec<&From<'_>> = match read {
                    Read::All => all.iter().collect(),
                    Read::Forward => {
                        let order = producers(stages, done)?;
                        let own = order.get(t).map(|(id, _)| *id);
                        before = order.iter().take(t).map(|(_, o)| o.rows).sum();
                        all.iter().filter(|f| Some(f.task) == own).collect()
                    },
                    Read::Partition => match ranges.get(&i).and_then(|r| r.get(t)) {
                        Some(r) => {
                            let key = match &graph.stages[stages[0].0 as usize].output {
                                Exchange::Range { key, .. } => key.clone(),
                                _ => String::new(),
                            };
                            range = Some(KeyRange { key, from: r.from.clone(), to: r.to.clone() });
                            all.iter().filter(|f| r.overlaps(f.out)).collect()
                        },
                        None => all.iter().filter(|f| f.out.partition as usize == t).collect(),
                    },
                };
                for f in &chosen {
                    if !out.inputs.contains(&f.task) {
                        out.inputs.push(f.task);
                    }
                }
                let pieces: Vec<Piece> = chosen.into_iter().map(|f| f.out.piece.clone()).collect();
                out.leaves.push(LeafInput::Pieces { pieces, range, before });
            },
        }
    }
    Ok(out)
}

fn producers<'a>(
    stages: &[StageId],
    done: &'a HashMap<StageId, Vec<TaskOutput>>,
) -> Result<Vec<(TaskId, &'a TaskOutput)>> {
    let mut all = Vec::new();
    for stage in stages {
        let outputs = done
            .get(stage)
            .ok_or_else(|| QueryError::internal(format!("stage {} is read before it is done", stage.0)))?;
        all.extend(outputs.iter().enumerate().map(|(t, o)| (TaskId { stage: *stage, task: t as u32 }, o)));
    }
    Ok(all)
}

fn pieces<'a>(stages: &[StageId], done: &'a HashMap<StageId, Vec<TaskOutput>>) -> Result<Vec<From<'a>>> {
    let all = producers(stages, done)?;
    Ok(all.into_iter().flat_map(|(task, o)| o.pieces.iter().map(move |out| From { task, out })).collect())
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    from: Option<Bytes>,
    to: Option<Bytes>,
}

impl Range {
    fn overlaps(&self, out: &PieceOut) -> bool {
        let Some((first, last)) = &out.bounds else { return true };
        self.to.as_ref().is_none_or(|to| first < to) && self.from.as_ref().is_none_or(|from| last >= from)
    }
}

/// At most `n` key ranges with about as many rows each, cut at keys where sorted chunks begin.
fn cut_ranges(pieces: &[From<'_>], n: usize) -> Vec<Range> {
    let mut starts: Vec<(&Bytes, u64)> =
        pieces.iter().filter_map(|f| f.out.bounds.as_ref().map(|(first, _)| (first, f.out.piece.rows))).collect();
    starts.sort();
    let total: u64 = starts.iter().map(|s| s.1).sum();
    let mut cuts: Vec<Bytes> = Vec::new();
    let mut rows = 0;
    for (first, count) in &starts {
        if cuts.len() + 1 < n && rows * n as u64 >= total * (cuts.len() as u64 + 1) && cuts.last() != Some(*first) && rows > 0 {
            cuts.push((*first).clone());
        }
        rows += count;
    }
    let mut out = Vec::with_capacity(cuts.len() + 1);
    let mut from = None;
    for cut in cuts {
        out.push(Range { from: from.take(), to: Some(cut.clone()) });
        from = Some(cut);
    }
    out.push(Range { from, to: None });
    out
}
