//! A warm engine of this process: `floe-runner serve` as a child, reached by HTTP on loopback. It accepts only the
//! token that was made for it, and ends with this process, however that ends.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use floe_api::Secret;
use floe_api::job::Job;
use floe_api::report::{Category, Event, RunError};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::error::Failure;
use crate::process::{self, GRACE, WORKER_GRACE};

/// Time for the processes to start, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout without any event; an engine sends one at least every ten seconds, if only a keep-alive.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Show at most this many bytes of the log.
const MAX_SHOWN_LOG_BYTES: u64 = 2000;

pub struct Options<'a> {
    pub runner: &'a Path,
    pub workers: u32,
    pub threads: usize,
    pub memory_bytes: Option<u64>,
    pub scratch: Option<&'a Path>,
    pub env: &'a [(String, Secret)],
}

pub struct Warm {
    child: Child,
    /// Closing it tells the engine that this process is gone.
    stdin: Option<ChildStdin>,
    log: File,
    client: reqwest::Client,
    url: String,
    token: String,
}

/// Why there is no answer.
pub enum Refused {
    /// The engine reports an error.
    Query(RunError),
    Failure(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused::Failure(failure)
    }
}

impl Warm {
    pub async fn start(options: &Options<'_>) -> Result<Warm, Failure> {
        let log =
            tempfile::tempfile().map_err(|error| Failure::io("cannot make a file for the engine's log", error))?;
        let errors = log.try_clone().map_err(|error| Failure::io("cannot use the engine's log", error))?;
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let mut command = Command::new(options.runner);
        command
            .arg("serve")
            .args(["--parent", &std::process::id().to_string()])
            .args(["--local-workers", &options.workers.to_string()])
            .args(["--threads", &options.threads.to_string()]);
        if let Some(bytes) = options.memory_bytes {
            command.args(["--memory-limit-bytes", &bytes.to_string()]);
        }
        if let Some(scratch) = options.scratch {
            command.arg("--scratch").arg(scratch);
        }
        command
            .envs(options.env.iter().map(|(name, value)| (name.as_str(), value.reveal())))
            .env("FLOE_TOKEN", &token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            // Its own process group: Ctrl-C cancels a query and must not end the engine.
            .process_group(0)
            .kill_on_drop(true);
        let shown = options.runner.display();
        let mut child = command.spawn().map_err(|error| Failure::io(format!("cannot start {shown}"), error))?;
        let stdin = child.stdin.take();
        let Some(stdout) = child.stdout.take() else {
            return Err(Failure::Internal("the engine's output is not connected".to_owned()));
        };
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.map_err(|error| Failure::Internal(format!("no HTTP client can be made: {error}")))?;
        let mut warm = Warm { child, stdin, log, client, url: String::new(), token };
        let line = tokio::time::timeout(START_TIMEOUT, BufReader::new(stdout).lines().next_line()).await;
        let ready = line.ok().and_then(Result::ok).flatten();
        let ready = ready.and_then(|line| serde_json::from_str::<Value>(&line).ok());
        match ready.as_ref().and_then(|ready| ready["http"].as_str()) {
            Some(url) => warm.url = url.to_owned(),
            None => {
                let failure = Failure::Internal(format!("the engine did not start{}", warm.last_words()));
                warm.close(Duration::ZERO).await;
                return Err(failure);
            }
        }
        Ok(warm)
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log, after a colon; empty if there is none.
    pub fn last_words(&self) -> String {
        let size = self.log.metadata().map_or(0, |meta| meta.len());
        let from = size.saturating_sub(MAX_SHOWN_LOG_BYTES);
        let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
        let read = self.log.read_at(&mut bytes, from).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..read]).trim().to_owned();
        if text.is_empty() { text } else { format!(":\n{text}") }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Refused> {
        let answer = request.bearer_auth(&self.token).send().await;
        let answer = answer.map_err(|error| Failure::Internal(format!("the engine does not answer: {error}")))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.bytes().await.unwrap_or_default();
        let error = serde_json::from_slice::<RunError>(&body).unwrap_or_else(|_| RunError {
            category: Category::Internal,
            class: format!("HTTP {status}"),
            message: String::from_utf8_lossy(&body).trim().to_owned(),
        });
        Err(Refused::Query(error))
    }

    fn query(&self, id: &str, rest: &str) -> String {
        format!("{}/api/v1/queries/{id}{rest}", self.url)
    }

    /// Submits a query.
    pub async fn submit(&self, job: &Job) -> Result<(), Refused> {
        let body = serde_json::to_vec(job).map_err(|e| Failure::Internal(format!("the job cannot be written: {e}")))?;
        self.send(self.client.post(format!("{}/api/v1/queries", self.url)).body(body)).await.map(drop)
    }

    pub async fn events(&self, id: &str) -> Result<Events, Refused> {
        let answer = self.send(self.client.get(self.query(id, "/events"))).await?;
        Ok(Events { answer, buffer: vec![] })
    }

    /// The first rows of a result as text: `table` or `ndjson`.
    pub async fn rows(&self, id: &str, format: &str, rows: u64) -> Result<String, Refused> {
        let asked = self.query(id, &format!("/result?format={format}&rows={rows}"));
        let answer = self.send(self.client.get(asked)).await?;
        let text = answer.text().await;
        Ok(text.map_err(|error| Failure::Internal(format!("the result broke off: {error}")))?)
    }

    /// Cancels a query, or releases one that has ended. If the engine is gone, there is nothing to do.
    pub async fn forget(&self, id: &str) {
        let _ = self.send(self.client.delete(self.query(id, ""))).await;
    }

    /// Ends the processes. `patience`: how long they may take to end by themselves.
    pub async fn close(mut self, patience: Duration) {
        let leader = self.child.id();
        drop(self.stdin.take());
        if tokio::time::timeout(patience, self.child.wait()).await.is_err() {
            if let Some(leader) = leader {
                process::kill_group(leader);
            }
            let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        }
        if let Some(leader) = leader {
            process::end_group(leader, if patience.is_zero() { Duration::ZERO } else { WORKER_GRACE });
        }
    }
}

/// The stream of a query's events.
pub struct Events {
    answer: reqwest::Response,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; an error if the engine ended before the query.
    pub async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                // Skip events that only a newer engine sends.
                if let Some(event) = event(&line) {
                    return Ok(event);
                }
                continue;
            }
            let broke = |why: String| Failure::Internal(format!("the engine broke off: {why}"));
            match tokio::time::timeout(EVENT_TIMEOUT, self.answer.chunk()).await {
                Ok(Ok(Some(bytes))) => self.buffer.extend_from_slice(&bytes),
                Ok(Ok(None)) => return Err(broke("it ended before the query".to_owned())),
                Ok(Err(error)) => return Err(broke(error.to_string())),
                Err(_) => return Err(broke(format!("it said nothing for {} s", EVENT_TIMEOUT.as_secs()))),
            }
        }
    }
}

/// Parses the event of a line of the stream.
fn event(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line.strip_prefix(b"data:")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_data_are_events() {
        let done = event(b"data: {\"type\":\"done\",\"outcome\":{\"rows\":3}}\n");
        assert!(matches!(done, Some(Event::Done { outcome }) if outcome.rows == 3));
        for line in [&b": keep-alive\n"[..], b"\n", b"data: {\"type\":\"new\"}\n"] {
            assert!(event(line).is_none());
        }
    }
}
