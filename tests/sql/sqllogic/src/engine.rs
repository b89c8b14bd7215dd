//! Floe as sqllogictest sees it: a child process (`tests/sql/served.py`) that keeps one warm and answers queries, a line of JSON
//! each way. Values come as the files have them; nothing here reads or compares them.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use sqllogictest::{ColumnType, DB, DBOutput, DefaultColumnType};

const MODULE: &str = "tests.sql.served";

#[derive(thiserror::Error, Debug)]
pub enum EngineError {
    /// What Floe says of a query, with its class.
    #[error("{0}")]
    Refused(String),
    #[error("cannot start `{0} -m {MODULE}` (FLOE_PYTHON names the Python): {1}")]
    Start(String, io::Error),
    #[error("{MODULE} ended before it answered; what it said last is above")]
    Ended,
    #[error("{MODULE} answered without {0}")]
    Answer(&'static str),
    #[error("--way {0}: is none of {1}")]
    Way(String, String),
}

pub struct Engine {
    child: Child,
    /// None when it is closed, which ends the child.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    ways: Vec<String>,
    ended: bool,
}

impl Engine {
    /// Starts it and waits until it is ready.
    pub fn start() -> Result<Engine, EngineError> {
        let python = std::env::var("FLOE_PYTHON").unwrap_or_else(|_| "python3".to_string());
        let start = |error| EngineError::Start(python.clone(), error);
        let mut child = Command::new(&python)
            .args(["-m", MODULE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let questions = child.stdin.take();
        let Some(answers) = child.stdout.take() else { return Err(EngineError::Ended) };
        let mut engine = Engine { child, questions, answers: BufReader::new(answers), ways: Vec::new(), ended: false };
        engine.ways = serde_json::from_value(engine.read()?["ways"].take()).map_err(|_| EngineError::Answer("ways"))?;
        Ok(engine)
    }

    /// The ways that are asked for, all of them if none is.
    pub fn ways(&self, wanted: &[String]) -> Result<Vec<String>, EngineError> {
        match wanted.iter().find(|way| !self.ways.contains(way)) {
            Some(unknown) => Err(EngineError::Way(unknown.clone(), self.ways.join(", "))),
            None if wanted.is_empty() => Ok(self.ways.clone()),
            None => Ok(wanted.to_vec()),
        }
    }

    /// An error once the child has ended.
    pub fn check(&self) -> Result<(), EngineError> {
        if self.ended { Err(EngineError::Ended) } else { Ok(()) }
    }

    fn ask(&mut self, way: &str, sql: &str) -> Result<DBOutput<DefaultColumnType>, EngineError> {
        self.check()?;
        let question = json!({"way": way, "sql": sql});
        let written = self.questions.as_mut().map(|pipe| writeln!(pipe, "{question}"));
        if !matches!(written, Some(Ok(()))) {
            self.ended = true;
            return Err(EngineError::Ended);
        }
        let mut answer = self.read()?;
        if let Some(error) = answer["error"].as_str() {
            return Err(EngineError::Refused(error.to_string()));
        }
        let letters = answer["types"].as_str().ok_or(EngineError::Answer("types"))?;
        let types = letters.chars().filter_map(DefaultColumnType::from_char).collect();
        let rows = serde_json::from_value(answer["rows"].take()).map_err(|_| EngineError::Answer("rows"))?;
        Ok(DBOutput::Rows { types, rows })
    }

    fn read(&mut self) -> Result<Value, EngineError> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(1..) => serde_json::from_str(&line).map_err(|_| EngineError::Answer("JSON")),
            Ok(0) | Err(_) => {
                self.ended = true;
                Err(EngineError::Ended)
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.questions = None;
        // It stops its server and removes its tables; how it ends is its own matter by now.
        let _ = self.child.wait();
    }
}

/// The engine, with every query run in one way.
#[derive(Clone)]
pub struct Connection {
    engine: Arc<Mutex<Engine>>,
    way: String,
}

impl Connection {
    pub fn new(engine: &Arc<Mutex<Engine>>, way: &str) -> Connection {
        Connection { engine: engine.clone(), way: way.to_string() }
    }

    pub fn way(&self) -> &str {
        &self.way
    }

    pub fn has_ended(&self) -> bool {
        self.engine().ended
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DB for Connection {
    type Error = EngineError;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, EngineError> {
        self.engine().ask(&self.way, sql)
    }

    /// By which `skipif` and `onlyif` know it.
    fn engine_name(&self) -> &str {
        &self.way
    }
}
