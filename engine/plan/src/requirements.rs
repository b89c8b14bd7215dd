//! Installs the user's packages for the plan's functions: once, with pip, from wheels, into the cache. Function
//! processes import them from there. The interpreter's own packages take precedence.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::python::{self, MAKE_LIMIT, ended_well, output_unless};
use floe_wire::error::{QueryError, Result};

/// File that marks a complete directory and holds the requirements it was installed for.
const STAMP: &str = ".complete";
/// Environment variables that pip needs to find its index.
const PASSED_ON: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "TMPDIR",
];

/// Directory with these packages for this Python; `None` if no packages are required.
pub fn install(python: &Path, requirements: &[String], cancel: &AtomicBool) -> Result<Option<PathBuf>> {
    if requirements.is_empty() {
        return Ok(None);
    }
    let wanted = Wanted { tag: tag(python)?, text: requirements.join("\n") };
    let all = python::cache()?.join("requirements");
    let dir = all.join(wanted.name());
    if wanted.is_in(&dir) {
        return Ok(Some(dir));
    }
    let cannot = |what: &str, e: std::io::Error| error(format!("cannot {what} {}: {e}", dir.display()));
    std::fs::create_dir_all(&all).map_err(|e| cannot("make the directory of", e))?;
    let lock = File::create(all.join(format!("{}.lock", wanted.name()))).map_err(|e| cannot("lock", e))?;
    python::wait_for(&lock)?;
    if wanted.is_in(&dir) {
        return Ok(Some(dir));
    }
    // Install to a temporary directory and rename it, so that a directory in place is always complete.
    let made = tempfile::Builder::new().prefix("new-").tempdir_in(&all).map_err(|e| cannot("make", e))?;
    let file = made.path().join("requirements.txt");
    std::fs::write(&file, wanted.text.clone() + "\n").map_err(|e| cannot("write to", e))?;
    let target = made.path().join("packages");
    let mut pip = pip(python, &target, &file);
    tracing::info!(target: "floe::functions", requirements = wanted.text, "installing the packages of the query's functions");
    ended_well(output_unless(&mut pip, MAKE_LIMIT, &|| cancel.load(Ordering::Relaxed))).map_err(|why| {
        error(format!(
            "the packages of spec.compute.requirements cannot be installed for {}: {why}\nThey come as wheels, from the index \
             that PIP_INDEX_URL names, or from the files that PIP_FIND_LINKS does (spec.compute.env)",
            python.display()
        ))
    })?;
    std::fs::write(target.join(STAMP), wanted.stamp()).map_err(|e| cannot("write to", e))?;
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(|e| cannot("clear", e))?;
    }
    std::fs::rename(&target, &dir).map_err(|e| cannot("move into place", e))?;
    Ok(Some(dir))
}

fn error(message: String) -> QueryError {
    QueryError::user("PythonEnvironment", message)
}

fn pip(python: &Path, target: &Path, file: &Path) -> Command {
    let mut pip = Command::new(python);
    let of_pip = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PIP_"));
    let lower = PASSED_ON.iter().map(|name| name.to_lowercase()).filter(|name| name.ends_with("_proxy"));
    let names = PASSED_ON.iter().map(|name| (*name).to_owned()).chain(lower);
    pip.args(["-I", "-B", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-compile", "--only-binary", ":all:", "--target"])
        .arg(target)
        .arg("-r")
        .arg(file)
        .env_clear()
        .envs(names.filter_map(|name| Some((name.clone(), std::env::var_os(&name)?))))
        .envs(of_pip);
    pip
}

/// Python implementation, version and machine type, which packages must match.
fn tag(python: &Path) -> Result<String> {
    static KNOWN: Mutex<Option<(PathBuf, String)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((of, tag)) = &*known
        && of == python
    {
        return Ok(tag.clone());
    }
    let tag = python::say(python, "import sys, platform; print(sys.implementation.cache_tag, platform.machine())")
        .map_err(|e| error(format!("cannot start Python ({}) for the query's functions: {e}", python.display())))?;
    *known = Some((python.to_owned(), tag.clone()));
    Ok(tag)
}

struct Wanted {
    tag: String,
    text: String,
}

impl Wanted {
    fn stamp(&self) -> String {
        format!("{}\n{}", self.tag, self.text)
    }

    /// Directory name. If two sets hash to the same name, the stamp differs and the later one replaces the other.
    fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.stamp().hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    fn is_in(&self, dir: &Path) -> bool {
        std::fs::read_to_string(dir.join(STAMP)).is_ok_and(|stamp| stamp == self.stamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_differ_by_packages_and_python() {
        let wanted = |tag: &str, text: &str| Wanted { tag: tag.into(), text: text.into() };
        let one = wanted("cpython-311 x86_64", "six==1.17.0");
        assert_eq!(one.name(), wanted("cpython-311 x86_64", "six==1.17.0").name());
        assert_ne!(one.name(), wanted("cpython-312 x86_64", "six==1.17.0").name());
        assert_ne!(one.name(), wanted("cpython-311 x86_64", "six==1.16.0").name());
        let dir = tempfile::tempdir().unwrap();
        assert!(!one.is_in(dir.path()));
        std::fs::write(dir.path().join(STAMP), one.stamp()).unwrap();
        assert!(one.is_in(dir.path()));
        assert!(!wanted("cpython-311 x86_64", "six").is_in(dir.path()));
    }

    #[test]
    fn no_packages_need_no_python() {
        assert_eq!(install(Path::new("/nowhere/python"), &[], &AtomicBool::new(false)).unwrap(), None);
        let missing = install(Path::new("/nowhere/python"), &["six".into()], &AtomicBool::new(false)).unwrap_err();
        assert_eq!(missing.class, "PythonEnvironment");
    }
}
