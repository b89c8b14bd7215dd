//! The coordinator: a warm engine that takes jobs, one after another or many at once, and runs each over its workers.
//!
//! `prepare` makes a plan ready, `driver` moves it through the scheduler, `run` puts both together with sinks, the
//! deadline and the second look at failures; `registry` and `control` hold the workers. What to do next is decided by
//! `scheduler` alone; nothing here knows how a task computes.

mod admission;
mod clean;
pub mod cli;
mod control;
mod driver;
mod events;
pub mod explain;
mod http;
mod metrics;
mod prepare;
mod registry;
mod result;
mod run;
mod status;
mod stream;
mod warned;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use floe_api::job::Job;
use floe_api::report::{Event, StageSummary};
use floe_scheduler::cluster::{Claim, Limits};

use crate::proto::control_server::ControlServer;
use crate::shuffle;
use crate::{local, proto, sink};

use floe_wire::error::{QueryError, Result};
use floe_wire::graph::SingleWorker;

pub use prepare::{Context, Prepared, prepare};
pub use result::ResultHandle;
pub use status::Remember;

use admission::Waiting;
use registry::Registry;
use status::Statuses;

#[derive(Clone, Debug)]
pub enum Provider {
    /// Worker processes on this machine, started and replaced by the engine.
    Local(local::Options),
    /// Workers that connect by themselves; so many are expected, with so many threads each.
    External { workers: usize, threads: usize },
}

/// Not printable: it holds the token.
#[derive(Clone)]
pub struct Options {
    pub provider: Provider,
    /// What workers and clients of the engine show.
    pub token: String,
    /// Where workers connect.
    pub listen: SocketAddr,
    /// Where status, progress and results are served; not at all without it.
    pub http: Option<SocketAddr>,
    /// Directory for scratch files of local workers.
    pub scratch: PathBuf,
    /// What relative paths of jobs are relative to.
    pub base: PathBuf,
    /// How long a query waits until all workers are there; then it starts with those that are.
    pub ready_within: Duration,
    /// What is kept of queries that have ended.
    pub remember: Remember,
    /// How many queries run at once, and how many wait.
    pub limits: Limits,
}

impl Options {
    /// A local engine with so many workers and defaults for the rest.
    pub fn local(workers: usize) -> Options {
        Options {
            provider: Provider::Local(local::Options::new(workers)),
            token: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            http: None,
            scratch: std::env::temp_dir(),
            base: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            ready_within: Duration::from_secs(30),
            remember: Remember::default(),
            limits: Limits::default(),
        }
    }
}

/// Why a job is not taken in.
enum Refused {
    Invalid(QueryError),
    /// Too many run and wait: it may be sent again later.
    NoRoom(QueryError),
}

/// Events that a slow listener may fall behind.
pub const EVENTS: usize = 256;

/// What a query that succeeded gives.
#[derive(Default)]
pub struct Outcome {
    pub rows: u64,
    pub bytes_written: u64,
    pub bytes_shuffled: u64,
    pub duration: Duration,
    pub stages: Vec<StageSummary>,
    pub single_worker: Vec<SingleWorker>,
    pub warnings: Vec<String>,
    /// Without a sink.
    pub result: Option<Arc<ResultHandle>>,
    /// One for each sink.
    pub sinks: Vec<sink::Summary>,
    /// Why the result is that of a second run on one node.
    pub fell_back: Option<String>,
}

/// A running engine. Dropped, its local workers are killed and their files removed; `stop` is the gentle way.
pub struct Engine {
    options: Options,
    registry: Arc<Registry>,
    statuses: Arc<Statuses>,
    pool: Option<local::Pool>,
    /// Tells the runs of this coordinator from those of any other.
    nonce: u64,
    control: SocketAddr,
    http: Option<SocketAddr>,
    ended: CancellationToken,
    /// Told when a client has let go of a finished query.
    forgotten: Notify,
    was_ready: AtomicBool,
}

impl Engine {
    /// Opens the ports and starts the workers, without waiting for them.
    pub async fn start(options: Options) -> Result<Arc<Engine>> {
        let bind = |address: SocketAddr| async move {
            let failed = |error| QueryError::io(format!("cannot listen on {address}: {error}"));
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let local = listener.local_addr().map_err(failed)?;
            Ok::<_, QueryError>((listener, local))
        };
        let (listener, control) = bind(options.listen).await?;
        let registry = Arc::new(Registry::new(options.limits));
        let ended = CancellationToken::new();
        let service = control::Service { registry: registry.clone(), token: options.token.clone() };
        let service = ControlServer::new(service)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        let server = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(Duration::from_secs(5)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .add_service(service);
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let until = ended.clone();
        tokio::spawn(async move {
            let served = server.serve_with_incoming_shutdown(incoming, until.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!("the control port failed: {error}");
            }
        });

        let pool = match &options.provider {
            Provider::External { .. } => None,
            Provider::Local(local) => {
                let failed = |error| QueryError::io(format!("cannot make scratch directories: {error}"));
                let scratch = local::Scratch::create(&options.scratch).map_err(failed)?;
                let (local, token, lost) = (local.clone(), options.token.clone(), registry.clone());
                let start = move || {
                    local::Pool::start(local, control.to_string(), token, scratch.clone(), move |worker| {
                        lost.lose(worker);
                    })
                    .inspect_err(|_| scratch.remove())
                };
                let pool = tokio::task::spawn_blocking(start).await;
                Some(pool.map_err(|error| QueryError::internal(error.to_string()))??)
            }
        };
        let http = match options.http {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let statuses = Arc::new(Statuses::new(options.http.is_some(), options.remember));
        let engine = Arc::new(Engine {
            registry,
            statuses,
            pool,
            nonce: uuid::Uuid::new_v4().as_u64_pair().0,
            control,
            http: http.as_ref().map(|(_, address)| *address),
            ended,
            forgotten: Notify::new(),
            was_ready: AtomicBool::new(false),
            options,
        });
        if let Some((listener, _)) = http {
            http::serve(&engine, listener);
        }
        Ok(engine)
    }

    /// Runs one job to its end. Progress goes to `events`, if anybody listens there.
    pub async fn run(&self, job: Job, events: broadcast::Sender<Event>, cancel: CancellationToken) -> Result<Outcome> {
        let status = self.statuses.start(&job, events, cancel)?;
        let waiting = self.arrive(&job, 0)?;
        run::run(self, job, &status, waiting).await
    }

    /// Takes a job in and lets it run when its turn comes; its status tells of it.
    fn submit(self: &Arc<Self>, job: Job, job_bytes: u64) -> Result<Arc<status::Status>, Refused> {
        let (events, _) = broadcast::channel(EVENTS);
        let status = self.statuses.start(&job, events, CancellationToken::new()).map_err(Refused::Invalid)?;
        let waiting = self.arrive(&job, job_bytes).map_err(Refused::NoRoom)?;
        let (engine, started) = (self.clone(), status.clone());
        tokio::spawn(async move { drop(run::run(&engine, job, &started, waiting).await) });
        Ok(status)
    }

    fn arrive(&self, job: &Job, job_bytes: u64) -> Result<Waiting> {
        let claim = Claim {
            priority: job.spec.priority,
            // Tasks are planned for a worker of this size, which runs one of them at once.
            task_memory_bytes: job.spec.compute.memory.bytes().unwrap_or(0),
            job_bytes,
            ..Claim::default()
        };
        let waiting = self.registry.arrive(&job.id, claim);
        if waiting.is_err() {
            self.statuses.remove(&job.id);
        }
        waiting
    }

    /// Waits until a client lets go of a finished query.
    pub async fn let_go(&self) {
        self.forgotten.notified().await;
    }

    /// Where workers connect.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Process ids of local workers by name.
    pub fn worker_processes(&self) -> HashMap<String, i32> {
        self.pool.as_ref().map(local::Pool::processes).unwrap_or_default()
    }

    /// Waits until the expected workers are connected; returns how many are.
    pub async fn wait_ready(&self) -> usize {
        self.registry.wait_for(self.expected_workers(), self.options.ready_within).await
    }

    pub fn expected_workers(&self) -> usize {
        match &self.options.provider {
            Provider::Local(local) => local.workers,
            Provider::External { workers, .. } => *workers,
        }
    }

    fn threads(&self) -> usize {
        match &self.options.provider {
            Provider::Local(local) => local.threads,
            Provider::External { threads, .. } => *threads,
        }
    }

    /// Ends everything and removes all files. Blocking.
    pub fn stop(&self) {
        self.ended.cancel();
        if let Some(pool) = &self.pool {
            pool.stop(Duration::from_secs(2));
        }
        shuffle::finish_removals(Duration::from_secs(20));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
