//! Interprets a pod's status: whether it is starting, what holds it up, how it ended, who is removing it. Pure.

use std::sync::Arc;

use floe_api::Reason;
use jiff::Timestamp;

use super::facts::{Ending, Loss, PodFacts, PodState, Stuck};
use super::names::Place;
use crate::coordinator::Verdict;
use crate::gang::Gang;
use crate::pods::{ConditionView, ContainerView, PodView};

/// The container of coordinators, workers and cleaning pods.
pub const MAIN: &str = "floe";
/// Report a node that has been unreachable this long.
const UNREADY_SECONDS: i64 = 5;

/// `None` for a pod without the labels of its place.
pub fn facts(pod: &Arc<PodView>, now: Timestamp) -> Option<PodFacts> {
    let meta = &pod.metadata;
    let labels = meta.labels.as_ref()?;
    let place = Place::of_labels(labels)?;
    let state = state(pod);
    let ready = condition(pod, "Ready");
    let unready = state == PodState::Running
        && ready.is_some_and(|c| {
            let since = c.last_transition_time.as_ref().map_or(0, |at| now.duration_since(at.0).as_secs());
            c.status == "False" && since >= UNREADY_SECONDS && c.reason.as_deref() != Some("ContainersNotReady")
        });
    Some(PodFacts {
        name: meta.name.clone()?,
        uid: meta.uid.clone().unwrap_or_default(),
        place,
        created_at: meta.creation_timestamp.as_ref().map(|t| t.0),
        deleting_at: meta.deletion_timestamp.as_ref().map(|t| t.0),
        ip: pod.status.pod_ip.clone(),
        node: pod.spec.node_name.clone(),
        disruption: disruption(pod),
        unready,
        gang: Gang::of_labels(labels),
        state,
    })
}

fn condition<'a>(pod: &'a PodView, kind: &str) -> Option<&'a ConditionView> {
    pod.status.conditions.iter().find(|c| c.kind == kind)
}

fn main_container(pod: &PodView) -> Option<&ContainerView> {
    pod.status.container_statuses.iter().find(|c| c.name == MAIN)
}

fn state(pod: &PodView) -> PodState {
    let main = main_container(pod).map(|c| &c.state);
    let terminated = main.and_then(|s| s.terminated.as_ref());
    let phase = pod.status.phase.as_deref().unwrap_or("Pending");
    if terminated.is_some() || matches!(phase, "Failed" | "Succeeded") {
        let words = terminated.and_then(|t| t.message.clone()).unwrap_or_default();
        let oom = terminated.is_some_and(|t| t.reason.as_deref() == Some("OOMKilled"));
        let verdict = Verdict::parse(&words);
        let words = match (&verdict, words.trim().is_empty(), &pod.status.message) {
            (Some(Verdict::Failed(error)), _, _) => error.message.clone(),
            (None, true, Some(message)) => message.clone(),
            (None, _, _) => plain(&words),
            (Some(Verdict::Done(_)), _, _) => String::new(),
        };
        let at = terminated.and_then(|t| t.finished_at.as_ref()).map(|t| t.0);
        return PodState::Ended(Ending { exit_code: terminated.map(|t| t.exit_code), at, oom, words, verdict });
    }
    if main.is_some_and(|s| s.running.is_some()) {
        return PodState::Running;
    }
    PodState::Waiting(stuck(pod))
}

/// Formats the last lines of a log for people: of JSON records, only the messages of warnings and errors.
fn plain(log: &str) -> String {
    let lines = log.lines().enumerate().filter_map(|(number, line)| {
        let record = serde_json::from_str::<serde_json::Value>(line).ok();
        let field = |name: &str| record.as_ref()?.get(name)?.as_str();
        match (field("level"), field("message")) {
            (Some("WARN" | "ERROR"), Some(message)) => Some(message.to_owned()),
            (Some(_), _) => None,
            // The kubelet truncates long logs at the front: the first line may be the end of a record.
            (None, _) if number == 0 && record.is_none() && line.ends_with('}') => None,
            (None, _) => Some(line.to_owned()),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What holds the pod up first, in the order in which a pod starts.
fn stuck(pod: &PodView) -> Option<Stuck> {
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|c| c.status == "False") {
        let words = scheduled.message.clone().unwrap_or_default();
        let words = if words.is_empty() { scheduled.reason.clone().unwrap_or_default() } else { words };
        return Some(Stuck { reason: Reason::Unschedulable, words, fatal: false });
    }
    let containers = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    containers.filter_map(container_stuck).next()
}

fn container_stuck(container: &ContainerView) -> Option<Stuck> {
    let waiting = container.state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let said = waiting.message.as_deref().unwrap_or(reason);
    let (told, fatal) = match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => (Reason::ImagePull, false),
        "InvalidImageName" | "ErrImageNeverPull" => (Reason::ImagePull, true),
        "CreateContainerConfigError" => {
            let lower = said.to_ascii_lowercase();
            if lower.contains("secret") && (lower.contains("not found") || lower.contains("couldn't find key")) {
                (Reason::MissingSecret, false)
            } else if lower.contains("configmap")
                && (lower.contains("not found") || lower.contains("couldn't find key"))
            {
                (Reason::MissingConfigMap, false)
            } else {
                (Reason::PodConfig, false)
            }
        }
        "CreateContainerError" | "RunContainerError" | "PreCreateHookError" | "PostStartHookError" => {
            (Reason::PodConfig, false)
        }
        "CrashLoopBackOff" => (Reason::PodConfig, false),
        _ => return None,
    };
    Some(Stuck { reason: told, words: format!("container {}: {reason}: {said}", container.name), fatal })
}

/// What removes the pod: eviction, preemption or a lost node.
fn disruption(pod: &PodView) -> Option<Loss> {
    let said = pod.status.message.clone();
    let because = |words: &str| match &said {
        Some(message) if !message.is_empty() => format!("{words}: {message}"),
        _ => words.to_owned(),
    };
    let by_status = match pod.status.reason.as_deref() {
        Some("Evicted") => Some((Reason::Evicted, because("was evicted"))),
        Some("Preempting") => Some((Reason::Evicted, because("was preempted"))),
        Some("NodeLost") => Some((Reason::NodeLost, because("is on a node that does not answer"))),
        Some("NodeShutdown" | "Shutdown" | "Terminated") => Some((Reason::NodeLost, because("ended with its node"))),
        Some("UnexpectedAdmissionError" | "NodeAffinity" | "OutOfcpu" | "OutOfmemory" | "OutOfpods") => {
            Some((Reason::Evicted, because("was refused by its node")))
        }
        _ => None,
    };
    let by_condition = condition(pod, "DisruptionTarget").filter(|c| c.status == "True").map(|c| {
        let message = c.message.as_deref().unwrap_or_default();
        let word = c.reason.as_deref().unwrap_or_default();
        match word {
            "DeletionByTaintManager" | "DeletionByPodGC" => (Reason::NodeLost, format!("lost its node ({message})")),
            _ => (Reason::Evicted, format!("was evicted ({word}: {message})")),
        }
    });
    by_status.or(by_condition).map(|(reason, words)| Loss { reason, words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value, status: Value) -> PodFacts {
        let pod: PodView = serde_json::from_value(json!({
            "metadata": {"name": "q-1-w0-0", "uid": "u", "labels": {"floe.dev/query": "q", "floe.dev/role": "worker",
                "floe.dev/attempt": "1", "floe.dev/worker": "0", "floe.dev/replacement": "0"}},
            "spec": spec, "status": status,
        }))
        .unwrap();
        facts(&Arc::new(pod), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn what_holds_a_pod_up_is_told_in_the_clusters_words() {
        let waiting = |reason: &str, message: &str| json!({"phase": "Pending", "containerStatuses": [{"name": "floe", "state": {"waiting": {"reason": reason, "message": message}}}]});
        let cases = [
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]}),
                Some((Reason::Unschedulable, false)),
            ),
            (waiting("ImagePullBackOff", "Back-off pulling image"), Some((Reason::ImagePull, false))),
            (waiting("InvalidImageName", "couldn't parse"), Some((Reason::ImagePull, true))),
            (waiting("ErrImageNeverPull", "never"), Some((Reason::ImagePull, true))),
            (waiting("CreateContainerConfigError", "secret \"x\" not found"), Some((Reason::MissingSecret, false))),
            (
                waiting("CreateContainerConfigError", "couldn't find key k in ConfigMap n/c"),
                Some((Reason::MissingConfigMap, false)),
            ),
            (waiting("CreateContainerConfigError", "container has runAsNonRoot"), Some((Reason::PodConfig, false))),
            (waiting("ContainerCreating", ""), None),
            (json!({}), None),
        ];
        for (status, want) in cases {
            let PodState::Waiting(stuck) = read(json!({}), status.clone()).state else { panic!("{status}") };
            assert_eq!(stuck.map(|s| (s.reason, s.fatal)), want, "{status}");
        }
    }

    #[test]
    fn of_a_log_people_hear_what_warns() {
        let log = concat!(
            "\"x\",\"worker\":\"w\"}\n",
            "{\"level\":\"INFO\",\"message\":\"worker connected\"}\n",
            "{\"level\":\"ERROR\",\"message\":\"the disk is full\",\"target\":\"t\"}\n",
            "memory allocation of 9 bytes failed\n",
        );
        assert_eq!(plain(log), "the disk is full\nmemory allocation of 9 bytes failed");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn endings_and_losses_are_told_apart() {
        let ended = |reason: &str, code: i32| json!({"phase": "Failed", "containerStatuses": [{"name": "floe", "state": {"terminated": {"reason": reason, "exitCode": code, "message": "bye"}}}]});
        assert_eq!(read(json!({}), ended("OOMKilled", 137)).loss().unwrap().reason, Reason::OutOfMemory);
        let loss = read(json!({}), ended("Error", 75)).loss().unwrap();
        assert_eq!(
            (loss.reason, loss.words.as_str()),
            (Reason::OutOfMemory, "gave up for lack of memory (exit code 75): bye")
        );
        let evicted =
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
        let loss = read(json!({}), evicted).loss().unwrap();
        assert_eq!(loss.reason, Reason::Evicted);
        assert!(loss.words.contains("low on resource"), "{}", loss.words);
        let tainted = json!({"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "m"}],
            "containerStatuses": [{"name": "floe", "state": {"running": {}}}]});
        assert_eq!(read(json!({}), tainted).loss().unwrap().reason, Reason::NodeLost);
        let running = json!({"phase": "Running", "containerStatuses": [{"name": "floe", "state": {"running": {}}}]});
        assert_eq!(read(json!({}), running).loss(), None);
    }
}
