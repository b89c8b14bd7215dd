//! Reads everything that a decision needs: the pods from the watch, the coordinator's report, and, if a start asks for
//! it, the Secrets and ConfigMaps that the spec names. The only step that reads from the cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use floe_api::Reason;
use floe_api::job::StorageOptions;
use floe_api::validate::is_object_name;
use floe_api::{DistributedQuery, DistributedQueryStatus, StorageSpec};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use kube::api::{DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Api, Resource};

use super::error::ObserveError;
use super::facts::{Inputs, Loss, Missing, Observed, PodFacts, PodState, Stuck, Turn};
use super::memory::Memory;
use super::names::{self, Place};
use super::{Context, build, kubelet};
use crate::context::register::Loan;
use crate::kueue::Standing;
use crate::poll::{Address, Worker};
use crate::shares::Share;

/// Look up a created pod that the watch has not shown after this time.
const UNSEEN: SignedDuration = SignedDuration::from_secs(10);
/// A scheduled pod that has not started after this time may wait for a volume: read its Events.
const VOLUME: SignedDuration = SignedDuration::from_secs(5);
const VOLUME_AGAIN: SignedDuration = SignedDuration::from_secs(10);

type Result<T, E = ObserveError> = std::result::Result<T, E>;

pub async fn observe(
    context: &Context,
    query: Arc<DistributedQuery>,
    unreadable: Option<String>,
    now: Timestamp,
) -> Result<Observed> {
    let (namespace, name, uid) = identity(&query)?;
    let memory = context.memories.of(&uid);
    let unseen = lock(&memory).unseen(now - UNSEEN);
    for pod in unseen {
        let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
        let found = api.get_metadata_opt(&pod).await.map_err(|source| ObserveError::Read { what: "a pod", source })?;
        if found.is_none() {
            lock(&memory).seen(&pod);
        }
    }

    let views = context.pods(&namespace).map(|index| index.of(&namespace, &name)).unwrap_or_default();
    let mut pods: Vec<PodFacts> =
        views.iter().filter(|pod| is_owned(&***pod, &uid)).filter_map(|pod| kubelet::facts(pod, now)).collect();
    for pod in &mut pods {
        if pod.state == PodState::Waiting(None)
            && pod.node.is_some()
            && pod.deleting_at.is_none()
            && pod.created_at.is_some_and(|at| now.duration_since(at) > VOLUME)
        {
            let known = lock(&memory).volume_words.get(&pod.uid).cloned();
            let words = match known {
                Some((asked, words)) if now.duration_since(asked) < VOLUME_AGAIN => words,
                _ => {
                    let words = volume_words(context, &namespace, &pod.uid).await;
                    lock(&memory).volume_words.insert(pod.uid.clone(), (now, words.clone()));
                    words
                }
            };
            if let Some(words) = words {
                pod.state = PodState::Waiting(Some(Stuck { reason: Reason::Volume, words, fatal: false }));
            }
        }
    }
    let departed = context.pods(&namespace).map(|index| index.departed(&namespace, &name)).unwrap_or_default();
    let why = |name: String| {
        let mut last = departed.iter().filter(|pod| is_owned(&***pod, &uid)).filter_map(|pod| kubelet::facts(pod, now));
        let loss = last.rfind(|pod| pod.name == name).and_then(|pod| pod.loss());
        (name, loss.unwrap_or_else(Loss::deleted))
    };
    let gone = lock(&memory).complete(&mut pods).into_iter().map(why).collect();
    let seen_status = match &unreadable {
        None => query.status.clone().unwrap_or_default(),
        Some(_) => raw_status(context, &namespace, &name).await?,
    };
    let version = query.metadata.resource_version.clone().unwrap_or_default();
    let status = lock(&memory).status(&version, &seen_status);
    let trouble = lock(&memory).trouble.clone();
    // Once the query has started, the others no longer matter.
    let has_started = query.metadata.finalizers.iter().flatten().any(|name| name == names::FINALIZER);
    let has_ended = status.phase.is_some_and(|phase| phase.is_terminal());
    let before = match has_started || has_ended {
        true => Vec::new(),
        false => context.chain.before(&(namespace.clone(), name.clone()), &query),
    };
    let mut observed = Observed {
        query,
        status,
        pods,
        gone,
        report: None,
        is_absent: false,
        silence: None,
        loan: Loan::Own,
        lender: None,
        inputs: None,
        trouble,
        pins: None,
        before,
        standing: Standing::Free,
        share: Share::Free,
        turn: Turn::Free,
        unreadable,
    };
    if let Some(lender) = &observed.query.spec.compute.context_ref {
        let borrowed = (namespace.clone(), lender.name.clone());
        observed.loan = context.register.borrow(borrowed, (namespace.clone(), name.clone()));
        observed.lender = lender_of(&observed);
    }
    ask_coordinator(context, &observed, &namespace, &name, &uid).await?;
    let heard = context.poller.heard(&uid, observed.attempt());
    (observed.report, observed.silence, observed.is_absent) = (heard.report, heard.silence, heard.is_absent);
    Ok(observed)
}

/// The context's coordinator that runs the current attempt.
fn lender_of(observed: &Observed) -> Option<PodFacts> {
    let Loan::Lent(lent) = &observed.loan else { return None };
    let seat = observed.status.context.as_ref()?;
    let pod = lent.coordinators.iter().find(|pod| pod.uid == seat.coordinator_uid)?;
    Some(PodFacts { place: Place::Coordinator { attempt: observed.attempt() }, ..pod.clone() })
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Namespace, name and UID.
pub fn identity(query: &DistributedQuery) -> Result<(String, String, String)> {
    let meta = &query.metadata;
    match (&meta.namespace, &meta.name, &meta.uid) {
        (Some(namespace), Some(name), Some(uid)) => Ok((namespace.clone(), name.clone(), uid.clone())),
        _ => Err(ObserveError::Anonymous),
    }
}

/// Has the poller follow the coordinator while it runs and the query is not over, and tell running workers its address.
async fn ask_coordinator(context: &Context, observed: &Observed, namespace: &str, name: &str, uid: &str) -> Result<()> {
    let at_work = observed.status.phase.is_none_or(|phase| !phase.is_terminal());
    // A context's coordinator outlives the query: keep polling until it reports that it has cleaned up.
    let at_work = at_work || observed.is_borrowed() && observed.has_finalizer();
    let Some(pod) = observed.coordinator().filter(|pod| at_work && pod.state == PodState::Running) else {
        context.poller.rest(uid);
        return Ok(());
    };
    let (Some(ip), attempt) = (&pod.ip, observed.attempt()) else { return Ok(()) };
    let Some(token) = token(context, namespace, name, uid, attempt).await? else { return Ok(()) };
    let address = Address { id: uid.to_owned(), attempt, ip: ip.clone(), token, is_lent: observed.is_borrowed() };
    let workers = observed.pods.iter().filter(|pod| {
        pod.state == PodState::Running && matches!(pod.place, Place::Worker { attempt: of, .. } if of == attempt)
    });
    let workers = workers.filter_map(|pod| Some(Worker { name: pod.name.clone(), ip: pod.ip.clone()? })).collect();
    context.poller.follow((namespace.to_owned(), name.to_owned()), address, workers);
    Ok(())
}

/// The token of an attempt, from memory or from its Secret.
pub async fn token(context: &Context, namespace: &str, name: &str, uid: &str, attempt: u32) -> Result<Option<String>> {
    let memory = context.memories.of(uid);
    if let Some((of, token)) = &lock(&memory).token
        && *of == attempt
    {
        return Ok(Some(token.clone()));
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let secret = api
        .get_opt(&names::job_secret(name, uid, attempt))
        .await
        .map_err(|source| ObserveError::Read { what: "the attempt's Secret", source })?;
    let token =
        secret.filter(|secret| is_owned(secret, uid)).and_then(|secret| build::read_first(&secret)).map(|s| s.2);
    if let Some(token) = &token {
        lock(&memory).token = Some((attempt, token.clone()));
    }
    Ok(token)
}

/// Compares resource versions as increasing numbers.
pub fn is_newer(written: &str, seen: &str) -> bool {
    match (written.parse::<u64>(), seen.parse::<u64>()) {
        (Ok(written), Ok(seen)) => written > seen,
        _ => false,
    }
}

pub fn is_owned<K: Resource>(object: &K, uid: &str) -> bool {
    object.meta().owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// Why a volume of the pod is not mounted, in the kubelet's words. `None` if that cannot be read.
async fn volume_words(context: &Context, namespace: &str, uid: &str) -> Option<String> {
    let api: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let of_pod = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(50);
    let events = api.list(&of_pod).await.ok()?;
    let telling = ["FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"];
    let event = events.items.into_iter().rfind(|e| e.reason.as_deref().is_some_and(|r| telling.contains(&r)))?;
    Some(format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
}

/// The status of an object whose spec cannot be parsed.
async fn raw_status(context: &Context, namespace: &str, name: &str) -> Result<DistributedQueryStatus> {
    let kind = ApiResource::erase::<DistributedQuery>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let object = api.get_opt(name).await.map_err(|source| ObserveError::Read { what: "the query", source })?;
    let status = object.and_then(|object| object.data.get("status").cloned());
    Ok(status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default())
}

/// Reads everything that a start needs, including the object itself, because the watch's copy may be old and trimmed.
pub async fn inputs(context: &Context, query: &DistributedQuery, loan: &Loan, attempt: u32) -> Result<Option<Inputs>> {
    let (namespace, name, uid) = identity(query)?;
    let queries: Api<DistributedQuery> = Api::namespaced(context.client.clone(), &namespace);
    let fresh = queries.get_opt(&name).await.map_err(|source| ObserveError::Read { what: "the query", source })?;
    // The query was deleted, or another has taken its name.
    let Some(mut fresh) = fresh.filter(|fresh| fresh.metadata.uid.as_deref() == Some(uid.as_str())) else {
        return Ok(None);
    };
    if let Loan::Lent(lent) = loan {
        fresh.spec.storage = fresh.spec.storage.or_else(|| lent.storage.clone());
    }
    let mut reader = Reader { context, namespace: &namespace, missing: Vec::new() };
    let mut secrets = BTreeMap::new();
    let spec = &fresh.spec;
    let mut storages: Vec<(&str, &StorageSpec)> = spec.storage.iter().map(|s| ("", s)).collect();
    storages.extend(spec.storages.iter().map(|(name, s)| (name.as_str(), s)));
    for (storage, of) in storages {
        let Some(reference) = &of.secret_ref else { continue };
        let field = if storage.is_empty() { "spec.storage".to_owned() } else { format!("spec.storages.{storage}") };
        if let Some(options) = reader.options(&reference.name, &field).await? {
            secrets.insert(storage.to_owned(), options);
        }
    }
    let mut catalog_secrets = BTreeMap::new();
    for (name, catalog) in &spec.catalogs {
        let Some(reference) = &catalog.secret_ref else { continue };
        if let Some(properties) = reader.options(&reference.name, &format!("spec.catalogs.{name}")).await? {
            catalog_secrets.insert(name.clone(), properties);
        }
    }
    if let Some(dsl) = &spec.plan.dsl {
        if let Some(key) = &dsl.config_map_key_ref {
            reader.config_map_key(&key.name, &key.key).await?;
        }
        if let Some(key) = &dsl.secret_key_ref {
            reader.secret_key(&key.name, &key.key).await?;
        }
    }
    let missing = reader.missing;
    let mut first = None;
    if attempt > 1 {
        let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
        let secret = api
            .get_opt(&names::job_secret(&name, &uid, 1))
            .await
            .map_err(|source| ObserveError::Read { what: "the first attempt's Secret", source })?;
        let secret = secret.filter(|secret| is_owned(secret, &uid));
        first = secret.and_then(|secret| build::read_first(&secret)).map(|(job, plan, _)| (job, plan));
    }
    Ok(Some(Inputs { query: Arc::new(fresh), secrets, catalog_secrets, first, missing }))
}

struct Reader<'a> {
    context: &'a Context,
    namespace: &'a str,
    missing: Vec<Missing>,
}

impl Reader<'_> {
    async fn secret(&mut self, name: &str, field: &str) -> Result<Option<Secret>> {
        // The name becomes part of a URL. Validation reports an invalid one.
        if !is_object_name(name) {
            return Ok(None);
        }
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), self.namespace);
        match api.get_opt(name).await {
            Ok(Some(secret)) => Ok(Some(secret)),
            Ok(None) => {
                self.miss(Reason::MissingSecret, format!("{field}: there is no Secret {name} in this namespace"));
                Ok(None)
            }
            Err(kube::Error::Api(answer)) if answer.code == 403 => {
                self.miss(Reason::Forbidden, format!("{field}: the operator may not read Secret {name}"));
                Ok(None)
            }
            Err(source) => Err(ObserveError::Read { what: "a Secret", source }),
        }
    }

    /// Reads the Secret of a storage or catalog as options. Their values never appear in a message.
    async fn options(&mut self, name: &str, field: &str) -> Result<Option<StorageOptions>> {
        let field = format!("{field}.secretRef");
        let Some(secret) = self.secret(name, &field).await? else { return Ok(None) };
        let mut options = StorageOptions::new();
        for (key, value) in secret.data.unwrap_or_default() {
            match String::from_utf8(value.0) {
                // A line break at the end of a file is not part of the value.
                Ok(text) => options.insert(key, text.trim_end_matches(['\n', '\r']).into()),
                Err(_) => {
                    self.miss(Reason::MissingSecret, format!("{field}: key {key} of Secret {name} is not text"));
                    return Ok(None);
                }
            };
        }
        if options.is_empty() {
            self.miss(Reason::MissingSecret, format!("{field}: Secret {name} is empty"));
            return Ok(None);
        }
        Ok(Some(options))
    }

    async fn secret_key(&mut self, name: &str, key: &str) -> Result<()> {
        let field = "spec.plan.dsl.secretKeyRef";
        let Some(secret) = self.secret(name, field).await? else { return Ok(()) };
        if !secret.data.is_some_and(|data| data.contains_key(key)) {
            self.miss(Reason::MissingSecret, format!("{field}: Secret {name} has no key {key}"));
        }
        Ok(())
    }

    async fn config_map_key(&mut self, name: &str, key: &str) -> Result<()> {
        let field = "spec.plan.dsl.configMapKeyRef";
        if !is_object_name(name) {
            return Ok(());
        }
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), self.namespace);
        let map = api.get_opt(name).await.map_err(|source| ObserveError::Read { what: "a ConfigMap", source })?;
        let Some(map) = map else {
            self.miss(Reason::MissingConfigMap, format!("{field}: there is no ConfigMap {name} in this namespace"));
            return Ok(());
        };
        let has = map.data.is_some_and(|d| d.contains_key(key)) || map.binary_data.is_some_and(|d| d.contains_key(key));
        if !has {
            self.miss(Reason::MissingConfigMap, format!("{field}: ConfigMap {name} has no key {key}"));
        }
        Ok(())
    }

    fn miss(&mut self, reason: Reason, message: String) {
        self.missing.push(Missing { reason, message });
    }
}
