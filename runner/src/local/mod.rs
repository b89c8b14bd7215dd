//! Workers as child processes on this machine: starts, watches and replaces them, and ends them with their coordinator.
//! Knows nothing of queries; the workers themselves are the same as anywhere else.

mod scratch;

use std::collections::HashMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use floe_api::execution::default_shuffle_memory_bytes;
use floe_api::report::WORKER_RESTART;
use floe_wire::error::{QueryError, Result};

pub use scratch::Scratch;

/// A pool stops replacing workers after this many replacements within `RESTART_WINDOW`.
const MAX_RESTARTS: usize = 30;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Options {
    pub workers: usize,
    /// Threads each worker computes with.
    pub threads: usize,
    pub memory_limit_bytes: Option<u64>,
    /// Part of the memory for shuffle files (default: by the limit).
    pub shuffle_memory_bytes: Option<u64>,
    pub disk_limit_bytes: Option<u64>,
    /// The `floe-runner` binary.
    pub binary: PathBuf,
    /// Additional environment variables of the workers.
    pub env: Vec<(String, String)>,
}

impl Options {
    pub fn new(workers: usize) -> Options {
        Options {
            workers,
            threads: 1,
            memory_limit_bytes: None,
            shuffle_memory_bytes: None,
            disk_limit_bytes: None,
            binary: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("floe-runner")),
            env: Vec::new(),
        }
    }
}

/// A running set of worker processes. Dropping it kills them and removes their files.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    coordinator: String,
    token: String,
    scratch: Scratch,
    stopping: AtomicBool,
    state: Mutex<State>,
    /// The thread that starts processes. It must stay alive: children get their death signal when the *thread* that
    /// started them ends.
    spawner: Mutex<Sender<usize>>,
    /// Called with the worker's name when its process has ended.
    ended: Box<dyn Fn(&str) + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// Process ids by worker name. An entry is removed before its process id can be reused.
    alive: HashMap<String, i32>,
    generation: usize,
    restarts: Vec<Instant>,
}

impl Pool {
    /// Starts the processes without waiting until they connect. `ended` is called when one has ended.
    pub fn start(
        options: Options,
        coordinator: String,
        token: String,
        scratch: Scratch,
        ended: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Pool> {
        let (sender, orders) = channel();
        let shared = Arc::new(Shared {
            options,
            coordinator,
            token,
            scratch,
            stopping: AtomicBool::new(false),
            state: Mutex::default(),
            spawner: Mutex::new(sender.clone()),
            ended: Box::new(ended),
        });
        let (first, started) = channel();
        let spawner = shared.clone();
        std::thread::Builder::new()
            .name("floe-spawn".into())
            .spawn(move || spawn_all(&spawner, &orders, &first))
            .map_err(|error| QueryError::internal(format!("cannot start a thread: {error}")))?;
        for slot in 0..shared.options.workers {
            let _ = sender.send(slot);
        }
        let pool = Pool { shared };
        for _ in 0..pool.shared.options.workers {
            let silent = || QueryError::internal("no worker process was started within 30 s");
            started.recv_timeout(Duration::from_secs(30)).map_err(|_| silent())??;
        }
        Ok(pool)
    }

    /// Process ids by worker name.
    pub fn processes(&self) -> HashMap<String, i32> {
        self.shared.state().alive.clone()
    }

    /// Directory of the workers' files, removed with the pool.
    pub fn scratch(&self) -> &Path {
        &self.shared.scratch.dir
    }

    /// Ends all workers: asks them to stop, waits up to `grace`, kills them, then removes their files. Blocks.
    pub fn stop(&self, grace: Duration) {
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        if !grace.is_zero() {
            self.shared.signal_all(libc::SIGTERM);
            self.shared.wait_empty(grace);
        }
        self.shared.signal_all(libc::SIGKILL);
        self.shared.wait_empty(Duration::from_secs(5));
        self.shared.scratch.remove();
        // An impossible slot ends the spawner.
        let _ = self.shared.spawner.lock().unwrap_or_else(PoisonError::into_inner).send(usize::MAX);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// Starts a process for every slot it receives, until the pool stops.
fn spawn_all(shared: &Arc<Shared>, orders: &Receiver<usize>, first: &Sender<Result<()>>) {
    while let Ok(slot) = orders.recv() {
        if slot == usize::MAX {
            return;
        }
        let started = spawn(shared, slot);
        if let Err(error) = &started {
            tracing::error!("{error}");
        }
        // Only `start` reads these; later there is no receiver.
        let _ = first.send(started);
    }
}

fn spawn(shared: &Arc<Shared>, slot: usize) -> Result<()> {
    let name = {
        let mut state = shared.state();
        state.generation += 1;
        format!("w{slot}-{}", state.generation)
    };
    let mut command = shared.command(&name);
    // Under the lock, so that `stop` either sees the process or prevents it.
    let mut state = shared.state();
    if shared.stopping.load(Ordering::Acquire) {
        return Ok(());
    }
    let child = command
        .spawn()
        .map_err(|error| QueryError::io(format!("cannot start {}: {error}", shared.options.binary.display())))?;
    state.alive.insert(name.clone(), child.id() as i32);
    drop(state);
    let watched = shared.clone();
    std::thread::Builder::new()
        .name("floe-watch".into())
        .spawn(move || watched.watch(&name, slot, child))
        .map(drop)
        .map_err(|error| QueryError::internal(format!("cannot watch a worker: {error}")))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, name: &str) -> Command {
        let options = &self.options;
        let mut command = Command::new(&options.binary);
        command
            .args(["worker", "--coordinator", &self.coordinator, "--id", name])
            .arg("--scratch")
            .arg(&self.scratch.dir)
            .arg("--sweep")
            .arg(&self.scratch.dir)
            .env("FLOE_TOKEN", &self.token)
            .env("POLARS_MAX_THREADS", options.threads.to_string())
            .envs(options.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Its own group, so that Ctrl-C reaches only the coordinator, which then stops the workers.
            .process_group(0);
        if let Some(dir) = &self.scratch.memory_dir {
            command.arg("--memory-dir").arg(dir).arg("--sweep").arg(dir);
        }
        if let Some(limit) = options.memory_limit_bytes {
            command.arg("--memory-limit-bytes").arg(limit.to_string());
        }
        let shuffle = options.shuffle_memory_bytes.or(options.memory_limit_bytes.map(default_shuffle_memory_bytes));
        command.arg("--shuffle-memory-bytes").arg(shuffle.unwrap_or(1 << 30).to_string());
        if let Some(limit) = options.disk_limit_bytes {
            command.arg("--shuffle-disk-bytes").arg(limit.to_string());
        }
        die_with_parent(&mut command);
        command
    }

    fn watch(self: Arc<Self>, name: &str, slot: usize, mut child: Child) {
        wait_unreaped(child.id());
        self.state().alive.remove(name);
        let status = child.wait();
        let how = match &status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            },
            Err(error) => error.to_string(),
        };
        self.scratch.remove_worker(name);
        (self.ended)(name);
        if self.stopping.load(Ordering::Acquire) {
            return;
        }
        let planned = status.as_ref().is_ok_and(|status| status.code() == Some(i32::from(WORKER_RESTART)));
        tracing::warn!(worker = name, planned, "worker process ended ({how}); another takes its place");
        let mut state = self.state();
        state.restarts.retain(|at| at.elapsed() < RESTART_WINDOW);
        if state.restarts.len() >= MAX_RESTARTS {
            tracing::error!("{MAX_RESTARTS} workers ended within {RESTART_WINDOW:?}: no more are started");
            return;
        }
        state.restarts.push(Instant::now());
        drop(state);
        let _ = self.spawner.lock().unwrap_or_else(PoisonError::into_inner).send(slot);
    }

    #[allow(unsafe_code)]
    fn signal_all(&self, signal: i32) {
        for pid in self.state().alive.values() {
            // SAFETY: plain system call. The process is our child and not reaped while it is in the map, so its id, and
            // that of its process group, cannot have been reused.
            unsafe {
                libc::kill(-*pid, signal);
            }
        }
    }

    fn wait_empty(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.state().alive.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Sends the child SIGHUP when the thread that started it ends.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only one async-signal-safe system call is made.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGHUP) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}

/// Waits for the end of a child without reaping it, so that its process id is not reused yet.
#[allow(unsafe_code)]
fn wait_unreaped(pid: u32) {
    // SAFETY: an all-zero siginfo_t is a valid place for waitid to write to, and the pointer lives through the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        while libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT) != 0 {
            if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return;
            }
        }
    }
}
