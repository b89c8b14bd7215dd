//! Decides which task runs where and when, what is retried, and how a query ends: one pure, total state machine for one
//! query, `decide(&mut State, Event, now) -> Vec<Action>`.
//!
//! Belongs here: rules. Does not belong here: clocks, IO, threads, Polars, protobuf. The coordinator feeds events in
//! and carries the actions out, in order; whole clusters with faults are simulated in `tests/simulation.rs`.
//!
//! What holds, whatever arrives in whatever order:
//! - A stage is resolved when the outputs of all its inputs are there, and a task is launched when those it reads are.
//! - Work is wanted from the result backwards: a task is wanted if its stage is a target or an unfinished reader wants
//!   its output. Lost outputs are made again if and only if they are wanted (`lineage`).
//! - Outputs of two runs of the same task are never mixed in a result, if the graph says that they may differ.
//! - One attempt wins a task. Messages about attempts that are not running are ignored, so late and duplicate ones
//!   change nothing.
//! - Every retry is counted against a limit (`Limits`), so every query ends. `Finish` comes once, nothing after it.
//! - A worker runs at most as many tasks as were granted there. Grants come from `cluster`, which knows all queries.
//!
//! What the shell owes:
//! - A worker that comes back under its old name is first reported lost.
//! - `WakeAt(t)` replaces the one before; a `Tick` at or after `t` answers it. The first event (a `Tick` will do)
//!   starts the query.
//! - `Resolve` is answered by `Resolved`, `LeftOut` or `ResolveFailed`; `State` is the `Catalog` of the outputs to look at.
//! - What a task reads is looked up in that catalog when it is launched, and not before: outputs may have been made again
//!   since the stage was resolved. The ranges and the task count of the first resolution stay, else tasks of one stage
//!   would cut the data differently.
//! - `Release` drops every file of that stage, those of losing attempts too; `Cancel` makes the attempt stop.
//! - A worker that cannot take a `Launch` sends `TaskFailed` with `LostWorker`. `Progress` is sent as long as an
//! attempt runs, changed or not: once heard, a silent attempt is replaced after `Limits::silent_ms`.
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
use floe_wire::graph::{StageId, TaskId};
use floe_wire::task::TaskOutput;

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
    /// A worker is ready; until the next `Granted`, `slots` tasks of this query may run there at once, and none of
    /// other queries.
    WorkerUp {
        worker: String,
        slots: u32,
    },
    /// `slots` tasks of this query may run there at once; `whole`: and none of other queries. Tasks beyond that go on.
    Granted {
        worker: String,
        slots: u32,
        whole: bool,
    },
    /// It finishes its tasks and gets no more; its outputs can still be read.
    WorkerDraining {
        worker: String,
    },
    /// It is gone, with its running tasks and its outputs.
    WorkerLost {
        worker: String,
    },
    /// Answers the request with the same `finer`.
    Resolved {
        stage: StageId,
        finer: u32,
        tasks: Vec<ResolvedInputs>,
    },
    /// Answers the request with the same `finer`: the stage has no tasks, since its reader runs in its adaptive form.
    LeftOut {
        stage: StageId,
        finer: u32,
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
    /// A reader could not fetch these inputs, though their worker may still be connected.
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
    /// Cut this stage into tasks; `finer`: how often its tasks were too large, and must get smaller.
    Resolve {
        stage: StageId,
        finer: u32,
    },
    Launch {
        task: TaskId,
        attempt: u32,
        worker: String,
        /// Nothing else runs on that worker meanwhile, so that the task may use all its memory.
        alone: bool,
    },
    Cancel {
        task: TaskId,
        attempt: u32,
        worker: String,
    },
    /// No task needs the outputs of this stage any more. (Losses may bring the stage back, and another `Release`.)
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

/// A task of the result, with the attempt that won.
#[derive(Clone, Debug)]
pub struct Won {
    pub task: TaskId,
    pub attempt: u32,
    pub worker: String,
    pub output: TaskOutput,
}
