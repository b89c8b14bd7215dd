//! Hides this process's secrets. Plan scripts are users' code and run as the same user as the coordinator; they must
//! not read its token or the credentials in its environment.
//!
//! Linux shows the initial environment of a process in `/proc/<pid>/environ`, even after the process has changed its
//! variables, and lets processes of one user read each other's memory and open files. So overwrite a token in place,
//! and make the process undumpable.

use std::ffi::CStr;

const PR_DISABLE: libc::c_ulong = 0;
const PR_UNUSED: libc::c_ulong = 0;

/// Makes this process undumpable: its environment, memory and open files in /proc then belong to root, and other
/// processes of this user cannot read them. A process with the capability CAP_SYS_PTRACE still can.
#[allow(unsafe_code)]
pub fn hide() {
    // SAFETY: a system call without memory arguments.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, PR_DISABLE, PR_UNUSED, PR_UNUSED, PR_UNUSED) } != 0 {
        eprintln!("floe: other processes may look into this one: {}", std::io::Error::last_os_error());
    }
}

/// Removes a variable from the environment, and overwrites its value in the initial environment. Returns an empty
/// string if it is not set.
///
/// # Safety
///
/// Call only while the process has a single thread: others may read the environment.
#[allow(unsafe_code)]
pub unsafe fn take_variable(name: &CStr) -> String {
    // SAFETY: `name` ends in a null byte, and no other thread changes the environment, as the caller guarantees.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return String::new();
    }
    // SAFETY: `getenv` returns a null-terminated string in the environment's memory, which this process may write. With
    // a single thread, nothing else refers to it. It is neither moved nor freed before `remove_var`.
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
