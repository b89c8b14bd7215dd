//! What a child that runs users' code gives up before its program starts: whatever could look into the processes of
//! this user, and the files that we have open.
//!
//! The other half is `floe-runner`'s: it hides its own environment and memory from processes of the same user.

/// Capabilities that let root look into processes or into memory itself, by their numbers in linux/capability.h:
/// CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF.
const INSPECTING: [libc::c_ulong; 6] = [16, 17, 19, 21, 38, 39];
const NONE: libc::c_ulong = 0;
const YES: libc::c_ulong = 1;
/// Descriptors looked at where the kernel cannot mark all at once.
const MAX_DESCRIPTORS: libc::c_int = 4096;

/// What a child of ours that runs users' code does before its program starts: it gives up what could look into other
/// processes, and hands none of our files on. Allocates nothing and takes no locks, as is wanted between fork and exec.
#[allow(unsafe_code)]
pub fn confine() -> std::io::Result<()> {
    // SAFETY: system calls without memory arguments, on this process alone. All are async-signal-safe.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, YES, NONE, NONE, NONE) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        for capability in INSPECTING {
            // Fails for those who are not root, and they have nothing to drop.
            libc::prctl(libc::PR_CAPBSET_DROP, capability, NONE, NONE, NONE);
        }
        let first = libc::STDERR_FILENO + 1;
        let marked = libc::syscall(libc::SYS_close_range, first, libc::c_int::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if marked != 0 {
            // A kernel before 5.11.
            for descriptor in first..MAX_DESCRIPTORS {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    Ok(())
}
