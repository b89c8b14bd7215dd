//! Writes a result into a Delta or Iceberg table: its rows in the table's types, how they are parted into files, and the
//! commit that makes the files part of the table.
//!
//! The files are written like those of any Parquet sink, under names of their own that no reader of the table looks for.
//! They are part of the table once its metadata names them, which is one conditional write. The commit holds the query's
//! identity, so a second attempt at the query finds it and changes nothing.

mod bounds;
pub mod bucket;
pub mod columns;
mod partition;

use std::path::Path;
use std::sync::Arc;

use floe_api::{Format, SchemaEvolution, SinkMode, SinkOverwrite, SinkSpec};
use floe_lake::delta::write as delta;
use floe_lake::files::Files as _;
use floe_lake::filter::Filter;
use floe_lake::iceberg::write as iceberg;
use floe_lake::table::{Field, Value};
use floe_lake::write::{Committed, Mode, Request, Store, Target, Written};
use polars_arrow::datatypes::ArrowSchemaRef;
use polars_buffer::Buffer;
use polars_core::prelude::*;
use polars_io::parquet::metadata::FileMetadataRef;
use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::{DslPlan, ScanSources};

use super::catalogs::CatalogTable;
use super::files::TableFiles;
use super::scan::path;
use super::{footers, root_of, types};
use crate::StorageOptions;
use floe_polars::{panics_as_polars, polars_error};
use floe_wire::error::{QueryError, Result};

/// A table that a result is written into.
#[derive(Clone, Debug)]
pub struct TableSink {
    /// The columns of the rows.
    schema: SchemaRef,
    format: Format,
    root: String,
    /// Who keeps the table's metadata, if not its own files.
    catalog: Option<CatalogTable>,
    /// The name of the query's storage that has the table's files.
    own: Option<String>,
    request: Request,
    target: Target,
    storage: StorageOptions,
}

/// A file that was written, complete and under its name.
pub struct File {
    pub uri: String,
    pub bytes: u64,
    /// The values of the partition keys, in their order.
    pub keys: Vec<Option<Value>>,
}

impl TableSink {
    /// Checks the table, and that these rows go into it. Writes nothing.
    pub fn prepare(
        spec: &SinkSpec,
        query: &str,
        plan: &DslPlan,
        storage: StorageOptions,
        base: &Path,
    ) -> Result<TableSink> {
        if matches!(plan, DslPlan::Sink { .. } | DslPlan::SinkMultiple { .. }) {
            let message = "the plan ends in sinks of its own: leave spec.sink out, or remove them from the plan";
            return Err(QueryError::user("BadSpec", message));
        }
        let schema = schema(plan)?;
        let format = spec.resolved_format().unwrap_or(Format::Delta);
        let partition = match spec.partition_by.as_slice() {
            [] => None,
            texts => Some(partition::keys(texts, &schema)?),
        };
        let request = Request {
            query: query.to_owned(),
            attempt: String::new(),
            mode: mode(spec)?,
            columns: columns::of(&schema)?,
            partition,
            evolve: spec.schema_evolution == Some(SchemaEvolution::Merge),
            properties: Default::default(),
        };
        let catalog = match (&spec.catalog, &spec.table) {
            (Some(catalog), Some(table)) => Some(CatalogTable::find(catalog, table, &storage)?),
            _ => None,
        };
        let own = spec.storage.clone();
        let (target, storage) = match &catalog {
            Some(catalog) => {
                let target = iceberg::prepare_in(catalog, &request)?;
                (target, catalog.storage(&storage, own.as_deref())?)
            }
            None => {
                let (root, files) = (root_of(&spec.uri, base), TableFiles { storage: &storage });
                let target = match format {
                    Format::Iceberg => iceberg::prepare(&files, &root, &request)?,
                    _ => delta::prepare(&files, &root, &request)?,
                };
                (target, storage)
            }
        };
        let root = target.root.clone();
        Ok(TableSink { schema, format, root, catalog, own, request, target, storage })
    }

    /// The table's root, without a slash at its end.
    pub fn root(&self) -> &str {
        &self.target.root
    }

    /// The rows as they go into the files, with the columns of `keys` beside them. `plan` has the columns that the sink was
    /// prepared for.
    pub fn rows(&self, plan: DslPlan) -> Result<DslPlan> {
        columns::rows(plan, &self.schema, &self.target)
    }

    /// The directory of the files, with a slash at its end.
    pub fn data(&self) -> String {
        format!("{}/", self.target.data)
    }

    /// Columns that part the rows into files, and the names of their directories.
    pub fn keys(&self) -> impl Iterator<Item = (String, &str)> {
        self.target.directories.iter().enumerate().map(|(at, directory)| (columns::key_name(at), directory.as_str()))
    }

    /// The schema of the files, if it is more than the rows' own: with the ids of columns.
    pub fn file_schema(&self) -> Option<ArrowSchemaRef> {
        let stored = self.stored();
        let has_ids = stored.iter().any(|column| column.id.is_some());
        has_ids.then(|| Arc::new(types::schema_of_files(&stored)))
    }

    fn stored(&self) -> Vec<&Field> {
        self.target.columns.iter().zip(&self.target.stored).filter(|(_, s)| **s).map(|(column, _)| column).collect()
    }

    /// Makes files part of the table. May be called again, also by other attempts at the query; then nothing changes.
    pub fn commit(&self, attempt: &str, files: &[File]) -> Result<Committed> {
        let request = Request { attempt: attempt.to_owned(), ..self.request.clone() };
        // The credentials that a catalog gave may have expired since.
        let storage = match &self.catalog {
            Some(catalog) => catalog.storage(&self.storage, self.own.as_deref())?,
            None => self.storage.clone(),
        };
        let store = TableFiles { storage: &storage };
        let written = self.written(files, &storage)?;
        match (&self.catalog, self.format) {
            (Some(catalog), _) => iceberg::commit_in(&store, catalog, &self.target, &request, &written),
            (None, Format::Iceberg) => iceberg::commit(&store, &self.target, &request, &written),
            (None, _) => delta::commit(&store, &self.target, &request, &written),
        }
    }

    /// The files that a commit of this query made part of the table, if there is one.
    pub fn committed(&self) -> Result<Option<Committed>> {
        let (store, query) = (TableFiles { storage: &self.storage }, &self.request.query);
        match (&self.catalog, self.format) {
            (Some(catalog), _) => iceberg::committed_in(&store, catalog, query),
            (None, Format::Iceberg) => iceberg::committed(&store, &self.root, query),
            (None, _) => delta::committed(&store, &self.root, query),
        }
    }

    /// How the files are reached.
    pub fn options(&self) -> floe_storage::Options {
        self.storage.reveal(&self.target.data).into_iter().collect()
    }

    /// Where the files of a sink's table are, with a slash at its end; `None` if there is no table.
    pub fn data_of(spec: &SinkSpec, storage: &StorageOptions) -> Result<Option<(String, floe_storage::Options)>> {
        let (root, storage) = match (&spec.catalog, &spec.table) {
            (Some(catalog), Some(table)) => match CatalogTable::find(catalog, table, storage)?.load_if_there()? {
                Some(loaded) => {
                    (loaded.location.clone(), super::catalogs::storage_of(&loaded, storage, spec.storage.as_deref())?)
                }
                None => return Ok(None),
            },
            _ => (spec.uri.clone(), storage.clone()),
        };
        let root = root.trim_end_matches('/');
        let data = match spec.resolved_format() {
            Some(Format::Iceberg) => format!("{root}/data/"),
            _ => format!("{root}/"),
        };
        let options = storage.reveal(&data).into_iter().collect();
        Ok(Some((data, options)))
    }

    /// All files in the directory of the table's files.
    pub fn files(&self) -> Result<Vec<String>> {
        let entries = TableFiles { storage: &self.storage }.list(&self.target.data)?;
        Ok(entries.into_iter().map(|entry| entry.uri).collect())
    }

    pub fn delete(&self, uri: &str) -> Result<()> {
        TableFiles { storage: &self.storage }.delete(uri)
    }

    fn written(&self, files: &[File], storage: &StorageOptions) -> Result<Vec<Written>> {
        let (stored, mut written) = (self.stored(), Vec::with_capacity(files.len()));
        for (file, footer) in files.iter().zip(footers_of(files, storage)?) {
            let rows = footer.num_rows as u64;
            if rows == 0 {
                continue;
            }
            let bounds = bounds::of(&footer, &stored);
            let nulls = stored.iter().find(|column| {
                !column.nullable && bounds.get(&column.name).is_none_or(|bounds| bounds.nulls.is_none_or(|n| n > 0))
            });
            if let Some(column) = nulls {
                let message = format!(
                    "column '{}' of {} takes no nulls, and the result has some: fill or drop them",
                    column.name, self.root
                );
                return Err(QueryError::user("NullsInRequiredColumn", message));
            }
            let (uri, bytes, partition) = (file.uri.clone(), file.bytes, file.keys.clone());
            written.push(Written { uri, bytes, rows, partition, bounds });
        }
        Ok(written)
    }
}

/// What becomes of the rows that the table has.
fn mode(spec: &SinkSpec) -> Result<Mode> {
    let bad = |message: &str| Err(QueryError::user("BadSpec", message));
    Ok(match (spec.mode, spec.overwrite, &spec.overwrite_where) {
        (SinkMode::Error, None, None) => Mode::Create,
        (SinkMode::Append, None, None) => Mode::Append,
        (SinkMode::Error | SinkMode::Append, _, _) => {
            return bad("sink.overwrite and sink.overwriteWhere go with sink.mode: overwrite only");
        }
        (SinkMode::Overwrite, None | Some(SinkOverwrite::Table), None) => Mode::Overwrite,
        (SinkMode::Overwrite, Some(SinkOverwrite::Partitions), None) => Mode::OverwritePartitions,
        (SinkMode::Overwrite, None, Some(filter)) => Mode::OverwriteWhere(Filter::parse(filter)?),
        (SinkMode::Overwrite, Some(_), Some(_)) => {
            return bad("sink.overwriteWhere excludes sink.overwrite: write only one of them");
        }
    })
}

fn footers_of(files: &[File], storage: &StorageOptions) -> Result<Vec<FileMetadataRef>> {
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let sources = ScanSources::Paths(files.iter().map(|file| path(&file.uri)).collect::<Buffer<_>>());
    let footers = footers::all(&sources, storage.for_uri(&first.uri)?)?;
    match footers.len() == files.len() {
        true => Ok(footers),
        false => Err(QueryError::internal("files of a table were written without footers")),
    }
}

fn schema(plan: &DslPlan) -> Result<SchemaRef> {
    panics_as_polars(|| LazyFrame::from(plan.clone()).collect_schema().map_err(polars_error))
}
