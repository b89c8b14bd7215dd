//! What a Python process of ours says: answers on its standard output, and whatever it prints where errors go.

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the end of what was printed may take to come when the process has ended.
const END_LIMIT: Duration = Duration::from_secs(1);
/// What Linux gives a process that is not privileged.
const WIDTH_BYTES: libc::c_int = 1 << 20;

/// The answers that a process writes, each after its length in eight bytes; the first error ends them.
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
    // The length is what the other side says: memory is taken as the bytes come, after the first 64 MiB.
    let mut body = Vec::with_capacity(length.min(64 << 20) as usize);
    let read = from.take(length).read_to_end(&mut body)?;
    if read as u64 == length { Ok(body) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// Makes a pipe as wide as any process may, so that columns cross it in few turns of both sides.
#[allow(unsafe_code)]
pub fn widen(pipe: &impl AsRawFd) {
    // SAFETY: a system call on a descriptor that `pipe` keeps open. A pipe that stays narrow works, too.
    #[cfg(target_os = "linux")]
    let _ = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, WIDTH_BYTES) };
}

/// Reads what is printed until its pipe closes, and keeps the end of it. The rest is read and dropped, so that a process
/// that prints much is not stopped by a full pipe.
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
            // Nobody may be waiting any more.
            let _ = tell_end.send(());
        });
        Printed { kept, ended }
    }

    /// The end of what was printed, of a process that has ended. One that got away may hold the pipe open, which nobody
    /// waits for.
    pub fn last(&self) -> String {
        let _ = self.ended.recv_timeout(END_LIMIT);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim_end().to_owned()
    }

    /// The same, to follow what is said of its end.
    pub fn told(&self) -> String {
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
        assert_eq!(Printed::of(Some(Cursor::new("why")), 8).told(), "; it printed last:\nwhy");
        assert_eq!(Printed::of(None::<Cursor<&str>>, 8).told(), "");
    }
}
