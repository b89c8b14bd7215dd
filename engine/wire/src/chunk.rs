//! Names of what goes from stage to stage: a run of a query, the output of one attempt at a task, the chunks in it. The
//! place of an output is no part of its identity; readers look its `Place` up in a `Catalog`.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::graph::{StageId, TaskId};

/// One run of a query by one coordinator. Names everything that the run writes outside of its own process, so that no
/// two runs touch each other's data: not two attempts at the query, not a first run and the second one after its
/// failure, not two coordinators with the same attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunId {
    /// The job's id.
    pub query: String,
    /// Which try at the whole query this is: the job's `attempt`.
    pub attempt: u32,
    pub pass: Pass,
    /// A random number that each coordinator draws for itself.
    pub nonce: u64,
}

/// Which run of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pass {
    First,
    /// The run after the first one failed: on one node, which shows whether the distribution was at fault, or without
    /// broadcasts.
    Second,
}

impl RunId {
    /// The run's name among those of its query.
    pub fn name(&self) -> String {
        let pass = match self.pass {
            Pass::First => 'a',
            Pass::Second => 'b',
        };
        format!("{}{pass}-{:016x}", self.attempt, self.nonce)
    }
}

/// The run's name among all.
impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.query, self.name())
    }
}

/// The output of one attempt at a task, within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32)", into = "(u32, u32, u32)")]
pub struct OutputId {
    pub task: TaskId,
    pub attempt: u32,
}

/// Serialized without field names.
impl From<(u32, u32, u32)> for OutputId {
    fn from((stage, task, attempt): (u32, u32, u32)) -> Self {
        OutputId { task: TaskId { stage: StageId(stage), task }, attempt }
    }
}

impl From<OutputId> for (u32, u32, u32) {
    fn from(id: OutputId) -> Self {
        (id.task.stage.0, id.task.task, id.attempt)
    }
}

/// Prints the identity for messages and file names.
impl fmt::Display for OutputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}-t{}-a{}", self.task.stage.0, self.task.task, self.attempt)
    }
}

/// A worker process, by its number in the table that every worker has. Never used twice in the life of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerId(pub u32);

/// Where the bytes of an output are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the message: small outputs need no file and cannot be lost with a worker.
    Inline(Bytes),
    /// In a file of a worker's scratch, which is named by the run and the output.
    Worker { worker: WorkerId, shelf: Shelf },
    /// In the run's own directory of the query's shuffle store, named by the output.
    Store,
}

/// Which of a worker's two directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shelf {
    Memory,
    Disk,
}

impl Default for Place {
    fn default() -> Self {
        Place::Inline(Bytes::new())
    }
}

impl Place {
    /// Whether it can be lost after it was reported.
    pub fn can_be_lost(&self) -> bool {
        match self {
            Place::Inline(_) => false,
            Place::Worker { .. } | Place::Store => true,
        }
    }
}

/// A range of an output's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    pub offset: u64,
    pub len: u64,
}

/// Rows of one partition in an output: an IPC file within the output's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u64, u64)", into = "(u32, u32, u64, u64)")]
pub struct Chunk {
    pub partition: u32,
    pub rows: u32,
    pub offset: u64,
    pub len: u64,
}

impl Chunk {
    pub fn span(&self) -> Span {
        Span { offset: self.offset, len: self.len }
    }
}

/// Serialized without field names.
impl From<(u32, u32, u64, u64)> for Chunk {
    fn from((partition, rows, offset, len): (u32, u32, u64, u64)) -> Self {
        Chunk { partition, rows, offset, len }
    }
}

impl From<Chunk> for (u32, u32, u64, u64) {
    fn from(chunk: Chunk) -> Self {
        (chunk.partition, chunk.rows, chunk.offset, chunk.len)
    }
}

/// The chunks of one output. A coordinator holds such a table for every task, with thousands of chunks in each: 24
/// bytes per chunk, and two keys per chunk if they are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// By partition; those of one partition in the order in which they were written.
    table: Vec<Chunk>,
    bounds: Bounds,
}

impl Chunks {
    /// In the order in which they were written.
    pub fn new(mut table: Vec<Chunk>) -> Chunks {
        table.sort_by_key(|chunk| chunk.partition);
        table.shrink_to_fit();
        Chunks { table, bounds: Bounds::default() }
    }

    /// Chunks of a range exchange, each sorted by its key, with its first and last key. They have no partitions yet,
    /// and keep their order, because rows with equal keys keep theirs.
    pub fn sorted(chunks: Vec<(Chunk, KeyBounds)>) -> Chunks {
        let mut bounds = Bounds::default();
        let mut table = Vec::with_capacity(chunks.len());
        for (chunk, keys) in chunks {
            bounds.push(&keys);
            table.push(Chunk { partition: 0, ..chunk });
        }
        bounds.keys.shrink_to_fit();
        bounds.ends.shrink_to_fit();
        Chunks { table, bounds }
    }

    pub fn all(&self) -> &[Chunk] {
        &self.table
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The chunks of some partitions, partition by partition.
    pub fn of(&self, partitions: Range<u32>) -> &[Chunk] {
        let from = self.table.partition_point(|chunk| chunk.partition < partitions.start);
        let to = self.table.partition_point(|chunk| chunk.partition < partitions.end);
        &self.table[from..to.max(from)]
    }

    /// First and last key of the chunk at this index of `all`; none where chunks are not sorted.
    pub fn bounds(&self, at: usize) -> Option<(&[u8], &[u8])> {
        Some((self.bounds.key(2 * at)?, self.bounds.key(2 * at + 1)?))
    }

    /// Sorted chunks that may have keys in [from, to), in the order in which they were written.
    pub fn within(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> impl Iterator<Item = &Chunk> {
        self.bounds.runs(self.table.len()).flat_map(move |run| {
            let reaches = |at: usize, from: &[u8]| self.bounds.key(2 * at + 1).is_none_or(|last| last >= from);
            let begins_behind = |at: usize, to: &[u8]| self.bounds.key(2 * at).is_some_and(|first| first >= to);
            let begin = from.map_or(run.start, |from| first_such(&run, |at| reaches(at, from)));
            let end = to.map_or(run.end, |to| first_such(&run, |at| begins_behind(at, to)));
            &self.table[begin..end.max(begin)]
        })
    }

    /// The partitions that have rows, with their bytes, in ascending order.
    pub fn bytes_by_partition(&self) -> impl Iterator<Item = (u32, u64)> {
        self.table
            .chunk_by(|a, b| a.partition == b.partition)
            .map(|same| (same[0].partition, same.iter().map(|chunk| chunk.len).sum()))
    }
}

/// Finds the first index of a run at which `holds` is true, by binary search; from there it must be true to the end.
fn first_such(run: &Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (run.start, run.end);
    while from < to {
        let middle = from + (to - from) / 2;
        if holds(middle) { to = middle } else { from = middle + 1 }
    }
    from
}

/// First and last key of a sorted chunk. The chunk need not contain them, but none of its keys lies outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBounds {
    pub first: Vec<u8>,
    pub last: Vec<u8>,
}

/// Longest bound: longer keys are truncated, since the coordinator holds two per chunk.
const MAX_KEY_BYTES: usize = 256;

impl KeyBounds {
    /// Bounds of at most a few hundred bytes, however long the keys.
    pub fn new(first: &[u8], last: &[u8]) -> KeyBounds {
        KeyBounds { first: first[..first.len().min(MAX_KEY_BYTES)].to_vec(), last: rounded_up(last) }
    }
}

/// The least key of at most `MAX_KEY_BYTES` that is not below `key`, or `key` itself if there is none.
fn rounded_up(key: &[u8]) -> Vec<u8> {
    if key.len() <= MAX_KEY_BYTES {
        return key.to_vec();
    }
    let mut short = key[..MAX_KEY_BYTES].to_vec();
    while let Some(last) = short.pop() {
        if last < u8::MAX {
            short.push(last + 1);
            return short;
        }
    }
    key.to_vec()
}

/// The bounds of sorted chunks, two keys each, end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Bounds {
    #[serde(with = "serde_bytes_vec")]
    keys: Vec<u8>,
    ends: Vec<u64>,
    /// Where sorted runs begin, by index of the chunk: each batch of rows is sorted by itself.
    starts: Vec<u32>,
}

impl Bounds {
    fn push(&mut self, bounds: &KeyBounds) {
        let chunks = self.ends.len() / 2;
        let goes_on = chunks.checked_sub(1).and_then(|last| self.key(2 * last + 1)).is_some_and(|last| {
            // Equal bounds of neighbours are in order, too: both binary searches stay right.
            last <= bounds.last.as_slice()
                && self.key(2 * (chunks - 1)).is_some_and(|first| first <= bounds.first.as_slice())
        });
        if !goes_on {
            self.starts.push(chunks as u32);
        }
        for key in [&bounds.first, &bounds.last] {
            self.keys.extend_from_slice(key);
            self.ends.push(self.keys.len() as u64);
        }
    }

    fn key(&self, at: usize) -> Option<&[u8]> {
        let to = *self.ends.get(at)? as usize;
        let from = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        self.keys.get(from..to)
    }

    /// Runs of chunks in ascending order of both their bounds; all chunks as one run where there are no bounds.
    fn runs(&self, chunks: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = move || self.starts.iter().skip(1).map(|start| *start as usize);
        [0].into_iter().chain(starts()).zip(starts().chain([chunks])).map(|(from, to)| from..to)
    }
}

/// Serializes bytes as msgpack's own type, not as a list of numbers.
mod serde_bytes_vec {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(deserializer).map(Vec::from)
    }
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
