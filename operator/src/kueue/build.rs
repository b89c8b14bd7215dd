//! Makes the Workload of a query, and the changes of its status that whoever runs a job owes to Kueue. Pure.

use std::collections::BTreeMap;

use floe_api::DistributedQuery;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::facts::Step;
use super::read::{PODS, is_true};
use super::workload::{
    ADMITTED, COORDINATOR, EVICTED, FINISHED, JOB_UID, PODS_READY, PRIORITY_CLASS, PodSet, PriorityClassRef,
    QUEUE_NAME, QUOTA_RESERVED, REQUEUED, Reclaimable, WORKERS, Workload, WorkloadSpec, WorkloadStatus,
};
use crate::conditions;
use crate::query::build::{BuildError, Defaults, PodInputs, owner, pod};
use crate::query::facts::PlanSecrets;
use crate::query::names::{self, Place};

/// Kueue refuses longer messages of conditions.
const MESSAGE_BYTES: usize = 32_000;

/// The queue that a query names.
pub fn queue_of(query: &DistributedQuery) -> Option<&str> {
    let labels = query.metadata.labels.as_ref()?;
    labels.get(QUEUE_NAME).map(String::as_str).filter(|name| !name.is_empty())
}

/// The Workload of a query that names a queue, without its priority, which is looked up in the cluster.
pub fn workload(query: &DistributedQuery, queue: &str, defaults: &Defaults) -> Result<Workload, BuildError> {
    let name = query.metadata.name.as_deref().unwrap_or_default();
    let uid = query.metadata.uid.clone().unwrap_or_default();
    let plan = PlanSecrets::default();
    let inputs = PodInputs { query, defaults, plan, attempt: 1, image: None, grant: None, gang: None };
    let compute = &query.spec.compute;
    let (least, most) = (compute.workers_to_start(), compute.worker_count());
    let pod_sets = vec![
        PodSet {
            name: COORDINATOR.to_owned(),
            template: template(pod(Place::Coordinator { attempt: 1 }, &inputs)?),
            count: 1,
            min_count: None,
        },
        PodSet {
            name: WORKERS.to_owned(),
            template: template(pod(Place::Worker { attempt: 1, index: 0, replacement: 0 }, &inputs)?),
            count: most,
            min_count: (least < most).then_some(least),
        },
    ];
    let mut labels = names::labels(name, "workload");
    labels.insert(JOB_UID.to_owned(), uid);
    let spec = WorkloadSpec {
        pod_sets,
        queue_name: Some(queue.to_owned()),
        priority_class_ref: priority_class(query),
        ..WorkloadSpec::default()
    };
    let digest = digest(&spec)?;
    Ok(Workload {
        metadata: ObjectMeta {
            name: Some(names::shared(name)),
            namespace: query.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(PODS.to_owned(), digest)])),
            owner_references: Some(vec![owner(query)]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    })
}

/// The digest of the Workload that a query would have now.
pub fn wanted(query: &DistributedQuery, queue: &str, defaults: &Defaults) -> Option<String> {
    workload(query, queue, defaults).ok()?.metadata.annotations?.remove(PODS)
}

/// The query's WorkloadPriorityClass, else the priority class of its pods.
fn priority_class(query: &DistributedQuery) -> Option<PriorityClassRef> {
    let own = query.metadata.labels.as_ref().and_then(|labels| labels.get(PRIORITY_CLASS)).cloned();
    let reference = |group: &str, kind: &str, name| PriorityClassRef { group: group.into(), kind: kind.into(), name };
    match own.filter(|name| !name.is_empty()) {
        Some(name) => Some(reference("kueue.x-k8s.io", "WorkloadPriorityClass", name)),
        None => {
            let name = query.spec.compute.priority_class_name.clone()?;
            Some(reference("scheduling.k8s.io", "PriorityClass", name))
        }
    }
}

/// Names and owners belong to the pods that are made later.
fn template(pod: Pod) -> PodTemplateSpec {
    let metadata =
        ObjectMeta { labels: pod.metadata.labels, annotations: pod.metadata.annotations, ..ObjectMeta::default() };
    PodTemplateSpec { metadata: Some(metadata), spec: pod.spec }
}

fn digest(spec: &WorkloadSpec) -> Result<String, BuildError> {
    // Through a value: its maps are sorted.
    let text = serde_json::to_value(spec)?.to_string();
    Ok(Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// The change of a Workload's status for a step, as a merge patch of `status`. `None` if there is nothing to change.
pub fn change(seen: &Workload, step: &Step, now: Timestamp) -> Option<Value> {
    let none = WorkloadStatus::default();
    let status = seen.status.as_ref().unwrap_or(&none);
    let mut all = status.conditions.clone();
    let generation = seen.metadata.generation;
    let mut set = |kind: &str, truth: bool, reason: &str, message: &str| {
        let truth = if truth { "True" } else { "False" };
        let message = crate::query::plan::cut(message, MESSAGE_BYTES);
        let known: Option<&Condition> = all.iter().find(|condition| condition.type_ == kind);
        if known.is_none_or(|known| known.status != truth || known.reason != reason) {
            conditions::set(&mut all, conditions::made(kind, truth, reason, message, generation, now));
        }
    };
    match step {
        Step::Enter | Step::Leave => return None,
        Step::GiveUp => {
            let evicted = is_true(status, EVICTED);
            let (reason, message) =
                evicted.map_or(("Pending", "Its pods are gone"), |c| (c.reason.as_str(), c.message.as_str()));
            // Only what was preempted goes back into the queue at once; other reasons have their own pauses.
            let at_once = ["Preempted", "NodeFailures"].contains(&reason);
            set(REQUEUED, at_once, reason, message);
            set(QUOTA_RESERVED, false, "Pending", message);
            if is_true(status, ADMITTED).is_some() {
                set(ADMITTED, false, "NoReservation", "The workload has no reservation");
            }
            set(PODS_READY, false, "WaitForStart", "Not all pods are ready or succeeded");
            return Some(json!({"conditions": all, "admission": null}));
        }
        Step::Ready => set(PODS_READY, true, "Started", "All pods reached readiness and the workload is running"),
        Step::Reclaim => {
            let asked = seen.spec.pod_sets.iter().find(|set| set.name == WORKERS).map_or(0, |set| set.count);
            let gone = Reclaimable { name: WORKERS.to_owned(), count: asked };
            return (!status.reclaimable_pods.contains(&gone)).then(|| json!({"reclaimablePods": [gone]}));
        }
        Step::Finish { is_success, message } => {
            set(FINISHED, true, if *is_success { "Succeeded" } else { "Failed" }, message)
        }
    }
    (all != status.conditions).then(|| json!({"conditions": all}))
}
