//! Watches the process's memory and stops tasks before the kernel kills the process. The task fails with an
//! out-of-memory error, while the worker and the outputs it holds survive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shuffle::Store;
use floe_wire::error::{Category, QueryError};

use super::slots::Slots;

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

/// Watches on its own thread; calls `give_up` when only a restart can free the memory.
pub fn watch(limit_bytes: u64, store: Arc<Store>, slots: Arc<Slots>, give_up: impl Fn(QueryError) + Send + 'static) {
    let run = move || {
        let (mut over_since, mut condemned): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            std::thread::sleep(if slots.idle() { STEP_IDLE } else { STEP });
            let used = used_bytes(&store);
            let running = slots.running();
            if used <= limit_bytes || running.is_empty() {
                (over_since, condemned) = (None, None);
                continue;
            }
            let over = over_since.get_or_insert_with(Instant::now).elapsed();
            let past = |percent: u64| used / 100 > limit_bytes / 100 * percent / 100;
            if condemned.is_none() && over < PATIENCE && !past(HARD_PERCENT) {
                continue;
            }
            let verdict = out_of_memory(used, limit_bytes);
            let since = *condemned.get_or_insert_with(|| {
                for task in &running {
                    slots.stop_with(task, verdict.clone());
                }
                Instant::now()
            });
            if since.elapsed() > GRACE || past(LAST_PERCENT) {
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
