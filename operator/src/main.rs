//! `floe-operator`: runs DistributedQuery, ComputeContext and ScheduledQuery objects on Kubernetes. See the modules.

mod conditions;
mod context;
mod controller;
mod coordinator;
mod crd;
mod events;
mod gang;
mod http_api;
mod kueue;
mod leader;
mod line;
mod metrics;
mod options;
mod pause;
mod pods;
mod poll;
mod query;
#[cfg(test)]
mod random;
mod run;
mod schedule;
mod server;
mod shares;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = options::Cli::parse();
    let result = match cli.command {
        Some(options::Command::Crd) => crd::print(),
        Some(options::Command::Openapi) => http_api::print(),
        Some(options::Command::InstallCrd { force }) => run::block_on(crd::install(force)),
        None => run::block_on(run::run(cli.run)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floe-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
