//! A read-only memory map of part of a finished output file. Finished files are never written again, only unlinked,
//! which keeps the map valid.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

pub struct Map {
    base: *mut libc::c_void,
    mapped: usize,
    /// Offset of the requested bytes in the mapping, which starts at a page boundary.
    skip: usize,
    len: usize,
}

impl Map {
    /// Maps `len` bytes at `offset`; the file must be at least that long.
    #[allow(unsafe_code)]
    pub fn new(file: &File, offset: u64, len: usize) -> io::Result<Map> {
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "nothing to map"));
        }
        let page = page_bytes();
        let start = offset / page * page;
        let skip = (offset - start) as usize;
        let mapped = skip + len;
        // SAFETY: a fresh read-only mapping chosen by the kernel; the result is checked before use, and the caller
        // made sure that the file covers the range.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                start as libc::off_t,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Map { base, mapped, skip, len })
    }
}

/// The size of the kernel's memory pages.
#[allow(unsafe_code)]
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf reads a constant of the system.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as u64
}

impl AsRef<[u8]> for Map {
    #[allow(unsafe_code)]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the mapping covers skip + len bytes and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.base.cast::<u8>().add(self.skip), self.len) }
    }
}

impl Drop for Map {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: base and mapped are the address that mmap returned and the length it was asked for; no borrow is
        // left.
        unsafe {
            libc::munmap(self.base, self.mapped);
        }
    }
}

// SAFETY: the mapping is read-only memory that any thread may read and any one thread may unmap.
#[allow(unsafe_code)]
unsafe impl Send for Map {}
// SAFETY: as above; there is no interior mutability.
#[allow(unsafe_code)]
unsafe impl Sync for Map {}
