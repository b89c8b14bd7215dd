//! The stage graph and the messages made from it: the one vocabulary that planner, scheduler, coordinator and
//! worker share. Plain data, serializable, no Polars and no IO; what only Polars understands travels as bytes.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
    /// What the planner states about it.
    #[serde(default)]
    pub facts: StageFacts,
}

/// Another form of a stage that joins two sides by hash: the small one goes whole to every task of the other, whose stage
/// is part of this form. Taken when that stage is cut, and seen afterwards by its having no tasks.
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

    /// The form of another stage that would leave this one out.
    pub fn left_out(&self, stage: StageId) -> Option<&Instead> {
        self.stages.iter().filter_map(|reader| reader.instead.as_deref()).find(|instead| instead.without == stage)
    }

    /// The other form of a stage, if it was taken.
    pub fn taken<'a>(&'a self, stage: StageId, done: &HashMap<StageId, Vec<TaskOutput>>) -> Option<&'a Instead> {
        let instead = self.stages.get(stage.0 as usize)?.instead.as_deref()?;
        done.get(&instead.without).is_some_and(Vec::is_empty).then_some(instead)
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
    /// Every task reads what the producing tasks noted of their keys beside the partitions of a hash exchange. Such leaves
    /// have no placeholder and stand behind all that do.
    Keys,
}

/// The partition under which a task's output has the notes of its keys.
pub const KEYS: u32 = u32::MAX;

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
    pub id: TaskId,
    pub attempt: u32,
    pub leaves: Vec<LeafInput>,
    pub output: Exchange,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeafInput {
    Source(Bytes),
    /// Read in this order; `range` keeps only rows whose key lies in [from, to). `before` counts the rows that
    /// earlier tasks of this leaf read, for row indexes.
    Pieces {
        pieces: Vec<Piece>,
        range: Option<KeyRange>,
        before: u64,
    },
}

/// Bounds over a row-encoded (memcomparable) binary key column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub key: String,
    pub from: Option<Bytes>,
    pub to: Option<Bytes>,
}

/// One readable part of a task's output: an IPC file, alone or inside a larger one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    pub at: Location,
    pub offset: u64,
    pub len: u64,
    pub rows: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// Small outputs travel with the messages: no file, and nothing to lose with a worker.
    Inline(Bytes),
    /// A file in a worker's scratch. `path` for readers that see the same file system, `url` for the others.
    Worker { worker: String, path: String, url: String },
    /// A file in the query's scratch prefix of an object store (or a shared file system).
    Store { uri: String },
}

/// What a finished task tells.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TaskOutput {
    /// By partition of the exchange; for `Range` by sorted chunk. `KEYS`: notes of the keys, no rows.
    pub pieces: Vec<PieceOut>,
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PieceOut {
    pub partition: u32,
    pub piece: Piece,
    /// First and last key of a `Range` chunk.
    pub bounds: Option<(Bytes, Bytes)>,
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
