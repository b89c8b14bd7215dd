//! A simulated cluster as one context sees it, for tests: carries out plans, lets pods run and die and coordinators
//! work off queries, and checks that nothing that is needed is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floe_api::report::{EngineReport, EngineWorker};
use floe_api::{ComputeContext, ComputeContextStatus, ContextPhase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::build;
use super::draft::Plan;
use super::facts::{Heard, Seen};
use super::names;
use super::plan::{Action, plan};
use crate::query::build::Defaults;
use crate::query::facts::{Ending, PodFacts, PodState, Stuck, Trouble};
use crate::query::names::Place;

/// A query of `tasks` tasks, each of which takes `seconds`.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    pub tasks: u32,
    pub seconds: u32,
}

/// A coordinator's work.
#[derive(Clone, Debug, Default)]
struct Engine {
    queries: Vec<Query>,
    /// Seconds left of each worker's task.
    running: BTreeMap<String, u32>,
    draining: BTreeMap<String, u32>,
    results: u32,
}

pub struct World {
    pub context: ComputeContext,
    pub now: Timestamp,
    pub pods: BTreeMap<String, PodFacts>,
    made: BTreeSet<String>,
    engines: BTreeMap<u32, Engine>,
    pub image: &'static str,
    pub trouble: Option<Trouble>,
    pub hold_until: Option<Timestamp>,
    /// Workers end as soon as they run.
    pub crashes: bool,
    /// Pods do not start.
    pub stuck: bool,
    /// Queries that no coordinator has yet.
    pub waiting: Vec<Query>,
    pub ended: u32,
    /// Queries whose coordinator was lost.
    pub lost: u32,
    pub pods_made: u32,
    uids: u32,
}

const WARM: &str = r#"
apiVersion: floe.dev/v1alpha1
kind: ComputeContext
metadata: {name: warm, namespace: n}
spec: {minWorkers: 1, maxWorkers: 4, idleTimeoutSeconds: 300, cooldownSeconds: 30}
"#;

impl World {
    pub fn new() -> Self {
        let mut context = floe_api::context_from_yaml(WARM).unwrap();
        context.metadata.uid = Some("context-uid".into());
        context.metadata.generation = Some(1);
        Self {
            context,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            pods: BTreeMap::new(),
            made: BTreeSet::new(),
            engines: BTreeMap::new(),
            image: "runner:1",
            trouble: None,
            hold_until: None,
            crashes: false,
            stuck: false,
            waiting: Vec::new(),
            ended: 0,
            lost: 0,
            pods_made: 0,
            uids: 0,
        }
    }

    pub fn status(&self) -> ComputeContextStatus {
        self.context.status.clone().unwrap_or_default()
    }

    pub fn phase(&self) -> Option<ContextPhase> {
        self.status().phase
    }

    pub fn ready(&self) -> u32 {
        self.status().workers.map_or(0, |workers| workers.ready)
    }

    pub fn workers(&self) -> usize {
        self.pods.values().filter(|pod| matches!(pod.place, Place::Worker { .. })).count()
    }

    fn defaults(&self) -> Defaults {
        Defaults { runner_image: self.image.into(), ..Defaults::default() }
    }

    pub fn seen(&self) -> Seen {
        let faults = floe_api::validate_context(&self.context.spec);
        let model = match faults.first() {
            None => Ok(build::model(&self.context, &self.defaults()).unwrap()),
            Some(fault) => Err(Trouble { reason: floe_api::Reason::BadSpec, message: fault.to_string(), fatal: true }),
        };
        let reports = self.engines.iter().filter(|(number, _)| self.is_up(**number));
        let heard = |number: &u32| Heard { report: Some(Arc::new(self.report(*number))), silence: None };
        Seen {
            context: Arc::new(self.context.clone()),
            status: self.status(),
            pods: self.pods.values().cloned().collect(),
            gone: self.made.iter().filter(|name| !self.pods.contains_key(*name)).cloned().collect(),
            engines: reports.map(|(number, _)| (*number, heard(number))).collect(),
            model,
            trouble: self.trouble.clone(),
            hold_until: self.hold_until,
        }
    }

    fn pod(&self, place: Place) -> Option<&PodFacts> {
        self.pods.get(&names::pod("warm", place))
    }

    fn is_up(&self, revision: u32) -> bool {
        self.pod(Place::Coordinator { attempt: revision }).is_some_and(|pod| pod.state == PodState::Running)
    }

    fn connected(&self, revision: u32) -> Vec<String> {
        let of = |pod: &&PodFacts| {
            matches!(pod.place, Place::Worker { attempt, .. } if attempt == revision) && pod.state == PodState::Running
        };
        self.pods.values().filter(of).map(|pod| pod.name.clone()).collect()
    }

    fn report(&self, revision: u32) -> EngineReport {
        let engine = &self.engines[&revision];
        let worker = |id: String| {
            let tasks = u32::from(engine.running.contains_key(&id));
            let quiet = engine.draining.get(&id).copied();
            EngineWorker {
                tasks,
                memory_limit_bytes: 1 << 30,
                draining: quiet.is_some(),
                drained: quiet.is_some_and(|quiet| quiet >= 3) && tasks == 0,
                id,
                ..EngineWorker::default()
            }
        };
        let tasks: u32 = engine.queries.iter().map(|query| query.tasks).sum();
        let running = u32::try_from(engine.running.len()).unwrap();
        EngineReport {
            queries_running: u32::try_from(engine.queries.len()).unwrap(),
            tasks_waiting: tasks.saturating_sub(running),
            results: engine.results,
            workers: self.connected(revision).into_iter().map(worker).collect(),
            ..EngineReport::default()
        }
    }

    /// Reconciles once and carries out the plan.
    pub fn reconcile(&mut self) -> Plan {
        let seen = self.seen();
        let decided = plan(&seen, self.now);
        for action in &decided.actions {
            self.act(action, &seen);
        }
        self.context.status = Some(decided.status.clone());
        let most = self.context.spec.max_workers as usize;
        for revision in decided.status.revisions.iter().map(|revision| revision.number) {
            let leaves = |name: &str| self.engines.get(&revision).is_some_and(|e| e.draining.contains_key(name));
            let of = |pod: &&PodFacts| matches!(pod.place, Place::Worker { attempt, .. } if attempt == revision);
            let alive = self.pods.values().filter(of);
            let alive = alive.filter(|pod| pod.deleting_at.is_none() && !pod.is_ended() && !leaves(&pod.name)).count();
            assert!(alive <= most, "{alive} workers, at most {most}");
        }
        decided
    }

    fn act(&mut self, action: &Action, seen: &Seen) {
        match action {
            Action::EnsureShared => {}
            Action::CreatePod { place, .. } => self.create(*place),
            Action::Drain { coordinator_ip, worker } => {
                let lead = self.pods.values().find(|pod| pod.ip.as_deref() == Some(coordinator_ip));
                let revision = lead.and_then(PodFacts::attempt).expect("a coordinator of that address");
                self.engines.get_mut(&revision).unwrap().draining.entry(worker.clone()).or_insert(0);
            }
            Action::DeletePod { name, uid } => {
                let pod = self.pods.get(name).unwrap_or_else(|| panic!("{name} is no pod of the context"));
                assert_eq!(&pod.uid, uid, "another pod of the name {name}");
                let revision = pod.attempt().unwrap();
                let is_lost = seen.is_lost(revision, self.now) || !self.is_up(revision);
                if let (Some(engine), false) = (self.engines.get(&revision), is_lost || pod.is_ended()) {
                    assert!(!engine.running.contains_key(name), "{name} works");
                    let is_lead = matches!(pod.place, Place::Coordinator { .. });
                    assert!(!is_lead || engine.queries.is_empty() && engine.results == 0, "{name} has queries");
                }
                let at = self.now + SignedDuration::from_secs(30);
                self.pods.get_mut(name).unwrap().deleting_at.get_or_insert(at);
            }
        }
    }

    fn create(&mut self, place: Place) {
        let name = names::pod("warm", place);
        if self.pods.contains_key(&name) {
            return;
        }
        self.uids += 1;
        self.pods_made += 1;
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
            gang: None,
            state: PodState::Waiting(None),
        };
        self.made.insert(name.clone());
        self.pods.insert(name, pod);
    }

    pub fn kill(&mut self, name: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.state = PodState::Ended(Ending { exit_code: Some(137), ..Ending::default() });
        }
    }

    pub fn submit(&mut self, count: u32, query: Query) {
        self.waiting.extend((0..count).map(|_| query));
    }

    pub fn keep_result(&mut self, revision: u32, results: u32) {
        self.engines.get_mut(&revision).unwrap().results = results;
    }

    /// Advances the clock by one second.
    pub fn tick(&mut self) {
        self.now += SignedDuration::from_secs(1);
        let mut left = Vec::new();
        for (name, pod) in &mut self.pods {
            let is_worker = matches!(pod.place, Place::Worker { .. });
            match (&pod.state, pod.deleting_at) {
                (_, Some(_)) => left.push(name.clone()),
                (PodState::Waiting(_), None) if self.stuck && is_worker => {
                    let words = "no node has room".to_owned();
                    let stuck = Stuck { reason: floe_api::Reason::Unschedulable, words, fatal: false };
                    pod.state = PodState::Waiting(Some(stuck));
                }
                (PodState::Waiting(_), None) => {
                    pod.state = PodState::Running;
                    pod.ip = Some(format!("10.0.{}", pod.uid));
                    pod.node = Some("node".into());
                }
                (PodState::Running, None) if self.crashes && is_worker => {
                    pod.state = PodState::Ended(Ending { exit_code: Some(1), ..Ending::default() });
                }
                (PodState::Running | PodState::Ended(_), None) => {}
            }
        }
        for name in left {
            self.pods.remove(&name);
        }
        self.work();
    }

    fn work(&mut self) {
        let leads = self.pods.values().filter(|pod| matches!(pod.place, Place::Coordinator { .. }));
        let up: Vec<u32> = leads.filter(|pod| pod.state == PodState::Running).filter_map(PodFacts::attempt).collect();
        let gone: Vec<u32> = self.engines.keys().filter(|number| !up.contains(number)).copied().collect();
        for number in gone {
            let queries = self.engines.remove(&number).unwrap().queries;
            self.lost += u32::try_from(queries.len()).unwrap();
            self.waiting.extend(queries);
        }
        for number in &up {
            self.engines.entry(*number).or_default();
        }
        let serving = self.status().serving;
        if let Some(engine) = serving.and_then(|serving| self.engines.get_mut(&serving)) {
            engine.queries.append(&mut self.waiting);
        }
        for number in up {
            let connected = self.connected(number);
            let engine = self.engines.get_mut(&number).unwrap();
            engine.running.retain(|name, _| connected.contains(name));
            engine.draining.retain(|name, _| connected.contains(name));
            // Advance every running task by one second; a finished one is taken off its query.
            let mut done = 0;
            engine.running.retain(|_, left| {
                *left -= 1;
                done += u32::from(*left == 0);
                *left > 0
            });
            for query in &mut engine.queries {
                let of_it = query.tasks.min(done);
                query.tasks -= of_it;
                done -= of_it;
            }
            self.ended += u32::try_from(engine.queries.iter().filter(|query| query.tasks == 0).count()).unwrap();
            engine.queries.retain(|query| query.tasks > 0);
            let tasks: u32 = engine.queries.iter().map(|query| query.tasks).sum();
            let seconds = engine.queries.first().map_or(1, |query| query.seconds.max(1));
            for name in &connected {
                let busy = u32::try_from(engine.running.len()).unwrap();
                if busy < tasks && !engine.draining.contains_key(name) {
                    engine.running.entry(name.clone()).or_insert(seconds);
                }
            }
            for (name, quiet) in &mut engine.draining {
                *quiet = if engine.running.contains_key(name) { 0 } else { *quiet + 1 };
            }
        }
    }

    /// Reconciles and ticks until `until` holds. Panics if it never does.
    pub fn run_until(&mut self, what: &str, until: impl Fn(&World) -> bool) {
        for _ in 0..1500 {
            self.reconcile();
            if until(self) {
                return;
            }
            self.tick();
        }
        panic!("{what} never came: {:#?}\n{:#?}\n{:?}", self.status(), self.pods.keys(), self.engines);
    }

    pub fn run_for(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.reconcile();
            self.tick();
        }
    }

    pub fn delete(&mut self) {
        self.context.metadata.deletion_timestamp = Some(Time(self.now));
    }
}
