//! Runs a worker's side of the control stream: messages, reports, heartbeats, and the ways to end.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Streaming};

use crate::proto::control_client::ControlClient;
use crate::proto::{self, Attempt, FromWorker, ToWorker, from_worker, to_worker};
use crate::shuffle::{Peers, Store};
use crate::sink;
use floe_wire::chunk::WorkerId;
use floe_wire::error::{Category, QueryError, Result};
use floe_wire::task::TaskOutput;

use super::introduction::Introduction;
use super::queries::{Queries, Query};
use super::runner::Runner;
use super::slots::{Job, Report, Slots};
use super::{Args, End, HEARTBEAT, HEARTBEAT_BUSY, SILENCE_TIMEOUT, watch};

const CONNECT_FOR: Duration = Duration::from_secs(60);
/// Restart the process once detached tasks have run for this long (at once if no query needs the worker): they may hold
/// every thread of the engine and block the tasks of other queries.
const DETACHED_LIMIT: Duration = Duration::from_secs(2);

pub struct Session {
    args: Args,
    id: String,
    token: String,
    introduction: Introduction,
    store: Arc<Store>,
    peers: Arc<Peers>,
    slots: Arc<Slots>,
    queries: Queries,
    outbox: UnboundedSender<FromWorker>,
    outgoing: Option<UnboundedReceiver<FromWorker>>,
    internal: UnboundedSender<Internal>,
    wakeups: UnboundedReceiver<Internal>,
    /// Ended queries with tasks that still run.
    ending: Vec<Arc<Query>>,
    leaving: Option<Instant>,
    detached_since: Option<Instant>,
}

enum Internal {
    /// A cancelled task's time to stop is over.
    GraceOver(Attempt),
    /// A task has ended.
    Ended,
    OutOfMemory(QueryError),
}

impl Session {
    pub fn new(
        args: Args,
        id: String,
        token: String,
        store: Arc<Store>,
        introduction: Introduction,
    ) -> Result<Session> {
        let (outbox, outgoing) = unbounded_channel();
        let (internal, wakeups) = unbounded_channel();
        let peers = Arc::new(Peers::default());
        let runner = Runner {
            store: store.clone(),
            peers: peers.clone(),
            worker: id.clone(),
            batch_bytes: args.batch_bytes(),
            run_bytes: args.run_bytes(),
            read_budget: floe_exec::ReadBudget::new(args.read_ahead_bytes()),
            stream_from_bytes: args.stream_from_bytes,
        };
        let (reports, ended) = (outbox.clone(), internal.clone());
        let report = move |report| {
            let over = matches!(report, Report::Ended(..));
            // Fails only once the session is over, when no report is needed.
            let _ = reports.send(wire(report));
            if over {
                let _ = ended.send(Internal::Ended);
            }
        };
        let slots = Slots::start(args.slots, move |job, running| runner.run(job, running), report)?;
        if let Some(limit) = args.memory_limit_bytes {
            let give_up = internal.clone();
            watch::watch(limit, store.clone(), slots.clone(), move |verdict| {
                let _ = give_up.send(Internal::OutOfMemory(verdict));
            });
        }
        Ok(Session {
            args,
            id,
            token,
            introduction,
            store,
            peers,
            slots,
            queries: Queries::default(),
            outbox,
            outgoing: Some(outgoing),
            internal,
            wakeups,
            ending: Vec::new(),
            leaving: None,
            detached_since: None,
        })
    }

    pub fn slots(&self) -> Arc<Slots> {
        self.slots.clone()
    }

    pub async fn run(mut self) -> Result<End> {
        let end = self.talk().await;
        self.slots.close();
        if !matches!(end, Ok(End::Drained)) {
            self.abort_all();
        }
        if !matches!(end, Ok(End::Drained | End::Restart)) {
            // Remove only what this worker sent: the coordinator may still be there for others.
            self.store.remove_sent();
        }
        self.store.clear();
        end
    }

    async fn talk(&mut self) -> Result<End> {
        let signals = |kind| signal(kind).map_err(|error| QueryError::internal(format!("no signals: {error}")));
        let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
        // The parent's death arrives as a hangup.
        let mut hangup = signals(SignalKind::hangup())?;
        let mut inbound = tokio::select! {
            inbound = self.connect() => inbound?,
            _ = hangup.recv() => return Ok(End::Orphaned),
            _ = terminate.recv() => return Ok(End::Drained),
        };
        let mut tick = interval(HEARTBEAT_BUSY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut beat, mut heard) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                // If this process had no CPU for long, what the coordinator sent meanwhile is there: look at that first.
                biased;
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        heard = Instant::now();
                        self.take(message)?;
                    }
                    Ok(None) | Err(_) if self.leaving.is_some() => return Ok(End::Drained),
                    Ok(None) | Err(_) => return Ok(self.end_without_coordinator()),
                },
                wakeup = self.wakeups.recv() => match wakeup {
                    Some(Internal::GraceOver(attempt)) => {
                        if self.slots.runs(&attempt) {
                            tracing::warn!(?attempt, "a cancelled task does not stop: it is given up");
                            self.slots.detach(&attempt)?;
                            self.settle();
                        }
                    }
                    Some(Internal::Ended) => self.settle(),
                    Some(Internal::OutOfMemory(verdict)) => return Ok(self.report_and_restart(verdict).await),
                    None => return Err(QueryError::internal("the worker lost its own channel")),
                },
                _ = tick.tick() => {
                    if heard.elapsed() > SILENCE_TIMEOUT {
                        return Ok(End::Orphaned);
                    }
                    if beat.elapsed() >= HEARTBEAT || !self.slots.idle() {
                        beat = Instant::now();
                        self.send(from_worker::Message::Heartbeat(self.heartbeat()));
                    }
                },
                _ = terminate.recv() => self.leave("told to terminate"),
                _ = interrupt.recv() => self.leave("interrupted"),
                _ = hangup.recv() => return Ok(End::Orphaned),
            }
            if let Some(end) = self.review() {
                return Ok(end);
            }
        }
    }

    async fn connect(&mut self) -> Result<Streaming<ToWorker>> {
        let address = self.introduction.address().await;
        let unreachable =
            |error: &dyn std::fmt::Display| QueryError::io(format!("no coordinator at {address}: {error}"));
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| unreachable(&error))?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(10))
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20);
        let until = Instant::now() + CONNECT_FOR;
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(error) if Instant::now() > until => return Err(unreachable(&error)),
                // Pods start in any order: a coordinator that is not there yet is the usual case.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let mut client = ControlClient::new(channel)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        self.send(from_worker::Message::Hello(proto::Hello {
            worker: self.id.clone(),
            slots: self.args.slots,
            peer: Some(proto::Peer::new(WorkerId::default(), &self.store.peer())),
            pid: std::process::id(),
            memory_limit_bytes: self.args.memory_limit_bytes.unwrap_or_default(),
            version: proto::version(),
        }));
        let Some(outgoing) = self.outgoing.take() else {
            return Err(QueryError::internal("a worker connects once"));
        };
        let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
        let bearer = format!("Bearer {}", self.token).parse().map_err(|error| unreachable(&error))?;
        request.metadata_mut().insert("authorization", bearer);
        match timeout(Duration::from_secs(20), client.work(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(unreachable(&status)),
            Err(error) => Err(unreachable(&error)),
        }
    }

    fn take(&mut self, message: ToWorker) -> Result<()> {
        match message.message {
            Some(to_worker::Message::QueryStart(start)) => {
                self.store.start_query(&start.query, &start.token);
                self.queries.start(start);
            }
            Some(to_worker::Message::Fragment(fragment)) => {
                if let Some(query) = self.queries.get(&fragment.query) {
                    query.add_fragment(fragment.stage, fragment.fragment);
                }
            }
            Some(to_worker::Message::Task(task)) => self.submit(task)?,
            Some(to_worker::Message::Cancel(attempt)) => {
                if self.slots.cancel(&attempt) {
                    self.after_grace(attempt);
                }
            }
            Some(to_worker::Message::Release(release)) => {
                self.store.release_stage(&release.query, floe_wire::graph::StageId(release.stage));
            }
            Some(to_worker::Message::Peers(peers)) => {
                self.store.set_worker(WorkerId(peers.worker));
                for (worker, peer) in peers.came.iter().map(proto::Peer::place) {
                    self.peers.insert(worker, peer);
                }
                peers.went.iter().for_each(|worker| self.peers.remove(WorkerId(*worker)));
            }
            Some(to_worker::Message::QueryEnd(end)) => self.end_query(&end.query),
            Some(to_worker::Message::Ping(_)) | None => {}
        }
        Ok(())
    }

    fn submit(&mut self, task: proto::Task) -> Result<()> {
        let attempt = task.attempt.unwrap_or_default();
        match self.queries.get(&attempt.query) {
            Some(query) if self.leaving.is_none() => self.slots.submit(Job {
                attempt,
                query: query.clone(),
                spec: task.spec_msgpack,
                traceparent: task.traceparent,
            }),
            known => {
                let class = if known.is_some() { "WorkerLeaving" } else { "UnknownQuery" };
                let message = format!("worker {} did not take the task: {class}", self.id);
                let error = QueryError::new(Category::LostWorker, class, message);
                let _ = self.outbox.send(wire(Report::Ended(attempt, Err(error.into()))));
            }
        }
        Ok(())
    }

    /// How the worker ends after the coordinator is gone.
    fn end_without_coordinator(&self) -> End {
        let is_over = self.ending.is_empty() && self.queries.all().next().is_none();
        if is_over { End::Released } else { End::Orphaned }
    }

    fn end_query(&mut self, id: &str) {
        for attempt in self.slots.cancel_query(id) {
            self.after_grace(attempt);
        }
        self.store.end_query(id);
        match self.queries.end(id) {
            Some(query) => self.ending.push(query),
            None => self.send(gone(id)),
        }
        self.settle();
    }

    /// Reports ended queries whose last task on this worker has stopped.
    fn settle(&mut self) {
        if self.ending.is_empty() {
            return;
        }
        let running: HashSet<String> =
            self.slots.running().iter().map(|running| running.attempt.query.clone()).collect();
        let (still, over) = std::mem::take(&mut self.ending).into_iter().partition(|query| running.contains(&query.id));
        self.ending = still;
        let over: Vec<Arc<Query>> = over;
        for query in over {
            // Forget staged files: the coordinator knows them all, and commits or removes them.
            if let Ok(settings) = query.settings() {
                settings.sinks.iter().for_each(|plan| sink::forget(&plan.query));
            }
            self.send(gone(&query.id));
        }
    }

    fn after_grace(&self, attempt: Attempt) {
        let (grace, internal) = (self.args.cancel_grace(), self.internal.clone());
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            let _ = internal.send(Internal::GraceOver(attempt));
        });
    }

    fn leave(&mut self, reason: &str) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now());
            self.send(from_worker::Message::Leaving(proto::Leaving { reason: reason.to_string() }));
        }
    }

    /// Decides whether the worker ends now, and how.
    fn review(&mut self) -> Option<End> {
        if let Some(since) = self.leaving {
            let served = !self.store.holds_files() || since.elapsed() > Duration::from_millis(self.args.drain_ms);
            if self.slots.idle() && served {
                return Some(End::Drained);
            }
        }
        if self.slots.detached() == 0 {
            self.detached_since = None;
            return None;
        }
        let since = *self.detached_since.get_or_insert_with(Instant::now);
        let alone = self.slots.idle() && self.queries.all().next().is_none();
        (alone || since.elapsed() > DETACHED_LIMIT).then_some(End::Restart)
    }

    /// Restarts the worker when memory cannot be freed otherwise: reports why the running tasks failed, then ends.
    async fn report_and_restart(&mut self, verdict: QueryError) -> End {
        for running in self.slots.running() {
            let _ = self.outbox.send(wire(Report::Ended(running.attempt.clone(), Err(verdict.clone().into()))));
        }
        self.send(from_worker::Message::Leaving(proto::Leaving { reason: verdict.message }));
        // Give the stream's own task a moment to send these; memory is short.
        tokio::time::sleep(Duration::from_millis(100)).await;
        End::Restart
    }

    /// Removes the staged sink files of all queries here, since the coordinator will not.
    fn abort_all(&self) {
        for query in self.queries.all().chain(&self.ending) {
            self.slots.cancel_query(&query.id);
            if let Ok(settings) = query.settings() {
                settings.sinks.iter().for_each(|plan| sink::abandon(&plan.query));
            }
        }
    }

    fn heartbeat(&self) -> proto::Heartbeat {
        let usage = self.store.usage();
        let tasks = self.slots.running().into_iter().map(|running| proto::Progress {
            attempt: Some(running.attempt.clone()),
            rows: running.progress.rows.load(Ordering::Relaxed),
            bytes: running.progress.bytes.load(Ordering::Relaxed),
        });
        proto::Heartbeat {
            memory_bytes: watch::used_bytes(&self.store),
            shuffle_memory_bytes: usage.memory_bytes,
            shuffle_disk_bytes: usage.disk_bytes,
            tasks: tasks.collect(),
        }
    }

    fn send(&self, message: from_worker::Message) {
        let _ = self.outbox.send(message.into());
    }
}

fn gone(query: &str) -> from_worker::Message {
    from_worker::Message::QueryGone(proto::QueryGone { query: query.to_string() })
}

fn wire(report: Report) -> FromWorker {
    let message = match report {
        Report::Started(attempt) => from_worker::Message::Started(attempt),
        Report::Ended(attempt, result) => match result.and_then(|output| Ok(floe_wire::pack::<TaskOutput>(&output)?)) {
            Ok(output_msgpack) => from_worker::Message::Done(proto::Done { attempt: Some(attempt), output_msgpack }),
            Err(error) => from_worker::Message::Failed(proto::Failed {
                attempt: Some(attempt),
                error_msgpack: floe_wire::pack(&error).unwrap_or_default(),
            }),
        },
    };
    message.into()
}
