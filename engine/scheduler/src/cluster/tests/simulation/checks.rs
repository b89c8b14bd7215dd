//! Checks what must hold at every step, and which cases a whole run of the simulation must have covered.

use super::{Met, Phase, QUERIES, Sim, Told, name, use_of};
use crate::Event;

impl Sim<'_> {
    /// The slots that queries may use, as far as they know, and the tasks they run, must fit on the workers.
    pub(super) fn check_told(&mut self) {
        for (worker, _) in self.workers.iter().enumerate().filter(|(_, on)| on.known) {
            let (mut slots, mut queries, mut whole) = (0, 0, false);
            for member in self.members.iter().filter(|member| member.phase == Phase::Running) {
                // A query that has not processed a loss yet still counts on the worker.
                let unheard = member.inbox.iter().any(|told| match told {
                    Told::Event(Event::WorkerLost { worker: lost }) => *lost == name(worker),
                    Told::Event(_) | Told::Call => false,
                });
                let (may, runs, alone) = use_of(&member.state, &name(worker));
                if !unheard && may.max(runs) > 0 {
                    slots += may.max(runs);
                    queries += 1;
                    whole |= alone;
                }
            }
            assert!(slots <= self.slots, "{} is used by {slots} tasks and has {} slots", name(worker), self.slots);
            assert!(!whole || queries == 1, "a task on {} is not alone", name(worker));
        }
        let shares = self.cluster.queries.values().filter(|query| query.held > query.keeps() + 1 && query.waits());
        self.met.lent += shares.count() as u64;
    }

    /// A query that could work must get a slot in bounded time, as long as there are workers.
    pub(super) fn watch_hunger(&mut self) {
        let (now, workers) = (self.now, self.workers.iter().any(|on| on.known && !on.draining));
        let patience = self.cluster.limits.patience_ms;
        for member in &mut self.members {
            let waits = member.phase == Phase::Running
                && member.reported_demand.as_ref().is_some_and(|demand| {
                    demand.running.is_empty() && (demand.alone > 0 || !demand.requests.is_empty())
                });
            if !waits || !workers {
                member.waiting_since = None;
                continue;
            }
            let since = *member.waiting_since.get_or_insert(now);
            self.met.starved += u64::from(now - since == patience);
            // A task takes up to nine seconds, one that hangs twenty.
            let bound = patience + 30_000 * QUERIES as u64 / 2;
            assert!(now - since < bound, "{} has waited for {} ms", member.name, now - since);
        }
    }
}

impl Met {
    pub(super) fn add(&mut self, other: Met) {
        self.seen.add(other.seen);
        self.refused += other.refused;
        self.waited += other.waited;
        self.lent += other.lent;
        self.calls += other.calls;
        self.kept += other.kept;
        self.losses += other.losses;
        self.unfelt += other.unfelt;
        self.large += other.large;
        self.starved += other.starved;
    }

    pub(super) fn assert_something_of_everything(&mut self, enough_runs: bool) {
        self.seen.assert_something_of_everything(enough_runs);
        for (name, part) in [
            ("refused", self.refused),
            ("waited", self.waited),
            ("lent", self.lent),
            ("calls", self.calls),
            ("kept", self.kept),
            ("losses", self.losses),
            ("unfelt", self.unfelt),
            ("large", self.large),
        ] {
            assert!(part > 0 || !enough_runs, "the simulation never met: {name}");
        }
    }
}
