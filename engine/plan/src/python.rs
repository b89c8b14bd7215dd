//! Chooses the Python that runs plan scripts, resolves SQL and calls functions: the one in `FLOE_PYTHON`, else
//! `python3` on the PATH if it has a suitable Polars, else Floe's own environment for that Polars release, built once
//! in the cache directory from pinned wheels.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use floe_wire::error::{QueryError, Result};

/// Polars release for scripts and SQL where none is given.
pub const NEWEST: &str = "2.1.0";
/// Polars release for the functions of each client; plans differ by the first two version numbers.
pub const RELEASES: [&str; 4] = ["1.43.2", "1.44.2", "2.0.0", NEWEST];
/// Unpickles functions that were pickled by value, with their code.
const CLOUDPICKLE: &str = "cloudpickle==3.1.3";

/// Packages of Floe's own environment for a release.
pub fn packages(release: &str) -> [String; 3] {
    [format!("polars=={release}"), format!("polars-runtime-32=={release}"), CLOUDPICKLE.to_owned()]
}
/// Time limit for building the environment, and for waiting for another process that builds it.
pub(crate) const MAKE_LIMIT: Duration = Duration::from_secs(600);
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// Which Python is used.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Given by `FLOE_PYTHON` or an option.
    Given(PathBuf),
    /// Search for the first suitable one.
    Found,
}

/// What a Python is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    Script,
    Sql,
    /// Call functions that this Polars release pickled (`2.1`).
    Functions(&'a str),
}

impl From<PathBuf> for Choice {
    fn from(python: PathBuf) -> Self {
        Choice::Given(python)
    }
}

impl From<&str> for Choice {
    fn from(python: &str) -> Self {
        Choice::Given(python.into())
    }
}

impl Choice {
    /// `FLOE_PYTHON`, if set.
    pub fn of_environment() -> Self {
        match std::env::var_os("FLOE_PYTHON").filter(|python| !python.is_empty()) {
            Some(python) => Choice::Given(python.into()),
            None => Choice::Found,
        }
    }

    pub fn find(&self, purpose: Purpose<'_>, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        match (self, purpose) {
            // The given Python may be for scripts of another version: functions need their own release.
            (Choice::Given(python), Purpose::Functions(polars)) => {
                let release = release_of(polars);
                let own = own_directory(release).ok().filter(|own| is_complete(own, release));
                match own {
                    Some(own) if version_of(python).is_none_or(|version| !fits(&version, purpose)) => {
                        Ok(own.join("bin/python"))
                    }
                    _ => Ok(python.clone()),
                }
            }
            (Choice::Given(python), _) => Ok(python.clone()),
            (Choice::Found, _) => {
                let release = match purpose {
                    Purpose::Script | Purpose::Sql => NEWEST,
                    Purpose::Functions(polars) => release_of(polars),
                };
                let own = own_directory(release)?;
                if is_complete(&own, release) {
                    return Ok(own.join("bin/python"));
                }
                let system = PathBuf::from("python3");
                if system_version().is_some_and(|version| fits(&version, purpose)) {
                    return Ok(system);
                }
                make(release, None, say)
            }
        }
    }
}

/// The accepted release for a version, or for its first two numbers.
pub fn release_of(polars: &str) -> &'static str {
    let of_it =
        |release: &&&str| release.strip_prefix(polars).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    RELEASES.iter().find(of_it).copied().unwrap_or(NEWEST)
}

fn fits(version: &str, purpose: Purpose<'_>) -> bool {
    let accepted = ["1.43.2", "1.44.", "2.0.0", "2.1.0"];
    match purpose {
        Purpose::Script => accepted.iter().any(|known| version.starts_with(known)),
        Purpose::Sql => version.starts_with("2.1."),
        Purpose::Functions(polars) => version.strip_prefix(polars).is_some_and(|rest| rest.starts_with('.')),
    }
}

/// Polars version of the PATH's `python3`. Cached per process, because a warm engine asks for every query.
fn system_version() -> Option<String> {
    static FOUND: OnceLock<String> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Some(found.clone());
    }
    // Do not cache a failure: Python may be installed later.
    let found = version_of(Path::new("python3"))?;
    Some(FOUND.get_or_init(|| found).clone())
}

/// Polars version of a Python, read without importing Polars.
fn version_of(python: &Path) -> Option<String> {
    say(python, "import importlib.metadata as m; print(m.version('polars'))").ok()
}

/// Runs code in a Python and returns what it printed.
pub(crate) fn say(python: &Path, code: &str) -> std::io::Result<String> {
    let mut command = Command::new(python);
    let output = output(command.args(["-I", "-c", code]), LOOK_LIMIT)?;
    if !output.status.success() {
        return Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command and returns its output; kills it at the time limit.
fn output(command: &mut Command, limit: Duration) -> std::io::Result<Output> {
    output_unless(command, limit, &|| false)
}

/// The same; also kills it as soon as `unwanted` returns true.
pub(crate) fn output_unless(
    command: &mut Command,
    limit: Duration,
    unwanted: &dyn Fn() -> bool,
) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + limit;
    // The output is far smaller than a pipe's buffer, so reading it after the end does not block the command.
    while child.try_wait()?.is_none() {
        let unwanted = unwanted();
        if unwanted || Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            let late = format!("it did not end within {} s", limit.as_secs());
            return Err(std::io::Error::other(if unwanted { "it is not wanted any more".to_owned() } else { late }));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output()
}

fn error(message: String) -> QueryError {
    QueryError::user("PythonEnvironment", message)
}

/// Directory of Floe's own environment for a release, whether or not it exists.
pub fn own_directory(release: &str) -> Result<PathBuf> {
    Ok(cache()?.join("python").join(format!("polars-{release}")))
}

/// The cache directory.
pub(crate) fn cache() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("FLOE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("floe")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".cache/floe")));
    cache.ok_or_else(|| {
        error(
            "there is no place for Floe's Python environment: set HOME or FLOE_CACHE, or name a Python with Polars 2.1 by \
             FLOE_PYTHON"
                .into(),
        )
    })
}

fn is_complete(dir: &Path, release: &str) -> bool {
    std::fs::read_to_string(dir.join(".complete")).is_ok_and(|text| text == packages(release).join("\n"))
        && dir.join("bin/python").exists()
}

/// Builds Floe's own environment unless it exists, and returns its Python. `wheels` is a directory of wheels to install
/// from, without a package index.
pub fn make(release: &str, wheels: Option<&Path>, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let dir = own_directory(release)?;
    let packages = packages(release);
    let python = dir.join("bin/python");
    if is_complete(&dir, release) {
        return Ok(python);
    }
    let parent = dir.parent().unwrap_or(&dir);
    let cannot = |what: &str, e: std::io::Error| error(format!("cannot {what} {}: {e}", dir.display()));
    std::fs::create_dir_all(parent).map_err(|e| cannot("make the directory of", e))?;
    let lock = File::create(parent.join(format!("polars-{release}.lock"))).map_err(|e| cannot("lock", e))?;
    wait_for(&lock)?;
    if is_complete(&dir, release) {
        return Ok(python);
    }
    say(&format!("floe: making its Python environment in {} (once; {})", dir.display(), packages[0]));
    let mut venv = Command::new("python3");
    run(venv.args(["-m", "venv", "--clear"]).arg(&dir)).map_err(|why| {
        error(format!(
            "scripts, SQL and Python functions need Python 3.10 or newer with venv, and `python3 -m venv {}` failed: {why}; install it \
             (Debian: apt-get install python3-venv), or name a Python with Polars 2.1 by FLOE_PYTHON. Serialized plans \
             (spec.plan.dsl) need no Python",
            dir.display()
        ))
    })?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--only-binary",
        ":all:",
    ]);
    if let Some(wheels) = wheels {
        pip.arg("--no-index").arg("--find-links").arg(wheels);
    }
    run(pip.args(packages.clone())).map_err(|why| {
        error(format!(
            "Polars cannot be installed into {}: {why}\nWithout a package index: `pip download --only-binary :all: {}` \
             where there is one, copy the wheels here, and `floe setup --wheels DIRECTORY`; or name a Python that has \
             Polars {release} by FLOE_PYTHON",
            dir.display(),
            packages.join(" ")
        ))
    })?;
    let stamp = dir.join(".complete");
    File::create(&stamp)
        .and_then(|mut file| file.write_all(packages.join("\n").as_bytes()))
        .map_err(|e| cannot("write to", e))?;
    Ok(python)
}

/// Runs a command to its end; on failure, the error is the last text that it printed.
fn run(command: &mut Command) -> std::result::Result<(), String> {
    ended_well(output(command, MAKE_LIMIT))
}

pub(crate) fn ended_well(output: std::io::Result<Output>) -> std::result::Result<(), String> {
    let output = output.map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let lines: Vec<&str> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(lines[lines.len().saturating_sub(4)..].join("\n"))
}

/// Waits for the lock of a process that is building the environment.
#[allow(unsafe_code)]
pub(crate) fn wait_for(lock: &File) -> Result<()> {
    let deadline = Instant::now() + MAKE_LIMIT;
    loop {
        // SAFETY: a system call on a descriptor that `lock` keeps open.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(error("another process has been making Floe's Python environment for ten minutes".into()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_fit_their_purpose() {
        for (version, script, sql) in [
            ("2.1.0", true, true),
            ("1.44.2", true, false),
            ("2.0.0", true, false),
            ("1.30.0", false, false),
            ("", false, false),
        ] {
            assert_eq!((fits(version, Purpose::Script), fits(version, Purpose::Sql)), (script, sql), "{version}");
        }
    }

    #[test]
    fn failures_are_reported_and_waits_end() {
        let why = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap_err();
        assert_eq!(why, "one\ntwo");
        let begin = Instant::now();
        assert!(output(Command::new("sleep").arg("60"), Duration::from_millis(50)).is_err());
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
