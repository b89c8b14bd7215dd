//! The plan of a schedule while it is being made: the status so far and the ways to change it. Decides nothing.

use std::time::Duration;

use floe_api::ScheduledQueryStatus;
use floe_api::reason::{Reason, sentence};
use jiff::Timestamp;

use super::facts::{Child, Seen};
use super::plan::{Action, Plan};
use crate::conditions;
use crate::query::plan::{Notice, cut};

pub const ACCEPTED: &str = "Accepted";
pub const QUERY_CREATED: &str = "QueryCreated";

/// Cut longer messages, so that the status stays small.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
/// Split longer sleeps: the clock may be set while one lasts.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

pub struct Draft<'a> {
    pub seen: &'a Seen,
    pub now: Timestamp,
    pub status: ScheduledQueryStatus,
    pub actions: Vec<Action>,
    pub notices: Vec<Notice>,
    requeue: Option<Duration>,
}

impl<'a> Draft<'a> {
    pub fn new(seen: &'a Seen, now: Timestamp) -> Self {
        Self { seen, now, status: seen.status.clone(), actions: Vec::new(), notices: Vec::new(), requeue: None }
    }

    /// Deletes a query unless it is already being deleted.
    pub fn delete(&mut self, child: &Child, is_replaced: bool) {
        if !child.is_leaving {
            self.actions.push(Action::Delete { name: child.name.clone(), uid: child.uid.clone(), is_replaced });
        }
    }

    pub fn look_again(&mut self, after: Duration) {
        let after = after.clamp(Duration::from_millis(50), LONGEST_SLEEP);
        self.requeue = Some(self.requeue.map_or(after, |before| before.min(after)));
    }

    pub fn look_again_at(&mut self, at: Timestamp) {
        self.look_again(Duration::try_from(at.duration_since(self.now)).unwrap_or_default());
    }

    pub fn notice(&mut self, warning: bool, reason: Reason, what: &str) {
        self.notices.push(Notice { warning, reason, note: sentence(reason, what), pod: None });
    }

    pub fn condition(&mut self, kind: &str, is_true: bool, reason: Reason, message: &str) {
        let status = if is_true { "True" } else { "False" };
        let message = cut(&sentence(reason, message), MAX_MESSAGE_BYTES);
        let generation = self.seen.schedule.metadata.generation;
        let made = conditions::made(kind, status, reason.as_str(), message, generation, self.now);
        conditions::set(&mut self.status.conditions, made);
    }

    /// Does nothing, now or later.
    pub fn idle(self) -> Plan {
        Plan { actions: Vec::new(), status: self.seen.status.clone(), requeue: None, notices: Vec::new() }
    }

    pub fn into_plan(mut self) -> Plan {
        self.status.observed_generation = self.seen.schedule.metadata.generation;
        Plan { actions: self.actions, status: self.status, requeue: self.requeue, notices: self.notices }
    }
}
