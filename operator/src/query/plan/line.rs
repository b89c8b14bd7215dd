//! What a query does and reports while it waits for a quota: its place in line, and how it releases pods that those
//! ahead of it need more. Who waits, and in which order, is decided by `crate::line`.

use std::time::Duration;

use floe_api::reason::{Reason, sentence};
use floe_api::{DistributedQueryStatus, Phase};

use super::draft::{Draft, Truth, condition};
use super::{Action, CLEANED_UP, COORDINATOR_READY, finish, live, queue};
use crate::coordinator::Verdict;
use crate::query::facts::{Turn, Waiting};
use crate::query::verdict::{Meaning, meaning};

/// How often the first in line checks whether there is room.
const FIRST: Duration = Duration::from_millis(500);
/// Resync interval of those behind, who are woken when the line moves.
const BEHIND: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);

/// Reports the query's place, in the status and in the condition that depends on it.
pub fn tell(draft: &mut Draft<'_>, kind: &str) {
    let Turn::Waiting(waiting) = &draft.seen.turn else { return };
    let reason = reason(waiting);
    let message = sentence(reason, &words(waiting));
    draft.tell(reason, &message);
    if condition(&draft.status, kind).is_none_or(|c| c.status != "True") {
        draft.set(kind, Truth::False, reason, &message);
    }
    // The line for nodes is known only to this operator: another one builds its own.
    draft.status.ahead = (!waiting.for_nodes).then_some(waiting.ahead);
    let holds = draft.seen.pods.iter().any(|pod| pod.attempt() == draft.status.attempt);
    draft.look_again(match waiting {
        Waiting { is_never: true, .. } => BEHIND / 2,
        // A running query has what it needs.
        Waiting { ahead: 0, .. } if draft.status.phase != Some(Phase::Starting) => 2 * TICK,
        Waiting { ahead: 0, .. } => FIRST,
        // It may have to release them soon.
        Waiting { .. } if holds => TICK,
        Waiting { .. } => BEHIND,
    });
}

fn reason(waiting: &Waiting) -> Reason {
    if waiting.for_nodes { Reason::Unschedulable } else { Reason::Quota }
}

fn words(waiting: &Waiting) -> String {
    let place = match waiting.ahead {
        1 if waiting.for_nodes => "one query that waits for nodes comes first".to_owned(),
        ahead if waiting.for_nodes => format!("{ahead} queries that wait for nodes come first"),
        _ if waiting.is_never => return waiting.words.clone(),
        0 => "this query is the next of its namespace".to_owned(),
        1 => "one query of the namespace waits for it and comes first".to_owned(),
        ahead => format!("{ahead} queries of the namespace wait for it and come first"),
    };
    format!("{}; {place}", waiting.words)
}

/// Whether it has pods but cannot start, while others ahead of it need the room.
pub fn holds_in_vain(draft: &Draft<'_>) -> bool {
    let is_starting = matches!(draft.seen.status.phase, None | Some(Phase::Pending | Phase::Starting));
    is_starting && matches!(&draft.seen.turn, Turn::Waiting(waiting) if waiting.give_back)
}

pub fn is_giving_back(status: &DistributedQueryStatus) -> bool {
    condition(status, COORDINATOR_READY).is_some_and(|c| c.reason == Reason::GivenBack.as_str())
}

/// Whether the coordinator ended because its pod was released.
pub fn is_given_back_by(draft: &Draft<'_>, verdict: &Verdict) -> bool {
    (is_giving_back(&draft.seen.status) || queue::must_stop(draft))
        && match verdict {
            Verdict::Done(_) => false,
            Verdict::Failed(error) => matches!(meaning(error, false), Meaning::Stopped | Meaning::Again(_)),
        }
}

/// Deletes the attempt's pods; once they are gone, another attempt waits for its turn. This counts as no failure.
pub fn give_back(draft: &mut Draft<'_>) {
    let seen = draft.seen;
    draft.actions.retain(|action| !matches!(action, Action::CreatePod(_)));
    let left = finish::send_away(draft);
    if left > 0 {
        draft.workers(0);
        draft.phase(Phase::Starting);
        draft.set(COORDINATOR_READY, Truth::False, Reason::GivenBack, "");
        match &seen.turn {
            Turn::Waiting(waiting) => {
                let message = format!("{}; {} given back until then", words(waiting), live::pods(left));
                draft.tell(reason(waiting), &message);
                draft.status.ahead = (!waiting.for_nodes).then_some(waiting.ahead);
            }
            Turn::Free | Turn::Mine => draft.tell(Reason::GivenBack, &format!("{} on their way out", live::pods(left))),
        }
        return draft.look_again(TICK);
    }
    if seen.has_finalizer() && !draft.actions.contains(&Action::RemoveFinalizer) {
        draft.set(
            CLEANED_UP,
            Truth::False,
            Reason::LeftBehind,
            "The attempt whose pods were given back ended without a word",
        );
    }
    let (attempt, began) = (draft.attempt(), draft.status.attempt_started_at.clone());
    draft.begin_attempt(attempt + 1);
    // The waiting time goes on; the time that the query may take starts anew.
    draft.status.attempt_started_at = began;
    draft.status.started_at = None;
    draft.status.waited = None;
    match &seen.turn {
        Turn::Waiting(_) => tell(draft, COORDINATOR_READY),
        Turn::Free | Turn::Mine => draft.tell(Reason::PodsStarting, "The query's pods are made again"),
    }
    draft.look_again(Duration::from_millis(50));
}
