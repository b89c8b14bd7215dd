//! Decides what each task of a stage reads of one of its leaves: which outputs, and which of their chunks, by the
//! number of the task's part.

use std::ops::Range;

use bytes::Bytes;

use floe_wire::catalog::{Catalog, Found};
use floe_wire::chunk::Chunk;
use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::{Coalescing, Exchange, Leaf, Read, StageGraph, StageId, TaskId};
use floe_wire::task::{KeyRange, TaskOutput};

/// How one leaf is divided over the tasks of a stage.
#[derive(Debug)]
pub(crate) struct LeafCut {
    /// In the order in which they are read.
    pub producers: Vec<TaskId>,
    pub by: By,
    /// An output that is made again may have different rows or partitions. A task then counts every output that could
    /// have rows for it as read, so that it is made again with any of them.
    pub may_differ: bool,
}

#[derive(Debug)]
pub(crate) enum By {
    /// One unit of base data per task.
    Source,
    Everything,
    KeySummaries,
    /// Task t reads output t; `before[t]` is the row count of earlier outputs.
    Forward {
        before: Vec<u64>,
    },
    /// The outputs whose numbers are in the task's part.
    Neighbours {
        bytes: u64,
    },
    Before,
    After,
    Hash,
    Range {
        key: String,
        ranges: Vec<KeySpan>,
    },
}

pub(crate) fn leaf_cut(
    graph: &StageGraph,
    coalescing: Option<Coalescing>,
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
        Read::KeySummaries => By::KeySummaries,
        Read::Neighbours { bytes } => By::Neighbours { bytes: *bytes },
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
                let most =
                    coalescing.map_or(*partitions, |coalescing| fewest(coalescing.of_ranges(), bytes, *partitions));
                By::Range { key: key.clone(), ranges: cut_ranges(&outputs, most as usize) }
            }
            _ => return Err(QueryError::internal("partitions are read of a stage that makes none")),
        },
    };
    Ok(LeafCut { producers, by, may_differ: stages.iter().any(|stage| graph.may_differ(*stage)) })
}

/// The exchange of the stages that a leaf reads; they all have the same.
fn exchange<'a>(graph: &'a StageGraph, stages: &[StageId]) -> Option<&'a Exchange> {
    stages.first().and_then(|stage| graph.stages.get(stage.0 as usize)).map(|stage| &stage.output)
}

impl LeafCut {
    /// The number of parts that the leaf is cut into; none: any number.
    pub fn parts(&self, graph: &StageGraph, planned: &Leaf) -> Option<usize> {
        match (&self.by, planned) {
            (By::Source, Leaf::Source { per_task, .. }) => Some(per_task.len()),
            (By::Hash, Leaf::Exchange { stages, .. }) => {
                exchange(graph, stages).map(|exchange| exchange.partitions() as usize)
            }
            (By::Forward { .. } | By::Neighbours { .. } | By::Before | By::After, _) => Some(self.producers.len()),
            (By::Range { ranges, .. }, _) => Some(ranges.len()),
            (By::Everything | By::KeySummaries | By::Source | By::Hash, _) => None,
        }
    }

    /// The number of rows in the outputs before a task's own, for row indexes.
    pub fn rows_before(&self, part: &Range<u32>, catalog: &dyn Catalog) -> Result<u64> {
        match &self.by {
            By::Forward { .. } if self.may_differ => {
                let before = self.producers.iter().take(part.start as usize);
                before.map(|producer| Ok(found(catalog, *producer)?.output.rows)).sum()
            }
            By::Forward { before } => Ok(before.get(part.start as usize).copied().unwrap_or(0)),
            By::Source
            | By::Everything
            | By::KeySummaries
            | By::Neighbours { .. }
            | By::Before
            | By::After
            | By::Hash
            | By::Range { .. } => Ok(0),
        }
    }

    /// Refuses a broadcast of more than `most_bytes`: every task holds it beside its own rows.
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
            By::Hash | By::Neighbours { .. } | By::Everything | By::KeySummaries => true,
            By::Source | By::Forward { .. } | By::Before | By::After | By::Range { .. } => false,
        }
    }

    /// How small parts are coalesced where the leaf has a size of its own for them.
    pub fn coalescing(&self, usual: Coalescing) -> Coalescing {
        match self.by {
            By::Neighbours { bytes } => Coalescing { max_bytes: bytes, ..usual },
            By::Source
            | By::Everything
            | By::KeySummaries
            | By::Forward { .. }
            | By::Before
            | By::After
            | By::Hash
            | By::Range { .. } => usual,
        }
    }

    pub fn is_by_partition(&self) -> bool {
        match self.by {
            By::Hash | By::Range { .. } => true,
            By::Source
            | By::Forward { .. }
            | By::Neighbours { .. }
            | By::Before
            | By::After
            | By::Everything
            | By::KeySummaries => false,
        }
    }
}

impl By {
    /// Whether a task may read rows of the leaf's producer `number`.
    pub fn concerns(&self, number: u32, part: &Range<u32>) -> bool {
        match self {
            By::Source => false,
            By::Forward { .. } => number == part.start,
            By::Neighbours { .. } => part.contains(&number),
            By::Before => number < part.start,
            By::After => number > part.start,
            By::Everything | By::KeySummaries | By::Hash | By::Range { .. } => true,
        }
    }

    /// The chunks that a task reads of an output that concerns it.
    pub fn choose(&self, part: &Range<u32>, output: &TaskOutput, take: &mut dyn FnMut(&Chunk)) {
        match self {
            By::Source | By::KeySummaries => {}
            By::Everything | By::Forward { .. } | By::Neighbours { .. } | By::Before | By::After => {
                output.chunks.all().iter().for_each(take)
            }
            By::Hash => output.chunks.of(part.clone()).iter().for_each(take),
            By::Range { ranges, .. } => {
                if let Some(range) = ranges.get(part.start as usize) {
                    output.chunks.within(range.from.as_deref(), range.to.as_deref()).for_each(take);
                }
            }
        }
    }

    /// Whether a task needs the row count of the leaf's producer `number`.
    pub fn counts(&self, number: u32, part: &Range<u32>) -> bool {
        match self {
            By::Forward { .. } => number < part.start,
            By::Source
            | By::Everything
            | By::KeySummaries
            | By::Neighbours { .. }
            | By::Before
            | By::After
            | By::Hash
            | By::Range { .. } => false,
        }
    }

    pub fn key_range(&self, part: &Range<u32>) -> Option<KeyRange> {
        let By::Range { key, ranges } = self else { return None };
        let KeySpan { from, to } = ranges.get(part.start as usize)?.clone();
        Some(KeyRange { key: key.clone(), from, to })
    }
}

pub(crate) fn found(catalog: &dyn Catalog, task: TaskId) -> Result<Found<'_>> {
    let missing = || {
        let message = format!("the output of task {} of stage {} is read and is not there", task.task, task.stage.0);
        QueryError::internal(message)
    };
    catalog.output(task).ok_or_else(missing)
}

pub(crate) fn producers(stages: &[StageId], catalog: &dyn Catalog) -> Result<Vec<TaskId>> {
    let mut all = Vec::new();
    for stage in stages {
        let early = || QueryError::internal(format!("stage {} is read before it is done", stage.0));
        let tasks = catalog.tasks(*stage).ok_or_else(early)?;
        all.extend((0..tasks).map(|task| TaskId { stage: *stage, task }));
    }
    Ok(all)
}

/// Estimates the memory that `bytes` of an output take: the file may be compressed.
pub(crate) fn in_memory(output: &TaskOutput, bytes: u64) -> u64 {
    let unpacked = (output.size as f64 / output.bytes.max(1) as f64).max(1.0);
    (bytes as f64 * unpacked) as u64
}

/// The fewest tasks for `bytes`: at least `min_tasks`, at most `max_bytes` each, never more than the partitions.
pub(crate) fn fewest(coalescing: Coalescing, bytes: u64, partitions: u32) -> u32 {
    let by_size = u32::try_from(bytes.div_ceil(coalescing.max_bytes.max(1))).unwrap_or(u32::MAX);
    by_size.max(coalescing.min_tasks).min(partitions).max(1)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySpan {
    from: Option<Bytes>,
    to: Option<Bytes>,
}

/// Cuts at most `n` key ranges with about as many rows each, at keys where sorted chunks begin.
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
