//! Submitting, listing, showing, cancelling, suspending, resuming and deleting queries.

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube::api::{DynamicObject, ListParams};

use super::auth::Allowed;
use super::call::{self, Call};
use super::change::{Change, Then};
use super::idempotency::{self, Key, There};
use super::object::{self, Created};
use super::params::Params;
use super::problem::{Kind, Problem};
use super::{Api, submission, view};

/// Response header: the answer repeats that of an earlier request with the same key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub const PAGE_ITEMS: u64 = 100;
pub const MAX_PAGE_ITEMS: u64 = 500;

pub async fn list(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let (items, next) = page(&api, &call.allowed, &call.params).await?;
    Ok(Json(view::Page { items: items.into_iter().map(view::item).collect(), next }).into_response())
}

/// A page of objects, and the token of the next one.
pub async fn page(
    api: &Api,
    allowed: &Allowed,
    params: &Params,
) -> Result<(Vec<DynamicObject>, Option<String>), Problem> {
    let limit = params.number("limit").unwrap_or(PAGE_ITEMS).min(MAX_PAGE_ITEMS);
    let how = ListParams {
        label_selector: params.text("labels").map(str::to_owned),
        continue_token: params.text("continue").map(str::to_owned),
        limit: Some(limit as u32),
        ..ListParams::default()
    };
    let listed = object::list(&api.client, allowed, &how).await?;
    Ok((listed.items, listed.metadata.continue_.filter(|token| !token.is_empty())))
}

pub async fn submit(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let user = call.allowed.user().clone();
    let key = call.headers.get(idempotency::HEADER).map(|key| Key::read(key.as_bytes(), &user.name)).transpose()?;
    call::is_json(&call.headers)?;
    let body = call::body(&call.headers, call.body, api.settings.limits.body_bytes).await?;
    let made = submission::query(&body, call.allowed.namespace(), &user, key.as_ref())?;
    match object::create(&api.client, &call.allowed, made.object, made.name.as_deref()).await? {
        Created::New(created) => {
            let place = location(&created);
            tracing::info!(user = user.name, query = place, "submitted over HTTP");
            Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(view::query(created))).into_response())
        }
        Created::There(there) => {
            let annotations = there.metadata.annotations.clone().unwrap_or_default();
            let name = there.metadata.name.clone().unwrap_or_default();
            match idempotency::compare(&annotations, key.as_ref(), &made.request) {
                There::Same => {
                    let headers = [(header::LOCATION, location(&there)), (REPLAYED, "true".to_owned())];
                    Ok((headers, Json(view::query(there))).into_response())
                }
                There::OtherRequest => Err(Problem::field(
                    Kind::KeyReused,
                    "Idempotency-Key",
                    format!("has made query {name} from another request: take a new key"),
                )),
                There::Foreign => {
                    Err(Problem::field(Kind::NameTaken, "name", format!("there is a query {name} already")))
                }
            }
        }
    }
}

fn location(object: &DynamicObject) -> String {
    let (metadata, none) = (&object.metadata, String::new());
    let namespace = metadata.namespace.as_ref().unwrap_or(&none);
    format!("/api/v1/namespaces/{namespace}/queries/{}", metadata.name.as_ref().unwrap_or(&none))
}

pub async fn show(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let object = object::get(&api.client, &call.allowed).await?;
    Ok(Json(view::query(object)).into_response())
}

/// Returns 202 if the change is in progress, 200 if it is in effect already.
pub async fn change(api: Arc<Api>, call: Call, change: Change) -> Result<Response, Problem> {
    let query = object::get(&api.client, &call.allowed).await?;
    match change.decide(call.allowed.name(), &query)? {
        Then::Nothing => Ok(Json(view::query(query)).into_response()),
        Then::Set(spec) => {
            let query = object::change(&api.client, &call.allowed, spec).await?;
            Ok((StatusCode::ACCEPTED, Json(view::query(query))).into_response())
        }
    }
}

pub async fn delete(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    object::delete(&api.client, &call.allowed).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
