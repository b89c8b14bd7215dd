//! A query that waits for others (`spec.after`): it creates nothing before they have ended as required.

use std::time::Duration;

use floe_api::Phase;
use floe_api::reason::{Reason, sentence};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::COORDINATOR_READY;
use super::draft::{Draft, Truth};
use crate::query::facts::{Before, Observed, State};

/// The query is woken when one of them ends. This is for other changes: one is created or deleted.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Retry delay while the queries are being listed.
const SOON: Duration = Duration::from_millis(500);

/// Whether it may not start yet. A query that has started is never held again: its finalizer marks that.
pub fn is_held(seen: &Observed) -> bool {
    !seen.has_finalizer() && seen.before.iter().any(|before| !before.is_met())
}

/// Reports what the query waits for, or fails it; returns `false` if it need not wait.
pub fn waits(draft: &mut Draft<'_>) -> bool {
    let seen = draft.seen;
    if !is_held(seen) {
        if draft.status.phase == Some(Phase::Pending) && !seen.before.is_empty() {
            // The start-up deadline counts from now on.
            draft.status.attempt_started_at = Some(Time(draft.now));
            draft.phase(Phase::Starting);
            draft.set(COORDINATOR_READY, Truth::False, Reason::PodsStarting, "");
        }
        return false;
    }
    let open: Vec<&Before> = seen.before.iter().filter(|before| !before.is_met()).collect();
    if let Some(words) = open.iter().find_map(|before| hopeless(before)) {
        draft.end(Phase::Failed, Reason::QueryBeforeFailed, &words);
        return true;
    }
    let soon = open.iter().any(|before| before.state == State::NotYet);
    draft.look_again(if soon { SOON } else { LOOK_AGAIN });
    if !soon {
        let words: Vec<String> = open.iter().map(|before| words(before)).collect();
        let message = sentence(Reason::WaitingForQuery, &format!("spec.after: {}", words.join("; ")));
        draft.phase(Phase::Pending);
        draft.tell(Reason::WaitingForQuery, &message);
        draft.set(COORDINATOR_READY, Truth::False, Reason::WaitingForQuery, &message);
    }
    true
}

/// Why it is no use to wait for a query any longer.
fn hopeless(before: &Before) -> Option<String> {
    let query = &before.query;
    match &before.state {
        State::Ended { phase: Phase::Cancelled, .. } => Some(format!("spec.after: the query {query} was cancelled")),
        State::Ended { reason, .. } => Some(format!("spec.after: the query {query} failed ({reason})")),
        State::Circle(names) => {
            Some(format!("spec.after: these queries wait for each other: {}", names.join(" after ")))
        }
        State::NotYet | State::Missing | State::Going => None,
    }
}

fn words(before: &Before) -> String {
    let query = &before.query;
    match &before.state {
        State::Missing => format!("there is no query {query} yet"),
        _ => format!("the query {query} has not ended"),
    }
}
