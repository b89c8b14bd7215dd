//! The Workloads of queries and the flavors, as the watches show them; a change of a Workload wakes its query.

use std::sync::{Arc, Mutex, PoisonError};

use floe_api::DistributedQuery;
use futures::{FutureExt as _, StreamExt as _};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::build::{queue_of, wanted};
use super::facts::Standing;
use super::read;
use super::workload::{FlavorSpec, Workload, cluster_kind};
use crate::controller;
use crate::pods::Key;
use crate::query::build::Defaults;
use crate::query::names::{self, LABEL_QUERY, MANAGED_BY, MANAGER};

/// What the watches have shown so far.
pub struct Queues {
    /// Whether the operator works with Kueue.
    is_on: bool,
    stores: Mutex<Option<Stores>>,
    waker: mpsc::UnboundedSender<Key>,
}

#[derive(Clone)]
struct Stores {
    workloads: Vec<Store<Workload>>,
    flavors: Store<DynamicObject>,
}

impl Queues {
    pub fn new(is_on: bool, waker: mpsc::UnboundedSender<Key>) -> Self {
        Self { is_on, stores: Mutex::default(), waker }
    }

    /// The state of a query.
    pub fn standing(&self, query: &DistributedQuery, defaults: &Defaults) -> Standing {
        let Some(queue) = queue_of(query) else { return Standing::Free };
        if !self.is_on {
            return Standing::Off;
        }
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(stores) = stores.filter(Stores::are_read) else { return Standing::NotYet };
        let Some(seen) = stores.workload(query) else { return Standing::Missing };
        let flavor = |name: &str| stores.flavor(name);
        read::standing(&seen, wanted(query, queue, defaults).as_deref(), &flavor)
    }

    /// Follows Kueue's objects until `stop`.
    pub async fn run(&self, client: Client, scopes: &[Option<String>], stop: CancellationToken) {
        if !self.is_on {
            return;
        }
        let mut watches = JoinSet::new();
        let mut workloads = Vec::new();
        for scope in scopes {
            let writer = reflector::store::Writer::<Workload>::default();
            workloads.push(writer.as_reader());
            let config = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER},{LABEL_QUERY}"));
            let events = watch(controller::api::<Workload>(client.clone(), scope), config).default_backoff();
            let waker = self.waker.clone();
            let woken = events.reflect(writer).for_each(move |event| {
                wake(event, &waker);
                std::future::ready(())
            });
            watches.spawn(woken);
        }
        let writer = reflector::store::Writer::<DynamicObject>::new(flavor_kind());
        let flavors = writer.as_reader();
        let events =
            watch(Api::<DynamicObject>::all_with(client, &flavor_kind()), watcher::Config::default()).default_backoff();
        watches.spawn(events.reflect(writer).for_each(|event| {
            if let Err(error) = event {
                tracing::warn!(%error, "the watch of Kueue's flavors broke off");
            }
            std::future::ready(())
        }));
        *self.stores.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stores { workloads, flavors });
        stop.cancelled().await;
        watches.shutdown().await;
    }
}

impl Stores {
    fn are_read(&self) -> bool {
        let are_listed =
            self.workloads.iter().all(|store| store.wait_until_ready().now_or_never().is_some_and(|r| r.is_ok()));
        are_listed && self.flavors.wait_until_ready().now_or_never().is_some_and(|read| read.is_ok())
    }

    fn flavor(&self, name: &str) -> Option<FlavorSpec> {
        let found = self.flavors.get(&ObjectRef::new_with(name, flavor_kind()))?;
        let spec = found.data.get("spec").cloned();
        // What cannot be read puts pods nowhere in particular, as a flavor without labels does.
        Some(spec.and_then(|spec| serde_json::from_value(spec).ok()).unwrap_or_default())
    }

    /// The Workload of the query; not that of a former query of its name.
    fn workload(&self, query: &DistributedQuery) -> Option<Arc<Workload>> {
        let name = names::shared(query.metadata.name.as_deref().unwrap_or_default());
        let at = ObjectRef::new(&name).within(query.metadata.namespace.as_deref().unwrap_or_default());
        let found = self.workloads.iter().find_map(|store| store.get(&at))?;
        let uid = query.metadata.uid.as_deref().unwrap_or_default();
        crate::query::observe::is_owned(&*found, uid).then_some(found)
    }
}

fn flavor_kind() -> ApiResource {
    cluster_kind("ResourceFlavor", "resourceflavors")
}

/// Wakes the query of a Workload that has changed.
fn wake(event: watcher::Result<Event<Workload>>, waker: &mpsc::UnboundedSender<Key>) {
    let workload = match event {
        Ok(Event::Apply(workload) | Event::InitApply(workload) | Event::Delete(workload)) => workload,
        Ok(Event::Init | Event::InitDone) => return,
        Err(error) => return tracing::warn!(%error, "the watch of Kueue's Workloads broke off"),
    };
    let (Some(namespace), Some(query)) = (workload.namespace(), workload.labels().get(LABEL_QUERY).cloned()) else {
        return;
    };
    // The receiver is gone when the operator stops.
    let _ = waker.send((namespace, query));
}
