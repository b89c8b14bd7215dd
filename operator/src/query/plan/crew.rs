//! The workers of an attempt: creates as many as are wanted, notices and replaces lost ones, and removes surplus ones.
//! A release is written into the status first; then the worker is drained, and deleted once nothing is read from it. So
//! another operator continues where this one stops.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use floe_api::report::{RunPhase, WORKER_ORPHANED};
use floe_api::{Phase, Reason};
use jiff::{SignedDuration, Timestamp};

use super::Action;
use super::draft::Draft;
use super::scale::{is_former, next_replacement, steer, times};
use crate::context::scale::first_to_go;
use crate::gang::Gang;
use crate::query::facts::{Loss, PodFacts, PodState, Turn};
use crate::query::names::Place;

/// Exit codes with which a worker may end because it learnt of the query's end before the operator did.
const QUIET_ENDINGS: [i32; 2] = [0, WORKER_ORPHANED as i32];
/// How long after such an exit the worker counts as lost.
const QUIET: Duration = Duration::from_secs(3);
/// Interval at which to check whether a worker is drained.
const DRAINING: Duration = Duration::from_secs(1);

/// The workers of the attempt.
pub struct Crew<'a> {
    pub pods: Vec<&'a PodFacts>,
    pub ready: u32,
}

/// The place of one worker.
enum Seat<'a> {
    Taken(&'a PodFacts),
    /// The pod to create for it, and why the last one is lost, if it is.
    Vacant(Place, Option<(String, Loss)>),
}

/// Checks every worker; creates those that are wanted and replaces lost ones once the coordinator runs and it is the
/// query's turn. Fails if one was lost too often.
pub fn crew<'a>(draft: &mut Draft<'a>, coordinator: &PodFacts) -> Result<Crew<'a>, Loss> {
    let seen = draft.seen;
    let wanted = steer(draft) as usize;
    let newest = newest(draft);
    let (mut alive, mut vacant) = (BTreeMap::new(), Vec::new());
    let most = draft.spec().compute.worker_count();
    newest.range(most..).for_each(|(_, pod)| dismiss(draft, pod));
    for index in 0..most {
        match seat(draft, index, newest.get(&index).copied())? {
            Seat::Taken(pod) => drop(alive.insert(index, pod)),
            Seat::Vacant(next, lost) => vacant.push((next, lost)),
        }
    }
    fill(draft, vacant, wanted.saturating_sub(alive.len()), coordinator);
    let surplus = alive.len().saturating_sub(wanted);
    if surplus > 0 {
        release(draft, &mut alive, surplus);
    }
    if coordinator.is_running() {
        drain_released(draft, coordinator);
    }
    // Without a report no worker is connected yet, unless the query runs already: then this operator has just started.
    let is_at_work = matches!(seen.status.phase, Some(Phase::Planning | Phase::Running | Phase::Committing));
    let connected: Option<HashSet<&str>> =
        seen.report.as_ref().map(|report| report.workers.iter().map(String::as_str).collect());
    let is_there = |pod: &PodFacts| connected.as_ref().map_or(is_at_work, |ids| ids.contains(pod.name.as_str()));
    let pods: Vec<&PodFacts> = alive.into_values().collect();
    let ready = pods.iter().filter(|pod| pod.is_running() && is_there(pod)).count();
    Ok(Crew { ready: u32::try_from(ready).unwrap_or(u32::MAX), pods })
}

/// The latest pod of each worker.
fn newest<'a>(draft: &Draft<'a>) -> BTreeMap<u32, &'a PodFacts> {
    let attempt = draft.attempt();
    let mut newest: BTreeMap<u32, &PodFacts> = BTreeMap::new();
    for pod in &draft.seen.pods {
        if let Place::Worker { attempt: of, index, .. } = pod.place
            && of == attempt
        {
            let known = newest.entry(index).or_insert(pod);
            if known.place < pod.place {
                *known = pod;
            }
        }
    }
    newest
}

/// Whether the worker is there. Records a loss in the status.
fn seat<'a>(draft: &mut Draft<'a>, index: u32, newest: Option<&'a PodFacts>) -> Result<Seat<'a>, Loss> {
    let (seen, attempt) = (draft.seen, draft.attempt());
    let told = next_replacement(&draft.status, index);
    let pod = newest.filter(|pod| !is_former(&draft.status, pod.place));
    let at = match pod.map(|pod| pod.place) {
        Some(Place::Worker { replacement, .. }) => replacement,
        Some(Place::Coordinator { .. } | Place::Clean) | None => told,
    };
    let place = |replacement| Place::Worker { attempt, index, replacement };
    let name = place(at).name(seen.name());
    let loss = match pod {
        Some(pod) if may_be_the_end(pod, draft.now) => {
            draft.look_again(QUIET);
            return Ok(Seat::Taken(pod));
        }
        Some(pod) => pod.loss(),
        None => seen.gone.get(&name).cloned(),
    };
    let Some(loss) = loss else {
        return Ok(pod.map_or(Seat::Vacant(place(at), None), Seat::Taken));
    };
    let spec = draft.spec();
    let workers = draft.status.workers.get_or_insert_default();
    let before = at.saturating_sub(times(&workers.released, index));
    if before >= spec.backoff_limit {
        let memory = &spec.compute.memory;
        let bound =
            if loss.reason == Reason::OutOfMemory { format!(" (its limit is {memory})") } else { String::new() };
        let times = before + 1;
        let words = format!("Worker {index} (pod {name}) {}{bound}, and was lost {times} times", loss.words);
        return Err(Loss { reason: loss.reason, words });
    }
    workers.replaced.insert(index.to_string(), before + 1);
    Ok(Seat::Vacant(place(at + 1), Some((name, loss))))
}

/// Creates as many workers as are missing, replacing lost ones first, which it reports.
fn fill(
    draft: &mut Draft<'_>,
    mut vacant: Vec<(Place, Option<(String, Loss)>)>,
    missing: usize,
    coordinator: &PodFacts,
) {
    // Pods that are placed together must all be there before the first one is.
    let may_make =
        (coordinator.is_running() || coordinator.gang.is_some()) && !matches!(draft.seen.turn, Turn::Waiting(_));
    if may_make && coordinator.gang == Some(Gang::Volcano) && !coordinator.is_running() {
        draft.act(Action::EnsureGroup { uid: coordinator.uid.clone() });
    }
    vacant.sort_by_key(|(_, lost)| lost.is_none());
    for (nth, (next, lost)) in vacant.into_iter().enumerate() {
        let is_wanted = nth < missing;
        if let (Some((name, loss)), Place::Worker { index, .. }) = (lost, next) {
            let then = match is_wanted {
                true => format!("pod {} takes its place", next.name(draft.seen.name())),
                false => "the others are enough for what is left to do".to_owned(),
            };
            let note = format!("Worker {index} (pod {name}) {}; {then}", loss.words);
            draft.notice(true, loss.reason, note, Some(name));
        }
        if is_wanted && may_make {
            draft.act(Action::CreatePod(next));
        }
    }
}

/// Records `surplus` workers as no longer needed: first those not connected, then those with the least to do.
fn release(draft: &mut Draft<'_>, alive: &mut BTreeMap<u32, &PodFacts>, surplus: usize) {
    let Some(report) = draft.seen.report.as_deref().filter(|report| report.phase == RunPhase::Running) else { return };
    let Some(engine) = &report.engine else { return };
    let is_connected = |pod: &PodFacts| engine.workers.iter().any(|worker| worker.id == pod.name);
    let apart = alive.iter().rev().filter(|(_, pod)| !is_connected(pod)).map(|(index, _)| *index);
    let of = |id: &str| alive.iter().find(|(_, pod)| pod.name == id).map(|(index, _)| *index);
    let idlest = first_to_go(engine).into_iter().filter_map(|worker| of(&worker.id));
    let going: Vec<u32> = apart.chain(idlest).take(surplus).collect();
    for index in going {
        alive.remove(&index).into_iter().for_each(|pod| mark_released(draft, pod));
    }
}

/// Deletes a worker beyond the number in the spec: whoever lowers it wants the worker gone. On SIGTERM a worker hands
/// over its outputs first.
fn dismiss(draft: &mut Draft<'_>, pod: &PodFacts) {
    if pod.loss().is_none() && !is_former(&draft.status, pod.place) {
        draft.delete(pod);
    }
}

/// Records that the pod is no longer one of the attempt's workers.
fn mark_released(draft: &mut Draft<'_>, pod: &PodFacts) {
    let Place::Worker { index, replacement, .. } = pod.place else { return };
    let workers = draft.status.workers.get_or_insert_default();
    let next = replacement.saturating_add(1).saturating_sub(times(&workers.replaced, index));
    workers.released.insert(index.to_string(), next);
    draft.look_again(Duration::ZERO);
}

/// Drains released workers, and deletes their pods once nothing is read from them.
fn drain_released(draft: &mut Draft<'_>, coordinator: &PodFacts) {
    let (seen, attempt) = (draft.seen, draft.attempt());
    let leaves =
        |pod: &&PodFacts| pod.attempt() == Some(attempt) && is_former(&seen.status, pod.place) && pod.loss().is_none();
    for pod in seen.pods.iter().filter(leaves) {
        let Some(engine) = seen.report.as_ref().and_then(|report| report.engine.as_ref()) else {
            draft.look_again(DRAINING);
            continue;
        };
        let worker = engine.workers.iter().find(|worker| worker.id == pod.name);
        match (worker, &coordinator.ip) {
            (Some(worker), _) if worker.drained => draft.delete(pod),
            (Some(worker), _) if worker.draining => draft.look_again(DRAINING),
            (Some(worker), Some(ip)) => {
                draft.act(Action::Drain { ip: ip.clone(), worker: worker.id.clone() });
                draft.look_again(DRAINING);
            }
            // It is not connected: nothing is read from it.
            (None, _) => draft.delete(pod),
            (Some(_), None) => draft.look_again(DRAINING),
        }
    }
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
