//! A plan while it is being made: the status so far and the ways to change it. Decides nothing.

use std::time::Duration;

use floe_api::reason::{Reason, sentence};
use floe_api::{DistributedQuerySpec, DistributedQueryStatus, Phase, WorkerCounts};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::scale::target;
use super::{
    ACCEPTED, Action, CLEANED_UP, COORDINATOR_READY, Notice, PLANNED, Plan, SUCCEEDED, Settings, WORKERS_READY,
};
use crate::conditions;
use crate::query::facts::{Observed, PodFacts};

/// Cut longer messages, so that the status stays small.
const MAX_MESSAGE_BYTES: usize = 8 << 10;
/// Reconcile a running query at least this often.
const RESYNC: Duration = Duration::from_secs(30);

pub struct Draft<'a> {
    pub seen: &'a Observed,
    pub settings: &'a Settings,
    pub now: Timestamp,
    pub status: DistributedQueryStatus,
    pub actions: Vec<Action>,
    pub notices: Vec<Notice>,
    pub wants_inputs: bool,
    requeue: Option<Duration>,
}

impl<'a> Draft<'a> {
    pub fn new(seen: &'a Observed, settings: &'a Settings, now: Timestamp) -> Self {
        Self {
            seen,
            settings,
            now,
            // The place in line is set again at each reconcile, as long as there is one.
            status: DistributedQueryStatus { ahead: None, ..seen.status.clone() },
            actions: Vec::new(),
            notices: Vec::new(),
            wants_inputs: false,
            requeue: None,
        }
    }

    pub fn spec(&self) -> &'a DistributedQuerySpec {
        &self.seen.query.spec
    }

    pub fn attempt(&self) -> u32 {
        self.status.attempt.unwrap_or(0)
    }

    pub fn act(&mut self, action: Action) {
        if !self.actions.contains(&action) {
            self.actions.push(action);
        }
    }

    /// Reconcile again after `after` at the latest.
    pub fn look_again(&mut self, after: Duration) {
        let after = after.max(Duration::from_millis(50));
        self.requeue = Some(self.requeue.map_or(after, |before| before.min(after)));
    }

    pub fn look_again_at(&mut self, at: Timestamp) {
        let left = at.duration_since(self.now);
        self.look_again(Duration::try_from(left).unwrap_or_default());
    }

    pub fn notice(&mut self, warning: bool, reason: Reason, note: String, pod: Option<String>) {
        self.notices.push(Notice { warning, reason, note, pod });
    }

    pub fn phase(&mut self, phase: Phase) {
        self.status.phase = Some(phase);
    }

    pub fn tell(&mut self, reason: Reason, message: &str) {
        self.status.reason = Some(reason.as_str().to_owned());
        self.status.message = Some(cut(message, MAX_MESSAGE_BYTES));
    }

    /// Clears reason and message: all is well.
    pub fn tell_nothing(&mut self) {
        self.status.reason = None;
        self.status.message = None;
    }

    /// Sets a condition. Its transition time changes only if its status does.
    pub fn set(&mut self, kind: &str, truth: Truth, reason: Reason, message: &str) {
        let generation = self.seen.query.metadata.generation;
        let message = cut(message, MAX_MESSAGE_BYTES);
        let made = conditions::made(kind, truth.as_str(), reason.as_str(), message, generation, self.now);
        conditions::set(&mut self.status.conditions, made);
    }

    /// Resets the status for the start of an attempt.
    pub fn begin_attempt(&mut self, attempt: u32) {
        self.status.attempt = Some(attempt);
        self.status.attempt_started_at = Some(Time(self.now));
        self.status.pinned = None;
        self.status.context = None;
        self.status.stages.clear();
        self.status.stages_total = None;
        self.status.stages_summary = None;
        self.status.progress = None;
        self.status.single_worker.clear();
        self.status.warnings.clear();
        self.status.workers = None;
        self.workers(0);
        self.phase(Phase::Starting);
        self.set(COORDINATOR_READY, Truth::False, Reason::PodsStarting, "");
        self.set(WORKERS_READY, Truth::False, Reason::PodsStarting, "");
        self.set(PLANNED, Truth::False, Reason::Waiting, "");
        self.set(SUCCEEDED, Truth::Unknown, Reason::Waiting, "");
    }

    /// Records that the coordinator has started on the query.
    pub fn started(&mut self) {
        if self.status.started_at.is_some() {
            return;
        }
        self.status.started_at = Some(Time(self.now));
        let created = self.seen.query.metadata.creation_timestamp.as_ref().map(|at| at.0);
        self.status.waited = created.map(|created| duration_text(self.now.duration_since(created).as_secs()));
    }

    pub fn workers(&mut self, ready: u32) {
        if self.seen.is_borrowed() {
            // The query has no workers of its own: all connected ones are wanted.
            let summary = Some(ready.to_string());
            let there = WorkerCounts { ready, desired: ready, summary, ..WorkerCounts::default() };
            self.status.workers = (ready > 0).then_some(there);
            return;
        }
        let desired = target(&self.status, &self.spec().compute);
        let before = self.status.workers.take().unwrap_or_default();
        self.status.workers =
            Some(WorkerCounts { ready, desired, summary: Some(format!("{ready}/{desired}")), ..before });
    }

    /// Ends the query. Later plans remove its objects, once this status is written.
    pub fn end(&mut self, phase: Phase, reason: Reason, what: &str) {
        self.actions.clear();
        self.phase(phase);
        let message = sentence(reason, what);
        self.tell(reason, &message);
        self.status.finished_at = Some(Time(self.now));
        let created = self.seen.query.metadata.creation_timestamp.as_ref().map(|at| at.0);
        if let Some(created) = created {
            self.status.duration = Some(duration_text(self.now.duration_since(created).as_secs()));
        }
        let truth = if phase == Phase::Succeeded { Truth::True } else { Truth::False };
        self.set(SUCCEEDED, truth, reason, &message);
        match reason {
            Reason::BadSpec | Reason::NotAllowed | Reason::Unsupported => {
                self.set(ACCEPTED, Truth::False, reason, &message)
            }
            _ => self.set(ACCEPTED, Truth::True, Reason::Accepted, ""),
        }
        // That an ended query was never planned is no fault: drop the condition unless it is true.
        let open = |c: &Condition| c.type_ == PLANNED && c.status != Truth::True.as_str();
        self.status.conditions.retain(|c| ![COORDINATOR_READY, WORKERS_READY].contains(&c.type_.as_str()) && !open(c));
        self.workers(0);
        if let Some(workers) = &mut self.status.workers {
            workers.summary = Some(workers.desired.to_string());
            workers.surplus_since = None;
        }
        self.requeue = None;
        self.look_again(Duration::from_millis(50));
    }

    /// Whether an earlier coordinator may have left something outside the cluster.
    pub fn is_dirty(&self) -> bool {
        condition(&self.status, CLEANED_UP).is_some_and(|c| c.reason == Reason::LeftBehind.as_str())
    }

    /// Deletes a pod unless it is already being deleted.
    pub fn delete(&mut self, pod: &PodFacts) {
        if pod.deleting_at.is_none() && !pod.uid.is_empty() {
            self.act(Action::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() });
        }
    }

    /// Does nothing, now or later.
    pub fn idle(self) -> Plan {
        Plan {
            actions: Vec::new(),
            status: self.seen.status.clone(),
            requeue: None,
            wants_inputs: false,
            notices: Vec::new(),
        }
    }

    pub fn into_plan(mut self) -> Plan {
        let generation = self.seen.query.metadata.generation;
        if self.seen.query.metadata.deletion_timestamp.is_none() && self.status.phase.is_some() {
            self.status.observed_generation = generation;
        }
        let at_work = self.status.phase.is_none_or(|phase| !phase.is_terminal());
        if at_work {
            self.look_again(RESYNC);
        }
        Plan {
            actions: self.actions,
            status: self.status,
            requeue: self.requeue,
            wants_inputs: self.wants_inputs,
            notices: self.notices,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

pub fn condition<'a>(status: &'a DistributedQueryStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == kind)
}

/// The start of a text, cut at a character boundary.
pub fn cut(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mut end = max_bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// Formats a duration as `1h2m3s`.
pub fn duration_text(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}
