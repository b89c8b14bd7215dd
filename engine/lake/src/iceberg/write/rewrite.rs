//! Removes files from manifests: their entries are marked as deleted, and those that stay get the values that they
//! inherited so far.

use serde_json::Value as Json;

use super::list::{ADDED, Counts, DELETED, EXISTING, ManifestFile};
use super::summary::Removed;
use crate::iceberg::avro::decode::Datum;
use crate::iceberg::avro::write::Writer;
use crate::iceberg::avro::{Container, Result};
use crate::iceberg::schemas;

// Fields of an entry and of its data file.
const STATUS: i32 = 0;
const SNAPSHOT: i32 = 1;
const DATA_FILE: i32 = 2;
const SEQUENCE: i32 = 3;
const FILE_SEQUENCE: i32 = 4;
const PARTITION: i32 = 102;
const ROWS: i32 = 103;
const CONTENT: i32 = 134;
const FIRST_ROW: i32 = 142;

/// How a manifest is written again.
#[derive(Clone, Copy)]
pub struct Into {
    pub format: u32,
    pub snapshot: i64,
    pub sequence: i64,
}

/// Removes the files of the partitions that `gone` returns true for; `None` if there are none.
pub fn without(
    bytes: &[u8],
    old: &ManifestFile,
    into: Into,
    gone: impl Fn(&Datum<'_>) -> Result<bool>,
) -> Result<Option<(Vec<u8>, ManifestFile, Removed)>> {
    let container = Container::open(bytes, &[])?;
    let schema = schemas::manifest(&partition(&container)?, into.format);
    let version = into.format.to_string();
    let kept = ["schema", "schema-id", "partition-spec", "partition-spec-id"];
    let kept: Vec<(&str, String)> =
        kept.into_iter().filter_map(|key| Some((key, container.text(key)?.to_string()))).collect();
    let mut header: Vec<(&str, &str)> = kept.iter().map(|(key, value)| (*key, value.as_str())).collect();
    header.push(("format-version", &version));
    header.push(("content", if old.is_data() { "data" } else { "deletes" }));
    let mut writer = Writer::new(&schema, &header)?;
    let (mut counts, mut removed) = (Counts::default(), Removed::default());
    let mut min_sequence = None;
    let mut first_row = old.first_row.filter(|_| old.is_data());
    container.rows(|mut row| {
        let status = row.field(STATUS).int().ok_or("an entry has no status")?;
        if status == 2 {
            return Ok(());
        }
        inherit(&mut row, status, old, &mut first_row)?;
        let rows = row.field(DATA_FILE).field(ROWS).int().unwrap_or(0);
        let status = if gone(row.field(DATA_FILE).field(PARTITION))? {
            removed.add(row.field(DATA_FILE));
            set(&mut row, SNAPSHOT, Datum::Int(into.snapshot));
            DELETED
        } else {
            let sequence = row.field(SEQUENCE).int();
            min_sequence = min_sequence.into_iter().chain(sequence).min();
            EXISTING
        };
        counts.files[status] += 1;
        counts.rows[status] += rows;
        set(&mut row, STATUS, Datum::Int(if status == DELETED { 2 } else { 0 }));
        writer.row(&row)
    })?;
    if counts.files[DELETED] == 0 {
        return Ok(None);
    }
    let manifest = ManifestFile {
        path: String::new(),
        sequence: into.sequence,
        min_sequence: min_sequence.unwrap_or(into.sequence),
        snapshot: into.snapshot,
        counts: Some(counts),
        first_row: None,
        ..old.clone()
    };
    Ok(Some((writer.finish()?, manifest, removed)))
}

/// Writes into an entry what readers take from the manifest list.
fn inherit(row: &mut Datum<'_>, status: i64, old: &ManifestFile, first_row: &mut Option<i64>) -> Result<()> {
    if row.field(SNAPSHOT).int().is_none() {
        set(row, SNAPSHOT, Datum::Int(old.snapshot));
    }
    for id in [SEQUENCE, FILE_SEQUENCE] {
        if row.field(id).int().is_none() {
            // Manifests of version 1 have no sequence numbers, which count as 0.
            if status != 1 && old.sequence != 0 {
                return Err("an entry that is not new has no sequence number".into());
            }
            set(row, id, Datum::Int(old.sequence));
        }
    }
    let file = field_mut(row, DATA_FILE).ok_or("an entry has no data_file")?;
    if file.field(CONTENT).int().is_none() {
        set(file, CONTENT, Datum::Int(0));
    }
    if let (Some(next), None) = (first_row.as_mut(), file.field(FIRST_ROW).int()) {
        let rows = file.field(ROWS).int().unwrap_or(0);
        set(file, FIRST_ROW, Datum::Int(*next));
        *next += rows;
    }
    Ok(())
}

fn field_mut<'r, 'a>(record: &'r mut Datum<'a>, id: i32) -> Option<&'r mut Datum<'a>> {
    match record {
        Datum::Record(fields) => fields.iter_mut().find(|(field, _)| *field == id).map(|(_, value)| value),
        _ => None,
    }
}

fn set<'a>(record: &mut Datum<'a>, id: i32, value: Datum<'a>) {
    if let Some(field) = field_mut(record, id) {
        *field = value;
    } else if let Datum::Record(fields) = record {
        fields.push((id, value));
    }
}

/// The record of partition values as the manifest declares it. With it, neither the transforms nor dropped columns need
/// to be known.
fn partition(container: &Container<'_>) -> Result<Json> {
    let schema = container.text("avro.schema").ok_or("it has no schema")?;
    let schema: Json = serde_json::from_str(schema).map_err(|error| format!("its schema is not JSON: {error}"))?;
    let field = |record: &Json, id: i32| {
        let fields = record.get("fields")?.as_array()?;
        let field = fields.iter().find(|field| field.get("field-id").and_then(Json::as_i64) == Some(id.into()))?;
        field.get("type").cloned()
    };
    let file = field(&schema, DATA_FILE).ok_or("its schema has no data_file")?;
    let partition = field(&file, PARTITION).ok_or("its schema has no partition")?;
    let fields = partition.get("fields").and_then(Json::as_array).ok_or("its schema has no partition fields")?;
    match fields.iter().all(|field| field.get("field-id").is_some()) {
        true => Ok(partition),
        false => Err("its schema has a partition field without an id".into()),
    }
}

/// Counts the files of a manifest by their status, for lists that do not have these counts.
pub fn count(bytes: &[u8]) -> Result<Counts> {
    let mut counts = Counts::default();
    Container::open(bytes, &[])?.rows(|row| {
        let kind = match row.field(STATUS).int() {
            Some(0) => EXISTING,
            Some(1) => ADDED,
            _ => DELETED,
        };
        counts.files[kind] += 1;
        counts.rows[kind] += row.field(DATA_FILE).field(ROWS).int().unwrap_or(0);
        Ok(())
    })?;
    Ok(counts)
}

/// The paths of the files that a manifest adds.
pub fn added_paths(bytes: &[u8]) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    Container::open(bytes, &[])?.rows(|row| {
        if row.field(STATUS).int() == Some(1) {
            paths.push(row.field(DATA_FILE).field(100).string().ok_or("an entry has no file_path")?.to_string());
        }
        Ok(())
    })?;
    Ok(paths)
}
