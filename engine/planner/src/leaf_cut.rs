//! What the tasks of a stage read of one of its leaves: which outputs, and of each which chunks, by the number of the task's
//! part.

use std::ops::Range;

use bytes::Bytes;

use floe_wire::catalog::{Catalog, Found};
use floe_wire::chunk::Chunk;
use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::{Exchange, KeyRange, Leaf, Merge, Read, StageGraph, StageId, TaskId, TaskOutput};

/// What the tasks of a stage read of one leaf.
#[derive(Debug)]
pub(super) struct LeafCut {
    /// In the order in which they are read.
    pub producers: Vec<TaskId>,
    pub by: By,
    /// An output that is made again may have other rows, or have them in other partitions. A task then reads of every output
    /// that could have some for it, so that it is made again with any of them.
    pub may_differ: bool,
}

#[derive(Debug)]
pub(super) enum By {
    /// One unit of base data each.
    Source,
    Everything,
    KeySummaries,
    /// The one of its own number; with the rows of those before it.
    Forward {
        before: Vec<u64>,
    },
    Before,
    After,
    Hash,
    Range {
        key: String,
        ranges: Vec<KeySpan>,
    },
}

pub(super) fn leaf_cut(
    graph: &StageGraph,
    merge: Option<Merge>,
    leaf: &Leaf,
    catalog: &dyn Catalog,
) -> Result<LeafCut> {
    let (stages, read) = match leaf {
        Leaf::Source { .. } => return Ok(LeafCut { producers: Vec::new(), by: By::Source, may_differ: false }),
        Leaf::Exchange { stages, read } => (stages, read),
    };
    let producers = producers(stages, catalog)?;
    let by = match read {
        Read::All => By::Everything,
        Read::Keys => By::KeySummaries,
        Read::Before => By::Before,
        Read::After => By::After,
        Read::Forward => {
            let mut before = Vec::with_capacity(producers.len());
            let mut rows = 0;
            for producer in &producers {
                before.push(rows);
                rows += found(catalog, *producer)?.output.rows;
            }
            By::Forward { before }
        }
        Read::Partition => match exchange(graph, stages) {
            Some(Exchange::Hash { .. }) => By::Hash,
            Some(Exchange::Range { key, partitions }) => {
                let outputs = producers.iter().map(|producer| found(catalog, *producer).map(|found| found.output));
                let outputs = outputs.collect::<Result<Vec<&TaskOutput>>>()?;
                let packed = |output: &TaskOutput| output.chunks.all().iter().map(|chunk| chunk.len).sum::<u64>();
                let bytes: u64 = outputs.iter().map(|output| in_memory(output, packed(output))).sum();
                let most = merge.map_or(*partitions, |merge| fewest(merge.of_ranges(), bytes, *partitions));
                By::Range { key: key.clone(), ranges: cut_ranges(&outputs, most as usize) }
            }
            _ => return Err(QueryError::internal("partitions are read of a stage that makes none")),
        },
    };
    Ok(LeafCut { producers, by, may_differ: stages.iter().any(|stage| graph.may_differ(*stage)) })
}

/// How the stages that a leaf reads lay out their rows: all in the same way.
fn exchange<'a>(graph: &'a StageGraph, stages: &[StageId]) -> Option<&'a Exchange> {
    stages.first().and_then(|stage| graph.stages.get(stage.0 as usize)).map(|stage| &stage.output)
}

impl LeafCut {
    /// Into how many parts it is cut; none: any number.
    pub fn parts(&self, graph: &StageGraph, planned: &Leaf) -> Option<usize> {
        match (&self.by, planned) {
            (By::Source, Leaf::Source { per_task, .. }) => Some(per_task.len()),
            (By::Hash, Leaf::Exchange { stages, .. }) => {
                exchange(graph, stages).map(|exchange| exchange.partitions() as usize)
            }
            (By::Forward { .. } | By::Before | By::After, _) => Some(self.producers.len()),
            (By::Range { ranges, .. }, _) => Some(ranges.len()),
            (By::Everything | By::KeySummaries | By::Source | By::Hash, _) => None,
        }
    }

    /// The rows of the outputs before a task's own, for row indexes.
    pub fn rows_before(&self, part: &Range<u32>, catalog: &dyn Catalog) -> Result<u64> {
        match &self.by {
            By::Forward { .. } if self.may_differ => {
                let before = self.producers.iter().take(part.start as usize);
                before.map(|producer| Ok(found(catalog, *producer)?.output.rows)).sum()
            }
            By::Forward { before } => Ok(before.get(part.start as usize).copied().unwrap_or(0)),
            By::Source | By::Everything | By::KeySummaries | By::Before | By::After | By::Hash | By::Range { .. } => {
                Ok(0)
            }
        }
    }

    /// A broadcast is held by every task beside its own work.
    pub fn can_be_sent(&self, most_bytes: u64, catalog: &dyn Catalog) -> Result<()> {
        let By::Everything = self.by else { return Ok(()) };
        let mut bytes = 0;
        for producer in &self.producers {
            let output = found(catalog, *producer)?.output;
            bytes += in_memory(output, output.chunks.all().iter().map(|chunk| chunk.len).sum());
        }
        if bytes <= most_bytes {
            return Ok(());
        }
        let message = format!(
            "one side of a join was to go whole to every task of the other, but came to {} MiB, and {} MiB are what a \
             worker can hold of it: give the workers more memory with spec.compute.memory, or set \
             spec.execution.broadcastLimit lower",
            bytes >> 20,
            most_bytes >> 20
        );
        Err(QueryError::new(Category::OutOfMemory, "BroadcastTooLarge", message))
    }

    pub fn can_be_merged(&self) -> bool {
        match self.by {
            By::Hash | By::Everything | By::KeySummaries => true,
            By::Source | By::Forward { .. } | By::Before | By::After | By::Range { .. } => false,
        }
    }

    pub fn is_by_partition(&self) -> bool {
        match self.by {
            By::Hash | By::Range { .. } => true,
            By::Source | By::Forward { .. } | By::Before | By::After | By::Everything | By::KeySummaries => false,
        }
    }
}

impl By {
    /// Whether a task may read something of the leaf's producer of this number.
    pub fn concerns(&self, number: u32, part: &Range<u32>) -> bool {
        match self {
            By::Source => false,
            By::Forward { .. } => number == part.start,
            By::Before => number < part.start,
            By::After => number > part.start,
            By::Everything | By::KeySummaries | By::Hash | By::Range { .. } => true,
        }
    }

    /// The chunks that a task reads of an output that concerns it.
    pub fn choose(&self, part: &Range<u32>, output: &TaskOutput, take: &mut dyn FnMut(&Chunk)) {
        match self {
            By::Source | By::KeySummaries => {}
            By::Everything | By::Forward { .. } | By::Before | By::After => output.chunks.all().iter().for_each(take),
            By::Hash => output.chunks.of(part.clone()).iter().for_each(take),
            By::Range { ranges, .. } => {
                if let Some(range) = ranges.get(part.start as usize) {
                    output.chunks.within(range.from.as_deref(), range.to.as_deref()).for_each(take);
                }
            }
        }
    }

    /// Whether a task wants to know how many rows the leaf's producer of this number has.
    pub fn counts(&self, number: u32, part: &Range<u32>) -> bool {
        match self {
            By::Forward { .. } => number < part.start,
            By::Source | By::Everything | By::KeySummaries | By::Before | By::After | By::Hash | By::Range { .. } => {
                false
            }
        }
    }

    pub fn key_range(&self, part: &Range<u32>) -> Option<KeyRange> {
        let By::Range { key, ranges } = self else { return None };
        let KeySpan { from, to } = ranges.get(part.start as usize)?.clone();
        Some(KeyRange { key: key.clone(), from, to })
    }
}

pub(super) fn found(catalog: &dyn Catalog, task: TaskId) -> Result<Found<'_>> {
    let missing = || {
        let message = format!("the output of task {} of stage {} is read and is not there", task.task, task.stage.0);
        QueryError::internal(message)
    };
    catalog.output(task).ok_or_else(missing)
}

pub(super) fn producers(stages: &[StageId], catalog: &dyn Catalog) -> Result<Vec<TaskId>> {
    let mut all = Vec::new();
    for stage in stages {
        let early = || QueryError::internal(format!("stage {} is read before it is done", stage.0));
        let tasks = catalog.tasks(*stage).ok_or_else(early)?;
        all.extend((0..tasks).map(|task| TaskId { stage: *stage, task }));
    }
    Ok(all)
}

/// What so many bytes of an output take in memory: in the file they may be packed.
pub(super) fn in_memory(output: &TaskOutput, bytes: u64) -> u64 {
    let unpacked = (output.size as f64 / output.bytes.max(1) as f64).max(1.0);
    (bytes as f64 * unpacked) as u64
}

/// The tasks that so many bytes are worth.
pub(super) fn fewest(merge: Merge, bytes: u64, partitions: u32) -> u32 {
    let by_size = u32::try_from(bytes.div_ceil(merge.bytes.max(1))).unwrap_or(u32::MAX);
    by_size.max(merge.tasks).min(partitions).max(1)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeySpan {
    from: Option<Bytes>,
    to: Option<Bytes>,
}

/// At most `n` key ranges with about as many rows each, cut at keys where sorted chunks begin.
fn cut_ranges(outputs: &[&TaskOutput], n: usize) -> Vec<KeySpan> {
    let mut starts: Vec<(&[u8], u32)> = Vec::new();
    for output in outputs {
        let chunks = output.chunks.all().iter().enumerate();
        starts.extend(chunks.filter_map(|(at, chunk)| Some((output.chunks.bounds(at)?.0, chunk.rows))));
    }
    starts.sort_unstable();
    let total: u64 = starts.iter().map(|start| u64::from(start.1)).sum();
    let mut cuts: Vec<&[u8]> = Vec::new();
    let mut rows = 0u64;
    for (first, count) in &starts {
        if cuts.len() + 1 < n
            && rows * n as u64 >= total * (cuts.len() as u64 + 1)
            && cuts.last() != Some(first)
            && rows > 0
        {
            cuts.push(first);
        }
        rows += u64::from(*count);
    }
    let mut ranges = Vec::with_capacity(cuts.len() + 1);
    let mut from = None;
    for cut in cuts.into_iter().map(Bytes::copy_from_slice) {
        ranges.push(KeySpan { from: from.take(), to: Some(cut.clone()) });
        from = Some(cut);
    }
    ranges.push(KeySpan { from, to: None });
    ranges
}
