//! Serves a worker's scratch over HTTP: `/shuffle/<run>/<stage>/<task>/<attempt>` with GET, HEAD and single ranges, for
//! clients with the query's token. Only files registered in the store are served, so that no path of a request reaches
//! the disk.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use axum::routing::get;
use floe_wire::chunk::OutputId;
use floe_wire::graph::{StageId, TaskId};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::store::{Find, Store};

/// Bytes read at once from a served file.
const CHUNK_BYTES: usize = 256 << 10;

pub fn router(store: Arc<Store>) -> Router {
    let route = "/shuffle/{run}/{stage}/{task}/{attempt}";
    Router::new().route(route, get(serve).head(serve)).with_state(store)
}

async fn serve(
    State(store): State<Arc<Store>>,
    Path((run, stage, task, attempt)): Path<(String, u32, u32, u32)>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let token = bearer(&headers).unwrap_or_default();
    let output = OutputId { task: TaskId { stage: StageId(stage), task }, attempt };
    let mut file = match open(&store, &run, token, output).await {
        Ok(file) => file,
        Err(status) => return plain(status),
    };
    let Ok(meta) = file.metadata().await else { return plain(StatusCode::INTERNAL_SERVER_ERROR) };
    let size = meta.len();
    let wanted = match headers.get(header::RANGE).map(|value| range(value.to_str().unwrap_or_default(), size)) {
        None => None,
        Some(Some(range)) => Some(range),
        Some(None) => {
            let mut refused = plain(StatusCode::RANGE_NOT_SATISFIABLE);
            if let Ok(value) = format!("bytes */{size}").parse() {
                refused.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return refused;
        }
    };
    let (from, len) = wanted.unwrap_or((0, size));
    let mut response = Response::builder()
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, len)
        .header(header::CONTENT_TYPE, "application/vnd.apache.arrow.file");
    if wanted.is_some() {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", from + len - 1));
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        if file.seek(std::io::SeekFrom::Start(from)).await.is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR);
        }
        Body::from_stream(ReaderStream::with_capacity(file.take(len), CHUNK_BYTES))
    };
    response.body(body).unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR))
}

/// Opens an output's file; looks it up again if it has moved from memory to disk in between.
async fn open(store: &Store, run: &str, token: &str, output: OutputId) -> Result<File, StatusCode> {
    for _ in 0..2 {
        let held = match store.find(run, token, output) {
            Find::Here(held) => held,
            Find::Denied => return Err(StatusCode::UNAUTHORIZED),
            Find::Gone => return Err(StatusCode::NOT_FOUND),
        };
        if let Ok(file) = File::open(&held.path).await {
            return Ok(file);
        }
    }
    Err(StatusCode::NOT_FOUND)
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// (from, length) of a single byte range, or `None` when it cannot be satisfied.
pub(super) fn range(value: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from.trim(), to.trim()) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size.checked_sub(1)?),
        (from, "") => (from.parse().ok()?, size.checked_sub(1)?),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.min(size.checked_sub(1)?)),
    };
    (from <= to).then(|| (from, to - from + 1))
}
