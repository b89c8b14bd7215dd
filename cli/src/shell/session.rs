//! The state of a shell: tables, views, settings and the engine. Runs a statement and shows its result.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use floe_api::FieldError;
use floe_api::data::Format;
use floe_api::report::Outcome;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::catalog;
use super::complete::Columns;
use super::engine::{Done, Ended, Engine};
use super::local::Local;
use super::progress::Progress;
use super::remote::Remote;
use super::split::first_words;
use crate::args::{Output, QueryArgs, ShellArgs};
use crate::error::Failure;
use crate::query::{self, object_at};
use crate::{human, print, process};

/// Timeout for the columns that Tab proposes: somebody waits.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Session {
    runtime: tokio::runtime::Runtime,
    /// Keeps Ctrl-C from ending the shell.
    _interrupt: Signal,
    engine: Option<Engine>,
    /// The query that each statement becomes, except for its text.
    base: Value,
    output: Output,
    pub quiet: bool,
    pub rows: u64,
    pub timing: bool,
    columns: Columns,
}

impl Session {
    pub fn new(args: ShellArgs) -> Result<Session, Failure> {
        // Do this before any process exists: scripts of the same user must not read this one's memory.
        process::hide();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::io("cannot start the event loop", error))?;
        let interrupt = {
            let _here = runtime.enter();
            interrupts()?
        };
        let remote = args.on.as_ref().map(|context| runtime.block_on(Remote::new(&args, context))).transpose()?;
        let base = base(&args)?;
        let (output, quiet, rows) = (args.output, args.quiet, args.rows);
        let engine = match remote {
            Some(remote) => Engine::Remote(Box::new(remote)),
            None => Engine::Local(Box::new(Local::new(args.query, args.scratch)?)),
        };
        let session = Session {
            runtime,
            _interrupt: interrupt,
            engine: Some(engine),
            base,
            output,
            quiet,
            rows,
            timing: true,
            columns: Columns::new(),
        };
        // Check everything but the text now.
        session.check()?;
        Ok(session)
    }

    pub fn start(&mut self) -> Result<(), Failure> {
        let query = self.query("SELECT 1");
        let Some(engine) = &mut self.engine else { return Ok(()) };
        self.runtime.block_on(engine.start(query))
    }

    pub fn close(mut self) {
        if let Some(engine) = self.engine.take() {
            self.runtime.block_on(engine.close());
        }
    }

    /// Tables and views by name, with their kind and location.
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

    /// Defines a table: `name=[format:]uri`.
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
        // Indexing would insert a null if there are none.
        let views = self.base["spec"].get_mut("views").and_then(Value::as_object_mut);
        let gone = views.and_then(|views| views.remove(name)).is_some();
        self.columns.remove(name);
        if gone || if_exists { Ok(()) } else { Err(Failure::Usage(format!("there is no view {name}"))) }
    }

    /// Changes the base, and undoes the change if the base is then invalid.
    fn changed(&mut self, name: &str, change: impl FnOnce(&mut Value) -> Result<(), Failure>) -> Result<(), Failure> {
        let before = self.base.clone();
        let done = change(&mut self.base).and_then(|()| self.check());
        match done {
            Ok(()) => drop(self.columns.remove(name)),
            Err(_) => self.base = before,
        }
        done
    }

    fn query(&self, text: &str) -> Value {
        let mut query = self.base.clone();
        query["spec"]["plan"] = json!({"sql": text});
        query
    }

    fn check(&self) -> Result<(), Failure> {
        self.engine.as_ref().map_or(Ok(()), |engine| engine.check(self.query("SELECT 1")))
    }

    /// Runs a statement and shows its rows.
    pub fn run(&mut self, text: &str) -> Result<(), Ended> {
        let began = Instant::now();
        let query = self.query(text);
        let explains = first_words(text, 1) == ["EXPLAIN"];
        let (output, rows, live) = (self.output, self.rows, !self.quiet);
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let ended = self.runtime.block_on(async {
            // A new listener, which receives only signals from here on.
            let mut interrupt = interrupts()?;
            let mut progress = Progress::new(live);
            let done = engine.run(query, &mut progress, &mut interrupt).await?;
            drop(progress);
            let shown = shown(engine, &done, output, rows, explains).await;
            engine.forget(&done.id).await;
            shown.map(|()| done.outcome)
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

    /// Columns of tables, each looked up once. Columns that do not arrive in time are not proposed.
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
        let query = self.query(&format!("DESCRIBE {}", quoted.join(".")));
        let engine = self.engine.as_mut()?;
        let lines = self.runtime.block_on(async {
            let mut interrupt = interrupts().ok()?;
            let mut progress = Progress::new(false);
            let run = engine.run(query, &mut progress, &mut interrupt);
            let Ok(ended) = tokio::time::timeout(PATIENCE, run).await else {
                engine.abandon().await;
                return None;
            };
            let done = ended.ok()?;
            let lines = engine.lines(&done, 10_000).await.ok();
            engine.forget(&done.id).await;
            lines
        })?;
        let name = |line: &str| serde_json::from_str::<Value>(line).ok()?["column_name"].as_str().map(str::to_owned);
        Some(lines.lines().filter_map(name).collect())
    }
}

fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt()).map_err(|error| Failure::io("cannot listen to signals", error))
}

/// The query that the command line describes, without a text.
fn base(args: &ShellArgs) -> Result<Value, Failure> {
    let mut base = query::sql_query("SELECT 1")?;
    match &args.on {
        Some(context) => {
            let storage = args.storage.as_deref();
            Remote::borrow(&mut base, context, storage).map_err(|fault| refuse(vec![fault]))?;
        }
        None => base["metadata"]["name"] = "shell".into(),
    }
    for directory in &args.directories {
        let tables = object_at(&mut base, &["spec", "tables"]).map_err(|fault| refuse(vec![fault]))?;
        tables.extend(catalog::of_directory(directory)?);
    }
    query::override_fields("floe shell", &mut base, &args.query)?;
    Ok(base)
}

pub fn refuse(faults: Vec<FieldError>) -> Failure {
    Failure::Spec { what: "the statement".to_owned(), faults }
}

/// Maximum number of rows to print as JSON: they are in memory at once.
const MAX_JSON_ROWS: u64 = 100_000;

/// Prints the rows of a result.
async fn shown(engine: &Engine, done: &Done, output: Output, rows: u64, explains: bool) -> Result<(), Ended> {
    let outcome = &done.outcome;
    if let Some(uri) = &outcome.sink_uri {
        print::out(format_args!("written to {}", human::path(uri)));
        return Ok(());
    }
    if explains {
        let text = engine.lines(done, u64::MAX).await?;
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            print::out(line["plan"].as_str().unwrap_or_default());
        }
        return Ok(());
    }
    match output {
        Output::Json => {
            let text = engine.lines(done, MAX_JSON_ROWS).await?;
            if !text.is_empty() {
                print::out(text.trim_end());
            }
            let given = text.lines().count() as u64;
            if given < outcome.rows {
                print::err(format_args!("note: the first {given} of {} rows", human::count(outcome.rows)));
            }
        }
        Output::Table => {
            if outcome.rows > rows {
                let all = human::count(outcome.rows);
                print::out(format_args!("first {rows} of {all} rows (\\rows N shows more)"));
            }
            engine.print_table(done, rows).await?;
        }
    }
    Ok(())
}

/// Formats the rows, the time that the user waited, and what the stages did.
fn timing(outcome: &Outcome, took: Duration) -> String {
    let stages = match outcome.stages.len() {
        0 | 1 => String::new(),
        stages => format!(", {stages} stages"),
    };
    format!("{} in {}{stages}", human::plural(outcome.rows, "row"), human::duration(took))
}
