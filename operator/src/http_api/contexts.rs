//! Creating, listing, showing and deleting contexts. Queries borrow them by `spec.compute.contextRef`.

use std::sync::Arc;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::call::{self, Call};
use super::object::{self, Created};
use super::problem::{Kind, Problem};
use super::{Api, queries, submission, view};

pub async fn list(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let (items, next) = queries::page(&api, &call.allowed, &call.params).await?;
    Ok(Json(view::ContextPage { items: items.into_iter().map(view::context_item).collect(), next }).into_response())
}

pub async fn create(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let user = call.allowed.user().clone();
    call::is_json(&call.headers)?;
    let body = call::body(&call.headers, call.body, api.settings.limits.body_bytes).await?;
    let namespace = call.allowed.namespace();
    let made = submission::context(&body, namespace, &user)?;
    match object::create(&api.client, &call.allowed, made.object, made.name.as_deref()).await? {
        Created::New(created) => {
            let name = created.metadata.name.clone().unwrap_or_default();
            let place = format!("/api/v1/namespaces/{namespace}/contexts/{name}");
            tracing::info!(user = user.name, context = place, "created over HTTP");
            Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(view::context(created))).into_response())
        }
        Created::There(there) => {
            let name = there.metadata.name.unwrap_or_default();
            Err(Problem::field(Kind::NameTaken, "name", format!("there is a context {name} already")))
        }
    }
}

pub async fn show(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let object = object::get(&api.client, &call.allowed).await?;
    Ok(Json(view::context(object)).into_response())
}

pub async fn delete(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    object::delete(&api.client, &call.allowed).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
