//! Carries out the actions of a plan, wave by wave, those of a wave concurrently. Decides nothing: an action that was
//! already carried out is no error, and an object of the same name that does not belong to the query is left alone.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use floe_api::DistributedQuery;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::ApplyError;
use super::facts::{Observed, PlanSecrets, Turn};
use super::names::{self, FINALIZER, MANAGER, Place, TRACEPARENT};
use super::observe::{self, is_owned};
use super::plan::Action;
use super::{Context, build, handover};
use crate::context::register::Loan;
use crate::context::talk;
use crate::gang::{self, PodGroup};
use crate::kueue;
use crate::poll::Address;
use crate::telemetry;

/// The finalizer's own field manager: applying an empty list under it removes the finalizer that was applied under it.
const FINALIZER_MANAGER: &str = "floe-operator-cleanup";
const AT_ONCE: usize = 16;

type Result<T, E = ApplyError> = std::result::Result<T, E>;
/// The query's metadata after a change.
type Patched = Result<PartialObjectMeta<DistributedQuery>, kube::Error>;

/// The outcome of applying a plan.
#[derive(Default)]
pub struct Applied {
    /// What was refused, in the order of the actions: the same refusals yield the same message.
    pub errors: Vec<ApplyError>,
    /// The query's version after its metadata was changed.
    pub version: Option<String>,
}

/// What one wave leaves for the next.
#[derive(Default)]
struct Made {
    plan: Option<PlanSecrets>,
    version: Option<String>,
    /// A quota is full: create no further pods.
    is_full: bool,
}

pub async fn apply(context: &Context, observed: &Observed, actions: &[Action]) -> Applied {
    let made = Mutex::new(Made::default());
    let mut errors = Vec::new();
    let waves: std::collections::BTreeSet<u8> = actions.iter().map(Action::wave).collect();
    for wave in waves {
        let run = Run { context, observed, made: &made };
        // If others wait for the same quota, create one pod after the other, so that only one is refused.
        let at_once = if matches!(observed.turn, Turn::Free) { AT_ONCE } else { 1 };
        let work: Vec<_> =
            actions.iter().filter(|action| action.wave() == wave).map(|action| run.act(action).boxed()).collect();
        let results: Vec<_> = futures::stream::iter(work).buffered(at_once).collect().await;
        errors.extend(results.into_iter().filter_map(Result::err));
        if !errors.is_empty() {
            break;
        }
    }
    let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    Applied { errors, version: made.version }
}

/// Creates an object, or finds the owner's own. One that changes over time is updated.
pub async fn ensure<K>(
    api: &Api<K>,
    owner: &OwnerReference,
    kind: &'static str,
    mut object: K,
    changes: bool,
) -> Result<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let failed = |source| ApplyError::Api { kind, name: name.clone(), source };
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, &object).await {
        Ok(made) => return Ok(made),
        Err(kube::Error::Api(answer)) if answer.code == 409 => {}
        Err(source) => return Err(failed(source)),
    }
    let Some(found) = api.get_opt(&name).await.map_err(failed)? else {
        return Err(ApplyError::Incomplete("an object was there and is gone: once more"));
    };
    if !is_owned(&found, &owner.uid) {
        // The owner was deleted and created again: the garbage collector removes the objects of the former one.
        let mut owners = found.meta().owner_references.iter().flatten();
        if owners.any(|former| former.kind == owner.kind && former.name == owner.name) {
            return Err(ApplyError::Former { kind, name });
        }
        return Err(ApplyError::Foreign { kind, name });
    }
    if found.meta().deletion_timestamp.is_some() {
        return Err(ApplyError::Incomplete("an object of the same name is still being deleted"));
    }
    if !changes {
        return Ok(found);
    }
    // The UID ensures that this is the object found, and no other that has taken its name since.
    object.meta_mut().uid.clone_from(&found.meta().uid);
    let mut body = serde_json::to_value(&object).map_err(build::BuildError::from)?;
    body["apiVersion"] = K::api_version(&()).into();
    body["kind"] = K::kind(&()).into();
    let params = PatchParams::apply(MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(body)).await.map_err(failed)
}

struct Run<'a> {
    context: &'a Context,
    observed: &'a Observed,
    made: &'a Mutex<Made>,
}

impl Run<'_> {
    fn query(&self) -> &DistributedQuery {
        &self.observed.query
    }

    fn name(&self) -> &str {
        self.observed.name()
    }

    fn uid(&self) -> &str {
        self.query().metadata.uid.as_deref().unwrap_or_default()
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        let namespace = self.query().metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.context.client.clone(), namespace)
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn act(&self, action: &Action) -> Result<()> {
        match action {
            Action::AddFinalizer => self.add_finalizer().await,
            Action::RemoveFinalizer => self.remove_finalizer().await,
            Action::EnsureJob { attempt } => self.ensure_job(*attempt).await,
            Action::EnsurePolicy => {
                let policy = build::network_policy(self.query(), &self.context.defaults);
                self.ensure("NetworkPolicy", policy, true).await.map(|_| ())
            }
            Action::EnsureGroup { uid } => self.ensure_group(uid).await,
            Action::CreatePod(place) => self.create_pod(*place).await,
            Action::Submit { attempt, ip } => handover::submit(self.context, self.observed, *attempt, ip).await,
            Action::Dismiss { ip } => self.dismiss(ip).await,
            Action::Drain { ip, worker } => self.drain(ip, worker).await,
            Action::DeletePod { name, uid } => self.delete_pod(name, uid).await,
            Action::DeleteShared { attempts } => self.delete_shared(*attempts).await,
            Action::Queue(step) => {
                kueue::apply::tell(&self.context.client, self.query(), &self.context.defaults, step).await
            }
            Action::DeleteQuery => self.delete_query().await,
        }
    }

    /// Creates an object, or finds the query's own. One that changes with the attempt is updated.
    async fn ensure<K>(&self, kind: &'static str, object: K, changes: bool) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        ensure(&self.api::<K>(), &build::owner(self.query()), kind, object, changes).await
    }

    async fn ensure_job(&self, attempt: u32) -> Result<()> {
        let Some(inputs) = &self.observed.inputs else {
            return Err(ApplyError::Incomplete("the inputs of the job were not read"));
        };
        let token: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let annotation = inputs.query.metadata.annotations.as_ref().and_then(|a| a.get(TRACEPARENT)).cloned();
        let trace = annotation.or_else(telemetry::traceparent);
        let secrets = build::job_secrets(inputs, attempt, &token, trace)?;
        for part in secrets.plan_parts {
            self.ensure("Secret", part, false).await?;
        }
        let kept: Secret = self.ensure("Secret", secrets.job, false).await?;
        let Some((_, plan, token)) = build::read_first(&kept) else {
            return Err(ApplyError::Incomplete("the attempt's Secret cannot be read"));
        };
        self.made().plan = Some(plan);
        let memory = self.context.memories.of(self.uid());
        memory.lock().unwrap_or_else(PoisonError::into_inner).token = Some((attempt, token));
        Ok(())
    }

    async fn create_pod(&self, place: Place) -> Result<()> {
        if self.made().is_full {
            return Ok(());
        }
        let attempt = match place {
            Place::Clean => self.last_with_job().await?,
            Place::Coordinator { attempt } | Place::Worker { attempt, .. } => attempt,
        };
        let pins = self.observed.status.pinned.as_ref();
        let mut query = build::pinned(self.query(), pins);
        if let Loan::Lent(lent) = &self.observed.loan {
            // A cleaning pod is scheduled where the context's pods are.
            query.spec.compute = lent.compute.clone();
        }
        let inputs = build::PodInputs {
            query: &query,
            defaults: &self.context.defaults,
            plan: self.made().plan.unwrap_or_default(),
            attempt,
            image: pins.map(|pins| pins.image.as_str()),
            grant: self.observed.standing.grant(),
            gang: match place {
                Place::Coordinator { .. } => gang::of(&query, self.context.defaults.gang),
                // Its attempt may have begun under other options of the operator.
                Place::Worker { .. } => self.observed.coordinator().and_then(|pod| pod.gang),
                Place::Clean => None,
            },
        };
        let pod = self.ensure("Pod", build::pod(place, &inputs)?, false).await;
        let pod: Pod = pod.inspect_err(|error| self.made().is_full |= error.is_quota())?;
        let (name, uid) = (pod.metadata.name.unwrap_or_default(), pod.metadata.uid.unwrap_or_default());
        let memory = self.context.memories.of(self.uid());
        memory.lock().unwrap_or_else(PoisonError::into_inner).made(name, uid, place, Timestamp::now());
        Ok(())
    }

    /// Makes the group in which Volcano places the pods of the coordinator with this UID.
    async fn ensure_group(&self, uid: &str) -> Result<()> {
        let attempt = self.observed.attempt();
        let pins = self.observed.status.pinned.as_ref();
        let query = build::pinned(self.query(), pins);
        let inputs = build::PodInputs {
            query: &query,
            defaults: &self.context.defaults,
            plan: PlanSecrets::default(),
            attempt,
            image: pins.map(|pins| pins.image.as_str()),
            grant: None,
            gang: None,
        };
        let owner = OwnerReference {
            api_version: Pod::api_version(&()).into_owned(),
            kind: Pod::kind(&()).into_owned(),
            name: Place::Coordinator { attempt }.name(self.name()),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        let group = gang::pod_group(&query, attempt, owner.clone(), &build::pod_pair(attempt, &inputs)?);
        ensure(&self.api::<PodGroup>(), &owner, "PodGroup", group, false).await.map(|_| ())
    }

    /// The latest attempt that has a Secret: an attempt that could not start has none.
    async fn last_with_job(&self) -> Result<u32> {
        let last = self.observed.attempt().max(1);
        for attempt in (1..=last).rev() {
            let name = names::job_secret(self.name(), self.uid(), attempt);
            let found = self.api::<Secret>().get_opt(&name).await;
            if found.map_err(|source| ApplyError::Api { kind: "Secret", name, source })?.is_some() {
                return Ok(attempt);
            }
        }
        Ok(last)
    }

    async fn dismiss(&self, ip: &str) -> Result<()> {
        let attempt = self.observed.attempt();
        let namespace = self.query().metadata.namespace.as_deref().unwrap_or_default();
        // Without a token the coordinator cannot be told; deleting its pod has the same effect.
        if let Ok(Some(token)) = observe::token(self.context, namespace, self.name(), self.uid(), attempt).await {
            let is_lent = self.observed.is_borrowed();
            let address = Address { id: self.uid().to_owned(), attempt, ip: ip.to_owned(), token, is_lent };
            self.context.poller.dismiss(&address).await;
        }
        Ok(())
    }

    /// Has the coordinator drain a worker. If it does not answer, it is asked again: the plan repeats the action until
    /// the report says that the worker drains.
    async fn drain(&self, ip: &str, worker: &str) -> Result<()> {
        let (name, uid, attempt) = (self.name(), self.uid(), self.observed.attempt());
        let namespace = self.query().metadata.namespace.as_deref().unwrap_or_default();
        if let Ok(Some(token)) = observe::token(self.context, namespace, name, uid, attempt).await
            && let Err(error) = talk::drain(self.context.poller.http(), ip, &token, worker).await
        {
            tracing::debug!(worker, "the coordinator did not hear that a worker goes: {error}");
        }
        Ok(())
    }

    async fn delete_pod(&self, name: &str, uid: &str) -> Result<()> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        self.delete::<Pod>("Pod", name, DeleteParams::default().preconditions(preconditions)).await
    }

    async fn delete<K>(&self, kind: &'static str, name: &str, params: DeleteParams) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        match self.api::<K>().delete(name, &params).await {
            Ok(_) => Ok(()),
            // The object is gone, or another one has taken its name, which is not ours to delete.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
            Err(source) => Err(ApplyError::Api { kind, name: name.to_owned(), source }),
        }
    }

    /// Deletes an object that belongs to the query, by its UID.
    async fn delete_owned<K>(&self, kind: &'static str, name: String) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let found = self.api::<K>().get_opt(&name).await;
        let found = found.map_err(|source| ApplyError::Api { kind, name: name.clone(), source })?;
        let Some(found) = found.filter(|found| is_owned(found, self.uid())) else { return Ok(()) };
        let preconditions = Preconditions { uid: found.meta().uid.clone(), resource_version: None };
        self.delete::<K>(kind, &name, DeleteParams::default().preconditions(preconditions)).await
    }

    async fn delete_shared(&self, attempts: u32) -> Result<()> {
        let name = self.name();
        self.delete_owned::<NetworkPolicy>("NetworkPolicy", names::shared(name)).await?;
        // Count down, so that the first attempt's Secret, which names the plan's Secrets, is deleted last.
        for attempt in (1..=attempts).rev() {
            let job = names::job_secret(name, self.uid(), attempt);
            let found = self.api::<Secret>().get_opt(&job).await;
            let found = found.map_err(|source| ApplyError::Api { kind: "Secret", name: job.clone(), source })?;
            let Some(found) = found.filter(|secret| is_owned(secret, self.uid())) else { continue };
            let plan = build::read_first(&found).map(|(_, plan, _)| plan).unwrap_or_default();
            if plan.attempt == attempt {
                for part in 0..plan.parts {
                    self.delete_owned::<Secret>("Secret", names::plan_secret(name, self.uid(), attempt, part)).await?;
                }
            }
            let preconditions = Preconditions { uid: found.metadata.uid.clone(), resource_version: None };
            self.delete::<Secret>("Secret", &job, DeleteParams::default().preconditions(preconditions)).await?;
        }
        Ok(())
    }

    async fn delete_query(&self) -> Result<()> {
        let preconditions = Preconditions { uid: Some(self.uid().to_owned()), resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        self.delete::<DistributedQuery>("DistributedQuery", self.name(), params).await
    }

    async fn add_finalizer(&self) -> Result<()> {
        let answer = self.apply_finalizers(&[FINALIZER]).await;
        let patched = answer.map_err(|source| self.not_patched(source))?;
        self.made().version = patched.metadata.resource_version;
        Ok(())
    }

    /// Removes the finalizer, whoever set it: applying an empty list removes only what was applied here, and on a query
    /// from a restored backup or a manifest another manager has set it.
    async fn remove_finalizer(&self) -> Result<()> {
        let answer = match self.apply_finalizers(&[]).await {
            Ok(patched) if has_finalizer(&patched.metadata) => self.strip_finalizer(patched.metadata).await,
            answer => answer,
        };
        match answer {
            Ok(patched) => {
                self.made().version = patched.metadata.resource_version;
                Ok(())
            }
            Err(source) => {
                // A query that is gone, or another of its name, has nothing to release.
                let api: Api<DistributedQuery> = self.api();
                let found = api.get_metadata_opt(self.name()).await.map_err(|source| self.not_patched(source))?;
                let is_there = found.is_some_and(|found| found.metadata.uid.as_deref() == Some(self.uid()));
                if is_there { Err(self.not_patched(source)) } else { Ok(()) }
            }
        }
    }

    /// Applies this field manager's finalizers; those of others stay.
    async fn apply_finalizers(&self, finalizers: &[&str]) -> Patched {
        let api: Api<DistributedQuery> = self.api();
        let body = json!({
            "apiVersion": DistributedQuery::api_version(&()),
            "kind": DistributedQuery::kind(&()),
            "metadata": {"name": self.name(), "uid": self.uid(), "finalizers": finalizers},
        });
        let params = PatchParams::apply(FINALIZER_MANAGER).force();
        api.patch_metadata(self.name(), &params, &Patch::Apply(body)).await
    }

    /// Patches the version that was just read, so that a finalizer that another adds meanwhile is not lost.
    async fn strip_finalizer(&self, seen: ObjectMeta) -> Patched {
        let api: Api<DistributedQuery> = self.api();
        let mut others = seen.finalizers.unwrap_or_default();
        others.retain(|name| name != FINALIZER);
        let body = json!({
            "metadata": {"uid": self.uid(), "resourceVersion": seen.resource_version, "finalizers": others},
        });
        let params = PatchParams { field_manager: Some(FINALIZER_MANAGER.to_owned()), ..PatchParams::default() };
        api.patch_metadata(self.name(), &params, &Patch::Merge(body)).await
    }

    fn not_patched(&self, source: kube::Error) -> ApplyError {
        ApplyError::Api { kind: "DistributedQuery", name: self.name().to_owned(), source }
    }
}

fn has_finalizer(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|name| name == FINALIZER)
}
