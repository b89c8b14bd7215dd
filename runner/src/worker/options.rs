//! What a worker process is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of the coordinator's control port, `host:port`; left out, whoever knows the token tells it later, by
    /// `POST /coordinator` at the port where shuffle files are served.
    #[arg(long, env = "FLOE_COORDINATOR")]
    pub coordinator: Option<String>,
    /// Name of this worker process; must differ from every other and from former ones.
    #[arg(long, env = "FLOE_WORKER_ID")]
    pub id: Option<String>,
    /// Tasks run at once.
    #[arg(long, default_value_t = 1)]
    pub slots: u32,
    /// Directory for shuffle files and spills; this worker makes one of its own in it.
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
    /// Where shuffle files are served.
    #[arg(long, env = "FLOE_WORKER_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Host name under which other workers reach this one (default: the listening address).
    #[arg(long, env = "FLOE_WORKER_HOST")]
    pub host: Option<String>,
    /// Threads for computing.
    #[arg(long, env = "POLARS_MAX_THREADS", default_value_t = 1)]
    pub threads: usize,
    /// Directories shared with sibling workers that go when the coordinator dies.
    #[arg(long)]
    pub sweep: Vec<PathBuf>,
    /// How long a cancelled task may go on before it is given up.
    #[arg(long, default_value_t = 1000)]
    pub cancel_grace_ms: u64,
    /// How long outputs are still served after a request to leave.
    #[arg(long, default_value_t = 25_000)]
    pub drain_ms: u64,
    /// Inputs of tasks from this size on are read while the task works on them; smaller ones before it begins.
    #[arg(long, env = "FLOE_STREAM_FROM", default_value_t = 8 << 20)]
    pub stream_from_bytes: u64,
}

/// More at once makes nothing faster.
const BATCH_BYTES: usize = 32 << 20;
/// With so much memory, what scans read ahead by default does no harm.
const SCANS_AS_THEY_LIKE_BYTES: u64 = 4 << 30;
/// Longer runs make no fewer chunks.
const RUN_BYTES: usize = 128 << 20;
/// More read ahead fills no pipe better.
const READ_AHEAD_BYTES: u64 = 64 << 20;
/// What threads of Polars get: deep expressions recurse.
const THREAD_STACK_BYTES: u64 = 32 << 20;

impl Args {
    /// What Polars takes from the environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("RUST_MIN_STACK", THREAD_STACK_BYTES.to_string())];
        let scratch = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let own = self.id.as_ref().map_or_else(|| scratch.clone(), |id| scratch.join(id));
        all.push(("POLARS_OOC_SPILL_DIR", own.join("spill").display().to_string()));
        if let Some(limit) = self.memory_limit_bytes {
            // The engine spills before the limit is near; the rest is for what it cannot spill.
            all.push(("POLARS_OOC_MEMORY_BUDGET_MB", ((limit >> 20) * 6 / 10).max(16).to_string()));
            // Batches that a sink encodes, and how many of them at once: wide rows come in smaller ones.
            let at_once = self.threads as u64 + 1;
            let batch_bytes = (limit / 8 / at_once).clamp(4 << 20, 128 << 20);
            all.push(("POLARS_INFLIGHT_SINK_MORSEL_LIMIT", at_once.to_string()));
            all.push(("POLARS_IDEAL_SINK_MORSEL_SIZE_BYTES", batch_bytes.to_string()));
            // Each file that is open holds a part of an upload.
            all.push(("POLARS_MAX_OPEN_SINKS", (limit / (32 << 20)).clamp(8, 128).to_string()));
        }
        if let Some(limit) = self.memory_limit_bytes.filter(|limit| *limit < SCANS_AS_THEY_LIKE_BYTES) {
            // Polars reads row groups ahead by their number and their size in the file; in memory they are larger.
            all.push(("POLARS_ROW_GROUP_PREFETCH_SIZE", (limit >> 29).max(1).to_string()));
            all.push(("POLARS_ROW_GROUP_PREFETCH_KBYTES_BUDGET", (limit >> 15).max(1 << 10).to_string()));
            // Batches that wait between two nodes: with wide rows, the four of the engine's default are a worker's memory.
            all.push(("POLARS_DEFAULT_LINEARIZER_BUFFER_SIZE", "1".to_string()));
            all.push(("POLARS_DEFAULT_DISTRIBUTOR_BUFFER_SIZE", "1".to_string()));
        }
        if self.shuffle_disk_bytes < u64::MAX {
            all.push(("POLARS_OOC_DISK_BUDGET_MB", (self.shuffle_disk_bytes >> 20).to_string()));
        }
        all
    }

    /// Rows on their way out are copied twice (by partition, then as they are written).
    pub fn batch_bytes(&self) -> usize {
        self.memory_limit_bytes.map_or(BATCH_BYTES, |limit| (limit / 64).clamp(1 << 20, BATCH_BYTES as u64) as usize)
    }

    /// Rows that are sorted are there twice, and once more as they are written.
    pub fn run_bytes(&self) -> usize {
        self.memory_limit_bytes.map_or(RUN_BYTES, |limit| (limit / 16).clamp(1 << 20, RUN_BYTES as u64) as usize)
    }

    /// Bytes of other tasks' outputs that are read before the engine asks for them.
    pub fn read_ahead_bytes(&self) -> u64 {
        self.memory_limit_bytes.map_or(READ_AHEAD_BYTES, |limit| (limit / 32).clamp(4 << 20, READ_AHEAD_BYTES))
    }

    pub fn cancel_grace(&self) -> Duration {
        Duration::from_millis(self.cancel_grace_ms)
    }
}
