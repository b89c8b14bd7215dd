//! A snapshot of a table as a scan needs it, whichever format it is of.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use crate::delta::write::text;

/// The type of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Decimal {
        precision: u8,
        scale: u8,
    },
    String,
    Binary,
    /// Bytes of a fixed length.
    Fixed(u32),
    Uuid,
    Date,
    /// Microseconds since midnight.
    Time,
    /// An instant if it has a zone (always UTC), else a time of the calendar.
    Timestamp {
        unit: Unit,
        utc: bool,
    },
    List(Box<Field>),
    /// In Parquet a list of structs of `key` and `value`.
    Map {
        key: Box<Field>,
        value: Box<Field>,
    },
    Struct(Vec<Field>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Micros,
    Nanos,
}

/// A column, or a field of a nested one.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub dtype: Type,
    pub nullable: bool,
    /// Its name in the files, if they may have another one.
    pub physical: Option<String>,
    /// Its id in the files. Where columns are found by ids, all fields have one.
    pub id: Option<i32>,
    /// Its value in files that were written before the column was added; null if there is none.
    pub initial: Option<Value>,
}

/// A value in a table's metadata: of a partition, a bound or a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    Boolean(bool),
    /// Also the days of dates, the microseconds of times, the units of timestamps.
    Int(i64),
    Float(f64),
    /// The unscaled number.
    Decimal(i128),
    String(String),
    Binary(Vec<u8>),
}

impl Value {
    /// For people. Of times in nanoseconds the microseconds.
    pub fn text(&self, dtype: &Type) -> String {
        match (self, dtype) {
            (Value::Int(nanos), Type::Timestamp { unit: Unit::Nanos, utc }) => {
                Value::Int(nanos.div_euclid(1_000)).text(&Type::Timestamp { unit: Unit::Micros, utc: *utc })
            }
            (Value::Binary(bytes), _) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            _ => match text::partition(Some(self), dtype) {
                Ok(text) => text.unwrap_or_default(),
                Err(_) => format!("{self:?}"),
            },
        }
    }
}

/// How the columns of files are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// By `physical` if a field has it, else by `name`.
    Name,
    /// By `id`. Files without ids are read by the names in the table's name mapping (`physical`).
    Id,
}

/// What the metadata says of a column in a file. What is unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// No value is less. May be less than every value (a text that was cut off).
    pub min: Option<Value>,
    /// No value is greater.
    pub max: Option<Value>,
    pub nulls: Option<u64>,
}

/// A Parquet file of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFile {
    pub uri: String,
    pub bytes: u64,
    /// Number of rows in the file, the deleted ones included. Always known if `deleted` is not empty.
    pub rows: Option<u64>,
    /// The values of the columns in `Group::partition`; `None` is null.
    pub partition: Vec<Option<Value>>,
    /// By the name of the column. Only columns of the top level.
    pub bounds: BTreeMap<String, Bounds>,
    /// Positions of deleted rows.
    pub deleted: Option<Arc<RoaringTreemap>>,
}

/// Files of rows that are deleted wherever all their columns are equal, null to null.
#[derive(Clone, Debug, PartialEq)]
pub struct EqualityDelete {
    /// Names of columns of the table.
    pub columns: Vec<String>,
    /// Parquet files that hold these columns.
    pub uris: Vec<String>,
}

/// Files that one scan reads alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Columns whose values come from the metadata of each file, not from the file.
    pub partition: Vec<String>,
    pub files: Vec<DataFile>,
    pub deletes: Vec<EqualityDelete>,
}

/// A snapshot of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The table's root, without a slash at its end.
    pub root: String,
    /// Version of a Delta table, identity of an Iceberg snapshot. `None`: the table has no snapshot yet, and no rows.
    pub version: Option<i64>,
    pub columns: Vec<Field>,
    pub mapping: Mapping,
    pub groups: Vec<Group>,
}

/// Which snapshot is wanted. At most one is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct At {
    /// Version of a Delta table.
    pub version: Option<i64>,
    /// Identity of an Iceberg snapshot.
    pub snapshot: Option<i64>,
    /// Branch or tag of an Iceberg table.
    pub reference: Option<String>,
    /// The last snapshot that was current then, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}
