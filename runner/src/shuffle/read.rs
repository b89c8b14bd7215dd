//! Reads part of a task's output: from the message, from a file of this host, from the worker that holds it, or from
//! the run's store. An output that cannot be read is reported as lost, by name, so that only that one is recomputed.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use floe_wire::chunk::{OutputId, Place, Shelf, Span};
use floe_wire::error::{Category, QueryError, Result, TaskError};
use tokio::runtime::Runtime;

use super::map::Map;
use super::peers::Peers;
use super::remote::Remote;

const ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest pause while an answer is received.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Below this size a copy is cheaper than a memory map.
const MAP_FROM_BYTES: u64 = 64 << 10;

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
        // A worker answers itself: following a redirect would send the query's token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| QueryError::io(format!("cannot make the fetch client: {error}")))
});

/// Reads the outputs of one run, wherever they are.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The run's name.
    pub run: String,
    /// The token for the workers that serve its outputs.
    pub token: String,
    pub peers: Arc<Peers>,
    /// Whether to read files of this host by path; if not, over HTTP as from another host.
    pub by_path: bool,
    /// The run's shuffle store, if it has one.
    pub remote: Option<Arc<Remote>>,
}

impl Reader {
    /// Reads a part of an output. Blocks: call it from task threads only.
    pub fn open(&self, output: OutputId, place: &Place, span: Span) -> Result<Bytes, TaskError> {
        if span.len == 0 {
            return Ok(Bytes::new());
        }
        match place {
            Place::Inline(bytes) => {
                let (from, to) = (span.offset as usize, (span.offset + span.len) as usize);
                if to > bytes.len() {
                    let message = format!("a chunk of {output} ends at {to} of {} inline bytes", bytes.len());
                    return Err(QueryError::internal(message).into());
                }
                Ok(bytes.slice(from..to))
            }
            Place::Worker { worker, shelf } => {
                let gone = || lost(output, &format!("worker {} has left", worker.0));
                let peer = self.peers.get(*worker).ok_or_else(gone)?;
                // A file in memory may have moved to disk meanwhile; it is never in neither place.
                let shelves = [*shelf, Shelf::Disk];
                let mut here =
                    shelves.iter().filter(|_| self.by_path).filter_map(|at| peer.path(&self.run, output, *at));
                if let Some(bytes) = here.find_map(|path| open_path(&path, span)) {
                    return Ok(bytes);
                }
                if peer.url.is_empty() {
                    return Err(lost(output, &format!("worker {} no longer has it", worker.0)));
                }
                self.fetch(output, &peer.url(&self.run, output), span)
            }
            Place::Store => {
                let unknown = || QueryError::internal(format!("{output} lies in a store, and the run has none"));
                let remote = self.remote.as_ref().ok_or_else(unknown)?;
                let gone = || lost(output, &format!("it is gone from {}", remote.prefix));
                remote.read(output, span)?.ok_or_else(gone)
            }
        }
    }
}

/// Maps the first `len` bytes of a finished file, which must be at least that long.
pub fn map_file(file: &File, len: usize) -> std::io::Result<Bytes> {
    Ok(Bytes::from_owner(Map::new(file, 0, len)?))
}

/// Reads a span of a file by path; `None` if this host has no such file, or it is too short.
pub(super) fn open_path(path: &Path, Span { offset, len }: Span) -> Option<Bytes> {
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

fn lost(output: OutputId, why: &str) -> TaskError {
    TaskError::Lost { outputs: vec![output], message: format!("output {output} is lost: {why}") }
}

enum Failure {
    /// The worker answered that it does not hold the output, or the worker is gone.
    Gone(String),
    Retry(String),
    Stop(QueryError),
}

impl Reader {
    fn fetch(&self, output: OutputId, url: &str, span: Span) -> Result<Bytes, TaskError> {
        let (runtime, client) = match (&*RUNTIME, &*CLIENT) {
            (Ok(runtime), Ok(client)) => (runtime, client),
            (Err(error), _) | (_, Err(error)) => return Err(error.clone().into()),
        };
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(50 << attempt));
            }
            match runtime.block_on(fetch_once(client, span, url, &self.token)) {
                Ok(bytes) => return Ok(bytes),
                Err(Failure::Gone(message)) => return Err(lost(output, &format!("{url} is gone: {message}"))),
                Err(Failure::Retry(message)) => last = message,
                Err(Failure::Stop(error)) => return Err(error.into()),
            }
        }
        Err(lost(output, &format!("{url} cannot be read after {ATTEMPTS} attempts: {last}")))
    }
}

async fn fetch_once(client: &reqwest::Client, span: Span, url: &str, token: &str) -> Result<Bytes, Failure> {
    let range = format!("bytes={}-{}", span.offset, span.offset + span.len - 1);
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
    let mut bytes = Vec::with_capacity(span.len as usize);
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Retry(causes(&error)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > span.len {
            break;
        }
    }
    if bytes.len() as u64 != span.len {
        return Err(Failure::Retry(format!("{} of {} bytes came", bytes.len(), span.len)));
    }
    Ok(Bytes::from(bytes))
}

/// An error with its sources: reqwest's own message has only the outermost.
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
