//! The stage graph and the messages made from it: the one vocabulary that planner, scheduler, coordinator and
//! worker share. Plain data, serializable, no Polars and no IO; what only Polars understands travels as bytes.

use std::collections::BTreeSet;
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
    /// Why nodes run on one worker, in plan order.
    pub single_worker: Vec<SingleWorker>,
    /// Warnings for the user (version differences, ignored options).
    pub warnings: Vec<String>,
    /// Changes that the planner made to the plan as it was written, and why (for `floe explain`).
    #[serde(default)]
    pub notes: Vec<String>,
    /// How small partitions are coalesced; none: they stay as they were planned.
    pub coalescing: Option<Coalescing>,
    /// Largest broadcast, in measured bytes, that several tasks may read; none: no limit.
    #[serde(default)]
    pub max_broadcast_bytes: Option<u64>,
    /// What the query must deliver: one for each sink, or the one result.
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
    /// Its label: "scan lineitem, filter, partial group by".
    pub label: String,
    /// The optimized IR of this stage as Polars' own serde writes it (msgpack). Its leaves are placeholders,
    /// filled per task by `LeafInput`s in the order of `leaves`.
    pub fragment: Bytes,
    /// The fragment as `floe explain` prints it, one line per node.
    pub explain: Vec<String>,
    pub leaves: Vec<Leaf>,
    pub output: Exchange,
    /// Its adaptive form: a broadcast join, if a side of its hash join turns out small.
    pub adaptive: Option<Box<AdaptiveForm>>,
    /// Why its tasks may give different rows when they run again on the same data, if they may.
    #[serde(default)]
    pub nondeterminism: Option<Nondeterminism>,
    /// What the planner states about it.
    #[serde(default)]
    pub facts: StageFacts,
}

/// What makes a stage's rows vary from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nondeterminism {
    /// A slice, a limit or the top of unordered rows.
    UnorderedSlice,
    /// Any one of several rows that are equal in the columns that count.
    AnyOfEqualRows,
    /// An expression that depends on the positions of unordered rows.
    UnorderedValues,
    /// Unordered rows that are numbered or paired by position, here or by a reader.
    UnorderedRows,
    /// A sample, a shuffle or a rank that draws without a seed.
    NoSeed,
    /// A function that Floe cannot look into.
    UserFunction,
}

impl Nondeterminism {
    /// Whether the rows may differ, not just their order.
    pub fn changes_rows(self) -> bool {
        match self {
            Nondeterminism::UnorderedSlice
            | Nondeterminism::AnyOfEqualRows
            | Nondeterminism::UnorderedValues
            | Nondeterminism::NoSeed
            | Nondeterminism::UserFunction => true,
            // Only the numbering of rows differs, not their count.
            Nondeterminism::UnorderedRows => false,
        }
    }
}

/// Prints the reason for messages.
impl fmt::Display for Nondeterminism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nondeterminism::UnorderedSlice => "it takes some rows of an unordered input",
            Nondeterminism::AnyOfEqualRows => "it keeps any one of several equal rows",
            Nondeterminism::UnorderedValues => "it depends on the positions of unordered rows",
            Nondeterminism::UnorderedRows => "its rows are unordered, and a reader depends on their positions",
            Nondeterminism::NoSeed => "it draws without a seed",
            Nondeterminism::UserFunction => "it calls a user's function",
        })
    }
}

/// The broadcast form of a hash join: the small side goes whole to every task of the large one, whose stage becomes
/// part of this form. The choice is made when the large side's stage is resolved; if this form is chosen, that stage is
/// left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdaptiveForm {
    /// The stages of the small side; together they may have written at most `bytes`.
    pub small: Vec<StageId>,
    pub bytes: u64,
    /// The stage that is left out if this form is chosen.
    pub replaces: StageId,
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
        let adaptive = stage.adaptive.iter().flat_map(|form| &form.leaves);
        let of = |leaf: &Leaf| match leaf {
            Leaf::Source { .. } => Vec::new(),
            Leaf::Exchange { stages, .. } => stages.clone(),
        };
        let mut inputs: BTreeSet<StageId> = stage.leaves.iter().chain(adaptive).flat_map(of).collect();
        inputs.extend(self.left_out(stage.id).iter().flat_map(|form| &form.small));
        inputs
    }

    /// The number of inputs that are read whole by tasks that read other inputs in parts.
    pub fn broadcasts(&self) -> usize {
        let whole = |leaf: &&Leaf| matches!(leaf, Leaf::Exchange { read: Read::All, .. });
        let of = |stage: &Stage| match stage.leaves.iter().all(|leaf| whole(&leaf)) {
            true => 0,
            false => stage.leaves.iter().filter(whole).count(),
        };
        self.stages.iter().map(of).sum()
    }

    /// Whether the tasks of a stage may give other rows, or rows to other partitions, when they run again: because this
    /// stage, or one that it is made from, is nondeterministic.
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

    /// The adaptive form of another stage that would replace this one.
    pub fn left_out(&self, stage: StageId) -> Option<&AdaptiveForm> {
        self.stages.iter().filter_map(|reader| reader.adaptive.as_deref()).find(|form| form.replaces == stage)
    }
}

/// Where a placeholder of a fragment gets its data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Leaf {
    /// Base data (files, row groups, frames), cut at planning time: one entry per task, opaque to all but `exec`.
    Source { what: String, per_task: Vec<Bytes> },
    /// The outputs of earlier stages, read in this order.
    Exchange { stages: Vec<StageId>, read: Read },
}

/// Partition coalescing: one task reads several small partitions of a hash exchange. Keep at least `min_tasks` tasks;
/// never coalesce past `max_bytes` per task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coalescing {
    pub min_tasks: u32,
    pub max_bytes: u64,
}

/// Tasks that only sort may read this many times the bytes: a sort holds its rows twice; a join or group-by also holds
/// a hash table and the rows of the other side.
const RANGE_SHARE: u64 = 3;

/// Divides `max_bytes` by this each time a task of the stage runs out of memory.
const OOM_RECUT_DIVISOR: u64 = 4;

impl Coalescing {
    /// The limits after tasks of the stage ran out of memory `times` times.
    pub fn finer(self, times: u32) -> Coalescing {
        Coalescing { max_bytes: self.max_bytes / OOM_RECUT_DIVISOR.saturating_pow(times), ..self }
    }

    /// The limits for partitions that are only sorted.
    pub fn of_ranges(self) -> Coalescing {
        Coalescing { max_bytes: self.max_bytes.saturating_mul(RANGE_SHARE), ..self }
    }
}

/// Which part of an exchange a task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Read {
    /// Task t reads partition t (or the partitions coalesced into task t) of every producing task.
    Partition,
    /// Every task reads everything (broadcast, gather).
    All,
    /// Task t reads all that the t-th producing task wrote (producers counted through `stages` in order).
    Forward,
    /// Each task reads all that a run of neighbouring producing tasks wrote, in their order: as many of them as come to
    /// about `bytes` in memory.
    Neighbours { bytes: u64 },
    /// Task t reads all that the producing tasks before the t-th wrote: the rows above its own.
    Before,
    /// Task t reads all that the producing tasks after the t-th wrote: the rows below its own.
    After,
    /// Every task reads the key summaries that the producing tasks wrote with the partitions of a hash exchange. Such
    /// leaves have no placeholder and come after all leaves that have one.
    KeySummaries,
}

/// How a stage's output is laid out for its readers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Exchange {
    /// Rows with equal keys are in the same one of `partitions`. The keys are the named columns of the output.
    Hash { keys: Vec<String>, partitions: u32 },
    /// Each task writes chunks sorted by the named key column; readers get key ranges, cut once all sizes are known.
    Range { key: String, partitions: u32 },
    /// One partition per task, for `Read::All`, `Read::Forward` or `Read::Neighbours`.
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
