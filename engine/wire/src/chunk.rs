//! What goes from stage to stage, by identity: a run of a query, the output of one attempt at a task, the chunks in it.
//! Where an output lies is no part of what it is; that is its `Place`, which readers look up in a `Catalog`.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::graph::{StageId, TaskId};

/// One run of a query by one coordinator. Whatever the run writes outside of its own process is named by this, so that no
/// two runs ever touch each other's data: not two attempts at the query, not a first run and a second one after its
/// failure, and not two coordinators that were given the same attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunId {
    /// The job's id.
    pub query: String,
    /// Which try at the whole query this is: the job's `attempt`.
    pub attempt: u32,
    pub pass: Pass,
    /// Drawn by each coordinator for itself.
    pub nonce: u64,
}

/// Which of the runs of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pass {
    First,
    /// In another way, after the first failed: on one node, to see whether the distribution was at fault, or without
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

/// As it travels: numbers without their names.
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

/// For people and for file names.
impl fmt::Display for OutputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}-t{}-a{}", self.task.stage.0, self.task.task, self.attempt)
    }
}

/// A part of an output that is read by itself, within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkId {
    pub output: OutputId,
    pub content: Content,
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Content {
    /// Rows of a partition of the exchange; the `sequence`-th chunk of them in this output.
    Rows { partition: u32, sequence: u32 },
    /// Which keys the task's rows have, for the runtime filters of other stages.
    KeySummary,
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Rows { partition, sequence } => write!(f, "{}, partition {partition}.{sequence}", self.output),
            Content::KeySummary => write!(f, "{}, key summary", self.output),
        }
    }
}

/// A worker process in the table of an engine's workers, which every worker has. Never used twice in the life of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerId(pub u32);

/// Where the bytes of an output are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Small outputs travel with the messages: no file, and nothing to lose with a worker.
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
    /// Whether it can be gone although the coordinator knows of it.
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

/// As it travels: numbers without their names.
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

/// The chunks of one output. A coordinator holds one such table a task, with thousands of chunks in each: 24 bytes a
/// chunk, and the two keys of each where they are sorted.
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

    /// Chunks of a range exchange, each sorted by its key, with the first and the last one: no partitions yet, and their
    /// order stays, because rows with equal keys keep theirs.
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

    /// Those of some partitions, partition by partition.
    pub fn of(&self, partitions: Range<u32>) -> &[Chunk] {
        let from = self.table.partition_point(|chunk| chunk.partition < partitions.start);
        let to = self.table.partition_point(|chunk| chunk.partition < partitions.end);
        &self.table[from..to.max(from)]
    }

    /// First and last key of the chunk at a place of `all`; none where chunks are not sorted.
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

    /// The name of the chunk at a place of `all`.
    pub fn id(&self, output: OutputId, at: usize) -> Option<ChunkId> {
        let partition = self.table.get(at)?.partition;
        let before = self.table.partition_point(|chunk| chunk.partition < partition);
        Some(ChunkId { output, content: Content::Rows { partition, sequence: (at - before) as u32 } })
    }
}

/// The first place of a run for which something holds that then holds to its end.
fn first_such(run: &Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (run.start, run.end);
    while from < to {
        let middle = from + (to - from) / 2;
        if holds(middle) { to = middle } else { from = middle + 1 }
    }
    from
}

/// First and last key of a sorted chunk. They need not be keys of the chunk, but none of its keys lies outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBounds {
    pub first: Vec<u8>,
    pub last: Vec<u8>,
}

/// Keys longer than this are cut: the coordinator holds two of each chunk.
const MAX_KEY_BYTES: usize = 256;

impl KeyBounds {
    /// Bounds of no more than some hundred bytes, however long the keys.
    pub fn new(first: &[u8], last: &[u8]) -> KeyBounds {
        KeyBounds { first: first[..first.len().min(MAX_KEY_BYTES)].to_vec(), last: rounded_up(last) }
    }
}

/// The least short key that is not below a long one; the long one itself where there is none.
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
    /// Where chunks begin that are not above those before: one run for each batch of rows that was sorted by itself.
    starts: Vec<u32>,
}

impl Bounds {
    fn push(&mut self, bounds: &KeyBounds) {
        let chunks = self.ends.len() / 2;
        let goes_on = chunks.checked_sub(1).and_then(|last| self.key(2 * last + 1)).is_some_and(|last| {
            // Equal bounds of neighbours are in order, too: both searches stay right.
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

    /// Chunks in ascending order of both their bounds; all at once where there are no bounds.
    fn runs(&self, chunks: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = move || self.starts.iter().skip(1).map(|start| *start as usize);
        [0].into_iter().chain(starts()).zip(starts().chain([chunks])).map(|(from, to)| from..to)
    }
}

/// Bytes as msgpack's own, not as a list of numbers.
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
mod tests {
    use super::*;

    fn chunk(partition: u32, offset: u64) -> Chunk {
        Chunk { partition, rows: 1, offset, len: 10 }
    }

    fn offsets<'a>(chunks: impl IntoIterator<Item = &'a Chunk>) -> Vec<u64> {
        chunks.into_iter().map(|chunk| chunk.offset).collect()
    }

    #[test]
    fn runs_of_a_query_have_names_of_their_own() {
        let run = |attempt, pass, nonce| RunId { query: "q".into(), attempt, pass, nonce };
        let first = run(1, Pass::First, 7);
        assert_eq!(first.to_string(), "q-1a-0000000000000007");
        for other in [run(2, Pass::First, 7), run(1, Pass::Second, 7), run(1, Pass::First, 8)] {
            assert_ne!(first.name(), other.name());
        }
        // The number of the attempt cannot run into the query's id.
        assert_ne!(
            run(11, Pass::First, 7).to_string(),
            RunId { query: "q-1".into(), ..run(1, Pass::First, 7) }.to_string()
        );
    }

    #[test]
    fn chunks_are_found_by_partition_in_the_order_in_which_they_were_written() {
        let chunks = Chunks::new(vec![chunk(2, 0), chunk(0, 10), chunk(2, 20), chunk(1, 30), chunk(0, 40)]);
        assert_eq!(offsets(chunks.of(0..1)), [10, 40]);
        assert_eq!(offsets(chunks.of(1..3)), [30, 0, 20]);
        assert_eq!(offsets(chunks.of(3..9)), [0u64; 0]);
        assert_eq!(chunks.bytes_by_partition().collect::<Vec<_>>(), [(0, 20), (1, 10), (2, 20)]);
        assert_eq!(chunks.bounds(0), None);
        let output = OutputId { task: TaskId { stage: StageId(3), task: 4 }, attempt: 5 };
        let names: Vec<String> = (0..5).map(|at| chunks.id(output, at).unwrap().to_string()).collect();
        assert_eq!(names[1], "s3-t4-a5, partition 0.1");
        assert_eq!(names[4], "s3-t4-a5, partition 2.1");
        assert_eq!(chunks.id(output, 5), None);
    }

    #[test]
    fn sorted_chunks_are_found_by_their_keys() {
        let keys = [("a", "c"), ("c", "f"), ("g", "m"), ("b", "d"), ("e", "e"), ("a", "z")];
        let chunk = |((first, last), at): (&(&str, &str), u64)| {
            (chunk(9, at), KeyBounds::new(first.as_bytes(), last.as_bytes()))
        };
        let all: Vec<_> = keys.iter().zip(0..).map(chunk).collect();
        let chunks = Chunks::sorted(all);
        assert_eq!(chunks.bounds.starts, [0, 3, 5]);
        assert_eq!(chunks.bounds(3), Some((&b"b"[..], &b"d"[..])));
        let bounds = ["a", "b", "c", "d", "e", "f", "g", "m", "n"].map(str::as_bytes);
        let ends = || bounds.iter().map(|key| Some(*key)).chain([None]);
        for (from, to) in ends().flat_map(|from| ends().map(move |to| (from, to))) {
            let expected: Vec<u64> = (0..keys.len())
                .filter(|at| {
                    let (first, last) = keys[*at];
                    from.is_none_or(|from| last.as_bytes() >= from) && to.is_none_or(|to| first.as_bytes() < to)
                })
                .map(|at| at as u64)
                .collect();
            assert_eq!(offsets(chunks.within(from, to)), expected, "{from:?} {to:?}");
        }
    }

    #[test]
    fn long_keys_are_cut_so_that_nothing_lies_outside() {
        let long = |fill: u8| vec![fill; 10_000];
        for key in [long(b'x'), long(0), [vec![b'k'; 200], long(0xff)].concat(), vec![b'k'; MAX_KEY_BYTES]] {
            let bounds = KeyBounds::new(&key, &key);
            assert!(bounds.first <= key && bounds.last >= key);
            assert!(bounds.first.len() <= MAX_KEY_BYTES && bounds.last.len() <= MAX_KEY_BYTES);
        }
        assert_eq!(KeyBounds::new(b"a", b"b"), KeyBounds { first: b"a".to_vec(), last: b"b".to_vec() });
        assert_eq!(KeyBounds::new(&long(0xff), &long(0xff)).last, long(0xff), "there is no greater short key");
    }

    #[test]
    fn a_table_travels() {
        let sorted = Chunks::sorted(vec![(chunk(0, 5), KeyBounds::new(b"a", b"b"))]);
        for chunks in [Chunks::new(vec![chunk(1, 0), chunk(0, 10)]), sorted, Chunks::default()] {
            assert_eq!(crate::unpack::<Chunks>(&crate::pack(&chunks).unwrap()).unwrap(), chunks);
        }
        let many = Chunks::new((0..1000).map(|at| chunk(at, u64::from(at) * 10)).collect());
        let bytes = crate::pack(&many).unwrap().len();
        assert!(bytes < 12_000, "{bytes} bytes for 1000 chunks");
    }
}
