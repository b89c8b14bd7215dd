//! One task on a task thread: from the message to `exec` and back, with its span and its view of the worker.

use std::sync::Arc;

use crate::error::Result;
use crate::graph::{TaskId, TaskOutput, TaskSpec};
use crate::shuffle::Store;
use crate::{exec, proto, telemetry};

use super::Settings;
use super::slots::{Job, Running};

pub struct Runner {
    pub store: Arc<Store>,
    pub worker: String,
}

impl Runner {
    pub fn run(&self, job: &Job, running: &Running) -> Result<TaskOutput> {
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
                span.record("error", tracing::field::display(&error.class));
                tracing::info!(category = error.category.as_str(), class = error.class, "task failed: {error}");
            }
        }
        result
    }

    fn execute(&self, job: &Job, running: &Running) -> Result<TaskOutput> {
        let settings = job.query.settings()?;
        let spec: TaskSpec = proto::unpack(&job.spec)?;
        let fragment = job.query.fragment(spec.id.stage.0)?;
        let store = exec::Shuffled { store: self.store.clone(), token: job.query.token.clone() };
        let context = exec::Context {
            query: job.query.id.clone(),
            store: Arc::new(store),
            open_sink: open_sink(settings),
            compression: None,
            cancel: running.cancel.clone(),
            progress: running.progress.clone(),
        };
        exec::run(&fragment, &spec, &context)
    }
}

fn open_sink(settings: Arc<Settings>) -> Arc<exec::OpenSink> {
    Arc::new(move |sink: u32, task: TaskId, attempt: u32| super::sinks::open(&settings, sink, task, attempt))
}
