//! The coordinator's HTTP side: health, queries (submit, status, plan, graph, events, result, cancel), metrics. All but
//! health wants a token: the engine's, or for one query's endpoints that query's own.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use floe_api::job::Job;
use floe_api::report::Event;
use futures::StreamExt;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};

use crate::shuffle;
use floe_wire::error::{Category, QueryError};

use super::explain::Format;
use super::status::Status;
use super::{Engine, Refused, metrics, stream};

/// Plans travel inside jobs.
const MAX_JOB_BYTES: usize = 256 << 20;

type Shared = State<Weak<Engine>>;

pub fn serve(engine: &Arc<Engine>, listener: TcpListener) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .route("/api/v1/queries", get(list).post(submit))
        .route("/api/v1/queries/{id}", get(status).delete(cancel))
        .route("/api/v1/queries/{id}/plan", get(plan))
        .route("/api/v1/queries/{id}/graph", get(graph))
        .route("/api/v1/queries/{id}/events", get(events))
        .route("/api/v1/queries/{id}/result", get(result))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_JOB_BYTES))
        .with_state(Arc::downgrade(engine));
    let ended = engine.ended.clone();
    tokio::spawn(async move {
        // Answers are small: waiting for more to send with them costs 40 ms each.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let server = axum::serve(listener, router);
        tokio::select! {
            served = server => if let Err(error) = served {
                tracing::error!("the HTTP port failed: {error}");
            },
            () = ended.cancelled() => {}
        }
    });
}

/// What went wrong, as the client reads it.
struct Refusal(StatusCode, QueryError);

impl Refusal {
    fn new(status: StatusCode, class: &str, message: &str) -> Refusal {
        Refusal(status, QueryError::user(class, message))
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        let status = match error.category {
            Category::User => StatusCode::BAD_REQUEST,
            Category::Io
            | Category::LostWorker
            | Category::OutOfMemory
            | Category::Deadline
            | Category::Cancelled
            | Category::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal(status, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

type Answer<T> = Result<T, Refusal>;

fn engine(engine: &Weak<Engine>, headers: &HeaderMap) -> Answer<Arc<Engine>> {
    let engine = alive(engine)?;
    match shuffle::bearer(headers) {
        Some(token) if shuffle::same(token, &engine.options.token) => Ok(engine),
        _ => Err(unauthorized()),
    }
}

fn alive(engine: &Weak<Engine>) -> Answer<Arc<Engine>> {
    engine.upgrade().ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Ended", "the engine has ended"))
}

fn unauthorized() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", "a bearer token of the engine or the query is needed")
}

/// A query, for those who show its token or the engine's. Who shows neither learns nothing of what exists.
fn query(weak: &Weak<Engine>, headers: &HeaderMap, id: &str) -> Answer<Arc<Status>> {
    let engine = alive(weak)?;
    let token = shuffle::bearer(headers).ok_or_else(unauthorized)?;
    let status = engine.statuses.get(id);
    let own = status.as_ref().is_some_and(|status| shuffle::same(token, &status.token));
    if !own && !shuffle::same(token, &engine.options.token) {
        return Err(unauthorized());
    }
    status.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "NotFound", &format!("no query {id}")))
}

async fn ready(State(weak): Shared) -> Answer<&'static str> {
    let engine = alive(&weak)?;
    match engine.registry.links().len() {
        0 => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "NotReady", "no worker is connected")),
        _ => Ok("ok"),
    }
}

async fn show_metrics(State(weak): Shared, headers: HeaderMap) -> Answer<impl IntoResponse> {
    let engine = engine(&weak, &headers)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render(&engine)))
}

async fn list(State(weak): Shared, headers: HeaderMap) -> Answer<impl IntoResponse> {
    let engine = engine(&weak, &headers)?;
    Ok(Json({
        let workers = connected(&engine);
        let report = |status: &Arc<Status>| status.report(workers.clone(), engine.registry.ahead(&status.id));
        engine.statuses.all().iter().map(report).collect::<Vec<_>>()
    }))
}

async fn submit(State(weak): Shared, headers: HeaderMap, body: Bytes) -> Answer<impl IntoResponse> {
    let engine = engine(&weak, &headers)?;
    let job: Job = serde_json::from_slice(&body)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "BadSpec", &format!("the job is not valid: {error}")))?;
    let status = engine.submit(job, body.len() as u64).map_err(|refused| match refused {
        Refused::Invalid(error) => Refusal::from(error),
        Refused::NoRoom(error) => Refusal(StatusCode::TOO_MANY_REQUESTS, error),
    })?;
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({ "id": status.id, "token": status.token }))))
}

async fn status(State(weak): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer<impl IntoResponse> {
    let status = query(&weak, &headers, &id)?;
    let engine = alive(&weak)?;
    Ok(Json(status.report(connected(&engine), engine.registry.ahead(&id))))
}

fn connected(engine: &Engine) -> Vec<String> {
    let mut workers: Vec<String> = engine.registry.links().iter().map(|link| link.id.clone()).collect();
    workers.sort_unstable();
    workers
}

async fn cancel(State(weak): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer<StatusCode> {
    let status = query(&weak, &headers, &id)?;
    status.cancel.cancel();
    if status.finished() {
        let engine = alive(&weak)?;
        engine.statuses.remove(&id);
        engine.forgotten.notify_waiters();
    }
    Ok(StatusCode::ACCEPTED)
}

async fn plan(State(weak): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer<String> {
    let status = query(&weak, &headers, &id)?;
    explained(&status, Format::Text)
}

#[derive(Deserialize)]
struct GraphOptions {
    format: Option<String>,
}

async fn graph(
    State(weak): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(options): Query<GraphOptions>,
) -> Answer<impl IntoResponse> {
    let status = query(&weak, &headers, &id)?;
    let (format, kind) = match options.format.as_deref() {
        None | Some("json") => (Format::Json, "application/json"),
        Some("dot") => (Format::Dot, "text/vnd.graphviz"),
        Some("mermaid") => (Format::Mermaid, "text/plain"),
        Some(_) => return Err(Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", "format: json, dot or mermaid")),
    };
    Ok(([(header::CONTENT_TYPE, kind)], explained(&status, format)?))
}

fn explained(status: &Status, format: Format) -> Answer<String> {
    let unplanned = || Refusal::new(StatusCode::CONFLICT, "NotPlanned", "the query is not planned yet");
    status.explain(format).ok_or_else(unplanned)
}

async fn events(State(weak): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer<impl IntoResponse> {
    let status = query(&weak, &headers, &id)?;
    // Listen first, then look: what happens in between is told twice rather than never.
    let live = BroadcastStream::new(status.events.subscribe());
    let report = status.report(Vec::new(), None);
    let mut past: Vec<Event> = report.stages.into_iter().map(Event::Stage).collect();
    past.extend(report.outcome.map(|outcome| Event::Done { outcome: Box::new(outcome) }));
    past.extend(report.error.map(Event::Error));
    let ended = |event: &Event| matches!(event, Event::Done { .. } | Event::Error { .. });
    let all = Box::pin(futures::stream::iter(past).chain(live.filter_map(|event| async move { event.ok() })));
    let until_end = futures::stream::unfold((all, false), move |(mut all, over)| async move {
        // The channel stays open after the last event, so the end is told by the event itself.
        let event = if over { None } else { all.next().await }?;
        let over = ended(&event);
        Some((event, (all, over)))
    });
    let json = |event: &Event| sse::Event::default().json_data(event).unwrap_or_default();
    let stream = until_end.map(move |event| Ok::<_, Infallible>(json(&event)));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))))
}

async fn result(State(weak): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer<Response> {
    let status = query(&weak, &headers, &id)?;
    let missing = || match status.finished() {
        true if status.is_dropped() => Refusal::new(
            StatusCode::GONE,
            "ResultDropped",
            "the result has made room for those of later queries (--results-bytes): run the query again, or give it a sink",
        ),
        true => Refusal::new(StatusCode::NOT_FOUND, "NoResult", "the query has no rows to read"),
        false => Refusal::new(StatusCode::CONFLICT, "NotFinished", "the query has not finished"),
    };
    let handle = status.result().ok_or_else(missing)?;
    let (sender, receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || stream::send(&handle, &sender));
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, "application/vnd.apache.arrow.stream")], body).into_response())
}
