//! The loop over contexts and their pods. It runs beside the loop over queries.

use std::collections::HashMap;
use std::sync::Arc;

use floe_api::{ComputeContext, ComputeContextStatus};
use futures::{StreamExt, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::names::LABEL_CONTEXT;
use super::{Context, reconcile, retry};
use crate::controller::{api, pods, turn};
use crate::pods::Key;

type Guarded = DeserializeGuard<ComputeContext>;
type Scope = Option<String>;

/// Runs until `stop`, then finishes the reconciles in progress.
pub async fn run(context: Arc<Context>, news: &mut mpsc::UnboundedReceiver<Key>, stop: CancellationToken) {
    let mut loops = JoinSet::new();
    let mut triggers: HashMap<Scope, mpsc::UnboundedSender<Key>> = HashMap::new();
    let mut stores = Vec::new();
    for scope in context.indexes.keys() {
        let (sender, receiver) = mpsc::unbounded_channel();
        triggers.insert(scope.clone(), sender.clone());
        let writer = reflector::store::Writer::<Guarded>::default();
        stores.push(writer.as_reader());
        loops.spawn(serve(Arc::clone(&context), scope.clone(), writer, sender, receiver, stop.clone()));
    }
    context.shared.metrics.count_contexts_by(Some(Box::new(move || statuses(&stores))));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            key = news.recv() => {
                let Some(key) = key else { break };
                if let Some(to) = triggers.get(&None).or_else(|| triggers.get(&Some(key.0.clone()))) {
                    // The receiving loop may have ended; it then needs no news.
                    let _ = to.send(key);
                }
            }
        }
    }
    while loops.join_next().await.is_some() {}
    context.shared.metrics.count_contexts_by(None);
    context.talks.forget_all();
}

async fn serve(
    context: Arc<Context>,
    scope: Scope,
    writer: reflector::store::Writer<Guarded>,
    sender: mpsc::UnboundedSender<Key>,
    changed: mpsc::UnboundedReceiver<Key>,
    stop: CancellationToken,
) {
    let index = context.indexes.get(&scope).cloned().unwrap_or_default();
    let client = context.shared.client.clone();
    let pods = tokio::spawn(pods(client.clone(), scope.clone(), LABEL_CONTEXT, Arc::clone(&index), sender));
    // Reconcile no context before its pods are known: they would seem to be gone.
    tokio::select! {
        () = stop.cancelled() => { pods.abort(); return }
        () = index.ready() => {}
    }
    let noted = Arc::clone(&context);
    let contexts: Api<Guarded> = api(client, &scope);
    let events = watch(contexts, watcher::Config::default().any_semantic())
        .default_backoff()
        .inspect_ok(move |event: &Event<Guarded>| note(&noted, &scope, event));
    turn("contexts", events.boxed(), writer, changed, (reconcile, retry), context, stop).await;
    pods.abort();
}

fn statuses(stores: &[Store<Guarded>]) -> Vec<ComputeContextStatus> {
    let objects = stores.iter().flat_map(Store::state);
    objects.filter_map(|object| Some(object.0.as_ref().ok()?.status.clone().unwrap_or_default())).collect()
}

/// Keeps the register of contexts, which the queries read, up to date.
fn note(context: &Context, scope: &Scope, event: &Event<Guarded>) {
    let key = |object: &Guarded| {
        let meta = object.meta();
        Some((meta.namespace.clone()?, meta.name.clone()?))
    };
    match event {
        Event::Apply(object) | Event::InitApply(object) => {
            if let Some(key) = key(object) {
                context.shared.register.note(key);
            }
        }
        Event::Delete(object) => {
            if let Some(key) = key(object) {
                context.forget(&key, object.meta().uid.as_deref().unwrap_or_default());
            }
        }
        Event::InitDone => context.shared.register.set_listed(scope),
        Event::Init => {}
    }
}
