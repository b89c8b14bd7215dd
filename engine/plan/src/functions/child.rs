//! One Python process that calls functions, one call at a time. Confined and limited like a plan script, with its whole
//! process tree (`tree`).

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use polars_core::prelude::*;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use super::groups;
use super::payload::Payload;
use super::pool::Stops;
use crate::confine::isolated;
use crate::pipes::{self, Printed};
use crate::python::Purpose;
use crate::requirements;
use crate::tree::{self, End, Limits, Watch};
use floe_polars::{frame_from_stream, polars_error, write_stream};
use floe_wire::error::{Category, QueryError, Result};

const HOST: &str = include_str!("function_host.py");
/// Allowance for Python and Polars themselves, and for pages that are counted twice because processes share them.
const BASE_BYTES: u64 = 512 << 20;
const PROCESSES: usize = 64;
/// Keep at most this much of what functions print.
const PRINTED_LIMIT_BYTES: usize = 2 << 10;
/// Refuse longer answers.
const ANSWER_LIMIT_BYTES: u64 = 64 << 30;
/// Time limit for importing Polars, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Interval between checks of a busy child's resources.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a waiting call checks for cancellation.
const WAIT: Duration = Duration::from_millis(20);
/// How long to wait for the report of a child's end after its pipes have closed.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A request to a child: a header, and bodies.
type Request = (String, Vec<Vec<u8>>);

pub struct FunctionChild {
    python: PathBuf,
    release: String,
    has: Versions,
    requests: Option<Sender<Request>>,
    answers: Receiver<std::io::Result<Vec<u8>>>,
    printed: Printed,
    watch: Arc<Watch>,
    ended: Receiver<std::io::Result<End>>,
    /// The functions that it has loaded, with their names in users' code.
    known: HashMap<u64, String>,
    /// The return type last sent for each function.
    typed: HashMap<u64, DataType>,
    memory_bytes: u64,
    _dir: TempDir,
}

pub struct Call<'c> {
    pub payload: &'c Payload,
    pub key: u64,
    pub columns: &'c [Series],
    pub returns: Option<&'c DataType>,
    pub stops: Stops<'c>,
    pub limit: Duration,
}

/// Versions that a child reports at its start.
#[derive(Default, Deserialize)]
struct Versions {
    python: (u8, u8, u8),
    polars: String,
}

/// A failed call, as the child reports it.
#[derive(Deserialize)]
struct Failed {
    class: String,
    message: String,
    #[serde(default)]
    trace: String,
}

impl Drop for FunctionChild {
    fn drop(&mut self) {
        self.watch.stop.store(true, Ordering::Release);
        self.requests = None;
    }
}

fn cannot(what: &str, error: &std::io::Error) -> QueryError {
    QueryError::io(format!("cannot {what} for calling a Python function: {error}"))
}

impl FunctionChild {
    /// The Polars release that it was started for.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Whether it can take another call.
    pub fn is_well(&self) -> bool {
        self.requests.is_some() && !self.watch.stop.load(Ordering::Acquire)
    }

    /// Starts a child with this release of Polars (`2.1`).
    pub fn start(release: &str, cancel: &AtomicBool) -> Result<Self> {
        let settings = super::settings();
        let python = settings.python.find(Purpose::Functions(release), &mut |line| tracing::warn!("{line}"))?;
        let packages = requirements::install(&python, &settings.requirements, cancel)?;
        let parent = settings.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = std::fs::create_dir_all(&parent)
            .and_then(|()| tempfile::Builder::new().prefix("floe-functions-").tempdir_in(&parent))
            .map_err(|e| cannot("make a directory", &e))?;
        std::fs::write(dir.path().join("function_host.py"), HOST).map_err(|e| cannot("write to its directory", &e))?;
        let limits = Limits {
            // A child lives as long as its query; only single calls have a time limit.
            time: Duration::from_secs(1 << 30),
            memory_bytes: settings.memory_bytes + BASE_BYTES,
            processes: PROCESSES,
            disk_bytes: settings.memory_bytes,
            dir: dir.path().to_owned(),
        };
        let mut command = isolated(&python, &[], "function_host.py", dir.path());
        command
            .arg(settings.memory_bytes.to_string())
            .envs(settings.variables.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(packages.map(|path| ("FLOE_PACKAGES", path)))
            // Module path of the client, if it runs on this machine.
            .envs(std::env::var_os("FLOE_PYTHON_PATH").map(|path| ("FLOE_PYTHON_PATH", path)));
        let watch = Arc::new(Watch { every: LOOK_EVERY, ..Watch::default() });
        let ((stdin, stdout, stderr), ended) = supervised(command, limits, watch.clone()).map_err(|e| {
            QueryError::user(
                "PythonEnvironment",
                format!("cannot start Python ({}) for the query's functions: {e}", python.display()),
            )
        })?;
        let mut own = FunctionChild {
            python,
            release: release.to_owned(),
            has: Versions::default(),
            requests: Some(writer(stdin)),
            answers: pipes::answers(stdout, ANSWER_LIMIT_BYTES),
            printed: Printed::of(stderr, PRINTED_LIMIT_BYTES),
            watch,
            ended,
            known: HashMap::new(),
            typed: HashMap::new(),
            memory_bytes: settings.memory_bytes,
            _dir: dir,
        };
        let hello = own.answer(0, Stops { cancel, failed: None }, START_LIMIT)?;
        own.has = serde_json::from_slice(hello.get(1..).unwrap_or_default())
            .map_err(|e| QueryError::internal(format!("a function's process does not say what it is: {e}")))?;
        own.watch.busy.store(false, Ordering::Release);
        Ok(own)
    }

    /// Checks that its versions can load the pickled functions.
    pub fn suits(&self, payload: &Payload) -> Result<()> {
        let Versions { python: (_, minor, _), polars } = &self.has;
        let same_polars =
            polars.strip_prefix(&payload.polars).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if same_polars && (!payload.with_code || *minor == payload.python.0) {
            return Ok(());
        }
        Err(QueryError::user(
            "PythonVersion",
            format!(
                "the plan's Python functions were made with Python 3.{} and Polars {}, and {} has Python 3.{minor} and Polars \
                 {polars}: run the query with an image, or with FLOE_PYTHON naming an interpreter, of the client's versions",
                payload.python.0,
                payload.polars,
                self.python.display(),
            ),
        ))
    }

    pub fn call(&mut self, call: &Call<'_>) -> Result<Series> {
        self.watch.busy.store(true, Ordering::Release);
        let answer = self.ask(call);
        self.watch.busy.store(false, Ordering::Release);
        answer
    }

    fn ask(&mut self, call: &Call<'_>) -> Result<Series> {
        let Call { payload, key, columns, returns, stops, limit } = *call;
        if !self.known.contains_key(&key) {
            let header = json!({"op": "define", "key": key, "kind": payload.kind, "args": payload.args});
            self.send(header, vec![payload.pickle.to_vec()]);
            let name = self.answer(key, stops, limit)?;
            self.known.insert(key, String::from_utf8_lossy(name.get(1..).unwrap_or_default()).into_owned());
        }
        let mut bodies = Vec::with_capacity(columns.len() + 1);
        for column in columns {
            bodies.push(one_column(column)?);
        }
        let type_known = returns.is_none_or(|dtype| self.typed.get(&key) == Some(dtype));
        if let Some(dtype) = returns.filter(|_| !type_known) {
            bodies.push(one_column(&Series::new_empty(PlSmallStr::EMPTY, dtype))?);
            self.typed.insert(key, dtype.clone());
        }
        let own: Vec<&str> = columns.iter().map(|column| column.name().as_str()).collect();
        let mut header = json!({"op": "call", "key": key, "names": own});
        header["type"] = match returns {
            Some(_) if type_known => "last",
            Some(_) => "new",
            None => "none",
        }
        .into();
        if let Some(columns) = payload.groups {
            header["names"] = json!(vec![""; columns]);
            header["groups"] = if payload.scalar { "scalar" } else { "lists" }.into();
        }
        self.send(header, bodies);
        let answer = self.answer(key, stops, limit)?;
        let frame = frame_from_stream(answer.get(1..).unwrap_or_default())?;
        let groups = columns.first().map_or(0, |column| column.len());
        match frame.columns() {
            [column] => Ok(column.as_materialized_series().clone()),
            [rows, numbers] => {
                let (rows, numbers) = (rows.as_materialized_series(), numbers.as_materialized_series());
                groups::lists(rows, numbers, groups).map_err(polars_error)
            }
            _ => Err(QueryError::internal("a function's answer has no column")),
        }
    }

    fn send(&self, header: serde_json::Value, bodies: Vec<Vec<u8>>) {
        // If the child is gone, the missing answer reports it.
        if let Some(requests) = &self.requests {
            let _ = requests.send((header.to_string(), bodies));
        }
    }

    /// Waits for an answer. Successful answers begin with a zero byte.
    fn answer(&mut self, key: u64, stops: Stops<'_>, limit: Duration) -> Result<Vec<u8>> {
        let deadline = Instant::now() + limit;
        loop {
            match self.answers.recv_timeout(WAIT) {
                Ok(Ok(answer)) if answer.first() == Some(&0) => return Ok(answer),
                Ok(Ok(answer)) => return Err(self.failed(key, &answer)),
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(self.lost(key)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(cancelled) = stops.check() {
                self.end();
                return Err(cancelled);
            }
            if Instant::now() >= deadline {
                self.end();
                return Err(QueryError::user(
                    "FunctionTimeout",
                    format!(
                        "one call of {} was still running after {} s and was stopped: does it end? FLOE_FUNCTION_SECONDS \
                         allows more: in the environment of `floe run`, in floe.Local(env=…), on a cluster as an ENV of the \
                         image in compute.image",
                        self.name(key),
                        limit.as_secs()
                    ),
                ));
            }
        }
    }

    fn end(&mut self) {
        self.watch.stop.store(true, Ordering::Release);
        self.requests = None;
    }

    fn name(&self, key: u64) -> String {
        self.known
            .get(&key)
            .map_or_else(|| "a Python function of the plan".into(), |name| format!("the Python function {name}"))
    }

    fn failed(&self, key: u64, answer: &[u8]) -> QueryError {
        let failed: Failed = match serde_json::from_slice(answer.get(1..).unwrap_or_default()) {
            Ok(failed) => failed,
            Err(e) => return QueryError::internal(format!("a function's answer cannot be read: {e}")),
        };
        let Failed { class, message, trace } = failed;
        if class == "MemoryError" {
            return QueryError::user(
                "MemoryError",
                format!(
                    "{} needs more memory than its limit of {} MiB{}",
                    self.name(key),
                    self.memory_bytes >> 20,
                    if message.is_empty() { String::new() } else { format!(": {message}") }
                ),
            );
        }
        let trace = if trace.is_empty() { String::new() } else { format!("\n\nin {}:\n{trace}", self.name(key)) };
        QueryError::user(class, format!("{message}{trace}"))
    }

    /// Reports how a child ended whose pipes are closed.
    fn lost(&mut self, key: u64) -> QueryError {
        self.requests = None;
        let end = self.ended.recv_timeout(END_LIMIT);
        self.end();
        let printed = self.printed.as_suffix();
        let name = self.name(key);
        let ended = match end {
            Ok(Ok(End::Itself(status))) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(libc::SIGSEGV)) => "a segmentation fault".into(),
                (None, Some(libc::SIGKILL)) => {
                    return QueryError::new(
                        Category::OutOfMemory,
                        "MemoryError",
                        format!("the process of {name} was killed, as the kernel does when memory runs out{printed}"),
                    );
                }
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            },
            Ok(Ok(End::Processes)) => format!("more than {PROCESSES} processes"),
            Ok(Ok(End::Memory)) => format!("more memory than its limit of {} MiB", self.memory_bytes >> 20),
            Ok(Ok(End::Disk)) => "more files than its limit".into(),
            _ => "no answer".into(),
        };
        // Before the first answer, no function is to blame.
        if key == 0 {
            return QueryError::user(
                "PythonEnvironment",
                format!(
                    "{} cannot call the query's functions, which want Polars {}: it ended with {ended}{printed}",
                    self.python.display(),
                    self.release
                ),
            );
        }
        QueryError::user("FunctionCrashed", format!("the process of {name} ended with {ended}{printed}"))
    }
}

type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

/// Starts the child on a thread that lives as long as the child: PR_SET_PDEATHSIG kills it when the thread that started
/// it ends.
fn supervised(
    command: Command,
    limits: Limits,
    watch: Arc<Watch>,
) -> std::io::Result<(Pipes, Receiver<std::io::Result<End>>)> {
    let (tell_start, started) = channel();
    let (tell_end, ended) = channel();
    std::thread::Builder::new().name("floe-function".into()).spawn(move || {
        let tree = tree::start(command, &limits).map(|mut tree| {
            let child = tree.child();
            let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            pipes.0.iter().for_each(|pipe| pipes::widen(pipe));
            pipes.1.iter().for_each(|pipe| pipes::widen(pipe));
            (tree, pipes)
        });
        match tree {
            Ok((tree, pipes)) => {
                let _ = tell_start.send(Ok(pipes));
                let _ = tell_end.send(tree.wait_watched(&limits, &watch));
            }
            Err(error) => {
                let _ = tell_start.send(Err(error));
            }
        }
    })?;
    let pipes = started.recv().map_err(|_| std::io::Error::other("its thread ended"))??;
    Ok((pipes, ended))
}

fn one_column(column: &Series) -> Result<Vec<u8>> {
    let column = column.clone().with_name(PlSmallStr::from_static("0")).into_column();
    write_stream(DataFrame::new(column.len(), vec![column]).map_err(polars_error)?)
}

/// Writes requests on a thread of its own, so that a child that does not read cannot block the caller.
fn writer(pipe: Option<ChildStdin>) -> Sender<Request> {
    let (sender, requests) = channel::<Request>();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        for (header, bodies) in requests {
            let sizes: Vec<usize> = bodies.iter().map(Vec::len).collect();
            let head = format!("{header}\n{}\n", json!(sizes));
            let written = pipe
                .write_all(format!("{:08x}", head.len()).as_bytes())
                .and_then(|()| pipe.write_all(head.as_bytes()))
                .and_then(|()| bodies.iter().try_for_each(|body| pipe.write_all(body)))
                .and_then(|()| pipe.flush());
            if written.is_err() {
                return;
            }
        }
    });
    sender
}
