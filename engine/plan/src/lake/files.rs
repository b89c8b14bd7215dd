//! Reads and writes the files of tables with the query's own storage options.

use bytes::Bytes;
use floe_lake::files::{Entry, Files};
use floe_lake::parallel;
use floe_lake::write;
use floe_storage::{Location, Options, Store};
use polars_core::prelude::*;
use polars_io::HiveOptions;
use polars_io::prelude::{JsonFormat, JsonWriter, SerWriter};
use polars_lazy::frame::{LazyFrame, ScanArgsParquet};
use polars_plan::prelude::{Expr, col};
use polars_utils::pl_path::PlRefPath;

use crate::StorageOptions;
use floe_polars::{panics_as_polars, polars_error};
use floe_wire::error::{QueryError, Result};

/// Requests that are in flight at once.
const AT_ONCE: usize = 32;

pub struct TableFiles<'a> {
    pub storage: &'a StorageOptions,
}

impl TableFiles<'_> {
    fn options(&self, uri: &str) -> Options {
        self.storage.reveal(uri).into_iter().collect()
    }

    fn scan(&self, uri: &str) -> Result<LazyFrame> {
        let (cloud_options, hive_options) = (self.storage.for_uri(uri)?, HiveOptions::new_disabled());
        let args = ScanArgsParquet { cloud_options, hive_options, glob: false, ..Default::default() };
        let path = uri.strip_prefix("file://").unwrap_or(uri);
        LazyFrame::scan_parquet(PlRefPath::new(path), args).map_err(polars_error)
    }

    fn collect(&self, frame: LazyFrame) -> Result<DataFrame> {
        panics_as_polars(|| frame.with_streaming(true).collect().map_err(polars_error))
    }
}

impl Files for TableFiles<'_> {
    fn read(&self, uri: &str) -> Result<Option<Bytes>> {
        match floe_storage::read(uri, &self.options(uri)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.class == "FileNotFoundError" => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_range(&self, uri: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
        if let Location::Object { root, path } = Location::parse(uri)? {
            return Store::open(&root, &self.options(uri))?.read_range(&path, range);
        }
        let all = floe_storage::read(uri, &self.options(uri))?;
        let (from, to) = (usize::try_from(range.start).ok(), usize::try_from(range.end).ok());
        match (from, to) {
            (Some(from), Some(to)) if from <= to && to <= all.len() => Ok(all.slice(from..to)),
            _ => Err(QueryError::user("BadTable", format!("{uri}: it ends before byte {}", range.end))),
        }
    }

    fn read_all(&self, uris: &[String]) -> Result<Vec<Bytes>> {
        parallel::map(uris, AT_ONCE, |uri| floe_storage::read(uri, &self.options(uri)))
    }

    fn list(&self, directory: &str) -> Result<Vec<Entry>> {
        let entries = floe_storage::list(directory, &self.options(directory))?;
        let root = match Location::parse(directory)? {
            Location::Object { root, .. } => Some(root),
            Location::Local(_) | Location::Http(_) => None,
        };
        let entry = |entry: floe_storage::Entry| Entry {
            uri: root.as_ref().map_or_else(|| entry.path.clone(), |root| format!("{root}/{}", entry.path)),
            bytes: entry.size,
            modified_ms: i64::try_from(entry.modified_ms).unwrap_or(i64::MAX),
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn parquet_rows(&self, uri: &str, columns: &[&str]) -> Result<String> {
        let mut frame = self.scan(uri)?;
        let schema = panics_as_polars(|| frame.collect_schema().map_err(polars_error))?;
        let held: Vec<Expr> = columns.iter().filter(|name| schema.contains(name)).map(|name| col(*name)).collect();
        let mut rows = self.collect(frame.select(held))?;
        let mut lines = Vec::new();
        JsonWriter::new(&mut lines).with_json_format(JsonFormat::JsonLines).finish(&mut rows).map_err(polars_error)?;
        String::from_utf8(lines).map_err(|_| QueryError::user("BadTable", format!("{uri}: its text is not UTF-8")))
    }

    fn positions(&self, uri: &str) -> Result<Vec<(String, u64)>> {
        let rows = self.collect(self.scan(uri)?.select([col("file_path"), col("pos").cast(DataType::UInt64)]))?;
        let bad = || QueryError::user("BadTable", format!("{uri}: a position delete has no file or no position"));
        let (paths, positions) =
            (rows.column("file_path").map_err(polars_error)?, rows.column("pos").map_err(polars_error)?);
        let (paths, positions) = (paths.str().map_err(polars_error)?, positions.u64().map_err(polars_error)?);
        paths
            .iter()
            .zip(positions.iter())
            .map(|(path, pos)| Ok((path.ok_or_else(bad)?.to_owned(), pos.ok_or_else(bad)?)))
            .collect()
    }
}

impl write::Store for TableFiles<'_> {
    fn create(&self, uri: &str, bytes: Bytes) -> Result<bool> {
        floe_storage::create(uri, bytes, &self.options(uri))
    }

    fn write(&self, uri: &str, bytes: Bytes) -> Result<()> {
        floe_storage::write(uri, bytes, &self.options(uri))
    }

    fn delete(&self, uri: &str) -> Result<()> {
        floe_storage::delete(uri, &self.options(uri))
    }
}
