//! The reconcile of one query: observe, plan (which validates), apply, write the status. Only observe, apply and write
//! use the client; the pure steps decide what they do.

pub mod apply;
pub mod build;
pub mod chain;
pub mod error;
pub mod facts;
mod handover;
pub mod kubelet;
pub mod memory;
#[cfg(test)]
pub mod mocked;
pub mod names;
pub mod observe;
pub mod plan;
pub mod policy;
#[cfg(test)]
mod scaling_scenario;
#[cfg(test)]
mod scenarios;
mod status;
mod turn;
pub mod validate;
mod verdict;
pub mod write;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use floe_api::{DistributedQuery, Phase};
use jiff::Timestamp;
use kube::Client;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action as Next;
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::context::register::Register;
use crate::events::{Events, Regarding};
use crate::kueue::{Queues, Standing};
use crate::line::Lines;
use crate::metrics::Metrics;
use crate::pause;
use crate::pods::PodIndex;
use crate::poll::Poller;
use crate::schedule::children::Children;
use crate::shares::{self, Share, Shares};
use build::Defaults;
use chain::Chain;
pub use error::Error;
use facts::Observed;
pub use memory::Memories;
use plan::{Plan, Settings};

/// What the steps of a reconcile share.
pub struct Context {
    pub client: Client,
    pub defaults: Defaults,
    pub settings: Settings,
    pub memories: Memories,
    /// The queries that wait for a quota.
    pub lines: Lines,
    pub poller: Poller,
    /// The contexts that queries can borrow.
    pub register: Register,
    /// The queries of schedules.
    pub children: Children,
    /// Which queries wait for which.
    pub chain: Chain,
    /// The queues of Kueue.
    pub queues: Queues,
    /// The operator's own limits.
    pub shares: Shares,
    pub events: Events,
    pub metrics: Arc<Metrics>,
    /// Limits how many queries are reconciled at the same time, over all namespaces.
    pub slots: Semaphore,
    /// The pods, by the scope of the watch: one namespace, or all.
    pub indexes: HashMap<Option<String>, Arc<PodIndex>>,
}

impl Context {
    fn pods(&self, namespace: &str) -> Option<&Arc<PodIndex>> {
        self.indexes.get(&None).or_else(|| self.indexes.get(&Some(namespace.to_owned())))
    }
}

/// Report a refusal that may be temporary after it has happened this often.
const TELL_AFTER: u32 = 3;
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Retry delay for a cleaning pod that a quota refuses.
const CLEAN_AGAIN: Duration = Duration::from_secs(1);

pub async fn reconcile(object: Arc<DeserializeGuard<DistributedQuery>>, context: Arc<Context>) -> Result<Next, Error> {
    // Thousands may wait here, so they hold as little as possible until it is their turn.
    let _slot = context.slots.acquire().await;
    let (query, unreadable) = match &object.0 {
        Ok(query) => (query.clone(), None),
        Err(invalid) => {
            let query = DistributedQuery { metadata: invalid.metadata.clone(), ..DistributedQuery::default() };
            (query, Some(invalid.error.clone()))
        }
    };
    let meta = &query.metadata;
    let span = tracing::info_span!(
        "reconcile",
        query = meta.name.as_deref().unwrap_or_default(),
        namespace = meta.namespace.as_deref().unwrap_or_default(),
        attempt = tracing::field::Empty,
    );
    let began = Instant::now();
    let result = Box::pin(look(&context, Arc::new(query), unreadable)).instrument(span).await;
    context.metrics.reconciled(began.elapsed(), result.as_ref().err().map(Error::category));
    result
}

/// One reconcile of a query.
async fn look(context: &Context, query: Arc<DistributedQuery>, unreadable: Option<String>) -> Result<Next, Error> {
    if query.spec.managed_by.is_some() && query.metadata.deletion_timestamp.is_none() {
        return Ok(Next::await_change());
    }
    let now = Timestamp::now();
    let mut observed = observe::observe(context, query, unreadable, now).await?;
    let (namespace, name, uid) = observe::identity(&observed.query)?;
    if observed.query.status.as_ref().and_then(|status| status.phase).is_some_and(|phase| phase.is_terminal()) {
        context.chain.ended(&(namespace.clone(), name.clone()));
    }
    let standing = context.queues.standing(&observed.query, &context.defaults);
    let share = share(context, &observed, &standing, &uid);
    observed.enter(standing, share);
    let memory = context.memories.of(&uid);
    tracing::Span::current().record("attempt", observed.attempt());
    observed.pins = build::pins(&observed.query, &context.defaults).ok();
    let asked = turn::ask(context, &observed, now).await;
    observed.turn = asked.turn.clone();

    let mut plan = plan::plan(&observed, &context.settings, now);
    if plan.wants_inputs {
        let attempt = plan.status.attempt.unwrap_or(1);
        let Some(mut inputs) = observe::inputs(context, &observed.query, &observed.loan, attempt).await? else {
            return Ok(Next::await_change());
        };
        inputs.query = Arc::new(observed.bound(&inputs.query));
        observed.inputs = Some(Arc::new(inputs));
        plan = plan::plan(&observed, &context.settings, now);
    }
    let is_over = plan.status.phase.is_some_and(|phase| phase.is_terminal());
    let is_ending = is_over || observed.query.metadata.deletion_timestamp.is_some();
    if !plan.actions.is_empty() {
        tracing::debug!(actions = ?plan.actions, "apply");
    }
    let applied = apply::apply(context, &observed, &plan.actions).await;
    let (full, mut errors): (Vec<_>, Vec<_>) = applied.errors.into_iter().partition(error::ApplyError::is_quota);
    let trouble = errors.first().map(error::ApplyError::trouble);
    let setbacks = {
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.setbacks = if trouble.is_some() { memory.setbacks.saturating_add(1) } else { 0 };
        memory.trouble.clone_from(&trouble);
        memory.setbacks
    };
    for error in &errors {
        context.metrics.failed(error.category());
    }
    if let (Some(told), true) = (&trouble, trouble != observed.trouble) {
        tracing::info!(reason = told.reason.as_str(), refused = errors.len(), "not applied: {}", told.message);
    }
    match full.first() {
        None if errors.is_empty() => turn::granted(context, &observed, &asked, &plan.actions, now),
        None => {}
        Some(error) => {
            let words = error.quota_words();
            let meta = &observed.query.metadata;
            tracing::info!(namespace = meta.namespace, name = meta.name, "it waits for a quota: {words}");
            context.metrics.failed(error.category());
            observed.turn = turn::refused(context, &observed, &asked, &words, now);
            if is_ending {
                return Ok(Next::requeue(CLEAN_AGAIN));
            }
        }
    }
    if let Some(trouble) = &trouble {
        let passing = trouble.reason == floe_api::Reason::ClusterError && setbacks < TELL_AFTER;
        if is_ending || passing {
            // Do not report it for ended queries, nor before retrying if it may be temporary.
            return Err(Error::Apply(errors.swap_remove(0)));
        }
    }
    if (trouble != observed.trouble || observed.turn != asked.turn) && !is_ending {
        observed.trouble = trouble.clone();
        let again = plan::plan(&observed, &context.settings, now);
        plan = Plan { notices: plan.notices, ..again };
    }
    let outcome = write::write(context, &observed, &mut plan.status, applied.version, now).await?;
    let mut requeue = plan.requeue;
    match outcome {
        write::Outcome::Unchanged => {}
        write::Outcome::Later(after) => requeue = Some(requeue.map_or(after, |at| at.min(after))),
        write::Outcome::Written => tell(context, &observed, &plan),
    }
    if trouble.is_none() {
        publish(context, &observed, plan.notices);
    } else {
        requeue = Some(requeue.unwrap_or(MAX_BACKOFF).max(backoff(setbacks)));
    }
    if is_over && plan.requeue.is_none_or(|after| after > Duration::from_secs(60)) {
        // Nothing is left to do: forget the query.
        context.poller.forget(&uid);
        context.register.give_back(&(namespace, name));
        memory.lock().unwrap_or_else(PoisonError::into_inner).settle();
    }
    Ok(requeue.map_or_else(Next::await_change, Next::requeue))
}

/// The query's share by the operator's own limits. One that wants none gives back what it has.
fn share(context: &Context, observed: &Observed, standing: &Standing, uid: &str) -> Share {
    let query = &observed.query;
    if !shares::are_about(query) || *standing != Standing::Free {
        return Share::Free;
    }
    let is_over = observed.status.phase.is_some_and(|phase| phase.is_terminal());
    let is_going = is_over || query.metadata.deletion_timestamp.is_some();
    let is_held = query.spec.suspend && observed.status.phase == Some(Phase::Suspended);
    if is_going || is_held || observed.unreadable.is_some() {
        context.shares.leave(uid);
        return Share::Free;
    }
    let may_enter = !query.spec.suspend && !query.spec.cancel && !plan::after::is_held(observed);
    context.shares.ask(query, may_enter, || context.chain.all())
}

/// Sends the Events and metrics of a written status.
fn tell(context: &Context, observed: &Observed, plan: &Plan) {
    let (old, new) = (&observed.status, &plan.status);
    publish(context, observed, status::notices(old, new));
    let (Some(phase), true) = (new.phase, old.phase != new.phase) else { return };
    let words = new.message.as_deref().unwrap_or(phase.as_str());
    tracing::info!(phase = phase.as_str(), reason = new.reason, "{words}");
    if phase.is_terminal() {
        let seconds = match (&new.started_at, &new.finished_at) {
            (Some(started), Some(finished)) => finished.0.duration_since(started.0).as_secs_f64(),
            _ => 0.0,
        };
        context.metrics.ended(phase, seconds);
    }
}

fn publish(context: &Context, observed: &Observed, notices: Vec<plan::Notice>) {
    if notices.is_empty() {
        return;
    }
    let regarding = Regarding::of(&*observed.query);
    for mut notice in notices {
        notice.note = status::scrub(&observed.query.spec, &notice.note);
        context.events.publish(&regarding, notice);
    }
}

/// Retries after an error, waiting longer after each further one.
pub fn retry(object: Arc<DeserializeGuard<DistributedQuery>>, error: &Error, context: Arc<Context>) -> Next {
    let metadata = match &object.0 {
        Ok(query) => &query.metadata,
        Err(invalid) => &invalid.metadata,
    };
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let memory = context.memories.of(uid);
    let setbacks = {
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(error, Error::Apply(_)) {
            memory.setbacks = memory.setbacks.saturating_add(1);
        }
        memory.setbacks
    };
    match error {
        Error::Status(error::StatusError::Conflict) => {
            tracing::debug!(query = metadata.name, "written by somebody else in between: looking again");
            Next::requeue(Duration::from_millis(200).max(backoff(setbacks) / 4))
        }
        error => {
            tracing::warn!(
                query = metadata.name,
                namespace = metadata.namespace,
                category = error.category(),
                "{error}"
            );
            Next::requeue(backoff(setbacks))
        }
    }
}

fn backoff(setbacks: u32) -> Duration {
    pause::backoff(250, setbacks, MAX_BACKOFF)
}
