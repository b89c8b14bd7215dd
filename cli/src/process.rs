//! Finds the runner, and ends its processes reliably.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Child;

use crate::error::Failure;

/// How long a coordinator may take to end after it was asked to.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long workers may take to notice that their coordinator is gone.
pub const WORKER_GRACE: Duration = Duration::from_secs(5);

/// Looks for the runner in `FLOE_RUNNER`, beside this binary, and in PATH.
pub fn find_runner() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("FLOE_RUNNER").filter(|p| !p.is_empty()) {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(path),
            false => Err(Failure::NoRunner(format!("FLOE_RUNNER names {}, which is no file", path.display()))),
        };
    }
    let name = format!("floe-runner{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.canonicalize().ok())
        .and_then(|exe| Some(exe.parent()?.join(&name)));
    let in_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    beside
        .into_iter()
        .chain(in_path.map(|dir| dir.join(&name)))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Failure::NoRunner("put it beside floe or in PATH, or set FLOE_RUNNER to its path".to_owned()))
}

/// Kills the process group that `leader` leads: the coordinator and the workers it started.
pub fn kill_group(leader: u32) {
    signal_group(leader, libc::SIGKILL);
}

/// Ends what is left of a group whose leader is gone. The workers notice and clean up; after `patience` the remaining
/// ones are killed, and their shared memory is removed.
pub fn end_group(leader: u32, patience: Duration) {
    let since = std::time::Instant::now();
    while signal_group(leader, 0) {
        if since.elapsed() > patience {
            kill_group(leader);
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    remove_shared_memory(leader);
}

/// Whether the signal reached any process of the group.
fn signal_group(leader: u32, number: i32) -> bool {
    let Ok(group) = i32::try_from(leader) else { return false };
    if group <= 1 {
        return false;
    }
    // SAFETY: kill takes two integers and touches no memory of ours; the group is one that we made, and an error means
    // that the group is gone, which is what we want.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::kill(-group, number) };
    sent == 0
}

/// Removes the directory of shared memory, named after its process id, in which a coordinator keeps shuffles: if it was
/// killed, it could not do so itself.
fn remove_shared_memory(leader: u32) {
    floe_scratch::remove_of(Path::new("/dev/shm"), "engine", leader);
}

/// Prevents other processes of this user from reading this one's memory, which holds the coordinator's token and the
/// query's credentials: scripts run as the same user.
pub fn hide() {
    #[cfg(target_os = "linux")]
    {
        const NO: libc::c_ulong = 0;
        // SAFETY: a system call without memory arguments. If it fails, nothing has changed.
        #[allow(unsafe_code)]
        unsafe {
            libc::prctl(libc::PR_SET_DUMPABLE, NO, NO, NO, NO);
        }
    }
}

/// Sends SIGTERM to the coordinator alone; it ends its workers in order.
pub fn ask_to_end(child: &Child) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
    // SAFETY: kill takes two integers and touches no memory of ours; the child is not reaped yet, or it had no id.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(pid, libc::SIGTERM);
    }
}
