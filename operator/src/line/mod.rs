//! The lines of queries that wait for quotas, one per namespace and priority class (quotas can be scoped to one), and
//! of queries that no node had room for, across namespaces. Lost when the operator restarts, and rebuilt as pods are
//! refused: queries keep their order, which is that of their creation.

mod order;
pub mod quota;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::pods::Key;
use order::Line;
pub use order::{Answer, Class, Rank, Waiting};
use quota::{Need, Quota};

/// Wake at most this many waiting queries when the line moves; the rest notice at their next reconcile.
const MAX_WOKEN: usize = 20;

/// Namespace and priority class.
pub type Scope = (String, String);
/// Stands for no namespace: the line of queries that wait for nodes.
pub const NODES: &str = "";

pub struct Lines {
    by_scope: Mutex<HashMap<Scope, Line>>,
    /// Sends queries to reconcile again.
    wake: mpsc::UnboundedSender<Key>,
}

/// A query and the line that it would stand in.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub scope: Scope,
    pub rank: Rank,
    pub key: Key,
}

impl Lines {
    pub fn new(wake: mpsc::UnboundedSender<Key>) -> Lines {
        Lines { by_scope: Mutex::default(), wake }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Line>> {
        self.by_scope.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a line, and wakes the queries whose place may have changed.
    fn change(&self, scope: &Scope, change: impl FnOnce(&mut Line)) {
        let mut lines = self.lock();
        let line = lines.entry(scope.clone()).or_default();
        let before: Vec<Key> = line.waiting().take(MAX_WOKEN).cloned().collect();
        change(line);
        let after: Vec<Key> = line.waiting().take(MAX_WOKEN).cloned().collect();
        if line.is_empty() {
            lines.remove(scope);
        }
        drop(lines);
        for (at, key) in after.into_iter().enumerate() {
            if before.get(at) != Some(&key) {
                // The receiver is gone when the operator stops.
                let _ = self.wake.send(key);
            }
        }
    }

    /// Whether the query is in the line or has to join it, because it was in one before this operator started, or
    /// because others wait that come first.
    pub fn enters(&self, ticket: &Ticket, waited: Option<&str>, now: Timestamp) -> bool {
        let (is_in, others) = {
            let lines = self.lock();
            let line = lines.get(&ticket.scope);
            let is_in = line.is_some_and(|line| line.holds(&ticket.rank.uid));
            (is_in, line.map_or(0, |line| line.ahead_of(&ticket.rank)))
        };
        let words = waited.unwrap_or("other queries of this namespace wait for its quota and come first");
        if is_in {
            // It may wait for another class of pods by now.
            self.change(&ticket.scope, |line| line.join(ticket.rank.clone(), ticket.key.clone(), "", now));
        } else if others > 0 || waited.is_some() {
            self.change(&ticket.scope, |line| line.join(ticket.rank.clone(), ticket.key.clone(), words, now));
        }
        is_in || others > 0 || waited.is_some()
    }

    /// Whether the query is in that line.
    pub fn holds(&self, ticket: &Ticket) -> bool {
        self.lock().get(&ticket.scope).is_some_and(|line| line.holds(&ticket.rank.uid))
    }

    pub fn needs_quotas(&self, ticket: &Ticket) -> bool {
        self.lock().get(&ticket.scope).is_some_and(|line| line.needs_quotas(&ticket.rank.uid))
    }

    pub fn decide(
        &self,
        ticket: &Ticket,
        quotas: Option<&[Quota]>,
        missing: &Need,
        whole: &Need,
        now: Timestamp,
    ) -> Option<Answer> {
        let mut answer = None;
        self.change(&ticket.scope, |line| answer = line.decide(&ticket.rank.uid, quotas, missing, whole, now));
        answer
    }

    pub fn refuse(&self, ticket: &Ticket, words: &str, before: Option<Vec<Quota>>, now: Timestamp) {
        self.change(&ticket.scope, |line| line.refuse(ticket.rank.clone(), ticket.key.clone(), words, before, now));
    }

    pub fn grant(&self, ticket: &Ticket, left: Need, now: Timestamp) {
        self.change(&ticket.scope, |line| line.grant(&ticket.rank.uid, left, now));
    }

    /// Removes the query from all lines.
    pub fn leave(&self, uid: &str) {
        self.leave_those(uid, |_| true);
    }

    /// Removes the query from the lines that `which` selects: those for quotas, or those for nodes.
    pub fn leave_those(&self, uid: &str, which: impl Fn(&Scope) -> bool) {
        let scopes: Vec<Scope> = {
            let lines = self.lock();
            let held = lines.iter().filter(|(scope, line)| which(scope) && line.holds(uid));
            held.map(|(scope, _)| scope.clone()).collect()
        };
        for scope in scopes {
            self.change(&scope, |line| {
                line.leave(uid);
            });
        }
    }
}
