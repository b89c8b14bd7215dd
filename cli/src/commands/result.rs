//! `floe result`: the rows of a query without a sink, as a table in the terminal or in a file. They come from the
//! coordinator through the API server as an Arrow stream, which `floe-runner convert` turns into tables and files.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use floe_api::report::Category;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::args::cluster::{ResultArgs, ResultFormat};
use crate::cluster::Cluster;
use crate::coordinator::Coordinator;
use crate::error::Failure;
use crate::follow::has_ended;
use crate::{block_on, human, print, process, program};

/// Give up if the result's next bytes do not come within this time.
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);
/// Read a result of at most this many rows in full for its table, which then also shows the last rows.
const WHOLE_ROWS: u64 = 1000;

impl ResultFormat {
    /// The format for a file's extension.
    fn of(path: &Path) -> Option<ResultFormat> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(ResultFormat::Parquet),
            "csv" => Some(ResultFormat::Csv),
            "ndjson" | "jsonl" => Some(ResultFormat::Ndjson),
            "arrow" | "ipc" | "feather" => Some(ResultFormat::Arrow),
            "arrows" => Some(ResultFormat::Stream),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            ResultFormat::Parquet => "parquet",
            ResultFormat::Csv => "csv",
            ResultFormat::Ndjson => "ndjson",
            ResultFormat::Arrow => "arrow",
            ResultFormat::Stream => "stream",
        }
    }
}

/// Where the rows go.
enum To {
    Terminal { rows: u64 },
    File { path: PathBuf, format: ResultFormat },
    Stdout { format: ResultFormat },
}

fn to(args: &ResultArgs) -> Result<To, Failure> {
    let Some(path) = &args.out else { return Ok(To::Terminal { rows: args.rows }) };
    let format = args.format.or_else(|| ResultFormat::of(path)).ok_or_else(|| {
        Failure::Usage(format!(
            "--out {}: the extension tells no format: end it in .parquet, .csv, .ndjson, .arrow or .arrows, or give --format",
            path.display()
        ))
    })?;
    if path == Path::new("-") {
        return Ok(To::Stdout { format });
    }
    if path.exists() && !args.overwrite {
        return Err(Failure::Usage(format!("{} is there already: --overwrite replaces it", path.display())));
    }
    Ok(To::File { path: path.clone(), format })
}

pub fn run(args: ResultArgs) -> Result<ExitCode, Failure> {
    let to = to(&args)?;
    // Check this before any request: without the runner there is no table.
    let runner = match &to {
        To::File { format: ResultFormat::Stream, .. } | To::Stdout { format: ResultFormat::Stream } => None,
        To::Terminal { .. } | To::File { .. } | To::Stdout { .. } => Some(
            process::find_runner()
                .map_err(|failure| Failure::NoRunner(format!("{failure}; --out result.arrows needs none")))?,
        ),
    };
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        let query = cluster.get(&args.name).await?;
        let status = query.status.clone().unwrap_or_default();
        let (program, again, name) = (program::name(), args.cluster.again(), &args.name);
        let phase = status.phase.map_or("Pending", floe_api::Phase::as_str);
        let uri = status.result_uri.as_ref().or(query.spec.sink.as_ref().map(|sink| &sink.uri));
        if !has_ended(&query) {
            let place = uri.map(|uri| format!(", and writes its result to {uri}")).unwrap_or_default();
            return Err(Failure::Usage(format!(
                "query {name} has not ended ({phase}){place}: `{program} watch {name}{again}` waits for it"
            )));
        }
        if status.phase != Some(floe_api::Phase::Succeeded) {
            let why = status.message.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(Failure::Usage(format!("query {name} has ended without a result ({phase}){why}")));
        }
        if let Some(uri) = uri {
            let message = format!("query {name} has written its result to {uri}: read it there");
            if args.out.is_some() {
                return Err(Failure::Usage(message));
            }
            print::out(uri);
            print::err(message);
            return Ok(ExitCode::SUCCESS);
        }
        let mut coordinator = Coordinator::reach(&cluster, &query).await?;
        let total = status.rows.unwrap_or_default();
        if let (To::Terminal { rows }, Some(runner)) = (&to, &runner) {
            return print_table(&mut coordinator, runner, *rows, total).await;
        }
        let body = coordinator.ask("/result").await?;
        match (to, runner) {
            (To::Stdout { format }, Some(runner)) => {
                let mut command = Command::new(&runner);
                command.args(["convert", "--to", format.as_str()]);
                pipe(body, command).await
            }
            (To::Stdout { .. }, None) => {
                copy(body, &mut tokio::io::stdout()).await?;
                Ok(ExitCode::SUCCESS)
            }
            (To::File { path, format }, runner) => write(body, &path, format, runner.as_deref(), total).await,
            (To::Terminal { .. }, _) => Err(Failure::Internal("a table without a runner".to_owned())),
        }
    })
}

/// Prints the first rows of a result as a table.
pub async fn print_table(
    coordinator: &mut Coordinator,
    runner: &Path,
    rows: u64,
    total: u64,
) -> Result<ExitCode, Failure> {
    // For the table of a long result, request only the rows that it shows.
    let rest = if total > rows.max(WHOLE_ROWS) { format!("/result?rows={rows}") } else { "/result".to_owned() };
    let body = coordinator.ask(&rest).await?;
    let mut command = Command::new(runner);
    command.args(["convert", "--to", "table", "--total", &total.to_string()]);
    command.env("POLARS_FMT_MAX_ROWS", rows.to_string());
    pipe(body, command).await
}

/// A partial result must not pass for a whole one: the file gets its name once it is complete.
async fn write(
    body: Incoming,
    path: &Path,
    format: ResultFormat,
    runner: Option<&Path>,
    rows: u64,
) -> Result<ExitCode, Failure> {
    let failed = |error| Failure::io(format!("cannot write {}", path.display()), error);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::Builder::new().prefix(".floe-").tempfile_in(directory).map_err(failed)?;
    let code = match runner {
        None => {
            let mut file = tokio::fs::File::from_std(part.as_file().try_clone().map_err(failed)?);
            copy(body, &mut file).await?;
            ExitCode::SUCCESS
        }
        Some(runner) => {
            let mut command = Command::new(runner);
            command.args(["convert", "--to", format.as_str(), "--out"]).arg(part.path());
            pipe(body, command).await?
        }
    };
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    part.as_file_mut().flush().map_err(failed)?;
    let bytes = std::fs::metadata(part.path()).map_err(failed)?.len();
    readable(part.as_file());
    part.persist(path).map_err(|error| failed(error.error))?;
    print::err(format_args!("{} written to {} ({})", human::plural(rows, "row"), path.display(), human::bytes(bytes)));
    Ok(ExitCode::SUCCESS)
}

/// Gives a temporary file, which only its user can read, the permissions that the umask gives to ordinary files.
fn readable(file: &std::fs::File) {
    use std::os::unix::fs::PermissionsExt as _;
    // SAFETY: umask takes an integer and touches no memory; it is set back at once, and no other thread makes files.
    #[allow(unsafe_code)]
    let mask = unsafe {
        let mask = libc::umask(0o077);
        libc::umask(mask);
        mask
    };
    // The type differs on other systems.
    #[allow(clippy::useless_conversion)]
    let mode = 0o666 & !u32::from(mask);
    // Failing here would lose the result; better a file that only its user can read.
    let _ = file.set_permissions(std::fs::Permissions::from_mode(mode));
}

/// Pipes the stream to a process, which writes to standard output or to a file.
async fn pipe(body: Incoming, mut command: Command) -> Result<ExitCode, Failure> {
    command.stdin(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| Failure::io("cannot start floe-runner", error))?;
    let Some(mut stdin) = child.stdin.take() else {
        return Err(Failure::Internal("the runner's input is not connected".to_owned()));
    };
    let copied = copy(body, &mut stdin).await;
    // A stream that breaks off must not look like its end: kill the process first.
    if let Err(failure @ (Failure::Cluster(_) | Failure::Missing(_))) = copied {
        let _ = child.kill().await;
        return Err(failure);
    }
    drop(stdin);
    let status = child.wait().await.map_err(|error| Failure::io("cannot wait for floe-runner", error))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or_else(|| Category::Internal.exit_code())))
}

/// Fails with `Cluster` if the stream breaks off, and with `Io` if the target fails, which may simply have read enough.
async fn copy(mut body: Incoming, to: &mut (impl tokio::io::AsyncWrite + Unpin)) -> Result<(), Failure> {
    let broke = |why: String| Failure::Cluster(format!("the result broke off: {why}. To do: ask for it again"));
    loop {
        let frame = tokio::time::timeout(READ_TIMEOUT, body.frame()).await;
        match frame {
            Err(_) => return Err(broke(format!("nothing came for {} s", READ_TIMEOUT.as_secs()))),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(broke(error.to_string())),
            Ok(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    to.write_all(bytes).await.map_err(|error| Failure::io("cannot pass the result on", error))?;
                }
            }
        }
    }
    to.flush().await.map_err(|error| Failure::io("cannot pass the result on", error))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command as Typed};

    fn parsed(line: &[&str]) -> Result<To, Failure> {
        match Args::try_parse_from(["floe", "result", "q"].iter().chain(line)).unwrap().command {
            Typed::Result(args) => to(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_extension_tells_the_format_and_a_file_that_exists_stays() {
        let dir = tempfile::tempdir().unwrap();
        for (name, format) in [
            ("a.parquet", "parquet"),
            ("a.CSV", "csv"),
            ("a.jsonl", "ndjson"),
            ("a.feather", "arrow"),
            ("a.arrows", "stream"),
        ] {
            let path = dir.path().join(name);
            let Ok(To::File { format: told, .. }) = parsed(&["--out", path.to_str().unwrap()]) else {
                panic!("{name}")
            };
            assert_eq!(told.as_str(), format);
        }
        let told = |line: &[&str]| parsed(line).err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(told(&["--out", "a.xlsx"]).contains("give --format"));
        let there = dir.path().join("there.csv");
        std::fs::write(&there, "kept").unwrap();
        assert!(told(&["--out", there.to_str().unwrap()]).contains("--overwrite replaces it"));
        assert!(parsed(&["--out", there.to_str().unwrap(), "--overwrite"]).is_ok());
        assert!(matches!(parsed(&["--rows", "3"]), Ok(To::Terminal { rows: 3 })));
        assert!(matches!(parsed(&["--out", "-", "--format", "csv"]), Ok(To::Stdout { .. })));
    }
}
