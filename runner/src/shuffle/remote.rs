//! Stores outputs in an object store or a shared directory, so that none is lost with a worker. One object per task
//! attempt, in the run's own directory, which its coordinator removes at the end. The runs of a query are side by side
//! in the query's directory, so that a late run cannot remove the files of another, and leftovers can be found.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use floe_storage::{self as storage, Location};
use floe_wire::chunk::{OutputId, RunId, Span};
use floe_wire::error::{Category, QueryError, Result};
use serde::{Deserialize, Serialize};

use super::map::Map;
use super::name::file_name;
use super::read::open_path;

/// The directory of a run's outputs, with the options of its store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remote {
    /// `<uri>/<query>/<run>`, without a slash at the end.
    pub prefix: String,
    pub options: floe_storage::Options,
}

impl Remote {
    pub fn new(uri: &str, run: &RunId, options: storage::Options) -> Remote {
        Remote { prefix: format!("{}/{}", of_query(uri, &run.query), run.name()), options }
    }

    /// Removes everything of the run, on a separate thread because requests to a store take time.
    pub fn remove_all_later(self: Arc<Self>) {
        later(move || self.remove_all());
    }

    /// Removes everything of the run, and of no other. Blocks.
    pub fn remove_all(&self) {
        remove(&self.prefix, &self.options);
        self.remove_empty_directories();
    }

    /// In a shared directory, removes the run's and the query's directories if they are empty.
    fn remove_empty_directories(&self) {
        if let Ok(Location::Local(run)) = Location::parse(&self.prefix) {
            let _ = std::fs::remove_dir(&run);
            if let Some(query) = run.parent() {
                let _ = std::fs::remove_dir(query);
            }
        }
    }

    /// Copies a finished file into the store.
    pub(super) fn upload(&self, path: &Path, output: OutputId) -> Result<()> {
        let failed = |error: std::io::Error| QueryError::io(format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let bytes = Bytes::from_owner(Map::new(&file, 0, len as usize).map_err(failed)?);
        storage::write(&self.uri(output), bytes, &self.options)
    }

    /// Reads a range of an output; `None` if it is no longer there.
    pub(super) fn read(&self, output: OutputId, span: Span) -> Result<Option<Bytes>> {
        let bytes = match Location::parse(&self.uri(output))? {
            Location::Local(path) => return Ok(open_path(&path, span)),
            Location::Object { root, path } => {
                let range = span.offset..span.offset + span.len;
                storage::Store::open(&root, &self.options)?.read_range(&path, range)
            }
            Location::Http(_) => return Err(QueryError::user("BadSpec", "shuffle.uri: http(s) is for reading only")),
        };
        match bytes {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.category == Category::User => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn remove_later(self: Arc<Self>, outputs: Vec<OutputId>) {
        later(move || self.remove(&outputs));
    }

    pub(super) fn remove(&self, outputs: &[OutputId]) {
        for uri in outputs.iter().map(|output| self.uri(*output)) {
            let removed = match Location::parse(&uri) {
                Ok(Location::Object { root, path }) => {
                    floe_storage::Store::open(&root, &self.options).and_then(|store| store.delete(&path))
                }
                Ok(Location::Local(path)) => std::fs::remove_file(path).map_err(|e| QueryError::io(e.to_string())),
                Ok(Location::Http(_)) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                tracing::debug!("{uri} stays until the query ends: {error}");
            }
        }
        self.remove_empty_directories();
    }

    fn uri(&self, output: OutputId) -> String {
        format!("{}/{}", self.prefix, file_name(output))
    }
}

/// Removes the outputs of every run of the query. Blocks.
pub fn remove_query(uri: &str, query: &str, options: &storage::Options) {
    remove(&of_query(uri, query), options);
}

fn of_query(uri: &str, query: &str) -> String {
    format!("{}/{query}", uri.trim_end_matches('/'))
}

fn remove(prefix: &str, options: &storage::Options) {
    if let Err(error) = storage::delete_prefix(prefix, options) {
        tracing::warn!("shuffle files of {prefix} stay: {error}");
    }
}

/// Number of running removals; the process waits for them at its end.
static PENDING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

fn later(work: impl FnOnce() + Send + 'static) {
    struct Pending;
    impl Drop for Pending {
        fn drop(&mut self) {
            *PENDING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            PENDING.1.notify_all();
        }
    }
    *PENDING.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    let pending = Pending;
    std::thread::spawn(move || {
        work();
        drop(pending);
    });
}

/// Waits for running removals. Blocks.
pub fn finish_removals(limit: Duration) {
    let pending = PENDING.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(PENDING.1.wait_timeout_while(pending, limit, |pending| *pending > 0));
}
