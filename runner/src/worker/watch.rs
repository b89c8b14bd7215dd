//! Watches what the process has allocated, and stops tasks before the kernel stops the process: a task that runs out
//! of memory is told as such, and its worker stays, with the outputs it holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shuffle::Store;
use floe_wire::error::{Category, QueryError};

use super::slots::Slots;

const STEP: Duration = Duration::from_millis(20);
const STEP_IDLE: Duration = Duration::from_millis(200);
/// How long a condemned task may take to let go before the process has to.
const GRACE: Duration = Duration::from_secs(2);
/// The engine spills when it is over its own budget, and that takes a moment.
const PATIENCE: Duration = Duration::from_millis(300);
/// Past the limit by this factor there is no time for patience, …
const HARD_PERCENT: u64 = 115;
/// … and past it by this one none for grace.
const LAST_PERCENT: u64 = 130;

/// Runs on a thread of its own; calls `give_up` when a restart is the only way to get the memory back.
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
                    slots.condemn(task, verdict.clone());
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

/// Allocated by the process, and what its memory-backed files take.
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
