//! The history of earlier sessions: a file that only the user can read, one entry per line.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// Maximum number of entries to keep.
const MAX_ENTRIES: usize = 2000;

/// `FLOE_HISTORY` (empty: keep none), else a file in the user's state directory.
pub fn path() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FLOE_HISTORY") {
        return Some(PathBuf::from(named)).filter(|path| !path.as_os_str().is_empty());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("floe/history"))
}

/// The entries of the file, the oldest first. A file that cannot be read is no reason not to start.
pub fn load(path: &PathBuf) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let entries: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let kept = &entries[entries.len().saturating_sub(MAX_ENTRIES)..];
    // Rewrite the file only once it has grown far beyond the limit.
    if entries.len() > 2 * MAX_ENTRIES {
        let _ = write(path, &kept.join("\n"), false);
    }
    kept.iter().map(|line| decode(line)).collect()
}

/// Adds an entry. A file that cannot be written is no reason to stop.
pub fn add(path: &PathBuf, entry: &str) {
    let _ = write(path, &encode(entry), true);
}

fn write(path: &PathBuf, text: &str, append: bool) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut options = std::fs::OpenOptions::new();
    // Statements may be confidential.
    options.create(true).mode(0o600).append(append).write(true).truncate(!append);
    writeln!(options.open(path)?, "{text}")
}

fn encode(entry: &str) -> String {
    entry.trim_end().replace('\\', "\\\\").replace('\n', "\\n")
}

fn decode(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_several_lines_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/history");
        assert_eq!(load(&path), Vec::<String>::new());
        for entry in ["select 1;", "select\n'a\\n';", "\\d t"] {
            add(&path, entry);
        }
        assert_eq!(load(&path), ["select 1;", "select\n'a\\n';", "\\d t"]);
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for _ in 0..2 * MAX_ENTRIES {
            add(&path, "x");
        }
        assert_eq!(load(&path).len(), MAX_ENTRIES);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), MAX_ENTRIES);
    }
}
