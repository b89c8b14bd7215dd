//! A plan script runs on the coordinator's host, as the same user. It searches for the coordinator's token and
//! environment in every way open to a process, and must find nothing.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use floe_api::execution::Mode;
use floe_api::job::Job;
use floe_api::{DistributedQuerySpec, PlanSource, PythonSource, Quantity};

use crate::support::*;

const TOKEN: &str = "t0ken-of-the-engine";
const VARIABLE: &str = "s3cret-of-the-pod";

/// Every row of the result is something that the script could read: in its own environment and open files, then in the
/// environment, memory and open files of the coordinator and its workers.
const SPY: &str = r#"
import ctypes, os, re, sys

found = []
secrets = [part + rest for part, rest in ((b"t0ken", b"-of-the-engine"), (b"s3cret", b"-of-the-pod"))]

def read(name, path):
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(1 << 20)
    except OSError:
        return
    found.append(f"{name} {path} can be read, {sum(secret in text for secret in secrets)} secrets are in it")

def look_into(name, pid):
    read(name, f"/proc/{pid}/environ")
    read(name, f"/proc/{pid}/maps")
    for at in ("mem", "auxv"):
        try:
            os.close(os.open(f"/proc/{pid}/{at}", os.O_RDONLY))
            found.append(f"{name}: {at} can be opened")
        except OSError:
            pass
    for descriptor in range(64):
        for look in (os.readlink, os.stat):
            try:
                found.append(f"{name}: descriptor {descriptor} is {look(f'/proc/{pid}/fd/{descriptor}')}")
            except OSError:
                pass
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, None, None) == 0:
        found.append(f"{name}: can be traced")
        libc.ptrace(17, pid, None, None)

own = repr(dict(os.environ)).encode()
found += [f"the variable {secret}" for secret in secrets if secret in own]
with open("/proc/self/environ", "rb") as file:
    own = file.read()
found += [f"the first environment has {secret}" for secret in secrets if secret in own]
allowed = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "HOME", "TMPDIR",
           "PYTHONIOENCODING", "AWS_EC2_METADATA_DISABLED", "POLARS_MAX_THREADS", "RUST_BACKTRACE", "_RJEM_MALLOC_CONF"}
found += [f"the variable {name}" for name in os.environ if name not in allowed]
for descriptor in range(3, 1024):
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        continue
    # Polars and Python open some of their own.
    if not re.match(r"(anon_inode|pipe|socket):|/dev/(null|urandom)", path):
        found.append(f"open: {path}")

# Between the script and the coordinator stands the process that looks after it.
between = os.getppid()
look_into("the process between", between)
with open(f"/proc/{between}/stat") as file:
    parent = int(file.read().rsplit(") ", 1)[1].split()[1])
look_into("coordinator", parent)
workers = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, rest = file.read().rsplit(") ", 1)
    except OSError:
        continue
    if int(rest.split()[1]) == parent and int(pid) != between:
        workers += 1
        look_into(f"worker {pid}", int(pid))
if workers != 2:
    found.append(f"{workers} workers are there, and 2 were expected")
print("spied on", parent, flush=True)
result = pl.LazyFrame({"found": found}, schema={"found": pl.String})
"#;

#[test]
fn a_script_finds_nothing_of_the_coordinators() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let source = PythonSource { script: SPY.into(), timeout_seconds: 60, memory: Some(Quantity::new("2Gi")) };
    let plan = PlanSource { python: Some(source), ..PlanSource::default() };
    let mut job = Job::new("spy", "spy", DistributedQuerySpec { plan, ..DistributedQuerySpec::default() });
    job.spec.execution.mode = Mode::Distributed;
    let file = dir.path().join("job.json");
    std::fs::write(&file, serde_json::to_vec(&job).unwrap()).unwrap();
    // A file that the coordinator inherited from its parent.
    let leaked = dir.path().join("leaked");
    std::fs::write(&leaked, TOKEN).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "exec 9<\"$LEAKED\" && exec \"$@\"", "sh", RUNNER, "coordinator", "--events", "stdout"])
        .args(["--local-workers", "2", "--job"])
        .arg(&file)
        .arg("--scratch")
        .arg(dir.path())
        .env("LEAKED", &leaked)
        .env("FLOE_TOKEN", TOKEN)
        .env("AWS_SECRET_ACCESS_KEY", VARIABLE)
        .env("FLOE_PYTHON", python)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = events.next().unwrap();
    // The test may run as root, which can read what the script cannot: the variable is there, and the token is gone.
    let environment = std::fs::read(format!("/proc/{}/environ", child.id())).unwrap_or_default();
    let is_end = |event: &String| ["\"type\":\"done\"", "\"type\":\"error\""].iter().any(|end| event.contains(end));
    let done = std::iter::once(first).chain(events).find(is_end).unwrap();
    if !environment.is_empty() {
        let has = |secret: &str| environment.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(has(VARIABLE), "the coordinator has no such variable");
        assert!(!has(TOKEN), "the token is in the environment that the coordinator was started with");
    }
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["outcome"]["rows"], 0, "{}", done["outcome"]["table"].as_str().unwrap_or(&done.to_string()));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
