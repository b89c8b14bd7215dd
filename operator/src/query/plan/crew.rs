//! The workers of an attempt: notices lost ones and replaces them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use floe_api::report::WORKER_ORPHANED;
use floe_api::{Phase, Reason};
use jiff::{SignedDuration, Timestamp};

use super::Action;
use super::draft::Draft;
use crate::query::facts::{Loss, PodFacts, PodState};
use crate::query::names::Place;

/// A worker that ended with one of these codes may have learnt of the query's end before the operator.
const QUIET_ENDINGS: [i32; 2] = [0, WORKER_ORPHANED as i32];
/// How long after such an exit the worker counts as lost.
const QUIET: Duration = Duration::from_secs(3);

/// The workers of the attempt.
pub struct Crew<'a> {
    pub pods: Vec<&'a PodFacts>,
    pub ready: u32,
}

/// Checks every worker and replaces lost ones. An error if one was lost too often.
pub fn crew<'a>(draft: &mut Draft<'a>) -> Result<Crew<'a>, Loss> {
    let seen = draft.seen;
    let attempt = draft.attempt();
    let limit = draft.spec().backoff_limit;
    let mut newest: HashMap<u32, &PodFacts> = HashMap::new();
    for pod in &seen.pods {
        if let Place::Worker { attempt: of, index, replacement } = pod.place
            && of == attempt
        {
            let slot = newest.entry(index).or_insert(pod);
            if matches!(slot.place, Place::Worker { replacement: known, .. } if known < replacement) {
                *slot = pod;
            }
        }
    }
    let connected: Option<HashSet<&str>> =
        seen.report.as_ref().map(|report| report.workers.iter().map(String::as_str).collect());
    // Without a report no worker is connected yet, unless the query is already running: then this operator has only just
    // started.
    let is_at_work = matches!(seen.status.phase, Some(Phase::Planning | Phase::Running | Phase::Committing));
    let mut crew = Crew { pods: Vec::new(), ready: 0 };
    for index in 0..draft.spec().compute.worker_count() {
        let told = draft.status.workers.as_ref().and_then(|w| w.replaced.get(&index.to_string()).copied()).unwrap_or(0);
        let pod = newest.get(&index).copied();
        let pod = pod.filter(|pod| matches!(pod.place, Place::Worker { replacement, .. } if replacement >= told));
        let at = match pod.map(|pod| pod.place) {
            Some(Place::Worker { replacement, .. }) => replacement,
            Some(Place::Coordinator { .. } | Place::Clean) | None => told,
        };
        let name = Place::Worker { attempt, index, replacement: at }.name(seen.name());
        let loss = match pod {
            Some(pod) if may_be_the_end(pod, draft.now) => {
                draft.look_again(QUIET);
                None
            }
            Some(pod) => pod.loss(),
            None if seen.gone.contains_key(&name) => seen.gone.get(&name).cloned(),
            None => {
                draft.act(Action::CreatePod(Place::Worker { attempt, index, replacement: at }));
                None
            }
        };
        let Some(loss) = loss else {
            if let Some(pod) = pod {
                let there = connected.as_ref().map_or(is_at_work, |ids| ids.contains(pod.name.as_str()));
                crew.ready += u32::from(there && pod.is_running());
                crew.pods.push(pod);
            }
            continue;
        };
        if at >= limit {
            let memory = &draft.spec().compute.memory;
            let bound =
                if loss.reason == Reason::OutOfMemory { format!(" (its limit is {memory})") } else { String::new() };
            let times = at + 1;
            let words = format!("Worker {index} (pod {name}) {}{bound}, and was lost {times} times", loss.words);
            return Err(Loss { reason: loss.reason, words });
        }
        let next = Place::Worker { attempt, index, replacement: at + 1 };
        draft.notice(
            true,
            loss.reason,
            format!("Worker {index} (pod {name}) {}; pod {} takes its place", loss.words, next.name(seen.name())),
            Some(name),
        );
        draft.act(Action::CreatePod(next));
        draft.workers(crew.ready);
        if let Some(workers) = &mut draft.status.workers {
            workers.replaced.insert(index.to_string(), at + 1);
        }
    }
    Ok(crew)
}

/// Whether a worker ended just now, the way workers do at the end of their query.
fn may_be_the_end(pod: &PodFacts, now: Timestamp) -> bool {
    match &pod.state {
        PodState::Ended(ending) if pod.deleting_at.is_none() && pod.disruption.is_none() => {
            let quiet = ending.exit_code.is_some_and(|code| QUIET_ENDINGS.contains(&code));
            let since = ending.at.map(|at| now.duration_since(at));
            quiet && since.is_some_and(|since| since < SignedDuration::try_from(QUIET).unwrap_or_default())
        }
        PodState::Ended(_) | PodState::Waiting(_) | PodState::Running => false,
    }
}
