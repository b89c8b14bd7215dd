//! `floe setup`: has the runner create the Python environment for scripts, SQL and Python functions.

use std::path::Path;
use std::process::{Command, ExitCode};

use floe_api::job::Job;
use floe_api::plan::PlanKind;

use crate::args::SetupArgs;
use crate::error::Failure;
use crate::process;

pub fn run(args: SetupArgs) -> Result<ExitCode, Failure> {
    let runner = process::find_runner()?;
    let mut command = Command::new(&runner);
    command.arg("setup");
    if let Some(wheels) = &args.wheels {
        command.arg("--wheels").arg(wheels);
    }
    if let Some(polars) = &args.polars {
        command.arg("--polars").arg(polars);
    }
    ended(&runner, &mut command)
}

/// Creates the Python environment that queries need, if there is none, and says so. A query reports if that failed.
pub fn before<'a>(runner: &Path, jobs: impl IntoIterator<Item = &'a Job>) -> Result<(), Failure> {
    let mut purposes: Vec<&str> = jobs
        .into_iter()
        .filter_map(|job| match job.spec.plan.kind() {
            Some(PlanKind::Sql(_)) => Some("sql"),
            Some(PlanKind::Python(_)) => Some("script"),
            _ => None,
        })
        .collect();
    purposes.sort_unstable();
    purposes.dedup();
    if std::env::var_os("FLOE_PYTHON").is_some_and(|python| !python.is_empty()) {
        return Ok(());
    }
    for purpose in purposes {
        ended(runner, Command::new(runner).args(["setup", "--quiet", "--if-needed-for", purpose]))?;
    }
    Ok(())
}

fn ended(runner: &Path, command: &mut Command) -> Result<ExitCode, Failure> {
    let status = command.status().map_err(|e| Failure::io(format!("cannot start {}", runner.display()), e))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
