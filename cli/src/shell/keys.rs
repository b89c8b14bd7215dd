//! Decodes bytes of a terminal into keys.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// Ctrl and a letter, in lower case.
    Ctrl(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    WordLeft,
    WordRight,
    /// What follows up to `PasteEnd` was pasted: its line breaks are not Enter.
    PasteBegin,
    PasteEnd,
    /// A key without a meaning here.
    Other,
}

/// Returns the first key of some bytes and the number of bytes it took; `None` if more bytes must come.
pub fn decode(bytes: &[u8]) -> Option<(Key, usize)> {
    let first = *bytes.first()?;
    let key = match first {
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x7f | 0x08 => Key::Backspace,
        0x1b => return escape(bytes),
        1..=26 => Key::Ctrl((first - 1 + b'a') as char),
        0..0x20 => Key::Other,
        0x20..0x80 => Key::Char(first as char),
        _ => return letter(bytes),
    };
    Some((key, 1))
}

/// A character of several bytes.
fn letter(bytes: &[u8]) -> Option<(Key, usize)> {
    let length = match bytes[0] {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => return Some((Key::Other, 1)),
    };
    let whole = bytes.get(..length)?;
    let char = std::str::from_utf8(whole).ok().and_then(|text| text.chars().next());
    Some((char.map_or(Key::Other, Key::Char), length))
}

fn escape(bytes: &[u8]) -> Option<(Key, usize)> {
    match *bytes.get(1)? {
        b'[' => {
            let end = (2..bytes.len()).find(|at| (0x40..0x7f).contains(&bytes[*at]))?;
            Some((sequence(&bytes[2..end], bytes[end]), end + 1))
        }
        b'O' => Some((sequence(&[], *bytes.get(2)?), 3)),
        b'b' => Some((Key::WordLeft, 2)),
        b'f' => Some((Key::WordRight, 2)),
        // Alt+Enter: a line break, like Enter in the middle of a statement.
        b'\r' | b'\n' => Some((Key::Char('\n'), 2)),
        _ => Some((Key::Other, 2)),
    }
}

fn sequence(parameters: &[u8], last: u8) -> Key {
    // With Ctrl or Alt.
    let by_word = parameters.ends_with(b";5") || parameters.ends_with(b";3");
    match (parameters, last) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') if by_word => Key::WordRight,
        (_, b'D') if by_word => Key::WordLeft,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"3", b'~') => Key::Delete,
        (b"200", b'~') => Key::PasteBegin,
        (b"201", b'~') => Key::PasteEnd,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let all = |mut bytes: &[u8]| {
            let mut keys = vec![];
            while let Some((key, used)) = decode(bytes) {
                keys.push(key);
                bytes = &bytes[used..];
            }
            (keys, bytes.len())
        };
        use Key::*;
        assert_eq!(
            all("aé€\r\t\x7f\x01\x04".as_bytes()).0,
            [Char('a'), Char('é'), Char('€'), Enter, Tab, Backspace, Ctrl('a'), Ctrl('d')]
        );
        assert_eq!(
            all(b"\x1b[A\x1b[B\x1bOC\x1b[D\x1b[1;5C\x1bb\x1b[3~\x1b[H\x1b[4~").0,
            [Up, Down, Right, Left, WordRight, WordLeft, Delete, Home, End]
        );
        assert_eq!(all(b"\x1b[200~x\n\x1b[201~").0, [PasteBegin, Char('x'), Enter, PasteEnd]);
        assert_eq!(all(b"\x1b[99;9X").0, [Other]);
        // Keep incomplete escape sequences until more bytes arrive.
        for part in [&b"\x1b"[..], b"\x1b[", b"\x1b[1;", b"\xe2\x82"] {
            assert_eq!(all(part), (vec![], part.len()), "{part:?}");
        }
    }
}
