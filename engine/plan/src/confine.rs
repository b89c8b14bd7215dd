//! Drops privileges in a child process before it runs users' code: capabilities that could inspect other processes of
//! this user, and our open file descriptors.
//!
//! The counterpart is in `floe-runner`, which hides its own environment and memory from processes of the same user.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Capabilities that allow root to inspect processes or memory, by number in linux/capability.h: CAP_SYS_MODULE,
/// CAP_SYS_RAWIO, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF.
const INSPECTING: [libc::c_ulong; 6] = [16, 17, 19, 21, 38, 39];
const PR_UNUSED: libc::c_ulong = 0;
const PR_ENABLE: libc::c_ulong = 1;
/// Highest descriptor to mark one by one, where the kernel has no `close_range` with `CLOSE_RANGE_CLOEXEC`.
const MAX_DESCRIPTORS: libc::c_int = 4096;

/// Runs in the child between fork and exec: drops the capabilities to inspect other processes and sets close-on-exec on
/// all descriptors. Allocates nothing and takes no locks, as required there.
#[allow(unsafe_code)]
pub fn confine() -> std::io::Result<()> {
    // SAFETY: system calls without memory arguments, on this process alone. All are async-signal-safe.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, PR_ENABLE, PR_UNUSED, PR_UNUSED, PR_UNUSED) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        for capability in INSPECTING {
            // Fails without root, where there is nothing to drop.
            libc::prctl(libc::PR_CAPBSET_DROP, capability, PR_UNUSED, PR_UNUSED, PR_UNUSED);
        }
        let first = libc::STDERR_FILENO + 1;
        let marked = libc::syscall(libc::SYS_close_range, first, libc::c_int::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if marked != 0 {
            // Kernel before 5.11.
            for descriptor in first..MAX_DESCRIPTORS {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    Ok(())
}

/// Environment variables that Python needs to start and to print text. Everything else is withheld, above all
/// credentials.
const PASSED_ON: [&str; 6] = ["PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE"];

/// Builds the command that runs one of our scripts in Python: isolated, with its own directory, piped to us. `options`
/// are further interpreter options.
pub fn isolated(python: &Path, options: &[&str], script: &str, dir: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-I", "-B"])
        .args(options)
        .arg(dir.join(script))
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        // A separate home keeps our credential files out of reach.
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env("PYTHONIOENCODING", "utf-8")
        // One thread is enough, and the stacks of more would count against the memory limit.
        .env("POLARS_MAX_THREADS", "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Calls `confine` in the child before it executes its program.
#[allow(unsafe_code)]
pub fn confined(command: &mut Command) {
    // SAFETY: `confine` makes system calls only, as required between fork and exec.
    unsafe {
        command.pre_exec(confine);
    }
}

/// Kills the process group that this child leads.
#[allow(unsafe_code)]
pub fn kill_group(child: &Child) {
    let Ok(group) = libc::pid_t::try_from(child.id()) else { return };
    // SAFETY: a system call without memory arguments. The child is not reaped yet, so its process group id cannot have
    // been reused.
    unsafe {
        libc::kill(-group, libc::SIGKILL);
    }
}
