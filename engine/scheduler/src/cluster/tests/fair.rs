//! Checks what must hold after every decision of the cluster scheduler, computed independently: its sums, and the fair
//! shares, by bisection where the scheduler divides.

use std::collections::BTreeMap;

use crate::Millis;
use crate::cluster::state::{ClusterState, Query, QueryNo};

/// The scheduler's own books, counted again.
pub fn check_books(state: &ClusterState) {
    let mut used = vec![0; state.workers.len()];
    for (no, query) in &state.queries {
        let mut held = 0;
        for (at, lease) in &query.leases {
            let slots = state.workers[*at].slots_of(&query.claim, lease);
            held += slots;
            used[*at] += slots;
            assert!(lease.tasks() > 0 || lease.announced > 0, "{} has an empty lease", query.name);
        }
        assert_eq!(query.held, held, "slots of {}", query.name);
        assert_eq!(state.query_index.get(&query.name), Some(no));
    }
    for (worker, used) in state.workers.iter().zip(used) {
        assert_eq!(worker.used, used, "slots used of {}", worker.name);
        assert!(worker.used <= worker.slots || !worker.usable(), "{} is oversubscribed: {worker:?}", worker.name);
    }
    assert!(state.queries.len() <= state.limits.max_running, "too many queries run");
    assert!(state.queries.len() == state.limits.max_running || state.waiting.is_empty(), "queries wait for nothing");
    assert!(state.waiting.len() <= state.limits.max_waiting, "too many queries wait");
    let bytes: u64 = state.waiting.values().map(|waiting| waiting.claim.job_bytes).sum();
    assert_eq!(state.waiting_bytes, bytes);
}

/// The most slots that one task of a query takes.
fn cost(state: &ClusterState, query: &Query) -> f64 {
    let usable = state.workers.iter().filter(|worker| worker.usable());
    usable.map(|worker| worker.cost(&query.claim)).max().unwrap_or(1).into()
}

/// Slots that each query should have, by priority, weight and how long it has waited.
fn ideal(state: &ClusterState) -> BTreeMap<QueryNo, f64> {
    let usable = || state.workers.iter().filter(|worker| worker.usable());
    let largest: f64 = usable().map(|worker| f64::from(worker.slots)).fold(0.0, f64::max);
    let mut left: f64 = usable().map(|worker| f64::from(worker.slots)).sum();
    let mut ideal = BTreeMap::new();
    // A slot for each of those that have waited too long comes first.
    let mut starving = Vec::new();
    for (no, query) in &state.queries {
        if left >= 1.0 && query.starves(state.now, state.limits.patience_ms) {
            left -= 1.0;
            starving.push(*no);
        }
    }
    let mut priorities: Vec<i32> = state.queries.values().map(|query| query.claim.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    for priority in priorities.into_iter().rev() {
        let class: Vec<(QueryNo, f64, f64)> = state
            .queries
            .iter()
            .filter(|(_, query)| query.claim.priority == priority)
            .map(|(no, query)| {
                let requested = f64::from(query.unmet()) * cost(state, query) + f64::from(query.open.alone) * largest;
                (*no, f64::from(query.held) + requested, f64::from(query.weight))
            })
            .collect();
        let given = |level: f64| class.iter().map(|(_, asked, weight)| asked.min(weight * level)).sum::<f64>();
        let (mut low, mut high) = (0.0, 1e9);
        for _ in 0..200 {
            let level = (low + high) / 2.0;
            if given(level) > left { high = level } else { low = level }
        }
        for (no, asked, weight) in &class {
            ideal.insert(*no, asked.min(weight * low));
        }
        left -= given(low);
    }
    for no in starving {
        *ideal.entry(no).or_default() += 1.0;
    }
    ideal
}

/// What queries held before a decision.
pub struct Before(BTreeMap<QueryNo, Held>);

#[derive(Clone, Copy, Default)]
struct Held {
    slots: u32,
    alone: usize,
    waiting_since: Option<Millis>,
}

impl Before {
    pub fn of(state: &ClusterState) -> Before {
        let held = |query: &Query| Held { slots: query.held, alone: alone(query), waiting_since: query.waiting_since };
        Before(state.queries.iter().map(|(no, query)| (*no, held(query))).collect())
    }
}

fn alone(query: &Query) -> usize {
    query.leases.values().filter(|lease| lease.whole).count()
}

/// If a decision gave a query more, the queries' slots must then be fair shares.
pub fn check_shares(before: &Before, state: &ClusterState) {
    let held = |no: &QueryNo| before.0.get(no).copied().unwrap_or_default();
    if state.queries.iter().all(|(no, query)| query.held <= held(no).slots) {
        return;
    }
    let ideal = ideal(state);
    let of = |no: &QueryNo| ideal.get(no).copied().unwrap_or(0.0);
    let starves = |query: &Query| query.starves(state.now, state.limits.patience_ms);
    for (no, query) in &state.queries {
        let before = held(no);
        if query.held <= before.slots {
            continue;
        }
        let starved = before.waiting_since.is_some_and(|since| state.now - since >= state.limits.patience_ms);
        let has = f64::from(query.held);
        for (other, waiting) in state.queries.iter().filter(|(other, _)| *other != no) {
            let waits = waiting.unmet() > 0 && cost(state, waiting) <= 1.0;
            if !waits || starved {
                continue;
            }
            let due = of(other) - f64::from(waiting.held);
            let whole = alone(query) > before.alone;
            let most = state.workers.iter().map(|worker| f64::from(worker.slots)).fold(0.0, f64::max);
            let task = if whole { most } else { cost(state, query) };
            // Queries that wait cannot get a kept worker, unless it is kept for them.
            if due > 1e-6 {
                assert!(
                    has <= of(no) + task + 1e-6,
                    "{} has {has} of {} and {} waits with {} of {}",
                    query.name,
                    of(no),
                    waiting.name,
                    waiting.held,
                    of(other)
                );
                let lower = query.claim.priority < waiting.claim.priority;
                let above = has > of(no) + 1e-6;
                assert!(!(lower && above && !whole), "{} goes before {}, of higher priority", query.name, waiting.name);
            }
            assert!(!starves(waiting) || has <= of(no) + task + 1e-6, "{} starves", waiting.name);
        }
    }
}

/// A query that was asked for its demand, and for whose slots others wait, keeps no more than its share.
pub fn check_lent(state: &ClusterState) {
    let ideal = ideal(state);
    // Ignores what thousandths of a slot round away.
    let due = |no: &QueryNo, query: &Query| ideal[no] - f64::from(query.held) > 0.01;
    let waits = |no: &QueryNo, query: &Query| query.unmet() > 0 && due(no, query);
    // A query that was just granted more speaks again when it has launched.
    let speaks = |query: &Query| query.called || query.leases.values().any(|lease| lease.granted > lease.running);
    for (no, query) in state.queries.iter().filter(|(_, query)| !speaks(query)) {
        let again = query.leases.iter().map(|(at, lease)| {
            let worker = &state.workers[*at];
            let cost = if lease.whole { worker.slots } else { worker.cost(&query.claim) };
            (f64::from(lease.granted.min(lease.running) * cost), f64::from(cost))
        });
        let (again, task) = again.fold((0.0, 0.0), |(sum, most), (slots, cost)| (sum + slots, f64::max(most, cost)));
        let others_wait = state.queries.iter().any(|(other, query)| other != no && waits(other, query));
        let keeps = ideal[no] + task - 1e-6;
        assert!(
            !others_wait || again == 0.0 || again < keeps,
            "{} goes on with {again} of {} and others wait",
            query.name,
            ideal[no]
        );
    }
}

/// A query that has a worker alone runs one task there.
pub fn check_whole(state: &ClusterState) {
    for query in state.queries.values() {
        let whole = query.leases.values().find(|lease| lease.whole && lease.tasks() > 1);
        assert!(whole.is_none(), "{} has more than one task on a worker of its own", query.name);
    }
}

/// No slot is free while a query could use it.
pub fn check_idle(state: &ClusterState) {
    for query in state.queries.values() {
        for worker in state.workers.iter().filter(|worker| worker.reserved_for.is_none()) {
            let fits = worker.free() >= worker.cost(&query.claim);
            assert!(query.unmet() == 0 || !fits, "{} has room and {} waits", worker.name, query.name);
            let idle = worker.usable() && worker.used == 0;
            assert!(query.open.alone == 0 || !idle, "{} is idle and {} waits for it", worker.name, query.name);
        }
    }
    let kept = state.workers.iter().filter_map(|worker| Some((worker, worker.reserved_for?)));
    for (worker, (no, _)) in kept {
        assert!(worker.usable() && state.queries[&no].waits(), "{} is kept for nothing", worker.name);
    }
}
