//! What this process keeps to itself. Plan scripts are users' code and run as the same user beside the coordinator;
//! they must not read its token or the credentials in its environment.
//!
//! Linux shows the environment that a process was started with in `/proc/<pid>/environ`, whatever the process does to
//! its variables afterwards, and lets processes of one user read each other's memory and open files. So a token is
//! wiped where it lies, and the process is marked as one that others may not look into.

use std::ffi::CStr;

const NO: libc::c_ulong = 0;

/// From here on no other process of this user may look into this one: its environment, memory and open files are
/// root's in /proc. A process with the capability CAP_SYS_PTRACE still may.
#[allow(unsafe_code)]
pub fn hide() {
    // SAFETY: a system call without memory arguments.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, NO, NO, NO, NO) } != 0 {
        eprintln!("floe: other processes may look into this one: {}", std::io::Error::last_os_error());
    }
}

/// Takes a variable out of the environment, and out of the memory that the environment was handed over in. Empty when
/// it is not set.
///
/// # Safety
/// Only while this process has one thread: others may be reading the environment.
#[allow(unsafe_code)]
pub unsafe fn take_variable(name: &CStr) -> String {
    // SAFETY: `name` ends in a null byte, and no other thread changes the environment (the caller's promise).
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return String::new();
    }
    // SAFETY: `getenv` gives a null-terminated string in memory that the environment owns, and that is this process's
    // to write; nothing else refers to it while there is one thread. It is neither moved nor freed before `remove_var`.
    let value = unsafe {
        let bytes = std::slice::from_raw_parts_mut(value.cast::<u8>(), libc::strlen(value));
        let copy = String::from_utf8_lossy(bytes).into_owned();
        bytes.fill(0);
        copy
    };
    // SAFETY: one thread, as above.
    unsafe { std::env::remove_var(&*name.to_string_lossy()) };
    value
}
