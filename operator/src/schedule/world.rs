//! A simulated cluster as one schedule sees it, for tests: carries out plans, lets queries run and end, and checks that
//! no time gets two queries.

use std::collections::BTreeSet;
use std::sync::Arc;

use floe_api::schedule::calendar::Calendar;
use floe_api::schedule::render::query_name;
use floe_api::{ConcurrencyPolicy, Phase, Reason, ScheduledQuery, ScheduledQueryStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Child, Seen};
use super::plan::{Action, Plan, plan};
use crate::query::facts::Trouble;
use crate::query::policy::Policy;

/// A deleted query is gone after this time.
const LEAVES_AFTER: SignedDuration = SignedDuration::from_secs(20);

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A schedule for 02:30 each night, unless `more` says otherwise (lines of the spec).
pub fn nightly(more: &str) -> ScheduledQuery {
    let times = if more.contains("schedule:") { "" } else { "  schedule: '30 2 * * *'\n" };
    let text = format!(
        "apiVersion: floe.dev/v1alpha1\nkind: ScheduledQuery\nmetadata: {{name: nightly, namespace: n}}\nspec:\n{times}{more}  \
         queryTemplate:\n    spec:\n      plan: {{sql: SELECT 1 AS one}}\n      \
         sink: {{uri: 's3://lake/{{{{ .scheduledDate }}}}/', format: parquet}}\n"
    );
    let mut schedule = floe_api::schedule_from_yaml(&text).unwrap_or_else(|errors| panic!("{text}{errors:?}"));
    schedule.metadata.uid = Some("schedule-uid".into());
    schedule.metadata.generation = Some(1);
    schedule
}

pub struct World {
    pub schedule: ScheduledQuery,
    pub now: Timestamp,
    pub children: Vec<Child>,
    /// The calendar, cached as long as the spec does not change.
    read: Option<(String, Result<Calendar, Trouble>)>,
    /// When running queries end and deleted ones are gone.
    ends: Vec<(String, Timestamp)>,
    pub trouble: Option<Trouble>,
    pub hold: Option<(Timestamp, Timestamp)>,
    pub setbacks: u32,
    /// The API server refuses queries.
    pub refuses: bool,
    /// How long a query runs, and how it ends.
    pub runs: SignedDuration,
    pub ends_as: Phase,
    pub made: BTreeSet<Timestamp>,
    pub looks: u32,
    pub writes: u32,
    pub told: Vec<(Reason, String)>,
}

impl World {
    pub fn new(schedule: ScheduledQuery, now: &str) -> Self {
        let mut schedule = schedule;
        schedule.metadata.creation_timestamp = Some(Time(at(now)));
        Self {
            schedule,
            now: at(now),
            children: Vec::new(),
            read: None,
            ends: Vec::new(),
            trouble: None,
            hold: None,
            setbacks: 0,
            refuses: false,
            runs: SignedDuration::from_secs(20),
            ends_as: Phase::Succeeded,
            made: BTreeSet::new(),
            looks: 0,
            writes: 0,
            told: Vec::new(),
        }
    }

    pub fn status(&self) -> ScheduledQueryStatus {
        self.schedule.status.clone().unwrap_or_default()
    }

    pub fn seen(&mut self) -> Seen {
        let spec = super::due::observed(&self.schedule.spec);
        let known = self.read.take().filter(|(known, _)| *known == spec);
        let read =
            known.unwrap_or_else(|| (spec, super::model::calendar(&self.schedule, &Policy::default(), self.now)));
        let calendar = read.1.clone();
        self.read = Some(read);
        Seen {
            schedule: Arc::new(self.schedule.clone()),
            status: self.status(),
            children: self.children.clone(),
            calendar,
            trouble: self.trouble.clone(),
            hold: self.hold,
        }
    }

    /// The times whose query has not ended.
    pub fn active(&self) -> Vec<Timestamp> {
        self.children.iter().filter(|child| child.is_active()).map(|child| child.scheduled_at).collect()
    }

    pub fn was_told(&self, reason: Reason) -> usize {
        self.told.iter().filter(|(told, _)| *told == reason).count()
    }

    /// Reconciles once and writes the status, as `reconcile` does.
    pub fn look(&mut self) -> Plan {
        let made = self.look_and_end();
        if made.status != self.status() {
            self.writes += 1;
        }
        self.schedule.status = Some(made.status.clone());
        self.told.extend(made.notices.iter().map(|notice| (notice.reason, notice.note.clone())));
        made
    }

    /// The same for an operator that stops before it writes.
    pub fn look_and_end(&mut self) -> Plan {
        self.looks += 1;
        let decided = plan(&self.seen(), self.now);
        if decided.actions.is_empty() {
            return decided;
        }
        for action in &decided.actions {
            if !self.act(action) {
                break;
            }
        }
        self.check();
        let mut again = plan(&self.seen(), self.now);
        let more = again.actions.iter().any(|action| matches!(action, Action::Create { .. }));
        if more && self.trouble.is_none() {
            again.requeue = Some(std::time::Duration::from_millis(100));
        }
        again
    }

    fn act(&mut self, action: &Action) -> bool {
        match action {
            Action::Create { at } => {
                if self.refuses {
                    self.setbacks += 1;
                    let pause = SignedDuration::try_from(super::backoff(self.setbacks)).unwrap();
                    self.hold = Some((*at, self.now + pause));
                    let (reason, message) = (Reason::NotAllowed, "denied request: no".to_owned());
                    self.trouble = Some(Trouble { reason, message, fatal: false });
                    return false;
                }
                (self.setbacks, self.hold, self.trouble) = (0, None, None);
                let name = query_name("nightly", *at);
                if self.children.iter().any(|child| child.name == name) {
                    return true;
                }
                assert!(self.made.insert(*at), "{at} gets a second query");
                assert!(*at <= self.now, "{at} is not yet due");
                self.ends.push((name.clone(), self.now + self.runs));
                self.children.push(Child {
                    uid: format!("uid-{name}"),
                    name,
                    owner: "schedule-uid".into(),
                    scheduled_at: *at,
                    phase: Some(Phase::Running),
                    finished_at: None,
                    is_leaving: false,
                });
                self.children.sort_by_key(|child| child.scheduled_at);
            }
            Action::Delete { name, uid, is_replaced } => {
                let child = self.children.iter_mut().find(|child| child.uid == *uid).expect("a query of the schedule");
                assert!(*is_replaced || !child.is_active(), "{name} runs");
                child.is_leaving = true;
                self.ends.retain(|(other, _)| other != name);
                self.ends.push((name.clone(), self.now + LEAVES_AFTER));
            }
        }
        true
    }

    fn check(&self) {
        let policy = self.schedule.spec.concurrency_policy;
        let staying = self.children.iter().filter(|child| child.is_active() && !child.is_leaving).count();
        assert!(policy == ConcurrencyPolicy::Allow || staying <= 1, "{staying} at once with {policy:?}");
        assert!(policy != ConcurrencyPolicy::Forbid || self.active().len() <= 1);
    }

    /// When something happens next without the operator.
    pub fn next_event(&self) -> Option<Timestamp> {
        self.ends.iter().map(|(_, at)| *at).min()
    }

    /// Sets the clock, and ends what ends by then. Returns whether anything did.
    pub fn pass(&mut self, now: Timestamp) -> bool {
        self.now = now;
        let (over, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ends).into_iter().partition(|(_, at)| *at <= now);
        self.ends = left;
        for (name, at) in &over {
            let Some(index) = self.children.iter().position(|child| child.name == *name) else { continue };
            if self.children[index].is_leaving {
                self.children.remove(index);
            } else {
                self.children[index].phase = Some(self.ends_as);
                self.children[index].finished_at = Some(*at);
            }
        }
        !over.is_empty()
    }

    /// Reconciles when the plan says so and when a query changes, until `until`.
    pub fn run(&mut self, until: Timestamp) {
        let mut plan = self.look();
        loop {
            let wake = plan.requeue.map(|after| self.now + SignedDuration::try_from(after).unwrap());
            let next = wake.into_iter().chain(self.next_event()).min().filter(|next| *next <= until);
            let Some(next) = next else { break };
            let changed = self.pass(next.max(self.now));
            if changed || wake.is_some_and(|wake| wake <= self.now) {
                plan = self.look();
            }
        }
        self.pass(until);
    }
}
