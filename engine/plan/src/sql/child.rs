//! The child process in which Polars resolves SQL: confined like a plan script, without credentials, killed after a
//! time limit. It forks for each text (`host.py`), so this process can reuse it for the next query.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::confine::{confined, isolated, kill_group};
use crate::crossing::TRAVERSE;
use crate::pipes::{self, Printed};
use crate::script::HOST_TABLES;
use floe_wire::error::{QueryError, Result};

const HOST: &str = include_str!("host.py");
/// Memory limit for resolving a text, on top of Python and Polars.
pub const MEMORY_BYTES: u64 = 1 << 30;
/// Refuse longer answers.
const ANSWER_LIMIT_BYTES: u64 = 256 << 20;
/// Show at most this much of what the child prints.
const PRINTED_LIMIT_BYTES: usize = 1 << 10;

/// Started processes that wait for their next text.
static IDLE: Mutex<Vec<Planner>> = Mutex::new(Vec::new());
/// Keep at most this many.
const MAX_IDLE: usize = 4;

pub struct Planner {
    python: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<std::io::Result<Vec<u8>>>,
    printed: Printed,
    _dir: TempDir,
}

impl Drop for Planner {
    fn drop(&mut self) {
        drop(self.input.take());
        kill_group(&self.child);
        // It is killed: only its status is left to collect.
        let _ = self.child.wait();
    }
}

fn cannot(what: &str, error: &std::io::Error) -> QueryError {
    QueryError::io(format!("cannot {what} for planning the SQL query: {error}"))
}

impl Planner {
    /// Takes a waiting process, or starts one.
    pub fn get(python: &Path) -> Result<Self> {
        let waiting = IDLE.lock().ok().and_then(|mut idle| {
            let at = idle.iter().position(|planner| planner.python == python)?;
            Some(idle.swap_remove(at))
        });
        if let Some(mut planner) = waiting
            && matches!(planner.child.try_wait(), Ok(None))
        {
            return Ok(planner);
        }
        Self::start(python)
    }

    /// Keeps the process for the next text. Call it only after the answer to the last request; else drop the process.
    pub fn give_back(self) {
        if let Ok(mut idle) = IDLE.lock()
            && idle.len() < MAX_IDLE
        {
            idle.push(self);
        }
    }

    fn start(python: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("floe-sql-").tempdir().map_err(|e| cannot("make a directory", &e))?;
        for (name, text) in [("host.py", HOST), ("traverse.py", TRAVERSE), ("host_tables.py", HOST_TABLES)] {
            std::fs::write(dir.path().join(name), text).map_err(|e| cannot("write to its directory", &e))?;
        }
        let mut command = isolated(python, &[], "host.py", dir.path());
        command.arg(dir.path()).process_group(0);
        confined(&mut command);
        let mut child = command.spawn().map_err(|e| {
            QueryError::user(
                "SqlEnvironment",
                format!(
                    "SQL is resolved by Polars 2.1 in Python, and {} cannot be started: {e}; run `floe setup`, or name \
                     another Python by FLOE_PYTHON. Serialized plans without SQL need no Python",
                    python.display()
                ),
            )
        })?;
        let answers = pipes::answers(child.stdout.take(), ANSWER_LIMIT_BYTES);
        let printed = Printed::of(child.stderr.take(), PRINTED_LIMIT_BYTES);
        let input = child.stdin.take();
        Ok(Planner { python: python.to_owned(), child, input, answers, printed, _dir: dir })
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, request: &Value, limit: Duration) -> Result<Value> {
        let body = request.to_string();
        let framed = format!("{:08x}{body}", body.len());
        // If the child is gone, the missing answer reports it.
        if let Some(input) = &mut self.input {
            let _ = input.write_all(framed.as_bytes()).and_then(|()| input.flush());
        }
        let answer: Value = match self.answers.recv_timeout(limit) {
            Ok(Ok(answer)) => serde_json::from_slice(&answer)
                .map_err(|e| QueryError::internal(format!("the SQL planner's answer is not readable: {e}")))?,
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
            Err(RecvTimeoutError::Timeout) => {
                return Err(QueryError::user(
                    "QueryTooLarge",
                    format!(
                        "the query was not resolved within {} s: it is too large, or its common tables multiply each other",
                        limit.max(super::RESOLVE_LIMIT).as_secs()
                    ),
                ));
            }
        };
        match answer.get("died").and_then(Value::as_i64) {
            Some(code) => Err(died(code)),
            None => Ok(answer),
        }
    }

    fn gone(&mut self) -> QueryError {
        // Its pipes are closed, so it is ending; kill it in case it does not.
        kill_group(&self.child);
        let _ = self.child.wait();
        let printed = self.printed.as_suffix();
        QueryError::user(
            "SqlEnvironment",
            format!("the process that resolves SQL ({}) ended without an answer{printed}", self.python.display()),
        )
    }
}

/// Describes how the forked process ended: minus a signal, or an exit code.
fn died(code: i64) -> QueryError {
    match i32::try_from(-code).unwrap_or(0) {
        libc::SIGSEGV | libc::SIGBUS => QueryError::user(
            "QueryTooLarge",
            "Polars ran out of stack while it resolved the query: it nests too deeply, or chains too many operators",
        ),
        libc::SIGABRT | libc::SIGKILL => too_much_memory(),
        libc::SIGXCPU => QueryError::user("QueryTooLarge", "the query took too long to resolve"),
        _ => QueryError::user("SqlEnvironment", format!("the process that resolved the query ended with code {code}")),
    }
}

pub fn too_much_memory() -> QueryError {
    QueryError::user(
        "QueryTooLarge",
        format!("resolving the query needs more memory than its limit of {} MiB", MEMORY_BYTES >> 20),
    )
}
