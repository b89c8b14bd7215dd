//! Grants free slots: to which query, and on which worker.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::decide::Step;
use super::state::{Kind, MILLI, Query, QueryNo};

/// A query's rank for the next slot; the lowest goes first.
type Rank = (bool, bool, Reverse<i32>, u8, u64, u64, QueryNo, Kind);

/// The worker and request of a grant.
struct Place {
    worker: usize,
    /// Index of the query's group, or of its slow task.
    request: usize,
}

impl Step<'_> {
    /// Grants free slots one at a time, to the query that is next. If it needs more than is free anywhere, a worker is
    /// kept free for it. Returns whether copies of slow tasks got slots, which shares do not count until they are held.
    pub(super) fn grant(&mut self) -> bool {
        let mut copies = false;
        self.drop_kept();
        loop {
            let mut passed = BTreeSet::new();
            while let Some((no, kind)) = self.next(&passed) {
                match self.place(no, kind) {
                    Some(place) => {
                        copies |= kind == Kind::Slow;
                        if self.give(no, kind, &place) {
                            // The rest of a worker that was kept free is open again to queries that found no room.
                            passed.clear();
                        }
                    }
                    None => {
                        self.keep_free(no, kind, passed.is_empty());
                        passed.insert((no, kind));
                    }
                }
            }
            if !self.drop_kept() {
                return copies;
            }
        }
    }

    fn next(&self, passed: &BTreeSet<(QueryNo, Kind)>) -> Option<(QueryNo, Kind)> {
        let any_free = self.state.workers.iter().any(|worker| worker.free() > 0);
        let requests = self.state.queries.iter().flat_map(|(no, query)| {
            let large = query.cost > 1;
            let requests = [
                (Kind::Alone, query.open.alone > 0),
                (Kind::Plain, query.unmet() > 0 && (any_free || large)),
                (Kind::Slow, !query.open.slow.is_empty() && any_free),
            ];
            requests.into_iter().filter(|(_, requests)| *requests).map(move |(kind, _)| (*no, query, kind))
        });
        let open = requests.filter(|(no, _, kind)| !passed.contains(&(*no, *kind)));
        open.map(|(no, query, kind)| self.rank(no, query, kind)).min().map(|rank| (rank.6, rank.7))
    }

    fn rank(&self, no: QueryNo, query: &Query, kind: Kind) -> Rank {
        let starves = query.starves(self.state.now, self.state.limits.patience_ms);
        let level = match query.held < query.keeps() {
            true => 0,
            false if query.entitled() => 1,
            false => 2,
        };
        // Slots beyond the shares are lent evenly.
        let lent = if level == 2 { u64::from(query.held) * MILLI * MILLI / u64::from(query.weight.max(1)) } else { 0 };
        (kind == Kind::Slow, !starves, Reverse(query.claim.priority), level, lent, query.served, no, kind)
    }

    fn place(&self, no: QueryNo, kind: Kind) -> Option<Place> {
        let query = self.state.queries.get(&no)?;
        let workers = &self.state.workers;
        let open_to = |at: usize| match workers[at].reserved_for {
            None => true,
            Some(kept) if kept == (no, kind) => self.may_keep(no, query, kind),
            Some(kept) => self.goes_before(query, kept.0),
        };
        let room = |at: &usize| open_to(*at) && workers[*at].free() >= workers[*at].cost(&query.claim);
        let load = |at: usize| {
            let worker = &workers[at];
            (u64::from(worker.used) * MILLI / u64::from(worker.slots.max(1)), worker.grants, at)
        };
        let all = 0..workers.len();
        match kind {
            Kind::Alone => {
                let idle = all.filter(|at| open_to(*at) && workers[*at].usable() && workers[*at].used == 0);
                let worker = idle.min_by_key(|at| (workers[*at].reserved_for.is_none(), load(*at)))?;
                Some(Place { worker, request: 0 })
            }
            Kind::Plain => {
                let groups = query.open.groups.iter().enumerate();
                let mut at_home = groups.filter_map(|(request, group)| Some((request, group.near.filter(room)?)));
                if let Some((request, worker)) = at_home.next() {
                    return Some(Place { worker, request });
                }
                let avoid = query.open.groups.first()?.avoid;
                let worker = all.filter(room).min_by_key(|at| (Some(*at) == avoid, load(*at)))?;
                Some(Place { worker, request: 0 })
            }
            Kind::Slow => {
                let elsewhere = |first: Option<usize>| {
                    (0..workers.len()).filter(|at| room(at) && Some(*at) != first).min_by_key(|at| load(*at))
                };
                let slow = query.open.slow.iter().enumerate();
                slow.filter_map(|(request, first)| Some(Place { worker: elsewhere(*first)?, request })).next()
            }
        }
    }

    /// Whether a query may use a worker kept free for another: it has higher priority, and the other does not starve.
    fn goes_before(&self, query: &Query, kept: QueryNo) -> bool {
        let (now, patience) = (self.state.now, self.state.limits.patience_ms);
        let kept = self.state.queries.get(&kept);
        kept.is_some_and(|kept| kept.claim.priority < query.claim.priority && !kept.starves(now, patience))
    }

    /// Grants a slot; returns whether the worker was kept free and no longer is.
    fn give(&mut self, no: QueryNo, kind: Kind, place: &Place) -> bool {
        let Some(query) = self.state.queries.get_mut(&no) else { return false };
        match kind {
            Kind::Alone => query.open.alone -= 1,
            Kind::Plain => {
                query.open.groups[place.request].tasks -= 1;
                query.open.groups.retain(|group| group.tasks > 0);
            }
            Kind::Slow => drop(query.open.slow.swap_remove(place.request)),
        }
        self.state.lease(no, place.worker, |lease| {
            lease.granted = lease.tasks().saturating_add(1);
            lease.fresh += 1;
            lease.whole |= kind == Kind::Alone;
        });
        let worker = &mut self.state.workers[place.worker];
        worker.grants += 1;
        let fulfilled = worker.reserved_for == Some((no, kind)) || kind == Kind::Alone;
        fulfilled && worker.reserved_for.take().is_some()
    }

    /// Whether a worker may be kept free for a query: it is below its share or starves, or no other query waits for its
    /// share.
    fn may_keep(&self, no: QueryNo, query: &Query, kind: Kind) -> bool {
        let (now, patience) = (self.state.now, self.state.limits.patience_ms);
        // A task that must run alone may also wait for others of its own query.
        let own = || kind == Kind::Alone && !self.claimants().iter().any(|other| *other != no);
        query.entitled() || query.starves(now, patience) || own()
    }

    /// Releases workers that are kept free for requests that are gone or no longer due; returns whether there were any.
    fn drop_kept(&mut self) -> bool {
        let mut seen: Vec<(QueryNo, Kind)> = Vec::new();
        let mut dropped = Vec::new();
        for (at, worker) in self.state.workers.iter().enumerate() {
            let Some(kept @ (no, kind)) = worker.reserved_for else { continue };
            let requested = self.state.queries.get(&no).filter(|query| self.may_keep(no, query, kind));
            let requested = requested.map_or(0, |query| match kind {
                Kind::Alone => query.open.alone as usize,
                Kind::Plain => usize::from(query.unmet() > 0 && worker.cost(&query.claim) > 1),
                Kind::Slow => 0,
            });
            match seen.iter().filter(|other| **other == kept).count() < requested {
                true => seen.push(kept),
                false => dropped.push(at),
            }
        }
        dropped.iter().for_each(|at| self.state.workers[*at].reserved_for = None);
        !dropped.is_empty()
    }

    /// Keeps free the workers that will soonest have room for a request that fits nowhere now. `first`: no query goes
    /// before this one.
    fn keep_free(&mut self, no: QueryNo, kind: Kind, first: bool) {
        let Some(query) = self.state.queries.get(&no) else { return };
        let requested = match kind {
            Kind::Alone => query.open.alone as usize,
            Kind::Plain => 1,
            Kind::Slow => return,
        };
        if !self.may_keep(no, query, kind) {
            return;
        }
        let claim = query.claim;
        let kept = Some((no, kind));
        for _ in self.state.workers.iter().filter(|worker| worker.reserved_for == kept).count()..requested {
            let workers = &self.state.workers;
            let large = |at: usize| kind == Kind::Alone || workers[at].cost(&claim) > 1;
            let others = workers.iter().filter(|worker| worker.usable() && worker.reserved_for.is_none()).count();
            let open = (0..workers.len()).filter(|at| workers[*at].usable() && workers[*at].reserved_for.is_none());
            let Some(at) = open.filter(|at| large(*at)).min_by_key(|at| (workers[*at].used, workers[*at].grants, *at))
            else {
                return;
            };
            // Otherwise queries that need less would wait for this one.
            if !first && others < 2 {
                return;
            }
            self.state.workers[at].reserved_for = kept;
        }
    }
}
