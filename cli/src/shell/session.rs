//! What a shell has between statements: tables, views and settings, and the warm engine. Runs a statement and shows what
//! came of it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use floe_api::data::Format;
use floe_api::report::{Category, Event, Outcome, RunError};
use floe_api::{FieldError, StageState};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::catalog;
use super::complete::Columns;
use super::progress::Progress;
use super::split::first_words;
use super::terminal;
use crate::args::{Output, QueryArgs, ShellArgs};
use crate::commands::setup;
use crate::error::Failure;
use crate::process::GRACE;
use crate::query::{self, Prepared, object_at};
use crate::warm::{self, Refused, Warm};
use crate::{human, print, process};

/// For the columns that Tab proposes: somebody waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Columns of a table are narrower than this on average.
const COLUMN_WIDTH: usize = 14;

/// A table's width where no terminal is: lines are not cut.
const WIDE: usize = 1000;

/// How a statement ended, when it gave no rows.
#[derive(Debug)]
pub enum Ended {
    Query(RunError),
    Failure(Failure),
}

impl Ended {
    pub fn category(&self) -> Category {
        match self {
            Ended::Query(error) => error.category,
            Ended::Failure(failure) => failure.category(),
        }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failure(failure)
    }
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Query(error) => Ended::Query(error),
            Refused::Failure(failure) => Ended::Failure(failure),
        }
    }
}

pub struct Session {
    runtime: tokio::runtime::Runtime,
    /// Keeps Ctrl-C from ending the shell.
    _interrupt: Signal,
    runner: PathBuf,
    /// The query that each statement becomes, but for its text.
    base: Value,
    args: QueryArgs,
    scratch: Option<PathBuf>,
    output: Output,
    pub quiet: bool,
    pub rows: u64,
    pub timing: bool,
    warm: Option<Warm>,
    columns: Columns,
}

impl Session {
    pub fn new(args: ShellArgs) -> Result<Session, Failure> {
        // Before any process exists: scripts of the same user must not look into this one.
        process::hide();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::io("cannot start the event loop", error))?;
        let interrupt = {
            let _here = runtime.enter();
            interrupts()?
        };
        let session = Session {
            runtime,
            _interrupt: interrupt,
            runner: process::find_runner()?,
            base: base(&args)?,
            args: args.query,
            scratch: args.scratch,
            output: args.output,
            quiet: args.quiet,
            rows: args.rows,
            timing: true,
            warm: None,
            columns: Columns::new(),
        };
        // All but the text is wrong now, or never.
        session.prepared("SELECT 1")?;
        Ok(session)
    }

    /// Starts the engine and has it get ready for SQL, without waiting for that.
    pub fn start(&mut self) -> Result<(), Failure> {
        let prepared = self.prepared("SELECT 1")?;
        setup::before(&self.runner, [&prepared.job])?;
        let (workers, threads, memory_bytes) = size(&prepared);
        let is_terminal = std::io::stdout().is_terminal();
        let wide = if is_terminal { terminal::width() } else { WIDE };
        let mut env = prepared.env;
        // How tables look is the shell's to say, unless the user has said it.
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
            workers,
            threads,
            memory_bytes,
            scratch: self.scratch.as_deref(),
            env: &env,
        };
        let warm = self.runtime.block_on(Warm::start(&options))?;
        self.runtime.block_on(async {
            let _ = warm.submit(&prepared.job).await;
        });
        self.warm = Some(warm);
        Ok(())
    }

    pub fn close(self) {
        if let Some(warm) = self.warm {
            self.runtime.block_on(warm.close(GRACE));
        }
    }

    /// Tables and views by name, with their kind and where they are.
    pub fn names(&self) -> BTreeMap<String, (String, String)> {
        let spec = &self.base["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tables = spec["tables"].as_object().into_iter().flatten().map(|(name, table)| {
            let uri = text(&table["uri"]);
            let told = || Format::of_uri(&uri).map_or("table", Format::as_str).to_owned();
            let kind = table["format"].as_str().map_or_else(told, str::to_owned);
            (name.clone(), (kind, uri))
        });
        let views = spec["views"].as_object().into_iter().flatten();
        tables.chain(views.map(|(name, view)| (name.clone(), ("view".to_owned(), text(view))))).collect()
    }

    /// Names a table: `name=[format:]uri`.
    pub fn name_table(&mut self, text: &str) -> Result<(), Failure> {
        let Some((name, uri)) = text.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
            return Err(Failure::Usage("write \\table name=uri".to_owned()));
        };
        let name = name.trim().to_owned();
        let args = QueryArgs { table: vec![(name.clone(), uri.trim().to_owned())], ..QueryArgs::default() };
        self.changed(&name, |base| query::override_fields("\\table", base, &args))
    }

    pub fn name_view(&mut self, name: &str, text: &str, replace: bool) -> Result<(), Failure> {
        if !replace && self.names().contains_key(name) {
            let how =
                if self.base["spec"]["views"].get(name).is_some() { ": CREATE OR REPLACE VIEW changes it" } else { "" };
            return Err(Failure::Usage(format!("{name} is there already{how}")));
        }
        self.changed(name, |base| {
            let views = object_at(base, &["spec", "views"]).map_err(|fault| refuse(vec![fault]))?;
            views.insert(name.to_owned(), text.into());
            Ok(())
        })
    }

    pub fn drop_view(&mut self, name: &str, if_exists: bool) -> Result<(), Failure> {
        // Not by index, which would put a null where there are none.
        let views = self.base["spec"].get_mut("views").and_then(Value::as_object_mut);
        let gone = views.and_then(|views| views.remove(name)).is_some();
        self.columns.remove(name);
        if gone || if_exists { Ok(()) } else { Err(Failure::Usage(format!("there is no view {name}"))) }
    }

    /// Changes the base, if it is sound afterwards.
    fn changed(&mut self, name: &str, change: impl FnOnce(&mut Value) -> Result<(), Failure>) -> Result<(), Failure> {
        let before = self.base.clone();
        let done = change(&mut self.base).and_then(|()| self.prepared("SELECT 1").map(drop));
        match done {
            Ok(()) => drop(self.columns.remove(name)),
            Err(_) => self.base = before,
        }
        done
    }

    fn prepared(&self, text: &str) -> Result<Prepared, Failure> {
        let mut value = self.base.clone();
        value["spec"]["plan"] = json!({"sql": text});
        let query = floe_api::from_value(value).map_err(refuse)?;
        let mut prepared = query::prepare(query, &self.args)?;
        let here = std::env::current_dir();
        prepared.job.base = Some(here.map_err(|error| Failure::io("cannot tell the working directory", error))?);
        Ok(prepared)
    }

    /// Runs a statement and shows its rows.
    pub fn run(&mut self, text: &str) -> Result<(), Ended> {
        let began = Instant::now();
        let prepared = self.prepared(text)?;
        self.alive()?;
        let Some(warm) = &self.warm else { return Ok(()) };
        let id = prepared.job.id.clone();
        let explains = first_words(text, 1) == ["EXPLAIN"];
        let (output, rows, live) = (self.output, self.rows, !self.quiet);
        let ended = self.runtime.block_on(async {
            // One that hears only what comes from here on.
            let mut interrupt = interrupts()?;
            warm.submit(&prepared.job).await?;
            let outcome = follow(warm, &id, &mut interrupt, live).await;
            let shown = match outcome {
                Ok(outcome) => shown(warm, &id, &outcome, output, rows, explains).await.map(|()| outcome),
                Err(ended) => Err(ended),
            };
            warm.forget(&id).await;
            shown
        });
        let outcome = ended?;
        if !self.quiet {
            outcome.warnings.iter().for_each(|warning| print::err(format_args!("warning: {warning}")));
            if let Some(why) = &outcome.fell_back {
                print::err(format_args!("warning: the stages failed, and the query ran again on one worker: {why}"));
            }
            if self.timing {
                print::err(timing(&outcome, began.elapsed()));
            }
        }
        Ok(())
    }

    /// The engine runs; one that has ended is started again.
    fn alive(&mut self) -> Result<(), Failure> {
        if let Some(warm) = &mut self.warm {
            if warm.is_alive() {
                return Ok(());
            }
            print::err(format_args!("the engine had ended and is started again{}", warm.last_words()));
        }
        if let Some(gone) = self.warm.take() {
            self.runtime.block_on(gone.close(Duration::ZERO));
        }
        self.start()
    }

    /// Columns of tables, asked for once each. What cannot be told in time is not proposed.
    pub fn columns_of(&mut self, tables: &[String]) -> &Columns {
        for table in tables {
            if self.columns.contains_key(table) {
                continue;
            }
            if let Some(found) = self.describe(table) {
                self.columns.insert(table.clone(), found);
            }
        }
        &self.columns
    }

    fn describe(&mut self, table: &str) -> Option<Vec<String>> {
        let quoted: Vec<String> = table.split('.').map(|part| format!("\"{part}\"")).collect();
        let prepared = self.prepared(&format!("DESCRIBE {}", quoted.join("."))).ok()?;
        let warm = self.warm.as_ref()?;
        let id = prepared.job.id.clone();
        let asked = async {
            warm.submit(&prepared.job).await.ok()?;
            let mut events = warm.events(&id).await.ok()?;
            loop {
                match events.next().await.ok()? {
                    Event::Done { .. } => break,
                    Event::Error(_) => return None,
                    Event::Planned(_) | Event::Stage(_) | Event::Worker(_) => {}
                }
            }
            warm.rows(&id, "ndjson", 10_000).await.ok()
        };
        let lines = self.runtime.block_on(async {
            let lines = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
            warm.forget(&id).await;
            lines
        })?;
        let name = |line: &str| serde_json::from_str::<Value>(line).ok()?["column_name"].as_str().map(str::to_owned);
        Some(lines.lines().filter_map(name).collect())
    }
}

fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt()).map_err(|error| Failure::io("cannot listen to signals", error))
}

/// The query of a command line, without a text.
fn base(args: &ShellArgs) -> Result<Value, Failure> {
    let mut base = query::sql_query("SELECT 1")?;
    base["metadata"]["name"] = "shell".into();
    for directory in &args.directories {
        let tables = object_at(&mut base, &["spec", "tables"]).map_err(|fault| refuse(vec![fault]))?;
        tables.extend(catalog::of_directory(directory)?);
    }
    query::override_fields("floe shell", &mut base, &args.query)?;
    Ok(base)
}

fn refuse(faults: Vec<FieldError>) -> Failure {
    Failure::Spec { what: "the statement".to_owned(), faults }
}

/// Workers, threads and memory of each.
fn size(prepared: &Prepared) -> (u32, usize, Option<u64>) {
    let compute = &prepared.job.spec.compute;
    (prepared.workers, compute.cpus.threads().unwrap_or(1), compute.memory.bytes())
}

/// Waits for the end of a query. The first Ctrl-C cancels it.
async fn follow(warm: &Warm, id: &str, interrupt: &mut Signal, live: bool) -> Result<Outcome, Ended> {
    let mut events = warm.events(id).await?;
    let mut progress = Progress::new(live);
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

/// They are in memory at once.
const MOST_JSON_ROWS: u64 = 100_000;

/// Prints the rows of a result.
async fn shown(
    warm: &Warm,
    id: &str,
    outcome: &Outcome,
    output: Output,
    rows: u64,
    explains: bool,
) -> Result<(), Ended> {
    if let Some(uri) = &outcome.sink_uri {
        print::out(format_args!("written to {}", human::path(uri)));
        return Ok(());
    }
    if explains {
        let text = warm.rows(id, "ndjson", u64::MAX).await?;
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            print::out(line["plan"].as_str().unwrap_or_default());
        }
        return Ok(());
    }
    match output {
        Output::Json => {
            let text = warm.rows(id, "ndjson", MOST_JSON_ROWS).await?;
            if !text.is_empty() {
                print::out(text.trim_end());
            }
            let given = text.lines().count() as u64;
            if given < outcome.rows {
                print::err(format_args!("note: the first {given} of {} rows", human::count(outcome.rows)));
            }
        }
        Output::Table => {
            let text = warm.rows(id, "table", rows).await?;
            if outcome.rows > rows {
                let all = human::count(outcome.rows);
                print::out(format_args!("first {rows} of {all} rows (\\rows N shows more)"));
            }
            print::out(text.trim_end());
        }
    }
    Ok(())
}

/// Rows, time as the user waited, and what the stages did.
fn timing(outcome: &Outcome, took: Duration) -> String {
    let stages = match outcome.stages.len() {
        0 | 1 => String::new(),
        stages => format!(", {stages} stages"),
    };
    format!("{} in {}{stages}", human::plural(outcome.rows, "row"), human::duration(took))
}
