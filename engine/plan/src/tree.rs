//! Runs users' code in a child process: its whole process tree is bounded in time, memory, processes and disk, and
//! killed as a whole, even if it makes sessions or daemons.
//!
//! A supervisor process stands between us and the child and only waits (`supervise`). It is the subreaper of
//! everything below it: orphans become its children, so the whole tree stays reachable through parent ids until the
//! last process ends.

use std::collections::HashMap;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::confine::confine;

/// Poll interval while waiting for the end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long to wait for killed processes to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Count at most `MAX_ENTRIES` directory entries; more are treated as over the disk limit.
const MAX_ENTRIES: usize = 20_000;
const MAX_OPEN_FILES: libc::rlim_t = 1024;
const PR_UNUSED: libc::c_ulong = 0;
const PR_DISABLE: libc::c_ulong = 0;
const PR_ENABLE: libc::c_ulong = 1;
const KILL: libc::c_ulong = libc::SIGKILL as libc::c_ulong;

/// Limits for the child and all its descendants together.
#[derive(Clone, Debug)]
pub struct Limits {
    pub time: Duration,
    pub memory_bytes: u64,
    pub processes: usize,
    /// Limit for `dir`, and for any single file.
    pub disk_bytes: u64,
    pub dir: PathBuf,
}

/// How the child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Itself(ExitStatus),
    Time,
    Memory,
    Processes,
    Disk,
    /// The supervisor was killed, and the child with it.
    Lost,
    /// Stopped by `Watch::stop`.
    Stopped,
}

/// Signals from the thread that owns the child to the one that waits for it.
#[derive(Debug)]
pub struct Watch {
    /// Set to stop the child.
    pub stop: AtomicBool,
    /// Whether it works on a call: the resources of an idle child are not checked.
    pub busy: AtomicBool,
    /// Interval between checks of its resources.
    pub every: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { stop: AtomicBool::new(false), busy: AtomicBool::new(true), every: LOOK_EVERY }
    }
}

pub struct Tree {
    child: Child,
    reports: PipeReader,
}

/// Starts the command in its own process group, without our files and capabilities.
pub fn start(mut command: Command, limits: &Limits) -> std::io::Result<Tree> {
    let (reports, reporter) = std::io::pipe()?;
    command.process_group(0);
    prepare(&mut command, &reporter, limits.disk_bytes);
    let child = command.spawn()?;
    Ok(Tree { child, reports })
}

#[allow(unsafe_code)]
fn prepare(command: &mut Command, reporter: &PipeWriter, file_bytes: u64) {
    let reporter = reporter.as_raw_fd();
    // SAFETY: the code between fork and exec makes system calls only.
    unsafe {
        command.pre_exec(move || {
            confine()?;
            limit_files(file_bytes);
            supervise(reporter)
        });
    }
}

#[allow(unsafe_code)]
fn limit_files(file_bytes: u64) {
    for (what, most) in [(libc::RLIMIT_FSIZE, file_bytes), (libc::RLIMIT_NOFILE, MAX_OPEN_FILES)] {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is valid during both calls.
        unsafe {
            if libc::getrlimit(what, &raw mut limit) == 0 {
                let most = most.min(limit.rlim_max);
                let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                libc::setrlimit(what, &raw const limit);
            }
        }
    }
}

/// Forks: the new process returns and becomes the program; this one never returns. It reports how the program ended,
/// and exits when no process is left below it.
#[allow(unsafe_code)]
fn supervise(reporter: RawFd) -> std::io::Result<()> {
    // SAFETY: system calls on this single-threaded process and on variables of this frame. Nothing is allocated and no
    // lock is taken. `_exit` runs no destructors or handlers copied from the parent.
    unsafe {
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, PR_ENABLE, PR_UNUSED, PR_UNUSED, PR_UNUSED) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let program = libc::fork();
        if program < 0 {
            return Err(std::io::Error::last_os_error());
        }
        if program == 0 {
            // A process group without the supervisor: the program may signal its group, and must not hit the
            // supervisor.
            libc::setpgid(0, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, KILL, PR_UNUSED, PR_UNUSED, PR_UNUSED);
            return Ok(());
        }
        // The supervisor is a copy of our process: make it undumpable, so that the program cannot read it, and close
        // the pipes it inherited, so that they close with the program.
        libc::prctl(libc::PR_SET_DUMPABLE, PR_DISABLE, PR_UNUSED, PR_UNUSED, PR_UNUSED);
        libc::prctl(libc::PR_SET_PDEATHSIG, KILL, PR_UNUSED, PR_UNUSED, PR_UNUSED);
        libc::dup2(reporter, 0);
        if libc::syscall(libc::SYS_close_range, 1, libc::c_int::MAX, 0) != 0 {
            for descriptor in 1..4096 {
                libc::close(descriptor);
            }
        }
        loop {
            let mut status: libc::c_int = 0;
            let ended = libc::waitpid(-1, &raw mut status, 0);
            if ended == program {
                libc::write(0, (&raw const status).cast(), size_of::<libc::c_int>());
            } else if ended < 0 && *libc::__errno_location() == libc::ECHILD {
                libc::_exit(0);
            }
        }
    }
}

impl Tree {
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the child's end, within the limits. In every case all its processes are gone afterwards.
    pub fn wait(self, limits: &Limits) -> std::io::Result<End> {
        self.wait_watched(limits, &Watch::default())
    }

    /// Like `wait`, for a child that works on one call after another.
    pub fn wait_watched(mut self, limits: &Limits, watch: &Watch) -> std::io::Result<End> {
        let deadline = Instant::now() + limits.time;
        let mut looked = Instant::now();
        let end = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.has_report(left.min(LOOK_EVERY)) {
                let mut status = [0; size_of::<libc::c_int>()];
                break match self.reports.read_exact(&mut status) {
                    Ok(()) => End::Itself(ExitStatus::from_raw(libc::c_int::from_ne_bytes(status))),
                    Err(_) => End::Lost,
                };
            }
            if left.is_zero() {
                break End::Time;
            }
            if watch.stop.load(Ordering::Acquire) {
                break End::Stopped;
            }
            if watch.busy.load(Ordering::Acquire) && looked.elapsed() >= watch.every {
                looked = Instant::now();
                if let Some(end) = self.excess(limits) {
                    break end;
                }
            }
        };
        self.end_all()?;
        Ok(end)
    }

    /// Waits up to `within` for a report: the end of the child or of the supervisor.
    #[allow(unsafe_code)]
    fn has_report(&self, within: Duration) -> bool {
        let mut asked = libc::pollfd { fd: self.reports.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let within = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd. An interrupted call only ends the wait early.
        unsafe { libc::poll(&raw mut asked, 1, within) > 0 }
    }

    fn excess(&self, limits: &Limits) -> Option<End> {
        let pids = below(self.child.id());
        if pids.len() > limits.processes {
            return Some(End::Processes);
        }
        // A single process has its own memory limit, which fails its allocations instead of killing it.
        if pids.len() > 1 && pids.iter().map(|pid| resident_bytes(*pid)).sum::<u64>() > limits.memory_bytes {
            return Some(End::Memory);
        }
        (size_of_dir(&limits.dir) > limits.disk_bytes).then_some(End::Disk)
    }

    fn end_all(&mut self) -> std::io::Result<()> {
        let deadline = Instant::now() + KILL_LIMIT;
        let id = self.child.id();
        while !has_ended(id) {
            // Stop all processes first and kill them afterwards, so that none forks during the search.
            let mut held = Vec::new();
            loop {
                let found: Vec<u32> = below(id).into_iter().filter(|pid| !held.contains(pid)).collect();
                if found.is_empty() || Instant::now() > deadline {
                    break;
                }
                found.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
                held.extend(found);
            }
            held.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
            if Instant::now() > deadline {
                // A process does not die, or the supervisor does not notice.
                tracing::warn!("what users' Python started is not gone after {} s", KILL_LIMIT.as_secs());
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // The supervisor is not reaped yet, so its id cannot have been reused.
        signal(id, libc::SIGKILL);
        self.child.wait().map(drop)
    }
}

/// Whether a child has exited, without reaping it.
#[allow(unsafe_code)]
fn has_ended(id: u32) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is valid for writes of a siginfo_t, and zeroed, so si_pid reads 0 while nothing has ended.
    unsafe {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let outcome = libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags);
        // An error means that there is no such child.
        outcome != 0 || info.assume_init_ref().si_pid() != 0
    }
}

/// All living processes below this one, found through parent ids. Zombies do not count.
fn below(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<(u32, bool)>> = HashMap::new();
    for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = pid.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The process name is in parentheses and may contain any character.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_ascii_whitespace();
        let (Some(state), Some(parent)) = (fields.next(), fields.next().and_then(|text| text.parse().ok())) else {
            continue;
        };
        children.entry(parent).or_default().push((pid, matches!(state, "Z" | "X")));
    }
    let (mut found, mut at) = (Vec::new(), vec![root]);
    while let Some(parent) = at.pop() {
        for (pid, is_dead) in children.remove(&parent).into_iter().flatten() {
            at.push(pid);
            if !is_dead {
                found.push(pid);
            }
        }
    }
    found
}

fn resident_bytes(pid: u32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok();
    let pages = pages.and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(4096)
}

fn size_of_dir(dir: &Path) -> u64 {
    let (mut bytes, mut entries, mut at) = (0u64, 0, vec![dir.to_owned()]);
    while let Some(dir) = at.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return u64::MAX;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => at.push(entry.path()),
                Ok(meta) => bytes = bytes.saturating_add(std::os::unix::fs::MetadataExt::blocks(&meta) * 512),
                Err(_) => {}
            }
        }
    }
    bytes
}

#[allow(unsafe_code)]
fn signal(pid: u32, number: libc::c_int) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    // SAFETY: a system call without memory arguments.
    unsafe {
        libc::kill(pid, number);
    }
}
