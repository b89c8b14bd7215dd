//! The faults of a stage graph.

use crate::facts::Column;
use crate::graph::StageId;

/// One fault of a graph. Every one is a fault of the planner, never of the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("the stage at place {place} is called {id}")]
    Misplaced { place: u32, id: StageId },
    #[error("stage {reader} reads stage {input}, which does not exist")]
    UnknownInput { reader: StageId, input: StageId },
    #[error("stage {reader} reads stage {input}, which does not come before it")]
    InputAfterReader { reader: StageId, input: StageId },
    #[error("leaf {leaf} of stage {stage} has nothing to read")]
    EmptyLeaf { stage: StageId, leaf: usize },
    #[error("stage {stage} has {leaves} leaves for {placeholders} placeholders of its fragment")]
    LeafCount { stage: StageId, leaves: usize, placeholders: usize },
    #[error("leaf {leaf} of stage {stage} reads a key summary and stands before a leaf that fills a placeholder")]
    KeyLeafNotLast { stage: StageId, leaf: usize },
    #[error("leaf {leaf} of stage {stage} expects other columns than stage {input} writes: {}", diff(.expected, .written))]
    LeafColumns { stage: StageId, leaf: usize, input: StageId, expected: Vec<Column>, written: Vec<Column> },

    #[error("stage {stage} exchanges its rows by \"{key}\", which its output does not have")]
    MissingExchangeKey { stage: StageId, key: String },
    #[error("stage {stage} exchanges its rows by no key")]
    NoExchangeKey { stage: StageId },
    #[error("stage {stage} exchanges its rows into no partitions")]
    NoPartitions { stage: StageId },
    #[error("leaf {leaf} of stage {stage} reads partitions of stage {input}, which makes none")]
    NotPartitioned { stage: StageId, leaf: usize, input: StageId },
    #[error(
        "leaf {leaf} of stage {stage} reads ranges of stages {one} and {other}, which are exchanged in different ways"
    )]
    MixedExchanges { stage: StageId, leaf: usize, one: StageId, other: StageId },
    #[error("stage {stage} makes partitions that nobody reads one by one")]
    PartitionsUnread { stage: StageId },
    #[error("stage {reader} reads stage {input}, whose rows leave the query")]
    OutputRead { reader: StageId, input: StageId },
    #[error(
        "stages {left} and {right} are joined in stage {stage} with {left_partitions} and {right_partitions} partitions"
    )]
    PartitionCounts { stage: StageId, left: StageId, right: StageId, left_partitions: u32, right_partitions: u32 },
    #[error(
        "stages {left} and {right} are joined in stage {stage} by keys of the types ({}) and ({})",
        .left_types.join(", "), .right_types.join(", ")
    )]
    KeyTypes { stage: StageId, left: StageId, right: StageId, left_types: Vec<String>, right_types: Vec<String> },
    #[error("leaves {one} and {other} of stage {stage} are cut into different tasks")]
    TaskCounts { stage: StageId, one: usize, other: usize },
    #[error("stage {stage} is planned with {planned} tasks, and its leaves are cut into {cut}")]
    PlannedTasks { stage: StageId, planned: u32, cut: u32 },
    #[error("nobody reads stage {stage}")]
    Unread { stage: StageId },

    #[error("leaf {leaf} of stage {stage} is broadcast to {tasks} tasks without a limit")]
    UnlimitedBroadcast { stage: StageId, leaf: usize, tasks: u32 },
    #[error("leaf {leaf} of stage {stage} is broadcast with {expected_bytes} bytes expected and {limit_bytes} allowed")]
    BroadcastOverLimit { stage: StageId, leaf: usize, expected_bytes: u64, limit_bytes: u64 },

    #[error("the query has no output")]
    NoRoots,
    #[error("the query's output is stage {root}, which does not exist")]
    UnknownRoot { root: StageId },
    #[error("stage {root} is twice in the query's output")]
    RepeatedRoot { root: StageId },
    #[error("stage {root} is the query's output, and exchanges its rows")]
    RootExchanges { root: StageId },
    #[error("stage {stage} writes the query's output and is none of its roots")]
    NotARoot { stage: StageId },
    #[error("stage {stage} writes sink {sink}; the query has {outputs} output(s)")]
    SinkOutOfRange { stage: StageId, sink: u32, outputs: usize },
    #[error("no stage writes output {output} of the query")]
    OutputUnwritten { output: usize },
    #[error("stage {stage} gives the user the hidden column \"{column}\"")]
    HiddenColumn { stage: StageId, column: String },
    #[error("stage {stage} gives the user other columns than the plan: {}", diff(.expected, .written))]
    OutputColumns { stage: StageId, expected: Vec<Column>, written: Vec<Column> },
    #[error("stage {stage} gives the user rows in any order, and Polars promises one")]
    OrderLost { stage: StageId },
    #[error("stage {stage} is in order of \"{tag}\", which its output does not have")]
    MissingOrderTag { stage: StageId, tag: String },
    #[error("stage {stage} claims the order that Polars promises, and no node gives it: {why}")]
    OrderNotGiven { stage: StageId, why: String },

    #[error("stage {stage} reads a key summary of stage {input}, which writes none")]
    NoKeySummary { stage: StageId, input: StageId },
    #[error("nobody reads the key summary of stage {stage}")]
    KeySummaryUnread { stage: StageId },
    #[error("stage {stage} writes a summary of the key \"{key}\", which its output does not have")]
    MissingSummaryKey { stage: StageId, key: String },
    #[error("stage {stage} filters by the key \"{key}\", which its output does not have")]
    MissingFilterKey { stage: StageId, key: String },
    #[error("stage {stage} has {filters} runtime filters, and reads {leaves} key summaries")]
    KeyFilterCount { stage: StageId, filters: usize, leaves: usize },

    #[error("the adaptive form of stage {stage} {fault}")]
    AdaptiveForm { stage: StageId, fault: AdaptiveFault },

    #[error("a node is said to run on one worker in stage {stage}, which does not exist")]
    UnknownSingleWorker { stage: StageId },
    #[error("the fragment of stage {stage} cannot be read: {error}")]
    FragmentUnreadable { stage: StageId, error: String },
    #[error("the fragment of stage {stage} has {found} leaves and is said to have {stated}")]
    FragmentLeaves { stage: StageId, found: usize, stated: usize },
    #[error("the fragment of stage {stage} is not what is said of it: {}", diff(.stated, .found))]
    FragmentColumns { stage: StageId, stated: Vec<Column>, found: Vec<Column> },
    #[error("a join in stage {stage} has rows with equal keys in different tasks: {why}")]
    JoinApart { stage: StageId, why: String },
    #[error("a group-by, unique or window in stage {stage} has rows with equal keys in different tasks: {why}")]
    GroupsApart { stage: StageId, why: String },
    #[error("stage {stage} gives the user partial groups, which no stage has combined")]
    PartialGroups { stage: StageId },
}

/// A fault of a stage's adaptive form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdaptiveFault {
    #[error("leaves out stage {0}, which the planned form does not read")]
    LeavesOutUnread(StageId),
    #[error("leaves out stage {left_out}, which stage {reader} reads too")]
    LeavesOutShared { left_out: StageId, reader: StageId },
    #[error("leaves out stage {0} and reads it all the same")]
    ReadsLeftOut(StageId),
    #[error("is chosen by the size of no stage")]
    MeasuresNothing,
    #[error("is chosen by the size of stage {0}, which the planned form does not read")]
    MeasuresUnread(StageId),
    #[error("is chosen by the size of stage {measured}, which does not come before stage {left_out}")]
    MeasuredTooLate { measured: StageId, left_out: StageId },
    #[error("is taken whatever the size of the side that it broadcasts")]
    NoLimit,
    #[error("gives other columns: {}", diff(.planned, .adaptive))]
    OtherColumns { planned: Vec<Column>, adaptive: Vec<Column> },
    #[error("broadcasts with a limit of {bound_bytes} bytes where {limit_bytes} are measured against")]
    OtherLimit { bound_bytes: u64, limit_bytes: u64 },
}

impl Finding {
    /// The rule that was broken, for tools.
    pub fn rule(&self) -> String {
        // The variant's own name, in kebab case.
        let debug = format!("{self:?}");
        let name = debug.split([' ', '{', '(']).next().unwrap_or_default();
        let mut rule = String::with_capacity(name.len() + 4);
        for (at, c) in name.char_indices() {
            if c.is_ascii_uppercase() && at > 0 {
                rule.push('-');
            }
            rule.push(c.to_ascii_lowercase());
        }
        rule
    }
}

/// The first difference of two lists of columns.
fn diff(expected: &[Column], found: &[Column]) -> String {
    let show = |column: Option<&Column>| match column {
        Some(Column { name, dtype }) => format!("\"{name}\" ({dtype})"),
        None => "nothing".to_owned(),
    };
    let longest = expected.len().max(found.len());
    match (0..longest).find(|at| expected.get(*at) != found.get(*at)) {
        Some(at) => {
            format!("column {at} should be {}, and is {}", show(expected.get(at)), show(found.get(at)))
        }
        None => "no difference".to_owned(),
    }
}
