//! Reports the engine's load to the operator, which scales its workers: queries, waiting tasks, and which workers can
//! be removed.

use std::sync::atomic::Ordering;

use floe_api::report::{EngineReport, EngineWorker};

use super::Engine;
use super::registry::Registry;

/// A draining worker can be removed after this many consecutive heartbeats without tasks or outputs: messages sent
/// before draining have arrived by then.
const QUIET_BEATS: u32 = 3;

impl Registry {
    fn report(&self) -> EngineReport {
        let state = self.state();
        let counts = state.cluster.counts();
        let used = state.cluster.used();
        let workers = state.workers.values().map(|(link, draining)| {
            let tasks = used.get(link.id.as_str()).copied().unwrap_or(0);
            EngineWorker {
                id: link.id.clone(),
                tasks,
                memory_bytes: link.memory_bytes.load(Ordering::Relaxed),
                memory_limit_bytes: link.memory_limit_bytes,
                shuffle_bytes: link.shuffle_bytes.load(Ordering::Relaxed),
                draining: *draining,
                drained: *draining && tasks == 0 && link.quiet_beats.load(Ordering::Relaxed) >= QUIET_BEATS,
            }
        });
        let mut workers: Vec<EngineWorker> = workers.collect();
        workers.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        EngineReport {
            queries_running: number(counts.running),
            queries_waiting: number(counts.waiting),
            tasks_waiting: number(counts.tasks_waiting),
            results: 0,
            workers,
        }
    }
}

impl Engine {
    pub(super) fn report(&self) -> EngineReport {
        let kept = self.statuses.all().iter().filter(|status| status.result().is_some()).count();
        EngineReport { results: u32::try_from(kept).unwrap_or(u32::MAX), ..self.registry.report() }
    }
}
