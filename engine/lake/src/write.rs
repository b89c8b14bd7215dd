//! What a query writes to a table. Its data files are written by the engine; `delta` and `iceberg` prepare the table and
//! commit the files.
//!
//! Order of calls: `prepare` before any work, which checks the table and says how files are to be written; the files are
//! written under names of their own below `Target::data`; `commit` makes them part of the table, once.

use std::collections::BTreeMap;

use bytes::Bytes;
use floe_wire::error::Result;

use crate::files::Files;
use crate::filter::Filter;
use crate::table::{Bounds, Field, Type, Value};

/// Writes the files of a table's metadata, by the same URIs.
pub trait Store: Files {
    /// Writes a file that does not exist yet; false, and nothing is changed, if it does.
    fn create(&self, uri: &str, bytes: Bytes) -> Result<bool>;

    /// Writes a file, or replaces it.
    fn write(&self, uri: &str, bytes: Bytes) -> Result<()>;

    /// Removes a file; fine if there is none.
    fn delete(&self, uri: &str) -> Result<()>;
}

/// The setting behind `Request::evolve`, for messages.
pub const EVOLVE: &str = "sink.schemaEvolution: merge";

/// What to do with the rows that a table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Fail if there is a table already.
    Create,
    /// Keep them. Creates the table if there is none.
    Append,
    /// Remove them all. Creates the table if there is none.
    Overwrite,
    /// Remove the rows of every partition that gets new ones. Creates the table if there is none.
    OverwritePartitions,
    /// Remove the rows for which the filter holds. It must hold for all new rows. Creates the table if there is none.
    OverwriteWhere(Filter),
}

impl Mode {
    /// Whether the commit may remove rows that the table has.
    pub fn removes(&self) -> bool {
        match self {
            Mode::Create | Mode::Append => false,
            Mode::Overwrite | Mode::OverwritePartitions | Mode::OverwriteWhere(_) => true,
        }
    }
}

/// How the value of a partition is made of a column's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    Identity,
    Year,
    Month,
    Day,
    Hour,
    Bucket(u32),
    Truncate(u32),
}

/// A key of a table's partitioning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionKey {
    pub column: String,
    pub transform: Transform,
}

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Request {
    /// Identity of the query, the same in all its attempts. A commit that carries it is not made a second time.
    pub query: String,
    pub attempt: String,
    pub mode: Mode,
    /// The columns of the rows, in their order. `id` and `physical` are not set.
    pub columns: Vec<Field>,
    /// How a new table is partitioned; one that exists must be partitioned like this. `None` takes the table as it is
    /// and leaves a new one without partitions.
    pub partition: Option<Vec<PartitionKey>>,
    /// Add columns that the table lacks, and widen types where the format and the table allow it, rather than refuse
    /// the rows.
    pub evolve: bool,
    /// Properties of a new table.
    pub properties: BTreeMap<String, String>,
}

/// A table that is ready for files.
#[derive(Clone, Debug)]
pub struct Target {
    /// The table's root, without a slash at its end.
    pub root: String,
    /// The directory below which data files are written, without a slash at its end.
    pub data: String,
    /// The columns of the files, in the order of the rows, as files are to hold them: under `physical` if it is set,
    /// with `id` if it is set, of this type (rows are cast to it; no cast loses a value). Those that are not in
    /// `stored` are in the metadata alone.
    pub columns: Vec<Field>,
    /// Whether each of `columns` is stored in the files.
    pub stored: Vec<bool>,
    /// The partitioning: all rows of a file have the same values of these keys.
    pub partition: Vec<PartitionKey>,
    /// Names of the directories of `partition`, in its order.
    pub directories: Vec<String>,
    /// Types of the values of `partition`, in its order.
    pub partition_types: Vec<Type>,
}

/// A data file that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Below `Target::data`.
    pub uri: String,
    pub bytes: u64,
    pub rows: u64,
    /// The values of `Target::partition`, in its order. `None` is null.
    pub partition: Vec<Option<Value>>,
    /// Bounds of plain columns at the top level, by their names in the table. Unknown ones are left out.
    pub bounds: BTreeMap<String, Bounds>,
}

/// The outcome of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Version of a Delta table, identity of an Iceberg snapshot.
    pub version: i64,
    /// The URIs of the data files that the query's commit holds: those given, or those of the attempt that was first.
    pub files: Vec<String>,
    /// Whether an earlier attempt at the query had committed already; then the files that were given are not part of
    /// the table, and the caller removes them.
    pub was_committed: bool,
}
