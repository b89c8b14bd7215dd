//! `floe explain`: the stages of a query, made by the runner without running them.

use std::io::Write as _;
use std::process::{Command, ExitCode};

use floe_api::report::Category;

use crate::args::ExplainArgs;
use crate::error::Failure;
use crate::{process, query};

pub fn run(args: ExplainArgs) -> Result<ExitCode, Failure> {
    let prepared = query::prepare(query::load(&args.file, &args.query)?, &args.query)?;
    let runner = process::find_runner()?;
    let failed = |e| Failure::io("cannot write the job", e);
    // Private to the user and removed when dropped: it may hold credentials.
    let mut job = tempfile::NamedTempFile::new().map_err(failed)?;
    let text =
        serde_json::to_vec(&prepared.job).map_err(|e| Failure::Internal(format!("the job cannot be written: {e}")))?;
    job.write_all(&text).map_err(failed)?;
    job.flush().map_err(failed)?;
    let status = Command::new(&runner)
        .arg("explain")
        .arg("--job")
        .arg(job.path())
        .arg("--format")
        .arg(args.format.as_str())
        .envs(prepared.env.iter().map(|(name, value)| (name.as_str(), value.reveal())))
        .status()
        .map_err(|e| Failure::io(format!("cannot start {}", runner.display()), e))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or_else(|| Category::Internal.exit_code())))
}
