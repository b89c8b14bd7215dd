//! Runs the requests of a commit in parallel.

use std::sync::atomic::{AtomicUsize, Ordering};

use floe_wire::error::{QueryError, Result};

const MAX_PARALLEL: usize = 16;

/// Runs all items, and returns the results in order, or the first error.
pub(super) fn parallel<T: Sync, R: Send>(items: &[T], run: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    // Crash points are counted per thread.
    let threads = if cfg!(test) { 1 } else { MAX_PARALLEL.min(items.len()) };
    if threads <= 1 {
        return items.iter().map(run).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(done) };
            done.push((at, run(item)?));
        }
    };
    let mut all = Vec::with_capacity(items.len());
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for thread in running {
            let panicked = |_| Err(QueryError::internal("a thread of the commit panicked"));
            all.extend(thread.join().unwrap_or_else(panicked)?);
        }
        Ok::<_, QueryError>(())
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, done)| done).collect())
}
