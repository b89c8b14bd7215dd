//! Records what this process staged, by query, so that a worker can remove it when its coordinator is gone.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use super::{file_size, local, lock, write::Stage};

static STAGED: LazyLock<Mutex<HashMap<String, Vec<Arc<Stage>>>>> = LazyLock::new(Default::default);

pub(super) fn add(query: &str, stage: &Arc<Stage>) {
    let mut staged = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
    staged.entry(query.to_owned()).or_default().push(stage.clone());
}

fn take(query: &str) -> Vec<Arc<Stage>> {
    file_size::forget(query);
    STAGED.lock().unwrap_or_else(PoisonError::into_inner).remove(query).unwrap_or_default()
}

/// Forgets a query that ended, whose staged files are all known to its coordinator.
pub fn forget(query: &str) {
    take(query);
}

/// Removes what tasks of this process staged, including running ones, when the coordinator is gone. A staging directory
/// that no process holds any more is removed as a whole, unless a commit had begun, which the next run on the target
/// undoes.
pub fn abandon(query: &str) {
    for stage in take(query) {
        let staging = stage.plan().staging.clone();
        if staging.as_ref().is_some_and(|staging| local::has_manifest(staging)) {
            continue;
        }
        stage.discard();
        if let Some(staging) = staging
            && lock::is_dead(&staging)
            && !local::has_manifest(&staging)
        {
            local::remove(stage.plan(), &staging);
        }
    }
}
