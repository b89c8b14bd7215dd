//! Which times of a schedule have passed, and which of them get a query. Pure.

use std::collections::BTreeSet;

use floe_api::schedule::calendar::Calendar;
use floe_api::{CatchUp, ConcurrencyPolicy, ScheduledQuerySpec};
use jiff::{SignedDuration, Timestamp};

use super::facts::{Child, Seen};

/// Consider at most this many missed times, as CronJobs do.
pub const MAX_TIMES: usize = 100;
/// Create at most this many queries per reconcile.
const AT_ONCE: usize = 10;
/// With `catchUp: None` and no starting deadline, a time gets its query only within this.
const ON_TIME: SignedDuration = SignedDuration::from_secs(60);
/// If `settledUntil` is further ahead than this, the clock was wrong when it was written.
const CLOCK_SLIP: SignedDuration = SignedDuration::from_hours(24);

/// What has become of the times until now, and what is left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Times that get a query, in order.
    pub queries: Vec<Timestamp>,
    pub settled_until: Timestamp,
    /// The last time whose query was found.
    pub made: Option<Timestamp>,
    /// Number of times that get no query, in addition to those counted before.
    pub missed: u32,
    /// There were more than are considered.
    pub is_too_many: bool,
    /// The last of those.
    pub given_up: Option<Timestamp>,
}

/// Identifies the times of one spec, to tell them from those of another.
pub fn observed(spec: &ScheduledQuerySpec) -> String {
    format!("{} {}", spec.schedule, spec.time_zone)
}

/// The maximum age of a time that still gets a query.
pub fn deadline(spec: &ScheduledQuerySpec) -> Option<SignedDuration> {
    let given = spec.starting_deadline_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
    match spec.catch_up {
        CatchUp::None => Some(given.unwrap_or(ON_TIME)),
        CatchUp::Latest | CatchUp::All => given,
    }
}

/// A query that must end before another one is created.
pub fn others(seen: &Seen) -> Option<&Child> {
    match seen.spec().concurrency_policy {
        ConcurrencyPolicy::Forbid => seen.active().next(),
        ConcurrencyPolicy::Replace | ConcurrencyPolicy::Allow => None,
    }
}

/// Queries that are replaced when another one is created.
pub fn replaced(seen: &Seen) -> impl Iterator<Item = &Child> {
    let replaces = seen.spec().concurrency_policy == ConcurrencyPolicy::Replace;
    seen.active().filter(move |_| replaces)
}

/// How many queries to create in one reconcile.
pub fn at_once(spec: &ScheduledQuerySpec) -> usize {
    match spec.concurrency_policy {
        ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Replace => 1,
        ConcurrencyPolicy::Allow => AT_ONCE,
    }
}

pub fn due(seen: &Seen, calendar: &Calendar, now: Timestamp) -> Due {
    let spec = seen.spec();
    let (mut queries, is_too_many) = calendar.last(begin(seen, now), now, MAX_TIMES);
    let mut due = Due {
        queries: Vec::new(),
        settled_until: begin(seen, now),
        made: None,
        missed: 0,
        is_too_many: false,
        given_up: None,
    };
    let has_query: BTreeSet<Timestamp> = seen.children.iter().map(|child| child.scheduled_at).collect();
    // Queries are created in the order of their times: for times before an existing query nothing is left to do.
    let done = queries.iter().rposition(|time| has_query.contains(time)).map_or(0, |last| last + 1);
    if done > 0 || !spec.suspend {
        due.is_too_many = is_too_many;
        if let Some(first) = queries.first().filter(|_| is_too_many) {
            due.settled_until = *first - SignedDuration::from_secs(1);
        }
    }
    due.settle(&mut queries, done, &has_query);
    if spec.suspend {
        return due;
    }
    if let Some(deadline) = deadline(spec) {
        let late = queries.iter().take_while(|time| now.duration_since(**time) > deadline).count();
        due.settle(&mut queries, late, &has_query);
    }
    match spec.catch_up {
        CatchUp::All => {}
        CatchUp::Latest | CatchUp::None => {
            let skipped = queries.len().saturating_sub(1);
            due.settle(&mut queries, skipped, &has_query);
        }
    }
    due.queries = queries;
    due
}

impl Due {
    /// Settles the first `count` times.
    fn settle(&mut self, times: &mut Vec<Timestamp>, count: usize, has_query: &BTreeSet<Timestamp>) {
        for time in times.drain(..count) {
            self.settled_until = time;
            if has_query.contains(&time) {
                self.made = Some(time);
            } else {
                self.missed = self.missed.saturating_add(1);
                self.given_up = Some(time);
            }
        }
    }
}

/// Only times after this one are considered.
fn begin(seen: &Seen, now: Timestamp) -> Timestamp {
    let status = &seen.status;
    let created = seen.schedule.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let settled = status.settled_until.as_ref().map(|time| time.0);
    let begin = match &status.observed_schedule {
        None => created,
        // Times that the new schedule would have had in the past were not missed.
        Some(known) if *known != observed(seen.spec()) => settled.unwrap_or(now).max(now),
        Some(_) => settled.unwrap_or(created),
    };
    if begin.duration_since(now) > CLOCK_SLIP { now } else { begin }
}
