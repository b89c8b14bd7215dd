//! The arguments of the coordinator's commands.

use std::net::SocketAddr;
use std::path::PathBuf;

use floe_scheduler::cluster::Limits;

use super::Remember;
use super::explain::Format;
use super::fair::parse_weight;

#[derive(Clone, Debug, clap::Args)]
pub struct CoordinatorArgs {
    /// The job, a JSON file that only this user can read.
    #[arg(long, env = "FLOE_JOB")]
    pub job: PathBuf,
    /// Start this many workers on this machine; without it, workers connect by themselves.
    #[arg(long)]
    pub local_workers: Option<usize>,
    /// Directory for scratch files of local workers.
    #[arg(long)]
    pub scratch: Option<PathBuf>,
    /// Where to write progress.
    #[arg(long, value_enum, default_value_t = EventsTo::None)]
    pub events: EventsTo,
    /// Address at which workers connect.
    #[arg(long, env = "FLOE_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Address at which status, progress and results are served.
    #[arg(long, env = "FLOE_HTTP")]
    pub http: Option<SocketAddr>,
    /// Stay after the end of a query that has a result to read, until told to end.
    #[arg(long, env = "FLOE_STAY")]
    pub stay: bool,
    /// After the end, keep answering for this many seconds, or until a client has seen the end and deletes the query.
    #[arg(long, env = "FLOE_LINGER_SECONDS", default_value_t = 0)]
    pub linger_seconds: u64,
    /// Largest result without a sink, in bytes, kept in memory.
    #[arg(long, env = "FLOE_RESULT_HERE_BYTES", default_value_t = Remember::default().here_bytes)]
    pub result_here_bytes: u64,
    /// Largest result, in bytes, kept in a temporary file; larger ones stay on the workers.
    #[arg(long, env = "FLOE_RESULT_DISK_BYTES", default_value_t = 0)]
    pub result_disk_bytes: u64,
    /// Cancel when stdin is closed (the default when stdin is a pipe).
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
    /// The job whose leftovers are removed.
    #[arg(long, env = "FLOE_JOB")]
    pub job: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    #[arg(long, default_value_t = 2)]
    pub local_workers: usize,
    /// Accept at most this many self-connecting workers, which may come and go. Queries are planned for the workers
    /// connected, or for this number while there are none.
    #[arg(long, conflicts_with = "local_workers", value_parser = at_least_one)]
    pub joining_workers: Option<usize>,
    /// Address at which self-connecting workers connect.
    #[arg(long, env = "FLOE_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Threads of each worker.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Memory of each worker in bytes.
    #[arg(long)]
    pub memory_limit_bytes: Option<u64>,
    #[arg(long)]
    pub scratch: Option<PathBuf>,
    #[arg(long, env = "FLOE_HTTP", default_value = "127.0.0.1:0")]
    pub http: SocketAddr,
    /// Largest result, in bytes, kept in a temporary file; larger ones stay on the workers.
    #[arg(long, env = "FLOE_RESULT_DISK_BYTES", default_value_t = 0)]
    pub result_disk_bytes: u64,
    /// Queries planned at once; others wait. Each may run a script in a process of its own.
    #[arg(long, env = "FLOE_PLANS_AT_ONCE", default_value_t = 64, value_parser = at_least_one)]
    pub plans_at_once: usize,
    /// Finished queries to remember.
    #[arg(long, env = "FLOE_REMEMBER_QUERIES", default_value_t = Remember::default().queries)]
    pub remember_queries: usize,
    /// Bytes of all results kept; the oldest are dropped first.
    #[arg(long, env = "FLOE_RESULTS_BYTES", default_value_t = Remember::default().result_bytes)]
    pub results_bytes: u64,
    /// Largest result, in bytes, kept in memory; larger ones go to a file or stay on the workers.
    #[arg(long, env = "FLOE_RESULT_HERE_BYTES", default_value_t = Remember::default().here_bytes)]
    pub result_here_bytes: u64,
    /// Queries that run at once and share the workers.
    #[arg(long, default_value_t = Limits::default().max_running, value_parser = at_least_one)]
    pub max_running: usize,
    /// Share the workers evenly among the values of this query label, and start queries in turn.
    #[arg(long, value_name = "LABEL")]
    pub fair_by: Option<String>,
    /// Give queries with this value of the label this weight instead of 1.
    #[arg(long, value_name = "VALUE=WEIGHT", requires = "fair_by", value_parser = parse_weight)]
    pub fair_weight: Vec<(String, u32)>,
    /// Queries that may wait for others to end; more are refused (429).
    #[arg(long, default_value_t = Limits::default().max_waiting)]
    pub max_waiting: usize,
    /// Bytes of all waiting jobs; more are refused.
    #[arg(long, default_value_t = Limits::default().max_waiting_bytes)]
    pub max_waiting_bytes: u64,
    #[arg(long)]
    pub stdin_watch: bool,
    /// End when this process ends; it must be the parent.
    #[arg(long)]
    pub parent: Option<u32>,
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

#[derive(Clone, Debug, clap::Args)]
pub struct FilesArgs {
    #[arg(long)]
    pub job: PathBuf,
    /// Its name in the job's spec.tables
    #[arg(long)]
    pub table: String,
}
