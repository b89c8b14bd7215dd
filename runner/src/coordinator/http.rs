//! The coordinator's HTTP API: health, queries (submit, explain, status, plan, graph, events, result, cancel), the
//! engine with its workers, metrics. All but health require a token: the engine's, or for the endpoints of one query
//! that query's own.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use floe_api::job::Job;
use floe_api::report::{EngineReport, Event, QUERY_TOKEN, Report};
use futures::StreamExt;
use polars_core::prelude::CompatLevel;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};

use crate::shuffle;
use floe_wire::error::{Category, QueryError};

use super::explain::Format;
use super::form::Form;
use super::status::Status;
use super::{Engine, Provider, Refused, metrics, run, stream, text};

/// Jobs carry their plans, frames included.
const MAX_JOB_BYTES: usize = 256 << 20;

/// A token that is chosen for a query must be hard to guess.
const MIN_TOKEN_BYTES: usize = 16;

/// Longest time for which a status request may wait for the query's end.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// The number of rows of the result that were skipped.
const OFFSET: HeaderName = HeaderName::from_static("floe-offset");

type Shared = State<Weak<Engine>>;

pub fn serve(engine: &Arc<Engine>, listener: TcpListener) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .route("/api/v1/engine", get(show_engine))
        .route("/api/v1/workers/{id}/drain", post(drain))
        .route("/api/v1/queries", get(list).post(submit))
        .route("/api/v1/explain", post(explain))
        .route("/api/v1/queries/{id}", get(status).delete(cancel))
        .route("/api/v1/queries/{id}/plan", get(plan))
        .route("/api/v1/queries/{id}/graph", get(graph))
        .route("/api/v1/queries/{id}/events", get(events))
        .route("/api/v1/queries/{id}/result", get(result))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_JOB_BYTES))
        .with_state(Arc::downgrade(engine));
    let ended = engine.ended.clone();
    tokio::spawn(async move {
        // Send small answers at once: Nagle's algorithm would delay each by 40 ms.
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

/// An error as the client reads it.
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

/// Finds a query for requests with its token or the engine's; others do not learn whether it exists.
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

/// Reports the load to the operator that scales the workers.
async fn show_engine(State(weak): Shared, headers: HeaderMap) -> Answer<impl IntoResponse> {
    Ok(Json(engine(&weak, &headers)?.report()))
}

/// Drains a worker: it gets no more tasks, and the engine's report says when it can be removed.
async fn drain(State(weak): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer<StatusCode> {
    let engine = engine(&weak, &headers)?;
    if engine.registry.link(&id).is_none() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "NotFound", &format!("no worker {id} is connected")));
    }
    engine.registry.drain(&id);
    Ok(StatusCode::ACCEPTED)
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
    let job = job(&body)?;
    let token = headers.get(QUERY_TOKEN).map(|value| value.to_str().unwrap_or_default().to_owned());
    if token.as_ref().is_some_and(|token| token.len() < MIN_TOKEN_BYTES) {
        return Err(bad_request("the query's token is too short"));
    }
    let status = engine.submit(job, body.len() as u64, token).map_err(|refused| match refused {
        Refused::Invalid(error) => Refusal::from(error),
        Refused::Known(error) => Refusal(StatusCode::CONFLICT, error),
        Refused::NoRoom(error) => Refusal(StatusCode::TOO_MANY_REQUESTS, error),
    })?;
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({ "id": status.id, "token": status.token }))))
}

fn job(body: &[u8]) -> Answer<Job> {
    let invalid = |error| Refusal::new(StatusCode::BAD_REQUEST, "BadSpec", &format!("the job is not valid: {error}"));
    serde_json::from_slice(body).map_err(invalid)
}

/// Explains a job without running it.
async fn explain(
    State(weak): Shared,
    headers: HeaderMap,
    Query(options): Query<GraphOptions>,
    body: Bytes,
) -> Answer<impl IntoResponse> {
    let engine = engine(&weak, &headers)?;
    let (format, kind) = options.format(Format::Text)?;
    let text = run::explain(&engine, job(&body)?, format).await?;
    Ok(([(header::CONTENT_TYPE, kind)], text))
}

#[derive(Deserialize)]
struct StatusOptions {
    /// While the query runs, answer at its end, or after this many milliseconds.
    wait_ms: Option<u64>,
}

async fn status(
    State(weak): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(options): Query<StatusOptions>,
) -> Answer<impl IntoResponse> {
    let status = query(&weak, &headers, &id)?;
    if let Some(wait_ms) = options.wait_ms {
        // Report the status either way.
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms).min(MAX_WAIT), status.worked()).await;
    }
    let engine = alive(&weak)?;
    Ok(Json(Report { engine: own_load(&engine), ..status.report(connected(&engine), engine.registry.ahead(&id)) }))
}

/// The load of workers that serve this query only. That of a shared engine is only reported with the engine's token.
fn own_load(engine: &Engine) -> Option<EngineReport> {
    match engine.options.provider {
        Provider::External { .. } => Some(engine.report()),
        Provider::Local(_) | Provider::Joining { .. } => None,
    }
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

impl GraphOptions {
    /// The requested format and its content type.
    fn format(&self, default: Format) -> Answer<(Format, &'static str)> {
        let format = match self.format.as_deref() {
            None => default,
            Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some("dot") => Format::Dot,
            Some("mermaid") => Format::Mermaid,
            Some(_) => return Err(bad_request("format: text, json, dot or mermaid")),
        };
        let kind = match format {
            Format::Json => "application/json",
            Format::Dot => "text/vnd.graphviz",
            Format::Text | Format::Mermaid => "text/plain",
        };
        Ok((format, kind))
    }
}

fn bad_request(message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message)
}

async fn graph(
    State(weak): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(options): Query<GraphOptions>,
) -> Answer<impl IntoResponse> {
    let status = query(&weak, &headers, &id)?;
    let (format, kind) = options.format(Format::Json)?;
    Ok(([(header::CONTENT_TYPE, kind)], explained(&status, format)?))
}

fn explained(status: &Status, format: Format) -> Answer<String> {
    let unplanned = || Refusal::new(StatusCode::CONFLICT, "NotPlanned", "the query is not planned yet");
    status.explain(format).ok_or_else(unplanned)
}

async fn events(State(weak): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer<impl IntoResponse> {
    let status = query(&weak, &headers, &id)?;
    // Subscribe first, then look: what happens in between is reported twice rather than never.
    let live = BroadcastStream::new(status.events.subscribe());
    let report = status.report(Vec::new(), None);
    let mut past: Vec<Event> = report.plan.into_iter().map(Event::Planned).collect();
    past.extend(report.stages.into_iter().map(Event::Stage));
    past.extend(report.outcome.map(|outcome| Event::Done { outcome: Box::new(outcome) }));
    past.extend(report.error.map(Event::Error));
    let ended = |event: &Event| matches!(event, Event::Done { .. } | Event::Error { .. });
    let all = Box::pin(futures::stream::iter(past).chain(live.filter_map(|event| async move { event.ok() })));
    let until_end = futures::stream::unfold((all, false), move |(mut all, over)| async move {
        // The channel stays open after the last event, so the event itself marks the end.
        let event = if over { None } else { all.next().await }?;
        let over = ended(&event);
        Some((event, (all, over)))
    });
    let json = |event: &Event| sse::Event::default().json_data(event).unwrap_or_default();
    let stream = until_end.map(move |event| Ok::<_, Infallible>(json(&event)));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))))
}

#[derive(Deserialize)]
struct ResultOptions {
    /// `stream`, `file` (a stream if the result cannot be a file: the content type says which), `parquet`, `csv`,
    /// `json`, `ndjson`, or `table` (the first rows as text).
    format: Option<String>,
    /// `oldest`: types that every Arrow reader knows; `newest`: types that Polars reads without conversion.
    compat: Option<String>,
    /// Return at most this many rows.
    rows: Option<u64>,
    /// Skip this many rows.
    #[serde(default)]
    offset: u64,
}

impl ResultOptions {
    fn shape(&self) -> Answer<stream::Shape> {
        let form = Form::parse(self.format.as_deref().unwrap_or("stream"))
            .ok_or_else(|| bad_request(&format!("format: {}", Form::NAMES)))?;
        let level = match self.compat.as_deref() {
            None | Some("oldest") => CompatLevel::oldest(),
            Some("newest") => CompatLevel::newest(),
            Some(_) => return Err(bad_request("compat: oldest or newest")),
        };
        Ok(stream::Shape { form, level, offset: self.offset, rows: self.rows.unwrap_or(u64::MAX) })
    }
}

async fn result(
    State(weak): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(options): Query<ResultOptions>,
) -> Answer<Response> {
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
    if options.format.as_deref() == Some("table") {
        let rows = options.rows.unwrap_or(text::MOST_ROWS);
        let read = tokio::task::spawn_blocking(move || text::table(&handle, rows)).await;
        let body = read.map_err(|error| QueryError::internal(error.to_string()))??;
        return Ok(([(header::CONTENT_TYPE, text::CONTENT_TYPE)], body).into_response());
    }
    let shape = options.shape()?.fit(&handle.schema);
    if let Some(why) = shape.form.refuses(&handle.schema) {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Unwritable", &why));
    }
    let (sender, mut receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || stream::send(&handle, shape, &sender));
    // Report an error before the first byte by the status code, not by an answer that breaks off.
    let first = match receiver.recv().await {
        Some(Err(error)) => return Err(QueryError::io(error.to_string()).into()),
        Some(Ok(first)) => first,
        None => Bytes::new(),
    };
    let body = Body::from_stream(futures::stream::iter([Ok(first)]).chain(ReceiverStream::new(receiver)));
    // Confirm the offset: older releases ignore it.
    let heads = [(header::CONTENT_TYPE, shape.form.content_type().to_owned()), (OFFSET, shape.offset.to_string())];
    Ok((heads, body).into_response())
}
