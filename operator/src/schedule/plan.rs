//! Decides from everything observed of a schedule which queries to create and to delete, what its status says, and when
//! to reconcile again. Pure and total: no client, no clock.
//!
//! A time is settled once its query exists or it gets none; `status.settledUntil` is the last settled time. A status
//! never mentions a query that was not seen, so it does not matter if an operator stops between creating a query and
//! recording it: the next one finds the query by its name.

use std::time::Duration;

use floe_api::schedule::calendar::Calendar;
use floe_api::{ActiveQuery, Phase, Reason, ScheduledQueryStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{ACCEPTED, Draft, QUERY_CREATED};
use super::due::{self, Due};
use super::facts::{Child, Seen};
use crate::query::plan::Notice;

/// What to do, and what the status should say.
#[derive(Clone, Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: ScheduledQueryStatus,
    /// Reconcile again after this time at the latest. `None`: only on a change.
    pub requeue: Option<Duration>,
    /// Events that go with the status.
    pub notices: Vec<Notice>,
}

/// One effect. It is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Creates the query of a time.
    Create {
        at: Timestamp,
    },
    Delete {
        name: String,
        uid: String,
        is_replaced: bool,
    },
}

/// Maximum number of queries that the status names.
const MAX_ACTIVE: usize = 50;
/// Spread schedules with the same times over this, so that they do not all start at once.
const SPREAD_MS: u64 = 500;
const SOON: Duration = Duration::from_millis(100);

pub fn plan(seen: &Seen, now: Timestamp) -> Plan {
    let mut draft = Draft::new(seen, now);
    if seen.schedule.metadata.deletion_timestamp.is_some() {
        return draft.idle();
    }
    watch_over(&mut draft);
    match &seen.calendar {
        Ok(calendar) => {
            draft.condition(ACCEPTED, true, Reason::Accepted, "");
            times(&mut draft, calendar);
        }
        Err(trouble) => {
            let known = draft.status.conditions.iter().find(|known| known.type_ == ACCEPTED);
            let is_news = known.is_none_or(|known| known.status != "False" || known.reason != trouble.reason.as_str());
            draft.condition(ACCEPTED, false, trouble.reason, &trouble.message);
            if is_news {
                draft.notice(true, trouble.reason, &trouble.message);
            }
            (draft.status.next_schedule_time, draft.status.waiting_time) = (None, None);
        }
    }
    if let Some(trouble) = &seen.trouble {
        draft.condition(QUERY_CREATED, false, trouble.reason, &trouble.message);
    }
    trim(&mut draft);
    draft.into_plan()
}

/// Reports what has become of the queries.
fn watch_over(draft: &mut Draft<'_>) {
    let seen = draft.seen;
    for known in &seen.status.active {
        match seen.children.iter().find(|child| child.uid == known.uid) {
            Some(child) if child.is_active() => {}
            Some(child) => {
                let phase = child.phase.map_or("Pending", Phase::as_str);
                draft.notice(false, Reason::SawCompletedQuery, &format!("Query {} has ended: {phase}", child.name));
            }
            None => {
                draft.notice(false, Reason::MissingQuery, &format!("Query {} is gone, and had not ended", known.name))
            }
        }
    }
    let active = |child: &Child| ActiveQuery {
        name: child.name.clone(),
        uid: child.uid.clone(),
        scheduled_at: Time(child.scheduled_at),
    };
    draft.status.active = seen.active().take(MAX_ACTIVE).map(active).collect();
    draft.status.active_queries = u32::try_from(seen.active().count()).ok();
    let succeeded = seen.children.iter().filter(|child| child.phase == Some(Phase::Succeeded));
    let latest = succeeded.filter_map(|child| child.finished_at).max();
    let known = draft.status.last_successful_time.as_ref().map(|time| time.0);
    draft.status.last_successful_time = latest.max(known).map(Time);
}

/// Settles the times that have passed.
fn times(draft: &mut Draft<'_>, calendar: &Calendar) {
    let (seen, now) = (draft.seen, draft.now);
    let spec = seen.spec();
    let Due { queries, settled_until, made, missed, is_too_many, given_up } = due::due(seen, calendar, now);
    draft.status.observed_schedule = Some(due::observed(spec));
    draft.status.settled_until = Some(Time(settled_until));
    if let Some(made) = made {
        let known = draft.status.last_schedule_time.as_ref().map(|time| time.0);
        draft.status.last_schedule_time = Some(made).max(known).map(Time);
        if seen.trouble.is_none() {
            draft.condition(QUERY_CREATED, true, Reason::SuccessfulCreate, "");
        }
    }
    if is_too_many {
        let words = format!("More than {} times passed, of which the last {0} are looked at", due::MAX_TIMES);
        draft.notice(true, Reason::TooManyMissedTimes, &words);
    }
    if let Some(last) = given_up {
        draft.status.missed_times = Some(draft.status.missed_times.unwrap_or(0).saturating_add(missed));
        let words = match missed {
            1 => format!("The time {last} passed without a query"),
            _ => format!("{missed} times passed without a query, the last of them {last}"),
        };
        draft.notice(true, Reason::MissSchedule, &words);
    }
    if spec.suspend {
        (draft.status.next_schedule_time, draft.status.waiting_time) = (None, None);
        return;
    }
    start(draft, &queries);
    let next = calendar.next(now.max(settled_until));
    draft.status.next_schedule_time = next.map(Time);
    if let Some(next) = next {
        draft.look_again_at(next + spread(seen));
    }
}

/// Creates the queries that are due, as far as the concurrency policy allows.
fn start(draft: &mut Draft<'_>, queries: &[Timestamp]) {
    let (seen, now) = (draft.seen, draft.now);
    let Some(first) = queries.first().copied() else {
        draft.status.waiting_time = None;
        return;
    };
    if let Some(deadline) = due::deadline(seen.spec()) {
        // It is given up then.
        draft.look_again_at(first + deadline + SignedDuration::from_secs(1));
    }
    let others = due::others(seen);
    let known = seen.status.waiting_time.as_ref().map(|time| time.0);
    draft.status.waiting_time = others.map(|_| Time(first));
    if let Some(other) = others {
        if known != Some(first) {
            let words = format!("It is time for the query of {first}, and {} has not ended", other.name);
            draft.notice(false, Reason::QueryAlreadyActive, &words);
        }
        return;
    }
    // The delay applies only to the time that was refused.
    if let Some((_, until)) = seen.hold.filter(|(time, until)| *time == first && now < *until) {
        draft.look_again_at(until);
        return;
    }
    for other in due::replaced(seen) {
        draft.delete(other, true);
    }
    let at_once = due::at_once(seen.spec());
    draft.actions.extend(queries.iter().take(at_once).map(|at| Action::Create { at: *at }));
    if queries.len() > at_once {
        draft.look_again(SOON);
    }
}

/// Deletes the oldest ended queries beyond the history limits.
fn trim(draft: &mut Draft<'_>) {
    let (seen, spec) = (draft.seen, draft.seen.spec());
    // A query that is not recorded yet is the only proof that its time is settled.
    let written = seen.status.settled_until.as_ref().map(|time| time.0);
    let (succeeded, failed): (Vec<&Child>, Vec<&Child>) = seen
        .children
        .iter()
        .filter(|child| !child.is_active())
        .partition(|child| child.phase == Some(Phase::Succeeded));
    for (ended, limit) in
        [(succeeded, spec.successful_queries_history_limit), (failed, spec.failed_queries_history_limit)]
    {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let excess = ended.len().saturating_sub(limit);
        for child in ended.into_iter().take(excess).filter(|child| Some(child.scheduled_at) <= written) {
            draft.delete(child, false);
        }
    }
}

/// Delays by a fraction of a second that is fixed per schedule.
fn spread(seen: &Seen) -> SignedDuration {
    let uid = seen.schedule.metadata.uid.as_deref().unwrap_or_default();
    let hash = uid.bytes().fold(5381u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte));
    SignedDuration::from_millis(i64::try_from(hash % SPREAD_MS).unwrap_or(0))
}
