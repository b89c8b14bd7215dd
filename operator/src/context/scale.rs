//! How many workers a coordinator should have, and which of them to remove first. Pure.

use floe_api::report::{EngineReport, EngineWorker};

/// Add a worker when more than this share of all workers' memory is in use.
const PRESSED_PERCENT: u64 = 80;

/// The limits on the number of workers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub min: u32,
    pub max: u32,
}

/// What queries need of the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Queries that run or wait.
    pub queries: u32,
    /// Number of workers needed for all tasks that run or could run.
    pub tasks: u32,
    /// Workers that take tasks.
    pub ready: u32,
    /// Their memory is almost used up.
    pub is_pressed: bool,
}

impl Load {
    pub fn of(report: &EngineReport) -> Load {
        let taking = || report.workers.iter().filter(|worker| !worker.draining);
        // A draining worker finishes its tasks itself.
        let running: u32 = taking().fold(0, |sum, worker| sum.saturating_add(worker.tasks));
        let sum = |what: fn(&EngineWorker) -> u64| taking().map(what).fold(0u64, u64::saturating_add);
        let (used, limit) = (sum(|worker| worker.memory_bytes), sum(|worker| worker.memory_limit_bytes));
        Load {
            queries: report.queries_running.saturating_add(report.queries_waiting),
            tasks: running.saturating_add(report.tasks_waiting),
            ready: u32::try_from(taking().count()).unwrap_or(u32::MAX),
            is_pressed: limit > 0 && used / 100 > limit / 100 * PRESSED_PERCENT / 100,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.queries == 0
    }
}

/// Number of workers for this load. `is_rested`: the idle timeout has passed, and all workers are to be removed.
pub fn wanted(load: Load, bounds: Bounds, is_rested: bool) -> u32 {
    if load.is_idle() {
        return if is_rested { 0 } else { bounds.min.min(bounds.max) };
    }
    let pressed = if load.is_pressed { load.ready.saturating_add(1) } else { 0 };
    // A query that is still being planned has no tasks yet.
    load.tasks.max(pressed).max(1).max(bounds.min).min(bounds.max.max(1))
}

/// The workers that take tasks, in the order of removal: the least busy first, then those that hold the least.
pub fn first_to_go(report: &EngineReport) -> Vec<&EngineWorker> {
    let mut workers: Vec<&EngineWorker> = report.workers.iter().filter(|worker| !worker.draining).collect();
    workers.sort_by(|a, b| (a.tasks, a.shuffle_bytes, &b.id).cmp(&(b.tasks, b.shuffle_bytes, &a.id)));
    workers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(queries: u32, tasks: u32) -> Load {
        Load { queries, tasks, ready: 2, is_pressed: false }
    }

    #[test]
    fn workers_follow_the_tasks_within_their_bounds() {
        let bounds = Bounds { min: 1, max: 4 };
        assert_eq!(wanted(load(0, 0), bounds, false), 1);
        assert_eq!(wanted(load(0, 0), bounds, true), 0);
        assert_eq!(wanted(load(1, 0), Bounds { min: 0, max: 4 }, true), 1, "one that is planned will need one");
        assert_eq!(wanted(load(3, 3), bounds, false), 3);
        assert_eq!(wanted(load(3, 100), bounds, false), 4);
        assert_eq!(wanted(load(1, 1), Bounds { min: 2, max: 4 }, false), 2);
        assert_eq!(wanted(Load { is_pressed: true, ..load(1, 2) }, bounds, false), 3, "memory is short");
    }

    #[test]
    fn the_idlest_go_first_and_full_memory_is_seen() {
        let worker = |id: &str, tasks, shuffle_bytes, memory_bytes| EngineWorker {
            id: id.into(),
            tasks,
            shuffle_bytes,
            memory_bytes,
            memory_limit_bytes: 1000,
            ..EngineWorker::default()
        };
        let gone = EngineWorker { draining: true, ..worker("gone", 0, 0, 1000) };
        let report = EngineReport {
            queries_running: 1,
            tasks_waiting: 5,
            workers: vec![worker("busy", 1, 0, 900), worker("holds", 0, 9, 850), worker("free", 0, 0, 800), gone],
            ..EngineReport::default()
        };
        let ids: Vec<&str> = first_to_go(&report).into_iter().map(|worker| worker.id.as_str()).collect();
        assert_eq!(ids, ["free", "holds", "busy"]);
        assert_eq!(Load::of(&report), Load { queries: 1, tasks: 6, ready: 3, is_pressed: true });
    }
}
