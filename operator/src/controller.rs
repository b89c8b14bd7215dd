//! The loop over queries: watches queries and their pods, and reconciles a query when something of it changed, when its
//! coordinator reported news, or when its requeue time has come. One loop per served namespace, or one for all.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use floe_api::DistributedQuery;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Next, Config, ReconcileRequest, applier};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::pods::{Key, PodIndex, PodView};
use crate::query::names::{LABEL_QUERY, MANAGED_BY, MANAGER};
use crate::query::{Context, reconcile, retry};

type Guarded = DeserializeGuard<DistributedQuery>;
type Scope = Option<String>;

/// Do not cache longer inline plans; they are read again when needed.
const KEPT_PLAN_BYTES: usize = 4096;
const GARBAGE_INTERVAL: Duration = Duration::from_secs(600);

/// Indexes of the pods, one per served namespace.
pub fn indexes(scopes: &[Scope]) -> HashMap<Scope, Arc<PodIndex>> {
    scopes.iter().map(|scope| (scope.clone(), Arc::default())).collect()
}

/// Runs until `stop`, then finishes the reconciles in progress.
pub async fn run(
    context: Arc<Context>,
    news: &mut mpsc::UnboundedReceiver<Key>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let mut loops = JoinSet::new();
    let mut triggers: HashMap<Scope, mpsc::UnboundedSender<Key>> = HashMap::new();
    let mut stores = Vec::new();
    for (scope, index) in &context.indexes {
        let (sender, receiver) = mpsc::unbounded_channel();
        triggers.insert(scope.clone(), sender.clone());
        let writer = reflector::store::Writer::<Guarded>::default();
        stores.push(writer.as_reader());
        let pods = pods(context.client.clone(), scope.clone(), LABEL_QUERY, Arc::clone(index), sender);
        loops.spawn(serve(Arc::clone(&context), scope.clone(), writer, pods, receiver, stop.clone()));
    }
    context.chain.watch(stores.clone());
    let counted = stores.clone();
    context.metrics.count_by(Some(Box::new(move || census(&counted))));
    ready.store(true, Ordering::Relaxed);
    let mut garbage = tokio::time::interval(GARBAGE_INTERVAL);
    garbage.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = garbage.tick() => context.memories.keep_only(&uids(&stores)),
            key = news.recv() => {
                let Some(key) = key else { break };
                let to = triggers.get(&None).or_else(|| triggers.get(&Some(key.0.clone())));
                if let Some(to) = to {
                    // The receiving loop may have ended; it then needs no news.
                    let _ = to.send(key);
                }
            }
        }
    }
    while loops.join_next().await.is_some() {}
    context.metrics.count_by(None);
    context.poller.forget_all();
}

pub fn api<K>(client: Client, scope: &Scope) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Maintains the index of pods with this label, and reports whose pods changed. Never returns by itself.
pub async fn pods(
    client: Client,
    scope: Scope,
    label: &'static str,
    index: Arc<PodIndex>,
    changed: mpsc::UnboundedSender<Key>,
) {
    let config = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER},{label}"));
    let mut events = std::pin::pin!(watch(api::<PodView>(client, &scope), config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let is_list = matches!(event, Event::InitDone);
                for key in index.take(event) {
                    if changed.send(key).is_err() {
                        return;
                    }
                }
                if is_list {
                    index.set_ready();
                }
            }
            Err(error) => tracing::warn!(%error, "the watch of pods broke off"),
        }
    }
}

async fn serve(
    context: Arc<Context>,
    scope: Scope,
    writer: reflector::store::Writer<Guarded>,
    pods: impl Future<Output = ()> + Send + 'static,
    changed: mpsc::UnboundedReceiver<Key>,
    stop: CancellationToken,
) {
    let pods = tokio::spawn(pods);
    let index = context.indexes.get(&scope).cloned().unwrap_or_default();
    // Reconcile no query before its pods are known: they would seem to be gone.
    tokio::select! {
        () = stop.cancelled() => { pods.abort(); return }
        () = index.ready() => {}
    }
    let queries: Api<Guarded> = api(context.client.clone(), &scope);
    let gone = Arc::clone(&context);
    let of = scope.clone();
    let events = watch(queries, watcher::Config::default().any_semantic()).modify(trim).default_backoff().inspect_ok(
        move |event| {
            gone.children.take(&of, event);
            if let Event::Delete(object) = event
                && let Some(uid) = &object.meta().uid
            {
                gone.memories.forget(uid);
                gone.lines.leave(uid);
                gone.shares.leave(uid);
                gone.register.give_back(&key_of(object));
                gone.poller.forget(uid);
            }
        },
    );
    turn("queries", events.boxed(), writer, changed, (reconcile, retry), context, stop).await;
    pods.abort();
}

/// The reconcile function of an object.
type Look<K, C, F> = fn(Arc<K>, Arc<C>) -> F;
/// The error policy: when to reconcile again after an error.
type Retry<K, C, E> = fn(Arc<K>, &E, Arc<C>) -> Next;

/// Reconciles an object when it changes, when `changed` names it, or when its requeue time has come, until `stop`.
pub async fn turn<K, C, E, F>(
    what: &'static str,
    events: BoxStream<'static, watcher::Result<Event<K>>>,
    writer: reflector::store::Writer<K>,
    changed: mpsc::UnboundedReceiver<Key>,
    (reconcile, retry): (Look<K, C, F>, Retry<K, C, E>),
    context: Arc<C>,
    stop: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    C: Send + Sync + 'static,
    E: std::error::Error + Send + 'static,
    F: Future<Output = Result<Next, E>> + Send + 'static,
{
    let store = writer.as_reader();
    let touched = events.reflect(writer).applied_objects().filter_map(move |object| {
        let object = object.inspect_err(|error| tracing::warn!(%error, "the watch of {what} broke off"));
        std::future::ready(object.ok().map(|object| ObjectRef::from_obj(&object)))
    });
    let changed =
        UnboundedReceiverStream::new(changed).map(|(namespace, name)| ObjectRef::<K>::new(&name).within(&namespace));
    let queue = futures::stream::select(touched, changed)
        .map(|object| Ok::<_, Infallible>(ReconcileRequest::from(object)))
        .take_until(stop.cancelled_owned());
    let config = Config::default().concurrency(0);
    applier(
        move |object, context| Box::pin(reconcile(object, context)),
        retry,
        context,
        store,
        Box::pin(queue),
        config,
    )
    .for_each(|result| async move {
        match result {
            // Errors are reported where they happen; an object that is gone is no error.
            Ok(_) | Err(kube::runtime::controller::Error::ReconcilerFailed(..)) => {}
            Err(kube::runtime::controller::Error::ObjectNotFound(_)) => {}
            Err(error) => tracing::warn!(%error, "the loop of {what} stumbled"),
        }
    })
    .await;
}

fn key_of(object: &Guarded) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Drops what is not needed between two reconciles: managed fields, large plans, the stages of ended queries.
fn trim(object: &mut Guarded) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.retain(|key, _| key.starts_with("floe.dev/"));
    }
    let Ok(query) = &mut object.0 else { return };
    if let Some(inline) = query.spec.plan.dsl.as_mut().and_then(|dsl| dsl.inline.as_mut())
        && inline.len() > KEPT_PLAN_BYTES
    {
        *inline = String::new();
    }
    let is_over = query.status.as_ref().and_then(|status| status.phase).is_some_and(|phase| phase.is_terminal());
    if is_over {
        query.spec.plan = floe_api::PlanSource::default();
        query.spec.params.clear();
        query.spec.tables.clear();
        if let Some(status) = &mut query.status {
            status.stages = Vec::new();
            status.single_worker = Vec::new();
            status.warnings = Vec::new();
        }
    }
}

fn census(stores: &[Store<Guarded>]) -> Vec<(&'static str, String, i64)> {
    let mut counts: HashMap<(&'static str, String), i64> = HashMap::new();
    for object in stores.iter().flat_map(Store::state) {
        let status = object.0.as_ref().ok().and_then(|query| query.status.as_ref());
        let phase = status.and_then(|status| status.phase).map_or("Pending", floe_api::Phase::as_str);
        // Use known words only: anybody could have written the status.
        let reason = status.and_then(|status| status.reason.as_deref()).and_then(floe_api::Reason::parse);
        let reason = reason.map_or("None", floe_api::Reason::as_str);
        *counts.entry((phase, reason.to_owned())).or_default() += 1;
    }
    counts.into_iter().map(|((phase, reason), count)| (phase, reason, count)).collect()
}

fn uids(stores: &[Store<Guarded>]) -> BTreeSet<String> {
    stores.iter().flat_map(Store::state).filter_map(|object| object.meta().uid.clone()).collect()
}
