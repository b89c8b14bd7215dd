//! The reconcile of one `ScheduledQuery`: observe, plan, apply, plan again with what was created, write the status.
//! Only apply and write use the client; the queries come from the watch of queries (`children`), so that a reconcile
//! with nothing to do makes no request.

mod apply;
pub mod children;
pub mod controller;
mod draft;
mod due;
mod facts;
mod model;
mod plan;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use floe_api::schedule::calendar::Calendar;
use floe_api::{ScheduledQuery, ScheduledQueryStatus};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action as Next;
use tokio::sync::Semaphore;

use crate::events::Regarding;
use crate::pause;
use crate::pods::Key;
use crate::query;
use crate::query::error::{Error, ObserveError, StatusError};
use crate::query::facts::Trouble;
use crate::query::observe::is_newer;
use crate::query::write::patch;
use facts::Seen;

/// What the steps of a reconcile share.
pub struct Context {
    /// What they share with the reconciles of queries.
    shared: Arc<query::Context>,
    memories: Mutex<HashMap<String, Arc<Mutex<Remembered>>>>,
    /// Limits concurrent reconciles: at the full hour many schedules create queries.
    slots: Semaphore,
}

/// What is remembered of a schedule between reconciles. Any of it may be lost at any time.
#[derive(Default)]
struct Remembered {
    trouble: Option<Trouble>,
    setbacks: u32,
    hold: Option<(Timestamp, Timestamp)>,
    /// The generation that this is about: a changed spec is read anew, and tried at once.
    generation: Option<i64>,
    /// When its queries are due.
    calendar: Option<Result<Calendar, Trouble>>,
    /// The latest status and the resource version it was written with, until the watch shows it.
    written: Option<(String, ScheduledQueryStatus)>,
}

impl Context {
    pub fn new(shared: Arc<query::Context>) -> Self {
        Self { shared, memories: Mutex::default(), slots: Semaphore::new(AT_ONCE) }
    }

    fn memory(&self, uid: &str) -> Arc<Mutex<Remembered>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(memories.entry(uid.to_owned()).or_default())
    }

    /// Forgets a schedule that is gone.
    fn forget(&self, uid: &str) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

fn lock(memory: &Mutex<Remembered>) -> MutexGuard<'_, Remembered> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

const AT_ONCE: usize = 16;
/// Maximum retry delay for a query that is refused again and again.
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Retry delay while the operator lists the existing queries at its start.
const UNREAD: Duration = Duration::from_millis(250);

pub async fn reconcile(object: Arc<DeserializeGuard<ScheduledQuery>>, context: Arc<Context>) -> Result<Next, Error> {
    let _slot = context.slots.acquire().await;
    let Ok(found) = &object.0 else {
        // Wait until the object is changed.
        let name = object.0.as_ref().err().and_then(|invalid| invalid.metadata.name.clone());
        tracing::warn!(name, "a schedule cannot be read");
        return Ok(Next::await_change());
    };
    let schedule = Arc::new(found.clone());
    let (key, uid) = identity(&schedule)?;
    let now = Timestamp::now();
    let Some(mut seen) = observe(&context, &schedule, &key, &uid, now) else {
        return Ok(Next::requeue(UNREAD));
    };
    let mut plan = plan::plan(&seen, now);
    if !plan.actions.is_empty() {
        tracing::debug!(schedule = key.1, namespace = key.0, actions = ?plan.actions, "apply");
        let applied = apply::apply(&context, &seen, &plan.actions).await;
        let is_made = applied.made > 0;
        remember(&context, &uid, applied, now);
        // Observe again: report only what was created and is seen now.
        let Some(again) = observe(&context, &schedule, &key, &uid, now) else {
            return Ok(Next::requeue(UNREAD));
        };
        let trouble = again.trouble.as_ref().filter(|told| seen.trouble.as_ref() != Some(*told));
        if let Some(told) = trouble {
            tracing::info!(schedule = key.1, namespace = key.0, reason = told.reason.as_str(), "{}", told.message);
        }
        seen = again;
        plan = plan::plan(&seen, now);
        if is_made && !plan.actions.is_empty() {
            plan.requeue = Some(plan.requeue.map_or(UNREAD, |after| after.min(UNREAD)));
        }
    }
    write(&context, &seen, &plan.status, &key, &uid).await?;
    if seen.trouble.is_none() {
        lock(&context.memory(&uid)).setbacks = 0;
    }
    let regarding = Regarding::of(&*seen.schedule);
    for notice in plan.notices {
        context.shared.events.publish(&regarding, notice);
    }
    Ok(plan.requeue.map_or_else(Next::await_change, Next::requeue))
}

/// Namespace and name, and the UID.
fn identity(schedule: &ScheduledQuery) -> Result<(Key, String), ObserveError> {
    let meta = &schedule.metadata;
    match (&meta.namespace, &meta.name, &meta.uid) {
        (Some(namespace), Some(name), Some(uid)) => Ok(((namespace.clone(), name.clone()), uid.clone())),
        _ => Err(ObserveError::Anonymous),
    }
}

/// Everything that a decision needs. `None` while the queries are not known.
fn observe(context: &Context, schedule: &Arc<ScheduledQuery>, key: &Key, uid: &str, now: Timestamp) -> Option<Seen> {
    let children = context.shared.children.of(key, uid)?;
    let memory = context.memory(uid);
    let mut memory = lock(&memory);
    let version = schedule.metadata.resource_version.clone().unwrap_or_default();
    let status = match &memory.written {
        Some((written, status)) if is_newer(written, &version) => status.clone(),
        _ => {
            memory.written = None;
            schedule.status.clone().unwrap_or_default()
        }
    };
    if memory.generation != schedule.metadata.generation {
        (memory.setbacks, memory.hold, memory.trouble) = (0, None, None);
        memory.generation = schedule.metadata.generation;
        memory.calendar = None;
    }
    let read = || model::calendar(schedule, &context.shared.settings.policy, now);
    let calendar = memory.calendar.get_or_insert_with(read).clone();
    let (trouble, hold) = (memory.trouble.clone(), memory.hold);
    Some(Seen { schedule: Arc::clone(schedule), status, children, calendar, trouble, hold })
}

/// Records what was refused, and until when to try nothing.
fn remember(context: &Context, uid: &str, applied: apply::Applied, now: Timestamp) {
    let memory = context.memory(uid);
    let mut memory = lock(&memory);
    match applied.trouble {
        Some((time, trouble)) => {
            memory.setbacks = memory.setbacks.saturating_add(1);
            let pause = SignedDuration::try_from(backoff(memory.setbacks)).unwrap_or_default();
            memory.hold = Some((time, now + pause));
            memory.trouble = Some(trouble);
        }
        None if applied.made > 0 => (memory.setbacks, memory.hold, memory.trouble) = (0, None, None),
        None => {}
    }
}

/// Writes the status if anything in it changed.
async fn write(
    context: &Context,
    seen: &Seen,
    new: &ScheduledQueryStatus,
    key: &Key,
    uid: &str,
) -> Result<(), StatusError> {
    if *new == seen.status {
        return Ok(());
    }
    let memory = context.memory(uid);
    let known = lock(&memory).written.as_ref().map(|(version, _)| version.clone());
    let version = known.or_else(|| seen.schedule.metadata.resource_version.clone());
    let api: Api<ScheduledQuery> = Api::namespaced(context.shared.client.clone(), &key.0);
    let patched = patch(&api, (&key.1, uid), version, &seen.status, new).await.inspect_err(|_| {
        // The status remembered as the newest may be outdated.
        lock(&memory).written = None;
    })?;
    lock(&memory).written = patched.map(|version| (version, new.clone()));
    Ok(())
}

/// Retries after an error, waiting longer after each further one.
pub fn retry(object: Arc<DeserializeGuard<ScheduledQuery>>, error: &Error, context: Arc<Context>) -> Next {
    let metadata = match &object.0 {
        Ok(found) => &found.metadata,
        Err(invalid) => &invalid.metadata,
    };
    if matches!(error, Error::Status(StatusError::Conflict)) {
        return Next::requeue(Duration::from_millis(200));
    }
    let memory = context.memory(metadata.uid.as_deref().unwrap_or_default());
    let setbacks = {
        let mut memory = lock(&memory);
        memory.setbacks = memory.setbacks.saturating_add(1);
        memory.setbacks
    };
    let (name, namespace) = (&metadata.name, &metadata.namespace);
    tracing::warn!(schedule = name, namespace, category = error.category(), "{error}");
    Next::requeue(backoff(setbacks))
}

fn backoff(setbacks: u32) -> Duration {
    pause::backoff(1000, setbacks, MAX_BACKOFF)
}
