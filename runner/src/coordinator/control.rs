//! Serves the workers' control streams: authenticates workers, routes their messages, declares silent ones lost.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{interval, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::proto::control_server::Control;
use crate::proto::{self, FromWorker, ToWorker, from_worker, to_worker};
use floe_wire::error::TaskError;

use super::registry::{Link, Registry, Signal, signal};

const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Heartbeats come every second. Time for a busy machine: losing a worker makes all of its outputs again.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(1);

pub struct Service {
    pub registry: Arc<Registry>,
    pub token: String,
}

#[tonic::async_trait]
impl Control for Service {
    type WorkStream = Pin<Box<dyn Stream<Item = Result<ToWorker, Status>> + Send>>;

    async fn work(&self, request: Request<Streaming<FromWorker>>) -> Result<Response<Self::WorkStream>, Status> {
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !crate::shuffle::same(shown, &self.token) {
            return Err(Status::unauthenticated("the worker's token is not this engine's"));
        }
        let mut inbound = request.into_inner();
        let hello = match timeout(HELLO_WITHIN, inbound.message()).await {
            Ok(Ok(Some(FromWorker { message: Some(from_worker::Message::Hello(hello)) }))) => hello,
            Ok(Ok(_)) => return Err(Status::invalid_argument("a worker says hello first")),
            Ok(Err(status)) => return Err(status),
            Err(_) => return Err(Status::deadline_exceeded("no hello came")),
        };
        if hello.version != proto::version() {
            let message = format!("the worker is {}, the coordinator {}", hello.version, proto::version());
            return Err(Status::failed_precondition(message));
        }
        let (outbox, outgoing) = unbounded_channel();
        let Some(link) = self.registry.join(&hello, outbox) else {
            return Err(Status::already_exists(format!("a worker {} is connected", hello.worker)));
        };
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let why = hear(&registry, &link, inbound).await;
            tracing::debug!(worker = %link.id, "{why}");
            registry.lose(&link.id);
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(outgoing).map(Ok))))
    }
}

/// Receives messages until the worker is lost; returns why.
async fn hear(registry: &Registry, link: &Link, mut inbound: Streaming<FromWorker>) -> String {
    let mut ping = interval(PING_INTERVAL);
    let silence = tokio::time::sleep(SILENCE_TIMEOUT);
    tokio::pin!(silence);
    loop {
        tokio::select! {
            // If this process itself had no CPU for long, what the worker sent meanwhile is there: look at that first.
            biased;
            message = inbound.message() => {
                silence.as_mut().reset(tokio::time::Instant::now() + SILENCE_TIMEOUT);
                match message {
                    Ok(Some(FromWorker { message: Some(message) })) => route(registry, link, message),
                    Ok(Some(FromWorker { message: None })) => {}
                    Ok(None) => return "its stream ended".to_string(),
                    Err(status) => return format!("its stream broke: {}", status.message()),
                }
            }
            _ = ping.tick() => {
                if !link.send(to_worker::Message::Ping(proto::Ping {})) {
                    return "it no longer listens".to_string();
                }
            }
            () = &mut silence => return format!("nothing heard for {SILENCE_TIMEOUT:?}"),
        }
    }
}

fn route(registry: &Registry, link: &Link, message: from_worker::Message) {
    let worker = link.id.clone();
    match message {
        from_worker::Message::Hello(_) => {}
        from_worker::Message::Heartbeat(beat) => {
            link.memory_bytes.store(beat.memory_bytes, Ordering::Relaxed);
            let shuffle = beat.shuffle_memory_bytes + beat.shuffle_disk_bytes;
            link.shuffle_bytes.store(shuffle, Ordering::Relaxed);
            match beat.tasks.is_empty() && shuffle == 0 {
                true => link.quiet_beats.fetch_add(1, Ordering::Relaxed),
                false => link.quiet_beats.swap(0, Ordering::Relaxed),
            };
            for task in beat.tasks {
                if let Some(attempt) = task.attempt {
                    registry.tell(&attempt.query, signal(&worker, &attempt, task.rows, task.bytes));
                }
            }
        }
        from_worker::Message::Started(attempt) => {
            let started = Signal::Started { worker, task: attempt.task_id(), attempt: attempt.attempt };
            registry.tell(&attempt.query, started);
        }
        from_worker::Message::Done(done) => {
            let Some(attempt) = done.attempt else { return };
            let (task, number) = (attempt.task_id(), attempt.attempt);
            let signal = match floe_wire::unpack(&done.output_msgpack) {
                Ok(output) => Signal::Done { worker, task, attempt: number, output },
                Err(error) => Signal::Failed { worker, task, attempt: number, error: error.into() },
            };
            registry.tell(&attempt.query, signal);
        }
        from_worker::Message::Failed(failed) => {
            let Some(attempt) = failed.attempt else { return };
            let error: TaskError = floe_wire::unpack(&failed.error_msgpack).unwrap_or_else(TaskError::from);
            let (task, number) = (attempt.task_id(), attempt.attempt);
            let failed = Signal::Failed { worker, task, attempt: number, error };
            registry.tell(&attempt.query, failed);
        }
        from_worker::Message::Leaving(leaving) => {
            tracing::info!(worker, "worker leaves: {}", leaving.reason);
            registry.drain(&worker);
        }
        from_worker::Message::QueryGone(gone) => registry.tell(&gone.query, Signal::Gone { worker }),
    }
}
