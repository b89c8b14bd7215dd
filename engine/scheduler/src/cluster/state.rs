//! Holds the state of workers and queries, with sums over both. Every change of the slots that a query holds goes
//! through `lease`, which updates the sums.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::{Claim, Limits};
use crate::Millis;

/// Queries by the order in which they arrived.
pub(super) type QueryNo = u64;

/// Slots are shared in thousandths.
pub(super) const MILLI: u64 = 1_000;
/// What a slot held for a millisecond adds to `served` at weight 1.
const SERVED: u64 = 1 << 20;

/// The kinds of requests, in the order in which they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A worker for one task.
    Alone,
    Plain,
    /// A second attempt at a slow task, if slots are left over.
    Slow,
}

/// All queries and workers of an engine.
#[derive(Clone, Debug)]
pub struct ClusterState {
    pub(super) limits: Limits,
    /// Later workers reuse the places of those that are gone.
    pub(super) workers: Vec<Worker>,
    pub(super) worker_index: HashMap<String, usize>,
    pub(super) queries: BTreeMap<QueryNo, Query>,
    pub(super) query_index: HashMap<String, QueryNo>,
    pub(super) waiting: BTreeMap<(Reverse<i32>, QueryNo), Waiting>,
    pub(super) waiting_bytes: u64,
    pub(super) arrivals: QueryNo,
    /// By group: its last turn to start a query, as the number of queries started before.
    pub(super) turns: HashMap<u64, u64>,
    pub(super) refused: u64,
    pub(super) admitted: u64,
    pub(super) now: Millis,
}

/// Counts for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub running: u64,
    pub waiting: u64,
    /// Since the start.
    pub admitted: u64,
    pub refused: u64,
    /// Slots of workers that take tasks.
    pub slots: u64,
    /// Granted or in use.
    pub slots_used: u64,
    /// Tasks that could start and have no slot.
    pub tasks_waiting: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub query: String,
    pub claim: Claim,
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub name: String,
    pub slots: u32,
    pub memory_bytes: u64,
    pub status: Status,
    /// Slots that queries hold.
    pub used: u32,
    /// Reserved for a task of this query that needs more slots than are free now.
    pub reserved_for: Option<(QueryNo, Kind)>,
    /// Number of grants so far, which evens out the spread of short tasks.
    pub grants: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Up,
    Draining,
    Gone,
}

#[derive(Clone, Debug)]
pub(super) struct Query {
    pub name: String,
    pub claim: Claim,
    pub leases: BTreeMap<usize, Lease>,
    /// Its weight in the division of slots, as of this decision.
    pub weight: u32,
    /// Slots of all leases.
    pub held: u32,
    /// Its requests beyond what it was granted.
    pub open: Open,
    /// Its share in thousandths of a slot, as of this decision.
    pub share: u64,
    /// Slots that one of its tasks takes on the workers with the least memory per slot.
    pub cost: u32,
    /// Slots times milliseconds, divided by weight.
    pub served: u64,
    /// Since when it has waited without any slot.
    pub waiting_since: Option<Millis>,
    /// It was called and has not answered yet.
    pub called: bool,
}

/// Requests, with workers by index.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    pub groups: Vec<Group>,
    pub alone: u32,
    /// Slow tasks by the worker that they run on.
    pub slow: Vec<Option<usize>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub near: Option<usize>,
    pub avoid: Option<usize>,
    pub tasks: u32,
}

/// A query's slots on a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    /// Tasks that it may run at once.
    pub granted: u32,
    /// Of those, granted since it last reported its demand.
    pub fresh: u32,
    /// The part of `granted` that was announced to it.
    pub announced: u32,
    pub running: u32,
    /// The whole worker, for one task alone.
    pub whole: bool,
    pub announced_whole: bool,
}

impl Lease {
    pub fn tasks(&self) -> u32 {
        self.granted.max(self.running)
    }
}

impl Worker {
    pub fn usable(&self) -> bool {
        self.status == Status::Up && self.slots > 0
    }

    pub fn free(&self) -> u32 {
        if self.usable() { self.slots.saturating_sub(self.used) } else { 0 }
    }

    /// Slots that a task takes here.
    pub fn cost(&self, claim: &Claim) -> u32 {
        if claim.task_memory_bytes == 0 || self.memory_bytes == 0 {
            return 1;
        }
        // Rounded, since sizes of tasks are estimates; at most all slots, which a task that runs alone may have.
        let slots = claim.task_memory_bytes.saturating_mul(u64::from(self.slots));
        let cost = slots.saturating_add(self.memory_bytes / 2) / self.memory_bytes;
        cost.clamp(1, u64::from(self.slots.max(1))) as u32
    }

    /// Slots that a lease takes here.
    pub fn slots_of(&self, claim: &Claim, lease: &Lease) -> u32 {
        match lease.tasks() {
            0 => 0,
            tasks if lease.whole => self.slots.max(tasks),
            tasks => tasks.saturating_mul(self.cost(claim)),
        }
    }
}

impl Query {
    /// Tasks that could start and have no grant.
    pub fn unmet(&self) -> u32 {
        self.open.groups.iter().fold(0, |sum, group| sum.saturating_add(group.tasks))
    }

    pub fn waits(&self) -> bool {
        self.open.alone > 0 || self.unmet() > 0
    }

    /// Its share in whole slots.
    pub fn keeps(&self) -> u32 {
        u32::try_from(self.share / MILLI).unwrap_or(u32::MAX)
    }

    /// Whether it holds less than its share.
    pub fn entitled(&self) -> bool {
        u64::from(self.held) * MILLI < self.share
    }
}

impl ClusterState {
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { max_running: limits.max_running.max(1), ..limits };
        Self {
            limits,
            workers: Vec::new(),
            worker_index: HashMap::new(),
            queries: BTreeMap::new(),
            query_index: HashMap::new(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            arrivals: 0,
            turns: HashMap::new(),
            refused: 0,
            admitted: 0,
            now: 0,
        }
    }

    pub fn counts(&self) -> Counts {
        let usable = || self.workers.iter().filter(|worker| worker.usable());
        Counts {
            running: self.queries.len() as u64,
            waiting: self.waiting.len() as u64,
            admitted: self.admitted,
            refused: self.refused,
            slots: usable().map(|worker| u64::from(worker.slots)).sum(),
            slots_used: usable().map(|worker| u64::from(worker.used.min(worker.slots))).sum(),
            tasks_waiting: self.queries.values().map(|query| u64::from(query.unmet() + query.open.alone)).sum(),
        }
    }

    /// Slots that queries hold, by worker.
    pub fn used(&self) -> impl Iterator<Item = (&str, u32)> {
        let there = self.workers.iter().filter(|worker| worker.status != Status::Gone);
        there.map(|worker| (worker.name.as_str(), worker.used))
    }

    /// How many queries are ahead of this one, if it waits.
    pub fn ahead(&self, query: &str) -> Option<usize> {
        self.waiting.values().position(|waiting| waiting.query == query)
    }

    /// Advances the clock: adds the slots that queries hold to what they were served.
    pub(super) fn advance(&mut self, now: Millis) {
        let passed = now.saturating_sub(self.now);
        self.now += passed;
        for query in self.queries.values_mut() {
            let served = u64::from(query.held).saturating_mul(passed).saturating_mul(SERVED);
            query.served = query.served.saturating_add(served / u64::from(query.weight.max(1)));
        }
    }

    /// Changes a query's lease on a worker, and the sums with it.
    pub(super) fn lease(&mut self, no: QueryNo, at: usize, change: impl FnOnce(&mut Lease)) {
        let (Some(query), Some(worker)) = (self.queries.get_mut(&no), self.workers.get_mut(at)) else { return };
        let lease = query.leases.entry(at).or_default();
        let before = worker.slots_of(&query.claim, lease);
        change(lease);
        let after = worker.slots_of(&query.claim, lease);
        query.held = query.held - before + after;
        worker.used = worker.used - before + after;
    }

    /// Computes the sums again, after the size of a worker changed or it went.
    pub(super) fn recount(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.used = 0);
        for query in self.queries.values_mut() {
            query.held = 0;
            for (at, lease) in &query.leases {
                let worker = &mut self.workers[*at];
                let slots = worker.slots_of(&query.claim, lease);
                worker.used += slots;
                query.held += slots;
            }
        }
    }
}
