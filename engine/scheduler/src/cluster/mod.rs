//! Decides when queries start and which slots of the workers each may use: one pure, total state machine for all
//! queries of an engine, `decide(&mut ClusterState, Event, now) -> Vec<Action>`, above each query's own.
//!
//! Belongs here: admission of queries, their queue, and which query gets the next free slot. Does not belong here: what
//! a query does with its slots (`crate::decide`), and, as there, clocks, IO, threads, Polars.
//!
//! How the two fit: a query reports what it runs and could start (`State::demand`); it is granted a number of tasks to
//! run at once on each worker (`Event::Granted` of the query). Within its grants a query launches without asking.
//!
//! What holds, whatever arrives in whatever order:
//! - The slots of a worker are never granted twice: a slot that a query may use counts as used until the query has
//!   reported that it does not use it. So grants rise at any time and fall only in the answer to the query's own
//!   demand.
//! - At most `Limits::max_running` queries run at once; the others wait, by priority and then in order of arrival. More
//!   than `max_waiting` queries or `max_waiting_bytes` are refused by name.
//! - Slots are shared by priority; within one priority in proportion to the weights, and what one does not need goes to
//!   the others (max-min). Nothing that runs is stopped: lent slots come back as tasks end. While others wait for their
//!   share, no query is given more than one task beyond its own.
//! - Where queries are in groups, a group counts as one query of its weight: the next waiting query to start is of the
//!   group that runs least for its weight, of equal ones the group whose turn was longest ago; a query's weight is its
//!   part of the group's.
//! - Whole slots do not divide evenly: the slot that is left over goes to the query that was served least so far.
//! - No query starves: one that has waited for `patience_ms` without a slot gets the next one, whatever its priority.
//! - A slot stands for an equal part of its worker's memory; tasks that need more take several. A task that must run
//!   alone gets a worker that is kept free for it until it is idle.
//!
//! What the shell owes:
//! - A query arrives once under its name, reports its demand whenever that has changed and whenever it is called, and
//!   leaves at its end. It processes all grants of an answer before any other event.
//! - A query has processed all events of workers before it reports its demand: tasks reported on a lost worker would
//!   count as running on the one that came back under the same name.

mod admit;
mod decide;
mod grant;
mod share;
mod state;
#[cfg(test)]
mod tests;

pub use decide::decide;
pub use state::{ClusterState, Counts};

use floe_wire::error::QueryError;

use crate::Millis;

/// The limits on what queries may do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Queries that run at once.
    pub max_running: usize,
    /// Queries that wait for others to end.
    pub max_waiting: usize,
    /// Bytes of the jobs that wait.
    pub max_waiting_bytes: u64,
    /// A query that has waited this long without any slot gets the next one.
    pub patience_ms: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_running: 64, max_waiting: 1_000, max_waiting_bytes: 256 << 20, patience_ms: 10_000 }
    }
}

/// A group of queries, of one user or team, that have one share together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: u64,
    /// Its weight among groups. At least 1.
    pub weight: u32,
}

/// A query's claim on the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Higher goes first.
    pub priority: i32,
    /// Its weight among queries of one priority. At least 1.
    pub weight: u32,
    /// The group that it belongs to; none: it stands for itself.
    pub group: Option<Group>,
    /// Memory that one of its tasks was planned to take, in bytes. 0: no more than a slot's part of the worker.
    pub task_memory_bytes: u64,
    /// Size in bytes of the job, which the coordinator holds while it waits.
    pub job_bytes: u64,
}

impl Default for Claim {
    fn default() -> Self {
        Self { priority: 0, weight: 1, group: None, task_memory_bytes: 0, job_bytes: 0 }
    }
}

/// A query's demand: what it runs, and what it could start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Attempts that were launched and have not ended, by worker; none on workers not listed.
    pub running: Vec<Running>,
    /// Tasks that could start now.
    pub requests: Vec<Request>,
    /// Tasks that could start now and must run alone on a worker.
    pub alone: u32,
    /// Slow tasks, by the worker that each runs on: a second attempt would go elsewhere, if slots are left over.
    pub slow: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub worker: String,
    pub tasks: u32,
    pub alone: bool,
}

/// Tasks that would start in the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Best on this worker, which holds most of what they read.
    pub near: Option<String>,
    /// Better elsewhere: they failed on this worker.
    pub avoid: Option<String>,
    pub tasks: u32,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A worker joined, or its size changed. `memory_bytes` is 0 if it is not known.
    WorkerUp {
        worker: String,
        slots: u32,
        memory_bytes: u64,
    },
    /// The worker gets no more tasks.
    WorkerDraining {
        worker: String,
    },
    WorkerLost {
        worker: String,
    },
    Arrived {
        query: String,
        claim: Claim,
    },
    Demand {
        query: String,
        demand: Demand,
    },
    /// The query has ended or was withdrawn.
    Left {
        query: String,
    },
}

#[derive(Clone, Debug)]
pub enum Action {
    /// The query may start.
    Admit { query: String },
    /// There is no room for the query, not even to wait.
    Refuse { query: String, error: QueryError },
    /// Answers a demand: the query may run `slots` tasks at once on that worker. `whole`: nothing of other queries runs
    /// there.
    Grant { query: String, worker: String, slots: u32, whole: bool },
    /// The query must report its demand again: it may use more slots, or must give some back.
    Call { query: String },
}
