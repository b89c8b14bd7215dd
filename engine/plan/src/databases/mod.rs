//! Tables and queries of PostgreSQL as plans. `floe-postgres` speaks with the database; here its tables are scans while a
//! plan is optimized, so that Polars moves columns, filters and limits down to them (`table`). Then each becomes a frame
//! with one row for each connection that reads it (`put`): what can be said in SQL is in the statements (`pushed`), the rest
//! stays above. Tasks turn what they read into frames (`frames`).

mod frames;
mod pushed;
mod put;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use floe_api::{Format, PartitionBy, TableSpec};
use floe_postgres::{Session, Source, Unit};
use polars_core::prelude::*;
use polars_lazy::frame::LazyFrame;
use serde_json::{Value, json};

use crate::StorageOptions;
use floe_polars::polars_error;
use floe_wire::error::Result;

pub use frames::frame;
pub use put::put_in;
pub use table::{Held, held};

/// The column of a frame that stands for a table: what each connection reads, packed. No other frame has a column of this
/// name, and no node above sees it.
pub const UNITS: &str = "__floe_database";

/// The databases that a query reads, each with one transaction for all of its tables.
#[derive(Debug, Default)]
pub(crate) struct Databases(Mutex<BTreeMap<String, Arc<Session>>>);

impl Databases {
    fn session(&self, source: &Source) -> Result<Arc<Session>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get(&source.identity()) {
            return Ok(session.clone());
        }
        let session = Arc::new(Session::open(source)?);
        sessions.insert(source.identity(), session.clone());
        Ok(session)
    }
}

/// Whether tables of a format are in a database.
pub fn is_database(format: Format) -> bool {
    format == Format::Postgres
}

/// The rows of a table of the query.
pub fn open(table: &TableSpec, storage: &StorageOptions) -> Result<LazyFrame> {
    let source = Source::parse(&table.uri, &options(table), &storage.of_database(table.storage.as_deref()))?;
    let session = storage.databases().session(&source)?;
    let described = session.describe(&source.what)?;
    table::frame(source, session, described).map_err(polars_error)
}

/// The options as `floe-postgres` takes them.
fn options(table: &TableSpec) -> BTreeMap<String, Value> {
    let mut options = table.options.clone();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    put("table", table.table.as_ref().map(|name| json!(name)));
    put("query", table.query.as_ref().map(|text| json!(text)));
    put(
        "partition",
        table.partition.as_ref().map(|partition| {
            let mut fields = json!({"column": partition.column});
            if let Some(by) = partition.by {
                fields["by"] = json!(match by {
                    PartitionBy::Range => "range",
                    PartitionBy::Value => "value",
                });
            }
            if let Some(count) = partition.count {
                fields["count"] = json!(count);
            }
            if !partition.bounds.is_empty() {
                fields["bounds"] = json!(partition.bounds);
            }
            fields
        }),
    );
    options
}

/// What the rows of a frame stand for; nothing if they are rows.
pub fn units(df: &DataFrame) -> Result<Option<Vec<Unit>>> {
    let Ok(column) = df.column(UNITS) else { return Ok(None) };
    let packed = column.binary().map_err(polars_error)?;
    packed.iter().flatten().map(Unit::unpack).collect::<Result<_>>().map(Some)
}

/// Whether the rows of a frame stand for those of a table.
pub fn stands_for_table(df: &DataFrame) -> bool {
    df.schema().contains(UNITS)
}

/// Rows and bytes of the table that a frame stands for, as its database guesses.
pub fn guessed(df: &DataFrame) -> Option<(u64, u64)> {
    let units = units(df).ok().flatten()?;
    Some(units.iter().fold((0, 0), |(rows, bytes), unit| (rows + unit.rows, bytes + unit.bytes)))
}

#[cfg(test)]
mod tests;
