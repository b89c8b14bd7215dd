//! The worker: takes tasks from the coordinator over one stream, runs them on threads of their own, serves their
//! outputs to its peers, and ends with the coordinator, leaving no file behind. Execution of a task is in `exec`;
//! placement is decided by the scheduler.

mod cgroup;
mod introduction;
mod metrics;
mod options;
mod pressure;
mod queries;
mod runner;
mod session;
mod shuffled;
mod sinks;
mod slots;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use floe_api::report::{WORKER_ORPHANED, WORKER_RESTART};
use floe_plan::functions;
use serde::{Deserialize, Serialize};

use crate::listen::listen;
use crate::shuffle::{self, Store, StoreOptions};
use crate::{sink, telemetry, writeback};
use floe_wire::error::{QueryError, Result};

pub use options::Args;
pub use slots::panicked;

/// The settings that a query's tasks share; sent to a worker before its first task.
#[derive(Clone, Serialize, Deserialize)]
pub struct Settings {
    pub sinks: Arc<Vec<sink::Plan>>,
    pub shuffle: floe_api::execution::ShuffleSpec,
    /// The shuffle store, with `place: store`.
    pub remote: Option<Arc<shuffle::Remote>>,
}

/// Why a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Drained,
    Restart,
    Orphaned,
    /// The coordinator is gone and all its queries had ended: the normal end on a cluster.
    Released,
}

/// A worker's own directories.
#[derive(Clone, Debug)]
struct Scratch {
    dir: PathBuf,
    memory_dir: Option<PathBuf>,
    sweep: Vec<PathBuf>,
}

impl Scratch {
    fn new(args: &Args, id: &str) -> Scratch {
        let root = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
        Scratch {
            dir: root.join(id),
            memory_dir: args.memory_dir.as_ref().map(|dir| dir.join(id)),
            sweep: args.sweep.clone(),
        }
    }

    /// Removes the directories; when the coordinator is gone, sibling workers end, too, and the last one removes what
    /// they share.
    fn remove(&self, end: End) {
        let _ = std::fs::remove_dir_all(&self.dir);
        if let Some(dir) = &self.memory_dir {
            let _ = std::fs::remove_dir_all(dir);
        }
        if matches!(end, End::Orphaned | End::Released) {
            for dir in &self.sweep {
                floe_scratch::remove(dir);
            }
        }
    }
}

/// Runs a worker until it is drained or orphaned.
pub fn run(args: Args, token: String) -> ExitCode {
    let id = args.id.clone().unwrap_or_else(|| format!("w{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()));
    let scratch = Scratch::new(&args, &id);
    std::panic::set_hook(Box::new(|info| tracing::debug!("{info}")));
    writeback::configure(args.memory_limit_bytes);
    functions::configure(functions::Settings { dir: Some(scratch.dir.join("functions")), ..args.functions() });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("floe-io").enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("floe worker {id}: cannot start: {error}");
            return ExitCode::from(WORKER_ORPHANED);
        }
    };
    let guard = runtime.block_on(async { telemetry::init("worker", &id) });
    let end = runtime.block_on(serve(args, id.clone(), token, &scratch));
    let end = match end {
        Ok(end) => end,
        Err(error) => {
            tracing::error!(worker = %id, "{error}");
            End::Orphaned
        }
    };
    scratch.remove(end);
    drop(guard);
    // Task threads may still be inside Polars: end them and the runtime with the process.
    std::process::exit(i32::from(match end {
        End::Drained | End::Released => 0,
        End::Restart => WORKER_RESTART,
        End::Orphaned => WORKER_ORPHANED,
    }))
}

async fn serve(args: Args, id: String, token: String, scratch: &Scratch) -> Result<End> {
    let listener = listen(args.listen)
        .await
        .map_err(|error| QueryError::io(format!("cannot listen on {}: {error}", args.listen)))?;
    let local = listener.local_addr().map_err(|error| QueryError::io(error.to_string()))?;
    let store = Store::new(StoreOptions {
        dir: scratch.dir.join("shuffle"),
        memory_dir: scratch.memory_dir.clone(),
        memory_budget_bytes: args.shuffle_memory_bytes,
        disk_budget_bytes: args.shuffle_disk_bytes,
        base_url: base_url(&args, local),
        ..StoreOptions::default()
    });
    let files = shuffle::router(store.clone());
    let introduction = introduction::Introduction::new(args.coordinator.clone(), &token)?;
    let introduction_router = introduction.router();
    let session = session::Session::new(args, id, token.clone(), store.clone(), introduction)?;
    let router = files.merge(introduction_router).merge(metrics::router(store, session.slots(), token));
    tokio::spawn(async move {
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let _ = axum::serve(listener, router).await;
    });
    session.run().await
}

fn base_url(args: &Args, local: SocketAddr) -> String {
    match &args.host {
        Some(host) if host.contains(':') => format!("http://[{host}]:{}", local.port()),
        Some(host) => format!("http://{host}:{}", local.port()),
        None => format!("http://{local}"),
    }
}

/// How often running tasks and memory are reported.
const HEARTBEAT: Duration = Duration::from_secs(1);
const HEARTBEAT_BUSY: Duration = Duration::from_millis(250);
/// A coordinator that is silent for this long is gone: it pings every second.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
