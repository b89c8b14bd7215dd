//! `floe`: run, explain and check distributed Polars queries. One `run` function over typed arguments; each command is
//! in a file of its own and returns the process's exit code.

mod args;
mod cluster;
mod commands;
mod error;
mod human;
mod local;
mod print;
mod process;
mod query;
mod render;
mod trace;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};
use crate::error::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
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
        Command::Explain(args) => commands::explain::run(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Submit(args) => commands::cluster::submit(args),
        Command::Watch(args) => commands::cluster::watch(args),
        Command::Cancel(args) => commands::cluster::cancel(args),
        Command::Validate(args) => commands::validate::run(args),
        Command::Crd => commands::crd::run(),
        Command::Version(args) => commands::version::run(args),
    }
}
