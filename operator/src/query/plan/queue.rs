//! What a query does that others admit. In a queue of Kueue: it has pods only while its Workload is admitted, gives them
//! back when it is evicted, and tells Kueue how it goes. It keeps `spec.suspend` for its users. By the operator's own limits: it
//! waits for its share.

use std::time::Duration;

use floe_api::Phase;
use floe_api::reason::{Reason, sentence};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{Draft, Truth, condition};
use super::{Action, CLEANED_UP, COORDINATOR_READY, finish, live};
use crate::kueue::{Standing, Step};
use crate::query::names::Place;
use crate::query::validate::validate;
use crate::shares::Share;

/// The query is woken when its Workload changes. This is for what no watch shows.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Retry delay while Kueue's objects are being listed.
const SOON: Duration = Duration::from_secs(1);

fn tell_kueue(draft: &mut Draft<'_>, step: Step) {
    draft.act(Action::Queue(step));
}

/// Pods of the query that use something.
fn pods(draft: &Draft<'_>) -> usize {
    draft.seen.pods.iter().filter(|pod| pod.place != Place::Clean && !pod.is_over(draft.now)).count()
}

/// Whether it is at work without having a place any more, or has begun to give its pods back.
pub fn must_stop(draft: &Draft<'_>) -> bool {
    let attempt = draft.seen.status.attempt;
    let is_at_work = matches!(draft.seen.status.phase, Some(Phase::Planning | Phase::Running | Phase::Committing))
        || draft.seen.pods.iter().any(|pod| pod.attempt() == attempt);
    is_stopping(draft) || draft.seen.standing.is_lost() && is_at_work
}

/// Whether its pods are on their way out; they may be gone at the next look.
fn is_stopping(draft: &Draft<'_>) -> bool {
    condition(&draft.seen.status, COORDINATOR_READY).is_some_and(|c| c.reason == Reason::Preempted.as_str())
}

/// Takes the pods away; once they are gone, another attempt waits for its admission. This counts as no failure.
pub fn stop(draft: &mut Draft<'_>) {
    let words = match &draft.seen.standing {
        Standing::Evicted { reason, words } => format!("Kueue took its place back ({reason}): {}", words.trim()),
        Standing::Leaving | Standing::Missing => "its Workload was deleted".to_owned(),
        Standing::Finished => "its Workload was declared finished".to_owned(),
        Standing::Waiting { words, .. } => format!("its Workload is not admitted any more: {words}"),
        // It got a new place while its pods go.
        Standing::Free | Standing::Off | Standing::NotYet | Standing::Admitted(_) => "it begins again".to_owned(),
    };
    draft.actions.clear();
    if !is_stopping(draft) {
        draft.notice(true, Reason::Preempted, words.clone(), None);
    }
    let left = finish::send_away(draft);
    draft.phase(Phase::Pending);
    draft.workers(0);
    if left > 0 {
        draft.set(COORDINATOR_READY, Truth::False, Reason::Preempted, &words);
        draft.tell(Reason::Preempted, &format!("{words}; {left} pods are on their way out"));
        return draft.look_again(SOON);
    }
    if draft.seen.has_finalizer() && !draft.actions.contains(&Action::RemoveFinalizer) {
        draft.set(CLEANED_UP, Truth::False, Reason::LeftBehind, "The attempt that lost its place ended without a word");
    }
    draft.begin_attempt(draft.attempt() + 1);
    // As with a resumed query, the deadline counts from its next start.
    draft.status.started_at = None;
    draft.status.waited = None;
    draft.phase(Phase::Pending);
    draft.tell(Reason::Preempted, &words);
    draft.look_again(Duration::from_millis(50));
}

/// Whether it may not start yet: reports what it waits for, and asks for its place.
pub fn waits(draft: &mut Draft<'_>) -> bool {
    let seen = draft.seen;
    if seen.is_borrowed() {
        if seen.standing == Standing::Free {
            return false;
        }
        let words = "the label kueue.x-k8s.io/queue-name: a query on a context has no pods that Kueue could admit";
        draft.end(Phase::Failed, Reason::BadSpec, words);
        return true;
    }
    let has_pods = seen.pods.iter().any(|pod| pod.attempt() == draft.status.attempt);
    let words = match &seen.standing {
        Standing::Free => return false,
        Standing::Admitted(grant) if has_pods || !grant.is_stale => {
            let workers = grant.workers;
            let note = format!("ClusterQueue {} admitted the query with {workers} workers", grant.cluster_queue);
            if begins(draft) {
                draft.notice(false, Reason::Admitted, note, None);
            }
            return false;
        }
        // What is not known yet stops nothing that is at work.
        Standing::NotYet | Standing::Off if has_pods => return false,
        Standing::Off => {
            tell(draft, Reason::NotQueued, "the label kueue.x-k8s.io/queue-name asks for Kueue");
            draft.look_again(LOOK_AGAIN);
            return true;
        }
        Standing::NotYet => {
            draft.look_again(SOON);
            "Kueue's objects have not been read yet".to_owned()
        }
        Standing::Missing => return ask(draft),
        Standing::Admitted(_) | Standing::Waiting { is_stale: true, .. } => {
            tell_kueue(draft, Step::Leave);
            "the query has changed and asks for its place anew".to_owned()
        }
        Standing::Finished => {
            tell_kueue(draft, Step::Leave);
            "its Workload was declared finished; the query asks for its place anew".to_owned()
        }
        Standing::Evicted { reason, words } => {
            tell_kueue(draft, Step::GiveUp);
            format!("Kueue took its place back ({reason}): {}", words.trim())
        }
        Standing::Leaving => "its Workload is being deleted".to_owned(),
        Standing::Waiting { words, is_stale: false } => words.clone(),
    };
    tell(draft, Reason::WaitingForAdmission, &words);
    draft.look_again(LOOK_AGAIN);
    true
}

/// The same for a share by the operator's own limits. They take nothing from a query that has pods.
pub fn waits_for_share(draft: &mut Draft<'_>) -> bool {
    let seen = draft.seen;
    let has_pods = seen.pods.iter().any(|pod| pod.attempt() == draft.status.attempt);
    match &seen.share {
        Share::Free => return false,
        Share::Held { .. } => {
            begins(draft);
            return false;
        }
        Share::NotYet | Share::Waiting { .. } | Share::Never { .. } if has_pods => return false,
        Share::NotYet => {
            draft.look_again(SOON);
            return true;
        }
        Share::Waiting { ahead, words } => {
            let place = match ahead {
                0 => "this query is the next of its namespace".to_owned(),
                1 => "one query of the namespace comes first".to_owned(),
                ahead => format!("{ahead} queries of the namespace come first"),
            };
            tell(draft, Reason::WaitingForShare, &format!("{words}; {place}"));
            draft.status.ahead = Some(*ahead);
        }
        Share::Never { words } => tell(draft, Reason::WaitingForShare, words),
    }
    draft.look_again(LOOK_AGAIN);
    true
}

/// Goes on with a query that waited: its start-up deadline counts from now on. `false` if it did not wait.
fn begins(draft: &mut Draft<'_>) -> bool {
    if draft.status.phase != Some(Phase::Pending) {
        return false;
    }
    draft.status.attempt_started_at = Some(Time(draft.now));
    draft.phase(Phase::Starting);
    draft.set(COORDINATOR_READY, Truth::False, Reason::PodsStarting, "");
    true
}

/// Asks for a place, once the spec is known to be sound.
fn ask(draft: &mut Draft<'_>) -> bool {
    let Some(inputs) = draft.seen.inputs.clone() else {
        draft.wants_inputs = true;
        return true;
    };
    if let Err(invalid) = validate(&inputs.query, &draft.settings.policy) {
        draft.end(Phase::Failed, invalid.reason, &invalid.message);
        return true;
    }
    draft.set(super::ACCEPTED, Truth::True, Reason::Accepted, "");
    tell_kueue(draft, Step::Enter);
    match &draft.seen.trouble {
        None => tell(draft, Reason::WaitingForAdmission, "its Workload is being made"),
        Some(trouble) => tell(draft, trouble.reason, &trouble.message),
    }
    draft.look_again(live::RETRY);
    true
}

fn tell(draft: &mut Draft<'_>, reason: Reason, words: &str) {
    let message = sentence(reason, words);
    draft.phase(Phase::Pending);
    draft.workers(0);
    draft.tell(reason, &message);
    draft.set(COORDINATOR_READY, Truth::False, reason, &message);
}

/// Tells Kueue that the query has all the pods that it needs.
pub fn runs(draft: &mut Draft<'_>, is_complete: bool) {
    if is_complete && draft.seen.standing.grant().is_some_and(|grant| !grant.is_ready) {
        tell_kueue(draft, Step::Ready);
    }
}

/// Withdraws a query that is held.
pub fn leave(draft: &mut Draft<'_>) {
    match &draft.seen.standing {
        Standing::Waiting { .. } | Standing::Admitted(_) | Standing::Evicted { .. } | Standing::Finished => {
            tell_kueue(draft, Step::Leave);
        }
        Standing::Free | Standing::Off | Standing::NotYet | Standing::Missing | Standing::Leaving => {}
    }
}

/// Tells Kueue of a query that has ended: first that its workers are gone, while the coordinator keeps a result, then
/// that everything is.
pub fn ended(draft: &mut Draft<'_>) {
    let is_reclaimed = match &draft.seen.standing {
        Standing::Admitted(grant) => grant.is_reclaimed,
        Standing::Waiting { .. } | Standing::Evicted { .. } => true,
        Standing::NotYet => return draft.look_again(LOOK_AGAIN),
        Standing::Free | Standing::Off | Standing::Missing | Standing::Leaving | Standing::Finished => return,
    };
    if pods(draft) == 0 {
        let is_success = draft.status.phase == Some(Phase::Succeeded);
        let message = draft.status.message.clone().unwrap_or_default();
        return tell_kueue(draft, Step::Finish { is_success, message });
    }
    let is_worker = |place| matches!(place, Place::Worker { .. });
    let are_gone = !draft.seen.pods.iter().any(|pod| is_worker(pod.place) && !pod.is_over(draft.now));
    if are_gone && !is_reclaimed {
        tell_kueue(draft, Step::Reclaim);
    }
}
