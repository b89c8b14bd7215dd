//! Leases on targets in an object store: a small object that its owner renews while it lives. Every write is
//! conditional on the owner's last version, so that the later of two attempts at a query takes the lease from the
//! earlier one, which notices this before it makes anything visible. An owner is dead if it has not renewed the lease
//! for `DEAD_MS`, or if it was a process of this machine that is gone.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Plan, Run};
use floe_storage::{Store, Version};
use floe_wire::error::{Category, QueryError, Result};

const RENEW: Duration = Duration::from_secs(20);
/// A lease older than this (by the store's clock) has no owner any more.
pub(super) const DEAD_MS: u64 = 90_000;
/// How long an attempt waits for an owner that is done to remove its lease, before it takes it.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Stores delete without conditions. An owner that has not removed its lease this long after it said that it is done leaves
/// it to others: who waits for it will take it, and else the next query there clears it.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);
/// Attempts to take a lease that others write meanwhile: more than fit into `REMOVAL_TIMEOUT`.
const MAX_TRIES: u32 = 100;

/// The contents of a lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Owner {
    #[serde(default)]
    run: Run,
    /// Identifies the boot, the host and the PID namespace in which `pid` is valid.
    machine: String,
    pid: u32,
    started: u64,
    /// The target was found to meet the mode's requirements.
    #[serde(default)]
    checked: bool,
    /// The owner is about to remove it.
    #[serde(default)]
    ended: bool,
    /// Number of writes, so that no two have the same bytes.
    #[serde(default)]
    count: u64,
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let space = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    format!("{}/{}/{space}", read("/proc/sys/kernel/random/boot_id"), read("/etc/hostname"))
}

/// Start time of a process in ticks since boot: its id alone may have been reused.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Owner {
    fn this_process(run: Run) -> Owner {
        let pid = std::process::id();
        Owner {
            run,
            machine: machine(),
            pid,
            started: started(pid).unwrap_or(0),
            checked: false,
            ended: false,
            count: 0,
        }
    }

    fn read(data: &[u8]) -> Option<Owner> {
        serde_json::from_slice(data).ok()
    }

    fn is_gone(&self) -> bool {
        self.machine == machine() && started(self.pid) != Some(self.started)
    }
}

/// Whether the owner of a lease was a process of this machine that is gone.
pub(super) fn owner_is_gone(data: &[u8]) -> bool {
    Owner::read(data).is_some_and(|owner| owner.is_gone())
}

/// The error if another attempt at the query has taken over the target.
pub(super) fn superseded(plan: &Plan) -> QueryError {
    QueryError::new(
        Category::Cancelled,
        "Superseded",
        format!("{}: another attempt at this query has taken the sink over; this one writes nothing there", plan.uri()),
    )
}

/// A lease that this process holds.
pub(super) struct Held {
    store: Store,
    path: String,
    attempt: u32,
    state: Mutex<State>,
}

struct State {
    owner: Owner,
    version: Version,
    /// Another process has taken it.
    lost: bool,
    /// The staged files are visible; only cleanup is left.
    committed: bool,
    /// Renewals have ended.
    over: bool,
}

type Key = (String, String);

static HELD: LazyLock<Mutex<HashMap<Key, Arc<Held>>>> = LazyLock::new(Default::default);

fn all() -> MutexGuard<'static, HashMap<Key, Arc<Held>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(store: &Store, path: &str, run: &Run) -> Key {
    (format!("{}/{path}", store.root()), run.to_string())
}

/// Whose lease may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// That of an earlier attempt at the same query: one with a lower number, or with the same number, from a
    /// coordinator that was restarted.
    Earlier,
    /// Any: its owner is known to be gone.
    Anybody,
}

/// Takes a lease, and renews it until `release`. Returns whether the former owner had checked the target.
pub(super) fn take(store: &Store, path: &str, plan: &Plan, from: Whose) -> Result<(Arc<Held>, bool)> {
    let (place, _) = key(store, path, &plan.run);
    let here = |(other, held): (&Key, &Arc<Held>)| other.0 == place && held.attempt == plan.run.attempt;
    if from == Whose::Earlier && all().iter().any(here) {
        return Err(super::local::twice(plan));
    }
    let patience = Instant::now() + REMOVAL_TIMEOUT;
    for _ in 0..MAX_TRIES {
        let found = store.read_version(path)?;
        let former = found.as_ref().and_then(|(data, _)| Owner::read(data));
        let mut run = plan.run.clone();
        if let Some(former) = &former {
            match from {
                Whose::Earlier if former.run.attempt > run.attempt => return Err(superseded(plan)),
                Whose::Earlier if former.ended && !former.is_gone() && Instant::now() < patience => {
                    std::thread::sleep(Duration::from_millis(200));
                    continue;
                }
                Whose::Earlier => {}
                // Keep the former attempt's number, so that an attempt later than that can take the lease.
                Whose::Anybody => run.attempt = former.run.attempt,
            }
        }
        let (count, checked) = former.map_or((0, false), |former| (former.count, former.checked));
        let owner = Owner { count: count + 1, checked, ..Owner::this_process(run) };
        // If another process was faster, read the lease again.
        if let Some(version) = store.put_if(path, bytes(&owner), found.map(|(_, version)| version).as_ref())? {
            let state = State { owner, version, lost: false, committed: false, over: false };
            let (store, path, attempt) = (store.clone(), path.to_owned(), plan.run.attempt);
            let held = Held { store, path, attempt, state: Mutex::new(state) }.start(&plan.run)?;
            return Ok((held, checked));
        }
    }
    Err(QueryError::io(format!("{}: too many are at the sink at once", plan.uri())))
}

fn bytes(owner: &Owner) -> Bytes {
    Bytes::from(serde_json::to_vec(owner).unwrap_or_default())
}

/// The lease that this process holds for a run.
pub(super) fn held(store: &Store, path: &str, run: &Run) -> Option<Arc<Held>> {
    all().get(&key(store, path, run)).cloned()
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self, run: &Run) -> Result<Arc<Held>> {
        let held = Arc::new(self);
        all().insert(key(&held.store, &held.path, run), held.clone());
        let renewed = held.clone();
        // A thread of its own: it mostly sleeps, and must not wait behind other requests.
        std::thread::Builder::new()
            .name("floe-lease".to_owned())
            .spawn(move || renewed.renew())
            .map_err(|error| QueryError::io(format!("cannot start a thread: {error}")))?;
        Ok(held)
    }

    fn renew(&self) {
        let step = Duration::from_millis(200);
        let mut waited = Duration::ZERO;
        loop {
            std::thread::sleep(step);
            waited += step;
            // Hold the lock during a renewal, so that none is written after the release.
            let mut state = self.state();
            if state.over || state.lost {
                return;
            }
            if waited >= RENEW {
                waited = Duration::ZERO;
                match self.write(&mut state) {
                    Ok(true) => {}
                    Ok(false) => tracing::warn!(path = self.path, "another attempt has taken over the lease of a sink"),
                    Err(error) => tracing::warn!(%error, "cannot renew the lease of a sink"),
                }
            }
        }
    }

    /// Writes the lease again; returns whether it was still ours.
    fn write(&self, state: &mut State) -> Result<bool> {
        if state.lost {
            return Ok(false);
        }
        state.owner.count += 1;
        let written = match self.store.put_if(&self.path, bytes(&state.owner), Some(&state.version))? {
            Some(version) => Some(version),
            // A retried write is refused if the first one succeeded and only its answer was lost: check whether the
            // version is ours.
            None => self.store.read_version(&self.path)?.and_then(|(data, version)| {
                Owner::read(&data).is_some_and(|owner| owner.run == state.owner.run).then_some(version)
            }),
        };
        match written {
            Some(version) => state.version = version,
            None => state.lost = true,
        }
        Ok(!state.lost)
    }

    /// Whether no other process has taken the lease up to now: check before making anything visible.
    pub(super) fn is_ours(&self) -> Result<bool> {
        self.write(&mut self.state())
    }

    /// Records that the target meets the mode's requirements: whatever is found there later was written by the query.
    /// Returns whether the lease is still ours.
    pub(super) fn checked(&self) -> Result<bool> {
        let mut state = self.state();
        state.owner.checked = true;
        self.write(&mut state)
    }

    pub(super) fn committed(&self) {
        self.state().committed = true;
    }

    pub(super) fn is_committed(&self) -> bool {
        self.state().committed
    }

    /// Removes the lease, unless another process has taken it, and ends the renewals.
    pub(super) fn release(&self, run: &Run) -> Result<()> {
        let mut state = self.state();
        state.owner.ended = true;
        let said = Instant::now();
        if self.write(&mut state)? {
            #[cfg(test)]
            tests::stopped();
            self.remove(&state.owner, said)?;
        }
        state.over = true;
        all().remove(&key(&self.store, &self.path, run));
        Ok(())
    }
}

impl Held {
    /// Deletes the lease if it is still as its owner wrote it at `said`, and nobody can have waited long enough to take it.
    fn remove(&self, owner: &Owner, said: Instant) -> Result<()> {
        let found = self.store.read_version(&self.path)?.and_then(|(data, _)| Owner::read(&data));
        let unchanged = found.is_some_and(|found| found.run == owner.run && found.count == owner.count);
        // Looked at last: the process may have been stopped at any point before.
        if unchanged && said.elapsed() < REMOVAL_LIMIT {
            return self.store.delete(&self.path);
        }
        tracing::info!(path = self.path, "the lease of a sink is left to others: it could not be removed in time");
        Ok(())
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

/// Simulates that the process with the lease was killed.
#[cfg(test)]
pub(super) fn die(plan: &Plan) {
    die_quietly(plan);
    if let floe_storage::Location::Object { root, .. } = &plan.root {
        let store = Store::open(root, &plan.storage).unwrap();
        let path = super::object::lease_path(plan).unwrap();
        if let Some(held) = held(&store, &path, &plan.run) {
            held.state().over = true;
        }
        all().remove(&key(&store, &path, &plan.run));
        let owner = Owner { pid: 1, started: 1, ..Owner::this_process(plan.run.clone()) };
        store.put(&path, bytes(&owner)).unwrap();
    }
}

/// Releases what the operating system releases when a process ends.
#[cfg(test)]
pub(super) fn die_quietly(plan: &Plan) {
    if let Some(staging) = &plan.staging {
        super::lock::unlock(staging);
    }
}

/// Simulates a killed process if its commit failed; else it has released its lease properly.
#[cfg(test)]
pub(super) fn die_or_not(plan: &Plan, dead: bool) {
    if dead {
        die(plan);
    }
}
