//! Work on many items at once, of which most wait for a store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use floe_wire::error::{QueryError, Result};

const THREADS: usize = 8;
/// How many items of work that waits for nothing are given to a thread at once.
const CHUNK: usize = 1024;

/// The results in the order of the items, or the first error.
pub fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> Result<R> + Sync) -> Result<Vec<R>> {
    if items.len() < 2 {
        return items.into_iter().map(work).collect();
    }
    let count = items.len();
    let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(done) };
            let Some(item) = item.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
            done.push((at, work(item)?));
        }
    };
    let results: Vec<Result<Vec<(usize, R)>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(count)).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(QueryError::internal("reading a table failed"))))
            .collect()
    });
    let mut done = Vec::with_capacity(count);
    for result in results {
        done.extend(result?);
    }
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// The same for work that waits for nothing.
pub fn map_chunks<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let mut chunks = Vec::new();
    let mut items = items.into_iter();
    loop {
        let chunk: Vec<_> = items.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        chunks.push(chunk);
    }
    let done = map(chunks, |chunk| chunk.into_iter().map(&work).collect::<Result<Vec<_>>>())?;
    Ok(done.into_iter().flatten().collect())
}
