//! Splits what is typed or read into statements, each ended by a semicolon. Knows only quotes and comments of SQL.

/// The complete statements, and what follows the last semicolon.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub statements: Vec<String>,
    pub rest: String,
}

/// A statement of nothing but space and comments does not count.
pub fn split(text: &str) -> Split {
    let mut found = Split::default();
    let mut begin = 0;
    let mut words = false;
    for piece in pieces(text) {
        match piece {
            Piece::Semicolon(at) => {
                if words {
                    found.statements.push(text[begin..at].trim().to_owned());
                }
                (begin, words) = (at + 1, false);
            }
            Piece::Word => words = true,
        }
    }
    if words {
        found.rest = text[begin..].trim_start().to_owned();
    }
    found
}

enum Piece {
    Semicolon(usize),
    /// Something other than space or a comment.
    Word,
}

fn pieces(text: &str) -> Vec<Piece> {
    let bytes = text.as_bytes();
    let (mut at, mut found) = (0, vec![]);
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        match bytes[at] {
            b';' => found.push(Piece::Semicolon(at)),
            b'-' if next == Some(b'-') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
                continue;
            }
            b'/' if next == Some(b'*') => {
                at = after_comment(bytes, at);
                continue;
            }
            quote @ (b'\'' | b'"' | b'`') => {
                found.push(Piece::Word);
                at += 1;
                // A doubled quote needs no special case when searching for semicolons.
                while at < bytes.len() && bytes[at] != quote {
                    at += 1;
                }
            }
            b'$' => {
                found.push(Piece::Word);
                at = after_dollars(text, at);
                continue;
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => found.push(Piece::Word),
        }
        at += 1;
    }
    found
}

/// Returns the position after a text between `$$` or `$tag$`, or after the `$` of a parameter.
fn after_dollars(text: &str, at: usize) -> usize {
    let rest = &text[at + 1..];
    let tag = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    if !rest[tag..].starts_with('$') {
        return at + 1;
    }
    let mark = &text[at..at + tag + 2];
    let body = at + mark.len();
    text[body..].find(mark).map_or(text.len(), |end| body + end + mark.len())
}

/// Returns the position after a comment, which may contain nested ones.
fn after_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut open = 0;
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => open += 1,
            (b'*', b'/') => open -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if open == 0 {
            return at;
        }
    }
    bytes.len()
}

/// The first words of a statement, in capitals, without comments.
pub fn first_words(text: &str, most: usize) -> Vec<String> {
    let mut rest = text;
    let mut words = vec![];
    while words.len() < most {
        rest = rest.trim_start();
        if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if rest.starts_with("/*") {
            rest = &rest[after_comment(rest.as_bytes(), 0)..];
        } else {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            if end == 0 {
                break;
            }
            words.push(rest[..end].to_uppercase());
            rest = &rest[end..];
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> (Vec<String>, String) {
        let found = split(text);
        (found.statements, found.rest)
    }

    #[test]
    fn semicolons_end_statements_but_in_quotes_and_comments() {
        let (statements, rest) = cut("select 1; select ';' , \";\" -- ; not here\n/* ; /* ; */ ; */ , `;`;\n select");
        assert_eq!(statements, ["select 1", "select ';' , \";\" -- ; not here\n/* ; /* ; */ ; */ , `;`"]);
        assert_eq!(rest, "select");
    }

    #[test]
    fn space_and_comments_are_no_statement() {
        for text in ["", " ;;\n ;", "-- select 1;", "/* select 1; */ ;", "/* open"] {
            assert_eq!(cut(text), (vec![], String::new()), "{text}");
        }
    }

    #[test]
    fn what_is_open_waits_for_its_end() {
        for text in ["select 'a;", "select \"a;", "select 1 /* ;"] {
            assert_eq!(cut(text), (vec![], text.to_owned()), "{text}");
        }
        assert_eq!(cut("select 'it''s;';").0, ["select 'it''s;'"]);
        assert_eq!(cut("select 'ä;ö'; x").1, "x");
        assert_eq!(cut("select $$a;'$$, $b; select $t$ $$;$t$; x").0, ["select $$a;'$$, $b", "select $t$ $$;$t$"]);
        assert_eq!(cut("select $$a;").1, "select $$a;");
    }

    #[test]
    fn a_statement_is_known_by_its_first_words() {
        assert_eq!(first_words("-- c\n/* d */ create or\nreplace view v as select 1", 3), ["CREATE", "OR", "REPLACE"]);
        assert_eq!(first_words("(select 1)", 2), Vec::<String>::new());
    }
}
