//! What is read from Workloads, and what is written into them.

use floe_api::DistributedQuery;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::build::{change, queue_of, wanted, workload};
use super::facts::{Grant, Standing, Step};
use super::read::standing;
use super::workload::{FlavorSpec, Workload};
use crate::query::build::{Defaults, PodInputs, pod};
use crate::query::facts::PlanSecrets;
use crate::query::mocked;
use crate::query::names::Place;

fn query() -> DistributedQuery {
    let mut query = mocked::query();
    let labels = [("kueue.x-k8s.io/queue-name", "team"), ("kueue.x-k8s.io/priority-class", "high")];
    query.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    query.spec.compute.workers = None;
    query.spec.compute.min_workers = Some(1);
    query.spec.compute.max_workers = Some(4);
    query
}

fn defaults() -> Defaults {
    Defaults { runner_image: "runner:1".into(), ..Defaults::default() }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// The query's Workload with this status.
fn seen(status: Value) -> Workload {
    let mut made = workload(&query(), "team", &defaults()).unwrap();
    made.status = Some(serde_json::from_value(status).unwrap());
    made
}

fn flavor(name: &str) -> Option<FlavorSpec> {
    let toleration = json!([{"key": "spot", "operator": "Exists"}]);
    (name == "spot").then(|| FlavorSpec {
        node_labels: [("pool".to_owned(), "spot".to_owned())].into(),
        tolerations: serde_json::from_value(toleration).unwrap(),
    })
}

fn admission(workers: u32) -> Value {
    json!({"clusterQueue": "shared", "podSetAssignments": [
        {"name": "coordinator", "count": 1, "flavors": {}},
        {"name": "workers", "count": workers, "flavors": {"cpu": "spot", "memory": "spot"}},
    ]})
}

fn admitted() -> Workload {
    let reserved = condition("QuotaReserved", "True", "QuotaReserved", "");
    seen(json!({"conditions": [reserved, condition("Admitted", "True", "Admitted", "")], "admission": admission(2)}))
}

fn read(workload: &Workload) -> Standing {
    standing(workload, wanted(&query(), "team", &defaults()).as_deref(), &flavor)
}

#[test]
fn a_workload_asks_for_the_coordinator_and_the_workers() {
    assert_eq!(queue_of(&query()), Some("team"));
    assert_eq!(queue_of(&mocked::query()), None);
    let made = workload(&query(), "team", &defaults()).unwrap();
    let body = serde_json::to_value(&made).unwrap();
    assert_eq!(body["metadata"]["name"], "q-floe");
    assert_eq!(body["metadata"]["labels"]["kueue.x-k8s.io/job-uid"], "query-uid");
    assert_eq!(body["metadata"]["ownerReferences"][0]["kind"], "DistributedQuery");
    assert_eq!(body["spec"]["queueName"], "team");
    assert_eq!(body["spec"]["priorityClassRef"]["kind"], "WorkloadPriorityClass");
    let sets = &body["spec"]["podSets"];
    assert_eq!((&sets[0]["count"], &sets[1]["count"], &sets[1]["minCount"]), (&json!(1), &json!(4), &json!(1)));
    assert_eq!(sets[1]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"], "2Gi");
    assert!(sets[0]["template"]["metadata"].get("name").is_none());
    // Another size is another question; something that pods do not have is none.
    let digest = |query: &DistributedQuery| wanted(query, "team", &defaults()).unwrap();
    let mut other = query();
    other.spec.suspend = true;
    assert_eq!(digest(&query()), digest(&other));
    other.spec.compute.memory = "3Gi".into();
    assert_ne!(digest(&query()), digest(&other));
    assert_ne!(wanted(&query(), "other", &defaults()), Some(digest(&query())));
}

#[test]
fn a_fixed_number_of_workers_is_all_or_nothing_and_pods_have_a_priority_of_their_own() {
    let mut fixed = query();
    fixed.metadata.labels = None;
    fixed.spec.compute.max_workers = None;
    fixed.spec.compute.min_workers = None;
    fixed.spec.compute.workers = Some(3);
    fixed.spec.compute.priority_class_name = Some("urgent".into());
    let spec = workload(&fixed, "team", &defaults()).unwrap().spec;
    assert_eq!((spec.pod_sets[1].count, spec.pod_sets[1].min_count), (3, None));
    let class = spec.priority_class_ref.unwrap();
    assert_eq!(
        (class.group.as_str(), class.kind.as_str(), class.name.as_str()),
        ("scheduling.k8s.io", "PriorityClass", "urgent")
    );
}

#[test]
fn the_states_of_a_workload_are_told_apart() {
    let waits = |status: Value, words: &str| match read(&seen(status.clone())) {
        Standing::Waiting { words: told, is_stale: false } => assert!(told.contains(words), "{told}"),
        other => panic!("{status}: {other:?}"),
    };
    waits(json!({}), "not looked at");
    let pending = condition("QuotaReserved", "False", "Pending", "insufficient unused quota for memory");
    waits(json!({"conditions": [pending.clone()]}), "insufficient unused quota");
    // It was evicted, has given its place up, and waits again.
    waits(json!({"conditions": [pending, condition("Evicted", "True", "Preempted", "for another")]}), "insufficient");
    let reserved = condition("QuotaReserved", "True", "QuotaReserved", "");
    let check = json!([{"name": "budget", "state": "Pending", "message": "asks"}]);
    let checked = json!({"conditions": [reserved.clone()], "admission": admission(4), "admissionChecks": check});
    waits(checked, "admission checks are open: budget asks");
    let mut inactive = seen(json!({}));
    inactive.spec.active = Some(false);
    assert!(matches!(read(&inactive), Standing::Waiting { words, .. } if words.contains("spec.active")));

    let evicted = condition("Evicted", "True", "Preempted", "for another");
    let taken = seen(json!({"conditions": [reserved.clone(), evicted], "admission": admission(4)}));
    assert_eq!(read(&taken), Standing::Evicted { reason: "Preempted".into(), words: "for another".into() });
    assert_eq!(read(&seen(json!({"conditions": [condition("Finished", "True", "Failed", "")]}))), Standing::Finished);
    assert!(matches!(standing(&seen(json!({})), Some("other"), &flavor), Standing::Waiting { is_stale: true, .. }));
    assert_eq!(standing(&admitted(), None, &|_: &str| None), Standing::NotYet, "its flavor has not been read");
}

#[test]
fn pods_go_where_their_flavor_is() {
    let Standing::Admitted(grant) = read(&admitted()) else { panic!() };
    assert_eq!(
        (grant.workers, grant.cluster_queue.as_str(), grant.is_ready, grant.is_stale),
        (2, "shared", false, false)
    );
    let query = query();
    let (plan, defaults) = (PlanSecrets::default(), defaults());
    let made = |place, grant: Option<&Grant>| {
        let inputs = PodInputs { query: &query, defaults: &defaults, plan, attempt: 1, image: None, grant, gang: None };
        pod(place, &inputs).unwrap().spec.unwrap()
    };
    let worker = made(Place::Worker { attempt: 1, index: 0, replacement: 0 }, Some(&grant));
    assert_eq!(worker.node_selector.unwrap()["pool"], "spot");
    assert!(worker.tolerations.unwrap().iter().any(|one| one.key.as_deref() == Some("spot")));
    let lead = Place::Coordinator { attempt: 1 };
    assert_eq!(made(lead, Some(&grant)).tolerations, made(lead, None).tolerations);
}

#[test]
fn kueue_is_told_what_it_has_to_know() {
    let now = Timestamp::UNIX_EPOCH;
    let of = |change: &Value, kind: &str| {
        let all = change["conditions"].as_array().unwrap();
        let found = all.iter().find(|condition| condition["type"] == kind).unwrap();
        (found["status"].as_str().unwrap().to_owned(), found["reason"].as_str().unwrap().to_owned())
    };
    let pair = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    for (reason, requeued) in [("Preempted", "True"), ("PodsReadyTimeout", "False")] {
        let mut taken = admitted();
        let evicted = serde_json::from_value(condition("Evicted", "True", reason, "for another")).unwrap();
        taken.status.as_mut().unwrap().conditions.push(evicted);
        let given = change(&taken, &Step::GiveUp, now).unwrap();
        assert_eq!(given["admission"], Value::Null);
        assert!(given.as_object().unwrap().contains_key("admission"), "a merge patch removes it");
        assert_eq!(of(&given, "QuotaReserved"), pair("False", "Pending"));
        assert_eq!(of(&given, "Admitted"), pair("False", "NoReservation"));
        assert_eq!(of(&given, "Requeued"), pair(requeued, reason));
        assert_eq!(of(&given, "Evicted"), pair("True", reason), "that is Kueue's to take back");
    }
    let ready = change(&admitted(), &Step::Ready, now).unwrap();
    assert_eq!(of(&ready, "PodsReady"), pair("True", "Started"));
    let reclaimed = change(&admitted(), &Step::Reclaim, now).unwrap();
    assert_eq!(reclaimed, json!({"reclaimablePods": [{"name": "workers", "count": 4}]}));
    let done = Step::Finish { is_success: true, message: "7 rows".into() };
    let finished = change(&admitted(), &done, now).unwrap();
    assert_eq!(of(&finished, "Finished"), pair("True", "Succeeded"));
    let mut told = admitted();
    told.status.as_mut().unwrap().conditions = serde_json::from_value(finished["conditions"].clone()).unwrap();
    assert_eq!(change(&told, &done, now), None, "it is told once");
}
