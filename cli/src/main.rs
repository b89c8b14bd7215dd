//! `floe`: run, explain and check distributed Polars queries, here or on a cluster; `kubectl floe` when kubectl calls
//! it. One `run` function over typed arguments; each command has its own file and returns the process's exit code.

mod args;
mod cluster;
mod commands;
mod coordinator;
mod doctor;
mod error;
mod follow;
mod human;
mod local;
mod make;
mod print;
mod process;
mod program;
mod query;
mod refused;
mod render;
mod shell;
mod svg;
mod trace;
mod warm;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Args, Command};
use crate::commands::change::Change;
use crate::commands::submit::Way;
use crate::error::Failure;

fn main() -> ExitCode {
    if program::completes() {
        return commands::complete::run(&std::env::args_os().skip(1).collect::<Vec<_>>());
    }
    let matches = Args::command().bin_name(program::name()).get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(args) {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Run(args) => commands::run::run(args),
        Command::Shell(args) => shell::run(args),
        Command::Explain(args) => commands::explain::run(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Submit(args) => commands::submit::run(args, Way::Create),
        Command::Apply(args) => commands::submit::run(args, Way::Apply),
        Command::Get(args) => commands::get::run(args),
        Command::Contexts(args) => commands::contexts::run(args),
        Command::Watch(args) => commands::watch::run(args),
        Command::Logs(args) => commands::logs::run(args),
        Command::Result(args) => commands::result::run(args),
        Command::Cancel(args) => commands::change::run(args, Change::Cancel),
        Command::Suspend(args) => commands::change::run(args, Change::Suspend),
        Command::Resume(args) => commands::change::run(args, Change::Resume),
        Command::Delete(args) => commands::change::delete(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Validate(args) => commands::validate::run(args),
        Command::Catalog(args) => commands::catalog::run(args),
        Command::Crd => commands::crd::run(),
        Command::Setup(args) => commands::setup::run(args),
        Command::Version(args) => commands::version::run(args),
        Command::Completion(args) => commands::pages::completion(&args),
        Command::Man(args) => commands::pages::man(&args),
    }
}

/// Runs a command that talks to a cluster.
fn block_on(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start the event loop", error))?;
    let done = runtime.block_on(work);
    // Do not wait for unfinished streams.
    runtime.shutdown_background();
    done
}
