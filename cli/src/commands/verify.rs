//! `floe verify`: runs plans on one node and distributed, and compares the results. The runner does all of it, so this
//! process becomes the runner.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::args::VerifyArgs;
use crate::error::Failure;
use crate::process;

pub fn run(args: VerifyArgs) -> Result<ExitCode, Failure> {
    let runner = process::find_runner()?;
    // `exec` returns only if it fails.
    let error = Command::new(&runner).arg("verify").args(args.rest).exec();
    Err(Failure::io(format!("cannot start {}", runner.display()), error))
}
