//! The coordinator as a process: `coordinator` runs one job and tells of it on stdout, `serve` keeps a warm engine for
//! clients, `explain` shows a plan. Signals and a closed stdin cancel.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use floe_api::job::Job;
use floe_api::report::Event;
use floe_scheduler::cluster::Limits;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{local, telemetry};
use floe_wire::check::rejection;
use floe_wire::error::{Category, QueryError, Result};

use super::explain::{Format, render};
use super::run::summary;
use super::{Context, EVENTS, Engine, Options, Outcome, Provider, Remember, ResultHandle, events, prepare};

/// Rows of a result without a sink that are shown.
const TABLE_ROWS: u64 = 1000;
/// Kubernetes keeps so much of a termination message.
const TERMINATION_BYTES: usize = 4096;

#[derive(Clone, Debug, clap::Args)]
pub struct CoordinatorArgs {
    /// The job, a JSON file that only this user can read.
    #[arg(long, env = "FLOE_JOB")]
    pub job: PathBuf,
    /// Start so many workers on this machine; without it, workers connect by themselves.
    #[arg(long)]
    pub local_workers: Option<usize>,
    /// Directory for scratch files of local workers.
    #[arg(long)]
    pub scratch: Option<PathBuf>,
    /// Where progress goes.
    #[arg(long, value_enum, default_value_t = EventsTo::None)]
    pub events: EventsTo,
    /// Where workers connect.
    #[arg(long, env = "FLOE_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where status, progress and results are served.
    #[arg(long, env = "FLOE_HTTP")]
    pub http: Option<SocketAddr>,
    /// Stay after the end of a query that has a result to read, until told to end.
    #[arg(long, env = "FLOE_STAY")]
    pub stay: bool,
    /// After the end, answer for so long, or until a client has seen the end and deletes the query.
    #[arg(long, env = "FLOE_LINGER_SECONDS", default_value_t = 0)]
    pub linger_seconds: u64,
    /// Cancel when stdin is closed (done by itself when stdin is a pipe).
    #[arg(long)]
    pub stdin_watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EventsTo {
    Stdout,
    None,
}

#[derive(Clone, Debug, clap::Args)]
pub struct CleanArgs {
    /// The job whose leftovers go.
    #[arg(long, env = "FLOE_JOB")]
    pub job: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    #[arg(long, default_value_t = 2)]
    pub local_workers: usize,
    /// Threads of each worker.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Memory of each worker in bytes.
    #[arg(long)]
    pub memory_limit_bytes: Option<u64>,
    #[arg(long)]
    pub scratch: Option<PathBuf>,
    #[arg(long, default_value = "127.0.0.1:0")]
    pub http: SocketAddr,
    /// Finished queries that are remembered.
    #[arg(long, env = "FLOE_REMEMBER_QUERIES", default_value_t = Remember::default().queries)]
    pub remember_queries: usize,
    /// Bytes of all results that are remembered; the oldest are dropped first.
    #[arg(long, env = "FLOE_RESULTS_BYTES", default_value_t = Remember::default().result_bytes)]
    pub results_bytes: u64,
    /// Bytes of a result up to which the engine keeps it itself; a larger one stays with its workers.
    #[arg(long, env = "FLOE_RESULT_HERE_BYTES", default_value_t = Remember::default().here_bytes)]
    pub result_here_bytes: u64,
    /// Queries that run at once and share the workers.
    #[arg(long, default_value_t = Limits::default().max_running, value_parser = at_least_one)]
    pub max_running: usize,
    /// Queries that wait for others to end; more are refused (429).
    #[arg(long, default_value_t = Limits::default().max_waiting)]
    pub max_waiting: usize,
    /// Bytes of the jobs that wait; more are refused.
    #[arg(long, default_value_t = Limits::default().max_waiting_bytes)]
    pub max_waiting_bytes: u64,
    #[arg(long)]
    pub stdin_watch: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_string()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    #[arg(long)]
    pub job: PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// The runtime of a coordinator; `run` is its life.
fn with_runtime(run: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("floe-coordinator")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(async {
                let guard = telemetry::init("coordinator", &format!("coordinator-{}", std::process::id()));
                let code = run.await;
                let _ = tokio::task::spawn_blocking(move || drop(guard)).await;
                code
            });
            // A plan script or a planning thread may still run; nobody waits for it.
            runtime.shutdown_timeout(Duration::from_millis(100));
            code
        }
        Err(error) => {
            eprintln!("floe: cannot start: {error}");
            ExitCode::from(Category::Internal.exit_code())
        }
    }
}

pub fn coordinator(args: CoordinatorArgs, token: String) -> ExitCode {
    with_runtime(async move {
        let stdout = args.events == EventsTo::Stdout;
        let result = run_job(&args, token, stdout).await;
        match result {
            Ok(event) => {
                emit(stdout, &event);
                leave_message(&event);
                ExitCode::SUCCESS
            }
            Err(error) => {
                let event = Event::Error(events::error(&error));
                emit(stdout, &event);
                leave_message(&event);
                if !stdout {
                    eprintln!("{}: {}", error.class, error.message);
                }
                ExitCode::from(error.category.exit_code())
            }
        }
    })
}

async fn run_job(args: &CoordinatorArgs, token: String, stdout: bool) -> Result<Event> {
    let cancel = CancellationToken::new();
    watch_signals(cancel.clone())?;
    if args.stdin_watch || stdin_is_pipe() {
        watch_stdin(cancel.clone());
    }
    let job = read_job(&args.job)?;
    let compute = &job.spec.compute;
    let threads = compute.cpus.threads().unwrap_or(1);
    let provider = match args.local_workers {
        Some(workers) => Provider::Local(local::Options {
            threads,
            memory_limit_bytes: compute.memory.bytes(),
            shuffle_memory_bytes: job.spec.execution.shuffle.memory.as_ref().and_then(|memory| memory.bytes()),
            ..local::Options::new(workers.max(1))
        }),
        None => Provider::External { workers: compute.workers_to_start() as usize, threads },
    };
    let mut options = Options::local(1);
    options.provider = provider;
    if !token.is_empty() {
        options.token = token;
    }
    options.listen = args.listen;
    options.http = args.http;
    if let Some(scratch) = &args.scratch {
        options.scratch.clone_from(scratch);
    }
    if let Some(seconds) = job.spec.starting_deadline_seconds {
        options.ready_within = Duration::from_secs(u64::from(seconds));
    }
    let engine = Engine::start(options).await?;
    let (events, mut listener) = broadcast::channel(EVENTS);
    let printer = tokio::spawn(async move {
        loop {
            match listener.recv().await {
                // The end is told by the caller, with the table.
                Ok(Event::Done { .. } | Event::Error { .. }) | Err(broadcast::error::RecvError::Closed) => return,
                Ok(event) => emit(stdout, &event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
            }
        }
    });
    let result = engine.run(job, events, cancel.clone()).await;
    let _ = tokio::time::timeout(Duration::from_secs(1), printer).await;
    let has_result = result.as_ref().is_ok_and(|outcome| outcome.result.is_some());
    let result = match result {
        Ok(outcome) => done(&outcome).await,
        Err(error) => Err(error),
    };
    if args.stay && has_result {
        if let Ok(event) = &result {
            emit(stdout, event);
        }
        cancel.cancelled().await;
    } else if engine.http_address().is_some() {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(args.linger_seconds)) => {}
            () = engine.let_go() => {}
            () = cancel.cancelled() => {}
        }
    }
    let stopping = engine.clone();
    let _ = tokio::task::spawn_blocking(move || stopping.stop()).await;
    result
}

async fn done(outcome: &Outcome) -> Result<Event> {
    let mut summary = summary(outcome);
    if let Some(handle) = outcome.result.clone() {
        let rows = outcome.rows;
        let table = tokio::task::spawn_blocking(move || table(&handle, rows)).await;
        summary.table = Some(table.map_err(|error| QueryError::internal(error.to_string()))??);
    }
    Ok(Event::Done { outcome: Box::new(summary) })
}

fn table(handle: &ResultHandle, rows: u64) -> Result<String> {
    let frame = handle.read_first(TABLE_ROWS)?;
    if frame.height() as u64 == rows {
        return Ok(frame.to_string());
    }
    let head = frame.head(Some(10));
    Ok(format!("first 10 of {rows} rows\n{head}"))
}

/// Events are for programs: one JSON object a line, each written whole.
fn emit(stdout: bool, event: &Event) {
    if !stdout {
        return;
    }
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

/// For a cluster: the outcome where Kubernetes keeps it.
fn leave_message(event: &Event) {
    let Some(path) = std::env::var_os("FLOE_TERMINATION_LOG") else { return };
    let mut short = event.clone();
    if let Event::Done { outcome } = &mut short {
        outcome.table = None;
        outcome.single_worker.clear();
    }
    let mut text = serde_json::to_vec(&short).unwrap_or_default();
    if text.len() > TERMINATION_BYTES {
        // Kubernetes would cut it anywhere, and what is left would be no JSON.
        match &mut short {
            Event::Done { outcome } => {
                outcome.stages.clear();
                outcome.warnings.clear();
                if let Some(reason) = &mut outcome.fell_back {
                    shorten(reason);
                }
            }
            Event::Error(error) => shorten(&mut error.message),
            Event::Planned(_) | Event::Stage(_) | Event::Worker(_) => {}
        }
        text = serde_json::to_vec(&short).unwrap_or_default();
    }
    let _ = std::fs::write(path, text);
}

/// Cut so that its JSON, whatever has to be escaped in it, leaves room for the rest of a termination message.
fn shorten(text: &mut String) {
    let fits = |end: &usize| serde_json::to_string(&text[..*end]).is_ok_and(|json| json.len() <= TERMINATION_BYTES / 2);
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let end = ends.take_while(fits).last().unwrap_or(0);
    if end < text.len() {
        text.truncate(end);
        text.push('…');
    }
}

pub fn explain(args: ExplainArgs) -> ExitCode {
    let explained = read_job(&args.job).and_then(|job| {
        let compute = &job.spec.compute;
        let context = Context {
            base: Options::local(1).base,
            workers: compute.worker_count(),
            threads: compute.cpus.threads().unwrap_or(1) as u32,
        };
        prepare(&job, &context, job.spec.execution.mode, false)
    });
    match explained {
        Ok(prepared) => {
            let _ = std::io::stdout().lock().write_all(render(&prepared.graph, args.format).as_bytes());
            // The faults are in what was printed.
            match rejection(&floe_planner::check(&prepared.graph)) {
                None => ExitCode::SUCCESS,
                Some(rejected) => ExitCode::from(rejected.category.exit_code()),
            }
        }
        Err(error) => {
            eprintln!("{}: {}", error.class, error.message);
            ExitCode::from(error.category.exit_code())
        }
    }
}

/// A warm engine: its address and readiness on stdout, jobs over HTTP, until a signal or the end of stdin.
pub fn serve(args: ServeArgs, token: String) -> ExitCode {
    with_runtime(async move {
        match serve_until_told(args, token).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {}", error.class, error.message);
                ExitCode::from(error.category.exit_code())
            }
        }
    })
}

async fn serve_until_told(args: ServeArgs, token: String) -> Result<()> {
    let told = CancellationToken::new();
    watch_signals(told.clone())?;
    if args.stdin_watch || stdin_is_pipe() {
        watch_stdin(told.clone());
    }
    if token.is_empty() {
        return Err(QueryError::user("BadSpec", "FLOE_TOKEN is not set: clients need a token to show"));
    }
    let mut options = Options::local(args.local_workers.max(1));
    options.provider = Provider::Local(local::Options {
        threads: args.threads.max(1),
        memory_limit_bytes: args.memory_limit_bytes,
        ..local::Options::new(args.local_workers.max(1))
    });
    options.token = token;
    options.http = Some(args.http);
    options.remember = Remember {
        queries: args.remember_queries,
        result_bytes: args.results_bytes,
        here_bytes: args.result_here_bytes,
    };
    options.limits = Limits {
        max_running: args.max_running,
        max_waiting: args.max_waiting,
        max_waiting_bytes: args.max_waiting_bytes,
        ..Limits::default()
    };
    if let Some(scratch) = args.scratch {
        options.scratch = scratch;
    }
    let engine: Arc<Engine> = Engine::start(options).await?;
    let workers = engine.wait_ready().await;
    let ready = serde_json::json!({
        "type": "ready",
        "http": engine.http_address().map(|address| format!("http://{address}")),
        "control": engine.control_address().to_string(),
        "workers": workers,
    });
    println!("{ready}");
    told.cancelled().await;
    let _ = tokio::task::spawn_blocking(move || engine.stop()).await;
    Ok(())
}

/// Removes what a query left behind whose coordinator is gone.
pub fn clean(args: CleanArgs) -> ExitCode {
    let cleaned = read_job(&args.job).and_then(|job| {
        let context = Context { base: Options::local(1).base, workers: 1, threads: 1 };
        super::clean::clean(&job, &context)
    });
    match cleaned {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            leave_message(&Event::Error(events::error(&error)));
            eprintln!("{}: {}", error.class, error.message);
            ExitCode::from(error.category.exit_code())
        }
    }
}

fn read_job(path: &Path) -> Result<Job> {
    let text = std::fs::read(path)
        .map_err(|error| QueryError::user("BadSpec", format!("cannot read the job {}: {error}", path.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| QueryError::user("BadSpec", format!("the job {} is not valid: {error}", path.display())))
}

fn watch_signals(cancel: CancellationToken) -> Result<()> {
    let listen = |kind| signal(kind).map_err(|error| QueryError::internal(format!("no signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(())
}

/// Whoever started this process is gone when its end of the pipe is.
fn watch_stdin(cancel: CancellationToken) {
    tokio::spawn(async move {
        let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 256]);
        while let Ok(1..) = stdin.read(&mut buffer).await {}
        cancel.cancel();
    });
}

fn stdin_is_pipe() -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata("/dev/stdin").is_ok_and(|meta| meta.file_type().is_fifo())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_of_a_termination_message_are_cut_where_a_character_ends() {
        let mut long = "\"ä\n".repeat(4000);
        shorten(&mut long);
        assert!(long.ends_with('…'), "{long}");
        assert!(serde_json::to_string(&long).unwrap().len() <= TERMINATION_BYTES / 2 + '…'.len_utf8());
        let mut short = "it fits".to_string();
        shorten(&mut short);
        assert_eq!(short, "it fits");
    }
}
