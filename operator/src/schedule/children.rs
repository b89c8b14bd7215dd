//! The queries of schedules, from the watch of queries. Nothing else is shared between the two loops.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use floe_api::schedule::{LABEL_SCHEDULE, SCHEDULED_AT};
use floe_api::{DistributedQuery, ScheduledQuery};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use tokio::sync::mpsc;

use super::facts::Child;
use crate::pods::Key;

type Scope = Option<String>;
type Shelf = HashMap<Key, BTreeMap<String, Child>>;

pub struct Children {
    inner: Mutex<Inner>,
    changed: mpsc::UnboundedSender<Key>,
}

#[derive(Default)]
struct Inner {
    shelf: Shelf,
    /// A new list, as far as it has been read, by the scope of the watch.
    incoming: HashMap<Scope, Shelf>,
    /// Namespaces whose queries have been listed; `None` stands for all.
    listed: HashSet<Scope>,
}

impl Children {
    /// The receiver gets the schedules whose queries changed.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Key>) {
        let (changed, told) = mpsc::unbounded_channel();
        (Self { inner: Mutex::default(), changed }, told)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, key: Key) {
        // The receiver is gone when the operator stops.
        let _ = self.changed.send(key);
    }

    /// The queries of a schedule in the order of their times; `None` while they are not known.
    pub fn of(&self, key: &Key, owner: &str) -> Option<Vec<Child>> {
        let inner = self.lock();
        if !inner.listed.contains(&None) && !inner.listed.contains(&Some(key.0.clone())) {
            return None;
        }
        let all = inner.shelf.get(key).into_iter().flat_map(BTreeMap::values);
        let mut children: Vec<Child> = all.filter(|child| child.owner == owner).cloned().collect();
        children.sort_by_key(|child| child.scheduled_at);
        Some(children)
    }

    /// Adds a query that was just created, which the watch may show later.
    pub fn made(&self, query: &DistributedQuery) {
        let Some((key, child)) = child(&query.metadata, Some(query)) else { return };
        let mut inner = self.lock();
        // A list that is being read may be older than it. What the watch has shown is newer.
        let Inner { shelf, incoming, .. } = &mut *inner;
        let read = incoming.iter_mut().filter(|(scope, _)| scope.as_ref().is_none_or(|namespace| *namespace == key.0));
        for shelf in read.map(|(_, shelf)| shelf).chain([shelf]) {
            shelf.entry(key.clone()).or_default().entry(child.name.clone()).or_insert_with(|| child.clone());
        }
    }

    /// Applies an event of the watch of queries.
    pub fn take(&self, scope: &Scope, event: &Event<DeserializeGuard<DistributedQuery>>) {
        match event {
            Event::Apply(object) => {
                let Some((key, child)) = child(object.meta(), object.0.as_ref().ok()) else { return };
                let before =
                    self.lock().shelf.entry(key.clone()).or_default().insert(child.name.clone(), child.clone());
                if before != Some(child) {
                    self.tell(key);
                }
            }
            Event::Delete(object) => {
                let Some((key, child)) = child(object.meta(), None) else { return };
                let mut inner = self.lock();
                if let Some(children) = inner.shelf.get_mut(&key) {
                    children.remove(&child.name);
                    if children.is_empty() {
                        inner.shelf.remove(&key);
                    }
                }
                drop(inner);
                self.tell(key);
            }
            Event::Init => {
                self.lock().incoming.insert(scope.clone(), Shelf::new());
            }
            Event::InitApply(object) => {
                let Some((key, child)) = child(object.meta(), object.0.as_ref().ok()) else { return };
                let mut inner = self.lock();
                let incoming = inner.incoming.entry(scope.clone()).or_default();
                incoming.entry(key).or_default().insert(child.name.clone(), child);
            }
            Event::InitDone => {
                let mut inner = self.lock();
                let incoming = inner.incoming.remove(scope).unwrap_or_default();
                let is_in = |key: &Key| scope.as_ref().is_none_or(|namespace| *namespace == key.0);
                let mut touched: HashSet<Key> = inner.shelf.keys().filter(|key| is_in(key)).cloned().collect();
                inner.shelf.retain(|key, _| !is_in(key));
                touched.extend(incoming.keys().cloned());
                inner.shelf.extend(incoming);
                inner.listed.insert(scope.clone());
                drop(inner);
                touched.into_iter().for_each(|key| self.tell(key));
            }
        }
    }
}

/// Reads a query as the child of its schedule. `None` for all others.
fn child(meta: &ObjectMeta, query: Option<&DistributedQuery>) -> Option<(Key, Child)> {
    let schedule = meta.labels.as_ref()?.get(LABEL_SCHEDULE)?;
    let kind = ScheduledQuery::kind(&());
    let owner = meta.owner_references.iter().flatten().find(|o| o.kind == kind && o.controller == Some(true))?;
    let scheduled_at: Timestamp = meta.annotations.as_ref()?.get(SCHEDULED_AT)?.parse().ok()?;
    let status = query.and_then(|query| query.status.as_ref());
    let child = Child {
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        owner: owner.uid.clone(),
        scheduled_at,
        phase: status.and_then(|status| status.phase),
        finished_at: status.and_then(|status| status.finished_at.as_ref()).map(|time| time.0),
        is_leaving: meta.deletion_timestamp.is_some(),
    };
    Some(((meta.namespace.clone()?, schedule.clone()), child))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, phase: &str) -> DeserializeGuard<DistributedQuery> {
        let value = serde_json::json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
            "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"),
                "labels": {LABEL_SCHEDULE: "s"}, "annotations": {SCHEDULED_AT: "2026-11-29T03:30:00+01:00"},
                "ownerReferences": [{"apiVersion": "floe.dev/v1alpha1", "kind": "ScheduledQuery", "name": "s", "uid": "own",
                    "controller": true}]},
            "spec": {"plan": {"sql": "SELECT 1"}},
            "status": {"phase": phase},
        });
        DeserializeGuard(Ok(serde_json::from_value(value).unwrap()))
    }

    #[test]
    fn the_watch_is_followed_and_changes_are_told_once() {
        let (children, mut told) = Children::new();
        let key = ("n".to_owned(), "s".to_owned());
        children.take(&None, &Event::Init);
        children.take(&None, &Event::InitApply(query("a", "Running")));
        assert_eq!(children.of(&key, "own"), None, "not all are known");
        children.take(&None, &Event::InitDone);
        assert_eq!(told.try_recv().as_ref(), Ok(&key));
        let known = children.of(&key, "own").unwrap();
        assert!(known.len() == 1 && known[0].is_active(), "{known:?}");
        assert_eq!(known[0].scheduled_at, "2026-11-29T02:30:00Z".parse().unwrap());
        assert_eq!(children.of(&key, "other").unwrap(), [], "those of one that had its name before");
        children.take(&None, &Event::Apply(query("a", "Running")));
        assert!(told.try_recv().is_err(), "nothing changed");
        children.take(&None, &Event::Apply(query("a", "Succeeded")));
        assert_eq!(told.try_recv().as_ref(), Ok(&key));
        children.made(query("a", "Pending").0.as_ref().unwrap());
        assert!(!children.of(&key, "own").unwrap()[0].is_active(), "the watch was first");
        children.take(&None, &Event::Delete(query("a", "Succeeded")));
        assert_eq!(children.of(&key, "own").unwrap(), []);
    }

    #[test]
    fn a_new_list_replaces_those_of_its_namespace() {
        let (children, _told) = Children::new();
        let key = ("n".to_owned(), "s".to_owned());
        let scopes = [Some("n".to_owned()), Some("m".to_owned())];
        children.take(&scopes[0], &Event::Init);
        children.take(&scopes[0], &Event::InitApply(query("a", "Running")));
        children.take(&scopes[0], &Event::InitDone);
        children.take(&scopes[1], &Event::Init);
        children.take(&scopes[1], &Event::InitDone);
        assert_eq!(children.of(&key, "own").unwrap().len(), 1);
        children.take(&scopes[0], &Event::Init);
        children.made(query("b", "Pending").0.as_ref().unwrap());
        children.take(&scopes[0], &Event::InitDone);
        let known = children.of(&key, "own").unwrap();
        assert!(known.len() == 1 && known[0].name == "b", "made while the list was read: {known:?}");
    }
}
