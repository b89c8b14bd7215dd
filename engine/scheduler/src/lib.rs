//! Which task runs where and when, what is tried again, and how a query ends: one pure, total state machine for one
//! query, `decide(&mut State, Event, now) -> Vec<Action>`.
//!
//! Belongs here: rules. Does not belong here: clocks, IO, threads, Polars, protobuf. The coordinator feeds events in
//! and carries the actions out, in order; whole clusters with faults are simulated in `tests/simulation.rs`.
//!
//! What holds, whatever arrives in whatever order:
//! - A stage is resolved when the outputs of all its inputs are there, and a task is launched when those it reads are.
//! - Work is wanted from the result backwards: a task is wanted if its stage is a target or an unfinished reader wants
//!   its output. Lost outputs are made again if and only if they are wanted (`lineage`).
//! - What is made from two runs of the same task never meets in a result, if the graph says that they may differ.
//! - One attempt wins a task. Messages about attempts that are not running are ignored, so late and duplicate ones
//!   change nothing.
//! - Every retry is counted against a limit (`Limits`), so every query ends. `Finish` comes once, nothing after it.
//! - On a worker run at most as many tasks as it was granted there. Who grants is `cluster`, which knows all queries.
//!
//! What the shell owes:
//! - A worker that comes back under its old name is first reported lost.
//! - `WakeAt(t)` replaces the one before; a `Tick` at or after `t` answers it. The first event (a `Tick` will do)
//!   starts the query.
//! - `Resolve` is answered by `Resolved` or `ResolveFailed`; `State` is the `Catalog` of the outputs to look at.
//! - What a task reads is looked up in that catalog when it is launched, and not before: outputs may have been made again
//!   since the stage was resolved. The ranges and the task count of the first resolution stay, else tasks of one stage
//!   would cut the data differently.
//! - `Release` drops every file of that stage, those of losing attempts too; `Cancel` makes the attempt stop.
//! - A worker that cannot take a `Launch` says `TaskFailed` with `LostWorker`. `Progress` is sent as long as an attempt
//!   runs, changed or not: once heard, a silent attempt is replaced after `Limits::silent_ms`.
//!
//! The simulation was checked by mutation: rules were broken by hand, and it had to notice (`tests/mod.rs` lists them).

mod attempts;
mod build;
pub mod cluster;
mod decide;
mod demand;
mod finer;
mod lineage;
mod place;
mod progress;
mod retry;
mod state;
#[cfg(test)]
mod tests;

pub use decide::decide;
pub use progress::{Counters, Snapshot, StagePhase, StageProgress};
pub use retry::Limits;
pub use state::State;

use std::sync::Arc;

use floe_wire::chunk::OutputId;
use floe_wire::error::QueryError;
use floe_wire::graph::{StageId, TaskId, TaskOutput};

/// Milliseconds since any fixed moment.
pub type Millis = u64;

/// What a task of a resolved stage reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedInputs {
    /// In ascending order, each once. Tasks that read the same may share the list.
    pub inputs: Arc<[TaskId]>,
    /// Bytes read of each input, in the same order. Empty: unknown, and then whole outputs count for locality.
    pub bytes: Vec<u64>,
}

impl From<Vec<TaskId>> for ResolvedInputs {
    fn from(inputs: Vec<TaskId>) -> Self {
        Self { inputs: inputs.into(), bytes: Vec::new() }
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A worker is ready; until `Granted` says otherwise, so many tasks of this query may run there at once, and none of
    /// others.
    WorkerUp {
        worker: String,
        slots: u32,
    },
    /// So many tasks of this query may run there at once; `whole`: and none of others. What runs beyond that goes on.
    Granted {
        worker: String,
        slots: u32,
        whole: bool,
    },
    /// It finishes what it has and gets nothing new; what it holds can still be read.
    WorkerDraining {
        worker: String,
    },
    /// It is gone, with what ran there and the outputs it held.
    WorkerLost {
        worker: String,
    },
    /// Of the request with the same `finer`.
    Resolved {
        stage: StageId,
        finer: u32,
        tasks: Vec<ResolvedInputs>,
    },
    ResolveFailed {
        stage: StageId,
        error: QueryError,
    },
    Started {
        task: TaskId,
        attempt: u32,
        worker: String,
    },
    Progress {
        task: TaskId,
        attempt: u32,
        worker: String,
        rows: u64,
        bytes: u64,
    },
    TaskDone {
        task: TaskId,
        attempt: u32,
        worker: String,
        output: TaskOutput,
    },
    TaskFailed {
        task: TaskId,
        attempt: u32,
        worker: String,
        error: QueryError,
    },
    /// A reader could not fetch these inputs: they are gone where they were, though their worker may live.
    InputsLost {
        task: TaskId,
        attempt: u32,
        worker: String,
        lost: Vec<OutputId>,
    },
    Cancel,
    DeadlineReached,
    Tick,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Cut this stage into tasks, into smaller ones each time that some were too large.
    Resolve {
        stage: StageId,
        finer: u32,
    },
    Launch {
        task: TaskId,
        attempt: u32,
        worker: String,
        /// Nothing else runs on that worker meanwhile: it may have all its memory.
        alone: bool,
    },
    Cancel {
        task: TaskId,
        attempt: u32,
        worker: String,
    },
    /// Nobody needs the outputs of this stage any more. (Losses may bring the stage back, and another `Release`.)
    Release {
        stage: StageId,
    },
    WakeAt(Millis),
    Finish {
        result: Outcome,
    },
}

/// How a query ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// For each root of the graph in order, then for each sink stage that is no root: its tasks in order.
    Succeeded {
        outputs: Vec<Vec<Won>>,
    },
    Failed(QueryError),
    Cancelled,
}

/// A task of a result with the attempt that counts.
#[derive(Clone, Debug)]
pub struct Won {
    pub task: TaskId,
    pub attempt: u32,
    pub worker: String,
    pub output: TaskOutput,
}
