//! Builds the objects of a context. Its pods are built like those of a query and then adapted: they belong to the
//! context, and the coordinator serves many queries. Pure.

use std::collections::BTreeMap;

use floe_api::{ComputeContext, DistributedQuery, DistributedQuerySpec, Quantity};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use sha2::{Digest, Sha256};

use super::facts::Model;
use super::names::{self, LABEL_CONTEXT};
use crate::query::build::{self, BuildError, Defaults, PodInputs, TOKEN_KEY};
use crate::query::facts::PlanSecrets;
use crate::query::kubelet::MAIN;
use crate::query::names::{Place, Role, labels};

/// Results up to this size stay in the coordinator's memory; there may be many of them.
const RESULT_HERE_BYTES: u64 = 64 << 10;
/// Maximum number of ended queries that the coordinator remembers until the operator has read their outcome.
const MAX_REMEMBERED_QUERIES: u32 = 2000;
/// Memory to reserve in the coordinator per query being planned; the query's plan script may run beside it.
const PLAN_BYTES: u64 = 512 << 20;

/// Represents the context as a query with the same pods.
pub fn as_query(context: &ComputeContext) -> DistributedQuery {
    let spec = DistributedQuerySpec { compute: context.spec.compute.clone(), ..DistributedQuerySpec::default() };
    DistributedQuery { metadata: context.metadata.clone(), spec, status: None }
}

/// Identifies what the pods are made of, to tell them from the pods of another spec.
pub fn model(context: &ComputeContext, defaults: &Defaults) -> Result<Model, BuildError> {
    // The number of workers does not affect a pod.
    let mut fixed = context.clone();
    fixed.spec.max_workers = 1;
    let coordinator = pod(Place::Coordinator { attempt: 0 }, &fixed, defaults, None)?;
    let worker = pod(names::worker(0, 0), &fixed, defaults, None)?;
    let text = serde_json::to_string(&(&coordinator, &worker))?;
    let digest = Sha256::digest(text.as_bytes());
    let digest = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let main = worker.spec.into_iter().flat_map(|spec| spec.containers).find(|container| container.name == MAIN);
    Ok(Model { digest, image: main.and_then(|container| container.image).unwrap_or_default() })
}

/// `image`: the image of the revision.
pub fn pod(
    place: Place,
    context: &ComputeContext,
    defaults: &Defaults,
    image: Option<&str>,
) -> Result<Pod, BuildError> {
    let query = as_query(context);
    let inputs =
        PodInputs { query: &query, defaults, plan: PlanSecrets::default(), attempt: 1, image, grant: None, gang: None };
    let mut pod = build::pod(place, &inputs)?;
    let (name, uid) = identity(context);
    let own = names::pod(name, place);
    if let Some(spec) = &mut pod.spec {
        for container in spec.containers.iter_mut().filter(|container| container.name == MAIN) {
            match place.role() {
                Role::Coordinator => serve(container, context),
                Role::Worker | Role::Clean => put(container, "FLOE_WORKER_ID", &own),
            }
            take_token(container, &names::secret(name, uid));
        }
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(|volume| volume.name != JOB_VOLUME);
        }
    }
    let mut labels = pod.metadata.labels.take().unwrap_or_default();
    names::relabel(&mut labels, name);
    let annotations = pod.metadata.annotations.take();
    pod.metadata = ObjectMeta { annotations, ..meta(context, own, labels) };
    Ok(pod)
}

const JOB_VOLUME: &str = "floe-job";

/// Configures the coordinator to serve many queries instead of one job.
fn serve(container: &mut Container, context: &ComputeContext) {
    let (spec, size) = (&context.spec, &context.spec.compute.coordinator);
    let (memory, disk) = (size.memory.bytes().unwrap_or(0), size.scratch.bytes().unwrap_or(0));
    let args = [
        ("--joining-workers", spec.max_workers.to_string()),
        ("--threads", spec.compute.cpus.threads().unwrap_or(1).to_string()),
        ("--max-running", spec.max_queries_at_once.to_string()),
        ("--max-waiting", spec.queue.max_queries.to_string()),
        ("--max-waiting-bytes", spec.queue.max_size.bytes().unwrap_or(0).to_string()),
        ("--plans-at-once", (memory / PLAN_BYTES).max(1).to_string()),
        ("--remember-queries", MAX_REMEMBERED_QUERIES.to_string()),
        ("--result-here-bytes", RESULT_HERE_BYTES.to_string()),
        // No single result may take all the space.
        ("--result-disk-bytes", (disk / 4).to_string()),
        ("--results-bytes", (disk / 2).to_string()),
    ];
    let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    // Pass name and value as one argument: a value may begin with a dash.
    let fair = spec.fair_share.iter().flat_map(|fair| {
        let weights = fair.weights.iter().map(|(value, weight)| format!("--fair-weight={value}={weight}"));
        std::iter::once(format!("--fair-by={}", fair.label)).chain(weights)
    });
    container.args = Some(std::iter::once("serve".to_owned()).chain(args).chain(fair).collect());
    const OF_A_JOB: [&str; 6] = [
        "FLOE_JOB",
        "FLOE_STAY",
        "FLOE_LINGER_SECONDS",
        "FLOE_TERMINATION_LOG",
        "FLOE_RESULT_HERE_BYTES",
        "FLOE_RESULT_DISK_BYTES",
    ];
    if let Some(env) = &mut container.env {
        env.retain(|variable| !OF_A_JOB.contains(&variable.name.as_str()));
    }
    if let Some(mounts) = &mut container.volume_mounts {
        mounts.retain(|mount| mount.name != JOB_VOLUME);
    }
}

fn put(container: &mut Container, name: &str, value: &str) {
    let env = container.env.get_or_insert_default();
    env.retain(|variable| variable.name != name);
    env.push(EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None });
}

fn take_token(container: &mut Container, secret: &str) {
    let env = container.env.iter_mut().flatten().filter(|variable| variable.name == "FLOE_TOKEN");
    for key in env.filter_map(|variable| variable.value_from.as_mut()?.secret_key_ref.as_mut()) {
        secret.clone_into(&mut key.name);
    }
}

pub fn secret(context: &ComputeContext, token: &str) -> Secret {
    let (name, uid) = identity(context);
    let mut labels = labels(name, "context");
    names::relabel(&mut labels, name);
    Secret {
        metadata: meta(context, names::secret(name, uid), labels),
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some(BTreeMap::from([(TOKEN_KEY.to_owned(), ByteString(token.as_bytes().to_vec()))])),
        string_data: None,
    }
}

pub fn read_token(secret: &Secret) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(TOKEN_KEY)?.0.clone()).ok()
}

/// Admits the context's own pods and the operator.
pub fn network_policy(context: &ComputeContext, defaults: &Defaults) -> NetworkPolicy {
    let (name, _) = identity(context);
    let mut policy = build::network_policy(&as_query(context), defaults);
    let own = LabelSelector {
        match_labels: Some([(LABEL_CONTEXT.to_owned(), name.to_owned())].into()),
        ..LabelSelector::default()
    };
    if let Some(spec) = &mut policy.spec {
        for peer in spec.ingress.iter_mut().flatten().flat_map(|rule| rule.from.iter_mut().flatten()) {
            if peer.pod_selector == spec.pod_selector && peer.namespace_selector.is_none() {
                peer.pod_selector = Some(own.clone());
            }
        }
        spec.pod_selector = Some(own);
    }
    let mut labels = policy.metadata.labels.take().unwrap_or_default();
    names::relabel(&mut labels, name);
    policy.metadata = meta(context, names::policy(name), labels);
    policy
}

/// Sets the compute of a query that borrows the context: the sizes that the query is planned for.
pub fn sizes(own: &mut floe_api::ComputeSpec, lent: &floe_api::ComputeSpec) {
    own.cpus.clone_from(&lent.cpus);
    own.memory.clone_from(&lent.memory);
    own.coordinator.clone_from(&lent.coordinator);
    // The pods are there already.
    own.coordinator.pod_template = None;
    own.scratch.clone_from(&lent.scratch);
}

/// Memory limit for a plan script: at most what is counted for a query being planned.
pub fn script_memory(lent: &floe_api::ComputeSpec) -> Quantity {
    let all = lent.coordinator.memory.bytes().unwrap_or(0);
    Quantity::new((all / 2).max(PLAN_BYTES.min(all)).to_string())
}

fn identity(context: &ComputeContext) -> (&str, &str) {
    let meta = &context.metadata;
    (meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default())
}

fn meta(context: &ComputeContext, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: context.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![build::owner(context)]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARM: &str = r#"
apiVersion: floe.dev/v1alpha1
kind: ComputeContext
metadata: {name: warm, namespace: n}
spec: {maxWorkers: 3, maxQueriesAtOnce: 9, fairShare: {label: user, weights: {al: 2}}, compute: {cpus: 2, memory: 4Gi, env: [{name: A, value: b}]}}
"#;

    fn context() -> ComputeContext {
        let mut context = floe_api::context_from_yaml(WARM).unwrap();
        context.metadata.uid = Some("6f3a-uid".into());
        context
    }

    fn defaults() -> Defaults {
        Defaults {
            runner_image: "runner:1".into(),
            operator_namespace: Some("floe-system".into()),
            ..Defaults::default()
        }
    }

    fn main(pod: &Pod) -> &Container {
        pod.spec.as_ref().unwrap().containers.iter().find(|container| container.name == MAIN).unwrap()
    }

    #[test]
    fn the_coordinator_serves_and_nothing_of_a_query_is_left_in_its_pods() {
        let context = context();
        let coordinator = pod(Place::Coordinator { attempt: 2 }, &context, &defaults(), Some("runner:0")).unwrap();
        let worker = pod(names::worker(2, 7), &context, &defaults(), Some("runner:0")).unwrap();
        assert_eq!(coordinator.metadata.name.as_deref(), Some("warm-g2-c"));
        assert_eq!(worker.metadata.name.as_deref(), Some("warm-g2-w7"));
        let args = main(&coordinator).args.clone().unwrap();
        assert_eq!(args[..3], ["serve", "--joining-workers", "3"]);
        assert!(args.windows(2).any(|pair| pair == ["--max-running", "9"]), "{args:?}");
        assert!(args.ends_with(&["--fair-by=user".into(), "--fair-weight=al=2".into()]), "{args:?}");
        for made in [&coordinator, &worker] {
            let text = serde_json::to_string(made).unwrap();
            assert!(
                !text.contains("floe.dev/query") && !text.contains("floe-job") && !text.contains("FLOE_JOB"),
                "{text}"
            );
            assert!(
                text.contains(r#""floe.dev/context":"warm""#) && text.contains(r#""kind":"ComputeContext""#),
                "{text}"
            );
            assert!(text.contains("warm-context-6f3a") && text.contains(r#""image":"runner:0""#), "{text}");
            assert!(text.contains(r#"{"name":"A","value":"b"}"#), "{text}");
            let labels = made.metadata.labels.as_ref().unwrap();
            assert!(Place::of_labels(labels).is_some());
        }
        let id = main(&worker).env.iter().flatten().find(|variable| variable.name == "FLOE_WORKER_ID").unwrap();
        assert_eq!(id.value.as_deref(), Some("warm-g2-w7"));
        let policy = network_policy(&context, &defaults());
        let text = serde_json::to_string(&policy).unwrap();
        assert!(!text.contains("floe.dev/query") && text.matches("floe.dev/context").count() >= 3, "{text}");
        assert!(text.contains("floe-system"), "{text}");
    }

    #[test]
    fn what_changes_a_pod_changes_the_model_and_the_number_of_workers_does_not() {
        let made = |change: fn(&mut ComputeContext), image: &str| {
            let mut context = context();
            change(&mut context);
            model(&context, &Defaults { runner_image: image.into(), ..defaults() }).unwrap()
        };
        let same = made(|_| {}, "runner:1");
        assert_eq!(made(|_| {}, "runner:1"), same);
        assert_eq!(
            made(|c| (c.spec.min_workers, c.spec.max_workers, c.spec.idle_timeout_seconds) = (0, 8, 5), "runner:1"),
            same
        );
        assert_ne!(made(|_| {}, "runner:2"), same);
        assert_ne!(made(|c| c.spec.compute.memory = "8Gi".into(), "runner:1"), same);
        assert_ne!(made(|c| c.spec.max_queries_at_once = 2, "runner:1"), same);
        assert_eq!(made(|c| c.spec.compute.image = Some("own:1".into()), "runner:1").image, "own:1");
    }
}
