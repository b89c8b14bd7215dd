//! Takes a request to its handler: authenticate, check the rate limit, authorize, validate. In this order, so that
//! nobody learns anything before they are authenticated.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use floe_api::validate::{is_object_name, validate_name};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::Api;
use super::auth::{Act, Allowed, Question, Resource, bearer};
use super::operations::Operation;
use super::params::Params;
use super::problem::{Kind, Problem};

/// Time within which an answer must begin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time within which the body of a request must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// Address of the client.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// A request that is allowed.
pub struct Call {
    pub allowed: Allowed,
    /// Used to check again during a long answer.
    pub token: String,
    pub params: Params,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Body,
}

pub async fn answer(operation: &'static Operation, api: Arc<Api>, request: Request) -> Response {
    let metrics = Arc::clone(&api.metrics);
    let work = async {
        let call = enter(operation, &api, request).await?;
        (operation.handler)(Arc::clone(&api), call).await
    };
    let answer = match tokio::time::timeout(ANSWER_TIMEOUT, work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(problem)) => {
            tracing::debug!(operation = operation.id, kind = problem.kind.name(), "{}", problem.detail);
            problem.into_response()
        }
        Err(_) => Problem::new(Kind::Timeout, format!("there is no answer after {} s", ANSWER_TIMEOUT.as_secs()))
            .into_response(),
    };
    metrics.answered(operation.id, answer.status().as_u16());
    answer
}

async fn enter(operation: &'static Operation, api: &Api, request: Request) -> Result<Call, Problem> {
    let (mut parts, body) = request.into_parts();
    let token = bearer(parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()))?.to_owned();
    let user = match api.reviews.remembered(&token) {
        Some(known) => known?,
        None => {
            let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.to_string()).unwrap_or_default();
            api.strangers.take(&peer, Instant::now()).map_err(slower)?;
            api.reviews.who(&token).await?
        }
    };
    api.callers.take(&user.name, Instant::now()).map_err(slower)?;
    let (namespace, name) = place(&mut parts, operation.resource).await?;
    let question = Question { user, resource: operation.resource, act: operation.act, namespace, name };
    let allowed = admit(api, question).await?;
    let params = Params::read(parts.uri.query().unwrap_or_default(), operation.params)?;
    let path = parts.uri.path().to_owned();
    Ok(Call { allowed, token, params, path, headers: parts.headers, body })
}

async fn admit(api: &Api, question: Question) -> Result<Allowed, Problem> {
    let served = &api.settings.namespaces;
    let allowed = api.reviews.may(question).await?;
    if !served.is_empty() && !served.iter().any(|one| one == allowed.namespace()) {
        let detail = format!("namespace {} is not served here", allowed.namespace());
        return Err(Problem::new(Kind::NotFound, detail));
    }
    Ok(allowed)
}

/// Checks a further right in the namespace of one that the caller has.
pub async fn further(api: &Api, before: &Allowed, resource: Resource, act: Act) -> Result<Allowed, Problem> {
    let question = Question { resource, act, name: None, ..before.question().clone() };
    admit(api, question).await
}

/// Checks during a long answer whether it is still allowed.
pub async fn again(api: &Api, token: &str, before: &Allowed) -> Result<Allowed, Problem> {
    let user = match api.reviews.remembered(token) {
        Some(known) => known?,
        None => api.reviews.who(token).await?,
    };
    admit(api, Question { user, ..before.question().clone() }).await
}

/// Reads namespace and name from the path. They become part of API server URLs, so they must be valid names.
async fn place(parts: &mut Parts, resource: Resource) -> Result<(String, Option<String>), Problem> {
    let given = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|error| Problem::new(Kind::BadRequest, format!("the path cannot be read: {error}")))?;
    let (mut namespace, mut name) = (String::new(), None);
    for (key, value) in &given {
        match key {
            "namespace" => namespace = value.to_owned(),
            _ => name = Some(value.to_owned()),
        }
    }
    if !is_object_name(&namespace) || namespace.contains('.') || namespace.len() > 63 {
        return Err(Problem::field(Kind::BadRequest, "namespace", "is no name that a namespace can have"));
    }
    if name.as_deref().is_some_and(|name| !validate_name(Some(name)).is_empty()) {
        return Err(Problem::field(
            Kind::BadRequest,
            "name",
            format!("is no name that a {} can have", resource.word()),
        ));
    }
    Ok((namespace, name))
}

fn slower(wait: Duration) -> Problem {
    let mut problem = Problem::new(Kind::TooManyRequests, "this caller asks for more than it may in this time");
    problem.retry_after_seconds = Some(wait.as_secs() + 1);
    problem
}

pub fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let plain = kind.split(';').next().unwrap_or_default().trim();
    match plain.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => {
            Err(Problem::field(Kind::MediaType, "Content-Type", format!("must be application/json, is \"{kind}\"")))
        }
    }
}

/// Reads the whole body within its limits. One whose Content-Length is too large is refused at once.
pub async fn body(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Problem> {
    let large = || {
        let how = "put a large plan in a store and name it in spec.plan.dsl.uri";
        Problem::new(Kind::TooLarge, format!("the body may have at most {most} bytes: {how}"))
    };
    let told = headers.get(header::CONTENT_LENGTH).and_then(|told| told.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > most as u64) {
        return Err(large());
    }
    let slow = || Problem::new(Kind::TooSlow, format!("the body has not come within {} s", BODY_TIMEOUT.as_secs()));
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await.map_err(|_| slow())?;
    read.map(|whole| whole.to_bytes()).map_err(|error| match error.is::<LengthLimitError>() {
        true => large(),
        false => Problem::new(Kind::BadRequest, format!("the body broke off: {error}")),
    })
}
