//! Reads and writes queries and contexts with the operator's own rights. Every call requires an `Allowed`.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectList, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::{Client, Resource};
use serde_json::{Value, json};

use super::auth::{Act, Allowed, Resource as What};
use super::problem::{Fault, Kind, Problem};

pub type Watch = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Send>>;

/// The objects of the namespace that `allowed` is about. Passing an `Allowed` for another action is a bug of ours.
fn api(client: &Client, allowed: &Allowed, acts: &[Act]) -> Result<Api<DynamicObject>, Problem> {
    let question = allowed.question();
    if !acts.contains(&question.act) {
        return Err(Problem::new(Kind::Internal, format!("{:?} was asked, which does not allow this", question.act)));
    }
    let kind = match question.resource {
        What::Queries => ApiResource::erase::<floe_api::DistributedQuery>(&()),
        What::Contexts => ApiResource::erase::<floe_api::ComputeContext>(&()),
        What::Pods => return Err(Problem::new(Kind::Internal, "pods are no objects of this API")),
    };
    Ok(Api::namespaced_with(client.clone(), allowed.namespace(), &kind))
}

pub async fn list(client: &Client, allowed: &Allowed, how: &ListParams) -> Result<ObjectList<DynamicObject>, Problem> {
    let listed = api(client, allowed, &[Act::List])?.list(how).await;
    listed.map_err(|error| {
        let problem = Problem::of_kube(&format!("{} objects cannot be listed", word(allowed)), error);
        if problem.kind != Kind::BadRequest {
            return problem;
        }
        // Only these two come from the caller.
        let given = [("labels", how.label_selector.is_some()), ("continue", how.continue_token.is_some())];
        let errors = given.into_iter().filter(|(_, given)| *given);
        let errors =
            errors.map(|(field, _)| Fault { field: field.to_owned(), message: problem.detail.clone() }).collect();
        Problem { errors, ..Problem::new(Kind::Invalid, problem.detail) }
    })
}

/// The outcome of creating an object.
pub enum Created {
    New(DynamicObject),
    /// An object of that name exists.
    There(DynamicObject),
}

pub async fn create(client: &Client, allowed: &Allowed, object: Value, name: Option<&str>) -> Result<Created, Problem> {
    let (objects, word) = (api(client, allowed, &[Act::Create])?, word(allowed));
    let object: DynamicObject = serde_json::from_value(object)
        .map_err(|error| Problem::new(Kind::Internal, format!("the {word} is no object: {error}")))?;
    match objects.create(&PostParams::default(), &object).await {
        Ok(made) => Ok(Created::New(made)),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let name = name.unwrap_or_default();
            let there = objects.get_opt(name).await;
            let there = there.map_err(|error| Problem::of_kube(&format!("{word} {name} cannot be read"), error))?;
            // It was deleted in between: the caller may try again.
            let going = || Problem::new(Kind::Conflict, format!("{word} {name} is just going: try again"));
            there.map(Created::There).ok_or_else(going)
        }
        Err(error) => Err(Problem::of_kube(&format!("the {word} cannot be created"), error)),
    }
}

pub async fn get(client: &Client, allowed: &Allowed) -> Result<DynamicObject, Problem> {
    find(client, allowed).await?.ok_or_else(|| missing(allowed))
}

pub async fn find(client: &Client, allowed: &Allowed) -> Result<Option<DynamicObject>, Problem> {
    let found = api(client, allowed, &[Act::Get, Act::Read, Act::Change])?.get_opt(allowed.name()).await;
    found.map_err(|error| Problem::of_kube(&format!("{} {} cannot be read", word(allowed), allowed.name()), error))
}

/// Watches the query from this version on; the watch ends by itself after `seconds`.
pub async fn watch(client: &Client, allowed: &Allowed, version: &str, seconds: u32) -> Result<Watch, Problem> {
    let only = WatchParams::default().fields(&format!("metadata.name={}", allowed.name())).timeout(seconds);
    let watch = api(client, allowed, &[Act::Get])?.watch(&only, version).await;
    let watch = watch.map_err(|error| Problem::of_kube("the query cannot be watched", error))?;
    Ok(watch.boxed())
}

/// Sets fields of the spec.
pub async fn change(client: &Client, allowed: &Allowed, spec: Value) -> Result<DynamicObject, Problem> {
    let objects = api(client, allowed, &[Act::Change])?;
    let change = Patch::Merge(json!({"spec": spec}));
    let changed = objects.patch(allowed.name(), &PatchParams::default(), &change).await;
    changed.map_err(|error| Problem::of_kube(&format!("{} {} cannot be changed", word(allowed), allowed.name()), error))
}

pub async fn delete(client: &Client, allowed: &Allowed) -> Result<(), Problem> {
    let objects = api(client, allowed, &[Act::Delete])?;
    match objects.delete(allowed.name(), &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Err(missing(allowed)),
        Err(error) => Err(Problem::of_kube(&format!("the {} cannot be deleted", word(allowed)), error)),
    }
}

pub fn missing(allowed: &Allowed) -> Problem {
    let (word, name) = (word(allowed), allowed.name());
    Problem::new(Kind::NotFound, format!("there is no {word} {name} in namespace {}", allowed.namespace()))
}

fn word(allowed: &Allowed) -> &'static str {
    allowed.question().resource.word()
}

/// The version of an object.
pub fn version(object: &DynamicObject) -> String {
    object.meta().resource_version.clone().unwrap_or_default()
}
