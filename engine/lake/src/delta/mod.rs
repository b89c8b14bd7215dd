//! Delta tables, by the protocol at https://github.com/delta-io/delta/blob/master/PROTOCOL.md.
//!
//! Belongs here: the log, and what it says of the files. Does not belong here: the files' rows.

mod actions;
mod error;
mod log;
mod paths;
mod protocol;
mod replay;
mod schema;
mod stats;
#[cfg(test)]
mod tests;
mod time;
pub(crate) mod values;
mod vectors;
pub mod write;

use std::sync::Arc;

use roaring::RoaringTreemap;

use self::actions::{Metadata, Vector};
use self::error::{bad_table, unsupported};
use self::log::Log;
use self::replay::Live;
use self::schema::Schema;
use self::stats::{Columns, Context, Stats};
use crate::files::Files;
use crate::parallel;
use crate::table::{At, DataFile, Field, Group, Mapping, Table, Value};
use floe_wire::error::{QueryError, Result};

/// How many files of a log are read at once.
const READERS: usize = 8;

/// Reads the snapshot of the table at this root.
pub fn table(files: &dyn Files, root: &str, at: &At) -> Result<Table> {
    let root = root.trim_end_matches('/');
    refuse_iceberg(root, at)?;
    let log = Log::list(files, root)?;
    let version = match (at.version, at.timestamp_ms) {
        (Some(version), _) => version,
        (None, Some(time_ms)) => time::version_at(files, root, &log, time_ms)?,
        (None, None) => log.latest(),
    };
    let snapshot = replay::snapshot(files, root, &log.segment(root, version)?)?;
    protocol::check(root, &snapshot.protocol)?;
    let metadata = &snapshot.metadata;
    check_format(root, metadata)?;
    let mapping = protocol::mapping(root, &snapshot.protocol, metadata)?;
    let schema = metadata.schema_string.as_deref().ok_or_else(|| bad_table(root, "its metadata has no schema"))?;
    let schema = schema::parse(root, schema, mapping)?;
    let partition = metadata.partition_columns.clone().unwrap_or_default();
    let files = data_files(files, root, &schema, &partition, snapshot.files)?;
    let groups = if files.is_empty() { vec![] } else { vec![Group { partition, files, deletes: vec![] }] };
    Ok(Table {
        root: root.to_owned(),
        version: Some(version),
        columns: schema.fields,
        mapping: mapping.unwrap_or(Mapping::Name),
        groups,
    })
}

fn refuse_iceberg(root: &str, at: &At) -> Result<()> {
    let name = match at {
        At { snapshot: Some(_), .. } => "a snapshot",
        At { reference: Some(_), .. } => "a reference",
        _ => return Ok(()),
    };
    let what = format!("{root} is a Delta table, which is not read by {name} as an Iceberg table is");
    Err(QueryError::user("NoSuchVersion", format!("{what}; give a version or a timestamp")))
}

fn check_format(root: &str, metadata: &Metadata) -> Result<()> {
    match metadata.format.as_ref().and_then(|format| format.provider.as_deref()) {
        None | Some("parquet") => Ok(()),
        Some(other) => {
            let what = format!("its files are of the format \"{other}\", and Floe reads Parquet");
            Err(unsupported(root, what, "copy it to a table of Parquet files"))
        }
    }
}

/// What a scan needs to know of each file.
fn data_files(
    files: &dyn Files,
    root: &str,
    schema: &Schema,
    partition: &[String],
    live: Vec<Live>,
) -> Result<Vec<DataFile>> {
    let keys = partition_fields(root, schema, partition)?;
    let columns = Columns::new(&schema.fields, &schema.was_float, partition);
    let vectors: Vec<_> = live.iter().filter_map(|file| vector(file)).collect();
    let mut deleted = vectors::read(files, root, &vectors)?.into_iter();
    let with_vectors = live.into_iter().map(|file| {
        let deleted = vector(&file).and_then(|_| deleted.next());
        (file, deleted)
    });
    parallel::map_chunks(with_vectors.collect(), |(file, deleted)| data_file(root, &keys, &columns, file, deleted))
}

fn vector(file: &Live) -> Option<&Vector> {
    file.add.vector.as_ref().filter(|vector| vector.storage_type.is_some())
}

fn partition_fields<'a>(root: &str, schema: &'a Schema, partition: &[String]) -> Result<Vec<&'a Field>> {
    let find = |name: &String| {
        let field = schema.fields.iter().find(|field| field.name == *name);
        field.ok_or_else(|| bad_table(root, format!("its schema lacks the column of partitions \"{name}\"")))
    };
    partition.iter().map(find).collect()
}

fn data_file(
    root: &str,
    keys: &[&Field],
    columns: &Columns,
    file: Live,
    deleted: Option<Arc<RoaringTreemap>>,
) -> Result<DataFile> {
    let Live { uri, add } = file;
    let partition = keys.iter().map(|key| partition_value(root, &uri, key, &add)).collect::<Result<_>>()?;
    let deleted = deleted.filter(|rows| !rows.is_empty());
    let (stats, parsed) = match (&add.stats, add.stats_parsed) {
        // Statistics only save time: without them a file is read in full.
        (Some(text), _) => (serde_json::from_str::<Stats>(text).ok(), false),
        (None, stats) => (stats, true),
    };
    let stats = stats.unwrap_or_default();
    if let Some(rows) = &deleted {
        let Some(count) = stats.num_records else {
            return Err(bad_table(
                root,
                format!("{uri} has a deletion vector, but no number of rows (\"numRecords\")"),
            ));
        };
        if rows.max().is_some_and(|last| last >= count) {
            return Err(bad_table(root, format!("a row past the {count} rows of {uri} is deleted")));
        }
    }
    let context = Context { parsed, deleted: deleted.as_ref().map(|rows| rows.len()) };
    Ok(DataFile {
        bytes: add.size.ok_or_else(|| bad_table(root, format!("its log has no size of {uri}")))?,
        rows: stats.num_records,
        partition,
        bounds: columns.bounds(&stats, context),
        deleted,
        uri,
    })
}

fn partition_value(root: &str, uri: &str, key: &Field, add: &actions::Add) -> Result<Option<Value>> {
    let name = key.physical.as_deref().unwrap_or(&key.name);
    let text = add.partition.as_ref().and_then(|values| values.get(name)?.as_deref()).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let value = values::partition(text, &key.dtype);
    let bad = || {
        let name = &key.name;
        bad_table(root, format!("\"{text}\" is no value of the type of column \"{name}\", which partitions {uri}"))
    };
    Ok(Some(value.ok_or_else(bad)?))
}
