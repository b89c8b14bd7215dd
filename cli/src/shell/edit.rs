//! The line being typed: text, cursor, history. Keys change it; nothing here draws or reads.

use super::keys::Key;

/// What a key asks for besides changing the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    /// The text is complete.
    Submit,
    /// The text is discarded.
    Abandon,
    /// The user leaves.
    Leave,
    Complete,
    ClearScreen,
}

#[derive(Debug, Default)]
pub struct Editor {
    pub text: String,
    /// Byte offset into the text, between two characters.
    pub cursor: usize,
    /// Earlier texts, the oldest first.
    history: Vec<String>,
    /// Which of them is shown, and the text that was being typed before.
    shown: Option<(usize, String)>,
    killed: String,
    pasting: bool,
}

impl Editor {
    pub fn new(history: Vec<String>) -> Self {
        Editor { history, ..Editor::default() }
    }

    /// Starts a new text.
    pub fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
        self.shown = None;
        self.pasting = false;
    }

    /// Adds a text to the history, unless it repeats the last one. Returns whether it was added.
    pub fn remember(&mut self, text: &str) -> bool {
        let new = !text.trim().is_empty() && self.history.last().map(String::as_str) != Some(text);
        if new {
            self.history.push(text.to_owned());
        }
        new
    }

    pub fn insert(&mut self, text: &str) {
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
    }

    /// Replaces the text between a byte offset and the cursor.
    pub fn replace_before(&mut self, from: usize, with: &str) {
        self.text.replace_range(from..self.cursor, with);
        self.cursor = from + with.len();
    }

    /// `done`: whether the text needs no further line.
    pub fn key(&mut self, key: Key, done: impl Fn(&str) -> bool) -> Asked {
        match key {
            Key::PasteBegin => self.pasting = true,
            Key::PasteEnd => self.pasting = false,
            Key::Enter if self.pasting => self.insert("\n"),
            Key::Tab if self.pasting => self.insert("\t"),
            Key::Enter if self.text.trim().is_empty() || done(&self.text) => {
                self.cursor = self.text.len();
                return Asked::Submit;
            }
            Key::Enter => self.insert("\n"),
            Key::Char(c) => self.insert(c.encode_utf8(&mut [0; 4])),
            Key::Tab => return Asked::Complete,
            Key::Backspace | Key::Ctrl('h') => self.remove(self.before(self.cursor), self.cursor),
            Key::Ctrl('d') if self.text.is_empty() => return Asked::Leave,
            Key::Delete | Key::Ctrl('d') => self.remove(self.cursor, self.after(self.cursor)),
            Key::Ctrl('c') => return Asked::Abandon,
            Key::Ctrl('l') => return Asked::ClearScreen,
            Key::Left | Key::Ctrl('b') => self.cursor = self.before(self.cursor),
            Key::Right | Key::Ctrl('f') => self.cursor = self.after(self.cursor),
            Key::WordLeft => self.cursor = self.word_before(),
            Key::WordRight => self.cursor = self.word_after(),
            Key::Home | Key::Ctrl('a') => self.cursor = self.line().0,
            Key::End | Key::Ctrl('e') => self.cursor = self.line().1,
            Key::Ctrl('k') => self.kill(self.cursor, self.line().1),
            Key::Ctrl('u') => self.kill(self.line().0, self.cursor),
            Key::Ctrl('w') => self.kill(self.word_before(), self.cursor),
            Key::Ctrl('y') => self.insert(&self.killed.clone()),
            Key::Up if self.line().0 > 0 => self.move_lines(-1),
            Key::Down if self.line().1 < self.text.len() => self.move_lines(1),
            Key::Up | Key::Ctrl('p') => self.older(|_| true),
            Key::Down | Key::Ctrl('n') => self.newer(),
            Key::Ctrl('r') => {
                let sought = self.shown.as_ref().map_or_else(|| self.text.clone(), |(_, typed)| typed.clone());
                self.older(|entry| entry.contains(&sought));
            }
            Key::Ctrl(_) | Key::Other => {}
        }
        Asked::Nothing
    }

    fn before(&self, at: usize) -> usize {
        self.text[..at].char_indices().next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self, at: usize) -> usize {
        self.text[at..].chars().next().map_or(at, |c| at + c.len_utf8())
    }

    /// Start and end of the cursor's line.
    fn line(&self) -> (usize, usize) {
        let begin = self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[self.cursor..].find('\n').map_or(self.text.len(), |at| self.cursor + at);
        (begin, end)
    }

    fn word_before(&self) -> usize {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let words = self.text[..self.cursor].trim_end_matches(|c| !is_word(c));
        words.trim_end_matches(is_word).len()
    }

    fn word_after(&self) -> usize {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let rest = self.text[self.cursor..].trim_start_matches(|c| !is_word(c)).trim_start_matches(is_word);
        self.text.len() - rest.len()
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }

    fn kill(&mut self, from: usize, to: usize) {
        if from < to {
            self.killed = self.text[from..to].to_owned();
            self.remove(from, to);
        }
    }

    /// Moves to the same column of a line above or below.
    fn move_lines(&mut self, by: i32) {
        let (begin, end) = self.line();
        let column = self.text[begin..self.cursor].chars().count();
        let (begin, end) = if by < 0 {
            (self.text[..begin - 1].rfind('\n').map_or(0, |at| at + 1), begin - 1)
        } else {
            let begin = end + 1;
            (begin, self.text[begin..].find('\n').map_or(self.text.len(), |at| begin + at))
        };
        self.cursor = self.text[begin..end].char_indices().nth(column).map_or(end, |(at, _)| begin + at);
    }

    fn older(&mut self, wanted: impl Fn(&str) -> bool) {
        let below = self.shown.as_ref().map_or(self.history.len(), |(at, _)| *at);
        if let Some(at) = (0..below).rev().find(|at| wanted(&self.history[*at])) {
            let typed = self.shown.take().map_or_else(|| self.text.clone(), |(_, typed)| typed);
            self.text = self.history[at].clone();
            self.shown = Some((at, typed));
            self.cursor = self.text.len();
        }
    }

    fn newer(&mut self) {
        let Some((at, typed)) = self.shown.take() else { return };
        match self.history.get(at + 1) {
            Some(next) => {
                self.text = next.clone();
                self.shown = Some((at + 1, typed));
            }
            None => self.text = typed,
        }
        self.cursor = self.text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(text: &str) -> bool {
        text.trim_end().ends_with(';')
    }

    fn typed(editor: &mut Editor, text: &str) {
        for c in text.chars() {
            editor.key(Key::Char(c), done);
        }
    }

    fn keys(editor: &mut Editor, keys: &[Key]) {
        for key in keys {
            assert_eq!(editor.key(*key, done), Asked::Nothing, "{key:?}");
        }
    }

    #[test]
    fn enter_goes_on_until_the_statement_is_whole() {
        let mut editor = Editor::default();
        typed(&mut editor, "select");
        assert_eq!(editor.key(Key::Enter, done), Asked::Nothing);
        typed(&mut editor, "1;");
        assert_eq!(editor.key(Key::Enter, done), Asked::Submit);
        assert_eq!(editor.text, "select\n1;");
        editor.clear();
        keys(&mut editor, &[Key::PasteBegin, Key::Char('1'), Key::Char(';'), Key::Enter, Key::PasteEnd]);
        assert_eq!(editor.text, "1;\n");
        assert_eq!(editor.key(Key::Enter, done), Asked::Submit);
    }

    #[test]
    fn keys_move_and_change_as_in_other_shells() {
        let mut editor = Editor::default();
        typed(&mut editor, "select é from t");
        keys(&mut editor, &[Key::WordLeft, Key::WordLeft, Key::Left, Key::Backspace]);
        assert_eq!((editor.text.as_str(), editor.cursor), ("select  from t", 7));
        keys(&mut editor, &[Key::Ctrl('k'), Key::Home, Key::Ctrl('y'), Key::Ctrl('d')]);
        assert_eq!(editor.text, " from telect ");
        keys(&mut editor, &[Key::End, Key::Ctrl('w')]);
        assert_eq!(editor.text, " from ");
        keys(&mut editor, &[Key::Ctrl('u')]);
        assert_eq!(editor.text, "");
        assert_eq!(editor.key(Key::Ctrl('d'), done), Asked::Leave);
        assert_eq!(editor.key(Key::Ctrl('c'), done), Asked::Abandon);
    }

    #[test]
    fn history_is_walked_and_sought() {
        let mut editor = Editor::new(vec!["select a;".into(), "show tables;".into(), "select\nb;".into()]);
        typed(&mut editor, "now");
        keys(&mut editor, &[Key::Up]);
        assert_eq!(editor.text, "select\nb;");
        // In a text of several lines the arrows stay within it.
        keys(&mut editor, &[Key::Up]);
        assert_eq!((editor.text.as_str(), editor.cursor), ("select\nb;", 2));
        keys(&mut editor, &[Key::Up, Key::Down, Key::Down]);
        assert_eq!(editor.text, "now");
        editor.clear();
        typed(&mut editor, "select");
        keys(&mut editor, &[Key::Ctrl('r'), Key::Ctrl('r')]);
        assert_eq!(editor.text, "select a;");
        keys(&mut editor, &[Key::Ctrl('r')]);
        assert_eq!(editor.text, "select a;");
        assert!(!editor.remember("select\nb;") && editor.remember("x;") && !editor.remember(" "));
    }
}
