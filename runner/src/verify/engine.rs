//! The distributed engine as the other side: warm worker processes stay up for the whole run, and run jobs made from
//! the bytes of plans.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::execution::ExecutionSpec;
use floe_api::job::Job;
use floe_api::{DistributedQuerySpec, DslSource, PlanSource};
use polars::prelude::DataFrame;
use polars_plan::dsl::DslPlan;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::judge::{Ran, Side};
use crate::coordinator::{self, Engine, Outcome, Provider};
use floe_wire::error::{Category, QueryError, Result};

/// A warm engine on this machine.
pub struct Distributed {
    engine: Arc<Engine>,
    runtime: Runtime,
    execution: ExecutionSpec,
    limit: Duration,
    jobs: AtomicU64,
}

impl Distributed {
    /// Starts the workers and waits until they are up.
    pub fn start(workers: usize, execution: ExecutionSpec, limit: Duration) -> anyhow::Result<Distributed> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("no runtime for the engine")?;
        let mut options = coordinator::Options::local(workers);
        if let (Provider::Local(local), None) = (&mut options.provider, std::env::var_os("FLOE_LOG")) {
            // No warnings of Polars about thousands of plans.
            local.env.push(("FLOE_LOG".into(), "warn,polars=error".into()));
        }
        let engine = runtime.block_on(Engine::start(options))?;
        let ready = runtime.block_on(engine.wait_ready());
        anyhow::ensure!(ready > 0, "no worker came up");
        Ok(Distributed { engine, runtime, execution, limit, jobs: AtomicU64::new(0) })
    }

    fn job(&self, name: &str, bytes: &[u8]) -> Job {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        let mut spec = DistributedQuerySpec {
            plan: PlanSource {
                dsl: Some(DslSource { inline: Some(STANDARD.encode(bytes)), ..DslSource::default() }),
                ..PlanSource::default()
            },
            ..DistributedQuerySpec::default()
        };
        spec.execution = self.execution.clone();
        spec.active_deadline_seconds = u32::try_from(self.limit.as_secs()).ok();
        Job::new(format!("verify-{number}"), name, spec)
    }

    fn go(&self, job: Job) -> Result<Outcome> {
        let (events, _) = broadcast::channel(coordinator::EVENT_BACKLOG);
        let cancel = CancellationToken::new();
        self.runtime.block_on(async {
            let run = self.engine.run(job, events, cancel.clone());
            // The engine keeps the deadline itself; this guards against one that does not.
            match tokio::time::timeout(self.limit + Duration::from_secs(10), run).await {
                Ok(result) => result,
                Err(_) => {
                    cancel.cancel();
                    let text = format!("the engine did not finish within {} s", self.limit.as_secs());
                    Err(QueryError::new(Category::Deadline, "Timeout", text))
                }
            }
        })
    }
}

impl Side for Distributed {
    fn run(&self, name: &str, bytes: &[u8], _plan: &DslPlan) -> Ran {
        let started = Instant::now();
        let result = self.go(self.job(name, bytes));
        let mut ran = Ran {
            outcome: Ok(Vec::new()),
            stages: 0,
            tasks: 0,
            single_worker: Vec::new(),
            fell_back: None,
            elapsed: Duration::ZERO,
        };
        match result {
            Err(e) => ran.outcome = Err(e),
            Ok(outcome) => {
                ran.stages = outcome.stages.len();
                ran.tasks = outcome.stages.iter().map(|s| s.tasks as usize).sum();
                ran.outcome = read(&outcome);
                ran.single_worker = outcome.single_worker;
                ran.fell_back = outcome.fell_back;
            }
        }
        ran.elapsed = started.elapsed();
        ran
    }
}

/// The rows of a result; nothing for plans with sinks, whose files are read elsewhere.
fn read(outcome: &Outcome) -> Result<Vec<DataFrame>> {
    outcome.result.as_ref().map(|handle| handle.read()).into_iter().collect()
}

impl Drop for Distributed {
    fn drop(&mut self) {
        self.engine.stop();
    }
}
