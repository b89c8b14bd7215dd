//! The coordinator: a warm engine that takes jobs, one after another or many at once, and runs each over its workers.
//!
//! `prepare` loads and cuts a plan, `driver` runs it through the scheduler, `run` adds sinks, the deadline and the
//! second run after a failure; `registry` and `control` hold the workers. All decisions are made by `scheduler`;
//! nothing here knows how a task computes.

mod admission;
pub mod args;
mod bring;
mod clean;
pub mod cli;
mod commit;
mod control;
mod demand;
mod driver;
mod ends;
mod events;
pub mod explain;
mod fair;
mod form;
mod http;
mod message;
mod metrics;
mod planning;
mod prepare;
mod recursion;
mod registry;
mod result;
mod run;
mod signals;
mod status;
mod stream;
mod summary;
mod text;
mod warned;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use floe_api::job::Job;
use floe_api::reason::{Reason, sentence};
use floe_api::report::{Event, StageSummary};
use floe_plan::functions;
use floe_scheduler::cluster::{Claim, Limits};

use crate::listen::listen;
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
    /// Self-connecting workers of one query: how many it starts with, at most how many, and the threads of each.
    External { workers: usize, most: usize, threads: usize },
    /// Self-connecting workers that come and go: at most how many, and the threads of each.
    Joining { most: usize, threads: usize },
}

impl Provider {
    /// What to do about a full queue, in the words of whoever set its limits.
    fn no_room(&self, what: &str) -> String {
        match self {
            Provider::Joining { .. } => sentence(Reason::ContextFull, what),
            Provider::Local(_) | Provider::External { .. } => format!(
                "{what}. Send the query again when some have ended, or start the engine with higher --max-waiting or \
                 --max-waiting-bytes"
            ),
        }
    }
}

/// Not printable: it holds the token.
#[derive(Clone)]
pub struct Options {
    pub provider: Provider,
    /// The token that workers and the engine's clients send.
    pub token: String,
    /// Address at which workers connect.
    pub listen: SocketAddr,
    /// Address at which status, progress and results are served; none: they are not.
    pub http: Option<SocketAddr>,
    /// Directory for scratch files of local workers.
    pub scratch: PathBuf,
    /// Base directory of relative paths in jobs.
    pub base: PathBuf,
    /// How long a query waits for all workers; then it starts with those connected.
    pub ready_within: Duration,
    /// What is kept of queries that have ended.
    pub remember: Remember,
    /// Directory for results too large for the coordinator's memory, and their largest size in bytes; other results
    /// stay on the workers.
    pub result_disk: Option<(PathBuf, u64)>,
    /// How many queries run at once, and how many wait.
    pub limits: Limits,
    /// Queries that are planned at once.
    pub plans_at_once: usize,
    /// The groups among which workers are shared evenly; none: among queries.
    pub fair: Option<fair::Fair>,
}

impl Options {
    /// A local engine with this many workers, and defaults for the rest.
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
            result_disk: None,
            limits: Limits::default(),
            plans_at_once: 64,
            fair: None,
        }
    }
}

/// Why a job is refused.
enum Refused {
    Invalid(QueryError),
    /// Too many queries run and wait: send it again later.
    NoRoom(QueryError),
    /// This attempt was accepted before.
    Known(QueryError),
}

/// Events by which a slow listener may fall behind.
pub const EVENT_BACKLOG: usize = 256;

/// The outcome of a successful query.
#[derive(Default)]
pub struct Outcome {
    pub rows: u64,
    pub bytes_written: u64,
    pub bytes_shuffled: u64,
    pub duration: Duration,
    pub stages: Vec<StageSummary>,
    pub single_worker: Vec<SingleWorker>,
    pub warnings: Vec<String>,
    /// The rows, if there is no sink.
    pub result: Option<Arc<ResultHandle>>,
    /// One for each sink.
    pub sinks: Vec<sink::Summary>,
    /// Why the result is that of a second run on one node.
    pub fell_back: Option<String>,
}

/// How long queries may take to clean up when the engine ends.
const QUERIES_END: Duration = Duration::from_secs(5);

/// A running engine. Dropping it kills its local workers and removes their files; `stop` ends them gracefully.
pub struct Engine {
    options: Options,
    registry: Arc<Registry>,
    statuses: Arc<Statuses>,
    pool: Option<local::Pool>,
    /// Distinguishes this coordinator's runs from those of any other.
    nonce: u64,
    control: SocketAddr,
    http: Option<SocketAddr>,
    ended: CancellationToken,
    /// Notified when a client deletes a finished query.
    forgotten: Notify,
    was_ready: AtomicBool,
    /// A query holds a permit while it is planned.
    planning: Semaphore,
}

impl Engine {
    /// Opens the ports and starts the workers, without waiting for them.
    pub async fn start(options: Options) -> Result<Arc<Engine>> {
        let bind = |address: SocketAddr| async move {
            let failed = |error| QueryError::io(format!("cannot listen on {address}: {error}"));
            let listener = listen(address).await.map_err(failed)?;
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
            Provider::External { .. } | Provider::Joining { .. } => None,
            Provider::Local(local) => {
                let failed = |error| QueryError::io(format!("cannot make scratch directories: {error}"));
                let scratch = local::Scratch::create(&options.scratch).map_err(failed)?;
                let dir = Some(scratch.dir.join("functions"));
                functions::configure(functions::Settings { dir, ..functions::settings() });
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
            planning: Semaphore::new(options.plans_at_once.max(1)),
            options,
        });
        if let Some((listener, _)) = http {
            http::serve(&engine, listener);
        }
        Ok(engine)
    }

    /// Runs one job to its end. Progress goes to the listeners of `events`, if any.
    pub async fn run(&self, job: Job, events: broadcast::Sender<Event>, cancel: CancellationToken) -> Result<Outcome> {
        let status = self.statuses.start(&job, None, events, cancel)?;
        let waiting = self.arrive(&job, 0)?;
        run::run(self, job, &status, waiting).await
    }

    /// Accepts a job, runs it once admitted, and returns its status. A job with a token can be sent again: a known
    /// attempt is not run twice.
    fn submit(
        self: &Arc<Self>,
        job: Job,
        job_bytes: u64,
        token: Option<String>,
    ) -> Result<Arc<status::Status>, Refused> {
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        if let (Some(_), Some(known)) = (&token, self.statuses.get(&job.id)) {
            if known.attempt >= job.attempt {
                let message = format!("attempt {} of query {} was accepted before", job.attempt, job.id);
                return Err(Refused::Known(QueryError::user("Known", message)));
            }
            if !known.finished() {
                known.cancel.cancel();
                let message = format!("attempt {} of query {} has not ended yet", known.attempt, job.id);
                return Err(Refused::NoRoom(QueryError::user("NotEnded", message)));
            }
        }
        let status = self.statuses.start(&job, token, events, CancellationToken::new()).map_err(Refused::Invalid)?;
        let waiting = self.arrive(&job, job_bytes).map_err(Refused::NoRoom)?;
        let (engine, started) = (self.clone(), status.clone());
        tokio::spawn(async move { drop(run::run(&engine, job, &started, waiting).await) });
        Ok(status)
    }

    fn arrive(&self, job: &Job, job_bytes: u64) -> Result<Waiting> {
        let claim = Claim {
            priority: job.spec.priority,
            // The planner sizes tasks for a worker with this memory that runs one at a time.
            task_memory_bytes: job.spec.compute.memory.bytes().unwrap_or(0),
            job_bytes,
            group: self.options.fair.as_ref().map(|fair| fair.group(&job.spec.labels)),
            ..Claim::default()
        };
        let waiting = self.registry.arrive(&job.id, claim);
        waiting.map_err(|refused| {
            self.statuses.remove(&job.id);
            QueryError { message: self.options.provider.no_room(&refused.message), ..refused }
        })
    }

    /// Waits until a client deletes a finished query.
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

    /// Directory of local workers' files, removed with the engine.
    pub fn scratch(&self) -> Option<&Path> {
        self.pool.as_ref().map(local::Pool::scratch)
    }

    /// Waits for the expected workers; returns how many are connected.
    pub async fn wait_ready(&self) -> usize {
        if let Provider::Joining { .. } = self.options.provider {
            return self.registry.links().len();
        }
        self.registry.wait_for(self.expected_workers(), self.options.ready_within).await
    }

    pub fn expected_workers(&self) -> usize {
        match &self.options.provider {
            Provider::Local(local) => local.workers,
            Provider::External { workers, .. } => *workers,
            Provider::Joining { most, .. } => match self.registry.taking() {
                0 => *most,
                there => there,
            },
        }
    }

    /// The workers that a query is planned for.
    fn planned_workers(&self) -> usize {
        match &self.options.provider {
            // More of them come while tasks wait.
            Provider::External { most, .. } => *most,
            Provider::Local(_) | Provider::Joining { .. } => self.expected_workers(),
        }
    }

    fn threads(&self) -> usize {
        match &self.options.provider {
            Provider::Local(local) => local.threads,
            Provider::External { threads, .. } | Provider::Joining { threads, .. } => *threads,
        }
    }

    /// Ends everything and removes all files. Blocks.
    pub fn stop(&self) {
        self.ended.cancel();
        self.end_queries();
        if let Some(pool) = &self.pool {
            pool.stop(Duration::from_secs(2));
        }
        shuffle::finish_removals(Duration::from_secs(20));
    }

    /// Cancels running queries and waits until they have removed what they staged at sinks and wrote to scratch; a
    /// later write would recreate the removed scratch directory.
    fn end_queries(&self) {
        let running: Vec<_> = self.statuses.all().into_iter().filter(|status| !status.finished()).collect();
        running.iter().for_each(|status| status.cancel.cancel());
        let until = Instant::now() + QUERIES_END;
        while running.iter().any(|status| !status.finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
