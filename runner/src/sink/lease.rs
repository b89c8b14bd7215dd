//! Who works on a target: a file that says whether the coordinator which began a commit is still there.
//!
//! Locally that is a file lock, which the kernel gives back when its owner dies. In an object store it is a small
//! object, renewed while the coordinator lives and dead when it was not renewed for a while, or at once when it names
//! a process of this machine that is gone.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use floe_storage::{Store, path_error};
use floe_wire::error::Result;

const LOCK_FILE: &str = "lock";
const RENEW: Duration = Duration::from_secs(20);
/// An object lease older than this (by the store's clock) has no owner.
pub(super) const DEAD_MS: u64 = 90_000;

static LOCKS: LazyLock<Mutex<HashMap<PathBuf, File>>> = LazyLock::new(Default::default);
/// By object: whether the renewals are over. Held while a renewal is under way, so that none comes after the end.
static RENEWALS: LazyLock<Mutex<HashMap<String, Arc<Mutex<bool>>>>> = LazyLock::new(Default::default);

/// Takes the lock of a staging directory and keeps it for this process. `false`: somebody else has it.
pub(super) fn lock(staging: &Path) -> Result<bool> {
    let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    if locks.contains_key(staging) {
        return Ok(true);
    }
    let path = staging.join(LOCK_FILE);
    let failed = |error: std::io::Error| path_error(&path, &error);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            locks.insert(staging.to_owned(), file);
            Ok(true)
        }
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        // A file system without locks: its users must not run two queries on one target at once.
        Err(std::fs::TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whether this process has the lock of a staging directory.
pub(super) fn is_ours(staging: &Path) -> bool {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner).contains_key(staging)
}

/// Whether nobody holds the lock of a staging directory. One without a lock file is being made or removed.
pub(super) fn is_dead(staging: &Path) -> bool {
    if is_ours(staging) {
        return false;
    }
    match File::options().write(true).open(staging.join(LOCK_FILE)) {
        Ok(file) => file.try_lock().is_ok(),
        Err(_) => {
            let age = staging.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            age.is_some_and(|age| age > Duration::from_secs(600))
        }
    }
}

pub(super) fn unlock(staging: &Path) {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner).remove(staging);
}

/// The contents of an object lease.
#[derive(Serialize, Deserialize)]
struct Owner {
    /// Unique for a running system, so that a process id means something.
    machine: String,
    pid: u32,
    started: u64,
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let space = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    format!("{}/{}/{space}", read("/proc/sys/kernel/random/boot_id"), read("/etc/hostname"))
}

/// When a process started, in ticks since boot: its id alone may have been given again.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Writes the lease and renews it until `release`.
pub(super) fn hold(store: &Store, path: &str) -> Result<()> {
    let pid = std::process::id();
    let owner = Owner { machine: machine(), pid, started: started(pid).unwrap_or(0) };
    let data = Bytes::from(serde_json::to_vec(&owner).unwrap_or_default());
    store.put(path, data.clone())?;
    release(store, path);
    let over = Arc::new(Mutex::new(false));
    RENEWALS.lock().unwrap_or_else(PoisonError::into_inner).insert(store_key(store, path), over.clone());
    let (store, path) = (store.clone(), path.to_owned());
    // A thread of its own: it sleeps nearly always and must not hold up requests.
    let renew = move || {
        let step = Duration::from_millis(200);
        let mut waited = Duration::ZERO;
        loop {
            std::thread::sleep(step);
            waited += step;
            let over = over.lock().unwrap_or_else(PoisonError::into_inner);
            if *over {
                return;
            }
            if waited >= RENEW {
                waited = Duration::ZERO;
                if let Err(error) = store.put(&path, data.clone()) {
                    tracing::warn!(%error, "cannot renew the lease of a sink");
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("floe-lease".to_owned())
        .spawn(renew)
        .map(drop)
        .map_err(|error| floe_wire::error::QueryError::io(format!("cannot start a thread: {error}")))
}

/// Whether this process renews the lease.
pub(super) fn is_held(store: &Store, path: &str) -> bool {
    RENEWALS.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&store_key(store, path))
}

fn store_key(store: &Store, path: &str) -> String {
    format!("{}/{path}", store.root())
}

/// Ends the renewals. The object itself goes with the rest of the hidden prefix.
pub(super) fn release(store: &Store, path: &str) {
    let renewal = RENEWALS.lock().unwrap_or_else(PoisonError::into_inner).remove(&store_key(store, path));
    if let Some(over) = renewal {
        *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Whether a lease's owner is on this machine and gone.
pub(super) fn owner_is_gone(data: &[u8]) -> bool {
    let Ok(owner) = serde_json::from_slice::<Owner>(data) else { return false };
    owner.machine == machine() && started(owner.pid) != Some(owner.started)
}

/// As if the process that holds the lease had been killed.
#[cfg(test)]
pub(super) fn die(plan: &super::Plan) {
    if let Some(staging) = &plan.staging {
        unlock(staging);
    }
    if let floe_storage::Location::Object { root, .. } = &plan.root {
        let store = Store::open(root, &plan.storage).unwrap();
        let path = format!("{}/lease", super::object::hidden_prefix(plan).unwrap());
        release(&store, &path);
        let owner = Owner { machine: machine(), pid: 1, started: 1 };
        store.put(&path, serde_json::to_vec(&owner).unwrap().into()).unwrap();
    }
}

/// What a process that ends gives back by itself.
#[cfg(test)]
pub(super) fn die_quietly(plan: &super::Plan) {
    if let Some(staging) = &plan.staging {
        unlock(staging);
    }
}

/// Dead only if its commit did not get through: else it gave back its lease in order.
#[cfg(test)]
pub(super) fn die_or_not(plan: &super::Plan, dead: bool) {
    if dead {
        die(plan);
    }
}
