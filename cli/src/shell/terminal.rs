//! The terminal while a text is typed: reads keys, and redraws the text after each. `edit` decides what a key does.

use std::io::{self, Read as _, Write as _};

use unicode_width::UnicodeWidthChar as _;

use super::complete::{self, Proposals};
use super::edit::{Asked, Editor};
use super::keys::{self, Key};

/// Show at most this many completions.
const MAX_SHOWN: usize = 60;

/// How the input of a text ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    Text(String),
    /// Ctrl-C: the text was discarded.
    Abandoned,
    /// Ctrl-D: the user leaves.
    End,
}

pub struct Terminal {
    pub editor: Editor,
    /// Bytes that are not a complete key yet, or keys typed ahead.
    pending: Vec<u8>,
    /// The row of the cursor within what is drawn.
    row: usize,
}

impl Terminal {
    pub fn new(history: Vec<String>) -> Self {
        Terminal { editor: Editor::new(history), pending: vec![], row: 0 }
    }

    /// Reads a text of one or more lines.
    pub fn read(
        &mut self,
        prompt: &str,
        done: impl Fn(&str) -> bool,
        mut propose: impl FnMut(&str, &str) -> Proposals,
    ) -> io::Result<Typed> {
        let _raw = Raw::enter()?;
        self.editor.clear();
        self.row = 0;
        let typed = loop {
            self.draw(prompt)?;
            let Some(key) = self.key()? else { break Typed::End };
            match self.editor.key(key, &done) {
                Asked::Nothing => {}
                Asked::Submit => break Typed::Text(self.editor.text.clone()),
                Asked::Abandon => break Typed::Abandoned,
                Asked::Leave => break Typed::End,
                Asked::ClearScreen => {
                    io::stdout().write_all(b"\x1b[H\x1b[2J")?;
                    self.row = 0;
                }
                Asked::Complete => {
                    let proposals = propose(&self.editor.text[..self.editor.cursor], &self.editor.text);
                    self.complete(proposals)?;
                }
            }
        };
        self.editor.cursor = self.editor.text.len();
        self.draw(prompt)?;
        let mark: &[u8] = if typed == Typed::Abandoned { b"^C\n" } else { b"\n" };
        io::stdout().write_all(mark)?;
        io::stdout().flush()?;
        Ok(typed)
    }

    /// Inserts what all proposals have in common; if that adds nothing, shows them below.
    fn complete(&mut self, proposals: Proposals) -> io::Result<()> {
        let Proposals { from, words } = proposals;
        let typed = self.editor.cursor - from;
        if let [word] = &words[..] {
            let space = if word.ends_with('(') { "" } else { " " };
            self.editor.replace_before(from, &format!("{word}{space}"));
            return Ok(());
        }
        let common = complete::common(&words);
        if common.len() > typed {
            self.editor.replace_before(from, &common);
            return Ok(());
        }
        if words.is_empty() {
            return Ok(());
        }
        let more = words.len().saturating_sub(MAX_SHOWN);
        let mut list = words[..words.len() - more].join("  ");
        if more > 0 {
            list.push_str(&format!("  and {more} more"));
        }
        let cursor = std::mem::replace(&mut self.editor.cursor, self.editor.text.len());
        self.draw("")?;
        write!(io::stdout(), "\n{list}\n")?;
        self.editor.cursor = cursor;
        self.row = 0;
        Ok(())
    }

    fn draw(&mut self, prompt: &str) -> io::Result<()> {
        let drawn = layout(prompt, &self.editor.text, self.editor.cursor, width());
        let mut out = String::new();
        if self.row > 0 {
            out.push_str(&format!("\x1b[{}A", self.row));
        }
        out.push_str("\r\x1b[J");
        out.push_str(&drawn.text);
        let up = drawn.rows - drawn.cursor.0;
        if up > 0 {
            out.push_str(&format!("\x1b[{up}A"));
        }
        out.push('\r');
        if drawn.cursor.1 > 0 {
            out.push_str(&format!("\x1b[{}C", drawn.cursor.1));
        }
        self.row = drawn.cursor.0;
        let mut stdout = io::stdout().lock();
        stdout.write_all(out.as_bytes())?;
        stdout.flush()
    }

    /// The next key; `None` if the terminal is gone.
    fn key(&mut self) -> io::Result<Option<Key>> {
        loop {
            if let Some((key, used)) = keys::decode(&self.pending) {
                self.pending.drain(..used);
                return Ok(Some(key));
            }
            let mut buffer = [0; 1024];
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A text as it is drawn: with its prompts, and wrapped at the terminal's width.
#[derive(Debug, PartialEq, Eq)]
struct Drawn {
    text: String,
    /// Rows below the first.
    rows: usize,
    /// Row and column.
    cursor: (usize, usize),
}

fn layout(prompt: &str, text: &str, cursor: usize, width: usize) -> Drawn {
    let (mut out, mut row, mut column) = (String::new(), 0, 0);
    let mut put = |c: char, out: &mut String, row: &mut usize| {
        let wide = c.width().unwrap_or(0);
        if column + wide > width || c == '\n' {
            out.push('\n');
            (*row, column) = (*row + 1, 0);
        }
        if c != '\n' {
            out.push(if c.is_control() { ' ' } else { c });
            column += if c.is_control() { 1 } else { wide };
        }
        column
    };
    // Indent continuation lines to align with the first.
    let indent: usize = prompt.chars().map(|c| c.width().unwrap_or(0)).sum();
    let mut at_column = 0;
    for c in prompt.chars() {
        at_column = put(c, &mut out, &mut row);
    }
    let mut place = (cursor == 0).then_some((row, at_column));
    for (at, c) in text.char_indices() {
        at_column = put(c, &mut out, &mut row);
        if c == '\n' {
            for _ in 0..indent {
                at_column = put(' ', &mut out, &mut row);
            }
        }
        if at + c.len_utf8() == cursor {
            place = Some((row, at_column));
        }
    }
    Drawn { text: out, rows: row, cursor: place.unwrap_or((row, at_column)) }
}

/// Number of columns of the terminal.
pub fn width() -> usize {
    // SAFETY: the call fills the structure that it is given, whose bytes may all be zero.
    #[allow(unsafe_code)]
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) == 0).then_some(size)
    };
    // If the terminal does not know its width, assume 80.
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80).max(20)
}

/// Raw mode: keys arrive at once and are not echoed, until this is dropped.
struct Raw(libc::termios);

impl Raw {
    fn enter() -> io::Result<Raw> {
        // SAFETY: the calls fill and read the structure that they are given, whose bytes may all be zero.
        #[allow(unsafe_code)]
        let before = unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(libc::STDIN_FILENO, &mut before) != 0 {
                return Err(io::Error::last_os_error());
            }
            let mut raw = before;
            libc::cfmakeraw(&mut raw);
            // Keep the processing of line breaks in output.
            raw.c_oflag = before.c_oflag;
            if libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, &raw) != 0 {
                return Err(io::Error::last_os_error());
            }
            before
        };
        let raw = Raw(before);
        // Turn on bracketed paste.
        io::stdout().write_all(b"\x1b[?2004h")?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = io::stdout().write_all(b"\x1b[?2004l").and_then(|()| io::stdout().flush());
        // SAFETY: the call reads the structure that it is given. If it fails, nothing can be restored any more.
        #[allow(unsafe_code)]
        unsafe {
            libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, &self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_under_each_other_and_the_cursor_where_it_is() {
        let drawn = layout("> ", "select\nä", 7, 40);
        assert_eq!(drawn, Drawn { text: "> select\n  ä".into(), rows: 1, cursor: (1, 2) });
        assert_eq!(layout("> ", "select\nä", 0, 40).cursor, (0, 2));
        assert_eq!(layout("> ", "select\nä", 9, 40).cursor, (1, 3));
    }

    #[test]
    fn full_lines_go_on_below() {
        let drawn = layout("> ", "abcdefgh", 8, 6);
        assert_eq!(drawn, Drawn { text: "> abcd\nefgh".into(), rows: 1, cursor: (1, 4) });
        // Wide characters are not split.
        assert_eq!(layout("", "a漢漢", 7, 4).text, "a漢\n漢");
        assert_eq!(layout("", "a\u{7}b", 3, 9), Drawn { text: "a b".into(), rows: 0, cursor: (0, 3) });
    }
}
