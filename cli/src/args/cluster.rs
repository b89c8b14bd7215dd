//! The command line of the commands that talk to a cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::{QueryArgs, parse_duration};

/// Which cluster and namespace.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClusterArgs {
    /// Namespace of the query [default: that of the kubeconfig's context]
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long)]
    pub context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

impl ClusterArgs {
    /// The same options again, for commands that a message suggests.
    pub fn again(&self) -> String {
        let kubeconfig = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        let options = [("-n", &self.namespace), ("--context", &self.context), ("--kubeconfig", &kubeconfig)];
        options.iter().filter_map(|(option, value)| Some(format!(" {option} {}", value.as_ref()?))).collect()
    }
}

#[derive(Debug, clap::Args)]
pub struct SubmitArgs {
    /// Queries (YAML), or plans made by LazyFrame.serialize(); `-` reads a query from standard input
    #[arg(required_unless_present_any = ["filename", "script", "plan", "sql"])]
    pub files: Vec<PathBuf>,
    /// The same as FILES, for users of kubectl
    #[arg(short = 'f', long, value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    #[command(flatten)]
    pub make: MakeArgs,
    #[command(flatten)]
    pub query: QueryArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Wait until the queries have ended and show their progress
    #[arg(long)]
    pub wait: bool,
    /// With --wait: give up waiting after this time (90s, 5m, 1h); the query goes on
    #[arg(long, value_parser = parse_duration, requires = "wait")]
    pub timeout: Option<Duration>,
    /// With `apply`: take over fields that another tool has set
    #[arg(long)]
    pub force_conflicts: bool,
    /// What to print on standard output
    #[arg(short, long, value_enum, default_value_t = SubmitOutput::Table)]
    pub output: SubmitOutput,
}

impl SubmitArgs {
    pub fn all_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().chain(&self.filename)
    }
}

/// A query made from options, without a file of its own; or what the options change in each file.
#[derive(Debug, Default, clap::Args)]
pub struct MakeArgs {
    /// A query from a Python script, which assigns a LazyFrame to `result`; `-` reads it from standard input
    #[arg(long, value_name = "FILE", group = "source", conflicts_with = "sql")]
    pub script: Option<PathBuf>,
    /// A query from a plan made by LazyFrame.serialize()
    #[arg(long, value_name = "FILE", group = "source", conflicts_with = "sql")]
    pub plan: Option<PathBuf>,
    /// Where the result goes; a URI without a known extension gets parquet
    #[arg(long, value_name = "URI")]
    pub sink: Option<String>,
    /// What to do if there is something at the sink already: error, overwrite or append
    #[arg(long, value_name = "MODE")]
    pub sink_mode: Option<String>,
    /// The Secret, in the query's namespace, that holds the storage's credentials
    #[arg(long, value_name = "SECRET")]
    pub storage: Option<String>,
    /// Name of the query [default: that of the file; `submit` appends a few letters to a script's]
    #[arg(long)]
    pub name: Option<String>,
    /// Run on this warm context (a ComputeContext of the namespace), and start no pods
    #[arg(long, value_name = "CONTEXT", conflicts_with_all = ["cpus", "memory", "image", "workers"])]
    pub on: Option<String>,
    /// CPUs of each worker: 4 or 500m
    #[arg(long)]
    pub cpus: Option<String>,
    /// Memory of each worker: 16Gi
    #[arg(long)]
    pub memory: Option<String>,
    /// Image of the query's pods
    #[arg(long)]
    pub image: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SubmitOutput {
    /// What happens, in words; with --wait the address of the result
    Table,
    /// One object for each query
    Json,
    /// The names of the queries
    Name,
}

#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// Name of the query
    pub name: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Give up waiting after this time (90s, 5m, 1h); the query goes on
    #[arg(long, value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Format of the output: json has an object on a line for every change
    #[arg(short, long, value_enum, default_value_t = super::Output::Table)]
    pub output: super::Output,
}

/// Commands that change queries by name.
#[derive(Debug, clap::Args)]
pub struct NamesArgs {
    /// Names of the queries
    #[arg(required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    pub queries: NamesArgs,
    /// Return at once, while the query's pods are removed
    #[arg(long)]
    pub no_wait: bool,
    /// Give up waiting after this time; the removal goes on
    #[arg(long, value_parser = parse_duration, default_value = "2m")]
    pub timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// Names of queries to show in full [default: a table of all queries]
    pub names: Vec<String>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The queries of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["names", "namespace"])]
    pub all_namespaces: bool,
    /// Only queries with these labels: team=a,run!=test
    #[arg(short = 'l', long, conflicts_with = "names")]
    pub selector: Option<String>,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = GetOutput::Table)]
    pub output: GetOutput,
}

#[derive(Debug, clap::Args)]
pub struct ContextsArgs {
    /// Names of contexts to show in full [default: a table of all contexts]
    pub names: Vec<String>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The contexts of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["names", "namespace"])]
    pub all_namespaces: bool,
    /// Only contexts with these labels: team=a
    #[arg(short = 'l', long, conflicts_with = "names")]
    pub selector: Option<String>,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = GetOutput::Table)]
    pub output: GetOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GetOutput {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Name of the query
    #[arg(required_unless_present = "on")]
    pub name: Option<String>,
    /// All that the pods of this context log, for whichever query
    #[arg(long, value_name = "CONTEXT", conflicts_with = "name")]
    pub on: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Go on with what comes, until the query has ended and its pods have said all
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines that say they are of this stage
    #[arg(long, value_name = "NUMBER")]
    pub stage: Option<u32>,
    /// Only the coordinator's lines, or only the workers'
    #[arg(long, value_enum)]
    pub role: Option<LogRole>,
    /// Only lines of this worker, by its number
    #[arg(long, value_name = "NUMBER", conflicts_with = "role")]
    pub worker: Option<u32>,
    /// The last lines of each pod
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u32>,
    /// Only lines that are not older: 90s, 5m or 1h
    #[arg(long, value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// Format of the output: json has an object on a line, with the pod
    #[arg(short, long, value_enum, default_value_t = super::Output::Table)]
    pub output: super::Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogRole {
    Coordinator,
    Worker,
}

#[derive(Debug, clap::Args)]
pub struct ResultArgs {
    /// Name of a query without a sink
    pub name: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Number of rows to show
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub rows: u64,
    /// Write all rows to this file instead; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Format of the file [default: by its extension]
    #[arg(long, value_enum, requires = "out")]
    pub format: Option<ResultFormat>,
    /// Overwrite a file that exists
    #[arg(long, requires = "out")]
    pub overwrite: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResultFormat {
    /// .parquet
    Parquet,
    /// .csv
    Csv,
    /// .ndjson or .jsonl
    Ndjson,
    /// An Arrow IPC file: .arrow, .ipc or .feather
    Arrow,
    /// An Arrow IPC stream, as the coordinator sends it: .arrows
    Stream,
}

#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Queries (YAML) whose Secrets and ConfigMaps must be there, and with --run their tables be readable
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Run a tiny query, too, and for each file one that reads a row of its tables, and delete them: images, quotas, networks,
    /// admission and a store's keys are seen only so
    #[arg(long)]
    pub run: bool,
    /// How long each of these may take
    #[arg(long, value_parser = parse_duration, default_value = "2m", requires = "run")]
    pub timeout: Duration,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = super::Output::Table)]
    pub output: super::Output,
}
