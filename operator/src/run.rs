//! The operator's life cycle: connect, serve health and metrics, lead or wait, work, and shut down in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::context;
use crate::context::register::Register;
use crate::context::talk::Talks;
use crate::controller;
use crate::events::Events;
use crate::http_api;
use crate::kueue::Queues;
use crate::leader::Leader;
use crate::line::Lines;
use crate::metrics::Metrics;
use crate::options::RunArgs;
use crate::poll::Poller;
use crate::query::chain::Chain;
use crate::query::{Context, Memories};
use crate::schedule;
use crate::schedule::children::Children;
use crate::server::{self, Health};
use crate::shares::Shares;
use crate::telemetry;

/// Time allowed for in-flight work at shutdown.
const DRAIN: Duration = Duration::from_secs(20);
const THREADS: usize = 2;

pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    runtime.context("no runtime")?.block_on(work)
}

pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let _telemetry = telemetry::start(args.log_format);
    let stop = on_signal()?;
    let metrics = Arc::new(Metrics::new());
    let ready = Arc::new(AtomicBool::new(false));
    // The server outlives the work: it must answer probes while the rest shuts down.
    let served = CancellationToken::new();
    let health = Health { metrics: Arc::clone(&metrics), ready: Arc::clone(&ready) };
    let server = tokio::spawn(server::serve(args.metrics_listen, health, served.clone()));

    let client = connect(&stop).await?;
    let Some(client) = client else { return Ok(()) };
    let identity = args.identity();
    let namespace = args.operator_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), identity, namespaces = ?args.namespaces, "floe-operator starts");

    // Every replica serves it, whichever leads.
    let http_api = match args.http_api() {
        None => None,
        Some(settings) => {
            let server = http_api::Server::bind(client.clone(), settings, Arc::clone(&metrics)).await?;
            Some(tokio::spawn(server.run(stop.clone())))
        }
    };

    let mut leader = args.leader_elect.then(|| {
        Leader::new(client.clone(), &namespace, args.lease_name.clone(), identity.clone(), args.identity.is_some())
    });
    while !stop.is_cancelled() {
        if let Some(leader) = &mut leader {
            ready.store(true, Ordering::Relaxed);
            tracing::info!("waiting for the lease");
            if !leader.acquire(&stop).await {
                break;
            }
            tracing::info!("leading");
        }
        metrics.leads(true);
        let work = stop.child_token();
        let (poller, mut news) = Poller::new().context("no HTTP client")?;
        let (children, mut told) = Children::new();
        let (events, sending) = Events::start(client.clone(), identity.clone());
        let context = Arc::new(Context {
            client: client.clone(),
            defaults: args.defaults(),
            settings: args.settings(),
            memories: Memories::default(),
            lines: Lines::new(poller.waker()),
            register: Register::new(poller.waker()),
            children,
            chain: Chain::new(poller.waker()),
            queues: Queues::new(args.kueue, poller.waker()),
            shares: Shares::new(args.limits.clone(), poller.waker()),
            poller,
            events,
            metrics: Arc::clone(&metrics),
            slots: Semaphore::new(args.concurrency.into()),
            indexes: controller::indexes(&args.scopes()),
        });
        let (talks, mut heard) = Talks::new(context.poller.http().clone());
        let contexts = Arc::new(context::Context::new(Arc::clone(&context), talks, &args.scopes()));
        let scopes = args.scopes();
        let schedules = Arc::new(schedule::Context::new(Arc::clone(&context)));
        let ready = Arc::clone(&ready);
        let followed = Arc::clone(&context);
        let mut working = std::pin::pin!(async {
            tokio::join!(
                controller::run(context, &mut news, ready, work.clone()),
                context::controller::run(contexts, &mut heard, work.clone()),
                schedule::controller::run(schedules, &scopes, &mut told, work.clone()),
                followed.queues.run(client.clone(), &scopes, work.clone()),
            );
        });
        match &mut leader {
            Some(leader) => {
                tokio::select! {
                    () = &mut working => {}
                    () = leader.hold(&stop) => {}
                }
            }
            None => {
                tokio::select! {
                    () = &mut working => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        work.cancel();
        if tokio::time::timeout(DRAIN, &mut working).await.is_err() {
            tracing::warn!("not all of what was under way ended in time");
        }
        metrics.leads(false);
        if tokio::time::timeout(Duration::from_secs(2), sending).await.is_err() {
            tracing::debug!("some Events were not sent");
        }
        if let (Some(leader), true) = (&mut leader, stop.is_cancelled()) {
            leader.release().await;
        }
    }
    if let Some(http_api) = http_api {
        http_api.await.context("the HTTP API")?;
    }
    served.cancel();
    tracing::info!("floe-operator ends");
    server.await.context("the HTTP server")?.with_context(|| format!("cannot listen at {}", args.metrics_listen))
}

/// A single cancellation token for everything.
fn on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate()).context("no signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        token.cancel();
    });
    Ok(stop)
}

/// The API server may start later than the operator.
async fn connect(stop: &CancellationToken) -> anyhow::Result<Option<Client>> {
    let client = Client::try_default().await.context("no cluster: neither a service account nor a kubeconfig")?;
    loop {
        match client.apiserver_version().await {
            Ok(version) => {
                tracing::info!(version = version.git_version, "the API server answers");
                return Ok(Some(client));
            }
            Err(error) => tracing::warn!(%error, "the API server does not answer yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}
