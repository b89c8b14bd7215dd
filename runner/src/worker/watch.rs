//! Watches the process's memory and stops tasks before the kernel kills the process. The task fails with an
//! out-of-memory error, while the worker and the outputs it holds survive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shuffle::Store;
use floe_wire::error::{Category, QueryError};

use super::slots::Slots;
use super::{cgroup, heap};

const STEP: Duration = Duration::from_millis(20);
const STEP_IDLE: Duration = Duration::from_millis(200);
/// How long a stopped task may take to free its memory before the process has to restart.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait for the engine to spill, which it starts at its own, lower budget.
const PATIENCE: Duration = Duration::from_millis(300);
/// Above this share of the limit, do not wait for spilling …
const HARD_PERCENT: u64 = 115;
/// … and above this one, do not wait for tasks to stop.
const LAST_PERCENT: u64 = 130;

/// Where a cgroup enforces the limit, the kernel kills the process before that: stop tasks at this share of it, …
const ENFORCED_PERCENT: u64 = 90;
/// … if this share is allocated. The rest may be freed memory that the allocator has not given back yet.
const ALLOCATED_PERCENT: u64 = 75;
/// Above this share of an enforced limit, ask the allocator for freed memory, if it keeps at least a tenth of the limit, …
const TRIM_PERCENT: u64 = 60;
/// … and this often.
const TRIM_EVERY: Duration = Duration::from_millis(500);
/// How often to look whether a cgroup enforces the limit.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches on its own thread; calls `give_up` when only a restart can free the memory.
pub fn watch(limit_bytes: u64, store: Arc<Store>, slots: Arc<Slots>, give_up: impl Fn(QueryError) + Send + 'static) {
    let run = move || {
        let (mut over_since, mut condemned): (Option<Instant>, Option<Instant>) = (None, None);
        let (mut enforced, mut looked): (bool, Option<Instant>) = (false, None);
        let mut trimmed = Instant::now();
        loop {
            std::thread::sleep(if slots.idle() { STEP_IDLE } else { STEP });
            if looked.is_none_or(|at| at.elapsed() > LOOK_EVERY) {
                (enforced, looked) =
                    (cgroup::limit_bytes().is_some_and(|limit| limit <= limit_bytes), Some(Instant::now()));
            }
            let used = used_bytes(&store);
            let running = slots.running();
            let share = |bytes: u64, percent: u64| bytes / 100 > limit_bytes / 100 * percent / 100;
            let held = if enforced { cgroup::anonymous_bytes() + store.usage().memory_bytes } else { 0 };
            if share(held, TRIM_PERCENT) && held > used + limit_bytes / 10 && trimmed.elapsed() > TRIM_EVERY {
                heap::trim();
                trimmed = Instant::now();
            }
            let near_a_kill = share(used, ALLOCATED_PERCENT) && share(held, ENFORCED_PERCENT);
            if (used <= limit_bytes && !near_a_kill) || running.is_empty() {
                (over_since, condemned) = (None, None);
                continue;
            }
            let over = over_since.get_or_insert_with(Instant::now).elapsed();
            if condemned.is_none() && !near_a_kill && over < PATIENCE && !share(used, HARD_PERCENT) {
                continue;
            }
            let verdict = out_of_memory(used, limit_bytes);
            let since = *condemned.get_or_insert_with(|| {
                for task in &running {
                    slots.stop_with(task, verdict.clone());
                }
                Instant::now()
            });
            if since.elapsed() > GRACE || share(used, LAST_PERCENT) {
                give_up(verdict);
                return;
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

fn out_of_memory(used: u64, limit: u64) -> QueryError {
    let (used, limit) = (used >> 20, limit >> 20);
    QueryError::new(
        Category::OutOfMemory,
        "OutOfMemory",
        format!("the task needed more memory than the worker has: {used} MiB in use, the limit is {limit} MiB"),
    )
}
