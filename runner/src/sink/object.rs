//! The commit in an object store: uploads that were only waiting are completed, under the protection of a manifest.
//!
//! What is hidden lies under `.floe-<query>-<target>/` beside the target: the lease of the coordinator, and during the
//! commit the manifest. Up to the commit point (the manifest says `done`) all can be undone, after it only finished.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Names, Plan, fault, files, lease,
    naming::{HIDDEN, hidden_query},
    staged::{At, Chosen, Final},
};
use floe_storage::{Location, Store};
use floe_wire::error::{QueryError, Result};

const LEASE: &str = "lease";
const MANIFEST: &str = "commit";
/// Requests of a commit that are under way at once.
const AT_ONCE: usize = 8;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    done: bool,
    /// Whether names tell the query (and files can be removed again by name).
    own_names: bool,
    new: Vec<Final>,
    /// Names below the root that the commit removes.
    old: Vec<String>,
}

/// A target and its place in the store.
struct Target<'a> {
    plan: &'a Plan,
    store: Store,
    /// Prefix of the files, with a slash at its end unless it is the whole bucket.
    prefix: String,
    /// Where hidden prefixes are, likewise.
    beside: String,
}

fn with_slash(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}/") }
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
        format!("{}{}", self.beside, self.plan.hidden_name())
    }

    /// Names below the root.
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

    fn read_manifest(&self, hidden: &str) -> Result<Option<Manifest>> {
        let path = format!("{hidden}/{MANIFEST}");
        if self.store.head(&path)?.is_none() {
            return Ok(None);
        }
        let data = self.store.read(&path)?;
        rmp_serde::from_slice(&data).map(Some).map_err(|error| QueryError::io(format!("{path}: {error}")))
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let data = rmp_serde::to_vec(manifest).map_err(|error| QueryError::internal(error.to_string()))?;
        self.store.put(&format!("{}/{MANIFEST}", self.hidden()), Bytes::from(data))
    }

    /// Queries with hidden objects for this target: (hidden prefix, query's short id, time of the lease).
    fn hidden_queries(&self) -> Result<Vec<(String, String, u64)>> {
        let tag = self.plan.target_tag();
        let mut found: Vec<(String, String, u64)> = Vec::new();
        let prefix = format!("{}{HIDDEN}", self.beside);
        // The user asked for the target; the hidden prefix would only puzzle.
        let named = |error: QueryError| {
            let shown = Location::Object { root: self.store.root().to_owned(), path: prefix.clone() }.uri();
            QueryError { message: error.message.replace(&shown, &self.plan.uri()), ..error }
        };
        for entry in self.store.list_text(&prefix).map_err(named)? {
            let Some((name, file)) = entry.path[self.beside.len()..].split_once('/') else { continue };
            let Some(query) = hidden_query(name, &tag) else { continue };
            let hidden = format!("{}{name}", self.beside);
            let time = if file == LEASE { entry.modified_ms } else { 0 };
            match found.iter_mut().find(|(other, ..)| *other == hidden) {
                Some(known) => known.2 = known.2.max(time),
                None => found.push((hidden, query.to_owned(), time)),
            }
        }
        Ok(found)
    }

    /// Aborts uploads of a query. `others`: whether another query may be at work on the target, in which case only
    /// uploads whose names tell the query are touched.
    fn abort_uploads(&self, query: &str, others: bool) -> Result<()> {
        let own = format!("part-{query}-");
        let prefix = match &self.plan.file {
            Some(file) => self.key(file),
            None => self.prefix.clone(),
        };
        let anonymous = self.plan.names == Names::Polars || self.plan.file.is_some();
        for pending in self.store.pending_uploads(&prefix)? {
            let name = pending.path.rsplit('/').next().unwrap_or_default();
            let exact = self.plan.file.is_none() || pending.path == prefix;
            if name.starts_with(&own) || (anonymous && !others && exact) {
                self.store.abort_upload(&pending.path, &pending.upload)?;
            }
        }
        Ok(())
    }

    /// Puts back what a commit had begun, unless it was past the commit point; then removes all that is hidden.
    fn undo_or_finish(&self, hidden: &str, query: &str, others: bool) -> Result<()> {
        match self.read_manifest(hidden)? {
            Some(manifest) if manifest.done || !manifest.own_names => {
                // Files without the query's name in theirs may have replaced others, which cannot be brought back.
                self.carry_out(&manifest)?;
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
        self.abort_forgotten_uploads(query, others);
        self.remove_hidden(hidden)
    }

    /// Some may write but not list uploads; then a lifecycle rule of the bucket has to do it.
    fn abort_forgotten_uploads(&self, query: &str, others: bool) {
        if let Err(error) = self.abort_uploads(query, others) {
            tracing::warn!(sink = %self.plan.uri(), %error, "cannot abort pending uploads");
        }
    }

    /// The manifest goes last: as long as it is there, the rest is not done.
    fn remove_hidden(&self, hidden: &str) -> Result<()> {
        lease::release(&self.store, &format!("{hidden}/{LEASE}"));
        self.store.delete(&format!("{hidden}/{LEASE}"))?;
        self.store.delete(&format!("{hidden}/{MANIFEST}"))
    }

    fn carry_out(&self, manifest: &Manifest) -> Result<()> {
        parallel(&manifest.new, |file| self.complete(file))
    }

    fn complete(&self, file: &Final) -> Result<()> {
        let key = self.key(&file.name);
        fault::step()?;
        match &file.at {
            At::Inline { data } => self.store.put(&key, data.clone()),
            At::Upload { id, parts } => {
                if self.store.complete_upload(&key, id, parts)? || self.is_there(file)? {
                    Ok(())
                } else {
                    Err(QueryError::io(format!("{}: an upload is gone", self.plan.root.join(&file.name).uri())))
                }
            }
            At::Local { .. } | At::Written => Err(QueryError::internal("a staged file that is not in the store")),
        }
    }

    fn remove_old(&self, manifest: &Manifest) -> Result<()> {
        let new: HashSet<&str> = manifest.new.iter().map(|file| file.name.as_str()).collect();
        let old: Vec<&String> = manifest.old.iter().filter(|name| !new.contains(name.as_str())).collect();
        parallel(&old, |name| {
            fault::step()?;
            self.store.delete(&self.key(name))
        })
    }
}

/// Runs all, some at once, and gives the first error.
fn parallel<T: Sync>(items: &[T], run: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let threads = if cfg!(test) { 1 } else { AT_ONCE.min(items.len()) };
    if threads <= 1 {
        return items.iter().try_for_each(run);
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || loop {
        let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) else { return Ok(()) };
        run(item)?;
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let ended = running.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(QueryError::internal("a thread of the commit panicked")))
        });
        let ended: Vec<Result<()>> = ended.collect();
        ended.into_iter().collect()
    })
}

pub(super) fn begin(plan: &mut Plan) -> Result<()> {
    let target = Target::open(plan)?;
    let hidden = target.hidden();
    // Before our own lease is there: what an earlier try at this query left.
    if lease::is_held(&target.store, &format!("{hidden}/{LEASE}")) {
        return Err(super::local::twice(plan));
    }
    let queries = target.hidden_queries()?;
    if queries.iter().any(|(other, ..)| *other == hidden) {
        target.undo_or_finish(&hidden, &plan.short_id(), queries.len() > 1)?;
    }
    lease::hold(&target.store, &format!("{hidden}/{LEASE}"))?;
    let result = (|| {
        clear(&target, &hidden)?;
        files::replaced(plan, &target.existing()?).map(drop)
    })();
    if result.is_err() {
        let _ = target.remove_hidden(&hidden);
    }
    result
}

/// Undoes or finishes queries with this target whose coordinators are gone.
fn clear(target: &Target<'_>, hidden: &str) -> Result<()> {
    let queries = target.hidden_queries()?;
    // Times are all the store's: ours was put just now.
    let now = queries.iter().find(|(other, ..)| other == hidden).map_or(0, |(.., time)| *time);
    let mut dead = Vec::new();
    let mut alive = false;
    for (other, query, time) in &queries {
        if other == hidden {
            continue;
        }
        let lease = format!("{other}/{LEASE}");
        let gone = || target.store.read(&lease).is_ok_and(|data| lease::owner_is_gone(&data));
        if time.saturating_add(lease::DEAD_MS) < now || gone() {
            dead.push((other, query));
        } else {
            alive = true;
        }
    }
    for (other, query) in dead {
        tracing::info!(prefix = %other, "clearing what an earlier query left");
        target.undo_or_finish(other, query, alive)?;
    }
    Ok(())
}

pub(super) fn commit(plan: &Plan, chosen: &Chosen) -> Result<()> {
    let target = Target::open(plan)?;
    let hidden = target.hidden();
    let mut manifest = match target.read_manifest(&hidden)? {
        Some(manifest) => manifest,
        None => {
            if target.store.head(&format!("{hidden}/{LEASE}"))?.is_none() {
                // Committed before: the lease goes last.
                for file in &chosen.files {
                    if !target.is_there(file)? {
                        return Err(QueryError::io(format!("{}: staged files are gone", plan.uri())));
                    }
                }
                return Ok(());
            }
            let mut old: BTreeSet<String> = files::replaced(plan, &target.existing()?)?.into_iter().collect();
            let own_names = plan.names == Names::Floe && plan.file.is_none();
            if let [file] = chosen.files.as_slice() {
                old.remove(&file.name);
                if old.is_empty() {
                    // One request makes the one file visible: there is nothing to protect.
                    target.complete(file)?;
                    return finish(&target, &hidden, chosen);
                }
            }
            let manifest =
                Manifest { done: false, own_names, new: chosen.files.clone(), old: old.into_iter().collect() };
            fault::step()?;
            target.write_manifest(&manifest)?;
            manifest
        }
    };
    if !manifest.done {
        target.carry_out(&manifest)?;
        fault::step()?;
        // The commit point.
        manifest.done = true;
        target.write_manifest(&manifest)?;
    }
    target.remove_old(&manifest)?;
    finish(&target, &hidden, chosen)
}

fn finish(target: &Target<'_>, hidden: &str, chosen: &Chosen) -> Result<()> {
    fault::step()?;
    for file in &chosen.dropped {
        if let At::Upload { id, .. } = &file.at {
            target.store.abort_upload(&target.key(&file.name), id)?;
        }
    }
    // Attempts that came too late and workers that were lost have uploads nobody told of.
    target.abort_forgotten_uploads(&target.plan.short_id(), target.hidden_queries()?.len() > 1);
    target.remove_hidden(hidden)
}

pub(super) fn abort(plan: &Plan) -> Result<()> {
    let target = Target::open(plan)?;
    let hidden = target.hidden();
    let queries = target.hidden_queries()?;
    if queries.iter().any(|(other, ..)| *other == hidden) {
        target.undo_or_finish(&hidden, &plan.short_id(), queries.len() > 1)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn hidden_prefix(plan: &Plan) -> Result<String> {
    Ok(Target::open(plan)?.hidden())
}
