//! Tells Kueue of a query: makes, changes and deletes its Workload. What was done already is no error.

use floe_api::DistributedQuery;
use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::build::{change, queue_of, workload};
use super::facts::Step;
use super::workload::{Workload, cluster_kind};
use crate::query::apply::ensure;
use crate::query::build::{Defaults, owner};
use crate::query::error::ApplyError;
use crate::query::names::{self, MANAGER};
use crate::query::observe::is_owned;

type Result<T> = std::result::Result<T, ApplyError>;

pub async fn tell(client: &Client, query: &DistributedQuery, defaults: &Defaults, step: &Step) -> Result<()> {
    let namespace = query.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Workload> = Api::namespaced(client.clone(), namespace);
    if *step == Step::Enter {
        return enter(client, &api, query, defaults).await;
    }
    let name = names::shared(query.metadata.name.as_deref().unwrap_or_default());
    let failed = |source| ApplyError::Api { kind: "Workload", name: name.clone(), source };
    let found = api.get_opt(&name).await.map_err(failed)?;
    let uid = query.metadata.uid.as_deref().unwrap_or_default();
    let Some(found) = found.filter(|found| is_owned(found, uid)) else { return Ok(()) };
    let version = found.metadata.resource_version.clone();
    let done = match step {
        Step::Leave => {
            let preconditions = Preconditions { uid: found.metadata.uid.clone(), resource_version: None };
            let params = DeleteParams::background().preconditions(preconditions);
            api.delete(&name, &params).await.map(|_| ())
        }
        _ => {
            let Some(status) = change(&found, step, Timestamp::now()) else { return Ok(()) };
            // Over the version that was read: Kueue writes the same conditions.
            let body = json!({"metadata": {"resourceVersion": version}, "status": status});
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            api.patch_status(&name, &params, &Patch::Merge(body)).await.map(|_| ())
        }
    };
    match done {
        Ok(()) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            Err(ApplyError::Incomplete("somebody else wrote the Workload in between: once more"))
        }
        Err(source) => Err(failed(source)),
    }
}

/// Makes the Workload, with the value of its priority class.
async fn enter(client: &Client, api: &Api<Workload>, query: &DistributedQuery, defaults: &Defaults) -> Result<()> {
    let Some(queue) = queue_of(query) else { return Ok(()) };
    let mut made = workload(query, queue, defaults)?;
    if let Some(class) = &made.spec.priority_class_ref {
        let name = class.name.clone();
        let value = match class.kind.as_str() {
            "PriorityClass" => {
                let api: Api<PriorityClass> = Api::all(client.clone());
                api.get(&name).await.map(|class| i64::from(class.value))
            }
            kind => {
                let kind = cluster_kind(kind, "workloadpriorityclasses");
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
                api.get(&name).await.map(|class| class.data["value"].as_i64().unwrap_or_default())
            }
        };
        let value = value.map_err(|source| ApplyError::Api { kind: "the priority class", name, source })?;
        made.spec.priority = Some(i32::try_from(value).unwrap_or(i32::MAX));
    }
    ensure(api, &owner(query), "Workload", made, false).await.map(|_| ())
}
