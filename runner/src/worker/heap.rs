//! The allocator of the C library keeps freed memory in one heap per thread, up to eight per core: far more than a
//! worker with little memory has to spare. So give it fewer heaps, and ask for what they hold when memory runs short.

/// Fewer heaps than threads that allocate would slow them down; two are for all that waits for files and messages.
const MIN_HEAPS: usize = 2;

/// Sets the number of heaps, for `threads` threads that compute. Call it before they start.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn limit(threads: usize) {
    let heaps = i32::try_from(threads.max(MIN_HEAPS)).unwrap_or(i32::MAX);
    // SAFETY: a setting of the allocator, which it may refuse.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, heaps);
    }
}

/// Returns freed memory to the system. Takes some milliseconds, in which threads that allocate may wait.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn trim() {
    // SAFETY: only frees pages that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn limit(_threads: usize) {}

#[cfg(not(target_env = "gnu"))]
pub fn trim() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use crate::worker::cgroup::anonymous_bytes;

    #[test]
    fn freed_memory_is_returned() {
        let before = anonymous_bytes();
        // Blocks too small for maps of their own; every hundredth stays, so that the heap cannot shrink from its end.
        let mut blocks: Vec<Option<Vec<u8>>> = (0..40_000).map(|_| Some(vec![1u8; 4096])).collect();
        blocks.iter_mut().enumerate().filter(|(at, _)| at % 100 != 0).for_each(|(_, block)| *block = None);
        super::trim();
        let left = anonymous_bytes().saturating_sub(before);
        assert!(left < 60 << 20, "{} MiB of 160 are left", left >> 20);
        drop(blocks);
    }
}
