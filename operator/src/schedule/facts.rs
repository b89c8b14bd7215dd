//! What is observed of a schedule, as plain values. No effects, no client.

use std::sync::Arc;

use floe_api::schedule::calendar::Calendar;
use floe_api::{Phase, ScheduledQuery, ScheduledQuerySpec, ScheduledQueryStatus};
use jiff::Timestamp;

use crate::query::facts::Trouble;

/// One schedule and everything known about it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub schedule: Arc<ScheduledQuery>,
    /// The latest status, which may be newer than the object's.
    pub status: ScheduledQueryStatus,
    /// Its queries, by the time that they were created for.
    pub children: Vec<Child>,
    /// When queries are due; an error if none can be created.
    pub calendar: Result<Calendar, Trouble>,
    /// Why the last query was not created.
    pub trouble: Option<Trouble>,
    /// The time whose query was refused, and when to retry it.
    pub hold: Option<(Timestamp, Timestamp)>,
}

/// A query of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub name: String,
    pub uid: String,
    /// UID of the schedule.
    pub owner: String,
    pub scheduled_at: Timestamp,
    pub phase: Option<Phase>,
    pub finished_at: Option<Timestamp>,
    /// It is being deleted.
    pub is_leaving: bool,
}

impl Child {
    pub fn is_active(&self) -> bool {
        !self.phase.is_some_and(Phase::is_terminal)
    }
}

impl Seen {
    pub fn spec(&self) -> &ScheduledQuerySpec {
        &self.schedule.spec
    }

    pub fn active(&self) -> impl Iterator<Item = &Child> {
        self.children.iter().filter(|child| child.is_active())
    }
}
