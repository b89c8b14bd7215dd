//! Decides which queries start, which wait, and which are refused.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use floe_wire::error::{Category, QueryError};

use super::decide::Step;
use super::state::{MILLI, Open, Query, QueryNo, Waiting};
use super::{Action, Claim};

impl Step<'_> {
    pub(super) fn arrived(&mut self, query: String, claim: Claim) {
        let state = &mut *self.state;
        if state.query_index.contains_key(&query) || state.waiting.values().any(|waiting| waiting.query == query) {
            return;
        }
        let full = state.queries.len() >= state.limits.max_running;
        let bytes = state.waiting_bytes.saturating_add(claim.job_bytes);
        if full && (state.waiting.len() >= state.limits.max_waiting || bytes > state.limits.max_waiting_bytes) {
            state.refused += 1;
            let error = self.no_room();
            return self.out.push(Action::Refuse { query, error });
        }
        let no = state.arrivals;
        state.arrivals += 1;
        state.waiting_bytes = bytes;
        state.waiting.insert((Reverse(claim.priority), no), Waiting { query, claim });
    }

    fn no_room(&self) -> QueryError {
        let state = &*self.state;
        let run = match state.queries.len() {
            1 => "1 query runs".to_string(),
            running => format!("{running} queries run"),
        };
        let message = format!(
            "{run} and {} wait, with {} MiB of jobs: no more are taken in",
            state.waiting.len(),
            state.waiting_bytes >> 20
        );
        QueryError::new(Category::Io, "TooManyQueries", message)
    }

    pub(super) fn admit(&mut self) {
        while self.state.queries.len() < self.state.limits.max_running {
            let Some(key) = self.next_to_start() else { return };
            let Some(Waiting { query, claim }) = self.state.waiting.remove(&key) else { return };
            let (_, no) = key;
            if let Some(group) = claim.group {
                self.state.turns.insert(group.id, self.state.admitted + 1);
            }
            self.state.waiting_bytes = self.state.waiting_bytes.saturating_sub(claim.job_bytes);
            self.state.admitted += 1;
            // A new query gets no credit for service that others had before it arrived.
            let served = self.state.queries.values().map(|query| query.served).min().unwrap_or(0);
            let started = Query {
                name: query.clone(),
                claim,
                weight: claim.weight,
                leases: Default::default(),
                held: 0,
                open: Open::default(),
                share: 0,
                cost: 1,
                served,
                waiting_since: None,
                called: false,
            };
            self.state.query_index.insert(query.clone(), no);
            self.state.queries.insert(no, started);
            self.out.push(Action::Admit { query });
        }
    }

    /// The next query to start: of the highest priority, the first of the group that runs least for its weight.
    fn next_to_start(&self) -> Option<(Reverse<i32>, QueryNo)> {
        let state = &*self.state;
        let ((priority, _), first) = state.waiting.first_key_value()?;
        if first.claim.group.is_none() {
            return state.waiting.keys().next().copied();
        }
        let mut running: HashMap<u64, u64> = HashMap::new();
        for group in state.queries.values().filter_map(|query| query.claim.group) {
            *running.entry(group.id).or_default() += 1;
        }
        let rank = |claim: &Claim| {
            claim.group.map_or((0, 0), |group| {
                let has = running.get(&group.id).copied().unwrap_or(0);
                let turn = state.turns.get(&group.id).copied().unwrap_or(0);
                (has * MILLI / u64::from(group.weight.max(1)), turn)
            })
        };
        let equals = state.waiting.range((*priority, 0)..=(*priority, QueryNo::MAX));
        equals.min_by_key(|((_, no), waiting)| (rank(&waiting.claim), *no)).map(|(key, _)| *key)
    }

    pub(super) fn left(&mut self, query: &str) {
        if let Some(no) = self.state.query_index.remove(query) {
            self.forget(no);
        } else if let Some(key) = self.waiting_key(query)
            && let Some(waiting) = self.state.waiting.remove(&key)
        {
            self.state.waiting_bytes = self.state.waiting_bytes.saturating_sub(waiting.claim.job_bytes);
        }
        self.forget_turns();
    }

    /// Forgets the turns of groups without queries.
    fn forget_turns(&mut self) {
        let state = &mut *self.state;
        if state.turns.is_empty() {
            return;
        }
        let running = state.queries.values().map(|query| &query.claim);
        let claims = running.chain(state.waiting.values().map(|waiting| &waiting.claim));
        let there: HashSet<u64> = claims.filter_map(|claim| claim.group).map(|group| group.id).collect();
        state.turns.retain(|id, _| there.contains(id));
    }

    fn waiting_key(&self, query: &str) -> Option<(Reverse<i32>, QueryNo)> {
        self.state.waiting.iter().find(|(_, waiting)| waiting.query == query).map(|(key, _)| *key)
    }

    fn forget(&mut self, no: QueryNo) {
        let Some(query) = self.state.queries.remove(&no) else { return };
        for (at, lease) in &query.leases {
            let worker = &mut self.state.workers[*at];
            worker.used = worker.used.saturating_sub(worker.slots_of(&query.claim, lease));
        }
    }
}
