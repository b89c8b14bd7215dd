//! The workers of every revision: created when tasks wait, drained when there are too many, replaced when lost.

use std::collections::BTreeSet;
use std::time::Duration;

use floe_api::report::EngineReport;
use floe_api::{Reason, RevisionStatus};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::Draft;
use super::names;
use super::plan::{Action, is_newest_or_serving, is_rested, wanted_of};
use super::scale;
use crate::query::facts::PodFacts;

/// Losses that are further apart are treated as unrelated.
const LOSSES_WITHIN: SignedDuration = SignedDuration::from_secs(120);

pub fn crew(draft: &mut Draft<'_>) {
    if draft.status.worker_lost_at.as_ref().is_some_and(|at| draft.now.duration_since(at.0) >= LOSSES_WITHIN) {
        (draft.status.workers_lost, draft.status.worker_lost_at) = (None, None);
    }
    let shown = draft.status.serving.or(draft.status.revisions.last().map(|revision| revision.number));
    for revision in draft.status.revisions.clone() {
        let wanted = of_revision(draft, &revision);
        if shown == Some(revision.number) {
            draft.wanted = wanted;
        }
    }
    // Delete pods of revisions that are no longer known.
    let known: BTreeSet<u32> = draft.status.revisions.iter().map(|revision| revision.number).collect();
    let seen = draft.seen;
    for pod in seen.pods.iter().filter(|pod| pod.attempt().is_none_or(|number| !known.contains(&number))) {
        draft.delete(pod);
    }
}

/// Returns how many workers the revision should have, if it can have any.
fn of_revision(draft: &mut Draft<'_>, revision: &RevisionStatus) -> Option<u32> {
    let (seen, number) = (draft.seen, revision.number);
    if seen.is_lost(number, draft.now) {
        // They would end by themselves once their coordinator is gone.
        seen.workers(number).for_each(|pod| draft.delete(pod));
        seen.coordinator(number).into_iter().for_each(|pod| draft.delete(pod));
        return None;
    }
    let report = seen.report(number);
    let draining = |pod: &PodFacts| {
        let known = report.and_then(|report| report.workers.iter().find(|worker| worker.id == pod.name));
        known.map(|worker| worker.drained).filter(|_| known.is_some_and(|worker| worker.draining))
    };
    let mut alive: Vec<&PodFacts> = Vec::new();
    for pod in seen.workers(number) {
        if pod.is_over(draft.now) {
            if pod.deleting_at.is_none() {
                lose(draft, pod);
            }
            draft.delete(pod);
        } else if pod.deleting_at.is_none() {
            match draining(pod) {
                Some(true) => draft.delete(pod),
                Some(false) => draft.look_again(Duration::from_secs(1)),
                None => alive.push(pod),
            }
        }
    }
    // The coordinator comes first: without it, workers have nothing to connect to.
    let lead = seen.coordinator(number).filter(|pod| pod.is_running())?;
    let there = u32::try_from(alive.len()).unwrap_or(u32::MAX);
    let wanted = wanted_of(draft, number, there);
    let is_shown = draft.status.serving == Some(number);
    if wanted > there {
        if is_shown {
            draft.status.surplus_since = None;
        }
        if is_newest_or_serving(&draft.status, number) || there == 0 {
            make(draft, revision, wanted - there);
        }
    } else if wanted < there {
        if !is_shown || may_shrink(draft, wanted) {
            let ip = lead.ip.clone().unwrap_or_default();
            release(draft, &alive, report, (there - wanted) as usize, &ip);
        }
    } else if is_shown {
        draft.status.surplus_since = None;
    }
    Some(wanted)
}

fn make(draft: &mut Draft<'_>, revision: &RevisionStatus, count: u32) {
    let pause = draft.status.workers_lost.unwrap_or(0);
    if let (Some(at), 1..) = (draft.status.worker_lost_at.clone(), pause) {
        let until = at.0 + SignedDuration::from_secs((1 << pause.min(6)) - 2);
        if draft.now < until {
            return draft.look_again_at(until);
        }
    }
    for _ in 0..count {
        let index = draft.status.workers_made.unwrap_or(0);
        if !draft.make(names::worker(revision.number, index), &revision.image) {
            return;
        }
        draft.status.workers_made = Some(index.saturating_add(1));
    }
}

fn lose(draft: &mut Draft<'_>, pod: &PodFacts) {
    let is_recent =
        draft.status.worker_lost_at.as_ref().is_some_and(|at| draft.now.duration_since(at.0) < LOSSES_WITHIN);
    let before = if is_recent { draft.status.workers_lost.unwrap_or(0) } else { 0 };
    draft.status.workers_lost = Some(before.saturating_add(1));
    draft.status.worker_lost_at = Some(Time(draft.now));
    let words = pod.loss().map_or_else(|| "ended".to_owned(), |loss| loss.words);
    let reason = pod.loss().map_or(Reason::WorkerLost, |loss| loss.reason);
    draft.notice(true, reason, format!("Worker {} {words}", pod.name));
}

/// Whether there have been too many workers for long enough to remove some.
fn may_shrink(draft: &mut Draft<'_>, wanted: u32) -> bool {
    if wanted == 0 && is_rested(draft) {
        return true;
    }
    let since = draft.status.surplus_since.get_or_insert(Time(draft.now)).0;
    let until = since + SignedDuration::from_secs(draft.spec().cooldown_seconds.into());
    draft.look_again_at(until);
    draft.now >= until
}

/// Removes `count` workers: deletes those that are not connected first, then drains those with the least to do.
fn release(draft: &mut Draft<'_>, alive: &[&PodFacts], report: Option<&EngineReport>, count: usize, ip: &str) {
    let is_connected =
        |pod: &PodFacts| report.is_some_and(|report| report.workers.iter().any(|worker| worker.id == pod.name));
    let (connected, others): (Vec<&PodFacts>, Vec<&PodFacts>) = alive.iter().partition(|pod| is_connected(pod));
    others.iter().rev().take(count).for_each(|pod| draft.delete(pod));
    let left = count.saturating_sub(others.len());
    let order = report.map(scale::first_to_go).unwrap_or_default();
    let go = order.into_iter().filter(|worker| connected.iter().any(|pod| pod.name == worker.id)).take(left);
    for worker in go {
        draft.act(Action::Drain { coordinator_ip: ip.to_owned(), worker: worker.id.clone() });
        draft.look_again(Duration::from_secs(1));
    }
}
