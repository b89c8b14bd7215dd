//! The commit in an object store: completes pending uploads, protected by a manifest.
//!
//! Hidden objects are under `.floe-<query>-<target>/` beside the target: the coordinator's lease, and during the commit
//! the manifest of its run. The commit point is the manifest with `done`: before it everything can be undone, after it
//! only completed.
//!
//! A commit begins with a conditional write of the lease; a coordinator that has lost it writes nothing. If it loses
//! the lease half-way, the new owner aborts its uploads, so that it cannot complete them. For this reason small files,
//! which travel to the coordinator, become uploads, too, before the lease is checked.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Mode, Names, Plan, fault, files,
    lease::{self, Whose},
    naming::{HIDDEN, hidden_owner},
    parallel::parallel,
    staged::{At, Chosen, Final},
};
use floe_storage::{Location, Store};
use floe_wire::error::{QueryError, Result};

const LEASE: &str = "lease";
const MANIFEST: &str = "commit";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    done: bool,
    /// Whether names contain the run, so that files can be removed by name.
    own_names: bool,
    new: Vec<Final>,
    /// Names below the root that the commit removes.
    old: Vec<String>,
}

/// A target and its location in the store.
struct Target<'a> {
    plan: &'a Plan,
    store: Store,
    /// Prefix of the files, ending with a slash unless it is the whole bucket.
    prefix: String,
    /// Parent of the hidden prefixes, in the same form.
    beside: String,
}

/// A query with hidden objects for a target.
struct Hidden {
    prefix: String,
    query: String,
    /// Time of the last write of its lease; 0 without one.
    modified_ms: u64,
}

fn with_slash(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}/") }
}

fn lease_of(hidden: &str) -> String {
    format!("{hidden}/{LEASE}")
}

impl<'a> Target<'a> {
    fn open(plan: &'a Plan) -> Result<Target<'a>> {
        let Location::Object { root, path } = &plan.root else { return Err(QueryError::internal("not an object")) };
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let beside = if plan.file.is_some() { path } else { parent };
        Ok(Target {
            plan,
            store: Store::open(root, &plan.storage)?,
            prefix: with_slash(path),
            beside: with_slash(beside),
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn hidden(&self) -> String {
        format!("{}{}", self.beside, self.plan.hidden_prefix())
    }

    /// The manifest of this run.
    fn manifest_path(&self) -> String {
        format!("{}/{MANIFEST}-{}", self.hidden(), self.plan.run)
    }

    /// The names of existing files below the root.
    fn existing(&self) -> Result<Vec<String>> {
        if let Some(file) = &self.plan.file {
            return Ok(self.store.head(&self.key(file))?.map(|_| file.clone()).into_iter().collect());
        }
        let entries = self.store.list_text(&self.prefix)?;
        Ok(entries.into_iter().filter_map(|entry| entry.path.strip_prefix(&self.prefix).map(str::to_owned)).collect())
    }

    fn is_there(&self, file: &Final) -> Result<bool> {
        Ok(self.store.head(&self.key(&file.name))?.is_some_and(|entry| entry.size == file.size))
    }

    fn read_manifest(&self, path: &str) -> Result<Option<Manifest>> {
        let Some((data, _)) = self.store.read_version(path)? else { return Ok(None) };
        rmp_serde::from_slice(&data).map(Some).map_err(|error| QueryError::io(format!("{path}: {error}")))
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let data = rmp_serde::to_vec(manifest).map_err(|error| QueryError::internal(error.to_string()))?;
        self.store.put(&self.manifest_path(), Bytes::from(data))
    }

    fn hidden_queries(&self) -> Result<Vec<Hidden>> {
        let tag = self.plan.target_tag();
        let mut found: Vec<Hidden> = Vec::new();
        let start = format!("{}{HIDDEN}", self.beside);
        // Name the target, which the user knows, instead of the hidden prefix.
        let named = |error: QueryError| {
            let shown = Location::Object { root: self.store.root().to_owned(), path: start.clone() }.uri();
            QueryError { message: error.message.replace(&shown, &self.plan.uri()), ..error }
        };
        for entry in self.store.list_text(&start).map_err(named)? {
            let Some((name, file)) = entry.path[self.beside.len()..].split_once('/') else { continue };
            let Some((query, _)) = hidden_owner(name, &tag) else { continue };
            let prefix = format!("{}{name}", self.beside);
            let modified_ms = if file == LEASE { entry.modified_ms } else { 0 };
            match found.iter_mut().find(|other| other.prefix == prefix) {
                Some(known) => known.modified_ms = known.modified_ms.max(modified_ms),
                None => found.push(Hidden { prefix, query, modified_ms }),
            }
        }
        Ok(found)
    }

    /// Whether other queries have hidden objects here.
    fn has_others(&self) -> Result<bool> {
        let own = self.hidden();
        Ok(self.hidden_queries()?.iter().any(|hidden| hidden.prefix != own))
    }

    /// Aborts pending uploads of files whose names start with `names`. Also aborts uploads whose names show no owner,
    /// unless there are `others` that may have made them. Some credentials may write but not list uploads; then a
    /// lifecycle rule of the bucket must remove them.
    fn abort_uploads(&self, names: &str, others: bool) {
        if let Err(error) = self.try_abort_uploads(names, others) {
            tracing::warn!(sink = %self.plan.uri(), %error, "cannot abort pending uploads");
        }
    }

    fn try_abort_uploads(&self, names: &str, others: bool) -> Result<()> {
        let prefix = match &self.plan.file {
            Some(file) => self.key(file),
            None => self.prefix.clone(),
        };
        let anonymous = self.plan.names == Names::Polars || self.plan.file.is_some();
        for pending in self.store.pending_uploads(&prefix)? {
            let name = pending.path.rsplit('/').next().unwrap_or_default();
            let exact = self.plan.file.is_none() || pending.path == prefix;
            if name.starts_with(names) || (anonymous && !others && exact) {
                self.store.abort_upload(&pending.path, &pending.upload)?;
            }
        }
        Ok(())
    }

    /// Undoes the unfinished commits of a query, and completes those past their commit point. Only for the holder of
    /// its lease.
    fn settle(&self, hidden: &str, query: &str, others: bool) -> Result<()> {
        let manifests = self.store.list_text(&format!("{hidden}/{MANIFEST}"))?;
        for path in manifests.into_iter().map(|entry| entry.path) {
            match self.read_manifest(&path)? {
                Some(manifest) if manifest.done => self.remove_old(&manifest)?,
                // Files without the run in their names may have replaced others, which cannot be restored.
                Some(manifest) if !manifest.own_names => {
                    parallel(&manifest.new, |file| self.complete(file).map(drop))?;
                    self.remove_old(&manifest)?;
                }
                Some(manifest) => {
                    for new in &manifest.new {
                        if let At::Upload { id, .. } = &new.at {
                            self.store.abort_upload(&self.key(&new.name), id)?;
                        }
                        self.store.delete(&self.key(&new.name))?;
                    }
                }
                None => {}
            }
            self.store.delete(&path)?;
        }
        self.abort_uploads(&format!("part-{query}-"), others);
        Ok(())
    }

    /// Removes the lease first: as long as the manifest exists, cleanup is not done.
    fn remove_hidden(&self) -> Result<()> {
        if let Some(held) = lease::held(&self.store, &lease_of(&self.hidden()), &self.plan.run) {
            held.release(&self.plan.run)?;
        }
        self.store.delete(&self.manifest_path())
    }

    /// Uploads small files, which came with the tasks' reports.
    fn uploaded(&self, files: &[Final]) -> Result<Vec<Final>> {
        parallel(files, |file| {
            let At::Inline { data } = &file.at else { return Ok(file.clone()) };
            let key = self.key(&file.name);
            let id = self.store.start_upload(&key)?;
            let part = self.store.put_part(&key, &id, 0, data.clone())?;
            Ok(Final { at: At::Upload { id, parts: vec![part] }, ..file.clone() })
        })
    }

    /// Completes the upload of a file; returns whether it is visible.
    fn complete(&self, file: &Final) -> Result<bool> {
        let key = self.key(&file.name);
        fault::step()?;
        match &file.at {
            At::Upload { id, parts } => Ok(self.store.complete_upload(&key, id, parts)? || self.is_there(file)?),
            At::Inline { .. } | At::Local { .. } | At::Written => {
                Err(QueryError::internal("a staged file that is no upload"))
            }
        }
    }

    fn complete_all(&self, files: &[Final]) -> Result<()> {
        parallel(files, |file| match self.complete(file)? {
            true => Ok(()),
            false => Err(QueryError::io(format!("{}: an upload is gone", self.plan.root.join(&file.name).uri()))),
        })
        .map(drop)
    }

    fn remove_old(&self, manifest: &Manifest) -> Result<()> {
        let new: HashSet<&str> = manifest.new.iter().map(|file| file.name.as_str()).collect();
        let old: Vec<&String> = manifest.old.iter().filter(|name| !new.contains(name.as_str())).collect();
        parallel(&old, |name| {
            fault::step()?;
            self.store.delete(&self.key(name))
        })
        .map(drop)
    }
}

pub(super) fn begin(plan: &mut Plan) -> Result<()> {
    let target = Target::open(plan)?;
    let hidden = target.hidden();
    let (held, checked) = lease::take(&target.store, &lease_of(&hidden), plan, Whose::Earlier)?;
    let is_new_file = plan.mode == Mode::Error && plan.file.is_some();
    let result = (|| -> Result<()> {
        // Settle the commits of earlier attempts, finished or running.
        target.settle(&hidden, &plan.short_id(), target.has_others()?)?;
        clear(&target, &hidden)?;
        if is_new_file && checked {
            return Ok(());
        }
        files::replaced(plan, &target.existing()?)?;
        match !is_new_file || held.checked()? {
            true => Ok(()),
            false => Err(lease::superseded(plan)),
        }
    })();
    if result.is_err() {
        let _ = target.remove_hidden();
    }
    drop(target);
    if is_new_file && checked {
        // An earlier attempt found no file: if there is one now, that attempt wrote it.
        plan.mode = Mode::Overwrite;
    }
    result
}

/// Undoes or completes commits for this target whose coordinators are gone.
fn clear(target: &Target<'_>, own: &str) -> Result<()> {
    let queries = target.hidden_queries()?;
    // All times are the store's; our own lease was written just now.
    let now = queries.iter().find(|hidden| hidden.prefix == own).map_or(0, |hidden| hidden.modified_ms);
    let others = queries.iter().filter(|hidden| hidden.prefix != own);
    let (dead, alive): (Vec<&Hidden>, Vec<&Hidden>) = others.partition(|hidden| {
        let gone = || target.store.read(&lease_of(&hidden.prefix)).is_ok_and(|data| lease::owner_is_gone(&data));
        hidden.modified_ms.saturating_add(lease::DEAD_MS) < now || gone()
    });
    for hidden in dead {
        tracing::info!(prefix = %hidden.prefix, "clearing what an earlier query left");
        clear_one(target, hidden, !alive.is_empty())?;
    }
    Ok(())
}

fn clear_one(target: &Target<'_>, hidden: &Hidden, others: bool) -> Result<()> {
    let (held, _) = lease::take(&target.store, &lease_of(&hidden.prefix), target.plan, Whose::Anybody)?;
    let settled = target.settle(&hidden.prefix, &hidden.query, others);
    held.release(&target.plan.run)?;
    settled
}

pub(super) fn commit(plan: &Plan, chosen: &Chosen) -> Result<()> {
    let target = Target::open(plan)?;
    let held = lease::held(&target.store, &lease_of(&target.hidden()), &plan.run);
    let mut manifest = match (target.read_manifest(&target.manifest_path())?, held) {
        (Some(manifest), None) => manifest,
        (None, None) => {
            // Committed before: the lease was released.
            for file in &chosen.files {
                if !target.is_there(file)? {
                    return Err(QueryError::io(format!("{}: staged files are gone", plan.uri())));
                }
            }
            return Ok(());
        }
        (Some(manifest), Some(held)) => {
            if !held.is_ours()? {
                return Err(lease::superseded(plan));
            }
            manifest
        }
        (None, Some(held)) => {
            if held.is_committed() {
                return if held.is_ours()? { finish(&target, chosen) } else { Err(lease::superseded(plan)) };
            }
            let new = target.uploaded(&chosen.files)?;
            fault::step()?;
            if !held.is_ours()? {
                return Err(lease::superseded(plan));
            }
            let mut old: BTreeSet<String> = files::replaced(plan, &target.existing()?)?.into_iter().collect();
            if let [file] = new.as_slice() {
                old.remove(&file.name);
                if old.is_empty() {
                    // One request makes a single file visible: no manifest is needed.
                    target.complete_all(&new)?;
                    held.committed();
                    return finish(&target, chosen);
                }
            }
            let own_names = plan.names == Names::Floe && plan.file.is_none();
            let manifest = Manifest { done: false, own_names, new, old: old.into_iter().collect() };
            fault::step()?;
            target.write_manifest(&manifest)?;
            manifest
        }
    };
    if !manifest.done {
        target.complete_all(&manifest.new)?;
        fault::step()?;
        if let Some(held) = lease::held(&target.store, &lease_of(&target.hidden()), &plan.run)
            && !held.is_ours()?
        {
            return Err(lease::superseded(plan));
        }
        // The commit point.
        manifest.done = true;
        target.write_manifest(&manifest)?;
    }
    target.remove_old(&manifest)?;
    finish(&target, chosen)
}

fn finish(target: &Target<'_>, chosen: &Chosen) -> Result<()> {
    fault::step()?;
    for file in &chosen.dropped {
        if let At::Upload { id, .. } = &file.at {
            target.store.abort_upload(&target.key(&file.name), id)?;
        }
    }
    let held = lease::held(&target.store, &lease_of(&target.hidden()), &target.plan.run);
    if held.is_some_and(|held| held.is_ours().unwrap_or(false)) {
        // Late attempts and lost workers have uploads that were never reported.
        target.abort_uploads(&target.plan.own_prefix(), target.has_others()?);
    }
    target.remove_hidden()
}

pub(super) fn is_taken(plan: &Plan) -> Result<bool> {
    let target = Target::open(plan)?;
    let held = lease::held(&target.store, &lease_of(&target.hidden()), &plan.run);
    held.map_or(Ok(false), |held| held.is_ours().map(|ours| !ours))
}

/// Aborts this run only, if another one owns the target now.
pub(super) fn abort(plan: &Plan) -> Result<()> {
    let target = Target::open(plan)?;
    let hidden = target.hidden();
    let Some(held) = lease::held(&target.store, &lease_of(&hidden), &plan.run) else { return Ok(()) };
    if held.is_ours()? {
        target.settle(&hidden, &plan.short_id(), target.has_others()?)?;
    } else {
        target.abort_uploads(&plan.run_prefix(), true);
    }
    target.remove_hidden()
}

/// Removes what all attempts at the query left: their coordinators are gone.
pub(super) fn sweep(plan: &Plan) -> Result<()> {
    let target = Target::open(plan)?;
    let own = target.hidden();
    let queries = target.hidden_queries()?;
    match queries.iter().find(|hidden| hidden.prefix == own) {
        Some(hidden) => clear_one(&target, hidden, queries.len() > 1),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) fn lease_path(plan: &Plan) -> Result<String> {
    Ok(lease_of(&Target::open(plan)?.hidden()))
}
