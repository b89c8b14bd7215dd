//! Decides from everything observed of a context what to do and what its status says. Pure and total: no client, no
//! clock.
//!
//! A context is a sequence of revisions, each a coordinator with its own workers. One of them serves, that is, takes
//! queries. A changed spec or a lost coordinator starts the next revision; the earlier ones are removed once their
//! queries have ended.

use std::time::Duration;

use floe_api::reason::{Reason, sentence};
use floe_api::{ComputeContextStatus, ContextPhase, ContextWorkers, RevisionStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{Draft, Plan};
use super::facts::{Model, Seen};
use super::scale::{self, Bounds, Load};
use super::{crew, names};
use crate::query::facts::{PodFacts, PodState};
use crate::query::names::Place;

/// One effect. It is idempotent, and touches only objects of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The Secret and the NetworkPolicy.
    EnsureShared,
    CreatePod {
        place: Place,
        image: String,
    },
    /// Has the coordinator stop giving the worker tasks.
    Drain {
        coordinator_ip: String,
        worker: String,
    },
    DeletePod {
        name: String,
        uid: String,
    },
}

impl Action {
    /// Actions of one wave are independent of each other; they depend on the waves before.
    pub fn wave(&self) -> u8 {
        match self {
            Action::EnsureShared => 0,
            Action::CreatePod { .. } | Action::Drain { .. } | Action::DeletePod { .. } => 1,
        }
    }
}

/// Let a new revision serve after this time even with fewer workers than the current one, which then makes room.
const SWITCH_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
/// How long a query may still be on its way to a coordinator that no longer serves.
const HANDOVER: SignedDuration = SignedDuration::from_secs(15);
/// Give up a coordinator that no longer serves and has not answered for this long.
const SILENCE_TIMEOUT: SignedDuration = SignedDuration::from_secs(3600);
/// Replace a lost coordinator without delay if it had run for this long.
const STABLE_AFTER: SignedDuration = SignedDuration::from_secs(600);

pub fn plan(seen: &Seen, now: Timestamp) -> Plan {
    let mut draft = Draft::new(seen, now);
    if seen.context.metadata.deletion_timestamp.is_some() {
        // Its owner references remove what it owns.
        return draft.idle();
    }
    match &seen.model {
        Err(fault) => {
            draft.accept(Some(fault));
            if draft.status.revisions.is_empty() {
                draft.status.phase = Some(ContextPhase::Failed);
                draft.tell(fault.reason, &fault.message);
                return draft.into_plan();
            }
        }
        Ok(model) => {
            draft.accept(None);
            revise(&mut draft, model);
        }
    }
    serve(&mut draft);
    note_use(&mut draft);
    crew::crew(&mut draft);
    retire(&mut draft);
    tell(&mut draft);
    draft.into_plan()
}

/// Ensures that the newest revision matches the spec, and that its coordinator exists.
fn revise(draft: &mut Draft<'_>, model: &Model) {
    let Some(newest) = draft.status.revisions.last().cloned() else {
        return begin(draft, 1, model.clone(), 0);
    };
    if newest.digest != model.digest {
        return begin(draft, newest.number + 1, model.clone(), 0);
    }
    if draft.seen.is_lost(newest.number, draft.now) {
        let ran = draft.now.duration_since(newest.started_at.0);
        let failures = if ran > STABLE_AFTER { 1 } else { newest.failures.saturating_add(1) };
        let at = newest.started_at.0 + SignedDuration::from_secs(1 << failures.min(6).saturating_sub(1));
        if draft.now < at {
            return draft.look_again_at(at);
        }
        let place = Place::Coordinator { attempt: newest.number };
        let note = format!("The coordinator (pod {}) was lost: another one takes its place", draft.pod_name(place));
        draft.notice(true, Reason::CoordinatorLost, note);
        return begin(draft, newest.number + 1, model.clone(), failures);
    }
    if draft.seen.coordinator(newest.number).is_none() {
        make_coordinator(draft, &newest);
    }
}

fn begin(draft: &mut Draft<'_>, number: u32, model: Model, failures: u32) {
    let Model { digest, image } = model;
    let revision = RevisionStatus { number, image, digest, started_at: Time(draft.now), failures };
    make_coordinator(draft, &revision);
    draft.status.revisions.push(revision);
}

fn make_coordinator(draft: &mut Draft<'_>, revision: &RevisionStatus) {
    draft.act(Action::EnsureShared);
    draft.make(Place::Coordinator { attempt: revision.number }, &revision.image);
}

/// Decides which revision takes queries.
fn serve(draft: &mut Draft<'_>) {
    let seen = draft.seen;
    let answers =
        |revision: &RevisionStatus| !seen.is_lost(revision.number, draft.now) && seen.report(revision.number).is_some();
    let Some(newest) = draft.status.revisions.last().cloned() else { return };
    let serving = draft.status.serving.filter(|number| {
        draft.status.revisions.iter().any(|revision| revision.number == *number) && !seen.is_lost(*number, draft.now)
    });
    let next = match serving {
        Some(number) if number == newest.number => Some(number),
        Some(number) if answers(&newest) => {
            let ready = |number: u32| seen.report(number).map_or(0, |report| Load::of(report).ready);
            let enough = ready(number).min(draft.spec().max_workers);
            let is_late = draft.now.duration_since(newest.started_at.0) > SWITCH_TIMEOUT;
            if ready(newest.number) >= enough || is_late {
                Some(newest.number)
            } else {
                draft.look_again_at(newest.started_at.0 + SWITCH_TIMEOUT);
                Some(number)
            }
        }
        Some(number) => Some(number),
        None => draft.status.revisions.iter().rev().find(|revision| answers(revision)).map(|revision| revision.number),
    };
    if next != draft.status.serving {
        draft.status.serving = next;
        draft.status.serving_since = next.map(|_| Time(draft.now));
        draft.status.surplus_since = None;
    }
}

/// Records since when there has been no query.
fn note_use(draft: &mut Draft<'_>) {
    let loads = draft.status.revisions.iter().filter_map(|revision| draft.seen.report(revision.number)).map(Load::of);
    let loads: Vec<Load> = loads.collect();
    if loads.is_empty() {
        // No report for now: keep what was known.
        return;
    }
    if loads.iter().all(Load::is_idle) {
        draft.status.idle_since.get_or_insert(Time(draft.now));
    } else {
        draft.status.idle_since = None;
    }
}

/// Whether there has been no query for the idle timeout, after which all workers are removed.
pub fn is_rested(draft: &mut Draft<'_>) -> bool {
    let Some(since) = draft.status.idle_since.clone() else { return false };
    let until = since.0 + SignedDuration::from_secs(draft.spec().idle_timeout_seconds.into());
    if draft.now < until {
        draft.look_again_at(until);
    }
    draft.now >= until
}

/// Removes revisions that no longer serve and have nothing left to do.
fn retire(draft: &mut Draft<'_>) {
    let seen = draft.seen;
    let Some(newest) = draft.status.revisions.last().map(|revision| revision.number) else { return };
    let serving = draft.status.serving;
    let others: Vec<u32> = draft.status.revisions.iter().map(|revision| revision.number).collect();
    for number in others.into_iter().filter(|number| *number != newest && Some(*number) != serving) {
        if !is_done(draft, number) {
            continue;
        }
        let pods: Vec<&PodFacts> = seen.coordinator(number).into_iter().chain(seen.workers(number)).collect();
        pods.iter().for_each(|pod| draft.delete(pod));
        if pods.iter().all(|pod| pod.is_over(draft.now) && pod.deleting_at.is_some()) {
            draft.status.revisions.retain(|revision| revision.number != number);
        } else {
            draft.look_again(Duration::from_secs(1));
        }
    }
}

fn is_done(draft: &mut Draft<'_>, number: u32) -> bool {
    let seen = draft.seen;
    if seen.coordinator(number).is_none() {
        return true;
    }
    // A revision that never served has no queries.
    if seen.is_lost(number, draft.now) || draft.status.serving.is_none_or(|serving| number > serving) {
        return draft.status.serving.is_some() || seen.is_lost(number, draft.now);
    }
    let Some(since) = draft.status.serving_since.as_ref().map(|since| since.0) else { return false };
    let Some(report) = seen.report(number) else { return draft.now > since + SILENCE_TIMEOUT };
    if !Load::of(report).is_idle() || report.results > 0 {
        return false;
    }
    draft.look_again_at(since + HANDOVER);
    draft.now >= since + HANDOVER
}

/// Sets phase, counts, conditions, and what holds the context up.
fn tell(draft: &mut Draft<'_>) {
    let seen = draft.seen;
    let Some(newest) = draft.status.revisions.last().cloned() else { return };
    let shown = draft.status.serving.unwrap_or(newest.number);
    let report = seen.report(shown);
    let reports = || draft.status.revisions.iter().filter_map(|revision| seen.report(revision.number));
    let total = |what: fn(&floe_api::report::EngineReport) -> u32| reports().map(what).fold(0, u32::saturating_add);
    let (running, waiting, tasks) =
        (total(|r| r.queries_running), total(|r| r.queries_waiting), total(|r| r.tasks_waiting));
    let ready = report.map_or(0, |report| Load::of(report).ready);
    let wanted = draft.wanted.unwrap_or(ready);
    let status = &mut draft.status;
    (status.queries_running, status.queries_waiting) = (Some(running), Some(waiting));
    status.tasks_waiting = Some(tasks);
    status.workers = Some(ContextWorkers { ready, wanted, summary: Some(format!("{ready}/{wanted}")) });
    status.memory = report.filter(|report| !report.workers.is_empty()).map(memory);
    let ip = status.serving.and_then(|number| seen.coordinator(number)).and_then(|pod| pod.ip.as_deref());
    status.coordinator = ip.map(|ip| match ip.contains(':') {
        true => format!("[{ip}]:{}", crate::query::build::HTTP_PORT),
        false => format!("{ip}:{}", crate::query::build::HTTP_PORT),
    });
    let is_up = draft.status.serving.is_some();
    let is_changing = draft.status.serving.is_some_and(|serving| serving != newest.number);
    draft.status.phase = Some(match (is_up, is_changing, wanted.max(ready)) {
        (false, _, _) => ContextPhase::Starting,
        (true, true, _) => ContextPhase::Changing,
        (true, false, 0) => ContextPhase::Idle,
        (true, false, _) => ContextPhase::Ready,
    });
    draft.condition(
        super::draft::COORDINATOR_READY,
        is_up,
        if is_up { Reason::CoordinatorRunning } else { Reason::PodsStarting },
        "",
    );
    let enough = is_up && ready >= wanted;
    let reason = match (enough, wanted) {
        (true, 0) => Reason::Idle,
        (true, _) => Reason::WorkersConnected,
        (false, _) => Reason::PodsStarting,
    };
    draft.condition(super::draft::WORKERS_READY, enough, reason, &format!("{ready} of {wanted} workers are connected"));
    held_up(draft, &newest, is_up, is_changing, (ready, wanted));
}

/// The first thing that holds it up, or else how far its start has got.
fn held_up(
    draft: &mut Draft<'_>,
    newest: &RevisionStatus,
    is_up: bool,
    is_changing: bool,
    (ready, wanted): (u32, u32),
) {
    let seen = draft.seen;
    let stuck = seen.pods.iter().find_map(|pod| match &pod.state {
        PodState::Waiting(Some(stuck)) => Some((stuck.reason, format!("Pod {}: {}", pod.name, stuck.words))),
        PodState::Running if pod.unready => {
            Some((Reason::NodeLost, format!("Pod {}: its node does not answer", pod.name)))
        }
        PodState::Waiting(None) | PodState::Running | PodState::Ended(_) => None,
    });
    let silence = seen.engines.values().find_map(|heard| heard.silence.clone());
    let lost = draft.status.workers_lost.filter(|lost| *lost > 1);
    if let Err(fault) = &seen.model {
        draft.tell(fault.reason, &sentence(fault.reason, &format!("{}. What was there before goes on", fault.message)));
    } else if let Some((reason, words)) = stuck {
        draft.tell(reason, &sentence(reason, &words));
    } else if let Some(trouble) = &seen.trouble {
        draft.tell(trouble.reason, &sentence(trouble.reason, &trouble.message));
    } else if let Some(words) = silence {
        draft.tell(Reason::Unreachable, &sentence(Reason::Unreachable, &words));
    } else if seen.is_lost(newest.number, draft.now) {
        draft.tell(
            Reason::CoordinatorLost,
            &sentence(Reason::CoordinatorLost, "The coordinator was lost; another one follows"),
        );
    } else if let Some(lost) = lost.filter(|_| ready < wanted) {
        let words = format!("{lost} workers were lost one soon after the other; the next one is made after a pause");
        draft.tell(Reason::WorkerLost, &sentence(Reason::WorkerLost, &words));
    } else if !is_up {
        draft.tell(Reason::PodsStarting, "The coordinator's pod is starting");
    } else if is_changing {
        draft.tell(
            Reason::Changing,
            &format!("Revision {} is starting; it takes queries once its workers are there", newest.number),
        );
    } else if ready < wanted {
        draft.tell(Reason::PodsStarting, &format!("{ready} of {wanted} workers are connected"));
    } else {
        draft.tell_nothing();
    }
}

fn memory(report: &floe_api::report::EngineReport) -> String {
    let sum = |what: fn(&floe_api::report::EngineWorker) -> u64| {
        report.workers.iter().map(what).fold(0u64, u64::saturating_add)
    };
    // Round, so that the message does not change with every report.
    let text = |bytes: u64| match bytes >> 20 {
        mib if mib < 1024 => format!("{}Mi", mib.next_multiple_of(64)),
        mib => format!("{:.1}Gi", mib as f64 / 1024.0),
    };
    format!("{}/{}", text(sum(|worker| worker.memory_bytes)), text(sum(|worker| worker.memory_limit_bytes)))
}

/// How many workers a revision should have.
pub fn wanted_of(draft: &mut Draft<'_>, number: u32, alive: u32) -> u32 {
    let seen = draft.seen;
    let newest = draft.status.revisions.last().map(|revision| revision.number);
    let (serving, spec) = (draft.status.serving, draft.spec().clone());
    let bounds = Bounds { min: spec.min_workers, max: spec.max_workers };
    let load = seen.report(number).map(Load::of);
    if serving == Some(number) || serving.is_none() && newest == Some(number) {
        let is_rested = is_rested(draft);
        return load.map_or(alive.max(bounds.min), |load| scale::wanted(load, bounds, is_rested));
    }
    if newest == Some(number) {
        // It is about to take over from the revision that serves.
        let others = serving.and_then(|serving| seen.report(serving)).map_or(0, |report| Load::of(report).ready);
        return others.min(bounds.max);
    }
    // It gets no further queries.
    match load {
        None => alive,
        Some(load) if load.is_idle() => 0,
        Some(load) => load.tasks.max(1).min(alive.max(1)),
    }
}

pub fn is_newest_or_serving(status: &ComputeContextStatus, number: u32) -> bool {
    status.serving == Some(number) || status.revisions.last().is_some_and(|newest| newest.number == number)
}

impl Draft<'_> {
    pub fn pod_name(&self, place: Place) -> String {
        names::pod(self.seen.name(), place)
    }
}
