//! Reads everything that a decision about a context needs: its pods from the watch, its coordinators' reports and its
//! token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floe_api::{ComputeContext, DistributedQuerySpec, FieldError, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;

use super::facts::{Model, Seen};
use super::talk::Address;
use super::{Context, build, lock, names};
use crate::pods::Key;
use crate::poll::Worker;
use crate::query::error::ObserveError;
use crate::query::facts::{PodFacts, Trouble};
use crate::query::kubelet;
use crate::query::names::Place;
use crate::query::observe::{is_newer, is_owned};
use crate::query::policy::Policy;

/// Look up a created pod that the watch has not shown after this time.
const UNSEEN: SignedDuration = SignedDuration::from_secs(10);

type Result<T, E = ObserveError> = std::result::Result<T, E>;

/// Namespace and name, and the UID.
pub fn identity(context: &ComputeContext) -> Result<(Key, String)> {
    let meta = &context.metadata;
    match (&meta.namespace, &meta.name, &meta.uid) {
        (Some(namespace), Some(name), Some(uid)) => Ok(((namespace.clone(), name.clone()), uid.clone())),
        _ => Err(ObserveError::Anonymous),
    }
}

pub async fn observe(context: &Context, object: Arc<ComputeContext>, now: Timestamp) -> Result<Seen> {
    let (key, uid) = identity(&object)?;
    let memory = context.memory(&uid);
    let client = &context.shared.client;
    let unseen = lock(&memory).pods.unseen(now - UNSEEN);
    for pod in unseen {
        let api: Api<Pod> = Api::namespaced(client.clone(), &key.0);
        let found = api.get_metadata_opt(&pod).await.map_err(|source| ObserveError::Read { what: "a pod", source })?;
        if found.is_none() {
            lock(&memory).pods.seen(&pod);
        }
    }
    let views = context.pods(&key.0).map(|index| index.of(&key.0, &key.1)).unwrap_or_default();
    let mut pods: Vec<PodFacts> =
        views.iter().filter(|pod| is_owned(&***pod, &uid)).filter_map(|pod| kubelet::facts(pod, now)).collect();
    let (gone, token) = {
        let mut memory = lock(&memory);
        (memory.pods.complete(&mut pods), memory.token.clone())
    };
    let token = match token {
        Some(token) => Some(token),
        None => read_token(context, &key, &uid).await?,
    };
    lock(&memory).token.clone_from(&token);
    let model = model(context, &object);
    let seen = {
        let mut memory = lock(&memory);
        let seen_status = object.status.clone().unwrap_or_default();
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        let status = match &memory.written {
            Some((written, status)) if is_newer(written, &version) => status.clone(),
            _ => {
                memory.written = None;
                seen_status
            }
        };
        Seen {
            context: object,
            status,
            pods,
            gone,
            engines: BTreeMap::new(),
            model,
            trouble: memory.trouble.clone(),
            hold_until: memory.hold_until,
        }
    };
    Ok(listen(context, seen, &key, token))
}

/// Has the talks poll all running coordinators, and collects what they reported.
fn listen(context: &Context, mut seen: Seen, key: &Key, token: Option<String>) -> Seen {
    let mut followed = BTreeSet::new();
    let mut engines = BTreeMap::new();
    for pod in &seen.pods {
        let Place::Coordinator { attempt: revision } = pod.place else { continue };
        let (true, Some(ip), Some(token)) = (pod.is_running(), &pod.ip, &token) else { continue };
        let workers = seen.workers(revision).filter(|worker| worker.is_running());
        let workers =
            workers.filter_map(|worker| Some(Worker { name: worker.name.clone(), ip: worker.ip.clone()? })).collect();
        let address = Address { pod: pod.uid.clone(), ip: ip.clone(), token: token.clone() };
        context.talks.follow(key.clone(), address, workers);
        followed.insert(pod.uid.as_str());
        engines.insert(revision, context.talks.heard(&pod.uid));
    }
    context.talks.keep_only(key, &followed);
    seen.engines = engines;
    seen
}

async fn read_token(context: &Context, key: &Key, uid: &str) -> Result<Option<String>> {
    let api: Api<Secret> = Api::namespaced(context.shared.client.clone(), &key.0);
    let found = api.get_opt(&names::secret(&key.1, uid)).await;
    let found = found.map_err(|source| ObserveError::Read { what: "the context's Secret", source })?;
    Ok(found.filter(|secret| is_owned(secret, uid)).as_ref().and_then(build::read_token))
}

/// What the pods would be made of, or why the spec cannot run.
fn model(context: &Context, object: &ComputeContext) -> Result<Model, Trouble> {
    let mut faults = floe_api::validate::validate_name(object.metadata.name.as_deref());
    faults.extend(floe_api::validate_context(&object.spec));
    let told = |reason: Reason, faults: &[FieldError]| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Trouble { reason, message: lines.join("; "), fatal: true }
    };
    if !faults.is_empty() {
        return Err(told(Reason::BadSpec, &faults));
    }
    let refused = not_allowed(object, &context.shared.settings.policy);
    if !refused.is_empty() {
        return Err(told(Reason::NotAllowed, &refused));
    }
    build::model(object, &context.shared.defaults).map_err(|fault| Trouble {
        reason: Reason::BadSpec,
        message: fault.to_string(),
        fatal: true,
    })
}

/// What the policy forbids in the pods; it would forbid the same to a query.
fn not_allowed(object: &ComputeContext, policy: &Policy) -> Vec<FieldError> {
    let mut compute = object.spec.compute.clone();
    compute.workers = Some(object.spec.max_workers);
    let faults = policy.faults(&DistributedQuerySpec { compute, ..DistributedQuerySpec::default() });
    let mut faults: Vec<FieldError> =
        faults.into_iter().filter(|fault| fault.path.starts_with("spec.compute")).collect();
    for fault in faults.iter_mut().filter(|fault| fault.path == "spec.compute.workers") {
        "spec.maxWorkers".clone_into(&mut fault.path);
    }
    faults
}
