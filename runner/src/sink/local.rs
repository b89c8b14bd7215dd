//! The commit on a file system: staged files are renamed into place under the protection of a manifest.
//!
//! Everything hidden is in one directory, `.floe-<query>-<target>/` beside the target (inside it when the target is a
//! mount point): staged files, a lock that its coordinator holds, the manifest, and the old files moved aside. Up to
//! the commit point (the manifest is renamed from `commit` to `done`) all can be undone, after it only finished.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Plan, fault, files, lease,
    local_target::{at, bases, existing, follow_link, gone_is_fine, make_directories, root},
    naming::hidden_query,
    staged::{At, Chosen},
};
use floe_storage::path_error;
use floe_wire::error::{QueryError, Result};

const MANIFEST: &str = "commit";
const DONE: &str = "done";
const OLD: &str = "old";

/// What a commit is about to do, written before anything is done. Names are below the root; staged ones below the
/// staging directory.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    new: Vec<New>,
    old: Vec<String>,
    /// Directories that the commit makes, outermost first.
    made: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct New {
    staged: String,
    name: String,
    size: u64,
}

pub(super) fn begin(plan: &mut Plan) -> Result<()> {
    follow_link(plan);
    let root = root(plan)?.to_owned();
    match &plan.file {
        Some(file) if root.join(file).is_dir() => {
            return Err(QueryError::user("IsADirectoryError", format!("{}: is a directory", plan.uri())));
        }
        None if root.exists() && !root.is_dir() => {
            return Err(QueryError::user("NotADirectoryError", format!("{}: is no directory", plan.uri())));
        }
        _ => {}
    }
    // What a dead query left must be undone before the target is looked at.
    let bases = bases(plan, &root)?;
    for base in &bases {
        clear(plan, base)?;
    }
    files::replaced(plan, &existing(plan, &root)?)?;

    let base = bases.last().ok_or_else(|| QueryError::internal("a sink without a place to stage"))?.clone();
    let result = (|| {
        plan.made = if plan.mkdir { make_directories(&base)? } else { Vec::new() };
        let staging = base.join(plan.hidden_name());
        at(&base, fs::create_dir(&staging))?;
        plan.staging = Some(staging.clone());
        if !lease::lock(&staging)? {
            return Err(QueryError::io(format!("{}: the same query is at work there", plan.uri())));
        }
        Ok(())
    })();
    if result.is_err() {
        let _ = abort(plan);
    }
    result
}

/// Removes hidden directories of queries with this target whose coordinator is gone, and those of earlier tries at this
/// query.
fn clear(plan: &Plan, base: &Path) -> Result<()> {
    let Ok(children) = fs::read_dir(base) else { return Ok(()) };
    let (tag, own) = (plan.target_tag(), plan.hidden_name());
    for child in children.flatten() {
        let name = child.file_name().to_string_lossy().into_owned();
        let staging = base.join(&name);
        if hidden_query(&name, &tag).is_none() {
            continue;
        }
        if name == own {
            if lease::is_ours(&staging) {
                return Err(twice(plan));
            }
            if !lease::lock(&staging)? {
                return Err(QueryError::io(format!("{}: the same query is at work there", plan.uri())));
            }
        } else if !lease::is_dead(&staging) || !lease::lock(&staging)? {
            continue;
        }
        tracing::info!(path = %staging.display(), "clearing what an earlier query left");
        undo_or_finish(plan, &staging)?;
    }
    Ok(())
}

/// Two sinks of one plan with the same target: the second would take the first one's files for leftovers.
pub(super) fn twice(plan: &Plan) -> QueryError {
    QueryError::user("BadSink", format!("{}: another sink of this query writes there", plan.uri()))
}

pub(super) fn has_manifest(staging: &Path) -> bool {
    staging.join(MANIFEST).exists() || staging.join(DONE).exists()
}

fn read_manifest(staging: &Path, name: &str) -> Result<Option<Manifest>> {
    let path = staging.join(name);
    match fs::read(&path) {
        Ok(data) => serde_json::from_slice(&data)
            .map(Some)
            .map_err(|error| QueryError::io(format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(path_error(&path, &error)),
    }
}

fn write_manifest(staging: &Path, manifest: &Manifest) -> Result<()> {
    let path = staging.join("commit.new");
    let data = serde_json::to_vec(manifest).map_err(|error| QueryError::internal(error.to_string()))?;
    let mut file = at(&path, fs::File::create(&path))?;
    at(&path, file.write_all(&data).and_then(|()| file.sync_all()))?;
    fault::step()?;
    at(&path, fs::rename(&path, staging.join(MANIFEST)))?;
    sync_directory(staging)
}

fn sync_directory(path: &Path) -> Result<()> {
    at(path, fs::File::open(path).and_then(|directory| directory.sync_all()))
}

pub(super) fn commit(plan: &Plan, chosen: &Chosen) -> Result<()> {
    let root = root(plan)?;
    let staging = plan.staging.as_deref().ok_or_else(|| QueryError::internal("a sink that was not begun"))?;
    if !staging.is_dir() {
        // Committed before: the directory goes last.
        let there = chosen.files.iter().all(|file| is_there(&root.join(&file.name), file.size));
        return if there { Ok(()) } else { Err(QueryError::io(format!("{}: staged files are gone", plan.uri()))) };
    }
    if !lease::lock(staging)? {
        return Err(QueryError::io(format!("{}: the same query is at work there", plan.uri())));
    }
    if let Some(manifest) = read_manifest(staging, DONE)? {
        return clean(plan, staging, &manifest);
    }
    let manifest = match read_manifest(staging, MANIFEST)? {
        Some(manifest) => manifest,
        None => {
            let manifest = decide(plan, root, chosen)?;
            if let [new] = manifest.new.as_slice()
                && manifest.old.iter().all(|old| *old == new.name)
            {
                return rename_one(plan, root, staging, &manifest, new);
            }
            for new in &manifest.new {
                at(&staging.join(&new.staged), fs::metadata(staging.join(&new.staged)))?;
            }
            fault::step()?;
            write_manifest(staging, &manifest)?;
            manifest
        }
    };
    carry_out(root, staging, &manifest)?;
    fault::step()?;
    // The commit point.
    at(staging, fs::rename(staging.join(MANIFEST), staging.join(DONE)))?;
    sync_directory(staging)?;
    clean(plan, staging, &manifest)
}

fn decide(plan: &Plan, root: &Path, chosen: &Chosen) -> Result<Manifest> {
    let mut new = Vec::with_capacity(chosen.files.len());
    for file in &chosen.files {
        let At::Local { path } = &file.at else { return Err(QueryError::internal("a staged file that is not local")) };
        new.push(New { staged: path.clone(), name: file.name.clone(), size: file.size });
    }
    let mut old: BTreeSet<String> = files::replaced(plan, &existing(plan, root)?)?.into_iter().collect();
    old.extend(new.iter().filter(|new| root.join(&new.name).exists()).map(|new| new.name.clone()));
    let mut made: BTreeSet<String> = BTreeSet::new();
    if !root.exists() {
        made.insert(String::new());
    }
    for new in &new {
        let directories = new.name.match_indices('/').map(|(end, _)| &new.name[..end]);
        made.extend(directories.filter(|below| !root.join(below).exists()).map(str::to_owned));
    }
    Ok(Manifest { new, old: old.into_iter().collect(), made: made.into_iter().collect() })
}

fn is_there(path: &Path, size: u64) -> bool {
    path.metadata().is_ok_and(|meta| meta.len() == size)
}

/// One file that replaces nothing but its own name: the rename is the commit.
fn rename_one(plan: &Plan, root: &Path, staging: &Path, manifest: &Manifest, new: &New) -> Result<()> {
    let (from, to) = (staging.join(&new.staged), root.join(&new.name));
    fault::step()?;
    if from.exists() {
        let directory = to.parent().unwrap_or(root);
        at(directory, fs::create_dir_all(directory))?;
        at(&to, fs::rename(&from, &to))?;
        sync_directory(directory)?;
    } else if !is_there(&to, new.size) {
        return Err(QueryError::io(format!("{}: the staged file is gone", plan.uri())));
    }
    fault::step()?;
    clean(plan, staging, manifest)
}

/// Old files aside, new ones into place. Every step may have been done before.
fn carry_out(root: &Path, staging: &Path, manifest: &Manifest) -> Result<()> {
    let aside = staging.join(OLD);
    at(&aside, fs::create_dir_all(&aside))?;
    let in_place: HashSet<&str> =
        manifest.new.iter().filter(|new| !staging.join(&new.staged).exists()).map(|new| new.name.as_str()).collect();
    for (index, name) in manifest.old.iter().enumerate() {
        let (from, to) = (root.join(name), aside.join(index.to_string()));
        if !to.exists() && from.exists() && !in_place.contains(name.as_str()) {
            fault::step()?;
            at(&from, fs::rename(&from, &to))?;
        }
    }
    at(root, fs::create_dir_all(root))?;
    for below in &manifest.made {
        at(root, fs::create_dir_all(root.join(below)))?;
    }
    let mut directories: BTreeSet<PathBuf> = [root.to_owned()].into();
    for new in &manifest.new {
        let (from, to) = (staging.join(&new.staged), root.join(&new.name));
        if from.exists() {
            fault::step()?;
            at(&to, fs::rename(&from, &to))?;
        } else if !is_there(&to, new.size) {
            return Err(QueryError::io(format!("{}: a staged file is gone", to.display())));
        }
        directories.extend(to.parent().map(Path::to_owned));
    }
    directories.iter().try_for_each(|directory| sync_directory(directory))
}

/// After the commit point: old files, directories left empty, and everything hidden.
fn clean(plan: &Plan, staging: &Path, manifest: &Manifest) -> Result<()> {
    let root = root(plan)?;
    fault::step()?;
    // First the rest, last the sign that it is done.
    gone_is_fine(staging, fs::remove_dir_all(staging.join(OLD)))?;
    for old in &manifest.old {
        let mut below = old.as_str();
        while let Some((directory, _)) = below.rsplit_once('/') {
            // Only empty ones go.
            if fs::remove_dir(root.join(directory)).is_err() {
                break;
            }
            below = directory;
        }
    }
    fault::step()?;
    remove(plan, staging);
    Ok(())
}

/// Puts back what a commit had begun, unless it was past the commit point.
fn undo_or_finish(plan: &Plan, staging: &Path) -> Result<()> {
    if let Some(manifest) = read_manifest(staging, DONE)? {
        return clean(plan, staging, &manifest);
    }
    if let Some(manifest) = read_manifest(staging, MANIFEST)? {
        let root = root(plan)?;
        let aside = staging.join(OLD);
        for new in &manifest.new {
            let to = root.join(&new.name);
            // A file of another query would have another size or be among the old ones.
            if !staging.join(&new.staged).exists() && is_there(&to, new.size) {
                gone_is_fine(&to, fs::remove_file(&to))?;
            }
        }
        for (index, name) in manifest.old.iter().enumerate() {
            let (from, to) = (aside.join(index.to_string()), root.join(name));
            if from.exists() {
                at(&to, fs::rename(&from, &to))?;
            }
        }
        for below in manifest.made.iter().rev() {
            let _ = fs::remove_dir(root.join(below));
        }
        // Undone: what is removed below must not be read as a commit under way.
        let path = staging.join(MANIFEST);
        gone_is_fine(&path, fs::remove_file(&path))?;
    }
    remove(plan, staging);
    Ok(())
}

/// Takes a hidden directory away: renamed first, so that no half of it is ever taken for a whole.
pub(super) fn remove(plan: &Plan, staging: &Path) {
    // Still a hidden name of this target, so that the next query on it finds what a crash leaves of it.
    let gone = staging.with_file_name(format!(".floe-{}-{}", uuid::Uuid::new_v4().simple(), plan.target_tag()));
    let path = if fs::rename(staging, &gone).is_ok() { &gone } else { staging };
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), sink = %plan.uri(), %error, "cannot remove a hidden directory");
    }
    lease::unlock(staging);
}

pub(super) fn abort(plan: &Plan) -> Result<()> {
    if let Some(staging) = &plan.staging
        && staging.is_dir()
    {
        if !lease::lock(staging)? {
            return Err(QueryError::io(format!("{}: the same query is at work there", plan.uri())));
        }
        undo_or_finish(plan, staging)?;
    }
    for directory in plan.made.iter().rev() {
        // Only empty ones go.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

/// Finds the query's hidden directories by name, wherever they can be.
pub(super) fn sweep(plan: &Plan) -> Result<()> {
    for base in bases(plan, root(plan)?)? {
        let staging = base.join(plan.hidden_name());
        if staging.is_dir() {
            abort(&Plan { staging: Some(staging), ..plan.clone() })?;
        }
    }
    Ok(())
}
