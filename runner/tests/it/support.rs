//! Data, jobs and processes for the tests.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::execution::Mode;
use floe_api::job::Job;
use floe_api::{DistributedQuerySpec, DslSource, PlanSource};
use floe_runner::coordinator::{Engine, Options, Outcome, Provider};
use floe_wire::error::QueryError;
use polars::prelude::*;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub const RUNNER: &str = env!("CARGO_BIN_EXE_floe-runner");

/// Parquet files with columns k (0..keys), v, s; returns the glob.
pub fn parquet(dir: &Path, files: usize, rows: usize, keys: i64) -> String {
    std::fs::create_dir_all(dir).unwrap();
    for file in 0..files {
        let from = (file * rows) as i64;
        let v: Vec<i64> = (from..from + rows as i64).collect();
        let k: Vec<i64> = v.iter().map(|v| (v * 7919) % keys).collect();
        let s: Vec<String> = v.iter().map(|v| format!("text {}", v % 1000)).collect();
        let mut frame = df!("k" => k, "v" => v, "s" => s).unwrap();
        let out = std::fs::File::create(dir.join(format!("{file}.parquet"))).unwrap();
        ParquetWriter::new(out).with_row_group_size(Some(rows / 4)).finish(&mut frame).unwrap();
    }
    format!("{}/*.parquet", dir.display())
}

pub fn scan(glob: &str) -> LazyFrame {
    LazyFrame::scan_parquet(PlRefPath::new(glob), ScanArgsParquet::default()).unwrap()
}

/// Group-by, join, sort: three exchanges.
pub fn staged(input: LazyFrame) -> LazyFrame {
    let sums = input.clone().group_by([col("k")]).agg([col("v").sum().alias("sum"), len().alias("n")]);
    let most = input.group_by([col("k")]).agg([col("v").max().alias("most")]);
    sums.join(most, [col("k")], [col("k")], JoinArgs::new(JoinType::Inner)).sort(["k"], SortMultipleOptions::default())
}

/// Runs for many seconds on one core.
pub fn endless() -> LazyFrame {
    let side = |name: &str| df!(name => (0..300_000i64).collect::<Vec<_>>()).unwrap().lazy();
    side("a").cross_join(side("b"), None).filter((col("a") * col("b") % lit(7919)).eq(lit(-1))).select([len()])
}

pub fn small() -> LazyFrame {
    let n = 200i64;
    df!("k" => (0..n).map(|i| i % 17).collect::<Vec<_>>(), "v" => (0..n).collect::<Vec<_>>()).unwrap().lazy()
}

pub fn job(id: &str, plan: &LazyFrame, mode: Mode) -> Job {
    let bytes = floe_codec::encode_dsl(&plan.logical_plan).unwrap();
    let dsl = DslSource { inline: Some(STANDARD.encode(bytes)), ..DslSource::default() };
    let mut spec =
        DistributedQuerySpec { plan: PlanSource { dsl: Some(dsl), ..PlanSource::default() }, ..Default::default() };
    spec.execution.mode = mode;
    Job::new(id, id, spec)
}

pub fn options(workers: usize, scratch: &Path) -> Options {
    let mut options = Options::local(workers);
    options.scratch = scratch.to_path_buf();
    if let Provider::Local(local) = &mut options.provider {
        local.binary = PathBuf::from(RUNNER);
    }
    options
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub async fn run(engine: &Engine, job: Job) -> Result<Outcome, QueryError> {
    let (events, _) = broadcast::channel(16);
    let limit = Duration::from_secs(120);
    tokio::time::timeout(limit, engine.run(job, events, CancellationToken::new())).await.expect("it ends in time")
}

pub async fn frame(outcome: &Outcome) -> DataFrame {
    let handle = outcome.result.clone().expect("a result");
    tokio::task::spawn_blocking(move || handle.read()).await.unwrap().unwrap()
}

pub async fn stop(engine: Arc<Engine>) {
    tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
}

/// A coordinator process and the events it writes.
pub struct Coordinator {
    pub child: Child,
    pub events: Receiver<serde_json::Value>,
    pub scratch: PathBuf,
    stdin: Option<ChildStdin>,
}

impl Coordinator {
    pub fn start(dir: &Path, job: &Job, workers: usize, env: &[(&str, String)]) -> Coordinator {
        let scratch = dir.join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        let file = dir.join("job.json");
        std::fs::write(&file, serde_json::to_vec(job).unwrap()).unwrap();
        let mut child = Command::new(RUNNER)
            .args(["coordinator", "--events", "stdout", "--local-workers", &workers.to_string()])
            .arg("--job")
            .arg(&file)
            .arg("--scratch")
            .arg(&scratch)
            .env("FLOE_TOKEN", "engine-token")
            .envs(env.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, events) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let stdin = child.stdin.take();
        Coordinator { child, events, scratch, stdin }
    }

    /// Waits for a matching event.
    pub fn wait_for(&self, fits: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("the event comes");
            if fits(&event) {
                return event;
            }
        }
    }

    pub fn wait_running(&self) {
        self.wait_for(|event| event["type"] == "stage" && event["state"] == "running");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: i32) {
        kill(self.child.id() as i32, signal);
    }

    pub fn wait(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the coordinator does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn kill(pid: i32, signal: i32) {
    assert!(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap().success());
}

/// Processes whose command line names this path.
pub fn processes_of(path: &Path) -> Vec<i32> {
    let wanted = path.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(wanted) && *pid != std::process::id() as i32
    })
    .collect()
}

pub fn memory_dirs_of(pid: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("floe-engine-") && name.contains(&format!("-{pid}-"))
    };
    entries.map(|entry| entry.path()).filter(fits).collect()
}

pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Waits until nothing is left; on timeout, the message shows what is.
pub fn eventually<T: std::fmt::Debug>(what: &str, limit: Duration, left: impl Fn() -> Vec<T>) {
    let until = Instant::now() + limit;
    loop {
        let now = left();
        if now.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{what}: {now:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A Python with Polars: `FLOE_PYTHON`, or the environment that `tests/setup` creates.
pub fn python() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("FLOE_PYTHON") {
        return Some(python.into());
    }
    let cache = std::env::var_os("FLOE_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/floe")));
    let python = cache.map(|cache| cache.join("venv/bin/python")).filter(|python| python.exists());
    if python.is_none() {
        left_out("no Python with Polars (FLOE_PYTHON, or tests/setup): scripts and functions are not tested");
    }
    python
}

/// Says why a test does nothing; where all tests must run, that is a failure.
pub fn left_out(why: &str) {
    assert!(std::env::var_os("FLOE_TEST_ALL").is_none_or(|all| all != "1"), "{why}");
    eprintln!("{why}");
}
