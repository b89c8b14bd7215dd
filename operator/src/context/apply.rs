//! Carries out the actions of a plan. Decides nothing: an action that was already carried out is no error.

use std::collections::BTreeSet;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Resource};

use super::facts::Seen;
use super::plan::Action;
use super::talk::Address;
use super::{Context, build, lock};
use crate::query::apply::ensure;
use crate::query::build::owner;
use crate::query::error::{ApplyError, AskError};
use crate::query::names::Place;

const AT_ONCE: usize = 16;

type Result<T, E = ApplyError> = std::result::Result<T, E>;

/// Returns what was refused, in the order of the actions.
pub async fn apply(context: &Context, seen: &Seen, actions: &[Action]) -> Vec<ApplyError> {
    let waves: BTreeSet<u8> = actions.iter().map(Action::wave).collect();
    for wave in waves {
        let run = Run { context, seen };
        let work: Vec<_> =
            actions.iter().filter(|action| action.wave() == wave).map(|action| run.act(action).boxed()).collect();
        let results: Vec<_> = futures::stream::iter(work).buffered(AT_ONCE).collect().await;
        let errors: Vec<ApplyError> = results.into_iter().filter_map(Result::err).collect();
        if !errors.is_empty() {
            return errors;
        }
    }
    Vec::new()
}

struct Run<'a> {
    context: &'a Context,
    seen: &'a Seen,
}

impl Run<'_> {
    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        let namespace = self.seen.context.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.context.shared.client.clone(), namespace)
    }

    fn uid(&self) -> &str {
        self.seen.context.metadata.uid.as_deref().unwrap_or_default()
    }

    async fn act(&self, action: &Action) -> Result<()> {
        match action {
            Action::EnsureShared => self.ensure_shared().await,
            Action::CreatePod { place, image } => self.create_pod(*place, image).await,
            Action::Drain { coordinator_ip, worker } => self.drain(coordinator_ip, worker).await,
            Action::DeletePod { name, uid } => {
                let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
                match self.api::<Pod>().delete(name, &DeleteParams::default().preconditions(preconditions)).await {
                    Ok(_) => Ok(()),
                    // The pod is gone, or another pod has taken its name.
                    Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
                    Err(source) => Err(ApplyError::Api { kind: "Pod", name: name.clone(), source }),
                }
            }
        }
    }

    async fn ensure_shared(&self) -> Result<()> {
        let (object, owner) = (&*self.seen.context, owner(&*self.seen.context));
        let token: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let kept: Secret = ensure(&self.api(), &owner, "Secret", build::secret(object, &token), false).await?;
        let Some(token) = build::read_token(&kept) else {
            return Err(ApplyError::Incomplete("the context's Secret has no token"));
        };
        lock(&self.context.memory(self.uid())).token = Some(token);
        let policy = build::network_policy(object, &self.context.shared.defaults);
        ensure(&self.api(), &owner, "NetworkPolicy", policy, true).await.map(|_| ())
    }

    async fn create_pod(&self, place: Place, image: &str) -> Result<()> {
        let pod = build::pod(place, &self.seen.context, &self.context.shared.defaults, Some(image))?;
        let pod: Pod = ensure(&self.api(), &owner(&*self.seen.context), "Pod", pod, false).await?;
        let (name, uid) = (pod.metadata.name.unwrap_or_default(), pod.metadata.uid.unwrap_or_default());
        lock(&self.context.memory(self.uid())).pods.made(name, uid, place, Timestamp::now());
        Ok(())
    }

    async fn drain(&self, ip: &str, worker: &str) -> Result<()> {
        let token = lock(&self.context.memory(self.uid())).token.clone();
        let pod = self.seen.pods.iter().find(|pod| pod.ip.as_deref() == Some(ip));
        let (Some(token), Some(pod)) = (token, pod) else { return Ok(()) };
        let address = Address { pod: pod.uid.clone(), ip: ip.to_owned(), token };
        let asked = self.context.talks.drain(&address, worker).await;
        let context = self.seen.name().to_owned();
        asked.map_err(|error| ApplyError::Asked { context, source: AskError::Silent(error.to_string()) })
    }
}
