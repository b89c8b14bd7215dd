//! Runs one task on a task thread: decodes the message, calls `exec`, returns the report.

use std::sync::Arc;

use floe_api::execution::{ShuffleCompression, ShufflePlace, ShuffleSpec};
use polars_io::ipc::IpcCompression;

use crate::shuffle::{self, Peers, Store};
use crate::telemetry;
use floe_wire::error::TaskError;
use floe_wire::graph::TaskId;
use floe_wire::task::{TaskOutput, TaskSpec};

use super::Settings;
use super::shuffled::Shuffled;
use super::slots::{Job, Running};

pub struct Runner {
    pub store: Arc<Store>,
    pub peers: Arc<Peers>,
    pub worker: String,
    /// Bytes of a batch that a task lays out for its readers.
    pub batch_bytes: usize,
    /// Bytes of a sorted run that a task writes for its readers.
    pub run_bytes: usize,
    /// The read-ahead budget that its tasks share.
    pub read_budget: Arc<floe_exec::ReadBudget>,
    pub stream_from_bytes: u64,
}

impl Runner {
    pub fn run(&self, job: &Job, running: &Running) -> Result<TaskOutput, TaskError> {
        let Job { attempt, query, .. } = job;
        let span = tracing::info_span!(
            "task",
            query = %query.id,
            stage = attempt.stage,
            task = attempt.task,
            attempt = attempt.attempt,
            worker = %self.worker,
            trace_id = tracing::field::Empty,
            rows = tracing::field::Empty,
            bytes = tracing::field::Empty,
            error = tracing::field::Empty,
        );
        telemetry::set_parent(&span, &job.traceparent);
        let _entered = span.enter();
        let result = self.execute(job, running);
        match &result {
            Ok(output) => {
                span.record("rows", output.rows);
                span.record("bytes", output.bytes);
                tracing::debug!(rows = output.rows, bytes = output.bytes, "task done");
            }
            Err(error) => {
                span.record("error", tracing::field::display(error.class()));
                tracing::info!(category = error.category().as_str(), class = error.class(), "task failed: {error}");
            }
        }
        result
    }

    fn execute(&self, job: &Job, running: &Running) -> Result<TaskOutput, TaskError> {
        let settings = job.query.settings()?;
        let spec: TaskSpec = floe_wire::unpack(&job.spec)?;
        let fragment = job.query.fragment(spec.id.task.stage.0)?;
        if let Some(remote) = &settings.remote {
            self.store.send_to(&job.query.id, remote);
        }
        let (compression, disk_compression) = compression(&settings.shuffle);
        let reader = shuffle::Reader {
            run: job.query.id.clone(),
            token: job.query.token.clone(),
            peers: self.peers.clone(),
            by_path: settings.shuffle.place != ShufflePlace::Http,
            remote: settings.remote.clone(),
        };
        let store = Shuffled { store: self.store.clone(), reader };
        let context = floe_exec::Context {
            query: job.query.id.clone(),
            store: Arc::new(store),
            open_sink: open_sink(settings),
            compression,
            disk_compression,
            batch_bytes: self.batch_bytes,
            run_bytes: self.run_bytes,
            read_budget: self.read_budget.clone(),
            stream_from_bytes: self.stream_from_bytes,
            cancel: running.cancel.clone(),
            progress: running.progress.clone(),
        };
        floe_exec::run(&fragment, &spec, &context)
    }
}

fn open_sink(settings: Arc<Settings>) -> Arc<floe_exec::OpenSink> {
    Arc::new(move |sink: u32, task: TaskId, attempt: u32| super::sinks::open(&settings, sink, task, attempt))
}

/// Chooses compression, in memory and on disk: it pays over a network and on disk; within the memory of one machine it costs
/// more than it saves.
fn compression(shuffle: &ShuffleSpec) -> (Option<IpcCompression>, Option<IpcCompression>) {
    let lz4 = Some(IpcCompression::LZ4);
    let both = |compression| (compression, compression);
    match (shuffle.compression, shuffle.place) {
        (ShuffleCompression::Lz4, _) | (ShuffleCompression::Auto, ShufflePlace::Http) => both(lz4),
        (ShuffleCompression::Zstd, _) | (ShuffleCompression::Auto, ShufflePlace::Store) => {
            both(Some(IpcCompression::ZSTD(Default::default())))
        }
        (ShuffleCompression::None, _) => both(None),
        (ShuffleCompression::Auto, ShufflePlace::Auto | ShufflePlace::Local) => (None, lz4),
    }
}
