//! A stage cut into tasks, once its inputs are done and their real sizes are known.

use std::collections::HashMap;

use bytes::Bytes;

use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::{
    Exchange, Instead, KEYS, KeyRange, Leaf, LeafInput, Merge, Piece, PieceOut, Read, StageGraph, StageId, TaskId,
    TaskOutput,
};

/// One task of a stage: its data, and the tasks whose outputs hold it.
#[derive(Clone, Debug)]
pub struct ResolvedTask {
    pub leaves: Vec<LeafInput>,
    pub inputs: Vec<TaskId>,
    /// Bytes read of each of them.
    pub bytes: Vec<u64>,
}

/// One piece of a finished task, with where it came from.
struct From<'a> {
    task: TaskId,
    out: &'a PieceOut,
    /// Bytes of its rows in memory: in the file they may be packed.
    size: u64,
}

/// `finer`: times that tasks of this stage turned out too large for a worker; nothing that is measured is trusted as much
/// as before then.
pub fn resolve(
    graph: &StageGraph,
    stage: StageId,
    done: &HashMap<StageId, Vec<TaskOutput>>,
    finer: u32,
) -> Result<Vec<ResolvedTask>> {
    let merge = graph.merge.map(|merge| merge.finer(finer));
    if finer == 0
        && let Some(instead) = graph.left_out(stage)
        && fits(instead, done)?
    {
        return Ok(Vec::new());
    }
    let leaves = graph.taken(stage, done).map_or(&graph.stages[stage.0 as usize].leaves, |instead| &instead.leaves);
    let ready = leaves.iter().map(|leaf| ready(graph, merge, leaf, done)).collect::<Result<Vec<_>>>()?;
    let mut tasks: Option<usize> = None;
    for wanted in ready.iter().filter_map(Ready::tasks) {
        match tasks {
            Some(others) if others != wanted => {
                let message = format!("the inputs of stage {} are cut into {others} and {wanted} parts", stage.0);
                return Err(QueryError::internal(message));
            }
            _ => tasks = Some(wanted),
        }
    }
    let tasks = tasks.unwrap_or(1);
    if let Some(most) = graph.broadcast_most_bytes.filter(|_| tasks > 1) {
        ready.iter().try_for_each(|leaf| leaf.can_be_sent(most))?;
    }
    let runs = match merge {
        Some(merge) if ready.iter().all(Ready::can_be_merged) => merged(&sizes(&ready, tasks), merge),
        _ => (0..tasks).map(|t| t..t + 1).collect(),
    };
    let all = runs.into_iter().map(|run| task(&ready, run)).collect();
    Ok(without_empty(leaves, all))
}

/// Whether the small side of a join is small indeed.
fn fits(instead: &Instead, done: &HashMap<StageId, Vec<TaskOutput>>) -> Result<bool> {
    let made: u64 = producers(&instead.small, done)?.iter().map(|(_, output)| output.size.max(output.bytes)).sum();
    Ok(made <= instead.bytes)
}

/// A leaf with all that was made for it.
enum Ready<'a> {
    Source(&'a [Bytes]),
    All(Vec<From<'a>>),
    Keys(Vec<From<'a>>),
    /// By producer, with the rows of the producers before.
    Forward(Vec<(u64, Vec<From<'a>>)>),
    /// By producer; a task reads those before its own.
    Before(Vec<Vec<From<'a>>>),
    /// By producer; a task reads those after its own.
    After(Vec<Vec<From<'a>>>),
    Hash(Vec<Vec<From<'a>>>),
    Range {
        key: &'a str,
        pieces: Vec<From<'a>>,
        ranges: Vec<Range>,
    },
}

fn ready<'a>(
    graph: &'a StageGraph,
    merge: Option<Merge>,
    leaf: &'a Leaf,
    done: &'a HashMap<StageId, Vec<TaskOutput>>,
) -> Result<Ready<'a>> {
    let (stages, read) = match leaf {
        Leaf::Source { per_task, .. } => return Ok(Ready::Source(per_task)),
        Leaf::Exchange { stages, read } => (stages, read),
    };
    let producers = producers(stages, done)?;
    let pieces = |(task, output): &(TaskId, &'a TaskOutput)| {
        let task = *task;
        let unpacked = (output.size as f64 / output.bytes.max(1) as f64).max(1.0);
        let size = move |out: &PieceOut| (out.piece.len as f64 * unpacked) as u64;
        let wanted = |out: &&PieceOut| (out.partition == KEYS) == (*read == Read::Keys);
        output.pieces.iter().filter(wanted).map(move |out| From { task, out, size: size(out) }).collect::<Vec<_>>()
    };
    match read {
        Read::All => Ok(Ready::All(producers.iter().flat_map(pieces).collect())),
        Read::Keys => Ok(Ready::Keys(producers.iter().flat_map(pieces).collect())),
        Read::Forward => {
            let mut before = 0;
            let counted = producers.iter().map(|producer| {
                let rows = before;
                before += producer.1.rows;
                (rows, pieces(producer))
            });
            Ok(Ready::Forward(counted.collect()))
        }
        Read::Before => Ok(Ready::Before(producers.iter().map(pieces).collect())),
        Read::After => Ok(Ready::After(producers.iter().map(pieces).collect())),
        Read::Partition => match stages.first().and_then(|s| graph.stages.get(s.0 as usize)).map(|s| &s.output) {
            Some(Exchange::Hash { partitions, .. }) => {
                let mut parts: Vec<Vec<From<'a>>> = (0..*partitions).map(|_| Vec::new()).collect();
                for piece in producers.iter().flat_map(pieces) {
                    let part = parts.get_mut(piece.out.partition as usize);
                    part.ok_or_else(|| QueryError::internal("a partition that the exchange does not have"))?
                        .push(piece);
                }
                Ok(Ready::Hash(parts))
            }
            Some(Exchange::Range { key, partitions }) => {
                let pieces: Vec<From<'a>> = producers.iter().flat_map(pieces).collect();
                let bytes: u64 = pieces.iter().map(|piece| piece.size).sum();
                let most = merge.map_or(*partitions, |merge| fewest(merge.of_ranges(), bytes, *partitions));
                let ranges = cut_ranges(&pieces, most as usize);
                Ok(Ready::Range { key, pieces, ranges })
            }
            _ => Err(QueryError::internal("partitions are read of a stage that makes none")),
        },
    }
}

impl Ready<'_> {
    /// How many tasks it is made for; none: any number.
    fn tasks(&self) -> Option<usize> {
        match self {
            Ready::Source(units) => Some(units.len()),
            Ready::All(_) | Ready::Keys(_) => None,
            Ready::Forward(producers) => Some(producers.len()),
            Ready::Before(producers) | Ready::After(producers) => Some(producers.len()),
            Ready::Hash(parts) => Some(parts.len()),
            Ready::Range { ranges, .. } => Some(ranges.len()),
        }
    }

    /// A broadcast is held by every task beside its own work.
    fn can_be_sent(&self, most_bytes: u64) -> Result<()> {
        let Ready::All(pieces) = self else { return Ok(()) };
        let bytes: u64 = pieces.iter().map(|piece| piece.size).sum();
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

    fn can_be_merged(&self) -> bool {
        match self {
            Ready::Hash(_) | Ready::All(_) | Ready::Keys(_) => true,
            Ready::Source(_) | Ready::Forward(_) | Ready::Before(_) | Ready::After(_) | Ready::Range { .. } => false,
        }
    }
}

/// The tasks that so many bytes are worth.
fn fewest(merge: Merge, bytes: u64, partitions: u32) -> u32 {
    let by_size = u32::try_from(bytes.div_ceil(merge.bytes.max(1))).unwrap_or(u32::MAX);
    by_size.max(merge.tasks).min(partitions).max(1)
}

/// Bytes of every partition over all leaves.
fn sizes(ready: &[Ready<'_>], tasks: usize) -> Vec<u64> {
    let mut sizes = vec![0; tasks];
    for leaf in ready {
        if let Ready::Hash(parts) = leaf {
            for (size, part) in sizes.iter_mut().zip(parts) {
                *size += part.iter().map(|piece| piece.size).sum::<u64>();
            }
        }
    }
    sizes
}

/// Neighbouring partitions put together, so that tasks are of about equal size.
fn merged(sizes: &[u64], merge: Merge) -> Vec<std::ops::Range<usize>> {
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
            runs.push(from..at + 1);
            from = at + 1;
        }
    }
    runs.push(from..sizes.len());
    runs
}

/// Partitions that nobody wrote to need no task; one is kept, for what even an empty input gives.
fn without_empty(leaves: &[Leaf], tasks: Vec<ResolvedTask>) -> Vec<ResolvedTask> {
    let by_partition = |i: usize| matches!(&leaves[i], Leaf::Exchange { read: Read::Partition, .. });
    if !(0..leaves.len()).any(by_partition)
        || !leaves.iter().all(|l| matches!(l, Leaf::Exchange { read, .. } if *read != Read::Forward))
    {
        return tasks;
    }
    let holds_rows = |task: &ResolvedTask| {
        task.leaves
            .iter()
            .enumerate()
            .any(|(i, l)| by_partition(i) && matches!(l, LeafInput::Pieces { pieces, .. } if !pieces.is_empty()))
    };
    let (mut full, mut empty): (Vec<_>, Vec<_>) = tasks.into_iter().partition(holds_rows);
    if full.is_empty() {
        full.extend(empty.pop());
    }
    full
}

fn task(ready: &[Ready<'_>], run: std::ops::Range<usize>) -> ResolvedTask {
    let mut out = ResolvedTask { leaves: Vec::with_capacity(ready.len()), inputs: Vec::new(), bytes: Vec::new() };
    let mut seen: HashMap<TaskId, usize> = HashMap::new();
    let mut read = |chosen: &mut dyn Iterator<Item = &From<'_>>, range: Option<KeyRange>, before: u64| {
        let mut pieces: Vec<Piece> = Vec::new();
        for from in chosen {
            let at = *seen.entry(from.task).or_insert_with(|| {
                out.inputs.push(from.task);
                out.bytes.push(0);
                out.inputs.len() - 1
            });
            out.bytes[at] += from.out.piece.len;
            pieces.push(from.out.piece.clone());
        }
        out.leaves.push(LeafInput::Pieces { pieces, range, before });
    };
    for leaf in ready {
        match leaf {
            Ready::Source(_) => read(&mut std::iter::empty(), None, 0),
            Ready::All(pieces) | Ready::Keys(pieces) => read(&mut pieces.iter(), None, 0),
            Ready::Forward(producers) => {
                let (before, pieces) = &producers[run.start];
                read(&mut pieces.iter(), None, *before);
            }
            Ready::Before(producers) => read(&mut producers[..run.start].iter().flatten(), None, 0),
            Ready::After(producers) => read(&mut producers[run.start + 1..].iter().flatten(), None, 0),
            Ready::Hash(parts) => read(&mut in_order(&parts[run.clone()]).into_iter(), None, 0),
            Ready::Range { key, pieces, ranges } => {
                let range = &ranges[run.start];
                let keys = KeyRange { key: (*key).to_string(), from: range.from.clone(), to: range.to.clone() };
                read(&mut pieces.iter().filter(|from| range.overlaps(from.out)), Some(keys), 0);
            }
        }
    }
    for (at, leaf) in ready.iter().enumerate() {
        if let Ready::Source(units) = leaf {
            out.leaves[at] = LeafInput::Source(units[run.start].clone());
        }
    }
    out
}

/// Pieces of several partitions, producer by producer: rows of one key keep their relative order.
fn in_order<'a, 'b>(parts: &'b [Vec<From<'a>>]) -> Vec<&'b From<'a>> {
    let mut all: Vec<&From<'a>> = parts.iter().flatten().collect();
    if parts.len() > 1 {
        all.sort_by_key(|from| from.task);
    }
    all
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
        if cuts.len() + 1 < n
            && rows * n as u64 >= total * (cuts.len() as u64 + 1)
            && cuts.last() != Some(*first)
            && rows > 0
        {
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

#[cfg(test)]
mod tests {
    use super::*;
    use floe_wire::graph::{Location, Stage};

    #[test]
    fn small_partitions_are_put_together_and_none_is_lost() {
        let merge = Merge { tasks: 2, bytes: 100 };
        assert_eq!(merged(&[10, 10, 10, 10], merge), [0..2, 2..4]);
        assert_eq!(merged(&[0, 0, 0, 0], merge), [0..1, 1..4]);
        assert_eq!(merged(&[500, 1, 1, 1], merge), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(merged(&[1, 1, 1, 500], merge), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(merged(&[7], merge), std::slice::from_ref(&(0..1)));
        for sizes in
            [[0, 90, 0, 0, 90, 3, 3], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1], [50; 7], [300, 0, 0, 0, 9, 0, 0]]
        {
            let runs = merged(&sizes, merge);
            assert_eq!(runs.first().map(|run| run.start), Some(0));
            assert_eq!(runs.last().map(|run| run.end), Some(7));
            assert!(runs.windows(2).all(|pair| pair[0].end == pair[1].start), "{sizes:?} {runs:?}");
            assert!(runs.len() >= 2, "{sizes:?} {runs:?}");
        }
    }

    /// A stage that reads 16 parts of one task's output, 10 bytes and 10 rows each.
    fn read_parts(output: Exchange) -> (StageGraph, HashMap<StageId, Vec<TaskOutput>>) {
        let stage = |id: u32, leaves: Vec<Leaf>, output: Exchange| Stage {
            id: StageId(id),
            label: String::new(),
            fragment: Bytes::new(),
            explain: Vec::new(),
            leaves,
            output,
            instead: None,
            facts: Default::default(),
        };
        let reads = Leaf::Exchange { stages: vec![StageId(0)], read: Read::Partition };
        let source = Leaf::Source { what: String::new(), per_task: vec![Bytes::new()] };
        let graph = StageGraph {
            stages: vec![stage(0, vec![source], output), stage(1, vec![reads], Exchange::Result)],
            merge: Some(Merge { tasks: 1, bytes: 160 }),
            ..StageGraph::default()
        };
        let part = |partition: u32| {
            let at = Location::Store { uri: "file".into() };
            let key = Bytes::from(vec![partition as u8]);
            let piece = Piece { at, offset: u64::from(partition) * 10, len: 10, rows: 10 };
            PieceOut { partition, piece, bounds: Some((key.clone(), key)) }
        };
        let output = TaskOutput { pieces: (0..16).map(part).collect(), bytes: 160, size: 160, ..TaskOutput::default() };
        (graph, HashMap::from([(StageId(0), vec![output])]))
    }

    #[test]
    fn what_was_too_large_is_cut_into_smaller_parts() {
        let (graph, mut done) = read_parts(Exchange::Hash { keys: vec!["k".into()], partitions: 16 });
        let tasks = |done: &_, finer: u32| resolve(&graph, StageId(1), done, finer).unwrap().len();
        assert_eq!([0, 1, 2, 3].map(|finer| tasks(&done, finer)), [1, 4, 16, 16]);
        // Packed on disk: what they take in memory counts.
        done.get_mut(&StageId(0)).unwrap()[0].size = 640;
        assert_eq!(tasks(&done, 0), 4);

        // Whole rows of every task beside parts of another: no more than a worker can hold.
        let mut sent = graph.clone();
        sent.stages[1].leaves.push(Leaf::Exchange { stages: vec![StageId(0)], read: Read::All });
        (sent.merge, sent.broadcast_most_bytes) = (None, Some(640));
        assert_eq!(sent.broadcasts(), 1);
        assert_eq!(resolve(&sent, StageId(1), &done, 0).unwrap().len(), 16);
        sent.broadcast_most_bytes = Some(639);
        assert_eq!(resolve(&sent, StageId(1), &done, 0).unwrap_err().category, Category::OutOfMemory);

        let (graph, done) = read_parts(Exchange::Range { key: "k".into(), partitions: 16 });
        let tasks = |finer: u32| resolve(&graph, StageId(1), &done, finer).unwrap();
        assert_eq!([0, 1, 2].map(|finer| tasks(finer).len()), [1, 2, 6]);
        let read: usize = tasks(2)
            .iter()
            .map(|task| match &task.leaves[0] {
                LeafInput::Pieces { pieces, .. } => pieces.len(),
                LeafInput::Source(_) => 0,
            })
            .sum();
        assert_eq!(read, 16, "every chunk is read once, as none crosses a border");
    }
}
