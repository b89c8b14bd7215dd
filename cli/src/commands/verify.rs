//! `floe verify`: plans run on one node and distributed, and compared. The runner does all of it, so this process
//! becomes the runner.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::args::VerifyArgs;
use crate::error::Failure;
use crate::process;

pub fn run(args: VerifyArgs) -> Result<ExitCode, Failure> {
    let runner = process::find_runner()?;
    // Returns only when it could not be started.
    let error = Command::new(&runner).arg("verify").args(args.rest).exec();
    Err(Failure::io(format!("cannot start {}", runner.display()), error))
}
