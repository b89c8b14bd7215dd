//! Calls a function in batches of rows, in several children at once where that pays off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use polars_core::prelude::*;

use super::pace::Pace;
use floe_wire::error::QueryError;

/// Start more children only if at least this much work is left, because starting one takes time.
const MIN_SHARED_WORK: Duration = Duration::from_secs(2);

/// Why the calls stop.
#[derive(Debug)]
pub enum Stop {
    /// The function failed, or the task was cancelled.
    Failed(QueryError),
    /// The output differs from what was declared.
    Wrong(PolarsError),
}

/// Calls the function for the second number of rows, beginning at the first, until the flag is set. Returns the output
/// and the duration.
pub type One<'o> = dyn Fn(usize, usize, &AtomicBool) -> std::result::Result<(Column, Duration), Stop> + Sync + 'o;

struct Work<'w> {
    rows: usize,
    pace: &'w Mutex<Pace>,
    one: &'w One<'w>,
    /// Set when a call has failed, to stop the others.
    failed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: usize,
    parts: Vec<(usize, Column)>,
    stop: Option<Stop>,
}

/// Calls the function for all rows, with batch sizes from `pace`, in at most `children` children.
pub fn paced(
    rows: usize,
    pace: &Mutex<Pace>,
    children: usize,
    one: &One<'_>,
) -> std::result::Result<Vec<Column>, Stop> {
    let work = Work { rows, pace, one, failed: AtomicBool::new(false), state: Mutex::default() };
    std::thread::scope(|scope| {
        let mut helped = children < 2;
        while work.step() {
            if !helped && work.left() >= MIN_SHARED_WORK {
                helped = true;
                for _ in 1..children {
                    let help = || while work.step() {};
                    // If this fails, the current thread does all the work.
                    let _ = std::thread::Builder::new().name("floe-functions".into()).spawn_scoped(scope, help);
                }
            }
        }
    });
    let State { mut parts, stop, .. } = work.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(stop) = stop {
        return Err(stop);
    }
    parts.sort_unstable_by_key(|(from, _)| *from);
    Ok(parts.into_iter().map(|(_, part)| part).collect())
}

/// Calls the function for all rows, in batches of `at_once`, one after another.
pub fn in_turn(rows: usize, at_once: usize, one: &One<'_>) -> std::result::Result<Vec<Column>, Stop> {
    let never = AtomicBool::new(false);
    let call = |from: usize| one(from, at_once.min(rows - from), &never).map(|(part, _)| part);
    (0..rows.max(1)).step_by(at_once).map(call).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work<'_> {
    fn left(&self) -> Duration {
        let left = self.rows - lock(&self.state).next;
        lock(self.pace).expected(left)
    }

    /// Makes the next call; false if nothing is left to do.
    fn step(&self) -> bool {
        let mut state = lock(&self.state);
        if state.stop.is_some() || state.next >= self.rows {
            return false;
        }
        let from = state.next;
        let rows = lock(self.pace).rows().min(self.rows - from);
        state.next += rows;
        drop(state);
        match (self.one)(from, rows, &self.failed) {
            Ok((part, took)) => {
                lock(self.pace).took(rows, took);
                lock(&self.state).parts.push((from, part));
                true
            }
            Err(stop) => {
                let failed = matches!(stop, Stop::Failed(_));
                // Record this error first; the others only fail as a consequence.
                lock(&self.state).stop.get_or_insert(stop);
                if failed {
                    self.failed.store(true, Ordering::Relaxed);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread::ThreadId;

    use super::*;

    type Given = std::result::Result<(Column, Duration), Stop>;

    fn pace() -> Mutex<Pace> {
        Mutex::new(Pace::new(4, Duration::from_secs(600)))
    }

    fn numbers(from: usize, rows: usize) -> Column {
        let rows: Vec<u32> = (from..from + rows).map(|row| row as u32).collect();
        Column::new("n".into(), rows)
    }

    fn joined(parts: Vec<Column>) -> Vec<u32> {
        parts.iter().flat_map(|part| part.u32().unwrap().iter().flatten().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn parts_are_in_order_whichever_child_made_them() {
        for took in [Duration::ZERO, Duration::from_secs(1)] {
            let threads: Mutex<HashSet<ThreadId>> = Mutex::default();
            let one = |from: usize, rows: usize, _: &AtomicBool| -> Given {
                lock(&threads).insert(std::thread::current().id());
                std::thread::sleep(Duration::from_millis(20));
                Ok((numbers(from, rows), took))
            };
            assert_eq!(joined(paced(100, &pace(), 3, &one).unwrap()), (0..100).collect::<Vec<_>>());
            let threads = lock(&threads).len();
            assert_eq!(threads, if took.is_zero() { 1 } else { 3 });
        }
        let one = |from: usize, rows: usize, _: &AtomicBool| -> Given { Ok((numbers(from, rows), Duration::ZERO)) };
        assert_eq!(in_turn(100, 64, &one).unwrap().iter().map(Column::len).collect::<Vec<_>>(), [64, 36]);
        assert_eq!(in_turn(0, 64, &one).unwrap().len(), 1);
    }

    #[test]
    fn a_call_that_fails_ends_the_others() {
        let ended = AtomicBool::new(false);
        let one = |from: usize, rows: usize, failed: &AtomicBool| -> Given {
            if from == 0 {
                return Ok((numbers(from, rows), Duration::from_secs(1)));
            }
            if from > 4 {
                return Err(Stop::Failed(QueryError::user("Mine", "no good")));
            }
            while !failed.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            ended.store(true, Ordering::Relaxed);
            Err(Stop::Failed(QueryError::user("Cancelled", "because of another")))
        };
        let Err(Stop::Failed(error)) = paced(100, &pace(), 2, &one) else { panic!("it goes on") };
        assert_eq!(error.class, "Mine");
        assert!(ended.into_inner());
    }
}
