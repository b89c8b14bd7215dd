//! The commit on a file system: renames staged files into place, protected by a manifest.
//!
//! Everything hidden is in one directory, `.floe-<query>.<run>-<target>/` beside the target (inside it if the target is
//! a mount point): staged files, a lock held by the coordinator, the manifest, and the old files moved aside. The
//! commit point is the rename of the manifest from `commit` to `done`: before it everything can be undone, after it
//! only completed.
//!
//! A later attempt at the query takes over by renaming the directory of an earlier one: the earlier one then no longer
//! finds its files, and what it had made visible is undone.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Mode, Plan, Run, fault, files, lease,
    local_target::{at, bases, existing, follow_link, gone_is_fine, make_directories, root},
    lock,
    naming::hidden_owner,
    staged::{At, Chosen},
};
use floe_storage::path_error;
use floe_wire::error::{QueryError, Result};

const MANIFEST: &str = "commit";
const DONE: &str = "done";
const OLD: &str = "old";

/// The steps of a commit, written before the first of them. Names are below the root; staged names are below the
/// staging directory.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    new: Vec<New>,
    old: Vec<String>,
    /// Directories that the commit creates, outermost first.
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
    // Undo leftovers of dead queries before checking the target.
    let bases = bases(plan, &root)?;
    let mut is_later = false;
    for base in &bases {
        is_later |= clear(plan, base)?;
    }
    if is_later && plan.mode == Mode::Error && plan.file.is_some() {
        // An earlier attempt found no file: if there is one now, that attempt wrote it.
        plan.mode = Mode::Overwrite;
    }
    files::replaced(plan, &existing(plan, &root)?)?;

    let base = bases.last().ok_or_else(|| QueryError::internal("a sink without a place to stage"))?.clone();
    let result = (|| -> Result<()> {
        plan.made = if plan.mkdir { make_directories(&base)? } else { Vec::new() };
        let staging = base.join(plan.hidden_directory(&plan.run));
        at(&base, fs::create_dir(&staging))?;
        plan.staging = Some(staging.clone());
        lock::lock(&staging).map(drop)
    })();
    if result.is_err() {
        let _ = abort(plan);
    }
    result
}

/// Removes hidden directories for this target of queries whose coordinator is gone, and those of earlier attempts at
/// this query even if they are still running. Returns whether there was an earlier attempt.
fn clear(plan: &Plan, base: &Path) -> Result<bool> {
    let mut is_later = false;
    let Ok(children) = fs::read_dir(base) else { return Ok(false) };
    let (tag, own) = (plan.target_tag(), plan.short_id());
    for child in children.flatten() {
        let name = child.file_name().to_string_lossy().into_owned();
        let staging = base.join(&name);
        let Some((query, run)) = hidden_owner(&name, &tag) else { continue };
        if query == own {
            let attempt = run.map_or(0, |run| run.attempt);
            if attempt == plan.run.attempt && lock::is_ours(&staging) {
                return Err(twice(plan));
            }
            if attempt > plan.run.attempt {
                return Err(lease::superseded(plan));
            }
            is_later |= attempt > 0;
        } else if !lock::is_dead(&staging) {
            continue;
        }
        tracing::info!(path = %staging.display(), "clearing what an earlier query left");
        take_away(plan, &staging)?;
    }
    Ok(is_later)
}

/// Takes a staging directory from its owner, and undoes or completes the commit in it.
fn take_away(plan: &Plan, staging: &Path) -> Result<()> {
    // A name without an owner, so that another process can clear it if this one crashes.
    let taken = staging.with_file_name(plan.hidden_directory(&Run::new(0)));
    match fs::rename(staging, &taken) {
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        renamed => at(staging, renamed)?,
    }
    // Lock it, so that no other query treats it as dead meanwhile. If the former owner still holds the lock, it counts
    // as alive anyway.
    lock::lock(&taken)?;
    undo_or_finish(plan, &taken)
}

/// Two sinks of one plan have the same target: the second would treat the first one's files as leftovers.
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
    let staging = plan.staging.as_deref().ok_or_else(|| QueryError::internal("a sink that was not begun"))?;
    if is_taken(plan) {
        return Err(lease::superseded(plan));
    }
    try_commit(plan, staging, chosen).map_err(|error| if is_taken(plan) { lease::superseded(plan) } else { error })
}

/// A successful commit removes the directory together with its lock. If only the directory is gone, it was taken over.
pub(super) fn is_taken(plan: &Plan) -> bool {
    plan.staging.as_ref().is_some_and(|staging| lock::is_ours(staging) && !staging.is_dir())
}

fn try_commit(plan: &Plan, staging: &Path, chosen: &Chosen) -> Result<()> {
    let root = root(plan)?;
    if !staging.is_dir() {
        // Committed before: the directory is removed last.
        let there = chosen.files.iter().all(|file| is_there(&root.join(&file.name), file.size));
        return if there { Ok(()) } else { Err(QueryError::io(format!("{}: staged files are gone", plan.uri()))) };
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

/// One file that replaces only its own name: the rename is the commit.
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

/// Moves old files aside and new ones into place. Every step may have been done before.
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

/// After the commit point: removes old files, empty directories, and everything hidden.
fn clean(plan: &Plan, staging: &Path, manifest: &Manifest) -> Result<()> {
    let root = root(plan)?;
    fault::step()?;
    // Remove the manifest `done` last.
    gone_is_fine(staging, fs::remove_dir_all(staging.join(OLD)))?;
    for old in &manifest.old {
        let mut below = old.as_str();
        while let Some((directory, _)) = below.rsplit_once('/') {
            // Removes empty directories only.
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

/// Undoes a commit, or completes it if it is past the commit point.
fn undo_or_finish(plan: &Plan, staging: &Path) -> Result<()> {
    if let Some(manifest) = read_manifest(staging, DONE)? {
        return clean(plan, staging, &manifest);
    }
    if let Some(manifest) = read_manifest(staging, MANIFEST)? {
        let root = root(plan)?;
        let aside = staging.join(OLD);
        for new in &manifest.new {
            let (from, to) = (staging.join(&new.staged), root.join(&new.name));
            // Remove it, so that a process that still has the directory open cannot rename it into place later.
            let is_staged = match fs::remove_file(&from) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                removed => at(&from, removed).map(|()| true)?,
            };
            // A file of another query would have another size or be among the old ones.
            if !is_staged && is_there(&to, new.size) {
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
        // Undone: remove the manifest, so that what is left does not look like a running commit.
        let path = staging.join(MANIFEST);
        gone_is_fine(&path, fs::remove_file(&path))?;
    }
    remove(plan, staging);
    Ok(())
}

/// Removes a hidden directory. Renames it first, so that a partly removed one is never used.
pub(super) fn remove(plan: &Plan, staging: &Path) {
    // The new name is still a hidden name of this target, so that the next query finds it after a crash.
    let gone = staging.with_file_name(plan.hidden_directory(&Run::new(0)));
    let path = if fs::rename(staging, &gone).is_ok() { &gone } else { staging };
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), sink = %plan.uri(), %error, "cannot remove a hidden directory");
    }
    lock::unlock(staging);
}

pub(super) fn abort(plan: &Plan) -> Result<()> {
    if let Some(staging) = &plan.staging {
        if staging.is_dir() {
            undo_or_finish(plan, staging)?;
        }
        // Unlock even if another attempt took the directory over.
        lock::unlock(staging);
    }
    for directory in plan.made.iter().rev() {
        // Removes empty directories only.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

/// Finds the query's hidden directories by name, in all possible places and of all attempts.
pub(super) fn sweep(plan: &Plan) -> Result<()> {
    let (tag, own) = (plan.target_tag(), plan.short_id());
    for base in bases(plan, root(plan)?)? {
        for child in fs::read_dir(&base).into_iter().flatten().flatten() {
            if hidden_owner(&child.file_name().to_string_lossy(), &tag).is_some_and(|(query, _)| query == own) {
                take_away(plan, &child.path())?;
            }
        }
    }
    Ok(())
}
