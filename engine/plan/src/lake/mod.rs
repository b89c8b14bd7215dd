//! Delta and Iceberg tables as plans. `floe-lake` finds the files of a snapshot; here they become scans of Parquet files
//! with what the table's metadata knows of them, so that filters leave out files, and the planner cuts what is left into
//! tasks like any other Parquet files.

use std::path::Path;

use floe_api::{Format, TableSpec};
use floe_lake::table::Table;
use floe_lake::{delta, iceberg, options};
use polars_lazy::frame::LazyFrame;

use crate::StorageOptions;
use floe_wire::error::{QueryError, Result};

pub mod catalogs;
pub mod datasets;
pub mod deleted;
mod fields;
mod files;
pub mod footers;
mod pickle;
mod scan;
pub mod stand_ins;
mod statistics;
pub mod types;
pub mod write;

/// Whether a format is one of tables with metadata of their own.
pub fn is_table(format: Format) -> bool {
    matches!(format, Format::Delta | Format::Iceberg)
}

/// The rows of a table of the query.
pub fn open(table: &TableSpec, storage: &StorageOptions, base: &Path) -> Result<LazyFrame> {
    let (found, storage) = snapshot(table, storage, base)?;
    scan::frame(&found, &storage)
}

/// The snapshot of a table of the query that is read, and the options that open its files.
pub fn snapshot(table: &TableSpec, storage: &StorageOptions, base: &Path) -> Result<(Table, StorageOptions)> {
    if let (Some(catalog), Some(name)) = (&table.catalog, &table.table) {
        return of_catalog(catalog, name, table, storage);
    }
    let files = files::TableFiles { storage };
    let root = root_of(&table.uri, base);
    let found = match table.resolved_format() {
        Some(Format::Delta) => delta::table(&files, &root, &options::of_delta(&table.options)?)?,
        Some(Format::Iceberg) => iceberg::table(&files, &root, &options::of_iceberg(&table.options)?)?,
        _ => {
            let message = format!("{} is no delta or iceberg table, which have metadata of their files", table.uri);
            return Err(QueryError::user("BadSpec", message));
        }
    };
    Ok((found, storage.clone()))
}

fn of_catalog(
    catalog: &str,
    name: &str,
    table: &TableSpec,
    storage: &StorageOptions,
) -> Result<(Table, StorageOptions)> {
    let loaded = catalogs::CatalogTable::find(catalog, name, storage)?.load()?;
    let storage = catalogs::storage_of(&loaded, storage, table.storage.as_deref())?;
    let files = files::TableFiles { storage: &storage };
    let uri = loaded.metadata_location.as_deref().unwrap_or(&loaded.location);
    let found = iceberg::table_of(&files, &loaded.metadata, uri, &options::of_iceberg(&table.options)?)?;
    Ok((found, storage))
}

fn root_of(uri: &str, base: &Path) -> String {
    let root = uri.trim_end_matches('/');
    let path = root.strip_prefix("file://").unwrap_or(root);
    if path.contains("://") { root.to_owned() } else { base.join(path).to_string_lossy().into_owned() }
}
