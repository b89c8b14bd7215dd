//! The reconcile of one `ComputeContext`: observe, plan, apply, write the status, inform the queries that borrow it. As
//! with queries, only observe, apply and write use the client.

mod apply;
pub mod build;
pub mod controller;
mod crew;
mod draft;
mod facts;
pub mod names;
mod observe;
mod plan;
pub mod register;
pub mod scale;
pub mod talk;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
mod write;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use floe_api::{ComputeContext, ComputeContextStatus};
use jiff::{SignedDuration, Timestamp};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action as Next;

use crate::events::Regarding;
use crate::pause;
use crate::pods::{Key, PodIndex};
use crate::query;
use crate::query::error::Error;
use crate::query::facts::{PodFacts, Trouble};
use crate::query::memory::Memory;
use facts::Seen;
pub use names::LABEL_CONTEXT;
use register::Lent;

/// What the steps of a reconcile share.
pub struct Context {
    /// What they share with the reconciles of queries.
    pub shared: Arc<query::Context>,
    pub talks: talk::Talks,
    memories: Mutex<HashMap<String, Arc<Mutex<Remembered>>>>,
    /// The pods of contexts, by the scope of the watch: one namespace, or all.
    indexes: HashMap<Option<String>, Arc<PodIndex>>,
}

/// What is remembered of a context between reconciles. Any of it may be lost at any time.
#[derive(Default)]
pub struct Remembered {
    pods: Memory,
    trouble: Option<Trouble>,
    setbacks: u32,
    hold_until: Option<Timestamp>,
    token: Option<String>,
    /// The latest status and the resource version it was written with, until the watch shows it.
    written: Option<(String, ComputeContextStatus)>,
    written_at: Option<Timestamp>,
}

impl Context {
    pub fn new(shared: Arc<query::Context>, talks: talk::Talks, scopes: &[Option<String>]) -> Self {
        let indexes = scopes.iter().map(|scope| (scope.clone(), Arc::default())).collect();
        Self { shared, talks, memories: Mutex::default(), indexes }
    }

    fn pods(&self, namespace: &str) -> Option<&Arc<PodIndex>> {
        self.indexes.get(&None).or_else(|| self.indexes.get(&Some(namespace.to_owned())))
    }

    fn memory(&self, uid: &str) -> Arc<Mutex<Remembered>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(memories.entry(uid.to_owned()).or_default())
    }

    /// Forgets a context that is gone.
    fn forget(&self, key: &Key, uid: &str) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.talks.keep_only(key, &std::collections::BTreeSet::new());
        self.shared.register.remove(key);
    }
}

fn lock(memory: &Mutex<Remembered>) -> MutexGuard<'_, Remembered> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

const MAX_BACKOFF: Duration = Duration::from_secs(30);

pub async fn reconcile(object: Arc<DeserializeGuard<ComputeContext>>, context: Arc<Context>) -> Result<Next, Error> {
    let Ok(found) = &object.0 else {
        // Wait until the object is changed; whatever it has keeps running.
        tracing::warn!(
            name = object.0.as_ref().err().and_then(|e| e.metadata.name.clone()),
            "a context cannot be read"
        );
        return Ok(Next::await_change());
    };
    let now = Timestamp::now();
    let seen = observe::observe(&context, Arc::new(found.clone()), now).await?;
    let (key, uid) = observe::identity(&seen.context)?;
    let memory = context.memory(&uid);
    let mut plan = plan::plan(&seen, now);
    if !plan.actions.is_empty() {
        tracing::debug!(context = key.1, namespace = key.0, actions = ?plan.actions, "apply");
    }
    let errors = apply::apply(&context, &seen, &plan.actions).await;
    let trouble = errors.first().map(query::error::ApplyError::trouble);
    let setbacks = {
        let mut memory = lock(&memory);
        let tried = plan.actions.iter().any(|action| matches!(action, plan::Action::CreatePod { .. }));
        match &trouble {
            Some(_) => {
                memory.setbacks = memory.setbacks.saturating_add(1);
                let pause = SignedDuration::try_from(backoff(memory.setbacks)).unwrap_or_default();
                memory.hold_until = Some(now + pause);
                memory.trouble.clone_from(&trouble);
            }
            None if tried || seen.hold_until.is_none_or(|until| until < now) => {
                (memory.setbacks, memory.hold_until, memory.trouble) = (0, None, None);
            }
            None => {}
        }
        memory.setbacks
    };
    if let Some(told) = trouble.as_ref().filter(|told| seen.trouble.as_ref() != Some(*told)) {
        tracing::info!(
            context = key.1,
            namespace = key.0,
            reason = told.reason.as_str(),
            "not applied: {}",
            told.message
        );
        let again = plan::plan(&Seen { trouble: trouble.clone(), ..seen.clone() }, now);
        (plan.status.reason, plan.status.message) = (again.status.reason, again.status.message);
    }
    publish(&context, &seen, &plan.status, &key);
    let later = write::write(&context, &seen, &plan.status, now).await?;
    let regarding = Regarding::of(&*seen.context);
    for notice in plan.notices {
        context.shared.events.publish(&regarding, notice);
    }
    let mut requeue = plan.requeue;
    for after in later.into_iter().chain(trouble.map(|_| backoff(setbacks))) {
        requeue = Some(requeue.map_or(after, |before| before.min(after)));
    }
    Ok(requeue.map_or_else(Next::await_change, Next::requeue))
}

/// Publishes what the borrowing queries need to know.
fn publish(context: &Context, seen: &Seen, status: &ComputeContextStatus, key: &Key) {
    let coordinators: Vec<PodFacts> =
        status.revisions.iter().filter_map(|revision| seen.coordinator(revision.number)).cloned().collect();
    let serving = status.serving.and_then(|number| seen.coordinator(number)).filter(|pod| pod.is_running());
    let meta = &seen.context.metadata;
    let uid = meta.uid.clone().unwrap_or_default();
    let token = lock(&context.memory(&uid)).token.clone();
    let message = status.message.clone().or_else(|| status.phase.map(|phase| phase.as_str().to_owned()));
    let lent = Lent {
        uid,
        compute: seen.context.spec.compute.clone(),
        storage: seen.context.spec.storage.clone(),
        token,
        serving: serving.map(|pod| pod.uid.clone()),
        coordinators,
        message: message.unwrap_or_default(),
        is_leaving: meta.deletion_timestamp.is_some(),
    };
    context.shared.register.publish(key.clone(), lent);
}

/// Retries after an error, waiting longer after each further one.
pub fn retry(object: Arc<DeserializeGuard<ComputeContext>>, error: &Error, context: Arc<Context>) -> Next {
    let metadata = match &object.0 {
        Ok(found) => &found.metadata,
        Err(invalid) => &invalid.metadata,
    };
    let memory = context.memory(metadata.uid.as_deref().unwrap_or_default());
    let setbacks = {
        let mut memory = lock(&memory);
        memory.setbacks = memory.setbacks.saturating_add(1);
        memory.setbacks
    };
    match error {
        Error::Status(query::error::StatusError::Conflict) => Next::requeue(Duration::from_millis(200)),
        error => {
            tracing::warn!(
                context = metadata.name,
                namespace = metadata.namespace,
                category = error.category(),
                "{error}"
            );
            Next::requeue(backoff(setbacks))
        }
    }
}

fn backoff(setbacks: u32) -> Duration {
    pause::backoff(500, setbacks, MAX_BACKOFF)
}
