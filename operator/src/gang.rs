//! Gang scheduling: the pods of an attempt are placed together or not at all, by a scheduler that can do so. Volcano is told
//! by a PodGroup, YuniKorn by annotations with the groups of pods that will come. Pure.

use std::collections::BTreeMap;

use clap::ValueEnum;
use floe_api::{DistributedQuery, Quantity};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kueue::build::queue_of;
use crate::query::names::{self, Place, Role};

/// On pods: who places the attempt's pods together.
pub const LABEL: &str = "floe.dev/gang";

/// On pods, for Volcano: their PodGroup, and its queue.
const VOLCANO_GROUP: &str = "scheduling.k8s.io/group-name";
const VOLCANO_QUEUE: &str = "scheduling.volcano.sh/queue-name";
/// On pods, for YuniKorn. Older releases know the application by the first label only.
const YUNIKORN_APP_LABELS: [&str; 2] = ["applicationId", "yunikorn.apache.org/app-id"];
const YUNIKORN_GROUP: &str = "yunikorn.apache.org/task-group-name";
const YUNIKORN_GROUPS: &str = "yunikorn.apache.org/task-groups";

/// A scheduler that places pods together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gang {
    Volcano,
    Yunikorn,
}

impl Gang {
    /// The name that pods know the scheduler by.
    pub fn as_str(self) -> &'static str {
        match self {
            Gang::Volcano => "volcano",
            Gang::Yunikorn => "yunikorn",
        }
    }

    /// Who places the attempt of a pod with these labels.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Gang> {
        let name = labels.get(LABEL)?;
        [Gang::Volcano, Gang::Yunikorn].into_iter().find(|gang| gang.as_str() == name)
    }
}

/// Who places an attempt that begins now. Kueue admits queries as a whole by itself, and a template may name another scheduler.
pub fn of(query: &DistributedQuery, chosen: Option<Gang>) -> Option<Gang> {
    let gang = chosen?;
    let compute = &query.spec.compute;
    let named = |template: &Value| template.pointer("/spec/schedulerName").and_then(Value::as_str).map(str::to_owned);
    let names_another = compute.pod_templates().filter_map(|(_, template)| named(template)).any(|n| n != gang.as_str());
    let is_apart = names_another || compute.context_ref.is_some() || queue_of(query).is_some();
    (!is_apart).then_some(gang)
}

/// The two kinds of pods that an attempt has, before they are told of each other.
pub struct Pair {
    pub coordinator: Pod,
    pub worker: Pod,
}

/// Makes a pod a member of its attempt's gang.
pub fn enlist(pod: &mut Pod, gang: Gang, query: &DistributedQuery, place: Place, pair: &Pair) {
    let Some(attempt) = place.attempt() else { return };
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(LABEL.to_owned(), gang.as_str().to_owned());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    match gang {
        Gang::Volcano => {
            annotations.insert(VOLCANO_GROUP.to_owned(), group_name(query, attempt));
        }
        Gang::Yunikorn => {
            let uid = query.metadata.uid.as_deref().unwrap_or_default();
            for key in YUNIKORN_APP_LABELS {
                labels.insert(key.to_owned(), format!("floe-{uid}-{attempt}"));
            }
            let name = if place.role() == Role::Worker { "workers" } else { "coordinator" };
            annotations.insert(YUNIKORN_GROUP.to_owned(), name.to_owned());
            annotations.insert(YUNIKORN_GROUPS.to_owned(), task_groups(query, pair).to_string());
        }
    }
    if let Some(spec) = &mut pod.spec {
        spec.scheduler_name = Some(gang.as_str().to_owned());
    }
}

/// The pods that must find room together: the coordinator and as many workers as the query starts with.
fn task_groups(query: &DistributedQuery, pair: &Pair) -> Value {
    let group = |name: &str, count: u32, pod: &Pod| {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let asked: BTreeMap<String, String> =
            requests(spec).into_iter().map(|(name, milli)| (name, text(milli))).collect();
        let mut made = json!({"name": name, "minMember": count, "minResource": asked});
        // Room is held by pods that must go to the same nodes.
        for (key, value) in [
            ("nodeSelector", json!(spec.node_selector)),
            ("tolerations", json!(spec.tolerations)),
            ("affinity", json!(spec.affinity)),
            ("topologySpreadConstraints", json!(spec.topology_spread_constraints)),
        ] {
            if !value.is_null() {
                made[key] = value;
            }
        }
        made
    };
    let workers = query.spec.compute.workers_to_start();
    json!([group("coordinator", 1, &pair.coordinator), group("workers", workers, &pair.worker)])
}

/// A group of pods as Volcano sees it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "scheduling.volcano.sh",
    version = "v1beta1",
    kind = "PodGroup",
    plural = "podgroups",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct PodGroupSpec {
    pub min_member: u32,
    #[serde(default)]
    pub min_resources: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

fn group_name(query: &DistributedQuery, attempt: u32) -> String {
    names::gang(query.metadata.name.as_deref().unwrap_or_default(), attempt)
}

/// The PodGroup of an attempt. It belongs to the coordinator's pod: when that goes, nothing waits for room any more.
pub fn pod_group(query: &DistributedQuery, attempt: u32, owner: OwnerReference, pair: &Pair) -> PodGroup {
    let workers = query.spec.compute.workers_to_start();
    let mut asked = pair.coordinator.spec.as_ref().map(requests).unwrap_or_default();
    for (name, milli) in pair.worker.spec.as_ref().map(requests).unwrap_or_default() {
        *asked.entry(name).or_default() += milli * u128::from(workers);
    }
    let query_name = query.metadata.name.as_deref().unwrap_or_default();
    let annotations = pair.coordinator.metadata.annotations.as_ref();
    PodGroup {
        metadata: ObjectMeta {
            name: Some(group_name(query, attempt)),
            namespace: query.metadata.namespace.clone(),
            labels: Some(names::labels(query_name, "gang")),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: PodGroupSpec {
            min_member: workers + 1,
            min_resources: asked.into_iter().map(|(name, milli)| (name, text(milli))).collect(),
            queue: annotations.and_then(|annotations| annotations.get(VOLCANO_QUEUE)).cloned(),
            priority_class_name: pair.coordinator.spec.as_ref().and_then(|spec| spec.priority_class_name.clone()),
        },
    }
}

/// What the scheduler counts for a pod, in thousandths: its containers together, or an init container that asks for more.
fn requests(spec: &PodSpec) -> BTreeMap<String, u128> {
    let mut asked: BTreeMap<String, u128> = BTreeMap::new();
    let inits = || spec.init_containers.iter().flatten();
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    for container in spec.containers.iter().chain(inits().filter(is_sidecar)) {
        for (name, milli) in of_container(container) {
            *asked.entry(name).or_default() += milli;
        }
    }
    for container in inits().filter(|container| !is_sidecar(container)) {
        for (name, milli) in of_container(container) {
            let known: &mut u128 = asked.entry(name).or_default();
            *known = milli.max(*known);
        }
    }
    asked
}

/// Requests, and limits where there is no request, as the API server sets them.
fn of_container(container: &Container) -> BTreeMap<String, u128> {
    let Some(resources) = &container.resources else { return BTreeMap::new() };
    let limits = resources.limits.iter().flatten();
    let all = limits.chain(resources.requests.iter().flatten());
    all.filter_map(|(name, amount)| Some((name.clone(), Quantity::new(amount.0.as_str()).milli()?))).collect()
}

fn text(milli: u128) -> String {
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::build::{Defaults, PodInputs, pod, pod_pair};
    use crate::query::facts::PlanSecrets;

    const QUERY: &str = r#"
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q, namespace: n, uid: 6f3a-2c}
spec:
  plan: {python: {script: "result = scan('t')"}}
  tables: {t: {uri: s3://b/t.parquet}}
  compute:
    minWorkers: 3
    maxWorkers: 8
    cpus: 1500m
    memory: 4Gi
    nodeSelector: {disk: ssd}
    priorityClassName: high
    annotations: {scheduling.volcano.sh/queue-name: nightly}
    podTemplate: {spec: {containers: [{name: side, resources: {limits: {cpu: 250m, memory: 64Mi}}}]}}
"#;

    fn query(text: &str) -> DistributedQuery {
        floe_api::from_yaml(text).unwrap()
    }

    fn made(query: &DistributedQuery, place: Place, gang: Option<Gang>) -> Pod {
        pod(place, &inputs(query, &Defaults::default(), gang)).unwrap()
    }

    fn inputs<'a>(query: &'a DistributedQuery, defaults: &'a Defaults, gang: Option<Gang>) -> PodInputs<'a> {
        PodInputs { query, defaults, plan: PlanSecrets::default(), attempt: 2, image: None, grant: None, gang }
    }

    const COORDINATOR: Place = Place::Coordinator { attempt: 2 };
    const WORKER: Place = Place::Worker { attempt: 2, index: 5, replacement: 1 };

    #[test]
    fn a_group_of_volcano_has_all_that_the_query_starts_with() {
        let query = query(QUERY);
        let pair = pod_pair(2, &inputs(&query, &Defaults::default(), None)).unwrap();
        let owner = OwnerReference { kind: "Pod".into(), name: "q-2-c".into(), ..OwnerReference::default() };
        let group = pod_group(&query, 2, owner, &pair);
        let told = serde_json::to_value(&group).unwrap();
        assert_eq!(told["apiVersion"], "scheduling.volcano.sh/v1beta1");
        // 500m and three times 1500m, and four sidecars of 250m; 1Gi and three times 4Gi, and four times 64Mi.
        let wanted = json!({
            "minMember": 4, "queue": "nightly", "priorityClassName": "high",
            "minResources": {"cpu": "6", "memory": ((13u64 << 30) + (256 << 20)).to_string()},
        });
        assert_eq!(told["spec"], wanted);
        assert_eq!(told["metadata"]["ownerReferences"][0]["name"], "q-2-c");
        for place in [COORDINATOR, WORKER] {
            let pod = made(&query, place, Some(Gang::Volcano));
            assert_eq!(pod.metadata.annotations.unwrap()[VOLCANO_GROUP], told["metadata"]["name"].as_str().unwrap());
            assert_eq!(Gang::of_labels(&pod.metadata.labels.unwrap()), Some(Gang::Volcano));
            assert_eq!(pod.spec.unwrap().scheduler_name.as_deref(), Some("volcano"));
        }
    }

    /// The fields of the PodGroup's schema (scheduling.volcano.sh/v1beta1), and what they hold.
    #[test]
    fn a_group_of_volcano_has_only_fields_of_its_schema() {
        let query = query(QUERY);
        let pair = pod_pair(1, &inputs(&query, &Defaults::default(), None)).unwrap();
        let told = serde_json::to_value(pod_group(&query, 1, OwnerReference::default(), &pair)).unwrap();
        for (field, value) in told["spec"].as_object().unwrap() {
            let fits = match field.as_str() {
                "minMember" => value.as_i64().is_some_and(|count| i32::try_from(count).is_ok()),
                "queue" | "priorityClassName" => value.is_string(),
                "minResources" => value
                    .as_object()
                    .unwrap()
                    .values()
                    .all(|amount| amount.as_str().is_some_and(|amount| Quantity::new(amount).milli().is_some())),
                _ => false,
            };
            assert!(fits, "{field}: {value}");
        }
    }

    #[test]
    fn yunikorn_knows_the_groups_from_every_pod() {
        let query = query(QUERY);
        let (coordinator, worker) =
            (made(&query, COORDINATOR, Some(Gang::Yunikorn)), made(&query, WORKER, Some(Gang::Yunikorn)));
        for (pod, name) in [(&coordinator, "coordinator"), (&worker, "workers")] {
            let labels = pod.metadata.labels.as_ref().unwrap();
            assert!(YUNIKORN_APP_LABELS.iter().all(|key| labels[*key] == "floe-6f3a-2c-2"), "{labels:?}");
            let annotations = pod.metadata.annotations.as_ref().unwrap();
            assert_eq!(annotations[YUNIKORN_GROUP], name);
            let groups: Value = serde_json::from_str(&annotations[YUNIKORN_GROUPS]).unwrap();
            assert_eq!(groups[0]["name"], "coordinator");
            assert_eq!((&groups[0]["minMember"], &groups[1]["minMember"]), (&json!(1), &json!(3)));
            let memory = ((4u64 << 30) + (64 << 20)).to_string();
            assert_eq!(groups[1]["minResource"], json!({"cpu": "1750m", "memory": memory}));
            assert_eq!(groups[1]["nodeSelector"], json!({"disk": "ssd"}));
            assert_eq!(groups[1]["tolerations"], json!(worker.spec.as_ref().unwrap().tolerations));
            assert_eq!(pod.spec.as_ref().unwrap().scheduler_name.as_deref(), Some("yunikorn"));
        }
    }

    #[test]
    fn kueue_contexts_and_other_schedulers_are_left_alone() {
        let plain = query(QUERY);
        assert_eq!(of(&plain, None), None);
        assert_eq!(of(&plain, Some(Gang::Volcano)), Some(Gang::Volcano));
        let mut queued = plain.clone();
        queued.metadata.labels = Some([("kueue.x-k8s.io/queue-name".to_owned(), "main".to_owned())].into());
        let mut borrowing = plain.clone();
        borrowing.spec.compute.context_ref = Some(floe_api::NameRef { name: "warm".into() });
        let mut other = plain.clone();
        other.spec.compute.worker_pod_template = Some(json!({"spec": {"schedulerName": "default-scheduler"}}));
        for query in [queued, borrowing, other] {
            assert_eq!(of(&query, Some(Gang::Volcano)), None, "{:?}", query.spec.compute);
        }
        let mut same = plain;
        same.spec.compute.worker_pod_template = Some(json!({"spec": {"schedulerName": "volcano"}}));
        assert_eq!(of(&same, Some(Gang::Volcano)), Some(Gang::Volcano));
        let mut sly = same.clone();
        sly.spec.compute.pod_template = Some(json!({"metadata": {"labels": {LABEL: "volcano"}}}));
        assert!(!made(&sly, WORKER, None).metadata.labels.unwrap().contains_key(LABEL));
        // A pod that cleans up belongs to no attempt.
        let clean = made(&same, Place::Clean, Some(Gang::Yunikorn));
        assert!(!clean.metadata.labels.unwrap().contains_key(LABEL));
    }
}
