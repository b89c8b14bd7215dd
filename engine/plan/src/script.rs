//! Runs plan scripts: Python in a child process, with limits for the whole process tree, a clean environment, no access
//! to our memory and files, and no process left afterwards (`tree`). The Python side is `script_host.py`.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use floe_api::PythonSource;
use floe_api::job::Job;
use serde::Deserialize;
use serde_json::{Value, json};

use super::confine::isolated;
use super::crossing::TRAVERSE;
use super::lake::stand_ins::StandIns;
use super::pipes::Printed;
use super::python::Choice;
use super::tree::{self, End, Limits, Tree};
use super::{ACCEPTED, Loaded, StorageOptions, decode_with};
use floe_wire::error::{Category, QueryError, Result};

const HOST: &str = include_str!("script_host.py");
/// Builds the scans of tables; imported by the hosts.
pub(crate) const HOST_TABLES: &str = include_str!("host_tables.py");
/// Name of the script in tracebacks.
const SCRIPT_NAME: &str = "script.py";
/// Keep at most this much of the script's output.
const OUTPUT_LIMIT_BYTES: usize = 64 << 10;
/// Memory limit where the job sets none; the operator always sets one.
const MEMORY_BYTES: u64 = 4 << 30;
/// Allowance for Python and Polars themselves, and for pages that are counted twice because processes share them.
const BASE_BYTES: u64 = 256 << 20;
const PROCESSES: usize = 64;

pub fn run(
    source: &PythonSource,
    job: &Job,
    storage: &StorageOptions,
    base: &Path,
    python: &Path,
    choice: &Choice,
) -> Result<Loaded> {
    let memory_bytes = match &source.memory {
        None => MEMORY_BYTES,
        Some(memory) => memory.bytes().ok_or_else(|| {
            let message = format!("spec.plan.python.memory is no amount of memory: {}", memory.as_str());
            QueryError::user("BadSpec", message)
        })?,
    };
    let dir = tempfile::Builder::new().prefix("floe-script-").tempdir().map_err(|e| cannot("make a directory", &e))?;
    let write =
        |name: &str, text: &str| std::fs::write(dir.path().join(name), text).map_err(|e| cannot("write to it", &e));
    write("script_host.py", HOST)?;
    write("host_tables.py", HOST_TABLES)?;
    write("traverse.py", TRAVERSE)?;
    write("script.py", &source.script)?;
    let mut stand_ins = StandIns::default();
    write("request.json", &request(job, storage, base, memory_bytes, &mut stand_ins)?.to_string())?;

    let limits = Limits {
        time: Duration::from_secs(u64::from(source.timeout_seconds)),
        memory_bytes: memory_bytes + BASE_BYTES,
        processes: PROCESSES,
        // The plan file may be as large as the script's memory.
        disk_bytes: memory_bytes,
        dir: dir.path().to_owned(),
    };
    let mut tree = start(python, &limits)?;
    let child = tree.child();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let printed = (Printed::of(stdout, OUTPUT_LIMIT_BYTES), Printed::of(stderr, OUTPUT_LIMIT_BYTES));
    let end = tree.wait(&limits).map_err(|e| cannot("wait", &e))?;
    let printed = [printed.0.last(), printed.1.last()];
    let output = printed.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("\n");
    if !output.is_empty() {
        tracing::info!(target: "floe::script", output, "the plan script printed");
    }
    let status = match end {
        End::Itself(status) => status,
        stopped => return Err(of_end(stopped, source, memory_bytes, &output)),
    };
    match std::fs::read(dir.path().join("plan.bin")) {
        Ok(plan) if status.success() => {
            let version = std::fs::read_to_string(dir.path().join("version")).unwrap_or_default();
            let mut loaded =
                decode_with(&plan, storage, Some(base), Some(choice)).map_err(|e| of_version(e, &version, python))?;
            loaded.plan = stand_ins.put_in(loaded.plan)?;
            Ok(loaded)
        }
        _ => Err(failure(dir.path(), status, memory_bytes, &output)),
    }
}

fn cannot(what: &str, error: &std::io::Error) -> QueryError {
    QueryError::io(format!("cannot {what} for the plan script: {error}"))
}

fn request(
    job: &Job,
    storage: &StorageOptions,
    base: &Path,
    memory_bytes: u64,
    stand_ins: &mut StandIns,
) -> Result<Value> {
    let tables = job.spec.tables.iter().map(|(name, table)| {
        let format = table.resolved_format();
        if format.is_some_and(crate::is_opened) {
            return match crate::open(table, storage, base).and_then(|frame| stand_ins.add(name, frame)) {
                Ok(stand_in) => Ok((name.clone(), json!({"stand_in": stand_in}))),
                // Told when the script scans it.
                Err(error) if error.category == Category::User => {
                    let error = json!({"class": error.class, "message": error.message});
                    Ok((name.clone(), json!({"error": error})))
                }
                Err(error) => Err(error),
            };
        }
        let format = format.map_or("unknown", |format| format.as_str());
        let own = table.storage.as_deref().map(|_| storage.reveal(&table.uri));
        let default = storage.reveal(&table.uri);
        let options = own.unwrap_or(default);
        Ok((
            name.clone(),
            json!({"format": format, "uris": [&table.uri], "options": &table.options, "storage": options}),
        ))
    });
    Ok(json!({
        "script_name": SCRIPT_NAME,
        "memory_bytes": memory_bytes,
        "base": base,
        "tables": tables.collect::<Result<serde_json::Map<_, _>>>()?,
        "params": &job.spec.params,
    }))
}

fn start(python: &Path, limits: &Limits) -> Result<Tree> {
    let dir = &limits.dir;
    let mut command = isolated(python, &["-u"], "script_host.py", dir);
    command.arg(dir).env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
    tree::start(command, limits).map_err(|e| {
        QueryError::user(
            "ScriptEnvironment",
            format!("cannot start Python ({}): {e}; install it, or name one by FLOE_PYTHON", python.display()),
        )
    })
}

/// The error for a script that was stopped.
fn of_end(end: End, source: &PythonSource, memory_bytes: u64, output: &str) -> QueryError {
    let mib = memory_bytes >> 20;
    let (class, message) = match end {
        End::Time => (
            "ScriptTimeout",
            format!(
                "the plan script did not end within {} s (spec.plan.python.timeoutSeconds): it should build the plan, \
                 not run it",
                source.timeout_seconds
            ),
        ),
        End::Memory => (
            "ScriptMemory",
            format!(
                "the plan script and what it started need more memory than its limit of {mib} MiB \
                 (spec.plan.python.memory)"
            ),
        ),
        End::Disk => (
            "ScriptDisk",
            format!(
                "the plan script wrote more than {mib} MiB to its directory: it may write as much as it may hold in \
                 memory (spec.plan.python.memory)"
            ),
        ),
        End::Processes => (
            "ScriptProcesses",
            format!("the plan script started more than {PROCESSES} processes: it should build the plan, not run it"),
        ),
        End::Lost | End::Stopped | End::Itself(_) => {
            ("ScriptError", "the plan script killed the process that looks after it".into())
        }
    };
    QueryError::user(class, format!("{message}{}", shown(output)))
}

#[derive(Deserialize)]
struct Reported {
    class: String,
    message: String,
}

fn failure(dir: &Path, status: ExitStatus, memory_bytes: u64, output: &str) -> QueryError {
    let reported = std::fs::read(dir.join("error.json")).ok();
    if let Some(error) = reported.and_then(|text| serde_json::from_slice::<Reported>(&text).ok()) {
        return match error.class.as_str() {
            "MemoryError" => QueryError::user("ScriptMemory", format!("{} (spec.plan.python.memory)", error.message)),
            "ScriptEnvironment" => QueryError::user(
                error.class,
                format!(
                    "{}; {ACCEPTED}: pip install 'polars>=1.43.2,<2.2', or name another Python by FLOE_PYTHON",
                    error.message
                ),
            ),
            _ => QueryError::user(error.class, error.message),
        };
    }
    match status.signal() {
        // Polars aborts when an allocation fails; the kernel kills at a container's memory limit.
        Some(signal @ (libc::SIGABRT | libc::SIGKILL | libc::SIGSEGV | libc::SIGBUS)) => QueryError::user(
            "ScriptMemory",
            format!(
                "the plan script's process was killed by signal {signal}, most likely out of memory: its limit is {} MiB \
                 (spec.plan.python.memory){}",
                memory_bytes >> 20,
                shown(output)
            ),
        ),
        Some(signal) => QueryError::user(
            "ScriptError",
            format!("the plan script's process was killed by signal {signal}{}", shown(output)),
        ),
        None => QueryError::new(
            Category::User,
            "ScriptError",
            format!("the plan script's process ended with {status} and left no plan{}", shown(output)),
        ),
    }
}

/// The last lines that the script printed, for errors without a better explanation.
fn shown(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("; it printed last:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
}

/// Names the Python whose Polars version is not accepted, so that the user can change it.
fn of_version(error: QueryError, version: &str, python: &Path) -> QueryError {
    if error.class != "UnsupportedVersion" {
        return error;
    }
    QueryError {
        message: format!(
            "Python Polars {} of {} is not accepted: {ACCEPTED}; name another Python by FLOE_PYTHON",
            version.trim(),
            python.display()
        ),
        ..error
    }
}
