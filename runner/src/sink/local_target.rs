//! Lists existing files of a local target, and the possible places of its hidden directories.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Plan;
use floe_storage::{Location, path_error};
use floe_wire::error::{QueryError, Result};

pub(super) fn root(plan: &Plan) -> Result<&Path> {
    plan.root.local_path().ok_or_else(|| QueryError::internal("not a local sink"))
}

/// `fs` calls with the path in their errors. Removing a missing file is no error.
pub(super) fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| path_error(path, &error))
}

pub(super) fn gone_is_fine(path: &Path, result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => at(path, other),
    }
}

/// Follows a link, as opening the file would do; a rename would replace the link.
pub(super) fn follow_link(plan: &mut Plan) {
    let Some(path) = plan.file.as_ref().and_then(|file| Some(plan.root.local_path()?.join(file))) else { return };
    if path.is_symlink()
        && let Ok(real) = path.canonicalize()
        && let Some((root, file)) = Location::Local(real).split()
    {
        plan.root = root;
        plan.file = Some(file);
    }
}

/// Possible places of hidden directories for this target. New ones are created in the last one: beside the target,
/// unless a rename from there would cross file systems or the place is not writable.
pub(super) fn bases(plan: &Plan, root: &Path) -> Result<Vec<PathBuf>> {
    if plan.file.is_some() {
        return Ok(vec![root.to_owned()]);
    }
    let Some(parent) = root.parent() else {
        return Err(QueryError::user("BadSink", format!("{}: cannot be a sink", plan.uri())));
    };
    let mut bases = vec![parent.to_owned()];
    if root.is_dir() && (!same_device(parent, root) || !is_writable(parent)) {
        bases.push(root.to_owned());
    }
    Ok(bases)
}

#[cfg(unix)]
fn same_device(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => a.dev() == b.dev(),
        _ => false,
    }
}

fn is_writable(directory: &Path) -> bool {
    tempfile::Builder::new().prefix(".floe-probe").tempfile_in(directory).is_ok()
}

/// Creates directories; returns those that were missing, outermost first.
pub(super) fn make_directories(path: &Path) -> Result<Vec<PathBuf>> {
    let mut missing: Vec<PathBuf> =
        path.ancestors().take_while(|ancestor| !ancestor.exists()).map(Path::to_owned).collect();
    missing.reverse();
    at(path, fs::create_dir_all(path))?;
    Ok(missing)
}

/// Files below the root, for `files::replaced`: those in the directory and in its `key=value` directories; other
/// directories only by name, `name/`.
pub(super) fn existing(plan: &Plan, root: &Path) -> Result<Vec<String>> {
    if let Some(file) = &plan.file {
        return Ok(if root.join(file).exists() { vec![file.clone()] } else { Vec::new() });
    }
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        let directory = root.join(&below);
        let children = match fs::read_dir(&directory) {
            Ok(children) => children,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(path_error(&directory, &error)),
        };
        for child in children {
            let child = at(&directory, child)?;
            let name = child.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let is_directory = at(&directory, child.file_type())?.is_dir();
            match (is_directory, name.contains('=') || name == "metadata") {
                (true, true) => open.push(format!("{below}{name}/")),
                (true, false) => found.push(format!("{below}{name}/")),
                (false, _) => found.push(format!("{below}{name}")),
            }
        }
    }
    found.sort();
    Ok(found)
}
