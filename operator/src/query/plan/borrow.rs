//! Decides for a query that borrows a context: it has no pods, and its coordinator is one of the context's. How it
//! ends, is stopped and starts again is decided as for any other query.

use std::sync::Arc;
use std::time::Duration;

use floe_api::reason::{Reason, sentence};
use floe_api::report::{Report, RunPhase};
use floe_api::{BorrowedStatus, Phase};

use super::draft::{Draft, Truth};
use super::live::{self, RETRY};
use super::progress;
use super::trouble::capital;
use super::{ACCEPTED, Action, CLEANED_UP, COORDINATOR_READY, PLANNED, WORKERS_READY};
use crate::context::register::{Lent, Loan};
use crate::query::facts::PodFacts;
use crate::query::validate::validate_borrowed;

/// Starts the query, or follows it.
pub fn work(draft: &mut Draft<'_>) {
    let lent = match &draft.seen.loan {
        Loan::Lent(lent) => Arc::clone(lent),
        Loan::Missing => return missing(draft),
        // The context is not known yet.
        Loan::NotYet | Loan::Own => return draft.look_again(RETRY),
    };
    match draft.status.context.clone() {
        None => hand_over(draft, &lent),
        Some(seat) => follow(draft, &lent, &seat),
    }
}

/// Whether the context's coordinator is running the query, as far as is known.
pub fn is_at_work(draft: &Draft<'_>) -> bool {
    let seen = draft.seen;
    seen.is_borrowed()
        && draft.status.context.is_some()
        && seen.coordinator().is_some_and(PodFacts::is_running)
        && seen.silence.is_none()
        && !seen.is_absent
        && seen.verdict().is_none()
}

/// Has the coordinator cancel or forget the query.
pub fn dismiss(draft: &mut Draft<'_>) {
    let seen = draft.seen;
    if let Some(ip) = seen.coordinator().filter(|pod| pod.is_running()).and_then(|pod| pod.ip.clone()) {
        draft.act(Action::Dismiss { ip });
    }
}

/// Whether the coordinator was told to stop, for a suspension that may have been lifted by now.
pub fn is_stopping(draft: &Draft<'_>) -> bool {
    let status = &draft.seen.status;
    draft.seen.is_borrowed()
        && status.context.is_some()
        && status.phase != Some(Phase::Suspended)
        && status.reason.as_deref() == Some(Reason::Suspended.as_str())
}

/// Resumes a query that may not have stopped yet: it starts again once it has.
pub fn resume(draft: &mut Draft<'_>) {
    if !is_at_work(draft) {
        return begin_again(draft);
    }
    dismiss(draft);
    draft.tell(Reason::Suspended, "Stopping: then it begins again");
    draft.look_again(Duration::from_millis(500));
}

/// Starts the next attempt, without counting a failure.
pub fn begin_again(draft: &mut Draft<'_>) {
    let attempt = draft.attempt();
    if draft.seen.verdict().is_none() && !draft.seen.is_absent {
        let message = format!("Attempt {attempt} ended without a word; what it staged is removed at the end");
        draft.set(CLEANED_UP, Truth::False, Reason::LeftBehind, &message);
    }
    draft.begin_attempt(attempt + 1);
    draft.tell(Reason::PodsStarting, "The query goes on");
    draft.look_again(Duration::from_millis(50));
}

fn name(draft: &Draft<'_>) -> String {
    draft.spec().compute.context_ref.as_ref().map(|context| context.name.clone()).unwrap_or_default()
}

fn missing(draft: &mut Draft<'_>) {
    let name = name(draft);
    if draft.status.context.is_some() {
        return live::lose_attempt(draft, Reason::CoordinatorLost, &format!("context {name} was deleted"), false);
    }
    let words = format!("spec.compute.contextRef: there is no ComputeContext {name} in this namespace");
    wait(draft, Phase::Pending, Reason::MissingContext, &words);
}

/// Waits: it cannot start for now, and is woken when something changes in the context.
fn wait(draft: &mut Draft<'_>, phase: Phase, reason: Reason, words: &str) {
    let message = sentence(reason, words);
    draft.phase(phase);
    draft.tell(reason, &message);
    draft.set(COORDINATOR_READY, Truth::False, reason, &message);
    live::starting_deadline_passed(draft);
}

/// Submits the job to the coordinator that takes queries.
fn hand_over(draft: &mut Draft<'_>, lent: &Lent) {
    if let Some(at) = live::pause(draft).filter(|at| *at > draft.now) {
        return draft.look_again_at(at);
    }
    let name = name(draft);
    if lent.is_leaving {
        let words = format!("spec.compute.contextRef: the ComputeContext {name} is being deleted");
        return wait(draft, Phase::Pending, Reason::MissingContext, &words);
    }
    let serving = lent.coordinators.iter().find(|pod| Some(&pod.uid) == lent.serving.as_ref() && pod.is_running());
    let Some((pod, ip)) = serving.and_then(|pod| Some((pod, pod.ip.clone()?))) else {
        return wait(draft, Phase::Starting, Reason::ContextStarting, &format!("Context {name}: {}", lent.message));
    };
    let Some(inputs) = draft.seen.inputs.clone() else {
        draft.wants_inputs = true;
        return;
    };
    if let Err(invalid) = validate_borrowed(&inputs.query, &lent.compute, &draft.settings.policy) {
        return draft.end(Phase::Failed, invalid.reason, &invalid.message);
    }
    draft.set(ACCEPTED, Truth::True, Reason::Accepted, "");
    if live::starting_deadline_passed(draft) {
        return;
    }
    if let Some(missing) = inputs.missing.first() {
        let words: Vec<&str> = inputs.missing.iter().map(|m| m.message.as_str()).collect();
        wait(draft, Phase::Starting, missing.reason, &words.join("; "));
        return draft.look_again(RETRY);
    }
    if !draft.seen.has_finalizer() {
        draft.act(Action::AddFinalizer);
    }
    draft.phase(Phase::Starting);
    submit(draft, ip);
    match &draft.seen.trouble {
        None => {
            let (coordinator, coordinator_uid) = (pod.name.clone(), pod.uid.clone());
            draft.status.context = Some(BorrowedStatus { name: name.clone(), coordinator, coordinator_uid });
            draft.tell(Reason::PodsStarting, &format!("Context {name} takes the query up"));
        }
        Some(trouble) => {
            let phase = if trouble.reason == Reason::ContextFull { Phase::Pending } else { Phase::Starting };
            wait(draft, phase, trouble.reason, &trouble.message);
            draft.look_again(RETRY);
        }
    }
}

fn submit(draft: &mut Draft<'_>, ip: String) {
    let attempt = draft.attempt();
    draft.act(Action::EnsureJob { attempt });
    draft.act(Action::Submit { attempt, ip });
}

/// Follows a job that was submitted: shows the coordinator's report, and notices when the coordinator is gone.
fn follow(draft: &mut Draft<'_>, lent: &Lent, seat: &BorrowedStatus) {
    let seen = draft.seen;
    let pod = match seen.coordinator() {
        Some(pod) if !pod.is_over(draft.now) && pod.deleting_at.is_none() => pod,
        other => {
            let why = other.and_then(PodFacts::loss).map_or_else(|| "is gone".to_owned(), |loss| loss.words);
            let words = format!("the coordinator of context {} (pod {}) {why}", seat.name, seat.coordinator);
            return live::lose_attempt(draft, Reason::CoordinatorLost, &words, false);
        }
    };
    let Some(report) = seen.report.clone() else {
        if seen.is_absent {
            // The job did not reach it.
            if seen.inputs.is_none() {
                draft.wants_inputs = true;
                return;
            }
            if let Some(ip) = pod.ip.clone() {
                submit(draft, ip);
            }
        }
        tell_trouble(draft);
        return draft.look_again(Duration::from_secs(1));
    };
    show(draft, lent, seat, &report);
}

fn behind(ahead: u64, context: &str) -> String {
    match ahead {
        0 => format!("It is the next to start in context {context}, which runs as many queries as it may"),
        1 => format!("One query of context {context} that waits comes first"),
        ahead => format!("{ahead} queries of context {context} that wait come first"),
    }
}

fn tell_trouble(draft: &mut Draft<'_>) -> bool {
    let seen = draft.seen;
    if let Some(trouble) = &seen.trouble {
        draft.tell(trouble.reason, &sentence(trouble.reason, &trouble.message));
    } else if let Some(words) = &seen.silence {
        draft.tell(Reason::Unreachable, &sentence(Reason::Unreachable, &capital(words)));
    } else {
        return false;
    }
    true
}

fn show(draft: &mut Draft<'_>, lent: &Lent, seat: &BorrowedStatus, report: &Report) {
    let workers = u32::try_from(report.workers.len()).unwrap_or(u32::MAX);
    draft.workers(workers);
    draft.set(COORDINATOR_READY, Truth::True, Reason::CoordinatorRunning, "");
    if workers > 0 {
        draft.set(WORKERS_READY, Truth::True, Reason::WorkersConnected, "");
    } else {
        let message = format!("context {} has no workers yet", seat.name);
        draft.set(WORKERS_READY, Truth::False, Reason::ContextStarting, &message);
    }
    if live::has_plan(Some(report)) {
        draft.set(PLANNED, Truth::True, Reason::Planned, "");
    }
    progress::show(&mut draft.status, report);
    let phase = match report.phase {
        RunPhase::Waiting => Phase::Pending,
        RunPhase::Planning => Phase::Planning,
        RunPhase::Committing => Phase::Committing,
        // Outcomes are handled before this.
        RunPhase::Running | RunPhase::Succeeded | RunPhase::Failed | RunPhase::Cancelled => Phase::Running,
    };
    draft.phase(phase);
    if phase == Phase::Pending {
        let ahead = report.ahead.unwrap_or(0);
        draft.status.ahead = Some(u32::try_from(ahead).unwrap_or(u32::MAX));
        draft.tell(Reason::ContextFull, &behind(ahead as u64, &seat.name));
        live::starting_deadline_passed(draft);
        return;
    }
    draft.started();
    if tell_trouble(draft) {
        // The silent coordinator may be gone, and nothing else may wake the query.
        return draft.look_again(Duration::from_secs(1));
    }
    if workers == 0 && phase == Phase::Running {
        let words = format!("Context {} has no workers yet: {}", seat.name, lent.message);
        draft.tell(Reason::ContextStarting, &sentence(Reason::ContextStarting, &words));
    } else {
        draft.tell_nothing();
    }
}
