//! Limits on how many queries and pods are at work at once, over all namespaces and in each, and fair shares between the
//! namespaces that wait for the same room. For clusters where nothing else (Kueue, quotas) shares them out. Lost when the
//! operator restarts, and made again from the queries at work.
//!
//! `table` is pure; here are its lock and the waking of those whose turn has come.

mod table;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use floe_api::{DistributedQuery, Phase};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::kueue::build::queue_of;
use crate::pods::Key;
use table::{Claim, Table};
pub use table::{Limits, Share, read};

pub struct Shares {
    limits: Limits,
    /// None until the queries at work are known.
    table: Mutex<Option<Table>>,
    wake: mpsc::UnboundedSender<Key>,
}

impl Shares {
    pub fn new(limits: Limits, wake: mpsc::UnboundedSender<Key>) -> Shares {
        Shares { limits, table: Mutex::default(), wake }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a query may be at work. `may_enter`: whether it asks for a share if it has none. `all` gives the queries of
    /// the cluster once they are known.
    pub fn ask(
        &self,
        query: &DistributedQuery,
        may_enter: bool,
        all: impl FnOnce() -> Option<Vec<DistributedQuery>>,
    ) -> Share {
        if self.limits.are_none() {
            return Share::Free;
        }
        let Some(claim) = claim(query) else { return Share::Free };
        let mut table = self.lock();
        let table = match &mut *table {
            Some(table) => table,
            none => {
                let Some(all) = all() else { return Share::NotYet };
                let at_work = all.iter().filter(|query| is_at_work(query)).filter_map(self::claim);
                none.insert(Table::new(self.limits.clone(), at_work))
            }
        };
        let (share, granted) = table.ask(claim, may_enter);
        self.wake(granted);
        share
    }

    /// The query has ended, or is held: others may have its share.
    pub fn leave(&self, uid: &str) {
        if let Some(table) = &mut *self.lock() {
            self.wake(table.leave(uid));
        }
    }

    fn wake(&self, granted: Vec<Key>) {
        for key in granted {
            // The receiver is gone when the operator stops.
            let _ = self.wake.send(key);
        }
    }
}

/// What a query takes; it is counted with as many workers as it may have.
fn claim(query: &DistributedQuery) -> Option<Claim> {
    let meta = &query.metadata;
    Some(Claim {
        uid: meta.uid.clone()?,
        key: (meta.namespace.clone()?, meta.name.clone()?),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0),
        workers: query.spec.compute.worker_count(),
    })
}

/// Whether these limits are about the query at all: not if a context runs it, or Kueue admits it.
pub fn are_about(query: &DistributedQuery) -> bool {
    let spec = &query.spec;
    spec.compute.context_ref.is_none() && spec.managed_by.is_none() && queue_of(query).is_none()
}

fn is_at_work(query: &DistributedQuery) -> bool {
    let phase = query.status.as_ref().and_then(|status| status.phase);
    let is_started = matches!(phase, Some(Phase::Starting | Phase::Planning | Phase::Running | Phase::Committing));
    are_about(query) && is_started && query.metadata.deletion_timestamp.is_none()
}
