//! Reads a piece of a task's output, wherever it lies: in the message, in a file of this host, at the worker that
//! holds it. What cannot be read any more is told as a lost output with its producer, so that only that runs again.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;

use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::{Location, Piece};

use super::map::Map;
use super::name::{Producer, producer};
use super::remote;

/// Class of the error that tells of a lost output.
pub const LOST_OUTPUT: &str = "LostOutput";

const ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Below this size a copy is cheaper than a memory map.
const MAP_FROM_BYTES: u64 = 64 << 10;

/// What `open` could not find, by query, until the worker tells the coordinator.
static LOST: LazyLock<Mutex<HashMap<String, Vec<Producer>>>> = LazyLock::new(Mutex::default);

/// Fetches run here, so that blocking task threads can wait for them.
static RUNTIME: LazyLock<Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("floe-fetch")
        .enable_all()
        .build()
        .map_err(|error| QueryError::io(format!("cannot start the fetch runtime: {error}")))
});

static CLIENT: LazyLock<Result<reqwest::Client>> = LazyLock::new(|| {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .tcp_nodelay(true)
        .no_proxy()
        // A worker answers itself: nobody is sent elsewhere with the query's token.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| QueryError::io(format!("cannot make the fetch client: {error}")))
});

/// The bytes of a piece as Polars' readers take them. Blocking: call it from task threads only.
pub fn open(piece: &Piece, token: &str) -> Result<polars_buffer::Buffer<u8>> {
    open_bytes(piece, token).map(polars_buffer::Buffer::from_owner)
}

pub fn open_bytes(piece: &Piece, token: &str) -> Result<Bytes> {
    if piece.len == 0 {
        return Ok(Bytes::new());
    }
    match &piece.at {
        Location::Inline(bytes) => {
            let (from, to) = (piece.offset as usize, (piece.offset + piece.len) as usize);
            if to > bytes.len() {
                return Err(QueryError::internal(format!("an inline piece ends at {to} of {} bytes", bytes.len())));
            }
            Ok(bytes.slice(from..to))
        }
        Location::Worker { path, url, worker } => match open_path(Path::new(path), piece.offset, piece.len) {
            Some(bytes) => Ok(bytes),
            None if url.is_empty() || url.starts_with('/') => {
                Err(lost(&piece.at, &format!("worker {worker} no longer has {path}")))
            }
            None => fetch(piece, url, token),
        },
        Location::Store { uri } => match remote::read(uri, piece.offset, piece.len)? {
            Some(bytes) => Ok(bytes),
            None => Err(lost(&piece.at, &format!("{uri} is gone"))),
        },
    }
}

/// What could not be read since the last call, for the report of a failed task.
pub fn take_lost(query: &str) -> Vec<Producer> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).remove(query).unwrap_or_default()
}

/// `None` when there is no such file on this host, or it is shorter than it should be.
pub(super) fn open_path(path: &Path, offset: u64, len: u64) -> Option<Bytes> {
    if path.as_os_str().is_empty() {
        return None;
    }
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    if size < offset + len {
        return None;
    }
    if len >= MAP_FROM_BYTES
        && let Ok(map) = Map::new(&file, offset, len as usize)
    {
        return Some(Bytes::from_owner(map));
    }
    let mut bytes = vec![0; len as usize];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, offset).ok()?;
    Some(Bytes::from(bytes))
}

fn lost(at: &Location, message: &str) -> QueryError {
    if let Some(producer) = producer(at) {
        let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
        let list = lost.entry(producer.query.clone()).or_default();
        if !list.contains(&producer) {
            list.push(producer);
        }
    }
    QueryError::new(Category::LostWorker, LOST_OUTPUT, message)
}

enum Failure {
    /// The worker answered that it does not have it, or there is no worker any more.
    Gone(String),
    Retry(String),
    Stop(QueryError),
}

fn fetch(piece: &Piece, url: &str, token: &str) -> Result<Bytes> {
    let (runtime, client) = match (&*RUNTIME, &*CLIENT) {
        (Ok(runtime), Ok(client)) => (runtime, client),
        (Err(error), _) | (_, Err(error)) => return Err(error.clone()),
    };
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(50 << attempt));
        }
        match runtime.block_on(fetch_once(client, piece, url, token)) {
            Ok(bytes) => return Ok(bytes),
            Err(Failure::Gone(message)) => return Err(lost(&piece.at, &format!("{url} is gone: {message}"))),
            Err(Failure::Retry(message)) => last = message,
            Err(Failure::Stop(error)) => return Err(error),
        }
    }
    Err(lost(&piece.at, &format!("{url} cannot be read after {ATTEMPTS} attempts: {last}")))
}

async fn fetch_once(client: &reqwest::Client, piece: &Piece, url: &str, token: &str) -> Result<Bytes, Failure> {
    let range = format!("bytes={}-{}", piece.offset, piece.offset + piece.len - 1);
    let request = client.get(url).bearer_auth(token).header("range", range);
    let mut response = request.send().await.map_err(|error| Failure::Retry(causes(&error)))?;
    match response.status().as_u16() {
        206 => {}
        404 | 410 | 416 => return Err(Failure::Gone(format!("status {}", response.status()))),
        401 | 403 => {
            let message = format!("{url} refuses the query's token");
            return Err(Failure::Stop(QueryError::new(Category::Internal, "TokenRefused", message)));
        }
        _ => return Err(Failure::Retry(format!("status {}", response.status()))),
    }
    let mut bytes = Vec::with_capacity(piece.len as usize);
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Retry(causes(&error)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > piece.len {
            break;
        }
    }
    if bytes.len() as u64 != piece.len {
        return Err(Failure::Retry(format!("{} of {} bytes came", bytes.len(), piece.len)));
    }
    Ok(Bytes::from(bytes))
}

/// An error with its sources: reqwest's own message names only the outermost.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
