//! The loop over schedules. It runs beside the loop over queries.

use std::collections::HashMap;
use std::sync::Arc;

use floe_api::ScheduledQuery;
use futures::{StreamExt, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::reflector;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Context, reconcile, retry};
use crate::controller::{api, turn};
use crate::pods::Key;

type Guarded = DeserializeGuard<ScheduledQuery>;
type Scope = Option<String>;

/// Runs until `stop`, then finishes the reconciles in progress. `told` receives the schedules whose queries changed.
pub async fn run(
    context: Arc<Context>,
    scopes: &[Scope],
    told: &mut mpsc::UnboundedReceiver<Key>,
    stop: CancellationToken,
) {
    let mut loops = JoinSet::new();
    let mut triggers: HashMap<Scope, mpsc::UnboundedSender<Key>> = HashMap::new();
    for scope in scopes {
        let (sender, receiver) = mpsc::unbounded_channel();
        triggers.insert(scope.clone(), sender);
        loops.spawn(serve(Arc::clone(&context), scope.clone(), receiver, stop.clone()));
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            key = told.recv() => {
                let Some(key) = key else { break };
                if let Some(to) = triggers.get(&None).or_else(|| triggers.get(&Some(key.0.clone()))) {
                    // The receiving loop may have ended; it then needs no news.
                    let _ = to.send(key);
                }
            }
        }
    }
    while loops.join_next().await.is_some() {}
}

async fn serve(context: Arc<Context>, scope: Scope, changed: mpsc::UnboundedReceiver<Key>, stop: CancellationToken) {
    let schedules: Api<Guarded> = api(context.shared.client.clone(), &scope);
    let gone = Arc::clone(&context);
    let events = watch(schedules, watcher::Config::default().any_semantic())
        .modify(|object| object.meta_mut().managed_fields = None)
        .default_backoff()
        .inspect_ok(move |event: &Event<Guarded>| {
            if let Event::Delete(object) = event
                && let Some(uid) = &object.meta().uid
            {
                gone.forget(uid);
            }
        });
    let writer = reflector::store::Writer::<Guarded>::default();
    turn("schedules", events.boxed(), writer, changed, (reconcile, retry), context, stop).await;
}
