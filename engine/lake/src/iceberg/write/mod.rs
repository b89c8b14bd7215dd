//! Writing to Iceberg tables: `prepare` says how files are to be written, `commit` makes them a snapshot of the table.
//!
//! A commit writes manifests and a list, and hands the catalog a change in the terms of the REST protocol. For tables
//! without a catalog, their metadata files take its place (`files`). If another writer was first, the table is loaded
//! again and the snapshot is made anew for its present state. The snapshot carries the query's identity, so a query
//! commits once, whichever attempt at it comes first and whether or not an answer was lost.
//!
//! Tables of the versions 2 and 3 are written. A column that is required in the table is so in `Target::columns`; the
//! writer of files is to refuse nulls in it, and what `Written::bounds` counts is checked here.

mod added;
pub mod catalog;
mod columns;
mod files;
mod list;
mod partition;
mod plan;
mod rewrite;
mod schema;
mod snapshot;
mod state;
mod summary;
#[cfg(test)]
mod tests;
pub mod updates;

use std::time::Duration;

use floe_wire::error::{Category, QueryError, Result};

use crate::iceberg::uri;
use crate::write::{Committed, Request, Store, Target, Written};
use catalog::{Catalog, Change, Outcome};
pub use files::FileCatalog;
use state::{ATTEMPT, State};

/// How often a commit is made for a table that others change.
const ATTEMPTS: u32 = 10;
/// How often a change is sent whose outcome is not known.
const SENDS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Checks a request against the table at a root directory, and says how its files are to be written. Changes nothing.
pub fn prepare(store: &dyn Store, root: &str, request: &Request) -> Result<Target> {
    prepare_in(&FileCatalog::new(store, root), request)
}

/// Makes files that are complete part of the table, once.
pub fn commit(store: &dyn Store, target: &Target, request: &Request, written: &[Written]) -> Result<Committed> {
    commit_in(store, &FileCatalog::new(store, &target.root), target, request, written)
}

/// `prepare` for a table of a catalog.
pub fn prepare_in(catalog: &dyn Catalog, request: &Request) -> Result<Target> {
    Ok(plan::of(catalog, catalog.load()?, request, None)?.target)
}

/// `commit` for a table of a catalog. `store` has its files.
pub fn commit_in(
    store: &dyn Store,
    catalog: &dyn Catalog,
    target: &Target,
    request: &Request,
    written: &[Written],
) -> Result<Committed> {
    for attempt in 0..ATTEMPTS {
        let loaded = catalog.load()?;
        if let Some(loaded) = &loaded
            && let Some(committed) = earlier(
                store,
                &State::parse(&loaded.metadata, &loaded.uri)?,
                &request.query,
                &request.attempt,
                written,
            )?
        {
            return Ok(committed);
        }
        let plan = plan::of(catalog, loaded, request, Some(&target.root))?;
        plan::check(&plan, target, written)?;
        let mut files = Vec::new();
        let made = match snapshot::make(store, &plan, request, written, &mut files) {
            Ok(made) => made,
            Err(error) => {
                remove(store, &files);
                return Err(error);
            }
        };
        match send(catalog, &made.change, made.id) {
            Sent::Done => {
                let files = written.iter().map(|file| file.uri.clone()).collect();
                return Ok(Committed { version: made.id, files, was_committed: false });
            }
            Sent::Refused(error) => {
                remove(store, &files);
                return Err(error);
            }
            // The snapshot may become part of the table yet.
            Sent::Unknown(error) => return Err(error),
            Sent::Conflict => remove(store, &files),
        }
        pause(attempt);
    }
    Err(QueryError::io(format!(
        "the Iceberg table {} was changed by others in each of {ATTEMPTS} attempts to commit to it",
        catalog.name()
    )))
}

/// The commit that this query has made to the table at a root directory, if it has.
pub fn committed(store: &dyn Store, root: &str, query: &str) -> Result<Option<Committed>> {
    committed_in(store, &FileCatalog::new(store, root), query)
}

/// `committed` for a table of a catalog.
pub fn committed_in(store: &dyn Store, catalog: &dyn Catalog, query: &str) -> Result<Option<Committed>> {
    match catalog.load()? {
        Some(loaded) => earlier(store, &State::parse(&loaded.metadata, &loaded.uri)?, query, "", &[]),
        None => Ok(None),
    }
}

/// What the query has committed already.
fn earlier(
    store: &dyn Store,
    state: &State,
    query: &str,
    attempt: &str,
    written: &[Written],
) -> Result<Option<Committed>> {
    let Some(snapshot) = state.committed(query)? else { return Ok(None) };
    let files = snapshot::added_files(store, snapshot)?;
    // The caller removes its files if another attempt was first. Files that are part of the table must not be removed.
    let own = snapshot.summary.get(ATTEMPT).is_some_and(|made| made == attempt)
        && written.iter().all(|file| files.contains(&uri(&file.uri)));
    Ok(Some(Committed { version: snapshot.snapshot_id, files, was_committed: !own }))
}

enum Sent {
    Done,
    Conflict,
    /// Nothing was changed.
    Refused(QueryError),
    Unknown(QueryError),
}

/// Sends a change until it is known what became of it.
fn send(catalog: &dyn Catalog, change: &Change, snapshot: i64) -> Sent {
    let mut unknown = None;
    for attempt in 0..SENDS {
        match catalog.commit(change) {
            Ok(Outcome::Done) => return Sent::Done,
            Ok(Outcome::Conflict) => {
                // It may be this very change that was first, if an answer was lost on the way.
                return match has(catalog, snapshot) {
                    Ok(true) => Sent::Done,
                    Ok(false) => Sent::Conflict,
                    Err(error) => Sent::Unknown(error),
                };
            }
            Err(error) if error.category == Category::User && unknown.is_none() => return Sent::Refused(error),
            // Sent again, which makes nothing twice.
            Err(error) => unknown = Some(error),
        }
        pause(attempt);
    }
    match has(catalog, snapshot) {
        Ok(true) => Sent::Done,
        _ => Sent::Unknown(unknown.unwrap_or_else(|| QueryError::internal("a change was not sent"))),
    }
}

fn has(catalog: &dyn Catalog, snapshot: i64) -> Result<bool> {
    match catalog.load()? {
        Some(loaded) => Ok(State::parse(&loaded.metadata, &loaded.uri)?.has(snapshot)),
        None => Ok(false),
    }
}

/// Removes what no snapshot needs. What cannot be removed is left.
fn remove(store: &dyn Store, files: &[String]) {
    for file in files {
        let _ = store.delete(file);
    }
}

fn pause(attempt: u32) {
    std::thread::sleep(PAUSE.saturating_mul(1 << attempt.min(10)).min(MAX_PAUSE));
}

fn exists() -> QueryError {
    QueryError::user("SinkExists", "it exists; use mode overwrite to replace its rows or append to add to them")
}
