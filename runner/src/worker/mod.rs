//! The worker: takes tasks from the coordinator over one stream, runs them on threads of their own, serves their
//! outputs to its peers, and ends with the coordinator, leaving no file behind. Execution of a task is in `exec`;
//! placement is decided by the scheduler.

mod cgroup;
mod heap;
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
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// What it shares with the other workers of its parent.
    sweep: Vec<PathBuf>,
    parent: u32,
}

impl Scratch {
    fn new(args: &Args, id: &str) -> Scratch {
        let root = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
        Scratch {
            dir: root.join(id),
            memory_dir: args.memory_dir.as_ref().map(|dir| dir.join(id)),
            sweep: args.sweep.clone(),
            parent: parent_id(),
        }
    }

    /// Removes the directories; if the coordinator is gone, its workers end, and the last one removes what they share.
    fn remove(&self, end: End) {
        let _ = std::fs::remove_dir_all(&self.dir);
        if let Some(dir) = &self.memory_dir {
            let _ = std::fs::remove_dir_all(dir);
        }
        if matches!(end, End::Orphaned | End::Released) && !self.sweep.is_empty() && self.parent_has_ended() {
            for dir in &self.sweep {
                floe_scratch::remove(dir);
            }
        }
    }

    /// Whether the coordinator's process is gone, and not only silent: then other workers still need what they share.
    fn parent_has_ended(&self) -> bool {
        let begin = Instant::now();
        // A killed process closes its connections a little before it ends.
        while parent_id() == self.parent && begin.elapsed() < PARENT_ENDS_WITHIN {
            std::thread::sleep(Duration::from_millis(50));
        }
        parent_id() != self.parent
    }
}

/// Runs a worker until it is drained or orphaned.
pub fn run(args: Args, token: String) -> ExitCode {
    let id = args.id.clone().unwrap_or_else(|| format!("w{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()));
    let scratch = Scratch::new(&args, &id);
    std::panic::set_hook(Box::new(|info| tracing::debug!("{info}")));
    heap::limit(args.threads);
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
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an orphaned worker waits for its parent process to be gone.
const PARENT_ENDS_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_directories_until_their_parent_ends() {
        let root = tempfile::tempdir().unwrap();
        let shared = root.path().join("engine");
        let own = shared.join("w0-1");
        let scratch = |parent| Scratch { dir: own.clone(), memory_dir: None, sweep: vec![shared.clone()], parent };
        let mut has = [false; 3];
        for (at, (end, parent)) in
            [(End::Drained, 0), (End::Orphaned, parent_id()), (End::Orphaned, 0)].into_iter().enumerate()
        {
            std::fs::create_dir_all(&own).unwrap();
            scratch(parent).remove(end);
            assert!(!own.exists());
            has[at] = shared.exists();
        }
        assert_eq!(has, [true, true, false]);
    }
}
