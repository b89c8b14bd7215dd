//! Whether it is the query's turn to create pods, if a quota limits those of its namespace, or if no node had room for
//! several queries at once: a part of observing. What a pod counts for is derived from the pods as they would be
//! created; `line` decides the order.

use floe_api::{Phase, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::ListParams;

use super::facts::{Observed, PlanSecrets, PodFacts, PodState, Turn};
use super::names::Place;
use super::plan::scale::{is_former, target};
use super::plan::{Action, after};
use super::{Context, build};
use crate::line::quota::{Need, Quota};
use crate::line::{Answer, Class, NODES, Rank, Ticket, Waiting};

/// Time for a cluster autoscaler to react to pending pods.
const NODE_PATIENCE: SignedDuration = SignedDuration::from_secs(180);

/// What was known when a query was allowed to try.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub turn: Turn,
    /// The quotas, if they were read.
    quotas: Option<Vec<Quota>>,
}

/// The turn of a query that may need pods. A query that needs none leaves the line.
pub async fn ask(context: &Context, observed: &Observed, now: Timestamp) -> Asked {
    if after::is_held(observed) || !observed.is_admitted() {
        context.lines.leave(uid(observed));
        return Asked::default();
    }
    let (Some(ticket), Some(wants)) = (ticket(observed), Wants::of(observed)) else {
        if !is_cleaning(observed) {
            context.lines.leave(uid(observed));
        }
        return Asked::default();
    };
    let nodes = nodes(context, observed, &ticket, now);
    if wants.is_nothing() {
        context.lines.leave_those(uid(observed), |scope| scope.0 != NODES);
        return Asked { turn: nodes.unwrap_or_default(), quotas: None };
    }
    let waited = observed.status.ahead.and(observed.status.message.as_deref());
    if !context.lines.enters(&ticket, waited, now) {
        return Asked { turn: nodes.unwrap_or_default(), quotas: None };
    }
    let quotas = match context.lines.needs_quotas(&ticket) {
        true => quotas(context, observed).await,
        false => None,
    };
    let (missing, whole) = wants.needs(context, observed);
    let turn = match context.lines.decide(&ticket, quotas.as_deref(), &missing, &whole, now) {
        Some(Answer::Wait(waiting)) => Turn::Waiting(waiting),
        Some(Answer::Try) => Turn::Mine,
        None => Turn::Free,
    };
    match nodes {
        Some(waiting @ Turn::Waiting(_)) => Asked { turn: waiting, quotas: None },
        Some(_) | None => Asked { turn, quotas },
    }
}

/// The line of queries that hold some of the pods that they need while no node takes the others: the oldest keeps what
/// it has, so that they do not all wait for each other. `None` for queries that are not in that line.
fn nodes(context: &Context, observed: &Observed, ticket: &Ticket, now: Timestamp) -> Option<Turn> {
    let ticket = Ticket { scope: (NODES.to_owned(), ticket.scope.1.clone()), ..ticket.clone() };
    let stuck = observed.pods.iter().filter(|pod| pod.attempt() == Some(observed.attempt())).find_map(|pod| {
        let since = pod.created_at.map(|at| now.duration_since(at))?;
        match &pod.state {
            PodState::Waiting(Some(stuck)) if stuck.reason == Reason::Unschedulable => {
                Some((since, stuck.words.clone()))
            }
            PodState::Waiting(_) | PodState::Running | PodState::Ended(_) => None,
        }
    });
    let is_starting = matches!(observed.status.phase, None | Some(Phase::Pending | Phase::Starting));
    let in_vain = observed.coordinator().is_some_and(PodFacts::is_running);
    match stuck {
        Some((since, words)) if is_starting && in_vain && since >= NODE_PATIENCE && !context.lines.holds(&ticket) => {
            context.lines.refuse(&ticket, &words, None, now);
        }
        // It has its pods, or has released them and waits.
        Some(_) => {}
        None if !is_starting || Wants::of(observed).is_some_and(|wants| wants.is_nothing()) => {
            context.lines.leave_those(uid(observed), |scope| scope.0 == NODES);
        }
        None => {}
    }
    let nothing = Need::default();
    match context.lines.decide(&ticket, None, &nothing, &nothing, now)? {
        Answer::Wait(waiting) if waiting.ahead > 0 => Some(Turn::Waiting(Waiting { for_nodes: true, ..waiting })),
        // The first keeps its pods and waits for nodes, as any query does.
        Answer::Wait(_) | Answer::Try => Some(Turn::Free),
    }
}

/// Records that a quota refused something, and returns the turn as it is now.
pub fn refused(context: &Context, observed: &Observed, asked: &Asked, words: &str, now: Timestamp) -> Turn {
    let Some(ticket) = ticket(observed) else { return Turn::Free };
    context.lines.refuse(&ticket, words, asked.quotas.clone(), now);
    let (missing, whole) = Wants::of(observed).unwrap_or_default().needs(context, observed);
    match context.lines.decide(&ticket, asked.quotas.as_deref(), &missing, &whole, now) {
        Some(Answer::Wait(waiting)) => Turn::Waiting(waiting),
        // Try at the next reconcile.
        Some(Answer::Try) | None => Turn::Waiting(Waiting { words: words.to_owned(), ..Default::default() }),
    }
}

/// Records that everything asked for was created.
pub fn granted(context: &Context, observed: &Observed, asked: &Asked, made: &[Action], now: Timestamp) {
    match asked.turn {
        Turn::Free if is_cleaning(observed) => context.lines.leave(uid(observed)),
        Turn::Free | Turn::Waiting(_) => {}
        Turn::Mine => {
            let (Some(ticket), Some(wants)) = (ticket(observed), Wants::of(observed)) else { return };
            let pods = |is_wanted: fn(&Place) -> bool| {
                let made = made.iter().filter(|action| matches!(action, Action::CreatePod(place) if is_wanted(place)));
                u32::try_from(made.count()).unwrap_or(u32::MAX)
            };
            let coordinators = pods(|place| matches!(place, Place::Coordinator { .. }));
            let left = Wants {
                has_coordinator: wants.has_coordinator || coordinators > 0,
                workers_left: wants.workers_left.saturating_sub(pods(|place| matches!(place, Place::Worker { .. }))),
                ..wants
            };
            if left.has_coordinator {
                context.lines.grant(&ticket, left.needs(context, observed).0, now);
            } else {
                // Something else blocks it, such as a missing Secret: it must not block others.
                context.lines.leave(uid(observed));
            }
        }
    }
}

fn uid(observed: &Observed) -> &str {
    observed.query.metadata.uid.as_deref().unwrap_or_default()
}

/// A query that has ended or is being deleted may still need a cleaning pod.
fn is_cleaning(observed: &Observed) -> bool {
    let is_over = observed.status.phase.is_some_and(Phase::is_terminal);
    (is_over || observed.query.metadata.deletion_timestamp.is_some()) && observed.has_finalizer()
}

fn ticket(observed: &Observed) -> Option<Ticket> {
    if observed.is_borrowed() && !is_cleaning(observed) {
        return None;
    }
    let meta = &observed.query.metadata;
    let (namespace, name) = (meta.namespace.clone()?, meta.name.clone()?);
    let class = match observed.status.phase {
        _ if is_cleaning(observed) => Class::Cleaning,
        Some(Phase::Planning | Phase::Running | Phase::Committing) => {
            let needed = observed.query.spec.compute.workers_to_start();
            if workers(observed) < needed { Class::AtWork } else { Class::Extra }
        }
        None | Some(Phase::Pending | Phase::Starting | Phase::Suspended) => Class::Starting,
        Some(Phase::Succeeded | Phase::Failed | Phase::Cancelled) => return None,
    };
    let created = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    let priority = observed.query.spec.compute.priority_class_name.clone().unwrap_or_default();
    Some(Ticket {
        scope: (namespace.clone(), priority),
        rank: Rank { class, created, uid: meta.uid.clone()? },
        key: (namespace, name),
    })
}

/// Workers of the attempt that exist, have not ended and are not about to be removed.
fn workers(observed: &Observed) -> u32 {
    let attempt = observed.attempt();
    let is_of = |place| matches!(place, Place::Worker { attempt: of, .. } if of == attempt);
    let stays = |pod: &&PodFacts| pod.loss().is_none() && !is_former(&observed.status, pod.place);
    let alive = observed.pods.iter().filter(|pod| is_of(pod.place)).filter(stays);
    alive.count().try_into().unwrap_or(u32::MAX)
}

/// The pods that a query still has to create.
#[derive(Clone, Copy, Default)]
struct Wants {
    has_coordinator: bool,
    workers_left: u32,
    to_start: u32,
}

impl Wants {
    /// `None` for a query that creates no pods now.
    fn of(observed: &Observed) -> Option<Wants> {
        let spec = &observed.query.spec;
        let at_work = observed.status.phase.is_none_or(|phase| !phase.is_terminal());
        let is_free = observed.query.metadata.deletion_timestamp.is_none() && observed.unreadable.is_none();
        if !at_work || !is_free || spec.suspend || spec.cancel {
            return None;
        }
        let (to_start, there) = (spec.compute.workers_to_start(), workers(observed));
        let is_started = matches!(observed.status.phase, Some(Phase::Planning | Phase::Running | Phase::Committing));
        // A running query takes its extra workers one at a time, as it gets them.
        let extra = u32::from(is_started && there >= to_start && there < target(&observed.status, &spec.compute));
        let workers_left = to_start.saturating_sub(there).max(extra);
        Some(Wants { has_coordinator: observed.coordinator().is_some(), workers_left, to_start })
    }

    fn is_nothing(&self) -> bool {
        self.has_coordinator && self.workers_left == 0
    }

    /// What is missing, and all that it needs to start.
    fn needs(&self, context: &Context, observed: &Observed) -> (Need, Need) {
        let attempt = observed.attempt().max(1);
        let query = build::pinned(&observed.query, observed.status.pinned.as_ref());
        let need = |place| {
            let plan = PlanSecrets::default();
            let inputs = build::PodInputs {
                query: &query,
                defaults: &context.defaults,
                plan,
                attempt,
                image: None,
                grant: None,
                gang: None,
            };
            // A pod that cannot be built is reported elsewhere.
            build::pod(place, &inputs).map(|pod| Need::of(&pod)).unwrap_or_default()
        };
        let coordinator = need(Place::Coordinator { attempt });
        let worker = need(Place::Worker { attempt, index: 0, replacement: 0 });
        let missing = coordinator.clone().times((!self.has_coordinator).into());
        let missing = missing.plus(&worker.clone().times(self.workers_left));
        (missing, coordinator.plus(&worker.times(self.to_start)))
    }
}

/// The quotas of the query's namespace; `None` if they cannot be read.
async fn quotas(context: &Context, observed: &Observed) -> Option<Vec<Quota>> {
    let namespace = observed.query.metadata.namespace.as_deref()?;
    let api: Api<ResourceQuota> = Api::namespaced(context.client.clone(), namespace);
    match api.list(&ListParams::default()).await {
        Ok(list) => Some(list.items.iter().map(Quota::of).collect()),
        Err(error) => {
            tracing::debug!(%error, "the quotas cannot be read");
            None
        }
    }
}
