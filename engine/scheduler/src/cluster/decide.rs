//! Turns one event into actions: applies the event and what follows from it. Admission is in `admit`, grants of slots
//! in `grant`, fair shares in `share`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::share::{Asked, shares};
use super::state::{ClusterState, Group, Kind, Lease, MILLI, Open, Query, QueryNo, Status, Worker};
use super::{Action, Demand, Event, Request};
use crate::Millis;

/// Applies one event and returns the actions to carry out, in order. Total: any event may come in any state.
pub fn decide(state: &mut ClusterState, event: Event, now: Millis) -> Vec<Action> {
    state.advance(now);
    let mut step = Step { state, caller: None, out: Vec::new() };
    step.apply(event);
    step.settle();
    step.out
}

pub(super) struct Step<'a> {
    pub state: &'a mut ClusterState,
    /// The query that reports its demand and gets an answer.
    pub caller: Option<QueryNo>,
    pub out: Vec<Action>,
}

impl Step<'_> {
    fn apply(&mut self, event: Event) {
        match event {
            Event::WorkerUp { worker, slots, memory_bytes } => self.worker_up(worker, slots, memory_bytes),
            Event::WorkerDraining { worker } => self.worker_draining(&worker),
            Event::WorkerLost { worker } => self.worker_lost(&worker),
            Event::Arrived { query, claim } => self.arrived(query, claim),
            Event::Demand { query, demand } => {
                if let Some(no) = self.state.query_index.get(&query).copied() {
                    self.caller = Some(no);
                    self.demanded(no, demand);
                }
            }
            Event::Left { query } => self.left(&query),
        }
    }

    /// Takes the actions that follow from the present state.
    fn settle(&mut self) {
        self.admit();
        self.share_out();
        if self.grant() {
            self.share_out();
        }
        if let Some(caller) = self.caller {
            self.take_back(caller);
            self.answer(caller);
        }
        self.call();
    }

    fn worker_up(&mut self, name: String, slots: u32, memory_bytes: u64) {
        let state = &mut *self.state;
        let at = match state.worker_index.get(&name) {
            Some(at) => *at,
            None => {
                let gone = state.workers.iter().position(|worker| worker.status == Status::Gone);
                gone.unwrap_or(state.workers.len())
            }
        };
        let known = state.worker_index.insert(name.clone(), at).is_some();
        let grants = state.workers.get(at).filter(|_| known).map_or(0, |worker| worker.grants);
        let worker = Worker { name, slots, memory_bytes, status: Status::Up, used: 0, reserved_for: None, grants };
        match state.workers.get_mut(at) {
            Some(place) => *place = worker,
            None => state.workers.push(worker),
        }
        for query in state.queries.values_mut() {
            if let Some(lease) = query.leases.get_mut(&at) {
                // Queries have treated it as unusable since.
                lease.announced = 0;
                lease.fresh = lease.granted.saturating_sub(lease.running);
            }
        }
        state.recount();
    }

    fn worker_draining(&mut self, name: &str) {
        let state = &mut *self.state;
        let Some(at) = state.worker_index.get(name) else { return };
        let worker = &mut state.workers[*at];
        worker.status = Status::Draining;
        worker.reserved_for = None;
        for query in state.queries.values_mut() {
            if let Some(lease) = query.leases.get_mut(at) {
                // No query knows of it yet.
                lease.granted -= std::mem::take(&mut lease.fresh);
            }
            query.leases.retain(|_, lease| lease.tasks() > 0);
        }
        state.recount();
    }

    fn worker_lost(&mut self, name: &str) {
        let state = &mut *self.state;
        let Some(at) = state.worker_index.remove(name) else { return };
        let worker = &mut state.workers[at];
        worker.status = Status::Gone;
        worker.reserved_for = None;
        for query in state.queries.values_mut() {
            query.leases.remove(&at);
            let forget = |place: &mut Option<usize>| *place = place.filter(|place| *place != at);
            for group in &mut query.open.groups {
                forget(&mut group.near);
                forget(&mut group.avoid);
            }
            query.open.slow.iter_mut().for_each(forget);
        }
        state.recount();
    }

    /// Applies a query's demand. Slots that were announced to it and that it does not use are given back.
    fn demanded(&mut self, no: QueryNo, demand: Demand) {
        let mut open = self.open(&demand);
        let state = &mut *self.state;
        let running = demand.running.iter().filter_map(|on| Some((*state.worker_index.get(&on.worker)?, on)));
        let running: BTreeMap<usize, (u32, bool)> = running.map(|(at, on)| (at, (on.tasks, on.alone))).collect();
        let Some(query) = state.queries.get_mut(&no) else { return };
        query.called = false;
        let idle = query.held == 0 && !query.waits();
        let mut places: Vec<usize> = query.leases.keys().chain(running.keys()).copied().collect();
        places.sort_unstable();
        places.dedup();
        for at in places {
            let (tasks, alone) = running.get(&at).copied().unwrap_or_default();
            state.lease(no, at, |lease| {
                let whole = lease.whole;
                lease.fresh = open.take(at, whole, lease.fresh);
                lease.running = tasks;
                lease.granted = tasks.saturating_add(lease.fresh);
                lease.whole = alone || whole && lease.fresh > 0;
            });
        }
        let others = state.queries.iter().filter(|(other, query)| **other != no && (query.held > 0 || query.waits()));
        let least_served = others.map(|(_, query)| query.served).min().unwrap_or(0);
        let Some(query) = state.queries.get_mut(&no) else { return };
        query.open = open;
        if idle && query.waits() {
            // It gets no credit for the time in which it requested nothing.
            query.served = query.served.max(least_served);
        }
    }

    fn open(&self, demand: &Demand) -> Open {
        let place =
            |worker: &Option<String>| worker.as_ref().and_then(|name| self.state.worker_index.get(name).copied());
        let group = |request: &Request| Group {
            near: place(&request.near),
            avoid: place(&request.avoid),
            tasks: request.tasks,
        };
        Open {
            groups: demand.requests.iter().filter(|request| request.tasks > 0).map(group).collect(),
            alone: demand.alone,
            slow: demand.slow.iter().map(|worker| self.state.worker_index.get(worker).copied()).collect(),
        }
    }

    /// Computes each query's weight: its claim's, or its part of its group's.
    fn weigh(&mut self) {
        let mut groups: HashMap<u64, u64> = HashMap::new();
        let grouped = |query: &Query| query.claim.group.filter(|_| query.held > 0 || query.waits());
        for (query, group) in self.state.queries.values().filter_map(|query| Some((query, grouped(query)?))) {
            *groups.entry(group.id).or_default() += u64::from(query.claim.weight.max(1));
        }
        for query in self.state.queries.values_mut() {
            query.weight = match grouped(query) {
                None => query.claim.weight,
                Some(group) => {
                    let all = groups.get(&group.id).copied().unwrap_or(1).max(1);
                    let whole = u64::from(query.claim.weight.max(1)) * u64::from(group.weight.max(1));
                    u32::try_from(whole.saturating_mul(MILLI) / all).unwrap_or(u32::MAX).max(1)
                }
            };
        }
    }

    /// Divides the slots among the queries by priority, then by weight.
    fn share_out(&mut self) {
        self.weigh();
        let state = &mut *self.state;
        let usable = || state.workers.iter().filter(|worker| worker.usable());
        let slots: u64 = usable().map(|worker| u64::from(worker.slots)).sum();
        let largest = usable().map(|worker| u64::from(worker.slots)).max().unwrap_or(1);
        let tightest = usable().filter(|worker| worker.memory_bytes > 0);
        let tightest = tightest.min_by_key(|worker| worker.memory_bytes / u64::from(worker.slots));
        let mut left = slots * MILLI;
        let (now, patience) = (state.now, state.limits.patience_ms);
        let mut starving = BTreeSet::new();
        let mut classes: BTreeMap<Reverse<i32>, Vec<(QueryNo, Asked)>> = BTreeMap::new();
        for (no, query) in &mut state.queries {
            match query.waits() && query.held == 0 {
                true => drop(query.waiting_since.get_or_insert(now)),
                false => query.waiting_since = None,
            }
            if query.starves(now, patience) && left >= MILLI {
                left -= MILLI;
                starving.insert(*no);
            }
            query.cost = tightest.map_or(1, |worker| worker.cost(&query.claim));
            let waiting = u64::from(query.unmet()) * u64::from(query.cost) + u64::from(query.open.alone) * largest;
            let amount = (u64::from(query.held) + waiting).saturating_mul(MILLI);
            let asked = Asked { amount, weight: query.weight };
            classes.entry(Reverse(query.claim.priority)).or_default().push((*no, asked));
        }
        for class in classes.values() {
            let asked: Vec<Asked> = class.iter().map(|(_, asked)| *asked).collect();
            for ((no, _), share) in class.iter().zip(shares(left, &asked)) {
                left -= share;
                if let Some(query) = state.queries.get_mut(no) {
                    query.share = share + if starving.contains(no) { MILLI } else { 0 };
                }
            }
        }
    }

    /// Queries below their share that have open requests and no worker kept free.
    pub(super) fn claimants(&self) -> Vec<QueryNo> {
        let mut kept = BTreeMap::<QueryNo, u32>::new();
        for (no, _) in self.state.workers.iter().filter_map(|worker| worker.reserved_for) {
            *kept.entry(no).or_default() += 1;
        }
        let (now, patience) = (self.state.now, self.state.limits.patience_ms);
        let claims = self.state.queries.iter().filter(|(no, query)| {
            let waits = query.unmet() > 0 || query.open.alone > kept.get(no).copied().unwrap_or(0);
            waits && (query.entitled() || query.starves(now, patience))
        });
        claims.map(|(no, _)| *no).collect()
    }

    /// How many tasks a query may keep running on a worker as tasks there end.
    fn may_go_on(&self, query: &Query, no: QueryNo, at: usize, lease: &Lease, contested: bool) -> u32 {
        let worker = &self.state.workers[at];
        let kept = worker.reserved_for.is_some_and(|(other, kind)| other != no || kind == Kind::Alone);
        if !worker.usable() || kept {
            return 0;
        }
        let over = if contested { query.held.saturating_sub(query.keeps()) } else { 0 };
        let cost = if lease.whole { worker.slots.max(1) } else { worker.cost(&query.claim) };
        lease.running.saturating_sub(over.div_ceil(cost))
    }

    /// Takes back slots that others wait for: they are not used again when their tasks end.
    fn take_back(&mut self, no: QueryNo) {
        let contested = self.claimants().iter().any(|other| *other != no);
        let Some(query) = self.state.queries.get(&no) else { return };
        let less = query.leases.iter().filter(|(_, lease)| lease.fresh == 0).map(|(at, lease)| {
            let most = self.may_go_on(query, no, *at, lease, contested);
            (*at, lease.granted.min(most))
        });
        for (at, granted) in less.collect::<Vec<_>>() {
            self.state.lease(no, at, |lease| lease.granted = granted);
        }
    }

    fn answer(&mut self, no: QueryNo) {
        let state = &mut *self.state;
        let Some(query) = state.queries.get_mut(&no) else { return };
        let mut grants = Vec::new();
        for (at, lease) in &mut query.leases {
            let fresh = std::mem::take(&mut lease.fresh) > 0;
            // No slots are left for others, even if only because it holds them all.
            let worker = &state.workers[*at];
            let whole = lease.whole || lease.granted.saturating_mul(worker.cost(&query.claim)) >= worker.slots;
            if fresh || (lease.granted, whole) != (lease.announced, lease.announced_whole) {
                let less = lease.granted < lease.announced;
                lease.announced = lease.granted;
                lease.announced_whole = whole;
                let (query, worker) = (query.name.clone(), worker.name.clone());
                grants.push((less, Action::Grant { query, worker, slots: lease.granted, whole }));
            }
        }
        // Grants that take slots back come first: a query that hears of any worker starts tasks on all that it believes
        // it has.
        grants.sort_by_key(|(less, _)| !less);
        self.out.extend(grants.into_iter().map(|(_, grant)| grant));
        query.leases.retain(|_, lease| lease.tasks() > 0);
    }

    /// Calls queries that may use more than they know, or that use slots others wait for.
    fn call(&mut self) {
        let claimants = self.claimants();
        let calls = |no: QueryNo, query: &Query| {
            let contested = claimants.iter().any(|other| *other != no);
            query.leases.iter().any(|(at, lease)| match lease.fresh {
                0 if self.state.workers[*at].usable() => {
                    lease.granted.min(lease.running) > self.may_go_on(query, no, *at, lease, contested)
                }
                0 => lease.granted > 0,
                _ => true,
            })
        };
        let quiet = self.state.queries.iter().filter(|(no, query)| !query.called && self.caller != Some(**no));
        let called: Vec<QueryNo> = quiet.filter(|(no, query)| calls(**no, query)).map(|(no, _)| *no).collect();
        for no in called {
            if let Some(query) = self.state.queries.get_mut(&no) {
                query.called = true;
                self.out.push(Action::Call { query: query.name.clone() });
            }
        }
    }
}

impl Query {
    pub(super) fn starves(&self, now: Millis, patience_ms: Millis) -> bool {
        self.waiting_since.is_some_and(|since| now.saturating_sub(since) >= patience_ms)
    }
}

impl Open {
    /// Subtracts a grant on a worker from the requests; returns how much of the grant they cover.
    fn take(&mut self, at: usize, whole: bool, granted: u32) -> u32 {
        if whole {
            let taken = granted.min(self.alone);
            self.alone -= taken;
            return taken;
        }
        let mut left = granted;
        for near in [true, false] {
            for group in self.groups.iter_mut().filter(|group| !near || group.near == Some(at)) {
                let taken = left.min(group.tasks);
                group.tasks -= taken;
                left -= taken;
            }
        }
        self.groups.retain(|group| group.tasks > 0);
        while left > 0 {
            let Some(place) = self.slow.iter().position(|first| *first != Some(at)) else { break };
            self.slow.swap_remove(place);
            left -= 1;
        }
        granted - left
    }
}
