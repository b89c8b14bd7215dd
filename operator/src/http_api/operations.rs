//! The tables of everything that is served, one per resource: the router and the OpenAPI document are made from them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on};
use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Api;
use super::auth::{Act, Resource};
use super::call::{self, Call};
use super::params::{Form, Param};
use super::problem::{Kind, Problem};

mod contexts;
mod queries;

#[cfg(test)]
pub use queries::LOGS;

pub type Handler = fn(Arc<Api>, Call) -> BoxFuture<'static, Result<Response, Problem>>;

pub struct Operation {
    pub id: &'static str,
    pub method: Method,
    pub path: &'static str,
    pub summary: &'static str,
    pub about: &'static str,
    /// What the caller must be allowed to do, and on which resource.
    pub resource: Resource,
    pub act: Act,
    pub params: &'static [Param],
    pub takes: Option<Takes>,
    pub gives: &'static [Answer],
    /// In addition to those that every operation has.
    pub problems: &'static [Kind],
    pub handler: Handler,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Delete,
}

/// The schema of a body.
#[derive(Clone, Copy)]
pub struct Body(pub fn(&mut SchemaGenerator) -> Schema);

impl Body {
    const fn of<T: JsonSchema>() -> Body {
        Body(SchemaGenerator::subschema_for::<T>)
    }
}

/// The body that an operation takes.
pub struct Takes {
    pub body: Body,
    /// Whether the request takes an Idempotency-Key, so that it can safely be sent again.
    pub is_keyed: bool,
}

pub struct Answer {
    pub status: u16,
    pub about: &'static str,
    pub content: Content,
}

pub enum Content {
    Nothing,
    Json(Body),
    Events,
    Rows,
    Logs,
}

/// Problems that every operation may return.
pub const COMMON: &[Kind] = &[
    Kind::BadRequest,
    Kind::Unauthenticated,
    Kind::Forbidden,
    Kind::NotFound,
    Kind::TooManyRequests,
    Kind::Internal,
    Kind::Unavailable,
    Kind::Timeout,
];

/// The parameters of paging.
const PAGE: &[Param] = &[
    Param {
        name: "limit",
        about: "How many a page has: 100 if it is left out.",
        form: Form::Int { least: 1, most: super::queries::MAX_PAGE_ITEMS },
    },
    Param {
        name: "continue",
        about: "Where the page begins: `continue` of the page before.",
        form: Form::Text { most: 4096 },
    },
    Param {
        name: "labels",
        about: "Only those with these labels, as kubectl's `--selector` has it.",
        form: Form::Text { most: 4096 },
    },
];

/// All operations.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    queries::OPERATIONS.iter().chain(contexts::OPERATIONS)
}

pub fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for operation in all() {
        let serve = move |State(api): State<Arc<Api>>, request: Request| call::answer(operation, api, request);
        let filter = match operation.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Delete => MethodFilter::DELETE,
        };
        let method: MethodRouter<Arc<Api>> = on(filter, serve);
        router = router.route(operation.path, method);
    }
    router
        .route("/openapi.json", get(document))
        .route("/healthz", get(|| async { "ok" }))
        .fallback(async || {
            Problem::new(Kind::NotFound, "this address is not served: /openapi.json describes those that are")
        })
        .method_not_allowed_fallback(async || Problem::new(Kind::MethodNotAllowed, "see /openapi.json"))
        .layer(axum::middleware::from_fn(plain))
        .with_state(api)
}

async fn document(State(api): State<Arc<Api>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], api.document.clone())
}

/// Have browsers treat answers as data, whatever the bytes look like. Close the connection if a request's body was not
/// read to its end, and say so: otherwise the client would send its next request on it.
async fn plain(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let mut answer = next.run(request).await;
    let is_read = matches!(answer.status(), StatusCode::OK | StatusCode::CREATED);
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if has_body && !is_read {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
