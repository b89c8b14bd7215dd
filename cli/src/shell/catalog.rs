//! The tables in a directory: each file is a table with its name, and each subdirectory of files is one.

use std::collections::BTreeMap;
use std::path::Path;

use floe_api::data::Format;
use serde_json::{Value, json};

use crate::error::Failure;

/// Entries of `spec.tables` by name.
pub fn of_directory(directory: &Path) -> Result<BTreeMap<String, Value>, Failure> {
    let failed = |source| Failure::Read { path: directory.to_owned(), source };
    if !directory.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is no directory: give one whose files are tables, or --table NAME=URI",
            directory.display()
        )));
    }
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    let mut entries = std::fs::read_dir(directory).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if file.starts_with(['.', '_']) {
            continue;
        }
        let Some(format) = (if path.is_dir() { format_below(&path) } else { Format::of_uri(file) }) else { continue };
        let name = if path.is_dir() { file } else { file.split('.').next().unwrap_or(file) };
        let uri = if path.is_dir() { format!("{}/", path.display()) } else { path.display().to_string() };
        let table = json!({"format": format.as_str(), "uri": uri});
        if let Some(other) = found.insert(name.to_owned(), table) {
            return Err(Failure::Usage(format!(
                "two tables would be named {name}: {} and {uri}; name them by --table NAME=URI",
                other["uri"].as_str().unwrap_or_default()
            )));
        }
    }
    if found.is_empty() {
        return Err(Failure::Usage(format!(
            "{} has no files of tables (parquet, csv, ndjson, ipc)",
            directory.display()
        )));
    }
    Ok(found)
}

/// The format of the first file in a directory or the directories below it (hive partitions).
fn format_below(directory: &Path) -> Option<Format> {
    let mut entries: Vec<_> = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let visible = entries.iter().filter(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with(['.', '_']))
    });
    visible
        .into_iter()
        .find_map(|path| if path.is_dir() { format_below(path) } else { path.to_str().and_then(Format::of_uri) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_of_files_are_tables() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for file in ["a.parquet", "b.csv.gz", "notes.md", ".hidden.csv"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::fs::create_dir_all(root.join("c/year=2024")).unwrap();
        std::fs::write(root.join("c/year=2024/0.ndjson"), "").unwrap();
        std::fs::create_dir_all(root.join("empty")).unwrap();
        let found = of_directory(root).unwrap();
        let shown: Vec<_> =
            found.iter().map(|(name, table)| (name.as_str(), table["format"].as_str().unwrap())).collect();
        assert_eq!(shown, [("a", "parquet"), ("b", "csv"), ("c", "ndjson")]);
        assert!(found["c"]["uri"].as_str().unwrap().ends_with("/c/"));
        std::fs::write(root.join("a.csv"), "").unwrap();
        assert!(of_directory(root).unwrap_err().to_string().contains("two tables would be named a"));
        assert!(of_directory(&root.join("empty")).unwrap_err().to_string().contains("no files of tables"));
        assert!(of_directory(&root.join("a.csv")).unwrap_err().to_string().contains("is no directory"));
    }
}
