//! A simulated cluster as one query sees it, for tests: carries out plans, lets pods run and die, and checks that no
//! action touches what is not the query's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use floe_api::report::{Category, Outcome, PlanReport, Report, RunError, RunPhase, StageInfo};
use floe_api::{ComputeSpec, DistributedQuery, DistributedQueryStatus, Phase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::labour::Labour;
use super::{Action, Notice, Plan, Settings, plan};
use crate::context::register::{Lent, Loan};
use crate::coordinator::Verdict;
use crate::gang::Gang;
use crate::kueue::{Standing, Step};
use crate::query::build::{self, Defaults};
use crate::query::facts::{Before, Ending, Inputs, Loss, Missing, Observed, PodFacts, PodState, Trouble, Turn};
use crate::query::names::{FINALIZER, Place};
use crate::query::policy::Policy;
use crate::shares::Share;

pub const QUERY: &str = r#"
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q, namespace: n}
spec:
  plan: {python: {script: "result = scan('t')"}}
  tables: {t: {uri: s3://b/t.parquet}}
  sink: {uri: s3://b/out/, format: parquet}
  compute: {workers: 2}
"#;

pub fn settings() -> Settings {
    Settings { result_ttl: Duration::from_secs(600), policy: Policy::default() }
}

pub struct World {
    pub query: DistributedQuery,
    pub now: Timestamp,
    pub pods: BTreeMap<String, PodFacts>,
    made: BTreeSet<String>,
    pub report: Option<Report>,
    /// The work of the workers, if the coordinator reports it.
    pub labour: Option<Labour>,
    /// All Events so far.
    pub notices: Vec<Notice>,
    pub silence: Option<String>,
    pub missing: Vec<Missing>,
    pub trouble: Option<Trouble>,
    pub before: Vec<Before>,
    pub standing: Standing,
    pub share: Share,
    /// What Kueue was told.
    pub told: Vec<Step>,
    pub turn: Turn,
    /// Who places pods together, and the group that was made for it.
    pub gang: Option<Gang>,
    pub group: Option<String>,
    /// The image that the operator gives to pods.
    pub image: &'static str,
    pub shared: bool,
    pub is_gone: bool,
    /// Coordinators that are told to stop leave a termination message.
    pub polite: bool,
    /// Coordinators hold results without a sink themselves.
    pub brings: bool,
    /// The context that a borrowing query has, and whether its coordinator does not know the query.
    pub loan: Loan,
    pub is_absent: bool,
    /// How often the job was submitted to it, and how often it was told to stop or forget.
    pub submitted: u32,
    pub dismissed: u32,
    uids: u32,
}

impl World {
    pub fn new() -> Self {
        let mut query = floe_api::from_yaml(QUERY).unwrap();
        query.metadata.uid = Some("query-uid".into());
        query.metadata.generation = Some(1);
        query.metadata.creation_timestamp = Some(Time(Timestamp::from_second(1_800_000_000).unwrap()));
        Self {
            query,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            pods: BTreeMap::new(),
            made: BTreeSet::new(),
            report: None,
            labour: None,
            notices: Vec::new(),
            silence: None,
            missing: Vec::new(),
            trouble: None,
            before: Vec::new(),
            standing: Standing::Free,
            share: Share::Free,
            told: Vec::new(),
            turn: Turn::Free,
            gang: None,
            group: None,
            image: "runner:1",
            shared: false,
            is_gone: false,
            polite: true,
            brings: true,
            loan: Loan::Own,
            is_absent: false,
            submitted: 0,
            dismissed: 0,
            uids: 0,
        }
    }

    /// A query that borrows the context `warm`, which does not exist.
    pub fn borrowing() -> Self {
        let mut world = Self::new();
        world.query.spec.compute = ComputeSpec::default();
        world.query.spec.compute.context_ref = Some(floe_api::NameRef { name: "warm".into() });
        world.loan = Loan::Missing;
        world
    }

    /// Gives the context this coordinator, and no other.
    pub fn lend(&mut self, revision: u32) {
        let pod = PodFacts {
            name: format!("warm-g{revision}-c"),
            uid: format!("lead-{revision}"),
            place: Place::Coordinator { attempt: revision },
            created_at: Some(self.now),
            deleting_at: None,
            ip: Some(format!("10.1.0.{revision}")),
            node: Some("node".into()),
            disruption: None,
            unready: false,
            gang: None,
            state: PodState::Running,
        };
        let serving = Some(pod.uid.clone());
        self.loan = Loan::Lent(Arc::new(Lent { serving, coordinators: vec![pod], ..Lent::default() }));
        self.report = None;
    }

    /// The report; of a context's coordinator only the one about this attempt.
    fn heard(&self) -> Option<Report> {
        let is_borrowed = self.query.spec.compute.context_ref.is_some();
        let attempt = self.status().attempt.unwrap_or(0);
        self.report.clone().filter(|report| !is_borrowed || report.attempt == attempt)
    }

    fn lender(&self) -> Option<PodFacts> {
        let Loan::Lent(lent) = &self.loan else { return None };
        let seat = self.status().context?;
        let pod = lent.coordinators.iter().find(|pod| pod.uid == seat.coordinator_uid)?;
        Some(PodFacts { place: Place::Coordinator { attempt: self.status().attempt.unwrap_or(0) }, ..pod.clone() })
    }

    fn is_lender(&self, ip: &str) -> bool {
        let Loan::Lent(lent) = &self.loan else { return false };
        lent.coordinators.iter().any(|pod| pod.ip.as_deref() == Some(ip))
    }

    pub fn status(&self) -> DistributedQueryStatus {
        self.query.status.clone().unwrap_or_default()
    }

    pub fn phase(&self) -> Option<Phase> {
        self.status().phase
    }

    pub fn reason(&self) -> String {
        self.status().reason.unwrap_or_default()
    }

    fn pins(&self) -> Option<floe_api::PinnedStatus> {
        let defaults = Defaults { runner_image: self.image.into(), ..Defaults::default() };
        build::pins(&self.query, &defaults).ok()
    }

    pub fn observed(&self, with_inputs: bool) -> Observed {
        let inputs = Inputs { query: Arc::new(self.query.clone()), missing: self.missing.clone(), ..Inputs::default() };
        let mut observed = Observed {
            query: Arc::new(self.query.clone()),
            status: self.status(),
            pods: self.pods.values().cloned().collect(),
            gone: self
                .made
                .iter()
                .filter(|name| !self.pods.contains_key(*name))
                .map(|name| (name.clone(), Loss::deleted()))
                .collect(),
            report: self.heard().map(Arc::new),
            is_absent: self.is_absent,
            loan: self.loan.clone(),
            lender: self.lender(),
            silence: self.silence.clone(),
            inputs: with_inputs.then(|| Arc::new(inputs)),
            trouble: self.trouble.clone(),
            before: self.before.clone(),
            standing: Standing::Free,
            share: Share::Free,
            turn: self.turn.clone(),
            pins: self.pins(),
            unreadable: None,
        };
        observed.enter(self.standing.clone(), self.share.clone());
        observed
    }

    /// Reconciles once, carries out the plan and returns it.
    pub fn reconcile(&mut self) -> Plan {
        let mut decided = plan(&self.observed(false), &settings(), self.now);
        if decided.wants_inputs {
            decided = plan(&self.observed(true), &settings(), self.now);
            assert!(!decided.wants_inputs, "inputs were given");
        }
        let before = self.phase();
        self.notices.extend(decided.notices.iter().cloned());
        self.hold_needed(&decided);
        for action in &decided.actions {
            self.act(action);
        }
        if self.query.metadata.deletion_timestamp.is_none() {
            if let Some(before) = before.filter(|phase| phase.is_terminal()) {
                assert_eq!(decided.status.phase, Some(before), "a terminal phase stays");
            }
            self.query.status = Some(decided.status.clone());
        }
        decided
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::AddFinalizer => self.query.metadata.finalizers = Some(vec![FINALIZER.into()]),
            Action::RemoveFinalizer => {
                self.query.metadata.finalizers = None;
                self.is_gone |= self.query.metadata.deletion_timestamp.is_some();
            }
            Action::EnsureJob { .. } | Action::EnsurePolicy => self.shared = true,
            Action::EnsureGroup { uid } => {
                assert!(self.pods.values().any(|pod| pod.uid == *uid), "{uid} is not a pod's");
                self.group = Some(uid.clone());
            }
            Action::CreatePod(place) => self.create(*place),
            Action::Submit { attempt, ip } => {
                assert!(self.is_lender(ip), "{ip} is no coordinator's");
                self.submitted += 1;
                self.is_absent = false;
                let workers = vec!["warm-g1-w0".into()];
                self.report = Some(Report { attempt: *attempt, workers, ..Report::default() });
            }
            Action::Dismiss { ip } if self.query.spec.compute.context_ref.is_some() => {
                assert!(self.is_lender(ip), "{ip} is no coordinator's");
                self.dismissed += 1;
                if self.report.as_ref().is_some_and(|report| Verdict::of(report).is_none()) {
                    self.fail(Category::Cancelled, "Cancelled");
                }
            }
            Action::Dismiss { ip } => {
                assert!(self.pods.values().any(|pod| pod.ip.as_deref() == Some(ip)), "{ip} is not a pod's");
                self.end_coordinator(Some(cancelled()));
            }
            Action::Drain { ip, worker } => {
                let is_lead = |pod: &PodFacts| matches!(pod.place, Place::Coordinator { .. });
                let at = |pod: &PodFacts| pod.ip.as_deref() == Some(ip);
                assert!(self.pods.values().any(|pod| is_lead(pod) && at(pod)), "{ip} is no coordinator's");
                assert!(self.pods.contains_key(worker), "{worker} is no pod of the query");
                self.labour.as_mut().unwrap().drain(worker);
            }
            Action::DeletePod { name, uid } => {
                let pod = self.pods.get_mut(name).unwrap_or_else(|| panic!("{name} is no pod of the query"));
                assert_eq!(&pod.uid, uid, "another pod of the name {name}");
                pod.deleting_at.get_or_insert(self.now + SignedDuration::from_secs(30));
            }
            Action::DeleteShared { .. } => self.shared = false,
            Action::Queue(step) => self.tell_kueue(step),
            Action::DeleteQuery => {
                self.query.metadata.deletion_timestamp = Some(Time(self.now));
                self.is_gone |= self.query.metadata.finalizers.is_none();
            }
        }
    }

    fn tell_kueue(&mut self, step: &Step) {
        self.told.push(step.clone());
        match (step, &mut self.standing) {
            (Step::Ready, Standing::Admitted(grant)) => grant.is_ready = true,
            (Step::Reclaim, Standing::Admitted(grant)) => grant.is_reclaimed = true,
            (Step::Finish { .. }, standing) => *standing = Standing::Finished,
            // What Kueue then decides, a test says.
            (_, _) => {}
        }
    }

    fn create(&mut self, place: Place) {
        let name = place.name("q");
        if self.pods.contains_key(&name) {
            return;
        }
        self.uids += 1;
        let pod = PodFacts {
            name: name.clone(),
            uid: format!("uid-{}", self.uids),
            place,
            created_at: Some(self.now),
            deleting_at: None,
            ip: None,
            node: None,
            disruption: None,
            unready: false,
            gang: self.gang,
            state: PodState::Waiting(None),
        };
        self.made.insert(name.clone());
        self.pods.insert(name, pod);
    }

    pub fn coordinator(&mut self) -> Option<&mut PodFacts> {
        let place = Place::Coordinator { attempt: self.status().attempt.unwrap_or(0) };
        self.pods.values_mut().find(|pod| pod.place == place)
    }

    pub fn end_coordinator(&mut self, verdict: Option<Verdict>) {
        if let Some(pod) = self.coordinator() {
            let exit_code = Some(if verdict.is_some() { 130 } else { 137 });
            pod.state = PodState::Ended(Ending { exit_code, verdict, ..Ending::default() });
        }
        self.report = None;
    }

    pub fn end(&mut self, name: &str, ending: Ending) {
        self.pods.get_mut(name).unwrap().state = PodState::Ended(ending);
    }

    /// Advances the clock by one second; everything that can go well does.
    pub fn tick(&mut self) {
        self.now += SignedDuration::from_secs(1);
        let attempt = self.status().attempt.unwrap_or(0);
        let mut left = Vec::new();
        for (name, pod) in &mut self.pods {
            let is_coordinator = matches!(pod.place, Place::Coordinator { .. });
            match (&pod.state, pod.deleting_at) {
                (PodState::Running, Some(_)) if is_coordinator && self.polite => {
                    let verdict = Some(cancelled());
                    pod.state = PodState::Ended(Ending { exit_code: Some(130), verdict, ..Ending::default() });
                }
                (_, Some(_)) => left.push(name.clone()),
                (PodState::Waiting(_), None) => {
                    pod.state = PodState::Running;
                    pod.ip = Some(format!("10.0.0.{}", name.len()));
                    pod.node = Some("node".into());
                }
                (PodState::Running, None) if pod.place == Place::Clean => {
                    pod.state = PodState::Ended(Ending { exit_code: Some(0), ..Ending::default() });
                }
                (PodState::Running | PodState::Ended(_), None) => {}
            }
        }
        for name in left {
            self.pods.remove(&name);
        }
        if self.query.spec.compute.context_ref.is_some() {
            return;
        }
        let place = Place::Coordinator { attempt };
        let is_up = self.pods.values().any(|pod| pod.place == place && pod.is_running());
        if !is_up && self.report.as_ref().is_some_and(|report| Verdict::of(report).is_none()) {
            self.report = None;
        }
        if is_up && self.report.is_none() {
            self.report = Some(Report::default());
        }
        let connected = self.pods.values().filter(|pod| pod.is_running() && pod.attempt() == Some(attempt));
        let workers: Vec<String> = connected.filter(|pod| pod.place != place).map(|pod| pod.name.clone()).collect();
        match (&mut self.report, &mut self.labour) {
            (Some(report), labour) => {
                report.workers = workers;
                if let Some(labour) = labour {
                    labour.go_on(report);
                }
            }
            (None, Some(labour)) => labour.begin_again(),
            (None, None) => {}
        }
    }

    pub fn say(&mut self, phase: RunPhase) {
        let report = self.report.get_or_insert_default();
        report.phase = phase;
        report.plan = Some(PlanReport {
            stages: vec![StageInfo { label: "scan".into(), tasks: Some(2), ..StageInfo::default() }],
            ..PlanReport::default()
        });
        if phase == RunPhase::Succeeded {
            let sink_uri = self.query.spec.sink.as_ref().map(|sink| sink.uri.clone());
            report.outcome = Some(Outcome { rows: 7, sink_uri, workers_free: self.brings, ..Outcome::default() });
        }
    }

    pub fn fail(&mut self, category: Category, class: &str) {
        let report = self.report.get_or_insert_default();
        report.phase = RunPhase::Failed;
        report.error = Some(RunError { category, class: class.into(), message: "the words".into() });
    }

    /// Reconciles and ticks until `until` holds. Panics if it never does.
    pub fn run_until(&mut self, what: &str, until: impl Fn(&World) -> bool) {
        for _ in 0..400 {
            self.reconcile();
            if until(self) {
                return;
            }
            self.tick();
        }
        panic!("{what} never came: {:?}\n{:#?}", self.status(), self.pods.keys());
    }

    pub fn start_up(&mut self) {
        self.run_until("all pods", |w| w.report.as_ref().is_some_and(|r| r.workers.len() >= w.least()));
        self.say(RunPhase::Running);
        self.run_until("Running", |w| w.phase() == Some(Phase::Running));
    }

    /// Runs until nothing is left to do, and nothing is left over.
    pub fn settle(&mut self) {
        self.run_until("rest", |w| {
            let again = plan(&w.observed(true), &settings(), w.now);
            let waits = again.requeue.is_some_and(|after| after < Duration::from_secs(10));
            let leaves = w.pods.values().any(|pod| pod.deleting_at.is_some());
            again.actions.is_empty() && again.status == w.status() && !waits && !leaves
        });
    }
}

pub fn cancelled() -> Verdict {
    Verdict::Failed(RunError { category: Category::Cancelled, class: "Cancelled".into(), message: "stopped".into() })
}
