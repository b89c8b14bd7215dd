//! What queries know of contexts: a register that the contexts' loop writes and the queries' loop reads. A query that
//! borrows a context is reconciled again when the context changes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use floe_api::{ComputeSpec, StorageSpec};
use tokio::sync::mpsc;

use crate::pods::Key;
use crate::query::facts::PodFacts;

/// A context as its borrowers see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lent {
    pub uid: String,
    pub compute: ComputeSpec,
    pub storage: Option<StorageSpec>,
    /// The token with which its coordinators accept jobs.
    pub token: Option<String>,
    /// Coordinators of all revisions.
    pub coordinators: Vec<PodFacts>,
    /// UID of the coordinator pod that takes queries.
    pub serving: Option<String>,
    /// What holds the context up.
    pub message: String,
    /// It is being deleted.
    pub is_leaving: bool,
}

/// What is known of a context that a query names.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Loan {
    /// The query has pods of its own.
    #[default]
    Own,
    /// The operator has not reconciled it yet.
    NotYet,
    Missing,
    Lent(Arc<Lent>),
}

pub struct Register {
    inner: Mutex<Inner>,
    wake: mpsc::UnboundedSender<Key>,
}

#[derive(Default)]
struct Inner {
    /// Namespaces whose contexts have been listed; `None` stands for all.
    listed: HashSet<Option<String>>,
    /// `None`: listed, but not reconciled yet.
    contexts: HashMap<Key, Option<Arc<Lent>>>,
    borrowers: HashMap<Key, BTreeSet<Key>>,
}

impl Register {
    /// `wake` has queries reconciled again.
    pub fn new(wake: mpsc::UnboundedSender<Key>) -> Self {
        Self { inner: Mutex::default(), wake }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, inner: &Inner, context: &Key) {
        for query in inner.borrowers.get(context).into_iter().flatten() {
            // The receiver is gone when the operator stops.
            let _ = self.wake.send(query.clone());
        }
    }

    /// Notes that all contexts of a namespace (or of all namespaces) are known by name.
    pub fn set_listed(&self, scope: &Option<String>) {
        let mut inner = self.lock();
        inner.listed.insert(scope.clone());
        inner.borrowers.keys().for_each(|context| self.wake(&inner, context));
    }

    /// Notes that such a context exists.
    pub fn note(&self, context: Key) {
        self.lock().contexts.entry(context).or_insert(None);
    }

    /// Publishes what was observed of a context, unless it is gone by now: its queries would wait for it forever.
    pub fn publish(&self, context: Key, lent: Lent) {
        let mut inner = self.lock();
        let Some(known) = inner.contexts.get(&context) else { return };
        if known.as_deref() != Some(&lent) {
            inner.contexts.insert(context.clone(), Some(Arc::new(lent)));
            self.wake(&inner, &context);
        }
    }

    pub fn remove(&self, context: &Key) {
        let mut inner = self.lock();
        inner.contexts.remove(context);
        self.wake(&inner, context);
    }

    /// Returns what a query can borrow; from now on the query is woken on changes.
    pub fn borrow(&self, context: Key, query: Key) -> Loan {
        let mut inner = self.lock();
        inner.borrowers.entry(context.clone()).or_default().insert(query);
        match inner.contexts.get(&context) {
            Some(Some(lent)) => Loan::Lent(Arc::clone(lent)),
            Some(None) => Loan::NotYet,
            None if inner.listed.contains(&None) || inner.listed.contains(&Some(context.0)) => Loan::Missing,
            None => Loan::NotYet,
        }
    }

    /// Forgets a borrower that has ended or is gone.
    pub fn give_back(&self, query: &Key) {
        self.lock().borrowers.retain(|_, queries| {
            queries.remove(query);
            !queries.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("n".into(), name.into())
    }

    #[test]
    fn a_context_is_missing_only_once_all_were_listed_and_borrowers_hear_of_changes() {
        let (sender, mut woken) = mpsc::unbounded_channel();
        let register = Register::new(sender);
        assert_eq!(register.borrow(key("warm"), key("q")), Loan::NotYet);
        register.set_listed(&Some("m".into()));
        assert_eq!(register.borrow(key("warm"), key("q")), Loan::NotYet);
        while woken.try_recv().is_ok() {}
        register.set_listed(&Some("n".into()));
        assert_eq!(woken.try_recv(), Ok(key("q")));
        assert_eq!(register.borrow(key("warm"), key("q")), Loan::Missing);
        register.note(key("warm"));
        assert_eq!(register.borrow(key("warm"), key("q")), Loan::NotYet, "it is there and was not looked at");
        let lent = Lent { message: "starting".into(), ..Lent::default() };
        register.publish(key("warm"), lent.clone());
        assert_eq!(woken.try_recv(), Ok(key("q")));
        register.publish(key("warm"), lent.clone());
        assert!(woken.try_recv().is_err(), "nothing has changed");
        assert_eq!(register.borrow(key("warm"), key("q")), Loan::Lent(Arc::new(lent)));
        register.give_back(&key("q"));
        register.remove(&key("warm"));
        assert!(woken.try_recv().is_err());
        assert_eq!(register.borrow(key("warm"), key("r")), Loan::Missing);
        register.publish(key("warm"), Lent::default());
        assert_eq!(register.borrow(key("warm"), key("r")), Loan::Missing, "it was looked at before it went");
    }
}
