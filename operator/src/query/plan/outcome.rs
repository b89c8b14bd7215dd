//! What the outcome that a coordinator has reported means for its query: its end, or another attempt.

use std::time::Duration;

use floe_api::reason::Reason;
use floe_api::report::Outcome;
use floe_api::{Phase, ResultHolder, counted};
use jiff::SignedDuration;

use super::draft::{Draft, Truth, condition};
use super::live::{has_plan, lose_attempt, stop};
use super::{Action, PLANNED, borrow, finish, line, progress};
use crate::coordinator::Verdict;
use crate::query::facts::Loss;
use crate::query::verdict::{self, Meaning};

pub fn judge(draft: &mut Draft<'_>, verdict: Verdict) {
    let error = match verdict {
        Verdict::Done(outcome) => return succeed(draft, &outcome),
        Verdict::Failed(error) => error,
    };
    // A query can fail before its plan was ever reported.
    if has_plan(draft.seen.report.as_deref()) {
        draft.set(PLANNED, Truth::True, Reason::Planned, "");
    }
    let planned = condition(&draft.status, PLANNED).is_some_and(|c| c.status == "True");
    let mut words = verdict::words(&error);
    match verdict::meaning(&error, planned) {
        Meaning::Final(reason) => {
            if reason == Reason::OutOfMemory {
                words = format!("{words} (a worker's limit is {})", draft.seen.worker_memory());
            }
            progress::show_failure(&mut draft.status, draft.seen.report.as_deref());
            draft.end(Phase::Failed, reason, &words);
        }
        // It had no workers because others had the room for them.
        Meaning::Again(_) if line::holds_in_vain(draft) => line::give_back(draft),
        Meaning::Again(reason) => lose_attempt(draft, reason, &words, true),
        Meaning::Stopped if draft.spec().cancel || draft.spec().suspend => stop(draft),
        Meaning::Stopped if borrow::is_stopping(draft) => borrow::begin_again(draft),
        Meaning::Stopped if draft.seen.is_borrowed() => {
            draft.end(Phase::Cancelled, Reason::Cancelled, "The query was cancelled at its coordinator")
        }
        // It was stopped by a client, or because its pod is being removed. How the pod ended tells which.
        Meaning::Stopped => match draft.seen.coordinator() {
            Some(pod) if pod.disruption.is_some() || pod.deleting_at.is_some() => {
                let loss = pod.loss().unwrap_or_else(Loss::deleted);
                lose_attempt(draft, loss.reason, &format!("the coordinator (pod {}) {}", pod.name, loss.words), true)
            }
            Some(pod) if !pod.is_ended() => {
                // Nothing needs it any more: tell it not to linger.
                if let Some(ip) = &pod.ip {
                    draft.act(Action::Dismiss { ip: ip.clone() });
                }
                draft.tell(Reason::Waiting, "The coordinator was told to stop");
                draft.look_again(Duration::from_secs(1));
            }
            Some(_) => draft.end(Phase::Cancelled, Reason::Cancelled, "The query was cancelled at its coordinator"),
            None => lose_attempt(draft, Reason::PodDeleted, "the coordinator's pod was deleted", true),
        },
    }
}

fn succeed(draft: &mut Draft<'_>, outcome: &Outcome) {
    draft.started();
    let sink = draft.spec().sink.as_ref();
    progress::show_outcome(&mut draft.status, draft.seen.report.as_deref(), outcome);
    let rows = counted(outcome.rows, "row", "rows");
    let message = match (&draft.status.result_uri, sink) {
        (Some(uri), _) => format!("{rows} at {uri}"),
        (None, Some(sink)) => format!("{rows} at {}", sink.place()),
        (None, None) => {
            let until = draft.now + SignedDuration::try_from(finish::result_ttl(draft)).unwrap_or_default();
            format!("{rows}; can be read from the query until {}", until.strftime("%FT%TZ"))
        }
    };
    draft.set(PLANNED, Truth::True, Reason::Planned, "");
    let is_kept = outcome.sink_uri.is_none() && sink.is_none();
    let holder = if outcome.workers_free { ResultHolder::Coordinator } else { ResultHolder::Workers };
    draft.status.result_with = is_kept.then_some(holder);
    draft.end(Phase::Succeeded, Reason::Completed, &message);
}
