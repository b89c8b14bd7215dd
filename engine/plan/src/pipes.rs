//! Reads the output of our Python processes: answers on stdout, and printed text on stderr.

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long to wait for the end of the printed text after the process has ended.
const END_LIMIT: Duration = Duration::from_secs(1);
/// Largest pipe that Linux allows an unprivileged process.
const WIDTH_BYTES: libc::c_int = 1 << 20;

/// Receives the answers of a process, each after its length (u64, little-endian). Ends with the first error.
pub fn answers(pipe: Option<impl Read + Send + 'static>, limit_bytes: u64) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, answers) = channel();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        loop {
            let answer = framed(&mut pipe, limit_bytes);
            let ended = answer.is_err();
            if sender.send(answer).is_err() || ended {
                return;
            }
        }
    });
    answers
}

fn framed(from: &mut impl Read, limit_bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > limit_bytes {
        return Err(ErrorKind::InvalidData.into());
    }
    // Do not trust the length: reserve 64 MiB at most, then grow as bytes arrive.
    let mut body = Vec::with_capacity(length.min(64 << 20) as usize);
    let read = from.take(length).read_to_end(&mut body)?;
    if read as u64 == length { Ok(body) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// Enlarges a pipe to the limit, so that columns cross it with fewer context switches.
#[allow(unsafe_code)]
pub fn widen(pipe: &impl AsRawFd) {
    // SAFETY: a system call on a descriptor that `pipe` keeps open. If it fails, the pipe still works.
    #[cfg(target_os = "linux")]
    let _ = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, WIDTH_BYTES) };
}

/// Reads printed text until its pipe closes and keeps the last bytes. Reads and drops the rest, so that a process that
/// prints a lot does not block on a full pipe.
pub struct Printed {
    kept: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Printed {
    pub fn of(pipe: Option<impl Read + Send + 'static>, limit_bytes: usize) -> Printed {
        let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (tell_end, ended) = channel();
        let own = kept.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            if let Some(mut pipe) = pipe {
                while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                    let mut kept = own.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend_from_slice(&buffer[..n]);
                    let surplus = kept.len().saturating_sub(limit_bytes);
                    kept.drain(..surplus);
                }
            }
            // The receiver may be gone.
            let _ = tell_end.send(());
        });
        Printed { kept, ended }
    }

    /// The last printed text of a process that has ended. Do not wait long: a descendant that escaped may hold the pipe
    /// open.
    pub fn last(&self) -> String {
        let _ = self.ended.recv_timeout(END_LIMIT);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim_end().to_owned()
    }

    /// The same, as a suffix for the message about how the process ended.
    pub fn as_suffix(&self) -> String {
        let printed = self.last();
        if printed.is_empty() { printed } else { format!("; it printed last:\n{printed}") }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn answers_come_whole_and_in_turn() {
        let mut bytes = Vec::new();
        for answer in [&b"one"[..], b"", b"three"] {
            bytes.extend_from_slice(&(answer.len() as u64).to_le_bytes());
            bytes.extend_from_slice(answer);
        }
        let cut = [&bytes[..], &9_u64.to_le_bytes(), b"half"].concat();
        let come: Vec<_> = answers(Some(Cursor::new(cut)), 9).iter().map(|answer| answer.ok()).collect();
        assert_eq!(come, [Some(b"one".to_vec()), Some(Vec::new()), Some(b"three".to_vec()), None]);
        let long = answers(Some(Cursor::new(10_u64.to_le_bytes())), 9);
        assert_eq!(long.recv().unwrap().unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn the_end_of_what_is_printed_is_kept() {
        let text = "x".repeat(20_000) + "the end\n";
        assert_eq!(Printed::of(Some(Cursor::new(text)), 8).last(), "the end");
        assert_eq!(Printed::of(Some(Cursor::new("why")), 8).as_suffix(), "; it printed last:\nwhy");
        assert_eq!(Printed::of(None::<Cursor<&str>>, 8).as_suffix(), "");
    }
}
