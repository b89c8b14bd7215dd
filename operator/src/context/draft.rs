//! The plan of a context while it is being made: the status so far and the ways to change it. Decides nothing.

use std::time::Duration;

use floe_api::reason::{Reason, sentence};
use floe_api::{ComputeContextSpec, ComputeContextStatus};
use jiff::Timestamp;

use super::facts::Seen;
use super::plan::Action;
use crate::conditions;
use crate::query::facts::{PodFacts, Trouble};
use crate::query::names::Place;
use crate::query::plan::Notice;

pub const ACCEPTED: &str = "Accepted";
pub const COORDINATOR_READY: &str = "CoordinatorReady";
pub const WORKERS_READY: &str = "WorkersReady";

/// Cut longer messages, so that the status stays small.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
/// Reconcile a context at least this often.
const RESYNC: Duration = Duration::from_secs(15);

/// What to do, and what the status should say.
#[derive(Clone, Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: ComputeContextStatus,
    /// Reconcile again after this time at the latest. `None`: only on a change.
    pub requeue: Option<Duration>,
    pub notices: Vec<Notice>,
}

pub struct Draft<'a> {
    pub seen: &'a Seen,
    pub now: Timestamp,
    pub status: ComputeContextStatus,
    pub actions: Vec<Action>,
    pub notices: Vec<Notice>,
    /// Number of workers that the revision shown in the status should have.
    pub wanted: Option<u32>,
    requeue: Duration,
}

impl<'a> Draft<'a> {
    pub fn new(seen: &'a Seen, now: Timestamp) -> Self {
        Self {
            seen,
            now,
            status: seen.status.clone(),
            actions: Vec::new(),
            notices: Vec::new(),
            wanted: None,
            requeue: RESYNC,
        }
    }

    pub fn spec(&self) -> &'a ComputeContextSpec {
        &self.seen.context.spec
    }

    pub fn act(&mut self, action: Action) {
        if !self.actions.contains(&action) {
            self.actions.push(action);
        }
    }

    /// Creates a pod, unless the cluster has just refused one.
    pub fn make(&mut self, place: Place, image: &str) -> bool {
        if let Some(until) = self.seen.hold_until.filter(|until| self.now < *until) {
            self.look_again_at(until);
            return false;
        }
        self.act(Action::CreatePod { place, image: image.to_owned() });
        true
    }

    /// Deletes a pod unless it is already being deleted.
    pub fn delete(&mut self, pod: &PodFacts) {
        if pod.deleting_at.is_none() && !pod.uid.is_empty() {
            self.act(Action::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() });
        }
    }

    pub fn look_again(&mut self, after: Duration) {
        self.requeue = self.requeue.min(after.max(Duration::from_millis(50)));
    }

    pub fn look_again_at(&mut self, at: Timestamp) {
        if at > self.now {
            self.look_again(Duration::try_from(at.duration_since(self.now)).unwrap_or_default());
        }
    }

    pub fn notice(&mut self, warning: bool, reason: Reason, note: String) {
        self.notices.push(Notice { warning, reason, note, pod: None });
    }

    pub fn tell(&mut self, reason: Reason, message: &str) {
        self.status.reason = Some(reason.as_str().to_owned());
        self.status.message = Some(crate::query::plan::cut(message, MAX_MESSAGE_BYTES));
    }

    /// Clears reason and message: all is well.
    pub fn tell_nothing(&mut self) {
        (self.status.reason, self.status.message) = (None, None);
    }

    pub fn accept(&mut self, fault: Option<&Trouble>) {
        match fault {
            None => self.condition(ACCEPTED, true, Reason::Accepted, ""),
            Some(fault) => self.condition(ACCEPTED, false, fault.reason, &sentence(fault.reason, &fault.message)),
        }
    }

    /// Sets a condition. Its transition time changes only if its status does.
    pub fn condition(&mut self, kind: &str, is_true: bool, reason: Reason, message: &str) {
        let status = if is_true { "True" } else { "False" };
        let message = crate::query::plan::cut(message, MAX_MESSAGE_BYTES);
        let generation = self.seen.context.metadata.generation;
        let made = conditions::made(kind, status, reason.as_str(), message, generation, self.now);
        conditions::set(&mut self.status.conditions, made);
    }

    /// Does nothing, now or later.
    pub fn idle(self) -> Plan {
        Plan { actions: Vec::new(), status: self.seen.status.clone(), requeue: None, notices: Vec::new() }
    }

    pub fn into_plan(mut self) -> Plan {
        self.status.observed_generation = self.seen.context.metadata.generation;
        Plan { actions: self.actions, status: self.status, requeue: Some(self.requeue), notices: self.notices }
    }
}
