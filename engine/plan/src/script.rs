//! Plan scripts: Python in a child process with a limit on time and memory, an environment of its own, no way to look
//! into ours, and nothing left running afterwards. The Python side is `script_host.py`.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use floe_api::PythonSource;
use floe_api::job::Job;
use serde::Deserialize;
use serde_json::{Value, json};

use super::confine::confine;
use super::{ACCEPTED, Loaded, StorageOptions, decode_at};
use floe_wire::error::{Category, QueryError, Result};

const HOST: &str = include_str!("script_host.py");
/// What tracebacks call the script.
const SCRIPT_NAME: &str = "script.py";
/// Of what a script prints, this much is kept.
const OUTPUT_LIMIT_BYTES: u64 = 64 << 10;
const POLL: Duration = Duration::from_millis(2);
const POLL_MAX: Duration = Duration::from_millis(50);

/// Variables that a Python process needs to start and to write text; everything else stays outside, credentials first.
const PASSED_ON: [&str; 6] = ["PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE"];

pub fn run(source: &PythonSource, job: &Job, storage: &StorageOptions, base: &Path, python: &Path) -> Result<Loaded> {
    let memory_bytes = source.memory.bytes().ok_or_else(|| {
        QueryError::user(
            "BadSpec",
            format!("spec.plan.python.memory is no amount of memory: {}", source.memory.as_str()),
        )
    })?;
    let dir = tempfile::Builder::new().prefix("floe-script-").tempdir().map_err(|e| cannot("make a directory", &e))?;
    let write =
        |name: &str, text: &str| std::fs::write(dir.path().join(name), text).map_err(|e| cannot("write to it", &e));
    write("script_host.py", HOST)?;
    write("script.py", &source.script)?;
    write("request.json", &request(job, storage, base, memory_bytes).to_string())?;

    let mut child = start(python, dir.path())?;
    let output = drain(&mut child);
    let limit = Duration::from_secs(u64::from(source.timeout_seconds));
    let status = wait(&mut child, limit)?;
    let output = output.join().unwrap_or_default();
    if !output.is_empty() {
        tracing::info!(target: "floe::script", output, "the plan script printed");
    }
    let Some(status) = status else {
        return Err(QueryError::user(
            "ScriptTimeout",
            format!(
                "the plan script did not end within {} s (spec.plan.python.timeoutSeconds): it should build the plan, \
                 not run it{}",
                source.timeout_seconds,
                shown(&output)
            ),
        ));
    };
    match std::fs::read(dir.path().join("plan.bin")) {
        Ok(plan) if status.success() => {
            let version = std::fs::read_to_string(dir.path().join("version")).unwrap_or_default();
            decode_at(&plan, storage, Some(base)).map_err(|e| of_version(e, &version, python))
        }
        _ => Err(failure(dir.path(), status, memory_bytes, &output)),
    }
}

fn cannot(what: &str, error: &std::io::Error) -> QueryError {
    QueryError::io(format!("cannot {what} for the plan script: {error}"))
}

fn request(job: &Job, storage: &StorageOptions, base: &Path, memory_bytes: u64) -> Value {
    let tables = job.spec.tables.iter().map(|(name, table)| {
        let format = table.resolved_format().map_or("unknown", |format| format.as_str());
        let own = table.storage.as_deref().map(|_| storage.reveal(&table.uri));
        let default = storage.reveal(&table.uri);
        let options = own.unwrap_or(default);
        (name.clone(), json!({"format": format, "uris": [&table.uri], "options": &table.options, "storage": options}))
    });
    json!({
        "script_name": SCRIPT_NAME,
        "memory_bytes": memory_bytes,
        "base": base,
        "tables": tables.collect::<serde_json::Map<_, _>>(),
        "params": &job.spec.params,
    })
}

fn start(python: &Path, dir: &Path) -> Result<Child> {
    let mut command = Command::new(python);
    command
        .args(["-I", "-B", "-u"])
        .arg(dir.join("script_host.py"))
        .arg(dir)
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        // A home of its own keeps credential files of ours out of reach.
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env("PYTHONIOENCODING", "utf-8")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        // It builds plans; one thread is enough, and stacks of many would count as memory.
        .env("POLARS_MAX_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    confined(&mut command);
    command.spawn().map_err(|e| {
        QueryError::user(
            "ScriptEnvironment",
            format!("cannot start Python ({}): {e}; install it, or name one by FLOE_PYTHON", python.display()),
        )
    })
}

#[allow(unsafe_code)]
fn confined(command: &mut Command) {
    // SAFETY: `confine` makes system calls only, as is wanted between fork and exec.
    unsafe {
        command.pre_exec(confine);
    }
}

/// Reads what the script prints until its pipes close, keeping the end of it. Past the limit it is read and dropped, so
/// that a chatty script is not stopped by a full pipe.
fn drain(child: &mut Child) -> thread::JoinHandle<String> {
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
        child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
    ];
    thread::spawn(move || {
        let readers: Vec<_> =
            pipes.into_iter().flatten().map(|pipe| thread::spawn(move || read_end_of(pipe))).collect();
        let parts: Vec<String> = readers.into_iter().filter_map(|reader| reader.join().ok()).collect();
        parts.iter().map(|part| part.trim_end()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
    })
}

fn read_end_of(mut pipe: impl Read) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut buffer = [0; 8192];
    while let Ok(n @ 1..) = pipe.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..n]);
        if kept.len() as u64 > 2 * OUTPUT_LIMIT_BYTES {
            kept.drain(..kept.len() - OUTPUT_LIMIT_BYTES as usize);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Waits for the child until the limit; `None` past it. Either way its whole process group is gone afterwards.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut pause = POLL;
    let ended = loop {
        if has_ended(child) {
            break true;
        }
        if Instant::now() >= deadline {
            break false;
        }
        thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(POLL_MAX);
    };
    // The child is not reaped yet, so its group's id cannot belong to anyone else.
    kill_group(child);
    let status = child.wait().map_err(|e| cannot("wait", &e))?;
    Ok(ended.then_some(status))
}

/// Whether the child is a zombie by now, without reaping it.
#[allow(unsafe_code)]
fn has_ended(child: &Child) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is valid for writes of a siginfo_t and zeroed, so that si_pid reads 0 when nothing has ended.
    unsafe {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let outcome = libc::waitid(libc::P_PID, child.id(), info.as_mut_ptr(), flags);
        // An error means that there is nothing to wait for.
        outcome != 0 || info.assume_init_ref().si_pid() != 0
    }
}

#[allow(unsafe_code)]
fn kill_group(child: &Child) {
    let Ok(group) = libc::pid_t::try_from(child.id()) else { return };
    // SAFETY: a system call without memory arguments; the group is the one that `start` made for this child.
    unsafe {
        libc::kill(-group, libc::SIGKILL);
    }
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
        // Polars aborts when an allocation fails; the kernel kills past a container's limit.
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

/// The last lines that the script printed, for an error that has nothing better to show.
fn shown(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("; it printed last:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
}

/// A Python whose Polars is not accepted is named, so that it can be changed.
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
