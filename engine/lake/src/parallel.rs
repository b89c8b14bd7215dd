//! Work on several threads, of which most wait for a store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use floe_wire::error::{QueryError, Result};

/// How many items of work that waits for nothing are given to a thread at once.
const CHUNK: usize = 1024;

/// How many threads to compute with.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8))
}

/// What the function makes of each item, in their order, on at most so many threads; or the first error.
pub fn map<T: Sync, R: Send>(items: &[T], threads: usize, each: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = threads.min(items.len());
    if threads <= 1 {
        return items.iter().map(each).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(item) = items.get(index)
        {
            done.push((index, each(item)));
        }
        done
    };
    let mut done = Vec::with_capacity(items.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            done.extend(thread.join().map_err(|_| QueryError::internal("reading a table failed"))?);
        }
        Ok::<(), QueryError>(())
    })?;
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The same for many items of little work, which the function takes.
pub fn map_chunks<T: Send, R: Send>(items: Vec<T>, each: impl Fn(T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let (mut chunks, mut items) = (Vec::new(), items.into_iter());
    loop {
        let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        chunks.push(Mutex::new(chunk));
    }
    let done = map(&chunks, cores(), |chunk| {
        let chunk = std::mem::take(&mut *chunk.lock().unwrap_or_else(PoisonError::into_inner));
        chunk.into_iter().map(&each).collect::<Result<Vec<_>>>()
    })?;
    Ok(done.into_iter().flatten().collect())
}
