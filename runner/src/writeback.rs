//! Bounds the dirty pages of the files that this process writes: pages in the page cache that are not on disk yet.
//!
//! Dirty pages count towards a memory cgroup, and cannot be reclaimed before they are on disk. Cgroups of version 1
//! cannot slow the writer down either, so a worker that writes faster than the disk is killed although its own memory
//! is small.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

/// Once half of the budget is used, the kernel is asked to start writing after this many bytes of a file, so that it seldom
/// has to be waited for. Files that are removed before that are never written.
const START_BYTES: u64 = 4 << 20;
/// Largest budget. With this much, the process never has to wait for the disk because of its own pages.
const LARGEST_BUDGET_BYTES: u64 = 1 << 30;

/// Dirty bytes allowed in this process.
static BUDGET: AtomicU64 = AtomicU64::new(u64::MAX);
static DIRTY: AtomicU64 = AtomicU64::new(0);

/// Sets the budget to a sixteenth of this process's memory limit.
pub fn configure(memory_limit_bytes: Option<u64>) {
    let budget = memory_limit_bytes.map_or(u64::MAX, |limit| (limit / 16).min(LARGEST_BUDGET_BYTES));
    BUDGET.store(budget, Ordering::Relaxed);
}

/// Bytes of one sequentially written file that may still be dirty.
#[derive(Debug, Default)]
pub struct Writeback {
    written: u64,
    /// The kernel was asked to write the bytes before this position.
    started: u64,
    /// The bytes before this position are on disk.
    done: u64,
}

impl Writeback {
    /// Records that `bytes` more were written to the file. Blocks while the process is over its budget.
    pub fn wrote(&mut self, file: &File, bytes: u64) {
        self.wrote_within(file, bytes, BUDGET.load(Ordering::Relaxed));
    }

    fn wrote_within(&mut self, file: &File, bytes: u64, budget: u64) {
        if budget == u64::MAX {
            return;
        }
        self.written += bytes;
        let dirty = DIRTY.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if dirty > budget {
            kernel::write(file, self.done, self.written - self.done, true);
            DIRTY.fetch_sub(self.dirty(), Ordering::Relaxed);
            (self.started, self.done) = (self.written, self.written);
        } else if dirty > budget / 2 && self.written - self.started >= START_BYTES {
            kernel::write(file, self.started, self.written - self.started, false);
            self.started = self.written;
        }
    }

    fn dirty(&self) -> u64 {
        self.written - self.done
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        DIRTY.fetch_sub(self.dirty(), Ordering::Relaxed);
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    /// Starts writing a range of a file to disk, and with `wait` waits for it. Best effort: errors of the disk or an
    /// unsupported file system are left to whoever reads or syncs the file.
    #[allow(unsafe_code)]
    pub fn write(file: &File, from: u64, len: u64, wait: bool) {
        let mut flags = libc::SYNC_FILE_RANGE_WRITE;
        if wait {
            flags |= libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        }
        // SAFETY: the call takes an open descriptor and numbers, and touches no memory of this process.
        unsafe {
            libc::sync_file_range(file.as_raw_fd(), from as libc::off64_t, len as libc::off64_t, flags);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    /// No other system has cgroups.
    pub fn write(_: &std::fs::File, _: u64, _: u64, _: bool) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_over_the_budget_is_written_to_disk() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut writeback = Writeback::default();
        let mut write = |bytes: u64, budget| {
            file.write_all(&vec![1; bytes as usize]).expect("written");
            writeback.wrote_within(&file, bytes, budget);
            (writeback.written, writeback.started, writeback.done)
        };
        assert_eq!(write(START_BYTES, 1 << 40), (START_BYTES, 0, 0));
        assert_eq!(write(10, START_BYTES * 3 / 2), (START_BYTES + 10, START_BYTES + 10, 0));
        assert_eq!(write(10, START_BYTES * 3 / 2), (START_BYTES + 20, START_BYTES + 10, 0));
        let all = START_BYTES + 30;
        assert_eq!(write(10, START_BYTES), (all, all, all));
        assert_eq!(writeback.dirty(), 0);
    }

    #[test]
    fn nothing_is_counted_without_a_budget() {
        let file = tempfile::tempfile().expect("a file");
        let mut writeback = Writeback::default();
        writeback.wrote_within(&file, 1 << 30, u64::MAX);
        assert_eq!(writeback.dirty(), 0);
    }
}
