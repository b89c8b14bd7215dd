//! Decides for a query from its start to its end, including lost pods and pods that do not start.

use std::time::Duration;

use floe_api::reason::{Reason, sentence};
use floe_api::report::{Report, RunPhase};
use floe_api::{Phase, PinnedStatus, counted};
use jiff::{SignedDuration, Timestamp};

use super::after;
use super::borrow;
use super::crew::crew;
use super::draft::{Draft, Truth};
use super::finish;
use super::line;
use super::outcome;
use super::progress;
use super::queue;
use super::trouble::{capital, stuck_of, tell_trouble};
use super::{ACCEPTED, Action, CLEANED_UP, COORDINATOR_READY, PLANNED, WORKERS_READY};
use crate::query::facts::{Loss, PodFacts, PodState, Turn};
use crate::query::names::Place;
use crate::query::validate::validate;

/// Retry delay for what is missing or was refused.
pub const RETRY: Duration = Duration::from_secs(2);
/// The coordinator enforces the deadline; the operator steps in this much later.
const DEADLINE_SLACK: SignedDuration = SignedDuration::from_secs(5);

/// The state of the current attempt's coordinator.
enum Coordinator<'a> {
    NotMade,
    Alive(&'a PodFacts),
    /// It is being deleted, and may still report an outcome.
    Leaving(&'a PodFacts),
    Lost(Loss),
}

pub fn live(draft: &mut Draft<'_>) {
    if draft.attempt() == 0 {
        draft.status.failures.get_or_insert(0);
        draft.set(ACCEPTED, Truth::True, Reason::Accepted, "");
        draft.begin_attempt(1);
        draft.tell(Reason::PodsStarting, "The query's pods are being made");
        if draft.spec().cancel || draft.spec().suspend {
            return stop(draft);
        }
        return work(draft);
    }
    if let Some(verdict) = draft.seen.verdict().filter(|verdict| !line::is_given_back_by(draft, verdict)) {
        return outcome::judge(draft, verdict);
    }
    if draft.spec().cancel || draft.spec().suspend {
        return stop(draft);
    }
    if queue::must_stop(draft) {
        return queue::stop(draft);
    }
    if line::is_giving_back(&draft.seen.status) {
        return line::give_back(draft);
    }
    if borrow::is_stopping(draft) {
        return borrow::resume(draft);
    }
    if deadline_passed(draft) {
        return;
    }
    work(draft)
}

/// Handles an object that cannot be parsed: a running query continues, any other fails.
pub fn unreadable(draft: &mut Draft<'_>, fault: &str) {
    let message = sentence(Reason::BadSpec, &format!("the object cannot be read: {fault}"));
    draft.set(ACCEPTED, Truth::False, Reason::BadSpec, &message);
    if draft.attempt() == 0 && draft.status.phase.is_none() {
        draft.end(Phase::Failed, Reason::BadSpec, &format!("the object cannot be read: {fault}"));
    }
}

/// `1 pod is`, `2 pods are`.
pub fn pods(count: u32) -> String {
    counted(count, "pod is", "pods are")
}

/// Deletes all pods; once they are gone, the query is cancelled or suspended.
pub fn stop(draft: &mut Draft<'_>) {
    let seen = draft.seen;
    let target = if draft.spec().cancel { Phase::Cancelled } else { Phase::Suspended };
    if borrow::is_at_work(draft) {
        borrow::dismiss(draft);
        let reason = if target == Phase::Cancelled { Reason::Cancelled } else { Reason::Suspended };
        draft.tell(reason, "Stopping: the context's coordinator was told");
        return draft.look_again(Duration::from_millis(500));
    }
    let left = finish::send_away(draft);
    if left > 0 {
        draft.workers(0);
        let reason = if target == Phase::Cancelled { Reason::Cancelled } else { Reason::Suspended };
        draft.tell(reason, &format!("Stopping: {} on their way out", pods(left)));
        draft.look_again(Duration::from_secs(1));
        return;
    }
    if target == Phase::Cancelled {
        let actions = std::mem::take(&mut draft.actions);
        draft.end(Phase::Cancelled, Reason::Cancelled, "The query was cancelled by spec.cancel");
        draft.actions = actions;
        return;
    }
    if seen.has_finalizer() && !draft.actions.contains(&Action::RemoveFinalizer) {
        draft.set(CLEANED_UP, Truth::False, Reason::LeftBehind, "The suspended attempt ended without a word");
    }
    queue::leave(draft);
    draft.phase(Phase::Suspended);
    draft.workers(0);
    for kind in [COORDINATOR_READY, WORKERS_READY] {
        draft.set(kind, Truth::False, Reason::Suspended, "");
    }
    draft.tell(Reason::Suspended, &sentence(Reason::Suspended, "No pods while spec.suspend is true"));
}

pub fn has_plan(report: Option<&Report>) -> bool {
    report.and_then(|report| report.plan.as_ref()).is_some_and(|plan| !plan.stages.is_empty())
}

fn deadline_passed(draft: &mut Draft<'_>) -> bool {
    let Some(seconds) = draft.spec().active_deadline_seconds else { return false };
    let Some(started) = draft.status.started_at.clone() else { return false };
    let end = started.0 + SignedDuration::from_secs(seconds.into()) + DEADLINE_SLACK;
    if draft.now < end {
        draft.look_again_at(end);
        return false;
    }
    progress::show_failure(&mut draft.status, draft.seen.report.as_deref());
    draft.end(Phase::Failed, Reason::Deadline, &format!("The query did not finish within {seconds} s"));
    true
}

fn work(draft: &mut Draft<'_>) {
    if let Some(trouble) = draft.seen.trouble.as_ref().filter(|t| t.fatal) {
        return draft.end(Phase::Failed, trouble.reason, &trouble.message);
    }
    if after::waits(draft) {
        return;
    }
    if queue::waits(draft) || queue::waits_for_share(draft) {
        return;
    }
    if draft.seen.is_borrowed() {
        return borrow::work(draft);
    }
    match coordinator(draft) {
        Coordinator::NotMade => start(draft),
        Coordinator::Alive(pod) => supervise(draft, pod),
        Coordinator::Leaving(pod) => {
            let why = pod.loss().map_or_else(|| "is being deleted".to_owned(), |loss| loss.words);
            draft.set(COORDINATOR_READY, Truth::False, Reason::CoordinatorLost, &why);
            draft.tell(Reason::CoordinatorLost, &format!("The coordinator (pod {}) {why}", pod.name));
            draft.look_again(Duration::from_secs(1));
        }
        Coordinator::Lost(loss) => lose_attempt(draft, loss.reason, &loss.words, false),
    }
}

fn coordinator<'a>(draft: &Draft<'a>) -> Coordinator<'a> {
    let place = Place::Coordinator { attempt: draft.attempt() };
    let name = place.name(draft.seen.name());
    let lost =
        |loss: Loss| Coordinator::Lost(Loss { words: format!("the coordinator (pod {name}) {}", loss.words), ..loss });
    let Some(pod) = draft.seen.pod(place) else {
        let was_there = match draft.seen.status.phase {
            Some(Phase::Planning | Phase::Running | Phase::Committing) => true,
            None | Some(Phase::Pending | Phase::Starting | Phase::Suspended) => false,
            Some(Phase::Succeeded | Phase::Failed | Phase::Cancelled) => false,
        };
        let why = draft.seen.gone.get(&name).cloned().or_else(|| was_there.then(Loss::deleted));
        return why.map_or(Coordinator::NotMade, lost);
    };
    match &pod.state {
        PodState::Ended(ending) => {
            let loss = match pod.loss() {
                _ if ending.oom => Loss {
                    reason: Reason::CoordinatorOutOfMemory,
                    words: format!("ran out of its memory ({})", draft.spec().compute.coordinator.memory),
                },
                Some(loss) if loss.reason != Reason::WorkerLost => loss,
                _ => Loss { reason: Reason::CoordinatorLost, words: ending.describe() },
            };
            lost(loss)
        }
        PodState::Waiting(_) | PodState::Running if pod.is_over(draft.now) => {
            lost(pod.loss().unwrap_or(Loss { reason: Reason::NodeLost, words: "does not end".into() }))
        }
        PodState::Waiting(_) | PodState::Running if pod.deleting_at.is_some() => Coordinator::Leaving(pod),
        PodState::Waiting(_) | PodState::Running => Coordinator::Alive(pod),
    }
}

/// Handles an attempt that failed through no fault of the query.
pub fn lose_attempt(draft: &mut Draft<'_>, reason: Reason, words: &str, is_clean: bool) {
    let (attempt, limit) = (draft.attempt(), draft.spec().backoff_limit);
    let failures = draft.status.failures.unwrap_or(0).saturating_add(1);
    draft.status.failures = Some(failures);
    if !is_clean {
        let message = format!("Attempt {attempt} ended without a word; what it staged is removed at the end");
        draft.set(CLEANED_UP, Truth::False, Reason::LeftBehind, &message);
    }
    if failures > limit {
        progress::show_failure(&mut draft.status, draft.seen.report.as_deref());
        let (told, what) = match reason {
            Reason::CoordinatorOutOfMemory | Reason::Internal => (reason, format!("attempt {attempt}: {words}")),
            _ => (Reason::BackoffLimit, format!("attempt {attempt}: {words} ({reason}); backoffLimit is {limit}")),
        };
        return draft.end(Phase::Failed, told, &capital(&what));
    }
    let note = format!("Attempt {attempt} failed: {words}. Attempt {} follows", attempt + 1);
    draft.notice(true, reason, note.clone(), None);
    for pod in &draft.seen.pods {
        draft.delete(pod);
    }
    draft.begin_attempt(attempt + 1);
    draft.tell(reason, &note);
    draft.look_again(Duration::from_millis(50));
}

/// Makes the coordinator and what it needs. The workers follow once it runs: a query without room for its coordinator keeps
/// nobody else from working.
fn start(draft: &mut Draft<'_>) {
    let attempt = draft.attempt();
    if let Some(at) = pause(draft).filter(|at| *at > draft.now) {
        return draft.look_again_at(at);
    }
    draft.workers(0);
    if matches!(draft.seen.turn, Turn::Waiting(_)) {
        if !starting_deadline_passed(draft) {
            line::tell(draft, COORDINATOR_READY);
        }
        return;
    }
    let Some(inputs) = draft.seen.inputs.clone() else {
        draft.wants_inputs = true;
        return;
    };
    if let Err(invalid) = validate(&inputs.query, &draft.settings.policy) {
        return draft.end(Phase::Failed, invalid.reason, &invalid.message);
    }
    draft.set(ACCEPTED, Truth::True, Reason::Accepted, "");
    if starting_deadline_passed(draft) {
        return;
    }
    if let Some(missing) = inputs.missing.first() {
        let words: Vec<&str> = inputs.missing.iter().map(|m| m.message.as_str()).collect();
        let message = sentence(missing.reason, &words.join("; "));
        draft.tell(missing.reason, &message);
        draft.set(COORDINATOR_READY, Truth::False, missing.reason, &message);
        return draft.look_again(RETRY);
    }
    if !draft.seen.has_finalizer() {
        draft.act(Action::AddFinalizer);
    }
    draft.act(Action::EnsureJob { attempt });
    draft.act(Action::EnsurePolicy);
    draft.act(Action::CreatePod(Place::Coordinator { attempt }));
    draft.status.pinned.clone_from(&draft.seen.pins);
    match &draft.seen.trouble {
        None => draft.tell(Reason::PodsStarting, "The coordinator's pod is being made"),
        Some(trouble) => {
            let message = sentence(trouble.reason, &trouble.message);
            draft.tell(trouble.reason, &message);
            draft.set(COORDINATOR_READY, Truth::False, trouble.reason, &message);
            draft.look_again(RETRY);
        }
    }
}

/// When the next attempt may start.
pub fn pause(draft: &Draft<'_>) -> Option<Timestamp> {
    let failures = draft.status.failures.filter(|failures| *failures > 0)?;
    let began = draft.status.attempt_started_at.as_ref()?.0;
    Some(began + SignedDuration::from_secs(1 << (failures - 1).min(5)))
}

/// Handles a running coordinator: replaces lost workers and shows the progress.
fn supervise(draft: &mut Draft<'_>, coordinator: &PodFacts) {
    let report = draft.seen.report.clone();
    if report.is_some() {
        draft.started();
    }
    if draft.status.pinned.is_none() {
        // The operator stopped between creating the coordinator and recording it.
        draft.status.pinned.clone_from(&draft.seen.pins);
    }
    let crew = match crew(draft, coordinator) {
        Ok(crew) => crew,
        Err(lost) => {
            progress::show_failure(&mut draft.status, report.as_deref());
            return draft.end(Phase::Failed, lost.reason, &lost.words);
        }
    };
    let pods = std::iter::once(coordinator).chain(crew.pods.iter().copied());
    let stuck: Vec<_> = pods.clone().filter_map(|pod| Some((pod, stuck_of(pod)?))).collect();
    if let Some((pod, stuck)) = stuck.iter().find(|(_, stuck)| stuck.2) {
        return draft.end(Phase::Failed, stuck.0, &format!("Pod {}: {}", pod.name, stuck.1));
    }
    draft.workers(crew.ready);
    let needed = draft.spec().compute.workers_to_start();
    let was_running = match draft.seen.status.phase {
        Some(Phase::Planning | Phase::Running | Phase::Committing) => true,
        None | Some(Phase::Pending | Phase::Starting | Phase::Suspended) => false,
        Some(Phase::Succeeded | Phase::Failed | Phase::Cancelled) => false,
    };
    match &report {
        Some(_) => draft.set(COORDINATOR_READY, Truth::True, Reason::CoordinatorRunning, ""),
        // An operator that has just started has not polled it yet.
        None if was_running => {}
        None => draft.set(COORDINATOR_READY, Truth::False, Reason::PodsStarting, ""),
    }
    if crew.ready >= needed {
        draft.set(WORKERS_READY, Truth::True, Reason::WorkersConnected, "");
    } else {
        let message = format!("{} of {needed} workers are there", crew.ready);
        draft.set(WORKERS_READY, Truth::False, Reason::PodsStarting, &message);
    }
    if let Some(report) = &report {
        if has_plan(Some(report)) {
            draft.set(PLANNED, Truth::True, Reason::Planned, "");
        }
        progress::show(&mut draft.status, report);
    }
    let phase = match report.as_ref().map(|report| report.phase) {
        Some(phase) if crew.ready >= needed || was_running => match phase {
            RunPhase::Waiting | RunPhase::Planning => Phase::Planning,
            RunPhase::Committing => Phase::Committing,
            // Outcomes are handled before this.
            RunPhase::Running | RunPhase::Succeeded | RunPhase::Failed | RunPhase::Cancelled => Phase::Running,
        },
        None if was_running => draft.seen.status.phase.unwrap_or(Phase::Running),
        Some(_) | None => Phase::Starting,
    };
    draft.phase(phase);
    queue::runs(draft, crew.ready >= needed && phase != Phase::Starting);
    if phase == Phase::Starting && starting_deadline_passed(draft) {
        return;
    }
    if is_changed(draft) {
        if phase == Phase::Starting {
            return line::give_back(draft);
        }
        let generation = draft.seen.query.metadata.generation;
        if draft.seen.status.observed_generation != generation {
            let note =
                "spec.compute has changed: apart from the number of workers, that holds from the next attempt on";
            draft.notice(false, Reason::Changed, note.to_owned(), None);
        }
    }
    if phase == Phase::Starting && line::holds_in_vain(draft) {
        return line::give_back(draft);
    }
    tell_trouble(draft, phase, &stuck, coordinator);
}

/// Whether the spec now describes other pods than those of the attempt.
fn is_changed(draft: &Draft<'_>) -> bool {
    let digest = |pins: &Option<PinnedStatus>| pins.as_ref().map(|pins| pins.compute.clone());
    let now = digest(&draft.seen.pins);
    now.is_some() && now != digest(&draft.status.pinned)
}

pub fn starting_deadline_passed(draft: &mut Draft<'_>) -> bool {
    let Some(seconds) = draft.spec().starting_deadline_seconds else { return false };
    let Some(began) = draft.status.attempt_started_at.as_ref().map(|t| t.0) else { return false };
    let end = began + SignedDuration::from_secs(seconds.into());
    if draft.now < end {
        draft.look_again_at(end);
        return false;
    }
    // The last status says what held it up.
    let last = match (&draft.seen.status.reason, &draft.seen.status.message) {
        (Some(reason), Some(message)) => format!(". Last seen: {reason}: {message}"),
        _ => String::new(),
    };
    draft.end(Phase::Failed, Reason::StartingDeadline, &format!("The pods were not ready within {seconds} s{last}"));
    true
}
