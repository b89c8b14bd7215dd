//! The coordinator as a process: `coordinator` runs one job and reports on it on stdout, `serve` keeps a warm engine
//! for clients, `explain` shows a plan, `files` the files of a table. Signals and a closed stdin cancel.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use floe_api::job::Job;
use floe_api::report::Event;
use floe_plan::StorageOptions;
use floe_scheduler::cluster::Limits;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{local, telemetry};
use floe_wire::check::rejection;
use floe_wire::error::{Category, QueryError, Result};

use super::args::{CleanArgs, CoordinatorArgs, EventsTo, ExplainArgs, FilesArgs, ServeArgs};
use super::ends::{stdin_is_pipe, watch_parent, watch_signals, watch_stdin};
use super::explain::render;
use super::fair::Fair;
use super::message::leave_message;
use super::summary::summary;
use super::{Context, EVENT_BACKLOG, Engine, Options, Outcome, Provider, Remember, ResultHandle, events, prepare};

/// Rows to show of a result without a sink.
const TABLE_ROWS: u64 = 1000;

/// Runs a coordinator to its end on a runtime.
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
            // Do not wait for a plan script or a planning thread that still runs.
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
        None => Provider::External {
            workers: compute.workers_to_start() as usize,
            most: compute.worker_count() as usize,
            threads,
        },
    };
    let mut options = Options::local(1);
    options.provider = provider;
    if !token.is_empty() {
        options.token = token;
    }
    options.listen = args.listen;
    options.http = args.http;
    options.remember.here_bytes = args.result_here_bytes;
    options.result_disk = (args.result_disk_bytes > 0).then(|| (std::env::temp_dir(), args.result_disk_bytes));
    if let Some(scratch) = &args.scratch {
        options.scratch.clone_from(scratch);
    }
    if let Some(seconds) = job.spec.starting_deadline_seconds {
        options.ready_within = Duration::from_secs(u64::from(seconds));
    }
    let engine = Engine::start(options).await?;
    let (events, mut listener) = broadcast::channel(EVENT_BACKLOG);
    let printer = tokio::spawn(async move {
        loop {
            match listener.recv().await {
                // The caller reports the end, with the table.
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

/// Prints an event for programs: one JSON object per line, in one write.
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

pub fn explain(args: ExplainArgs) -> ExitCode {
    let explained = read_job(&args.job).and_then(|job| {
        let compute = &job.spec.compute;
        let context = Context {
            base: Options::local(1).base,
            workers: compute.worker_count(),
            threads: compute.cpus.threads().unwrap_or(1) as u32,
        };
        prepare(&job, &context, job.spec.execution.mode)
    });
    match explained {
        Ok(prepared) => {
            let _ = std::io::stdout().lock().write_all(render(&prepared.graph, args.format).as_bytes());
            // The printed graph shows the findings.
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

/// Prints the data files of a table of a job as JSON.
pub fn files(args: FilesArgs) -> ExitCode {
    let listed = read_job(&args.job).and_then(|job| {
        let table = job.spec.tables.get(&args.table).ok_or_else(|| {
            QueryError::user("BadSpec", format!("spec.tables: the job has no table '{}'", args.table))
        })?;
        let base = job.base.clone().unwrap_or_else(|| Options::local(1).base);
        let (snapshot, _) = floe_plan::lake::snapshot(table, &StorageOptions::of_job(&job), &base)?;
        serde_json::to_string(&floe_lake::listing::files(&snapshot))
            .map_err(|error| QueryError::internal(format!("the list of files: {error}")))
    });
    match listed {
        Ok(text) => {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {}", error.class, error.message);
            ExitCode::from(error.category.exit_code())
        }
    }
}

/// Runs a warm engine: prints its address and readiness on stdout, takes jobs over HTTP, until a signal or the end of
/// stdin.
pub fn serve(args: ServeArgs, token: String) -> ExitCode {
    with_runtime(async move {
        match serve_until_stopped(args, token).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {}", error.class, error.message);
                ExitCode::from(error.category.exit_code())
            }
        }
    })
}

async fn serve_until_stopped(args: ServeArgs, token: String) -> Result<()> {
    let stop = CancellationToken::new();
    watch_signals(stop.clone())?;
    if args.stdin_watch || stdin_is_pipe() {
        watch_stdin(stop.clone());
    }
    if let Some(parent) = args.parent {
        watch_parent(parent, stop.clone());
    }
    if token.is_empty() {
        return Err(QueryError::user("BadSpec", "FLOE_TOKEN is not set: clients need a token to show"));
    }
    let mut options = Options::local(args.local_workers.max(1));
    options.provider = match args.joining_workers {
        Some(most) => Provider::Joining { most, threads: args.threads.max(1) },
        None => Provider::Local(local::Options {
            threads: args.threads.max(1),
            memory_limit_bytes: args.memory_limit_bytes,
            ..local::Options::new(args.local_workers.max(1))
        }),
    };
    options.listen = args.listen;
    options.result_disk = (args.result_disk_bytes > 0).then(|| (std::env::temp_dir(), args.result_disk_bytes));
    options.plans_at_once = args.plans_at_once;
    options.fair = args.fair_by.map(|label| Fair { label, weights: args.fair_weight.into_iter().collect() });
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
        "version": env!("CARGO_PKG_VERSION"),
        "scratch": engine.scratch(),
        "http": engine.http_address().map(|address| format!("http://{address}")),
        "control": engine.control_address().to_string(),
        "workers": workers,
    });
    println!("{ready}");
    stop.cancelled().await;
    let _ = tokio::task::spawn_blocking(move || engine.stop()).await;
    Ok(())
}

/// Removes what a query left behind if its coordinator is gone.
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
