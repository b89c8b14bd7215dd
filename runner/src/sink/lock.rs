//! Locks on local targets: a file lock in the staging directory, which the kernel releases when its owner dies.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use floe_storage::path_error;
use floe_wire::error::Result;

const LOCK_FILE: &str = "lock";
/// A staging directory without a lock file is being created or removed, unless it is older than this.
const UNLOCKED_GRACE: Duration = Duration::from_secs(600);

static LOCKS: LazyLock<Mutex<HashMap<PathBuf, File>>> = LazyLock::new(Default::default);

/// Takes the lock of a staging directory for this process. `false`: another process holds it.
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
        // A file system without locks: users must not run two queries on one target at the same time.
        Err(std::fs::TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            locks.insert(staging.to_owned(), file);
            Ok(true)
        }
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whether this process holds the lock of a staging directory.
pub(super) fn is_ours(staging: &Path) -> bool {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner).contains_key(staging)
}

/// Whether no process holds the lock of a staging directory. One without a lock file is being created or removed.
pub(super) fn is_dead(staging: &Path) -> bool {
    if is_ours(staging) {
        return false;
    }
    match File::options().write(true).open(staging.join(LOCK_FILE)) {
        Ok(file) => file.try_lock().is_ok(),
        Err(_) => {
            let age = staging.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            age.is_some_and(|age| age > UNLOCKED_GRACE)
        }
    }
}

pub(super) fn unlock(staging: &Path) {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner).remove(staging);
}
