//! How the files of a table are read.

use bytes::Bytes;
use floe_wire::error::Result;

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub uri: String,
    pub bytes: u64,
    /// Milliseconds since 1970 of its last change.
    pub modified_ms: i64,
}

/// Reads files by their full URIs (`s3://…`, `file:///…` or an absolute path).
pub trait Files: Sync {
    /// The whole file; `None` if there is none.
    fn read(&self, uri: &str) -> Result<Option<Bytes>>;

    /// A part of a file.
    fn read_range(&self, uri: &str, range: std::ops::Range<u64>) -> Result<Bytes>;

    /// Reads many files at once, in their order. A missing one is an error that names it.
    fn read_all(&self, uris: &[String]) -> Result<Vec<Bytes>>;

    /// The files directly in a directory and in those below it, by their names.
    fn list(&self, directory: &str) -> Result<Vec<Entry>>;

    /// The rows of a Parquet file as JSON objects, one in each line, with these columns only (those that it has).
    /// Dates and timestamps are strings of ISO 8601, decimals are strings, binary values are strings of hexadecimal
    /// digits.
    fn parquet_rows(&self, uri: &str, columns: &[&str]) -> Result<String>;

    /// The columns `file_path` and `pos` of a Parquet file of Iceberg position deletes.
    fn positions(&self, uri: &str) -> Result<Vec<(String, u64)>>;
}
