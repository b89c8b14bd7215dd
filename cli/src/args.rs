//! The command line as typed. Checks nothing beyond syntax.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

pub mod catalog;
pub mod cluster;

use cluster::{
    ClusterArgs, ContextsArgs, DeleteArgs, DoctorArgs, GetArgs, LogsArgs, NamesArgs, ResultArgs, SubmitArgs, WatchArgs,
};

/// Distributed Polars queries, on this machine or on your own Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "floe", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// The codes for failed queries are those of `Category::exit_code`; docs/cli.md repeats them.
const EXIT_CODES: &str = concat!(
    "Exit codes: 0 success; 1 a query failed on the cluster, or a check of doctor; 2 what was asked is wrong; 3 a file,\n",
    "store or cluster does not answer; 4 workers were lost; 5 out of memory; 6 a deadline passed; 70 a fault of Floe's\n",
    "own; 130 cancelled or interrupted"
);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run queries on this machine: a coordinator and worker processes, no cluster
    Run(RunArgs),
    /// Run SQL statements one after another over a warm engine: at a prompt, or from standard input
    Shell(ShellArgs),
    /// Show the stages of a query without running it
    Explain(ExplainArgs),
    /// Run plans on one node and distributed, and compare the results
    Verify(VerifyArgs),
    /// Create queries on a cluster
    Submit(SubmitArgs),
    /// Create queries on a cluster, or change existing ones (server-side apply)
    Apply(SubmitArgs),
    /// List queries on a cluster, or show all about one
    Get(GetArgs),
    /// List the warm contexts of a cluster, or show all about one
    Contexts(ContextsArgs),
    /// Watch a query on a cluster until it ends
    Watch(WatchArgs),
    /// Print the logs of a query's coordinator and workers
    Logs(LogsArgs),
    /// Show the result of a query without a sink, or write it to a file
    Result(ResultArgs),
    /// Cancel queries on a cluster, for good
    Cancel(NamesArgs),
    /// Suspend queries on a cluster: their pods are removed
    Suspend(NamesArgs),
    /// Run suspended queries again, from the beginning
    Resume(NamesArgs),
    /// Delete queries and all they made in the cluster; written results stay
    Delete(DeleteArgs),
    /// Check the cluster, Floe in it and your rights, and say what to do
    Doctor(DoctorArgs),
    /// Check queries without planning or running them
    Validate(ValidateArgs),
    /// Look into an Iceberg catalog: its namespaces and tables, their columns, snapshots, history and files
    Catalog(catalog::CatalogArgs),
    /// Print the CustomResourceDefinition of DistributedQuery
    Crd,
    /// Make the Python environment that scripts and SQL run in
    Setup(SetupArgs),
    /// Print the versions of floe and of its runner
    Version(VersionArgs),
    /// Print the completion script of a shell
    Completion(CompletionArgs),
    /// Print or write manual pages
    Man(ManArgs),
}

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Queries (YAML), or plans made by LazyFrame.serialize(); `-` reads a query from standard input
    #[arg(required_unless_present = "sql", conflicts_with = "sql")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub query: QueryArgs,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Fail the query after this time: 90s, 5m or 1h
    #[arg(long, value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Print only the result: no progress, no summary
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the logs of the coordinator and the workers
    #[arg(short, long)]
    pub verbose: bool,
    /// Continue with the next query when one fails
    #[arg(long)]
    pub keep_going: bool,
    /// Directory for shuffle and spill files; the run makes a subdirectory in it and removes that at the end
    #[arg(long, env = "FLOE_SCRATCH")]
    pub scratch: Option<PathBuf>,
}

/// What the command line overrides in a query.
#[derive(Debug, Default, clap::Args)]
pub struct QueryArgs {
    /// A SQL query in place of a file: the text, or a file of it that ends in .sql
    #[arg(long, value_name = "TEXT")]
    pub sql: Option<String>,
    /// Name a table: --table orders=data/orders/*.parquet, or orders=parquet:s3://lake/orders/
    #[arg(short, long, value_name = "NAME=[FORMAT:]URI", value_parser = parse_pair)]
    pub table: Vec<(String, String)>,
    /// Name a view for SQL: --view "big=select * from orders where total > 100", or big=FILE.sql
    #[arg(long, value_name = "NAME=TEXT", value_parser = parse_pair)]
    pub view: Vec<(String, String)>,
    /// Number of workers; overrides spec.compute
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub workers: Option<u32>,
    /// auto, distributed or single-node; overrides spec.execution.mode
    #[arg(short, long)]
    pub mode: Option<String>,
    /// Set any field: --set spec.compute.memory=4Gi (the value is read as YAML)
    #[arg(long, value_name = "PATH=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Set a parameter of the plan: --param day=2026-11-21 (the value is read as YAML)
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub param: Vec<(String, String)>,
    /// Use a file of key=value lines, or a directory with a file per key, as the Secret NAME of the query
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_pair)]
    pub secret: Vec<(String, String)>,
    /// The same for the ConfigMap NAME
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_pair)]
    pub config_map: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
pub struct ShellArgs {
    /// Directories whose files are tables; each is named after its file, or after its directory of files
    pub directories: Vec<PathBuf>,
    #[command(flatten)]
    pub query: QueryArgs,
    /// Format of results
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Number of rows of a result to show
    #[arg(long, default_value_t = 50)]
    pub rows: u64,
    /// Print only results: no timing, no warnings
    #[arg(short, long)]
    pub quiet: bool,
    /// Continue with the next statement when one fails
    #[arg(long)]
    pub keep_going: bool,
    /// Directory for shuffle and spill files
    #[arg(long, env = "FLOE_SCRATCH")]
    pub scratch: Option<PathBuf>,
    /// Run the statements on this warm context of a cluster (a ComputeContext) instead of on this machine
    #[arg(long, value_name = "CONTEXT", conflicts_with_all = ["workers", "secret", "config_map"])]
    pub on: Option<String>,
    /// With --on: the Secret, in the context's namespace, that holds the storage's credentials
    #[arg(long, value_name = "SECRET", requires = "on")]
    pub storage: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The query (YAML), or a plan made by LazyFrame.serialize(); or the name of a query on a cluster
    #[arg(required_unless_present = "sql", conflicts_with = "sql")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub query: QueryArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = ExplainFormat::Text)]
    pub format: ExplainFormat,
}

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct VerifyArgs {
    /// Plans, queries or directories, and the options of `floe-runner verify` (see floe verify --help)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    /// Queries (YAML); `-` reads one from standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub query: QueryArgs,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Write a page for every command into this directory [default: the first page, to standard output]
    #[arg(value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct SetupArgs {
    /// Install from the wheels in this directory, without a package index
    #[arg(long, value_name = "DIR")]
    pub wheels: Option<PathBuf>,
    /// Version of Polars, equal to that of the clients whose Python functions are called [default: the newest accepted]
    #[arg(long, value_name = "VERSION")]
    pub polars: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    Text,
    Dot,
    Mermaid,
    Json,
    Svg,
}

impl ExplainFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            ExplainFormat::Text => "text",
            ExplainFormat::Dot => "dot",
            ExplainFormat::Mermaid => "mermaid",
            ExplainFormat::Json => "json",
            ExplainFormat::Svg => "svg",
        }
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write it as 90s, 5m or 1h".to_owned()),
    };
    let seconds = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|s| (1..=u64::from(u32::MAX)).contains(s));
    seconds.map(Duration::from_secs).ok_or_else(|| "write it as 90s, 5m or 1h, at least 1s".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_and_pairs() {
        for (text, seconds) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("1h", Some(3600)),
            ("0", None),
            ("", None),
            ("1d", None),
            ("-1s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text).ok().map(|d| d.as_secs()), seconds, "{text}");
        }
        assert_eq!(parse_pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_pair("a").is_err() && parse_pair("=b").is_err());
    }
}
