//! The table of an engine's workers by number, with the addresses of their outputs. Every process receives an entry
//! once, so that an output only needs the worker's number.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use floe_wire::chunk::{OutputId, Shelf, WorkerId};

use super::name::{file_name, url_path};

/// Addresses of one worker's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// `http://host:port`
    pub url: String,
    /// Its directories, for processes on the same file system.
    pub dir: PathBuf,
    pub memory_dir: Option<PathBuf>,
}

impl Peer {
    pub fn url(&self, run: &str, output: OutputId) -> String {
        format!("{}{}", self.url, url_path(run, output))
    }

    pub fn path(&self, run: &str, output: OutputId, shelf: Shelf) -> Option<PathBuf> {
        let dir = match shelf {
            Shelf::Memory => self.memory_dir.as_ref()?,
            Shelf::Disk => &self.dir,
        };
        Some(dir.join(run).join(file_name(output)))
    }
}

#[derive(Debug, Default)]
pub struct Peers {
    known: RwLock<HashMap<WorkerId, Peer>>,
}

impl Peers {
    pub fn insert(&self, worker: WorkerId, peer: Peer) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(worker, peer);
    }

    pub fn remove(&self, worker: WorkerId) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&worker);
    }

    /// `None` for a worker that is gone.
    pub fn get(&self, worker: WorkerId) -> Option<Peer> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&worker).cloned()
    }
}
