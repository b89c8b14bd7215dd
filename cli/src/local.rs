//! Runs one query on this machine: starts a coordinator, which starts its own workers, and renders its events. However
//! the query ends, the processes are gone and the scratch directory is removed.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use floe_api::StageState;
use floe_api::report::{Category, Event, Outcome, RunError};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::error::Failure;
use crate::process::{self, GRACE, WORKER_GRACE};
use crate::query::Prepared;
use crate::render::Render;

/// Stop the coordinator this long after the query's deadline; it should have ended by itself.
const DEADLINE_SLACK: Duration = Duration::from_secs(15);
/// Keep this many lines of the coordinator's log, to show if it ends without an outcome.
const KEPT_LINES: usize = 20;

pub struct Options<'a> {
    pub runner: &'a Path,
    pub scratch: Option<&'a Path>,
    pub verbose: bool,
}

/// How a query ended.
#[derive(Debug)]
pub enum End {
    Done(Box<Outcome>),
    Failed(RunError),
}

/// A directory for this run, private to the user and removed at the end.
struct RunDir(PathBuf);

impl RunDir {
    fn make(parent: Option<&Path>, id: &str) -> Result<Self, Failure> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        floe_scratch::sweep(&parent, "run");
        let dir = parent.join(floe_scratch::name("run", id));
        let failed = |e| Failure::io(format!("cannot make the scratch directory {}", dir.display()), e);
        std::fs::create_dir_all(&parent).map_err(failed)?;
        std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        Ok(RunDir(dir))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        floe_scratch::remove(&self.0);
    }
}

/// Ends the coordinator's process group when dropped.
struct Group {
    leader: Option<u32>,
    patience: Duration,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            process::end_group(leader, self.patience);
        }
    }
}

pub async fn run(prepared: &Prepared, options: &Options<'_>, render: &mut dyn Render) -> Result<End, Failure> {
    // Do this before any process exists: a query's script must not read this one's memory, and no Ctrl-C may be missed.
    process::hide();
    let stop_failed = |e| Failure::io("cannot listen to signals", e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(stop_failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(stop_failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(stop_failed)?;

    let dir = RunDir::make(options.scratch, &prepared.job.id)?;
    let job_file = dir.0.join("job.json");
    write_job(prepared, &job_file)?;
    let mut child = start(prepared, options, &dir.0, &job_file)?;
    let mut group = Group { leader: child.id(), patience: WORKER_GRACE };

    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Failure::Internal("the coordinator's output is not connected".to_owned()));
    };
    let mut stdout = BufReader::new(stdout).lines();
    let mut stderr = BufReader::new(stderr).lines();
    let mut stdin = child.stdin.take();

    let deadline = prepared.job.spec.active_deadline_seconds;
    let deadline = deadline.map(|s| Instant::now() + Duration::from_secs(u64::from(s)) + DEADLINE_SLACK);
    let mut end = None;
    let mut cancelled = false;
    let mut overdue = false;
    let mut kill_at: Option<Instant> = None;
    let mut last_lines: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    let (mut stdout_open, mut stderr_open) = (true, true);
    let mut job_file_there = true;
    let mut status = None;
    render.start(&prepared.job.name, prepared.workers);
    while status.is_none() || stdout_open {
        let never = Instant::now() + Duration::from_secs(86_400);
        tokio::select! {
            line = stdout.next_line(), if stdout_open => match line {
                Ok(Some(line)) => {
                    // The coordinator has read the job, which may hold credentials: remove it.
                    if std::mem::take(&mut job_file_there) {
                        let _ = std::fs::remove_file(&job_file);
                    }
                    match serde_json::from_str(&line) {
                        Ok(Event::Planned(planned)) => render.planned(&planned),
                        // Tasks that were stopped on request have not failed.
                        Ok(Event::Stage(stage)) if (cancelled || overdue) && stage.state == StageState::Failed => {}
                        Ok(Event::Stage(stage)) => render.stage(&stage),
                        Ok(Event::Worker(worker)) => render.worker(&worker),
                        Ok(Event::Done { outcome }) => end = Some(End::Done(outcome)),
                        Ok(Event::Error(error)) => end = Some(End::Failed(error)),
                        // Not an event, or one of a newer runner.
                        Err(_) => {
                            keep(&mut last_lines, &line);
                            if options.verbose { render.log(&line) }
                        }
                    }
                }
                Ok(None) | Err(_) => stdout_open = false,
            },
            line = stderr.next_line(), if stderr_open => match line {
                Ok(Some(line)) => {
                    keep(&mut last_lines, &line);
                    if options.verbose { render.log(&line) }
                }
                Ok(None) | Err(_) => stderr_open = false,
            },
            exited = child.wait(), if status.is_none() => {
                status = Some(exited.map_err(|e| Failure::io("cannot wait for the coordinator", e))?);
                // A worker that is still running may hold the pipe open: do not wait long for it.
                kill_at = Some(Instant::now() + Duration::from_millis(500));
            }
            _ = tokio::time::sleep_until(kill_at.unwrap_or(never)), if kill_at.is_some() => {
                if status.is_some() { break }
                if let Some(leader) = group.leader { process::kill_group(leader) }
                group.patience = Duration::ZERO;
                kill_at = None;
            }
            _ = tokio::time::sleep_until(deadline.unwrap_or(never)), if deadline.is_some() && !overdue => {
                overdue = true;
                ask_to_end(&child, &mut stdin);
                kill_at = Some(Instant::now() + GRACE);
            }
            _ = async { tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} } }, if status.is_none() => {
                if cancelled {
                    render.log("killed");
                    kill_at = Some(Instant::now());
                } else {
                    cancelled = true;
                    render.log("stopping; once more to kill");
                    ask_to_end(&child, &mut stdin);
                    kill_at = Some(Instant::now() + GRACE);
                }
            }
        }
    }
    render.finish();
    drop(group);
    drop(dir);
    Ok(match end {
        // The query had succeeded before the signal reached it.
        Some(End::Done(outcome)) => End::Done(outcome),
        _ if cancelled => {
            End::Failed(error(Category::Cancelled, "Cancelled", "the query was cancelled; nothing was written"))
        }
        Some(failed @ End::Failed(_)) => failed,
        None if overdue => End::Failed(error(Category::Deadline, "Deadline", "the query did not end by its deadline")),
        None => End::Failed(died(status, &last_lines)),
    })
}

fn keep(lines: &mut std::collections::VecDeque<String>, line: &str) {
    if lines.len() == KEPT_LINES {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}

fn ask_to_end(child: &Child, stdin: &mut Option<tokio::process::ChildStdin>) {
    drop(stdin.take());
    process::ask_to_end(child);
}

fn error(category: Category, class: &str, message: impl Into<String>) -> RunError {
    RunError { category, class: class.to_owned(), message: message.into() }
}

fn died(status: Option<std::process::ExitStatus>, last_lines: &std::collections::VecDeque<String>) -> RunError {
    let how = status.map_or_else(|| "without a status".to_owned(), |s| s.to_string());
    let mut message = format!("the coordinator ended ({how}) without an outcome; nothing was committed");
    for line in last_lines {
        message.push_str("\n  ");
        message.push_str(line);
    }
    error(Category::Internal, "CoordinatorLost", message)
}

fn write_job(prepared: &Prepared, path: &Path) -> Result<(), Failure> {
    let failed = |e| Failure::io(format!("cannot write {}", path.display()), e);
    let text =
        serde_json::to_vec(&prepared.job).map_err(|e| Failure::Internal(format!("the job cannot be written: {e}")))?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(&text).map_err(failed)
}

fn start(prepared: &Prepared, options: &Options<'_>, scratch: &Path, job_file: &Path) -> Result<Child, Failure> {
    let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let mut command = Command::new(options.runner);
    command
        .arg("coordinator")
        .arg("--job")
        .arg(job_file)
        .arg("--local-workers")
        .arg(prepared.workers.to_string())
        .arg("--events")
        .arg("stdout")
        .arg("--scratch")
        .arg(scratch)
        .envs(prepared.env.iter().map(|(name, value)| (name.as_str(), value.reveal())))
        .env("FLOE_TOKEN", token)
        // The pipe stays open as long as this process lives: its end tells the coordinator that nobody waits any more.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own process group: Ctrl-C must not reach it directly, and all its processes can be killed.
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().map_err(|e| Failure::io(format!("cannot start {}", options.runner.display()), e))
}
