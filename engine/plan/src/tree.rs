//! A child that runs users' code, with everything that it starts: bounded in time, memory, processes and disk together, and
//! gone together, whatever sessions or daemons it makes of itself.
//!
//! Between us and the child stands a process that does nothing but wait (`stand_between`). What loses its parent below it
//! becomes its child (it is their subreaper), so that all are found by their parents for as long as one of them is left.

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

/// How long to wait for the end before everything is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long everything may take to be gone after it was killed.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Of a directory, so many entries are counted.
const MAX_ENTRIES: usize = 20_000;
const MAX_OPEN_FILES: libc::rlim_t = 1024;
const NONE: libc::c_ulong = 0;
const YES: libc::c_ulong = 1;
const KILL: libc::c_ulong = libc::SIGKILL as libc::c_ulong;

/// What the child and all that it starts may use together.
#[derive(Clone, Debug)]
pub struct Limits {
    pub time: Duration,
    pub memory_bytes: u64,
    pub processes: usize,
    /// Of `dir`; no single file anywhere may become larger.
    pub disk_bytes: u64,
    pub dir: PathBuf,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Itself(ExitStatus),
    Time,
    Memory,
    Processes,
    Disk,
    /// The process between was killed, and so was the child.
    Lost,
    /// Nobody wants it any more.
    Stopped,
}

/// What whoever waits for a child may say meanwhile.
#[derive(Debug)]
pub struct Watch {
    /// Ends it.
    pub stop: AtomicBool,
    /// Whether it works on something: what an idle child uses is not looked at.
    pub busy: AtomicBool,
    /// How often to look at what it uses.
    pub every: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { stop: AtomicBool::new(false), busy: AtomicBool::new(true), every: LOOK_EVERY }
    }
}

pub struct Tree {
    child: Child,
    told: PipeReader,
}

/// Starts the command in a process group of its own, with nothing of ours in its hands.
pub fn start(mut command: Command, limits: &Limits) -> std::io::Result<Tree> {
    let (told, tell) = std::io::pipe()?;
    command.process_group(0);
    prepare(&mut command, &tell, limits.disk_bytes);
    let child = command.spawn()?;
    Ok(Tree { child, told })
}

#[allow(unsafe_code)]
fn prepare(command: &mut Command, tell: &PipeWriter, file_bytes: u64) {
    let tell = tell.as_raw_fd();
    // SAFETY: what runs between fork and exec makes system calls only.
    unsafe {
        command.pre_exec(move || {
            confine()?;
            limit_files(file_bytes);
            stand_between(tell)
        });
    }
}

#[allow(unsafe_code)]
fn limit_files(file_bytes: u64) {
    for (what, most) in [(libc::RLIMIT_FSIZE, file_bytes), (libc::RLIMIT_NOFILE, MAX_OPEN_FILES)] {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is valid for the calls' time.
        unsafe {
            if libc::getrlimit(what, &raw mut limit) == 0 {
                let most = most.min(limit.rlim_max);
                let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                libc::setrlimit(what, &raw const limit);
            }
        }
    }
}

/// Splits in two: the new half returns and becomes the program; this half never returns. It tells how the other ended, and
/// ends when nothing below it is left.
#[allow(unsafe_code)]
fn stand_between(tell: RawFd) -> std::io::Result<()> {
    // SAFETY: system calls on this process, which has one thread, and on variables of this frame; nothing is allocated and
    // no lock is taken. `_exit` runs nothing of what was copied from the parent.
    unsafe {
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, YES, NONE, NONE, NONE) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let program = libc::fork();
        if program < 0 {
            return Err(std::io::Error::last_os_error());
        }
        if program == 0 {
            // A group without the process between: what the program does to its group must not hit that one.
            libc::setpgid(0, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, KILL, NONE, NONE, NONE);
            return Ok(());
        }
        // It is a copy of us: nobody may look into it, and what it holds open must close with the program.
        libc::prctl(libc::PR_SET_DUMPABLE, NONE, NONE, NONE, NONE);
        libc::prctl(libc::PR_SET_PDEATHSIG, KILL, NONE, NONE, NONE);
        libc::dup2(tell, 0);
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

    /// Waits for the child's end within the limits. Either way everything is gone afterwards.
    pub fn wait(self, limits: &Limits) -> std::io::Result<End> {
        self.wait_watched(limits, &Watch::default())
    }

    /// As `wait`, for a child that works now and then.
    pub fn wait_watched(mut self, limits: &Limits, watch: &Watch) -> std::io::Result<End> {
        let deadline = Instant::now() + limits.time;
        let mut looked = Instant::now();
        let end = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_told(left.min(LOOK_EVERY)) {
                let mut status = [0; size_of::<libc::c_int>()];
                break match self.told.read_exact(&mut status) {
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

    /// Waits so long for the child's end, or for that of the process between.
    #[allow(unsafe_code)]
    fn is_told(&self, within: Duration) -> bool {
        let mut asked = libc::pollfd { fd: self.told.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let within = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd. An interrupted call only ends the wait early.
        unsafe { libc::poll(&raw mut asked, 1, within) > 0 }
    }

    fn excess(&self, limits: &Limits) -> Option<End> {
        let pids = below(self.child.id());
        if pids.len() > limits.processes {
            return Some(End::Processes);
        }
        // A single process is held by its own limit, which fails its allocations and not the process.
        if pids.len() > 1 && pids.iter().map(|pid| resident_bytes(*pid)).sum::<u64>() > limits.memory_bytes {
            return Some(End::Memory);
        }
        (size_of_dir(&limits.dir) > limits.disk_bytes).then_some(End::Disk)
    }

    fn end_all(&mut self) -> std::io::Result<()> {
        let deadline = Instant::now() + GONE_WITHIN;
        let id = self.child.id();
        while !has_ended(id) {
            // Held first and killed after, so that none makes others while they are looked for.
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
                // Something does not die, or the process between does not see it.
                tracing::warn!("what users' Python started is not gone after {} s", GONE_WITHIN.as_secs());
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // It is not reaped yet, so its id cannot belong to anyone else.
        signal(id, libc::SIGKILL);
        self.child.wait().map(drop)
    }
}

/// Whether a child is a zombie by now, without reaping it.
#[allow(unsafe_code)]
fn has_ended(id: u32) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is valid for writes of a siginfo_t and zeroed, so that si_pid reads 0 when nothing has ended.
    unsafe {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let outcome = libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags);
        // An error means that there is nothing to wait for.
        outcome != 0 || info.assume_init_ref().si_pid() != 0
    }
}

/// All processes below this one, by their parents. Zombies do not count.
fn below(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<(u32, bool)>> = HashMap::new();
    for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = pid.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name comes in brackets and may hold anything.
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
