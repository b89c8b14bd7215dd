//! Manages a worker's scratch: the files it holds for each query, the budgets they count against, and their removal.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use floe_wire::chunk::{OutputId, Shelf, WorkerId};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::StageId;

use super::name::names_directory;
use super::peers::Peer;
use super::remote::Remote;
use super::writer::Writer;

/// Ended queries to remember, so that a late task leaves no file behind.
const ENDED_REMEMBERED: usize = 4096;

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// This worker's own directory; its name must be unique among workers on the same file system.
    pub dir: PathBuf,
    /// A memory-backed directory (of this worker alone too), used first.
    pub memory_dir: Option<PathBuf>,
    pub memory_budget_bytes: u64,
    pub disk_budget_bytes: u64,
    /// Outputs below this size travel in messages.
    pub inline_limit_bytes: usize,
    /// `http://host:port` under which other workers reach this one's files.
    pub base_url: String,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            dir: std::env::temp_dir().join("floe"),
            memory_dir: None,
            memory_budget_bytes: 0,
            disk_budget_bytes: u64::MAX,
            inline_limit_bytes: 32 << 10,
            base_url: String::new(),
        }
    }
}

/// Bytes held now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

#[derive(Debug)]
pub struct Store {
    pub(super) options: StoreOptions,
    memory_used: AtomicU64,
    pub(super) disk_used: AtomicU64,
    state: Mutex<State>,
    /// Held while files move from memory to disk.
    pub(super) moving: Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// This worker's number, once it is known.
    worker: Option<WorkerId>,
    pub queries: HashMap<String, QueryFiles>,
    /// Bytes in memory by query, those of unfinished files and of ended queries included. None is 0.
    pub in_memory: HashMap<String, u64>,
    ended: VecDeque<String>,
}

#[derive(Debug, Default)]
pub(super) struct QueryFiles {
    token: String,
    /// The store that finished outputs go to.
    remote: Option<Arc<Remote>>,
    /// Outputs uploaded there.
    sent: Vec<OutputId>,
    pub files: HashMap<OutputId, Held>,
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub path: PathBuf,
    pub bytes: u64,
    pub shelf: Shelf,
}

impl Store {
    pub fn new(options: StoreOptions) -> Arc<Store> {
        Arc::new(Store {
            options,
            memory_used: AtomicU64::new(0),
            disk_used: AtomicU64::new(0),
            state: Mutex::new(State::default()),
            moving: Mutex::default(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Ignore poisoning: every change of the maps is one insert or remove, so a panic leaves them consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the query; its files are served to requests with the token.
    pub fn start_query(&self, query: &str, token: &str) {
        self.state().queries.entry(query.to_string()).or_default().token = token.to_string();
    }

    /// Sets this worker's number in the table of workers.
    pub fn set_worker(&self, worker: WorkerId) {
        self.state().worker = Some(worker);
    }

    pub(super) fn worker(&self) -> Result<WorkerId> {
        self.state().worker.ok_or_else(|| QueryError::internal("a task ended before its worker had a number"))
    }

    /// Where peers find this worker's outputs.
    pub fn peer(&self) -> Peer {
        let StoreOptions { dir, memory_dir, base_url, .. } = &self.options;
        Peer { url: base_url.clone(), dir: dir.clone(), memory_dir: memory_dir.clone() }
    }

    /// Sends the query's outputs to its shuffle store from now on.
    pub fn send_to(&self, query: &str, remote: &Arc<Remote>) {
        if let Some(files) = self.state().queries.get_mut(query)
            && files.remote.is_none()
        {
            files.remote = Some(remote.clone());
        }
    }

    pub(super) fn remote(&self, query: &str) -> Option<Arc<Remote>> {
        self.state().queries.get(query).and_then(|files| files.remote.clone())
    }

    pub(super) fn sent(&self, query: &str, output: OutputId) {
        if let Some(files) = self.state().queries.get_mut(query) {
            files.sent.push(output);
        }
    }

    /// Creates a writer for the output of one task attempt.
    pub fn create(self: &Arc<Self>, query: &str, output: OutputId) -> Result<Writer> {
        if !names_directory(query) {
            return Err(QueryError::internal(format!("query id {query:?} cannot name a directory")));
        }
        let mut state = self.state();
        if !state.queries.contains_key(query) {
            if state.ended.iter().any(|ended| ended == query) {
                return Err(gone(query));
            }
            state.queries.insert(query.to_string(), QueryFiles::default());
        }
        drop(state);
        Ok(Writer::new(self.clone(), query.to_string(), output))
    }

    /// Drops the outputs of a stage: no later stage needs them.
    pub fn release_stage(&self, query: &str, stage: StageId) {
        let (mut released, mut sent, mut remote) = (Vec::new(), Vec::new(), None);
        if let Some(files) = self.state().queries.get_mut(query) {
            remote = files.remote.clone();
            sent.extend(files.sent.extract_if(.., |output| output.task.stage == stage));
            files.files.retain(|output, held| {
                let keep = output.task.stage != stage;
                if !keep {
                    released.push(held.clone());
                }
                keep
            });
        }
        released.iter().for_each(|held| self.remove(query, held));
        if let (Some(remote), false) = (remote, sent.is_empty()) {
            remote.remove_later(sent);
        }
    }

    /// Drops everything of a query. Open writers remove their files themselves.
    pub fn end_query(&self, query: &str) {
        let mut state = self.state();
        let files = state.queries.remove(query);
        state.ended.push_back(query.to_string());
        if state.ended.len() > ENDED_REMEMBERED {
            state.ended.pop_front();
        }
        drop(state);
        let Some(files) = files else { return };
        if files.files.is_empty() && self.usage() == Usage::default() {
            // The usual case for a small query: it wrote no file, so there is no directory to remove.
            return;
        }
        files.files.values().for_each(|held| self.remove(query, held));
        self.remove_empty(query);
    }

    /// Removes the query's directories.
    pub(super) fn remove_empty(&self, query: &str) {
        for dir in self.dirs() {
            // Succeeds only if empty: an attempt that has not noticed the end may still have its file there.
            let _ = std::fs::remove_dir(dir.join(query));
        }
    }

    pub(super) fn has_ended(&self, query: &str) -> bool {
        !self.state().queries.contains_key(query)
    }

    /// Removes the outputs that this worker sent to shuffle stores, since its coordinator may be gone; none of another
    /// worker.
    pub fn remove_sent(&self) {
        let queries: Vec<_> = self
            .state()
            .queries
            .values_mut()
            .map(|files| (files.remote.clone(), std::mem::take(&mut files.sent)))
            .collect();
        for (remote, sent) in queries {
            if let Some(remote) = remote {
                remote.remove(&sent);
            }
        }
    }

    /// Removes every file when the worker ends.
    pub fn clear(&self) {
        self.state().queries.clear();
        // What is being moved to disk comes to nothing, but leaves its file until it has noticed.
        let _still = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        for dir in self.dirs() {
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    pub fn usage(&self) -> Usage {
        Usage {
            memory_bytes: self.memory_used.load(Ordering::Relaxed),
            disk_bytes: self.disk_used.load(Ordering::Relaxed),
        }
    }

    /// Whether it holds files that other workers may still read.
    pub fn holds_files(&self) -> bool {
        self.state().queries.values().any(|query| !query.files.is_empty())
    }

    fn dirs(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.options.dir.as_path()).chain(self.options.memory_dir.as_deref())
    }

    /// Finds the file of an output for a request with the query's token.
    pub(super) fn find(&self, query: &str, token: &str, output: OutputId) -> Find {
        let state = self.state();
        let Some(files) = state.queries.get(query) else { return Find::Gone };
        if files.token.is_empty() || !same(&files.token, token) {
            return Find::Denied;
        }
        match files.files.get(&output) {
            Some(held) => Find::Here(held.clone()),
            None => Find::Gone,
        }
    }

    /// Registers a finished file; fails if the query has ended meanwhile.
    pub(super) fn keep(&self, query: &str, output: OutputId, held: Held) -> Result<()> {
        match self.state().queries.get_mut(query) {
            Some(files) => {
                files.files.insert(output, held);
                Ok(())
            }
            None => Err(gone(query)),
        }
    }

    pub(super) fn remove(&self, query: &str, held: &Held) {
        let _ = std::fs::remove_file(&held.path);
        match held.shelf {
            Shelf::Memory => self.free_memory(&mut self.state(), query, held.bytes),
            Shelf::Disk => drop(self.disk_used.fetch_sub(held.bytes, Ordering::Relaxed)),
        }
    }

    pub(super) fn count_memory(&self, state: &mut State, query: &str, bytes: u64) {
        *state.in_memory.entry(query.to_string()).or_default() += bytes;
        self.memory_used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn free_memory(&self, state: &mut State, query: &str, bytes: u64) {
        if let Some(used) = state.in_memory.get_mut(query) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                state.in_memory.remove(query);
            }
        }
        self.memory_used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) enum Find {
    Here(Held),
    Denied,
    Gone,
}

fn gone(query: &str) -> QueryError {
    QueryError::new(
        floe_wire::error::Category::Cancelled,
        "QueryEnded",
        format!("query {query} has ended on this worker"),
    )
}

/// Compares tokens in constant time.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}
