//! The arguments of a worker process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use floe_plan::functions;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of the coordinator's control port, `host:port`; left out, a client with the token sends it later, by
    /// `POST /coordinator` at the port that serves shuffle files.
    #[arg(long, env = "FLOE_COORDINATOR")]
    pub coordinator: Option<String>,
    /// Name of this worker process; must differ from those of all other workers, former ones included.
    #[arg(long, env = "FLOE_WORKER_ID")]
    pub id: Option<String>,
    /// Slots: tasks that run at once.
    #[arg(long, default_value_t = 1)]
    pub slots: u32,
    /// Directory for shuffle and spill files; this worker creates its own in it.
    #[arg(long, env = "FLOE_SCRATCH")]
    pub scratch: Option<PathBuf>,
    /// Memory-backed directory, used for shuffle files first.
    #[arg(long, env = "FLOE_MEMORY_DIR")]
    pub memory_dir: Option<PathBuf>,
    /// Memory this worker may use, in bytes.
    #[arg(long, env = "FLOE_MEMORY_LIMIT")]
    pub memory_limit_bytes: Option<u64>,
    /// Part of the memory that shuffle files may take, in bytes.
    #[arg(long, env = "FLOE_SHUFFLE_MEMORY", default_value_t = 256 << 20)]
    pub shuffle_memory_bytes: u64,
    /// Disk that shuffle files may take, in bytes.
    #[arg(long, env = "FLOE_SHUFFLE_DISK", default_value_t = u64::MAX)]
    pub shuffle_disk_bytes: u64,
    /// Address at which shuffle files are served.
    #[arg(long, env = "FLOE_WORKER_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Host name under which other workers reach this one (default: the listening address).
    #[arg(long, env = "FLOE_WORKER_HOST")]
    pub host: Option<String>,
    /// Threads for computing.
    #[arg(long, env = "POLARS_MAX_THREADS", default_value_t = 1)]
    pub threads: usize,
    /// Directories shared with sibling workers, removed when the coordinator is gone.
    #[arg(long)]
    pub sweep: Vec<PathBuf>,
    /// How long a cancelled task may go on before it is detached, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub cancel_grace_ms: u64,
    /// How long outputs are served after a request to leave, in milliseconds.
    #[arg(long, default_value_t = 25_000)]
    pub drain_ms: u64,
    /// Inputs of a task from this size on, in bytes, are read while the task runs; smaller ones before it starts.
    #[arg(long, env = "FLOE_STREAM_FROM", default_value_t = 8 << 20)]
    pub stream_from_bytes: u64,
}

/// Largest batch; larger ones are no faster.
const BATCH_BYTES: usize = 32 << 20;
/// With this much memory, Polars' default read-ahead of scans does no harm.
const DEFAULT_SCANS_FROM_BYTES: u64 = 4 << 30;
/// Longest sorted run; longer ones make no fewer chunks.
const RUN_BYTES: usize = 128 << 20;
/// Largest read-ahead; more gains nothing.
const READ_AHEAD_BYTES: u64 = 64 << 20;
/// With this much memory, keep a spare Python process, which takes some 100 MiB.
const FUNCTION_SPARE_FROM_BYTES: u64 = 2 << 30;
/// Least memory of a Python process for functions.
const FUNCTION_LEAST_BYTES: u64 = 128 << 20;
/// The stack of Polars' threads: deep expressions recurse.
const THREAD_STACK_BYTES: u64 = 32 << 20;

impl Args {
    /// The environment variables that configure Polars.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("RUST_MIN_STACK", THREAD_STACK_BYTES.to_string())];
        let scratch = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let own = self.id.as_ref().map_or_else(|| scratch.clone(), |id| scratch.join(id));
        all.push(("POLARS_OOC_SPILL_DIR", own.join("spill").display().to_string()));
        if let Some(limit) = self.memory_limit_bytes {
            // The engine spills before the limit is near; the rest is for what it cannot spill.
            all.push(("POLARS_OOC_MEMORY_BUDGET_MB", ((limit >> 20) * 6 / 10).max(16).to_string()));
            // Size and number of the batches that a sink encodes at once: wide rows come in smaller batches.
            let at_once = self.threads as u64 + 1;
            let batch_bytes = (limit / 8 / at_once).clamp(4 << 20, 128 << 20);
            all.push(("POLARS_INFLIGHT_SINK_MORSEL_LIMIT", at_once.to_string()));
            all.push(("POLARS_IDEAL_SINK_MORSEL_SIZE_BYTES", batch_bytes.to_string()));
            // Each open file holds a part of an upload.
            all.push(("POLARS_MAX_OPEN_SINKS", (limit / (32 << 20)).clamp(8, 128).to_string()));
        }
        if let Some(limit) = self.memory_limit_bytes.filter(|limit| *limit < DEFAULT_SCANS_FROM_BYTES) {
            // Polars limits row groups read ahead by their number and their size in the file; in memory they are
            // larger.
            all.push(("POLARS_ROW_GROUP_PREFETCH_SIZE", (limit >> 29).max(1).to_string()));
            all.push(("POLARS_ROW_GROUP_PREFETCH_KBYTES_BUDGET", (limit >> 15).max(1 << 10).to_string()));
            // Batches buffered between two nodes: with wide rows, the default of four takes a worker's memory.
            all.push(("POLARS_DEFAULT_LINEARIZER_BUFFER_SIZE", "1".to_string()));
            all.push(("POLARS_DEFAULT_DISTRIBUTOR_BUFFER_SIZE", "1".to_string()));
        }
        if self.shuffle_disk_bytes < u64::MAX {
            all.push(("POLARS_OOC_DISK_BUDGET_MB", (self.shuffle_disk_bytes >> 20).to_string()));
        }
        all
    }

    /// Settings for Python functions: as many children as threads, sharing half of the memory.
    pub fn functions(&self) -> functions::Settings {
        let own = functions::Settings::of_environment();
        let children = self.threads.max(1) * self.slots.max(1) as usize;
        let share = self.memory_limit_bytes.map(|limit| (limit / 2 / children as u64).max(FUNCTION_LEAST_BYTES));
        let spare = self.memory_limit_bytes.is_none_or(|limit| limit >= FUNCTION_SPARE_FROM_BYTES);
        functions::Settings { children, memory_bytes: share.unwrap_or(own.memory_bytes), spare, ..own }
    }

    /// Bytes per batch that a task writes: rows are copied twice on the way out, by partition and by encoding.
    pub fn batch_bytes(&self) -> usize {
        self.memory_limit_bytes.map_or(BATCH_BYTES, |limit| (limit / 64).clamp(1 << 20, BATCH_BYTES as u64) as usize)
    }

    /// Bytes to sort at once: sorted rows exist twice, and a third time while they are written.
    pub fn run_bytes(&self) -> usize {
        self.memory_limit_bytes.map_or(RUN_BYTES, |limit| (limit / 16).clamp(1 << 20, RUN_BYTES as u64) as usize)
    }

    /// The read-ahead budget: bytes of other tasks' outputs that are read before the engine requests them.
    pub fn read_ahead_bytes(&self) -> u64 {
        self.memory_limit_bytes.map_or(READ_AHEAD_BYTES, |limit| (limit / 32).clamp(4 << 20, READ_AHEAD_BYTES))
    }

    pub fn cancel_grace(&self) -> Duration {
        Duration::from_millis(self.cancel_grace_ms)
    }
}
