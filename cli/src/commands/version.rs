//! `floe version`: the versions of this program and its runner, which must be of the same release.

use std::process::{Command, ExitCode};

use serde_json::json;

use crate::args::{Output, VersionArgs};
use crate::error::Failure;
use crate::{print, process};

pub fn run(args: VersionArgs) -> Result<ExitCode, Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let runner = process::find_runner().map(|path| {
        let output = Command::new(&path).arg("--version").output();
        let version =
            output.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        (path, version)
    });
    match (args.output, runner) {
        (Output::Json, runner) => {
            let runner =
                runner.ok().map(|(path, version)| json!({"path": path.display().to_string(), "version": version}));
            print::out(json!({"floe": own, "runner": runner}));
        }
        (Output::Table, Ok((path, version))) => {
            print::out(format_args!("floe {own}"));
            let version = version.unwrap_or_else(|| "floe-runner, version unknown".to_owned());
            print::out(format_args!("{version} ({})", path.display()));
        }
        (Output::Table, Err(failure)) => {
            print::out(format_args!("floe {own}"));
            print::out(failure);
        }
    }
    Ok(ExitCode::SUCCESS)
}
