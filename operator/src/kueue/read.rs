//! Reads the state of a query from its Workload. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::facts::{Additions, Grant, Standing};
use super::workload::{
    ADMITTED, COORDINATOR, EVICTED, FINISHED, FlavorSpec, PODS_READY, QUOTA_RESERVED, WORKERS, Workload, WorkloadStatus,
};

/// Annotation of a Workload: a digest of the pods that it asks for.
pub const PODS: &str = "floe.dev/pods";

/// The state of the query whose Workload this is. `wanted` is the digest of the Workload that it would have now.
pub fn standing(workload: &Workload, wanted: Option<&str>, flavor: &impl Fn(&str) -> Option<FlavorSpec>) -> Standing {
    if workload.metadata.deletion_timestamp.is_some() {
        return Standing::Leaving;
    }
    let none = WorkloadStatus::default();
    let status = workload.status.as_ref().unwrap_or(&none);
    let is_stale = wanted.is_some() && workload.annotations().get(PODS).map(String::as_str) != wanted;
    let reserved = is_true(status, QUOTA_RESERVED).is_some();
    if is_true(status, FINISHED).is_some() {
        return Standing::Finished;
    }
    if let (Some(evicted), true) = (is_true(status, EVICTED), reserved) {
        return Standing::Evicted { reason: evicted.reason.clone(), words: evicted.message.clone() };
    }
    let Some(admission) = status.admission.as_ref().filter(|_| reserved && is_true(status, ADMITTED).is_some()) else {
        return Standing::Waiting { words: words(workload, status), is_stale };
    };
    let mut grant = Grant {
        cluster_queue: admission.cluster_queue.clone(),
        is_ready: is_true(status, PODS_READY).is_some(),
        is_reclaimed: status.reclaimable_pods.iter().any(|pods| pods.name == WORKERS),
        is_stale,
        ..Grant::default()
    };
    for assignment in &admission.pod_set_assignments {
        let mut additions = Additions::default();
        for name in assignment.flavors.values() {
            let Some(flavor) = flavor(name) else { return Standing::NotYet };
            additions.node_selector.extend(flavor.node_labels);
            for toleration in flavor.tolerations {
                if !additions.tolerations.contains(&toleration) {
                    additions.tolerations.push(toleration);
                }
            }
        }
        let updates = status.admission_checks.iter().flat_map(|check| &check.pod_set_updates);
        for update in updates.filter(|update| update.name == assignment.name) {
            additions.node_selector.extend(update.node_selector.clone());
            additions.tolerations.extend(update.tolerations.iter().cloned());
            additions.labels.extend(update.labels.clone());
            additions.annotations.extend(update.annotations.clone());
        }
        match assignment.name.as_str() {
            COORDINATOR => grant.coordinator_pods = additions,
            WORKERS => {
                grant.worker_pods = additions;
                let asked = workload.spec.pod_sets.iter().find(|set| set.name == WORKERS).map(|set| set.count);
                grant.workers = assignment.count.or(asked).unwrap_or_default();
            }
            _ => {}
        }
    }
    Standing::Admitted(grant)
}

pub fn is_true<'a>(status: &'a WorkloadStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// What the query waits for, in the words of Kueue.
fn words(workload: &Workload, status: &WorkloadStatus) -> String {
    if workload.spec.active == Some(false) {
        return "its Workload is deactivated (spec.active: false)".to_owned();
    }
    let open: BTreeMap<&str, &str> = status
        .admission_checks
        .iter()
        .filter(|check| check.state != "Ready")
        .map(|check| (check.name.as_str(), check.message.as_str()))
        .collect();
    let reserved = is_true(status, QUOTA_RESERVED).is_some();
    if reserved && !open.is_empty() {
        let told: Vec<String> =
            open.iter().map(|(name, message)| format!("{name} {message}").trim().to_owned()).collect();
        return format!("its quota is reserved; admission checks are open: {}", told.join("; "));
    }
    let told = status.conditions.iter().find(|condition| condition.type_ == QUOTA_RESERVED);
    match told.map(|condition| condition.message.trim()).filter(|message| !message.is_empty()) {
        Some(message) => message.to_owned(),
        None => "Kueue has not looked at its Workload yet".to_owned(),
    }
}
