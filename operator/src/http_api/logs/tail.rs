//! The end of a log that comes as a stream, in bounded memory.

use std::collections::VecDeque;
use std::pin::pin;

use floe_api::logline;
use futures::{AsyncRead, AsyncReadExt as _};

/// Of one pod, to find its last lines.
const MOST_READ: usize = 32 << 20;

/// What is kept of a log.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub bytes: usize,
    pub lines: usize,
}

/// The last whole lines of a log, those that tell of `about` if it is given, and whether these are all but for `most.lines`.
pub async fn read(log: impl AsyncRead, most: Most, about: Option<&str>) -> (Vec<String>, bool) {
    let mut log = pin!(log);
    let mut kept = Kept { lines: VecDeque::new(), bytes: 0, most, whole: true };
    let (mut rest, mut is_long, mut read) = (Vec::new(), false, 0);
    let mut piece = vec![0; 16 << 10];
    loop {
        let new = match log.read(&mut piece).await {
            Ok(0) => {
                if !rest.is_empty() {
                    kept.take(&String::from_utf8_lossy(&rest), about);
                }
                kept.whole &= !is_long;
                break;
            }
            Ok(size) => &piece[..size],
            Err(error) => {
                tracing::debug!(%error, "a log broke off");
                kept.whole = false;
                break;
            }
        };
        read += new.len();
        for part in new.split_inclusive(|byte| *byte == b'\n') {
            // A line that does not fit is passed over to its end.
            is_long |= rest.len() + part.len() > most.bytes;
            if is_long {
                rest.clear();
            } else {
                rest.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                if std::mem::take(&mut is_long) {
                    kept.whole = false;
                } else {
                    let line = String::from_utf8_lossy(&rest);
                    kept.take(line.trim_end_matches(['\r', '\n']), about);
                }
                rest.clear();
            }
        }
        if read > MOST_READ {
            kept.whole = false;
            break;
        }
    }
    (kept.lines.into(), kept.whole)
}

struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
    most: Most,
    whole: bool,
}

impl Kept {
    fn take(&mut self, line: &str, about: Option<&str>) {
        if about.is_some_and(|uid| !logline::is_of(line, uid)) {
            return;
        }
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > self.most.bytes || self.lines.len() > self.most.lines {
            self.whole &= self.bytes <= self.most.bytes;
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;

    async fn last(text: &str, bytes: usize, lines: usize, about: Option<&str>) -> (Vec<String>, bool) {
        read(Cursor::new(text.as_bytes().to_vec()), Most { bytes, lines }, about).await
    }

    fn these(lines: &[&str], whole: bool) -> (Vec<String>, bool) {
        (lines.iter().map(|line| (*line).to_owned()).collect(), whole)
    }

    #[tokio::test]
    async fn the_last_whole_lines_are_kept() {
        assert_eq!(last("", 8, 9, None).await, these(&[], true));
        assert_eq!(last("one\ntwo\n", 8, 9, None).await, these(&["one", "two"], true));
        assert_eq!(last("one\ntwo\nsix\n", 8, 9, None).await, these(&["two", "six"], false));
        assert_eq!(last("one\ntwo\nsix\n", 7, 9, None).await, these(&["six"], false));
        assert_eq!(last("one\ntwo\nsix\n", 80, 1, None).await, these(&["six"], true), "no more were asked for");
        assert_eq!(last("a line without an end", 80, 9, None).await, these(&["a line without an end"], true));
        assert_eq!(last("a line without an end", 8, 9, None).await, these(&[], false));
        assert_eq!(last("a line that is too long\none\n", 8, 9, None).await, these(&["one"], false));
        let long: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        let (lines, whole) = last(&long, 1000, usize::MAX, None).await;
        let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
        assert!(!whole && bytes <= 1000 && bytes > 980);
        assert_eq!(lines.last().map(String::as_str), Some("line 99999"));
    }

    #[tokio::test]
    async fn lines_of_other_queries_take_no_room() {
        let log: String =
            (0..1000).map(|number| format!("{{\"query\":\"u-{}\",\"n\":{number}}}\n", number % 500)).collect();
        let (lines, whole) = last(&log, 1000, 9, Some("u-77\"")).await;
        assert_eq!((lines.len(), whole), (2, true));
        assert!(lines[1].ends_with("\"n\":577}"), "{lines:?}");
        assert_eq!(last(&log, 1000, 1, Some("u-77\"")).await.0, lines[1..]);
    }
}
