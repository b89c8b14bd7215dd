//! The Python that runs plan scripts, resolves SQL and calls functions: the one that `FLOE_PYTHON` names, else the
//! `python3` of the PATH if it has a Polars that fits, else an environment of Floe's own for each release of Polars, made
//! once in the cache directory from pinned wheels.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use floe_wire::error::{QueryError, Result};

/// The release that scripts and SQL use where none is named.
pub const NEWEST: &str = "2.1.0";
/// The release for functions of each client, whose plans differ by their first two numbers.
pub const RELEASES: [&str; 4] = ["1.43.2", "1.44.2", "2.0.0", NEWEST];
/// Reads functions that were pickled with their code.
const CLOUDPICKLE: &str = "cloudpickle==3.1.3";

/// What Floe's own environment of a release holds.
pub fn packages(release: &str) -> [String; 3] {
    [format!("polars=={release}"), format!("polars-runtime-32=={release}"), CLOUDPICKLE.to_owned()]
}
/// For another process that makes the environment, and for making it.
pub(crate) const MAKE_LIMIT: Duration = Duration::from_secs(600);
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// Which Python is used.
#[derive(Clone, Debug)]
pub enum Choice {
    /// The one that was named.
    Given(PathBuf),
    /// The first that fits.
    Found,
}

/// What a Python is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    Script,
    Sql,
    /// Calling functions that this release of Polars pickled (`2.1`).
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
    /// `FLOE_PYTHON`, if it is set.
    pub fn of_environment() -> Self {
        match std::env::var_os("FLOE_PYTHON").filter(|python| !python.is_empty()) {
            Some(python) => Choice::Given(python.into()),
            None => Choice::Found,
        }
    }

    pub fn find(&self, purpose: Purpose<'_>, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        match (self, purpose) {
            // One that was named for other versions' scripts: functions want their own.
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

/// The accepted release that a version, or its first two numbers, stands for.
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

/// That of the PATH's `python3`, which is asked once in a process: a warm engine asks for every query.
fn system_version() -> Option<String> {
    static FOUND: OnceLock<String> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Some(found.clone());
    }
    // One that is not there may come.
    let found = version_of(Path::new("python3"))?;
    Some(FOUND.get_or_init(|| found).clone())
}

/// The version of Polars that a Python has, without importing it.
fn version_of(python: &Path) -> Option<String> {
    say(python, "import importlib.metadata as m; print(m.version('polars'))").ok()
}

/// What a Python prints that runs this code.
pub(crate) fn say(python: &Path, code: &str) -> std::io::Result<String> {
    let mut command = Command::new(python);
    let output = output(command.args(["-I", "-c", code]), LOOK_LIMIT)?;
    if !output.status.success() {
        return Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a child printed, if it ends in time; else it is killed.
fn output(command: &mut Command, limit: Duration) -> std::io::Result<Output> {
    output_unless(command, limit, &|| false)
}

/// The same, and killed as soon as it is not wanted any more.
pub(crate) fn output_unless(
    command: &mut Command,
    limit: Duration,
    unwanted: &dyn Fn() -> bool,
) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + limit;
    // What it prints is far below what a pipe holds, or is read at the end.
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

/// Where Floe's own environment of a release is, or would be.
pub fn own_directory(release: &str) -> Result<PathBuf> {
    Ok(cache()?.join("python").join(format!("polars-{release}")))
}

/// The directory of what is made once and kept.
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

/// Makes Floe's own environment unless it is there, and gives its Python. `wheels` is a directory of wheels to install
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

/// Runs a command to its end; else why not, by the end of what it printed.
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

/// Waits until no other process makes the environment.
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
    fn what_fails_is_said_and_nothing_waits_for_ever() {
        let why = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap_err();
        assert_eq!(why, "one\ntwo");
        let begin = Instant::now();
        assert!(output(Command::new("sleep").arg("60"), Duration::from_millis(50)).is_err());
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
