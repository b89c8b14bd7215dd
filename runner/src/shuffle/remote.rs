//! Outputs in an object store or a shared directory: nothing is lost with a worker. One object per task attempt, under
//! a prefix of the query's own that its coordinator removes at the end.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use floe_storage::Location;
use floe_wire::error::{Category, QueryError, Result};

use super::map::Map;
use super::read::open_path;

/// Where a query's outputs go, and how to get there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remote {
    /// `<uri>/<query>`, without a slash at the end.
    pub prefix: String,
    pub options: floe_storage::Options,
}

/// How to reach the prefixes of running queries: a piece tells only its address.
static KNOWN: LazyLock<RwLock<HashMap<String, Arc<Remote>>>> = LazyLock::new(RwLock::default);

impl Remote {
    pub fn new(uri: &str, query: &str, options: floe_storage::Options) -> Remote {
        Remote { prefix: format!("{}/{query}", uri.trim_end_matches('/')), options }
    }

    /// From now on pieces under the prefix can be read in this process.
    pub fn register(self: &Arc<Self>) {
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(self.prefix.clone(), self.clone());
    }

    pub fn forget(&self) {
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).remove(&self.prefix);
    }

    /// Removes everything of the query on a thread of its own: requests to a store take their time.
    pub fn remove_all_later(self: Arc<Self>) {
        later(move || self.remove_all());
    }

    /// Removes everything of the query. Blocking.
    pub fn remove_all(&self) {
        if let Err(error) = floe_storage::delete_prefix(&self.prefix, &self.options) {
            tracing::warn!("shuffle files of {} stay: {error}", self.prefix);
        }
    }

    /// Copies a finished file there; returns its address.
    pub(super) fn upload(&self, path: &Path, name: &str) -> Result<String> {
        let failed = |error: std::io::Error| QueryError::io(format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let bytes = Bytes::from_owner(Map::new(&file, 0, len as usize).map_err(failed)?);
        let uri = format!("{}/{name}", self.prefix);
        floe_storage::write(&uri, bytes, &self.options)?;
        Ok(uri)
    }

    pub(super) fn remove_later(self: Arc<Self>, uris: Vec<String>) {
        later(move || self.remove(&uris));
    }

    fn remove(&self, uris: &[String]) {
        for uri in uris {
            let removed = match Location::parse(uri) {
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
    }
}

/// Removals that go on, for whoever ends the process.
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

/// Waits for removals that were begun. Blocking.
pub fn finish_removals(limit: Duration) {
    let pending = PENDING.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(PENDING.1.wait_timeout_while(pending, limit, |pending| *pending > 0));
}

/// A range of an object; `None` when it is not there any more.
pub(super) fn read(uri: &str, offset: u64, len: u64) -> Result<Option<Bytes>> {
    let prefix = uri.rsplit_once('/').map(|(prefix, _)| prefix).unwrap_or_default();
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(prefix).cloned();
    let Some(remote) = known else {
        return Err(QueryError::internal(format!("nobody said how to reach {prefix}")));
    };
    let bytes = match Location::parse(uri)? {
        Location::Local(path) => return Ok(open_path(&path, offset, len)),
        Location::Object { root, path } => {
            floe_storage::Store::open(&root, &remote.options)?.read_range(&path, offset..offset + len)
        }
        Location::Http(_) => return Err(QueryError::user("BadSpec", "shuffle.uri: http(s) is for reading only")),
    };
    match bytes {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.category == Category::User => Ok(None),
        Err(error) => Err(error),
    }
}
