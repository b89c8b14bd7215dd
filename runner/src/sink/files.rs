//! Decides which existing files of a target a mode may replace, and which it must refuse.

use super::{Mode, Plan};
use floe_wire::error::{QueryError, Result};

/// Extensions of data files in a directory of results.
const DATA: [&str; 12] =
    ["parquet", "pq", "csv", "tsv", "ndjson", "jsonl", "json", "ipc", "arrow", "feather", "crc", "avro"];
/// Files that other engines leave next to data.
const MARKERS: [&str; 5] = ["_SUCCESS", "_metadata", "_common_metadata", "_started", "_committed"];
/// Directories of table formats with a log of their files; changing files without the log would break the table.
const TABLES: [(&str, &str); 3] =
    [("_delta_log/", "a Delta table"), (".hoodie/", "a Hudi table"), ("metadata/", "an Iceberg table")];

/// Names of the files below the root that the commit replaces, with slashes. `existing` has names below the root in the
/// same form.
///
/// `overwrite` replaces data files in the directory and in its `key=value` directories. Anything else there suggests a
/// mistaken path, and is refused instead of deleted or mixed with results.
pub(super) fn replaced(plan: &Plan, existing: &[String]) -> Result<Vec<String>> {
    if let Some(file) = &plan.file {
        let there = existing.iter().any(|name| name == file);
        return match plan.mode {
            Mode::Error if there => Err(exists(plan, "the file exists")),
            _ => Ok(if there { vec![file.clone()] } else { Vec::new() }),
        };
    }
    let own = plan.own_prefix();
    let is_own = |name: &str| base(name).starts_with(&own);
    for (directory, what) in TABLES {
        if plan.mode != Mode::Replace
            && existing.iter().any(|name| name.starts_with(directory) && is_table_file(directory, name))
        {
            return Err(QueryError::user(
                "BadSink",
                format!("{}: is {what}; plain files would break it, choose another directory", plan.uri()),
            ));
        }
    }
    let visible: Vec<&String> = existing.iter().filter(|name| !is_hidden(name)).collect();
    match plan.mode {
        Mode::Error => match visible.iter().find(|name| !is_own(name)) {
            Some(name) => Err(exists(plan, &format!("the directory is not empty ({name})"))),
            None => Ok(visible.into_iter().cloned().collect()),
        },
        Mode::Append => Ok(visible.into_iter().filter(|name| is_own(name)).cloned().collect()),
        Mode::Overwrite => match visible.iter().find(|name| !is_data(name)) {
            Some(name) => Err(QueryError::user(
                "BadSink",
                format!(
                    "{}: mode overwrite would delete {name}, which is no data file of a result; remove it first or \
                     choose another directory",
                    plan.uri()
                ),
            )),
            None => Ok(visible.into_iter().cloned().collect()),
        },
        // The commit replaces files with the same names.
        Mode::Replace => Ok(Vec::new()),
    }
}

fn exists(plan: &Plan, why: &str) -> QueryError {
    QueryError::user(
        "SinkExists",
        format!("{}: {why}; use mode overwrite to replace it or append to add to it", plan.uri()),
    )
}

/// Recognizes an Iceberg table by its metadata files, because `metadata/` alone is a common name.
fn is_table_file(directory: &str, name: &str) -> bool {
    directory != "metadata/" || name.ends_with(".metadata.json") || name.ends_with("version-hint.text")
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.'))
}

fn is_data(name: &str) -> bool {
    let Some((directories, file)) = name.rsplit_once('/').or(Some(("", name))) else { return false };
    let hive = directories.split('/').all(|part| part.is_empty() || part.contains('='));
    let stem = [".gz", ".zst", ".zstd"].iter().find_map(|suffix| file.strip_suffix(suffix)).unwrap_or(file);
    let known =
        stem.rsplit_once('.').is_some_and(|(_, extension)| DATA.contains(&extension.to_ascii_lowercase().as_str()));
    hive && (known || MARKERS.iter().any(|marker| file.starts_with(marker)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_other_files_are_told_apart() {
        for data in ["a.parquet", "k=1/part-0.csv.gz", "k=1/j=2/00000000.jsonl", "_SUCCESS", "x.PQ"] {
            assert!(is_data(data), "{data}");
        }
        for other in ["README.md", "sub/a.parquet", "k=1/sub/a.parquet", "parquet", "a.tar.gz", "src/main.rs"] {
            assert!(!is_data(other), "{other}");
        }
        assert!(is_hidden(".floe-x/a.parquet") && is_hidden("k=1/.tmp") && !is_hidden("k=1/a.parquet"));
    }
}
