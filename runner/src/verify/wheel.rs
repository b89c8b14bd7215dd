//! Python Polars as an oracle: wheels of the accepted versions, each in warm Python processes of its own. Plans are
//! sent as the bytes that they are, results come back as Arrow IPC, whose metadata carry every dtype in full. The
//! Python side is `wheel_host.py`.
//!
//! Nothing here compares or judges; it only runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use polars::prelude::{DataFrame, IpcReader, SerReader as _};
use serde::Deserialize;

use super::oracle::Outcome;
use floe_plan::Client;
use floe_wire::error::{Category, QueryError};

const HOST: &str = include_str!("wheel_host.py");
/// The largest first line and results of an answer.
const MAX_LINE_BYTES: u64 = 16 << 20;
const MAX_RESULT_BYTES: u64 = 8 << 30;
/// Importing Polars may take this long on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Which of its engines runs a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    Streaming,
    InMemory,
}

impl With {
    /// What `collect(engine=…)` calls it.
    fn as_str(self) -> &'static str {
        match self {
            With::Streaming => "streaming",
            With::InMemory => "in-memory",
        }
    }
}

/// The releases whose wheels can be asked, one for each plan format.
const RELEASES: [(Client, &str); 4] =
    [(Client::V1_43, "1.43.2"), (Client::V1_44, "1.44.2"), (Client::V2_0, "2.0.0"), (Client::V2_1, "2.1.0")];

/// The wheels of all releases.
pub struct Wheels {
    pythons: BTreeMap<Client, PathBuf>,
    idle: Mutex<BTreeMap<Client, Vec<Wheel>>>,
    /// Takes the plans that no client wrote.
    pub default: Client,
    host: tempfile::NamedTempFile,
}

/// The release whose wheel stands for a client.
pub fn release(client: Client) -> &'static str {
    RELEASES.iter().find(|(known, _)| *known == client).map_or("", |(_, release)| release)
}

fn client_of(release: &str) -> anyhow::Result<Client> {
    let known = RELEASES.iter().find(|(_, known)| *known == release).map(|(client, _)| *client);
    let names = || RELEASES.map(|(_, release)| release).join(", ");
    known.with_context(|| format!("no Polars `{release}` is accepted: one of {}", names()))
}

impl Wheels {
    /// `default`: the release that takes plans which no client wrote. `named`: interpreters as the user named them,
    /// `2.1.0=/path/to/python`; the others are looked for where `tests/wheels` puts them.
    pub fn new(default: &str, named: &[String]) -> anyhow::Result<Wheels> {
        let cache = std::env::var_os("FLOE_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/floe")));
        let dir = cache.unwrap_or_else(|| PathBuf::from(".")).join("wheels");
        let mut pythons: BTreeMap<Client, PathBuf> =
            RELEASES.iter().map(|(client, release)| (*client, dir.join(release).join("bin/python"))).collect();
        for text in named {
            let (release, path) =
                text.split_once('=').with_context(|| format!("--python {text}: give VERSION=INTERPRETER"))?;
            pythons.insert(client_of(release).context("--python")?, PathBuf::from(path));
        }
        let default = client_of(default).context("--oracle-version")?;
        let mut host = tempfile::Builder::new().prefix("floe-wheel-").suffix(".py").tempfile()?;
        host.write_all(HOST.as_bytes())?;
        Ok(Wheels { pythons, idle: Mutex::default(), default, host })
    }

    /// The client whose wheel runs these bytes, if they are a plan.
    pub fn client(&self, bytes: &[u8]) -> Option<Client> {
        match floe_plan::client(bytes).ok()? {
            Client::Engine => Some(self.default),
            client => Some(client),
        }
    }

    /// Starts a process for each of these clients, so that a missing wheel is reported before any plan is run.
    pub fn prepare(&self, clients: BTreeSet<Client>) -> anyhow::Result<()> {
        for client in clients {
            let wheel = self.start(client)?;
            self.put_back(client, wheel);
        }
        Ok(())
    }

    /// Runs the bytes of a plan with the wheel of a client, its own or, for a plan of the engine's release, any: at
    /// most `limit`.
    pub fn run(&self, client: Client, bytes: &[u8], with: With, limit: Duration) -> Outcome {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&client).and_then(Vec::pop);
        let mut wheel = match idle {
            Some(wheel) => wheel,
            None => self.start(client).map_err(|e| QueryError::internal(format!("{e:#}")))?,
        };
        match wheel.ask(&floe_plan::as_written_by(client, bytes)?, with, limit) {
            Asked::Answered(outcome) => {
                self.put_back(client, wheel);
                outcome
            }
            Asked::TimedOut => Err(QueryError::new(
                Category::Deadline,
                "Timeout",
                format!("Polars {} did not finish within {} s", release(client), limit.as_secs()),
            )),
            Asked::Gone(how) => Err(QueryError::user("Crash", format!("Python with Polars {} {how}", release(client)))),
        }
    }

    fn put_back(&self, client: Client, wheel: Wheel) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).entry(client).or_default().push(wheel);
    }

    fn start(&self, client: Client) -> anyhow::Result<Wheel> {
        let release = release(client);
        let python = self.pythons.get(&client).context("there is no Python release of the engine's own Polars")?;
        Wheel::start(python, self.host.path(), release).with_context(|| {
            format!("no Python with Polars {release}: make one with tests/wheels, or name one by --python {release}=…")
        })
    }
}

/// A warm process.
struct Wheel {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<std::io::Result<Answer>>,
}

#[derive(Deserialize)]
struct Hello {
    version: Option<String>,
    error: Option<String>,
}

/// The first line of an answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Head {
    Failed { class: String, message: String },
    Done { heights: Vec<usize>, bytes: Vec<u64> },
}

struct Answer {
    head: Vec<u8>,
    bodies: Vec<Vec<u8>>,
}

enum Asked {
    Answered(Outcome),
    TimedOut,
    Gone(String),
}

impl Wheel {
    fn start(python: &Path, host: &Path, release: &str) -> anyhow::Result<Wheel> {
        anyhow::ensure!(python.exists(), "{} is not there", python.display());
        // Panics and warnings are printed there: not shown, unless asked for.
        let stderr = if std::env::var_os("FLOE_VERIFY_PANICS").is_some() { Stdio::inherit() } else { Stdio::null() };
        let mut command = Command::new(python);
        command.args(["-I", "-B", "-u"]).arg(host).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        if std::env::var_os("POLARS_MAX_THREADS").is_none() {
            // Several run side by side.
            command.env("POLARS_MAX_THREADS", "2");
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", python.display()))?;
        let (Some(requests), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("{} has no pipes", python.display());
        };
        let (send, answers) = mpsc::channel();
        std::thread::Builder::new().name("wheel".into()).spawn(move || read_answers(stdout, &send))?;
        let wheel = Wheel { child, requests, answers };
        let hello = wheel.answers.recv_timeout(START_LIMIT);
        let hello = hello.with_context(|| format!("{} did not start", python.display()))??;
        let hello: Hello = serde_json::from_slice(&hello.head).context("an unexpected first line")?;
        match hello {
            Hello { version: Some(version), .. } if version == release => Ok(wheel),
            Hello { version: Some(version), .. } => anyhow::bail!("{} has Polars {version}", python.display()),
            Hello { error, .. } => anyhow::bail!("{}: {}", python.display(), error.unwrap_or_default()),
        }
    }

    fn ask(&mut self, plan: &[u8], with: With, limit: Duration) -> Asked {
        let head = serde_json::json!({"engine": with.as_str(), "bytes": plan.len()});
        // The process reads a whole request before it does anything, so this cannot block for long.
        let sent = writeln!(self.requests, "{head}")
            .and_then(|()| self.requests.write_all(plan))
            .and_then(|()| self.requests.flush());
        if let Err(e) = sent {
            return Asked::Gone(self.how(&e));
        }
        match self.answers.recv_timeout(limit) {
            Ok(Ok(answer)) => Asked::Answered(answer.outcome()),
            Ok(Err(e)) => Asked::Gone(self.how(&e)),
            Err(RecvTimeoutError::Timeout) => Asked::TimedOut,
            Err(RecvTimeoutError::Disconnected) => Asked::Gone("closed its output".into()),
        }
    }

    fn how(&mut self, error: &std::io::Error) -> String {
        match self.child.wait() {
            Ok(status) => format!("ended with {status}"),
            Err(_) => format!("is gone: {error}"),
        }
    }
}

impl Drop for Wheel {
    fn drop(&mut self) {
        // It may be in the middle of a plan; there is nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_answers(stdout: ChildStdout, send: &mpsc::Sender<std::io::Result<Answer>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let answer = read_answer(&mut stdout);
        let ended = answer.is_err();
        if send.send(answer).is_err() || ended {
            return;
        }
    }
}

fn read_answer(stdout: &mut BufReader<ChildStdout>) -> std::io::Result<Answer> {
    let invalid = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, text.to_owned());
    let mut head = Vec::new();
    stdout.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut head)?;
    if head.pop() != Some(b'\n') {
        return Err(invalid("its output ended"));
    }
    let mut bodies = Vec::new();
    if let Ok(Head::Done { bytes, .. }) = serde_json::from_slice(&head) {
        if bytes.iter().try_fold(0u64, |sum, len| sum.checked_add(*len)).is_none_or(|sum| sum > MAX_RESULT_BYTES) {
            return Err(invalid("its result is too large to compare"));
        }
        for len in bytes {
            let mut body = vec![0; len as usize];
            stdout.read_exact(&mut body)?;
            bodies.push(body);
        }
    }
    Ok(Answer { head, bodies })
}

impl Answer {
    fn outcome(self) -> Outcome {
        match serde_json::from_slice::<Head>(&self.head) {
            Ok(Head::Failed { class, message }) => Err(QueryError::user(class, message)),
            Ok(Head::Done { heights, .. }) => {
                heights.into_iter().zip(self.bodies).map(|(height, body)| frame(height, body)).collect()
            }
            Err(e) => Err(QueryError::internal(format!("an answer of the Python side cannot be read: {e}"))),
        }
    }
}

/// A frame without columns has no file, and may have rows all the same.
fn frame(height: usize, ipc: Vec<u8>) -> Result<DataFrame, QueryError> {
    if ipc.is_empty() {
        return DataFrame::new(height, Vec::new()).map_err(floe_polars::polars_error);
    }
    IpcReader::new(Cursor::new(ipc)).finish().map_err(|e| {
        let error = floe_polars::polars_error(e);
        QueryError::internal(format!("a result of the Python side cannot be read: {}", error.message))
    })
}
