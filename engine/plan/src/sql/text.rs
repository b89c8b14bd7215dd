//! Tokenizes SQL with positions, and edits a text before Polars reads it. No grammar: parsing is left to Polars.

/// A token other than whitespace or a comment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    /// Number of parentheses and brackets open around it.
    pub depth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Word,
    /// Name in double quotes or backticks.
    Quoted,
    /// Text in single quotes, or between `$$` or `$tag$`.
    Text,
    Number,
    /// `$name`.
    Param,
    Symbol,
}

/// A text and its tokens.
#[derive(Debug)]
pub struct Sql<'a> {
    /// The view that has this text; `None` for the query itself.
    pub view: Option<&'a str>,
    pub text: &'a str,
    pub tokens: Vec<Token>,
}

/// A lexical or structural error in a text, with its position.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub at: usize,
    pub message: String,
}

impl<'a> Sql<'a> {
    pub fn of_view(name: &'a str, text: &'a str) -> Result<Self, Fault> {
        Ok(Sql { view: Some(name), ..Sql::read(text)? })
    }

    pub fn read(text: &'a str) -> Result<Self, Fault> {
        let bytes = text.as_bytes();
        let mut tokens = Vec::new();
        let (mut at, mut depth) = (0, 0usize);
        while at < bytes.len() {
            let start = at;
            let (kind, end) = match bytes[at] {
                b' ' | b'\t' | b'\n' | b'\r' => {
                    at += 1;
                    continue;
                }
                b'-' if bytes.get(at + 1) == Some(&b'-') => {
                    at = find(bytes, at, b'\n').unwrap_or(bytes.len());
                    continue;
                }
                b'/' if bytes.get(at + 1) == Some(&b'*') => {
                    at = comment_end(text, at)?;
                    continue;
                }
                b'\'' => (Kind::Text, quoted_end(text, at, b'\'', "this text in quotes")?),
                b'"' => (Kind::Quoted, quoted_end(text, at, b'"', "this quoted name")?),
                b'`' => (Kind::Quoted, quoted_end(text, at, b'`', "this quoted name")?),
                b'$' if bytes.get(word_end(bytes, at + 1)) == Some(&b'$') => (Kind::Text, dollar_end(text, at)?),
                b'$' if bytes.get(at + 1).is_some_and(|b| is_word(*b)) => (Kind::Param, word_end(bytes, at + 1)),
                b'0'..=b'9' => (Kind::Number, number_end(bytes, at)),
                b if is_word(b) => (Kind::Word, word_end(bytes, at)),
                b => (Kind::Symbol, at + utf8_len(b)),
            };
            let symbol = if kind == Kind::Symbol { bytes[start] } else { 0 };
            if matches!(symbol, b')' | b']') {
                depth = depth.saturating_sub(1);
            }
            tokens.push(Token { kind, start, end, depth });
            if matches!(symbol, b'(' | b'[') {
                depth += 1;
            }
            at = end;
        }
        Ok(Sql { view: None, text, tokens })
    }

    pub fn slice(&self, token: &Token) -> &'a str {
        &self.text[token.start..token.end]
    }

    /// Whether the token at a position is this word, ignoring case.
    pub fn is(&self, at: usize, word: &str) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.kind == Kind::Word && self.slice(token).eq_ignore_ascii_case(word))
    }

    pub fn is_symbol(&self, at: usize, symbol: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == Kind::Symbol && self.slice(token) == symbol)
    }

    /// The name in a word or quoted token.
    pub fn name(&self, token: &Token) -> Option<String> {
        let text = self.slice(token);
        match token.kind {
            Kind::Word => Some(text.to_owned()),
            Kind::Quoted => {
                let quote = &text[..1];
                Some(text[1..text.len() - 1].replace(&quote.repeat(2), quote))
            }
            _ => None,
        }
    }

    /// The value of a text token.
    pub fn text_of(&self, token: &Token) -> String {
        let text = self.slice(token);
        match text.strip_prefix('$').and_then(|rest| rest.find('$')) {
            Some(tag) => text[tag + 2..text.len() - tag - 2].to_owned(),
            None => text[1..text.len() - 1].replace("''", "'"),
        }
    }

    /// Position of the closing parenthesis for an opening one.
    pub fn closing(&self, open: usize) -> Option<usize> {
        let depth = self.tokens.get(open)?.depth;
        let rest = self.tokens.iter().enumerate().skip(open + 1);
        rest.into_iter().find(|(_, token)| token.kind == Kind::Symbol && token.depth == depth).map(|(at, _)| at)
    }

    /// The first token with this name, quoted or not, whose position `fits` accepts.
    pub fn find_name(&self, name: &str, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let same = |token: &Token| self.name(token).is_some_and(|found| found.eq_ignore_ascii_case(name));
        (0..self.tokens.len()).find(|at| same(&self.tokens[*at]) && fits(*at)).map(|at| self.tokens[at].start)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn utf8_len(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

fn find(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    bytes[from..].iter().position(|byte| *byte == wanted).map(|at| from + at)
}

fn word_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_word(bytes[at]) {
        at += 1;
    }
    at
}

fn number_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        let exponent = matches!(bytes[at - 1], b'e' | b'E') && matches!(bytes[at], b'+' | b'-');
        if !(is_word(bytes[at]) || bytes[at] == b'.' || exponent) {
            break;
        }
        at += 1;
        if at == bytes.len() {
            break;
        }
    }
    at
}

fn quoted_end(text: &str, start: usize, quote: u8, what: &str) -> Result<usize, Fault> {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    while let Some(found) = find(bytes, at, quote) {
        if bytes.get(found + 1) != Some(&quote) {
            return Ok(found + 1);
        }
        at = found + 2;
    }
    Err(Fault { at: start, message: format!("{what} is never closed") })
}

/// End of a text between `$$` or `$tag$`.
fn dollar_end(text: &str, start: usize) -> Result<usize, Fault> {
    let begin = word_end(text.as_bytes(), start + 1) + 1;
    let mark = &text[start..begin];
    match text[begin..].find(mark) {
        Some(at) => Ok(begin + at + mark.len()),
        None => Err(Fault { at: start, message: format!("this text between {mark} is never closed") }),
    }
}

fn comment_end(text: &str, start: usize) -> Result<usize, Fault> {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (start, 0);
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => {
                open += 1;
                at += 2;
            }
            (b'*', b'/') => {
                open -= 1;
                at += 2;
                if open == 0 {
                    return Ok(at);
                }
            }
            _ => at += 1,
        }
    }
    Err(Fault { at: start, message: "this comment is never closed".into() })
}

/// Edits to a text, in order, and the mapping of positions in the edited text back to the original.
#[derive(Debug, Default)]
pub struct Edits {
    /// Position, length of the replaced text, replacement.
    edits: Vec<(usize, usize, String)>,
}

impl Edits {
    pub fn replace(&mut self, start: usize, end: usize, with: impl Into<String>) {
        self.edits.push((start, end - start, with.into()));
    }

    pub fn apply(&mut self, text: &str) -> String {
        self.edits.sort_by_key(|(start, ..)| *start);
        let mut out = String::with_capacity(text.len() + 64);
        let mut at = 0;
        for (start, length, with) in &self.edits {
            out.push_str(&text[at..*start]);
            out.push_str(with);
            at = start + length;
        }
        out.push_str(&text[at..]);
        out
    }

    /// Maps a position in the edited text to the original text.
    pub fn original(&self, changed: usize) -> usize {
        let (mut old, mut new) = (0, 0);
        for (start, length, with) in &self.edits {
            let begins = new + (start - old);
            if changed < begins {
                break;
            }
            if changed < begins + with.len() {
                return *start;
            }
            (old, new) = (start + length, begins + with.len());
        }
        old + (changed - new)
    }
}

/// Line and column of a byte offset, both from 1; the column counts characters.
pub fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    (text[..begin].matches('\n').count() + 1, text[begin..at].chars().count() + 1)
}

/// Byte offset of a line and column.
pub fn offset(text: &str, line: usize, column: usize) -> usize {
    let begin = match line {
        0 | 1 => 0,
        _ => text.match_indices('\n').nth(line - 2).map_or(text.len(), |(at, _)| at + 1),
    };
    let rest = &text[begin..];
    begin + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
}

/// The line of a position, with a caret below it. Long lines are shortened around the position.
pub fn pointed(text: &str, at: usize) -> String {
    const AROUND: usize = 60;
    let (line, column) = line_and_column(text, at);
    let shown: Vec<char> = text.lines().nth(line - 1).unwrap_or_default().chars().collect();
    let from = column.saturating_sub(AROUND + 1);
    let to = (column + AROUND).min(shown.len()).max(from);
    let cut: String = shown[from.min(shown.len())..to].iter().map(|c| if c.is_control() { ' ' } else { *c }).collect();
    format!("  {cut}\n  {}^", " ".repeat(column - 1 - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(Kind, &str)> {
        let sql = Sql::read(text).unwrap();
        sql.tokens.iter().map(|token| (token.kind, sql.slice(token))).collect()
    }

    #[test]
    fn texts_are_cut_into_tokens() {
        use Kind::*;
        assert_eq!(
            words("select \"a\"\"b\", 'it''s' -- c\n/* x /* y */ z */ from t where a >= $low and b = 1.5e-3 é"),
            [
                (Word, "select"),
                (Quoted, "\"a\"\"b\""),
                (Symbol, ","),
                (Text, "'it''s'"),
                (Word, "from"),
                (Word, "t"),
                (Word, "where"),
                (Word, "a"),
                (Symbol, ">"),
                (Symbol, "="),
                (Param, "$low"),
                (Word, "and"),
                (Word, "b"),
                (Symbol, "="),
                (Number, "1.5e-3"),
                (Word, "é")
            ]
        );
        assert_eq!(words("$$a 'b$$ $a $t$ $$ $b $t$"), [(Text, "$$a 'b$$"), (Param, "$a"), (Text, "$t$ $$ $b $t$")]);
        let sql = Sql::read("'it''s' $$it's$$ $t$it's$t$").unwrap();
        assert!(sql.tokens.iter().all(|token| sql.text_of(token) == "it's"));
        let sql = Sql::read("\"a\"\"b\" `c`").unwrap();
        let names: Vec<_> = sql.tokens.iter().filter_map(|token| sql.name(token)).collect();
        assert_eq!(names, ["a\"b", "c"]);
        for (text, at) in [("select 'x", 7), ("a \"b", 2), ("/* /* */", 0), ("a $t$ $$", 2)] {
            assert_eq!(Sql::read(text).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn parentheses_are_counted_and_matched() {
        let sql = Sql::read("f(a, (b[1]), c) d").unwrap();
        assert_eq!(sql.closing(1), Some(12));
        assert_eq!(sql.closing(4), Some(9));
        assert_eq!(sql.tokens.last().unwrap().depth, 0);
    }

    #[test]
    fn positions_survive_edits() {
        let text = "ab $x cd $yy e";
        let mut edits = Edits::default();
        edits.replace(9, 12, "'long text'");
        edits.replace(3, 5, "1");
        let changed = edits.apply(text);
        assert_eq!(changed, "ab 1 cd 'long text' e");
        for word in ["ab", "cd", "e"] {
            assert_eq!(edits.original(changed.rfind(word).unwrap()), text.rfind(word).unwrap(), "{word}");
        }
        assert_eq!(edits.original(changed.find("text").unwrap()), 9);
    }

    #[test]
    fn a_caret_points_at_the_place() {
        let text = "select é,\n  zz\nfrom t";
        let at = text.find("zz").unwrap();
        assert_eq!(line_and_column(text, at), (2, 3));
        assert_eq!(offset(text, 2, 3), at);
        assert_eq!(offset(text, 1, 9), text.find(',').unwrap());
        assert_eq!(pointed(text, at), "    zz\n    ^");
        let long = format!("{}zz{}", "x ".repeat(100), " y".repeat(100));
        assert!(pointed(&long, 200).lines().next().unwrap().len() < 130);
    }
}
