//! An index of pods by query or context, filled by the watch. Keeps only those fields of a pod that decisions need.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;
use serde::Deserialize;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::context::LABEL_CONTEXT;
use crate::query::names::LABEL_QUERY;

/// The fields of a pod that the operator uses; it does not parse the others.
#[derive(kube::Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = "Pod")]
#[serde(rename_all = "camelCase", default)]
pub struct PodView {
    pub metadata: ObjectMeta,
    pub spec: SpecView,
    pub status: StatusView,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecView {
    pub node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusView {
    pub phase: Option<String>,
    pub reason: Option<String>,
    pub message: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    pub conditions: Vec<ConditionView>,
    pub container_statuses: Vec<ContainerView>,
    pub init_container_statuses: Vec<ContainerView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionView {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerView {
    pub name: String,
    pub state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub waiting: Option<WaitingView>,
    pub running: Option<RunningView>,
    pub terminated: Option<TerminatedView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WaitingView {
    pub reason: Option<String>,
    pub message: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct RunningView {}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TerminatedView {
    pub exit_code: i32,
    pub finished_at: Option<Time>,
    pub reason: Option<String>,
    pub message: Option<String>,
}

impl PodView {
    /// Drops the fields that no decision needs before the pod is stored.
    pub fn trim(&mut self) {
        self.metadata.managed_fields = None;
        self.metadata.annotations = None;
        self.metadata.resource_version = None;
        self.metadata.finalizers = None;
        if let Some(labels) = &mut self.metadata.labels {
            labels.retain(|key, _| key.starts_with("floe.dev/"));
        }
        self.status.conditions.retain(|c| matches!(c.kind.as_str(), "PodScheduled" | "DisruptionTarget" | "Ready"));
        self.status.conditions.shrink_to_fit();
    }

    fn key(&self) -> Option<Key> {
        let labels = self.metadata.labels.as_ref()?;
        let owner = labels.get(LABEL_QUERY).or_else(|| labels.get(LABEL_CONTEXT))?.clone();
        Some((self.metadata.namespace.clone()?, owner))
    }
}

/// Namespace and name of a query, or of a context.
pub type Key = (String, String);
type Shelf = HashMap<Key, BTreeMap<String, Arc<PodView>>>;

/// How many removed pods to remember in their last state, which says why they were removed.
const MAX_DEPARTED_PODS: usize = 2000;

/// All pods by query, from one watch (of all namespaces, or of one).
#[derive(Default)]
pub struct PodIndex {
    shelves: Mutex<(Shelf, Shelf)>,
    departed: Mutex<VecDeque<Arc<PodView>>>,
    listed: CancellationToken,
}

impl PodIndex {
    fn lock(&self) -> MutexGuard<'_, (Shelf, Shelf)> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals that a complete list has been read.
    pub fn set_ready(&self) {
        self.listed.cancel();
    }

    /// Waits for the first complete list.
    pub fn ready(&self) -> WaitForCancellationFutureOwned {
        self.listed.clone().cancelled_owned()
    }

    /// Applies an event; returns the queries that it concerns.
    pub fn take(&self, event: Event<PodView>) -> Vec<Key> {
        let mut guard = self.lock();
        let (live, incoming) = &mut *guard;
        match event {
            Event::Apply(pod) => put(live, pod).into_iter().collect(),
            Event::Delete(pod) => {
                let Some(key) = pod.key() else { return Vec::new() };
                if let Some(shelf) = live.get_mut(&key) {
                    shelf.remove(pod.metadata.name.as_deref().unwrap_or_default());
                    if shelf.is_empty() {
                        live.remove(&key);
                    }
                }
                self.remember(pod);
                vec![key]
            }
            Event::Init => {
                incoming.clear();
                Vec::new()
            }
            Event::InitApply(pod) => {
                put(incoming, pod);
                Vec::new()
            }
            Event::InitDone => {
                let before = std::mem::replace(live, std::mem::take(incoming));
                before.into_keys().chain(live.keys().cloned()).collect()
            }
        }
    }

    /// Remembers a pod that the cluster removed; no others need an explanation.
    fn remember(&self, mut pod: PodView) {
        pod.trim();
        if !pod.status.conditions.iter().any(|c| c.kind == "DisruptionTarget" && c.status == "True") {
            return;
        }
        let mut departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        if departed.len() == MAX_DEPARTED_PODS {
            departed.pop_front();
        }
        departed.push_back(Arc::new(pod));
    }

    /// Pods of a query that the cluster removed, the latest last.
    pub fn departed(&self, namespace: &str, query: &str) -> Vec<Arc<PodView>> {
        let key = (namespace.to_owned(), query.to_owned());
        let departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        departed.iter().filter(|pod| pod.key().as_ref() == Some(&key)).cloned().collect()
    }

    pub fn of(&self, namespace: &str, query: &str) -> Vec<Arc<PodView>> {
        let guard = self.lock();
        let key = (namespace.to_owned(), query.to_owned());
        guard.0.get(&key).map(|shelf| shelf.values().cloned().collect()).unwrap_or_default()
    }
}

fn put(shelf: &mut Shelf, mut pod: PodView) -> Option<Key> {
    pod.trim();
    let key = pod.key()?;
    let name = pod.metadata.name.clone()?;
    shelf.entry(key.clone()).or_default().insert(name, Arc::new(pod));
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(query: &str, name: &str) -> PodView {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"floe.dev/query": query, "other": "x"}},
            "spec": {"nodeName": "a", "containers": [{"name": "floe"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
                {"name": "floe", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn why_a_pod_went_is_remembered() {
        let index = PodIndex::default();
        let mut lost = pod("q", "a");
        index.take(Event::Apply(lost.clone()));
        let kind = "DisruptionTarget".to_owned();
        let reason = Some("DeletionByPodGC".to_owned());
        lost.status.conditions.push(ConditionView { kind, status: "True".into(), reason, ..ConditionView::default() });
        index.take(Event::Delete(lost));
        index.take(Event::Delete(pod("q", "b")));
        let departed = index.departed("n", "q");
        assert_eq!(departed.len(), 1, "{departed:?}");
        assert_eq!(departed[0].metadata.name.as_deref(), Some("a"));
        assert!(index.departed("n", "other").is_empty() && index.of("n", "q").is_empty());
    }

    #[test]
    fn the_index_follows_the_watch_and_a_new_list_replaces_all() {
        let index = PodIndex::default();
        index.take(Event::Apply(pod("q", "a")));
        index.take(Event::Apply(pod("q", "b")));
        assert_eq!(index.of("n", "q").len(), 2);
        assert_eq!(index.take(Event::Delete(pod("q", "a"))), [("n".to_owned(), "q".to_owned())]);
        index.take(Event::Init);
        index.take(Event::InitApply(pod("r", "c")));
        assert_eq!(index.of("n", "q").len(), 1);
        assert_eq!(index.take(Event::InitDone).len(), 2);
        assert!(index.of("n", "q").is_empty());
        let kept = index.of("n", "r");
        assert_eq!(kept[0].metadata.labels.as_ref().unwrap().len(), 1);
        assert_eq!(kept[0].status.pod_ip.as_deref(), Some("10.0.0.1"));
        assert!(kept[0].status.container_statuses[0].state.running.is_some());
    }
}
