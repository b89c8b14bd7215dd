//! Cleans up after a query has ended, on deletion, or while it is suspended: removes its pods and Secrets, and whatever
//! an attempt may have left outside the cluster. Results without a sink and the query itself are kept for their TTL.

use std::time::Duration;

use floe_api::reason::{Reason, sentence};
use floe_api::{Phase, ResultHolder, counted};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::borrow;
use super::draft::{Draft, Truth, condition};
use super::live;
use super::queue;
use super::{Action, CLEANED_UP};
use crate::query::facts::{PodFacts, PodState};
use crate::query::names::Place;

/// How long a cleaning pod may run.
const CLEAN_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
/// How long after the query's end to keep trying to create a cleaning pod.
const CREATE_CLEANER_TIMEOUT: SignedDuration = SignedDuration::from_secs(210);
/// How long a coordinator may take to end after it was told to, before its pod is deleted.
const DISMISSAL_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);
/// How long the coordinator of a context may take to report that it has cleaned up.
const LENDER_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);
const TICK: Duration = Duration::from_secs(1);

/// How long a result without a sink is kept.
pub fn result_ttl(draft: &Draft<'_>) -> Duration {
    let own = draft.spec().ttl_seconds_after_finished.as_ref().and_then(|ttl| ttl.succeeded);
    own.map_or(draft.settings.result_ttl, |seconds| Duration::from_secs(seconds.into()))
}

/// Handles a query in a terminal phase.
pub fn finished(draft: &mut Draft<'_>) {
    let ended = draft.status.finished_at.as_ref().map_or(draft.now, |t| t.0);
    if expire(draft, ended) {
        return;
    }
    queue::ended(draft);
    let settled = condition(&draft.status, CLEANED_UP)
        .is_some_and(|c| c.reason == Reason::Removed.as_str() || c.reason == Reason::CleanFailed.as_str());
    if settled {
        if draft.seen.has_finalizer() {
            draft.act(Action::RemoveFinalizer);
        }
        return delete_pods(draft);
    }
    let kept = kept_until(draft, ended).filter(|until| *until > draft.now);
    // A context keeps a result until it is told to forget it.
    if !(draft.seen.is_borrowed() && kept.is_some()) {
        release_if_clean(draft);
    }
    if let Some(until) = kept {
        return keep(draft, ended, until);
    }
    if let Some(pod) = draft.seen.coordinator()
        && pod.is_running()
        && let Some(ip) = &pod.ip
    {
        draft.act(Action::Dismiss { ip: ip.clone() });
    }
    delete_pods(draft);
    let swept = match sweep(draft, ended) {
        Sweep::Underway => return draft.look_again(TICK),
        Sweep::Done => None,
        Sweep::Failed(why) => Some(why),
    };
    let left = draft.seen.pods.iter().filter(|pod| pod.place != Place::Clean && !pod.is_over(draft.now)).count();
    if left > 0 {
        return draft.look_again(TICK);
    }
    draft.act(Action::DeleteShared { attempts: draft.attempt() });
    match swept {
        None => draft.set(CLEANED_UP, Truth::True, Reason::Removed, ""),
        Some(why) => draft.set(CLEANED_UP, Truth::False, Reason::CleanFailed, &sentence(Reason::CleanFailed, &why)),
    }
    let result_gone = draft.status.phase == Some(Phase::Succeeded) && draft.spec().sink.is_none();
    // If the plan has its own sinks, there was no result to remove.
    if result_gone && draft.status.result_uri.is_none() {
        let rows = counted(draft.status.rows.unwrap_or(0), "row", "rows");
        let ttl = result_ttl(draft).as_secs();
        let early = draft.now < ended + SignedDuration::from_secs(i64::try_from(ttl).unwrap_or(i64::MAX / 4));
        let message = if early {
            format!("{rows}; gone with the coordinator's pod")
        } else {
            format!("{rows}; removed {ttl} s after the end")
        };
        draft.status.result_with = None;
        draft.tell(Reason::ResultExpired, &sentence(Reason::ResultExpired, &message));
    }
}

/// Deletes the query after its TTL; before that, schedules the next reconcile.
fn expire(draft: &mut Draft<'_>, ended: Timestamp) -> bool {
    let Some(ttl) = &draft.spec().ttl_seconds_after_finished else { return false };
    let seconds = match draft.status.phase {
        Some(Phase::Succeeded) => ttl.succeeded,
        Some(Phase::Failed | Phase::Cancelled) => ttl.failed,
        None | Some(Phase::Pending | Phase::Starting | Phase::Planning | Phase::Running) => None,
        Some(Phase::Committing | Phase::Suspended) => None,
    };
    let Some(seconds) = seconds else { return false };
    let at = ended + SignedDuration::from_secs(seconds.into());
    if draft.now < at {
        draft.look_again_at(at);
        return false;
    }
    draft.act(Action::DeleteQuery);
    draft.look_again(Duration::from_secs(5));
    true
}

/// Until when to keep the pods of a finished query.
fn kept_until(draft: &Draft<'_>, ended: Timestamp) -> Option<Timestamp> {
    if draft.seen.standing.is_lost() && !draft.seen.pods.is_empty() {
        // Kueue wants the place of its pods for others.
        return None;
    }
    let stays = match draft.status.phase {
        Some(Phase::Succeeded) if draft.spec().sink.is_none() && draft.status.result_uri.is_none() => {
            // The coordinator holds the result: if it is gone, there is nothing to keep.
            draft.seen.coordinator().filter(|pod| pod.is_running())?;
            result_ttl(draft)
        }
        Some(Phase::Failed) if draft.seen.is_borrowed() => return None,
        Some(Phase::Failed) => Duration::from_secs(draft.spec().keep_failed_pods_seconds?.into()),
        None
        | Some(Phase::Pending | Phase::Starting | Phase::Planning | Phase::Running | Phase::Committing)
        | Some(Phase::Succeeded | Phase::Cancelled | Phase::Suspended) => return None,
    };
    Some(ended + SignedDuration::try_from(stays).unwrap_or(SignedDuration::MAX))
}

fn keep(draft: &mut Draft<'_>, ended: Timestamp, until: Timestamp) {
    draft.look_again_at(until);
    let shown = until.strftime("%FT%TZ").to_string();
    if draft.status.phase == Some(Phase::Succeeded) {
        if draft.status.result_with == Some(ResultHolder::Coordinator) {
            let seen = draft.seen;
            for pod in seen.pods.iter().filter(|pod| matches!(pod.place, Place::Worker { .. })) {
                draft.delete(pod);
            }
        }
        return;
    }
    if !draft.is_dirty() {
        draft.set(CLEANED_UP, Truth::False, Reason::PodsKept, &format!("Pods stay until {shown}"));
    }
    // Keep the logs, but stop the work: the coordinator ends, and its workers with it. A worker that never connected
    // would wait for its coordinator, and has nothing to log.
    let seen = draft.seen;
    let late = draft.now > ended + DISMISSAL_TIMEOUT;
    let has_met = |pod: &PodFacts| seen.report.as_ref().is_none_or(|report| report.workers.contains(&pod.name));
    for pod in seen.pods.iter().filter(|pod| !pod.is_ended()) {
        match (&pod.place, &pod.ip) {
            (Place::Coordinator { .. }, Some(ip)) if !late => draft.act(Action::Dismiss { ip: ip.clone() }),
            (Place::Worker { .. }, _) if late || pod.is_running() && !has_met(pod) => draft.delete(pod),
            (Place::Coordinator { .. }, _) if late => draft.delete(pod),
            (Place::Coordinator { .. } | Place::Worker { .. } | Place::Clean, _) => {}
        }
        draft.look_again(Duration::from_secs(5));
    }
}

fn delete_pods(draft: &mut Draft<'_>) {
    let seen = draft.seen;
    for pod in seen.pods.iter().filter(|pod| pod.place != Place::Clean || pod.is_ended()) {
        draft.delete(pod);
    }
}

/// Deletes all pods except the cleaning pod; returns how many have not ended yet.
pub fn send_away(draft: &mut Draft<'_>) -> u32 {
    let seen = draft.seen;
    release_if_clean(draft);
    let mut left = 0;
    for pod in seen.pods.iter().filter(|pod| pod.place != Place::Clean) {
        draft.delete(pod);
        left += u32::from(!pod.is_over(draft.now));
    }
    left
}

/// Removes the finalizer once it is known that nothing is left outside the cluster: the coordinator has reported an
/// outcome, or it never ran. A pod that is bound to a node may already run without the status saying so, unless the
/// status says what holds it up.
pub fn release_if_clean(draft: &mut Draft<'_>) {
    if !draft.seen.has_finalizer() || draft.is_dirty() {
        return;
    }
    let seen = draft.seen;
    if seen.is_borrowed() {
        let is_clean = seen.status.phase == Some(Phase::Succeeded) || seen.verdict().is_some() || seen.is_absent;
        if is_clean || seen.status.context.is_none() {
            draft.act(Action::RemoveFinalizer);
        }
        return;
    }
    let ran = seen.status.started_at.is_some()
        || seen.report.is_some()
        || match seen.coordinator() {
            Some(pod) => match &pod.state {
                PodState::Waiting(Some(_)) => false,
                PodState::Waiting(None) => pod.node.is_some(),
                PodState::Running | PodState::Ended(_) => true,
            },
            None => seen.gone.contains_key(&Place::Coordinator { attempt: draft.attempt() }.name(seen.name())),
        };
    if seen.verdict().is_some() || !ran {
        draft.act(Action::RemoveFinalizer);
    }
}

enum Sweep {
    Done,
    Underway,
    Failed(String),
}

/// Removes what attempts may have left outside the cluster, with a cleaning pod that has limited time.
fn sweep(draft: &mut Draft<'_>, since: Timestamp) -> Sweep {
    let seen = draft.seen;
    if !seen.has_finalizer() || draft.actions.contains(&Action::RemoveFinalizer) {
        return Sweep::Done;
    }
    // The coordinator may still report that it has cleaned up. A context's coordinator does not end: once it has
    // nothing more to report, only earlier attempts can have left something.
    let has_said_all = seen.verdict().is_some()
        || seen.is_absent
        || seen.status.phase == Some(Phase::Succeeded)
        || draft.now > since + LENDER_TIMEOUT;
    let is_awaited = !(seen.is_borrowed() && has_said_all);
    if seen.coordinator().is_some_and(|pod| !pod.is_over(draft.now)) && is_awaited {
        return Sweep::Underway;
    }
    let fail = |draft: &mut Draft<'_>, why: String| {
        draft.notice(true, Reason::CleanFailed, sentence(Reason::CleanFailed, &why), None);
        draft.act(Action::RemoveFinalizer);
        Sweep::Failed(why)
    };
    let Some(pod) = seen.pod(Place::Clean) else {
        if seen.gone.contains_key(&Place::Clean.name(seen.name())) {
            return fail(draft, "the cleaning pod was deleted".into());
        }
        if draft.now > since + CREATE_CLEANER_TIMEOUT || seen.trouble.as_ref().is_some_and(|t| t.fatal) {
            let why = seen.trouble.as_ref().map_or("it could not be made in time", |t| t.message.as_str());
            return fail(draft, format!("no cleaning pod: {why}"));
        }
        draft.act(Action::CreatePod(Place::Clean));
        return Sweep::Underway;
    };
    match &pod.state {
        PodState::Ended(ending) if ending.exit_code == Some(0) => {
            draft.delete(pod);
            draft.act(Action::RemoveFinalizer);
            Sweep::Done
        }
        PodState::Ended(ending) => {
            draft.delete(pod);
            fail(draft, format!("the cleaning pod {}", ending.describe()))
        }
        PodState::Waiting(Some(stuck)) if stuck.fatal => {
            draft.delete(pod);
            fail(draft, format!("the cleaning pod cannot start: {}", stuck.words))
        }
        PodState::Waiting(_) | PodState::Running => {
            if draft.now < pod.created_at.unwrap_or(since) + CLEAN_TIMEOUT {
                return Sweep::Underway;
            }
            draft.delete(pod);
            let held = match &pod.state {
                PodState::Waiting(Some(stuck)) => format!(": {}", stuck.words),
                PodState::Waiting(None) | PodState::Running | PodState::Ended(_) => String::new(),
            };
            fail(draft, format!("the cleaning pod did not end within {} s{held}", CLEAN_TIMEOUT.as_secs()))
        }
    }
}

/// Tears down a deleted query: removes its pods here; the garbage collector removes what it owns.
pub fn teardown(draft: &mut Draft<'_>) {
    if !draft.seen.has_finalizer() {
        return;
    }
    let since = draft.seen.query.metadata.deletion_timestamp.as_ref().map_or(draft.now, |t| t.0);
    if draft.seen.is_borrowed() && !draft.seen.is_absent {
        borrow::dismiss(draft);
    }
    release_if_clean(draft);
    delete_pods(draft);
    match sweep(draft, since) {
        Sweep::Underway => draft.look_again(TICK),
        Sweep::Done | Sweep::Failed(_) => {}
    }
}

/// Handles a suspended query: it has no pods, and is resumed or ended as the spec says.
pub fn held(draft: &mut Draft<'_>) {
    if draft.spec().cancel {
        return live::stop(draft);
    }
    if draft.spec().suspend {
        release_if_clean(draft);
        queue::leave(draft);
        return delete_pods(draft);
    }
    let attempt = draft.attempt();
    if draft.status.started_at.is_some() {
        // As with Jobs, the deadline counts from the resumption.
        draft.status.started_at = Some(Time(draft.now));
    }
    draft.begin_attempt(attempt + 1);
    draft.tell(Reason::PodsStarting, "The query goes on: its pods are being made");
    draft.look_again(Duration::from_millis(50));
}
