//! Watches the process's memory: has outputs of other queries give way to the tasks that run, and stops tasks before
//! the kernel kills the process. The task fails with an out-of-memory error, while the worker and the outputs it holds
//! survive. What is done when is decided in `pressure`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::shuffle::Store;
use floe_wire::error::{Category, QueryError};

use super::pressure::{Blame, Pressure, Seen, Step, keeps_freed};
use super::slots::Slots;
use super::{cgroup, heap};

const STEP: Duration = Duration::from_millis(20);
const STEP_IDLE: Duration = Duration::from_millis(200);
/// How often the allocator may be asked for freed memory.
const TRIM_EVERY: Duration = Duration::from_millis(500);
/// How often to look whether a cgroup enforces the limit.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause after nothing could be moved to disk.
const STUCK_FOR: Duration = Duration::from_secs(1);

/// Watches on its own thread; calls `give_up` when only a restart can free the memory.
pub fn watch(limit_bytes: u64, store: Arc<Store>, slots: Arc<Slots>, give_up: impl Fn(QueryError) + Send + 'static) {
    let run = move || {
        let mut pressure = Pressure::default();
        let (mut enforced, mut looked): (bool, Option<Instant>) = (false, None);
        let mover = Mover::new(store.clone());
        let mut trimmed = Instant::now();
        loop {
            std::thread::sleep(if slots.idle() { STEP_IDLE } else { STEP });
            if looked.is_none_or(|at| at.elapsed() > LOOK_EVERY) {
                (enforced, looked) =
                    (cgroup::limit_bytes().is_some_and(|limit| limit <= limit_bytes), Some(Instant::now()));
            }
            let running = slots.running();
            let queries: HashSet<&str> = running.iter().map(|task| task.attempt.query.as_str()).collect();
            let in_files = store.usage().memory_bytes;
            let others = if in_files > 0 { store.memory_of(|query| !queries.contains(query)) } else { 0 };
            let seen = Seen {
                limit: limit_bytes,
                used: polars_ooc::estimate_memory_usage() + in_files,
                resident: enforced.then(|| cgroup::anonymous_bytes() + in_files),
                others,
                runs: !running.is_empty(),
                given_up: slots.detached() > 0,
                moving: mover.is_busy(),
            };
            if trimmed.elapsed() > TRIM_EVERY && keeps_freed(&seen) {
                heap::trim();
                trimmed = Instant::now();
            }
            match pressure.step(&seen, Instant::now()) {
                Step::Nothing => {}
                Step::MakeWay(bytes) => mover.start(bytes, queries.into_iter().map(str::to_owned).collect()),
                Step::Stop(blame) => {
                    let verdict = verdict(blame, &seen);
                    running.iter().for_each(|task| slots.stop_with(task, verdict.clone()));
                }
                Step::GiveUp(blame) => {
                    give_up(verdict(blame, &seen));
                    return;
                }
            }
        }
    };
    let started = std::thread::Builder::new().name("floe-memory".into()).spawn(run);
    if let Err(error) = started {
        tracing::warn!("memory is not watched: {error}");
    }
}

/// Memory allocated by the process, plus its memory-backed files.
pub fn used_bytes(store: &Store) -> u64 {
    polars_ooc::estimate_memory_usage() + store.usage().memory_bytes
}

fn verdict(blame: Blame, seen: &Seen) -> QueryError {
    let (used, limit, others) = (seen.used >> 20, seen.limit >> 20, seen.others >> 20);
    match blame {
        Blame::Task => QueryError::new(
            Category::OutOfMemory,
            "OutOfMemory",
            format!("the task needed more memory than the worker has: {used} MiB in use, the limit is {limit} MiB"),
        ),
        Blame::OtherQuery => QueryError::new(
            Category::LostWorker,
            "WorkerCrowded",
            format!(
                "the worker's memory was taken by other queries: {used} MiB in use, the limit is {limit} MiB, with \
                 {others} MiB of other queries' outputs"
            ),
        ),
    }
}

/// Moves outputs to disk on a thread of its own, so that memory is watched meanwhile.
struct Mover {
    store: Arc<Store>,
    busy: Arc<AtomicBool>,
}

impl Mover {
    fn new(store: Arc<Store>) -> Mover {
        Mover { store, busy: Arc::default() }
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Frees memory of queries other than these.
    fn start(&self, bytes: u64, except: HashSet<String>) {
        self.busy.store(true, Ordering::Release);
        let (store, busy) = (self.store.clone(), self.busy.clone());
        let run = move || {
            let moved = store.make_way(bytes, |query| !except.contains(query));
            tracing::debug!(moved, "outputs of other queries made way for a task");
            if moved == 0 {
                std::thread::sleep(STUCK_FOR);
            }
            busy.store(false, Ordering::Release);
        };
        if let Err(error) = std::thread::Builder::new().name("floe-make-way".into()).spawn(run) {
            tracing::warn!("outputs of other queries stay in memory: {error}");
            self.busy.store(false, Ordering::Release);
        }
    }
}
