//! Writing Delta tables: what a table asks of files that are written for it, and the commit that adds them.
//!
//! A query commits exactly once: its commit carries its identity (`txn`), and a query whose identity is in the table
//! commits nothing. Writers agree on an order by creating the file of the next version, which only one can do; the
//! others take up its commit and try again.

mod commit;
mod fit;
mod plan;
mod protocol;
mod schema;
mod state;
mod stats;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod widen;

use bytes::Bytes;

use self::commit::Content;
use self::plan::Plan;
use self::state::{State, commit_uri};
use super::error::no_fit;
use crate::unique;
use crate::write::{Committed, Mode, Request, Store, Target, Written};
use floe_wire::error::{Category, QueryError, Result};

/// How often a commit is tried when others are faster.
const ATTEMPTS: usize = 20;

/// Checks that the rows can be written to the table at this root, and says how. Changes nothing.
pub fn prepare(store: &dyn Store, root: &str, request: &Request) -> Result<Target> {
    let root = root.trim_end_matches('/');
    let state = State::read(store, root, false)?;
    let is_done = state.as_ref().is_some_and(|state| state.applications.contains_key(&application(&request.query)));
    if is_done {
        // An earlier attempt has committed, which this one learns when it commits. The table may have changed since, so
        // the rows are not checked against it: this attempt's files will not be part of it.
        let request = Request { mode: Mode::Append, ..request.clone() };
        return Ok(plan::plan(root, None, &request)?.target);
    }
    Ok(plan::plan(root, state.as_ref(), request)?.target)
}

/// Makes the files part of the table, unless an earlier attempt at the query did so with its own.
pub fn commit(store: &dyn Store, target: &Target, request: &Request, written: &[Written]) -> Result<Committed> {
    let root = target.root.as_str();
    let application = application(&request.query);
    let with_files = request.mode.removes();
    let mut state = State::read(store, root, with_files)?;
    for _ in 0..ATTEMPTS {
        if let Some(state) = &state
            && let Some(done) = earlier(store, root, state, &application, written)?
        {
            return Ok(done);
        }
        let plan = plan::plan(root, state.as_ref(), request)?;
        check_target(root, &plan, target)?;
        let last_ms = match &state {
            Some(state) if commit::has_times(&plan) => Some(state.time_ms(store, root)?),
            _ => None,
        };
        let state_now = state.as_ref();
        let version = state_now.map_or(0, |state| state.version + 1);
        let time_ms = unique::now_ms();
        let content =
            Content { plan: &plan, state: state_now, request, written, time_ms, last_ms, application: &application };
        if create(store, &commit_uri(root, version), commit::text(&content)?.into())? {
            let files = written.iter().map(|file| file.uri.clone()).collect();
            return Ok(Committed { version, files, was_committed: false });
        }
        match &mut state {
            Some(state) => state.advance(store, root)?,
            None => state = State::read(store, root, with_files)?,
        }
    }
    let what = format!("the commit to the Delta table {root} was overtaken by other writers {ATTEMPTS} times");
    Err(QueryError::new(Category::Io, "CommitConflict", format!("{what}; run the query again when fewer write to it")))
}

/// The commit that this query has made, if it has.
pub fn committed(store: &dyn Store, root: &str, query: &str) -> Result<Option<Committed>> {
    let root = root.trim_end_matches('/');
    match State::read(store, root, false)? {
        Some(state) => earlier(store, root, &state, &application(query), &[]),
        None => Ok(None),
    }
}

fn application(query: &str) -> String {
    format!("floe-{query}")
}

/// The commit that the query has made, if it has.
fn earlier(
    store: &dyn Store,
    root: &str,
    state: &State,
    application: &str,
    written: &[Written],
) -> Result<Option<Committed>> {
    let Some(earlier) = state.earlier(store, root, application)? else { return Ok(None) };
    let (version, is_known) = (earlier.version, earlier.files.is_some());
    let files = match earlier.files {
        Some(files) => files,
        // The files are not to be taken for left-overs if they are in the table.
        None => {
            let all = State::read(store, root, true)?.and_then(|state| state.files).unwrap_or_default();
            all.into_iter().map(|file| file.uri).collect()
        }
    };
    // This may be the very attempt that committed, if the answer was lost.
    let is_own = written.iter().any(|file| files.contains(&file.uri));
    let files = match (is_own, is_known) {
        (true, _) => written.iter().map(|file| file.uri.clone()).collect(),
        (false, true) => files,
        (false, false) => Vec::new(),
    };
    Ok(Some(Committed { version, files, was_committed: !is_own }))
}

/// Refuses files that no longer fit, since the table changed after `prepare`.
fn check_target(root: &str, plan: &Plan, target: &Target) -> Result<()> {
    let Target { root: _, data: _, columns, stored, partition, directories, partition_types } = &plan.target;
    let same = *columns == target.columns
        && *stored == target.stored
        && *partition == target.partition
        && *directories == target.directories
        && *partition_types == target.partition_types;
    if same {
        return Ok(());
    }
    Err(no_fit(root, "its columns were changed while the rows were written; run the query again"))
}

/// Creates a commit; false if another one is there. An answer that was lost is looked up.
fn create(store: &dyn Store, uri: &str, text: Bytes) -> Result<bool> {
    match store.create(uri, text.clone()) {
        Ok(true) => Ok(true),
        // A store that asks again after a lost answer finds its own file.
        Ok(false) => Ok(store.read(uri)?.is_some_and(|there| there == text)),
        Err(error) => match store.read(uri) {
            Ok(Some(there)) => Ok(there == text),
            _ => Err(error),
        },
    }
}
