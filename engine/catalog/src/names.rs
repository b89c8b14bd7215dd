//! Names in paths of URLs.

use std::fmt::Write as _;

/// Between the levels of a namespace, unless the catalog says otherwise.
pub const SEPARATOR: &str = "%1F";

/// One segment of a path, or a value of a query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// A namespace as one segment. The separator is encoded already.
pub fn namespace<S: AsRef<str>>(levels: &[S], separator: &str) -> String {
    levels.iter().map(|level| encode(level.as_ref())).collect::<Vec<_>>().join(separator)
}

/// For people.
pub fn dotted<S: AsRef<str>>(levels: &[S]) -> String {
    levels.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(".")
}

/// A table for people.
pub fn table<S: AsRef<str>>(namespace: &[S], name: &str) -> String {
    match namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{}.{name}", dotted(namespace)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment_each() {
        assert_eq!(encode("a/b c?é%"), "a%2Fb%20c%3F%C3%A9%25");
        assert_eq!(namespace(&["a.b", "c"], SEPARATOR), "a.b%1Fc");
        assert_eq!(namespace(&["x"], "%2E"), "x");
        assert_eq!(table(&["a", "b"], "t"), "a.b.t");
    }
}
