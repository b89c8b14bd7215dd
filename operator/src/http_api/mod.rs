//! The HTTP API, served by every replica if enabled: queries and contexts as resources, for clients without kubectl. It
//! is stateless: the objects are in the cluster, and results are kept by their coordinators.
//!
//! A request passes `call` (authenticate, authorize, validate) → `queries`, `contexts`, `progress`, `result` or `logs`
//! (act) → an answer or a `Problem`. Acting takes an `auth::Allowed`, which only the check of `auth` makes.
//! `operations` is the table of everything that is served; the router and the OpenAPI document are both made from it.

mod auth;
mod cache;
mod call;
mod change;
mod contexts;
mod coordinator;
mod document;
mod idempotency;
mod limits;
mod listen;
mod logs;
mod object;
mod operations;
mod params;
mod problem;
mod progress;
mod queries;
mod rest;
mod result;
mod reviews;
mod stall;
mod submission;
#[cfg(test)]
mod tests;
mod tls;
mod view;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How many logs are read at the same time: in total, and per caller.
const MAX_LOG_READS: usize = 4;
const MAX_LOG_READS_PER_CALLER: usize = 2;

/// The configuration from the command line.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: std::net::SocketAddr,
    /// Certificate chain and key as PEM files, which may be replaced while they are in use.
    pub tls: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// Audiences, one of which a token must have. Empty: tokens for the API server.
    pub audiences: Vec<String>,
    /// Namespaces that are served. Empty: all.
    pub namespaces: Vec<String>,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests per second and caller, with bursts of twice as many.
    pub requests_per_second: u32,
    pub body_bytes: usize,
    /// How many streams of results and progress may be open: in total, and per caller.
    pub streams: usize,
    pub streams_of_caller: usize,
    /// Maximum duration of a stream.
    pub stream: Duration,
    pub connections: usize,
}

/// What every request needs.
pub struct Api {
    client: Client,
    reviews: reviews::Reviews,
    callers: limits::Buckets,
    /// Rate limit by client address, for callers whose token is not known yet.
    strangers: limits::Buckets,
    streams: Arc<limits::Slots>,
    /// Slots for logs that are read at the same time: each is held in memory.
    logs: Arc<limits::Slots>,
    coordinators: coordinator::Coordinators,
    metrics: Arc<Metrics>,
    settings: Settings,
    document: String,
}

impl Api {
    fn new(client: Client, settings: Settings, metrics: Arc<Metrics>) -> anyhow::Result<Api> {
        let limits = settings.limits;
        Ok(Api {
            reviews: reviews::Reviews::new(client.clone(), settings.audiences.clone()),
            callers: limits::Buckets::new(limits.requests_per_second),
            strangers: limits::Buckets::new(limits.requests_per_second),
            streams: limits::Slots::new(limits.streams, limits.streams_of_caller),
            logs: limits::Slots::new(MAX_LOG_READS, MAX_LOG_READS_PER_CALLER),
            coordinators: coordinator::Coordinators::new().context("no HTTP client")?,
            document: document::text(),
            client,
            metrics,
            settings,
        })
    }
}

/// Prints the OpenAPI document.
pub fn print() -> anyhow::Result<()> {
    std::io::Write::write_all(&mut std::io::stdout(), document::text().as_bytes()).context("cannot print")
}

/// A server that is bound to its address.
pub struct Server {
    listener: listen::Listener,
    router: axum::Router,
}

impl Server {
    pub async fn bind(client: Client, settings: Settings, metrics: Arc<Metrics>) -> anyhow::Result<Server> {
        let at = settings.listen;
        let listener = listen::Listener::bind(&settings)
            .await
            .with_context(|| format!("the HTTP API cannot be served at {at}"))?;
        let router = operations::router(Arc::new(Api::new(client, settings, metrics)?));
        tracing::info!(at = %at, "the HTTP API is served");
        Ok(Server { listener, router })
    }

    /// Serves until `stop`, then allows a moment for requests in flight.
    pub async fn run(self, stop: CancellationToken) {
        self.listener.serve(self.router, stop).await;
    }
}
