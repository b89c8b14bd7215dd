//! Queries that wait for others of their namespace (`spec.after`): reads the state of those from the watch, and wakes
//! the waiting queries when one of them ends.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use floe_api::DistributedQuery;
use futures::FutureExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::mpsc;

use super::facts::{Before, State};
use crate::pods::Key;

type Guarded = DeserializeGuard<DistributedQuery>;

/// All watched queries.
pub struct Chain {
    stores: OnceLock<Vec<Store<Guarded>>>,
    /// The queries that wait for a query.
    waiting: Mutex<HashMap<Key, HashSet<Key>>>,
    waker: mpsc::UnboundedSender<Key>,
}

impl Chain {
    pub fn new(waker: mpsc::UnboundedSender<Key>) -> Self {
        Self { stores: OnceLock::new(), waiting: Mutex::default(), waker }
    }

    /// Called once the watches have started.
    pub fn watch(&self, stores: Vec<Store<Guarded>>) {
        // Each loop has its own chain, and starts once.
        let _ = self.stores.set(stores);
    }

    /// The current state of the queries that this one names. It is woken when one of them ends.
    pub fn before(&self, (namespace, name): &Key, query: &DistributedQuery) -> Vec<Before> {
        let after = &query.spec.after;
        if after.is_empty() {
            return Vec::new();
        }
        // Register first: a query that ends meanwhile must find this one.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for one in after {
            let key = (namespace.clone(), one.query.clone());
            waiting.entry(key).or_default().insert((namespace.clone(), name.clone()));
        }
        drop(waiting);
        let states = after.iter().map(|one| self.state(namespace, name, &one.query));
        after
            .iter()
            .zip(states)
            .map(|(one, state)| Before { query: one.query.clone(), condition: one.condition, state })
            .collect()
    }

    /// All queries that can be read; `None` until they are known.
    pub fn all(&self) -> Option<Vec<DistributedQuery>> {
        let stores = self.read()?;
        let objects = stores.iter().flat_map(Store::state);
        Some(objects.filter_map(|object| object.0.as_ref().ok().cloned()).collect())
    }

    /// The stores, once all of them have been filled.
    fn read(&self) -> Option<&[Store<Guarded>]> {
        let stores = self.stores.get()?;
        let is_read = |store: &Store<Guarded>| store.wait_until_ready().now_or_never().is_some_and(|read| read.is_ok());
        (!stores.is_empty() && stores.iter().all(is_read)).then_some(stores)
    }

    /// Wakes the queries that wait for one that has ended.
    pub fn ended(&self, key: &Key) {
        let those = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        for waiting in those.into_iter().flatten() {
            // The receiver is gone when the operator stops.
            let _ = self.waker.send(waiting);
        }
    }

    fn state(&self, namespace: &str, name: &str, before: &str) -> State {
        let Some(stores) = self.read() else { return State::NotYet };
        let find = |name: &str| stores.iter().find_map(|store| store.get(&ObjectRef::new(name).within(namespace)));
        let Some(object) = find(before) else { return State::Missing };
        let status = object.0.as_ref().ok().and_then(|query| query.status.clone()).unwrap_or_default();
        match status.phase.filter(|phase| phase.is_terminal()) {
            Some(phase) => State::Ended { phase, reason: status.reason.unwrap_or_default() },
            None => circle(name, before, &find),
        }
    }
}

/// Whether `before` waits for `name` itself, directly or through other queries that have not ended.
fn circle(name: &str, before: &str, find: &impl Fn(&str) -> Option<std::sync::Arc<Guarded>>) -> State {
    let mut paths = vec![vec![name.to_owned(), before.to_owned()]];
    let mut seen = HashSet::from([before.to_owned()]);
    while let Some(path) = paths.pop() {
        let Some(object) = path.last().and_then(|last| find(last)) else { continue };
        let Ok(query) = &object.0 else { continue };
        for next in &query.spec.after {
            let longer = [&path[..], std::slice::from_ref(&next.query)].concat();
            if next.query == name {
                return State::Circle(longer);
            }
            if seen.insert(next.query.clone()) {
                paths.push(longer);
            }
        }
    }
    State::Going
}

#[cfg(test)]
mod tests {
    use floe_api::Phase;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    use super::*;

    fn query(name: &str, after: &[&str], phase: Option<Phase>) -> Guarded {
        let after: Vec<_> = after.iter().map(|query| serde_json::json!({"query": query})).collect();
        let mut object = serde_json::json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": name, "namespace": "n"},
            "spec": {"plan": {"sql": "select 1"}, "after": after},
        });
        if let Some(phase) = phase {
            object["status"] = serde_json::json!({"phase": phase, "reason": "Why"});
        }
        serde_json::from_value(object).unwrap()
    }

    fn key(name: &str) -> Key {
        ("n".into(), name.into())
    }

    fn states(chain: &Chain, of: &Guarded) -> Vec<State> {
        let query = of.0.as_ref().unwrap();
        let name = query.metadata.name.clone().unwrap();
        chain.before(&key(&name), query).into_iter().map(|before| before.state).collect()
    }

    #[test]
    fn what_is_waited_for_is_told_as_the_watch_shows_it() {
        let (waker, mut woken) = mpsc::unbounded_channel();
        let chain = Chain::new(waker);
        let waiting = query("w", &["a", "b", "c", "d"], None);
        assert_eq!(states(&chain, &waiting), vec![State::NotYet; 4]);
        let mut writer = reflector::store::Writer::<Guarded>::default();
        chain.watch(vec![writer.as_reader()]);
        assert_eq!(states(&chain, &waiting), vec![State::NotYet; 4], "the list has not come");
        let others = [
            query("a", &[], Some(Phase::Running)),
            query("b", &["x", "y"], None),
            query("c", &[], Some(Phase::Failed)),
            query("x", &["y"], None),
            query("y", &["c", "x"], None),
        ];
        writer.apply_watcher_event(&Event::Init);
        for other in others {
            writer.apply_watcher_event(&Event::InitApply(other));
        }
        writer.apply_watcher_event(&Event::InitDone);
        let failed = State::Ended { phase: Phase::Failed, reason: "Why".into() };
        assert_eq!(states(&chain, &waiting), [State::Going, State::Going, failed, State::Missing]);

        writer.apply_watcher_event(&Event::Apply(query("y", &["w"], None)));
        let names = ["w", "b", "y", "w"].map(str::to_owned).to_vec();
        assert_eq!(states(&chain, &waiting)[1], State::Circle(names));

        chain.ended(&key("nobody"));
        assert!(woken.try_recv().is_err());
        chain.ended(&key("a"));
        assert_eq!(woken.try_recv().unwrap(), key("w"));
        chain.ended(&key("a"));
        assert!(woken.try_recv().is_err(), "it is told once");
    }
}
