//! The stage graph and the messages made from it: the one vocabulary that planner, scheduler, coordinator and
//! worker share. Plain data, serializable, no Polars and no IO; what only Polars understands travels as bytes.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chunk::{Chunk, Chunks, OutputId, Place, Span};
use crate::facts::{PlanOutput, StageFacts};

/// A stage's place in `StageGraph::stages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StageId(pub u32);

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One stage on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    pub stage: StageId,
    pub task: u32,
}

/// The plan of a query, cut at its exchanges. Stages stand in dependency order: inputs come before their readers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StageGraph {
    pub stages: Vec<Stage>,
    /// The stages whose outputs, read in this order, are the result (several after a union).
    pub roots: Vec<StageId>,
    /// Why nodes run on one worker, in plan order: (node, reason).
    pub single_worker: Vec<SingleWorker>,
    /// Warnings for the user (version differences, ignored options).
    pub warnings: Vec<String>,
    /// How small parts of exchanges are put together; none: they stay as they were planned.
    pub merge: Option<Merge>,
    /// What every one of several tasks may read whole, measured; none: whatever it comes to.
    #[serde(default)]
    pub broadcast_most_bytes: Option<u64>,
    /// What the query must give: one for each sink, or the one result.
    #[serde(default)]
    pub outputs: Vec<PlanOutput>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SingleWorker {
    pub stage: StageId,
    pub node: String,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    pub id: StageId,
    /// What it does, for people: "scan lineitem, filter, partial group by".
    pub label: String,
    /// The optimized IR of this stage as Polars' own serde writes it (msgpack). Its leaves are placeholders,
    /// filled per task by `LeafInput`s in the order of `leaves`.
    pub fragment: Bytes,
    /// The fragment for people: one line a node.
    pub explain: Vec<String>,
    pub leaves: Vec<Leaf>,
    pub output: Exchange,
    /// What it does instead, if a side of its join turns out small.
    pub instead: Option<Box<Instead>>,
    /// Why its tasks may give other rows when they run again on the same data, if they may.
    #[serde(default)]
    pub nondeterminism: Option<Nondeterminism>,
    /// What the planner states about it.
    #[serde(default)]
    pub facts: StageFacts,
}

/// What of a stage's rows is left to chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nondeterminism {
    /// A slice, a limit or the top of rows that stand in no order.
    UnorderedSlice,
    /// One of several rows that are equal in what counts.
    AnyOfEqualRows,
    /// An expression that looks at the places of rows which stand in no order.
    UnorderedValues,
    /// Rows in no order that are told apart by their places, here or by a reader.
    UnorderedRows,
    /// A sample, a shuffle or a rank that draws without a seed.
    NoSeed,
    /// A function that Floe cannot look into.
    UserFunction,
}

impl Nondeterminism {
    /// Whether other rows may come, and not just the same ones in another order.
    pub fn changes_rows(self) -> bool {
        match self {
            Nondeterminism::UnorderedSlice
            | Nondeterminism::AnyOfEqualRows
            | Nondeterminism::UnorderedValues
            | Nondeterminism::NoSeed
            | Nondeterminism::UserFunction => true,
            // Numbers of rows, of which there are as many.
            Nondeterminism::UnorderedRows => false,
        }
    }
}

/// For people.
impl fmt::Display for Nondeterminism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nondeterminism::UnorderedSlice => "it takes some of rows that stand in no order",
            Nondeterminism::AnyOfEqualRows => "it keeps any one of several rows",
            Nondeterminism::UnorderedValues => "it looks at the places of rows that stand in no order",
            Nondeterminism::UnorderedRows => "its rows stand in no order, and their places count",
            Nondeterminism::NoSeed => "it draws without a seed",
            Nondeterminism::UserFunction => "it calls a function that may do anything",
        })
    }
}

/// Another form of a stage that joins two sides by hash: the small one goes whole to every task of the other, whose stage
/// is part of this form. Whether it is taken is decided when that other stage is resolved, which then is left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instead {
    /// The stages of the small side, and the bytes that they may have made together.
    pub small: Vec<StageId>,
    pub bytes: u64,
    /// The stage that is left out.
    pub without: StageId,
    pub label: String,
    pub fragment: Bytes,
    pub explain: Vec<String>,
    pub leaves: Vec<Leaf>,
    /// What the planner states about this form.
    #[serde(default)]
    pub facts: StageFacts,
}

impl StageGraph {
    /// The stages that must be done before this one is cut into tasks.
    pub fn inputs(&self, stage: &Stage) -> BTreeSet<StageId> {
        let instead = stage.instead.iter().flat_map(|instead| &instead.leaves);
        let of = |leaf: &Leaf| match leaf {
            Leaf::Source { .. } => Vec::new(),
            Leaf::Exchange { stages, .. } => stages.clone(),
        };
        let mut inputs: BTreeSet<StageId> = stage.leaves.iter().chain(instead).flat_map(of).collect();
        inputs.extend(self.left_out(stage.id).iter().flat_map(|instead| &instead.small));
        inputs
    }

    /// Inputs that are read whole by the tasks of a stage that reads others in parts.
    pub fn broadcasts(&self) -> usize {
        let whole = |leaf: &&Leaf| matches!(leaf, Leaf::Exchange { read: Read::All, .. });
        let of = |stage: &Stage| match stage.leaves.iter().all(|leaf| whole(&leaf)) {
            true => 0,
            false => stage.leaves.iter().filter(whole).count(),
        };
        self.stages.iter().map(of).sum()
    }

    /// Whether the tasks of a stage may give other rows, or rows to other partitions, when they are made again: they are
    /// left to chance in it, or in a stage that it is made from.
    pub fn may_differ(&self, stage: StageId) -> bool {
        let mut open = vec![stage];
        let mut seen = BTreeSet::new();
        while let Some(stage) = open.pop().and_then(|id| self.stages.get(id.0 as usize)) {
            if stage.nondeterminism.is_some_and(Nondeterminism::changes_rows) {
                return true;
            }
            open.extend(self.inputs(stage).into_iter().filter(|input| seen.insert(*input)));
        }
        false
    }

    /// The form of another stage that would leave this one out.
    pub fn left_out(&self, stage: StageId) -> Option<&Instead> {
        self.stages.iter().filter_map(|reader| reader.instead.as_deref()).find(|instead| instead.without == stage)
    }
}

/// Where a placeholder of a fragment gets its data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Leaf {
    /// Base data (files, row groups, frames), cut at planning time: one entry a task, opaque to all but `exec`.
    Source { what: String, per_task: Vec<Bytes> },
    /// The outputs of earlier stages, read in this order.
    Exchange { stages: Vec<StageId>, read: Read },
}

/// Parts of a hash exchange that turn out small are read by one task: so many tasks stay at least, and none that gets
/// more than so many bytes is made larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    pub tasks: u32,
    pub bytes: u64,
}

/// A task that sorts holds its rows twice; one that joins or groups has a table and the rows of the other side, too.
const RANGE_SHARE: u64 = 3;

/// By so many times parts are smaller, each time that some were too large.
const FINER: u64 = 4;

impl Merge {
    /// After parts turned out too large for a worker so many times.
    pub fn finer(self, times: u32) -> Merge {
        Merge { bytes: self.bytes / FINER.saturating_pow(times), ..self }
    }

    /// The same for parts that are only sorted.
    pub fn of_ranges(self) -> Merge {
        Merge { bytes: self.bytes.saturating_mul(RANGE_SHARE), ..self }
    }
}

/// Which part of an exchange a task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Read {
    /// Task t reads partition t (or the run of partitions merged into task t) of every producing task.
    Partition,
    /// Every task reads everything (broadcast, gather).
    All,
    /// Task t reads all that the t-th producing task wrote (producers counted through `stages` in order).
    Forward,
    /// Task t reads all that the producing tasks before the t-th wrote: the rows above its own.
    Before,
    /// Task t reads all that the producing tasks after the t-th wrote: the rows below its own.
    After,
    /// Every task reads the key summaries that the producing tasks wrote beside the partitions of a hash exchange. Such leaves
    /// have no placeholder and stand behind all that do.
    Keys,
}

/// How a stage's output is laid out for its readers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Exchange {
    /// Rows with equal keys meet in one of `partitions`. The keys are the named columns of the output.
    Hash { keys: Vec<String>, partitions: u32 },
    /// Each task writes sorted chunks by the named key column; its readers get key ranges, cut when all sizes are known.
    Range { key: String, partitions: u32 },
    /// One partition a task, for `Read::All` or `Read::Forward`.
    Whole,
    /// Rows of the query's result: like `Whole`, kept until the client has read them.
    Result,
    /// Staged files of the query's sink (index into the job's sinks), committed by the coordinator.
    Sink { sink: u32 },
}

impl Exchange {
    pub fn partitions(&self) -> u32 {
        match self {
            Exchange::Hash { partitions, .. } | Exchange::Range { partitions, .. } => *partitions,
            Exchange::Whole | Exchange::Result | Exchange::Sink { .. } => 1,
        }
    }
}

/// One task as a worker gets it. The fragment is sent once a stage and worker, and named by the stage after that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskSpec {
    pub id: OutputId,
    pub leaves: Vec<LeafInput>,
    pub output: Exchange,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeafInput {
    Source(Bytes),
    /// Rows of the outputs of earlier stages, read in this order; `range` keeps only rows whose key lies in [from, to).
    /// `before` counts the rows that earlier tasks of this leaf read, for row indexes.
    Rows {
        outputs: Vec<Portion>,
        range: Option<KeyRange>,
        before: u64,
    },
    /// What earlier tasks noted of their keys.
    KeySummaries(Vec<Summary>),
}

/// What a task reads of one output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    pub output: OutputId,
    pub place: Place,
    pub chunks: Vec<Chunk>,
}

/// The key summary of one output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub output: OutputId,
    pub place: Place,
    pub span: Span,
}

/// Bounds over a row-encoded (memcomparable) binary key column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub key: String,
    pub from: Option<Bytes>,
    pub to: Option<Bytes>,
}

/// What a finished task tells.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TaskOutput {
    /// Where its bytes are, all of them together.
    pub place: Place,
    pub chunks: Chunks,
    /// Where in its bytes it notes which keys its rows have, if it was told to.
    pub summary: Option<Span>,
    pub rows: u64,
    pub bytes: u64,
    /// Bytes of its rows in memory.
    #[serde(default)]
    pub size: u64,
    /// Rows and bytes read from sources and exchanges.
    pub rows_in: u64,
    pub bytes_in: u64,
    /// Files staged for the sink, opaque to all but `sink`.
    pub staged: Vec<Bytes>,
    /// What Polars warned of while the task ran, each once.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    pub metrics: TaskMetrics,
}

/// A warning of Polars for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub text: String,
    /// Whether it is this query's for certain: tasks of several queries may run in one process.
    pub sure: bool,
}

impl TaskOutput {
    /// Some of the chunks, for a reader. Bytes that travel with the message are cut down to these.
    pub fn portion(&self, output: OutputId, mut chunks: Vec<Chunk>) -> Portion {
        let place = match &self.place {
            Place::Inline(all) => {
                let bytes = inline(all, chunks.iter().map(Chunk::span));
                let mut offset = 0;
                for chunk in &mut chunks {
                    chunk.offset = offset;
                    offset += chunk.len;
                }
                Place::Inline(bytes)
            }
            elsewhere => elsewhere.clone(),
        };
        Portion { output, place, chunks }
    }

    /// The key summary, for a reader.
    pub fn key_summary(&self, output: OutputId) -> Option<Summary> {
        let span = self.summary?;
        let (place, span) = match &self.place {
            Place::Inline(all) => (Place::Inline(inline(all, [span])), Span { offset: 0, ..span }),
            elsewhere => (elsewhere.clone(), span),
        };
        Some(Summary { output, place, span })
    }
}

/// The bytes of some spans, end to end; shared where they lie together already.
fn inline(all: &Bytes, spans: impl IntoIterator<Item = Span>) -> Bytes {
    let range = |span: Span| {
        let from = usize::try_from(span.offset).unwrap_or(usize::MAX).min(all.len());
        from..from.saturating_add(usize::try_from(span.len).unwrap_or(usize::MAX)).min(all.len())
    };
    let mut ranges = spans.into_iter().map(range);
    let Some(mut together) = ranges.next() else { return Bytes::new() };
    let mut apart: Vec<u8> = Vec::new();
    for range in ranges {
        if apart.is_empty() && range.start == together.end {
            together.end = range.end;
            continue;
        }
        if apart.is_empty() {
            apart.extend_from_slice(&all[together.clone()]);
        }
        apart.extend_from_slice(&all[range]);
    }
    if apart.is_empty() { all.slice(together) } else { Bytes::from(apart) }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskMetrics {
    pub decode_us: u64,
    pub run_us: u64,
    pub write_us: u64,
    pub peak_memory_bytes: u64,
    /// What Polars counts of its own nodes, by their kind.
    pub nodes: Vec<NodeMetrics>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeMetrics {
    pub node: String,
    /// Rows put out.
    pub rows: u64,
    /// Read from files and stores.
    pub bytes: u64,
    pub active_us: u64,
}

impl NodeMetrics {
    /// With what another one of its kind did.
    pub fn add(&mut self, other: &NodeMetrics) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.active_us += other.active_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_with_a_message_is_cut_to_what_is_read() {
        let chunk = |partition, offset, len| Chunk { partition, rows: 1, offset, len };
        let written = vec![chunk(0, 0, 2), chunk(1, 2, 3), chunk(0, 5, 1), chunk(1, 6, 2)];
        let place = Place::Inline(Bytes::from_static(b"aabbbcdd!"));
        let summary = Some(Span { offset: 8, len: 1 });
        let output = TaskOutput { place, chunks: Chunks::new(written), summary, ..TaskOutput::default() };
        let id = OutputId { task: TaskId { stage: StageId(0), task: 0 }, attempt: 0 };
        let read = |portion: Portion| {
            let Place::Inline(bytes) = portion.place else { panic!("not inline") };
            let of = |chunk: &Chunk| {
                let from = chunk.offset as usize;
                String::from_utf8(bytes[from..from + chunk.len as usize].to_vec()).unwrap()
            };
            (bytes.len(), portion.chunks.iter().map(of).collect::<Vec<_>>())
        };
        let portion = |from, to| output.portion(id, output.chunks.of(from..to).to_vec());
        assert_eq!(read(portion(0, 1)), (3, vec!["aa".to_string(), "c".into()]));
        assert_eq!(read(portion(1, 2)), (5, vec!["bbb".to_string(), "dd".into()]));
        assert_eq!(read(portion(0, 2)).1, ["aa", "c", "bbb", "dd"]);
        assert_eq!(
            read(output.portion(id, vec![chunk(0, 0, 2), chunk(1, 2, 3)])),
            (5, vec!["aa".into(), "bbb".into()])
        );
        assert_eq!(read(portion(7, 9)), (0, Vec::new()));
        let noted = output.key_summary(id).unwrap();
        assert_eq!((noted.place, noted.span), (Place::Inline(Bytes::from_static(b"!")), Span { offset: 0, len: 1 }));
    }
}
