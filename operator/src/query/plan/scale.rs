//! Decides how many workers a query with its own pods should have while it runs. What a load needs is decided as for
//! contexts (`context::scale`); the difference is here: a query keeps its workers for stages that are yet to come.

use std::collections::BTreeMap;

use floe_api::report::{EngineReport, Report, RunPhase};
use floe_api::{ComputeSpec, DistributedQueryStatus, Reason, StageState};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::Draft;
use crate::context::scale::{self, Bounds, Load};
use crate::query::names::Place;

/// How long there must be too many workers before they are removed: about as long as a pod takes to start.
pub const COOLDOWN: SignedDuration = SignedDuration::from_secs(20);
/// The same if a stage that has not begun may use them.
pub const COOLDOWN_BEFORE_A_STAGE: SignedDuration = SignedDuration::from_secs(300);

fn bounds(compute: &ComputeSpec) -> Bounds {
    Bounds { min: compute.workers_to_start(), max: compute.worker_count() }
}

/// The number of workers last decided; at the start of an attempt the minimum.
pub fn target(status: &DistributedQueryStatus, compute: &ComputeSpec) -> u32 {
    let Bounds { min, max } = bounds(compute);
    status.workers.as_ref().map_or(0, |workers| workers.desired).max(min).min(max)
}

/// The replacement number of this worker's next pod. Pods with a lower one were lost or released.
pub fn next_replacement(status: &DistributedQueryStatus, index: u32) -> u32 {
    let Some(workers) = &status.workers else { return 0 };
    times(&workers.replaced, index).saturating_add(times(&workers.released, index))
}

pub fn times(counts: &BTreeMap<String, u32>, index: u32) -> u32 {
    counts.get(&index.to_string()).copied().unwrap_or(0)
}

/// Whether the status says that the worker no longer belongs to the attempt: it was released, or lost.
pub fn is_former(status: &DistributedQueryStatus, place: Place) -> bool {
    match place {
        Place::Worker { index, replacement, .. } => replacement < next_replacement(status, index),
        Place::Coordinator { .. } | Place::Clean => false,
    }
}

/// Decides the number of workers again, and reports a change.
pub fn steer(draft: &mut Draft<'_>) -> u32 {
    let compute = &draft.spec().compute;
    let (bounds, before) = (bounds(compute), target(&draft.status, compute));
    let decided = match draft.seen.report.as_deref() {
        Some(report) if bounds.min < bounds.max => decide(draft, report, bounds, before),
        // No report for now, or a fixed number.
        Some(_) | None => None,
    };
    let target = decided.as_ref().map_or(before, |(target, _)| *target);
    if let Some((target, why)) = decided {
        // Events of one reason are aggregated and show the first one's text, so up and down have different reasons.
        let (reason, way) = if target > before { (Reason::ScaledUp, "up") } else { (Reason::ScaledDown, "down") };
        let note = format!("The number of workers goes {way} from {before} to {target}; {why}");
        draft.notice(false, reason, note, None);
    }
    draft.status.workers.get_or_insert_default().desired = target;
    target
}

/// The new number of workers, and why; `None` to keep it.
fn decide(draft: &mut Draft<'_>, report: &Report, bounds: Bounds, before: u32) -> Option<(u32, String)> {
    let may_shrink = match report.phase {
        RunPhase::Running => true,
        // The tasks of recursive tables run while the query is planned.
        RunPhase::Planning => false,
        RunPhase::Waiting | RunPhase::Committing => return None,
        RunPhase::Succeeded | RunPhase::Failed | RunPhase::Cancelled => return None,
    };
    let Some(engine) = &report.engine else {
        let why = "its coordinator is of a release that does not say what its tasks need".to_owned();
        return (before < bounds.max).then_some((bounds.max, why));
    };
    let load = load(engine);
    let wanted = scale::wanted(load, bounds, false);
    let (now, surplus_since) = (draft.now, &mut draft.status.workers.get_or_insert_default().surplus_since);
    if wanted >= before || !may_shrink {
        *surplus_since = None;
        return (wanted > before).then(|| (wanted, format!("tasks that wait: {}", engine.tasks_waiting)));
    }
    let since = surplus_since.get_or_insert(Time(now)).0;
    let until = since + if is_awaited(report, wanted) { COOLDOWN_BEFORE_A_STAGE } else { COOLDOWN };
    if now < until {
        draft.look_again_at(until);
        return None;
    }
    *surplus_since = None;
    Some((wanted, format!("tasks that run or wait: {}", load.tasks)))
}

fn load(engine: &EngineReport) -> Load {
    // A running query is never idle. Another worker would not reduce the memory use of those that hold its data.
    Load { queries: 1, is_pressed: false, ..Load::of(engine) }
}

/// Whether a stage that has not begun may have tasks for more than `workers` workers.
fn is_awaited(report: &Report, workers: u32) -> bool {
    let has_begun = |id: u32| report.stages.iter().any(|stage| stage.id == id && stage.state != StageState::Waiting);
    let mut ahead = report.plan.iter().flat_map(|plan| &plan.stages).filter(|stage| !has_begun(stage.id));
    ahead.any(|stage| match (stage.tasks, stage.tasks_at_most) {
        (Some(tasks), _) => tasks > workers,
        // A coordinator of another release does not report it.
        (None, most) => most == 0 || most > workers,
    })
}
