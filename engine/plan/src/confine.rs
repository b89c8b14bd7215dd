//! What a child that runs users' code gives up before its program starts: whatever could look into the processes of
//! this user, and the files that we have open.
//!
//! The other half is `floe-runner`'s: it hides its own environment and memory from processes of the same user.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// Variables that a Python process needs to start and to write text; everything else stays outside, credentials first.
const PASSED_ON: [&str; 6] = ["PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE"];

/// The command that runs a script of ours in Python: isolated, with a directory of its own and pipes to us. `options` are
/// more of the interpreter's.
pub fn isolated(python: &Path, options: &[&str], script: &str, dir: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-I", "-B"])
        .args(options)
        .arg(dir.join(script))
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        // A home of its own keeps credential files of ours out of reach.
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env("PYTHONIOENCODING", "utf-8")
        // One thread is enough for what these do, and stacks of many would count as memory.
        .env("POLARS_MAX_THREADS", "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Makes a command give up these before its program starts.
#[allow(unsafe_code)]
pub fn confined(command: &mut Command) {
    // SAFETY: `confine` makes system calls only, as is wanted between fork and exec.
    unsafe {
        command.pre_exec(confine);
    }
}

/// Kills the process group of a child that leads one.
#[allow(unsafe_code)]
pub fn kill_group(child: &Child) {
    let Ok(group) = libc::pid_t::try_from(child.id()) else { return };
    // SAFETY: a system call without memory arguments; the child is not reaped, so its group's id belongs to nobody else.
    unsafe {
        libc::kill(-group, libc::SIGKILL);
    }
}
