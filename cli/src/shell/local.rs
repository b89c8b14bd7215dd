//! The warm engine of a shell: started once, and restarted if it has ended.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use floe_api::StageState;
use floe_api::report::{Event, Outcome};
use serde_json::Value;
use tokio::signal::unix::Signal;

use super::engine::{Done, Ended};
use super::progress::Progress;
use super::session::refuse;
use super::terminal;
use crate::args::QueryArgs;
use crate::commands::setup;
use crate::error::Failure;
use crate::print;
use crate::process::{self, GRACE};
use crate::query::{self, Prepared};
use crate::warm::{self, Warm};

/// Upper estimate of the average width of a table's columns.
const COLUMN_WIDTH: usize = 14;
/// Width of a table without a terminal: lines are not cut.
const WIDE: usize = 1000;

pub struct Local {
    runner: PathBuf,
    scratch: Option<PathBuf>,
    args: QueryArgs,
    warm: Option<Warm>,
    /// The running query.
    running: Option<String>,
}

impl Local {
    pub fn new(args: QueryArgs, scratch: Option<PathBuf>) -> Result<Local, Failure> {
        Ok(Local { runner: process::find_runner()?, scratch, args, warm: None, running: None })
    }

    pub fn prepared(&self, query: Value) -> Result<Prepared, Failure> {
        let query = floe_api::from_value(query).map_err(refuse)?;
        let mut prepared = query::prepare(query, &self.args)?;
        let here = std::env::current_dir();
        prepared.job.base = Some(here.map_err(|error| Failure::io("cannot tell the working directory", error))?);
        Ok(prepared)
    }

    /// Starts the engine and has it prepare for SQL, without waiting for that.
    pub async fn start(&mut self, query: Value) -> Result<(), Failure> {
        let prepared = self.prepared(query)?;
        setup::before(&self.runner, [&prepared.job])?;
        let compute = &prepared.job.spec.compute;
        let is_terminal = std::io::stdout().is_terminal();
        let wide = if is_terminal { terminal::width() } else { WIDE };
        let mut env = prepared.env;
        // The shell decides how tables look, unless the user has set it.
        for (name, value) in [
            ("POLARS_FMT_MAX_ROWS", "-1".to_owned()),
            (
                "POLARS_FMT_MAX_COLS",
                if is_terminal { (wide / COLUMN_WIDTH).max(8).to_string() } else { "-1".to_owned() },
            ),
            ("POLARS_FMT_STR_LEN", "80".to_owned()),
            ("POLARS_TABLE_WIDTH", wide.max(80).to_string()),
        ] {
            if std::env::var_os(name).is_none() {
                env.push((name.to_owned(), value.into()));
            }
        }
        let options = warm::Options {
            runner: &self.runner,
            workers: prepared.workers,
            threads: compute.cpus.threads().unwrap_or(1),
            memory_bytes: compute.memory.bytes(),
            scratch: self.scratch.as_deref(),
            env: &env,
        };
        let warm = Warm::start(&options).await?;
        let _ = warm.submit(&prepared.job).await;
        self.warm = Some(warm);
        Ok(())
    }

    /// Makes sure that the engine runs; restarts one that has ended.
    async fn alive(&mut self, query: &Value) -> Result<(), Failure> {
        if let Some(warm) = &mut self.warm {
            if warm.is_alive() {
                return Ok(());
            }
            print::err(format_args!("the engine had ended and is started again{}", warm.last_words()));
        }
        if let Some(gone) = self.warm.take() {
            gone.close(Duration::ZERO).await;
        }
        self.start(query.clone()).await
    }

    pub async fn run(&mut self, query: Value, progress: &mut Progress, interrupt: &mut Signal) -> Result<Done, Ended> {
        let prepared = self.prepared(query.clone())?;
        self.alive(&query).await?;
        let Some(warm) = &self.warm else {
            return Err(Failure::Internal("the engine is not there".to_owned()).into());
        };
        let id = prepared.job.id.clone();
        self.running = Some(id.clone());
        warm.submit(&prepared.job).await?;
        let ended = follow(warm, &id, progress, interrupt).await;
        self.running = None;
        match ended {
            Ok(outcome) => Ok(Done { id, outcome }),
            Err(ended) => {
                warm.forget(&id).await;
                Err(ended)
            }
        }
    }

    /// The first rows of a result as text: `table` or `ndjson`.
    pub async fn rows(&self, id: &str, format: &str, rows: u64) -> Result<String, Ended> {
        match &self.warm {
            Some(warm) => Ok(warm.rows(id, format, rows).await?),
            None => Err(Failure::Internal("the engine is not there".to_owned()).into()),
        }
    }

    /// Cancels the query of a `run` that nobody waits for any more.
    pub async fn abandon(&mut self) {
        if let Some(id) = self.running.take() {
            self.forget(&id).await;
        }
    }

    pub async fn forget(&self, id: &str) {
        if let Some(warm) = &self.warm {
            warm.forget(id).await;
        }
    }

    pub async fn close(self) {
        if let Some(warm) = self.warm {
            warm.close(GRACE).await;
        }
    }
}

/// Waits for the end of a query. The first Ctrl-C cancels it.
async fn follow(warm: &Warm, id: &str, progress: &mut Progress, interrupt: &mut Signal) -> Result<Outcome, Ended> {
    let mut events = warm.events(id).await?;
    let mut cancelled = false;
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Event::Done { outcome } => return Ok(*outcome),
                Event::Error(error) => return Err(Ended::Query(error)),
                Event::Planned(planned) => progress.planned(&planned),
                Event::Stage(stage) if cancelled && stage.state == StageState::Failed => {}
                Event::Stage(stage) => progress.stage(&stage),
                Event::Worker(_) => {}
            },
            _ = interrupt.recv() => {
                cancelled = true;
                warm.forget(id).await;
            }
        }
    }
}
