//! Manifest lists and manifests: which files a snapshot has, and what is said of them.

use std::collections::{BTreeMap, HashMap};

use super::avro::decode::Datum;
use super::avro::schema::Node;
use super::avro::{Container, Result};
use super::metadata::{Spec, SpecField};
use super::values;
use crate::table::{Bounds, Field, Type, Value};

// Fields of a manifest list and of manifests, by the names of the specification.
const STATUS: i32 = 0;
const DATA_FILE: i32 = 2;
const SEQUENCE_NUMBER: i32 = 3;
const PARTITION: i32 = 102;
/// Fields of manifests that are passed over: sizes, value counts, splits, sort orders, row ids and others.
const SKIP: [i32; 14] = [1, 4, 105, 106, 107, 108, 109, 111, 132, 140, 142, 146, 507, 520];

/// The column `file_path` of position deletes.
const FILE_PATH: i32 = 2_147_483_546;

/// A row of a manifest list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub path: String,
    pub bytes: u64,
    pub spec: Option<i32>,
    pub sequence: i64,
    pub encrypted: bool,
    /// Known to have no file that is live.
    pub empty: bool,
}

pub fn list(bytes: &[u8]) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    Container::open(bytes, &SKIP)?.rows(|row| {
        let none = |id| row.field(id).int() == Some(0);
        listed.push(Listed {
            path: row.field(500).string().ok_or("a row has no manifest_path")?.to_string(),
            bytes: row.field(501).int().and_then(|bytes| bytes.try_into().ok()).unwrap_or(0),
            spec: row.field(502).int().and_then(|id| id.try_into().ok()),
            sequence: row.field(515).int().unwrap_or(0),
            encrypted: *row.field(519) != Datum::Null,
            empty: none(504) && none(505),
        });
        Ok(())
    })?;
    Ok(listed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Data,
    Positions,
    Equality,
}

/// A live file.
#[derive(Clone, Debug)]
pub struct Entry {
    pub content: Content,
    pub path: String,
    pub format: String,
    pub rows: Option<u64>,
    pub bytes: u64,
    pub sequence: i64,
    /// The whole partition, to compare it with those of deletes.
    pub partition: Vec<Key>,
    /// The values of the manifest's identity columns.
    pub identity: Vec<Option<Value>>,
    pub bounds: BTreeMap<String, Bounds>,
    pub equality_ids: Vec<i32>,
    /// The one data file that deletes are of.
    pub referenced: Option<String>,
    /// Where a deletion vector is in its file.
    pub blob: Option<(u64, u64)>,
    pub encrypted: bool,
}

/// A partition value that can be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Null,
    Int(i64),
    Float(u64),
    Decimal(i128),
    Bytes(Vec<u8>),
}

/// The live files of a manifest.
#[derive(Debug)]
pub struct Manifest {
    pub spec: Spec,
    /// Indices of the columns whose values are in the partition of each file.
    pub identity: Vec<usize>,
    pub entries: Vec<Entry>,
}

pub fn read(bytes: &[u8], listed: &Listed, specs: &BTreeMap<i32, Spec>, columns: &[Field]) -> Result<Manifest> {
    let container = Container::open(bytes, &SKIP)?;
    let spec = spec(&container, listed, specs)?;
    let schema = container.schema().field(DATA_FILE).and_then(|file| file.field(PARTITION));
    if let Some(Node::Record(fields)) = schema
        && fields.iter().any(|field| field.id.is_none())
    {
        return Err("its schema has a partition field without an id".into());
    }
    let mut identity: Vec<(i32, usize)> = Vec::new();
    for (id, field) in spec.fields() {
        let column = columns.iter().position(|column| column.id == field.source_id && column.id.is_some());
        let written = schema.is_some_and(|partition| partition.field(id).is_some());
        if let (Some(column), true, "identity") = (column, written, field.transform.as_str())
            && identity.iter().all(|(_, other)| *other != column)
        {
            identity.push((id, column));
        }
    }
    let by_id: HashMap<i32, &Field> = columns.iter().filter_map(|column| Some((column.id?, column))).collect();
    let mut entries = Vec::new();
    container.rows(|row| {
        let status = row.field(STATUS).int().ok_or("an entry has no status")?;
        if status != 2 {
            entries.push(entry(&row, status, listed, &identity, columns, &by_id)?);
        }
        Ok(())
    })?;
    Ok(Manifest { spec, identity: identity.into_iter().map(|(_, column)| column).collect(), entries })
}

/// The partition specification: the table's own of that id, else what the manifest has in its header.
fn spec(container: &Container<'_>, listed: &Listed, specs: &BTreeMap<i32, Spec>) -> Result<Spec> {
    let own = container.text("partition-spec-id").and_then(|id| id.parse().ok());
    let spec_id = listed.spec.or(own).unwrap_or(0);
    if let Some(spec) = specs.get(&spec_id) {
        return Ok(spec.clone());
    }
    let fields = container.text("partition-spec").ok_or_else(|| {
        format!("its partition specification {spec_id} is neither in the table's metadata nor in the manifest")
    })?;
    let fields: Vec<SpecField> =
        serde_json::from_str(fields).map_err(|error| format!("its partition-spec cannot be understood: {error}"))?;
    Ok(Spec { spec_id, fields })
}

fn entry(
    row: &Datum<'_>,
    status: i64,
    listed: &Listed,
    identity: &[(i32, usize)],
    columns: &[Field],
    by_id: &HashMap<i32, &Field>,
) -> Result<Entry> {
    let file = row.field(DATA_FILE);
    let path = file.field(100).string().ok_or("an entry has no file_path")?.to_string();
    let content = match file.field(134).int().unwrap_or(0) {
        0 => Content::Data,
        1 => Content::Positions,
        2 => Content::Equality,
        other => return Err(format!("the content {other} of {path} is not supported")),
    };
    let sequence = match row.field(SEQUENCE_NUMBER).int() {
        Some(sequence) => sequence,
        // Inherited. Manifests of the first version have no numbers, which counts as 0.
        None if status == 1 || listed.sequence == 0 => listed.sequence,
        None => return Err(format!("the entry of {path} has no sequence number")),
    };
    let partition = file.field(PARTITION);
    let mut values = Vec::with_capacity(identity.len());
    for (id, column) in identity {
        let column = &columns[*column];
        let value = values::from_partition(partition.field(*id), &column.dtype).map_err(|()| {
            format!(
                "the partition value {:?} of {path} is not of the type of column {}",
                partition.field(*id),
                column.name
            )
        })?;
        values.push(value);
    }
    let rows = file.field(103).int().and_then(|rows| u64::try_from(rows).ok());
    let positive = |id| file.field(id).int().and_then(|value| u64::try_from(value).ok());
    let blob = match (positive(144), positive(145)) {
        (Some(offset), Some(size)) => Some((offset, size)),
        _ => None,
    };
    let equality_ids = match file.field(135) {
        Datum::Array(ids) => ids.iter().filter_map(|id| id.int()?.try_into().ok()).collect(),
        _ => Vec::new(),
    };
    Ok(Entry {
        content,
        format: file.field(101).string().unwrap_or("parquet").to_ascii_lowercase(),
        rows,
        bytes: positive(104).unwrap_or(0),
        sequence,
        partition: key(partition),
        identity: values,
        bounds: if content == Content::Positions { BTreeMap::new() } else { bounds(file, by_id, rows) },
        equality_ids,
        referenced: file.field(143).string().map(str::to_string).or_else(|| one_path(file)),
        blob,
        encrypted: *file.field(131) != Datum::Null,
        path,
    })
}

/// The data file that the bounds of `file_path` name, if they are equal and thus not cut off.
fn one_path(file: &Datum<'_>) -> Option<String> {
    let bound = |id| file.field(id).by_id().find(|(id, _)| *id == FILE_PATH).and_then(|(_, value)| value.bytes());
    let lower = bound(125).filter(|lower| Some(*lower) == bound(128))?;
    String::from_utf8(lower.to_vec()).ok()
}

fn bounds(file: &Datum<'_>, by_id: &HashMap<i32, &Field>, rows: Option<u64>) -> BTreeMap<String, Bounds> {
    let mut bounds: BTreeMap<&str, (&Field, Bounds)> = BTreeMap::new();
    for (id, count) in file.field(110).by_id() {
        let nulls = count.int().and_then(|count| u64::try_from(count).ok());
        let nulls = nulls.filter(|nulls| rows.is_none_or(|rows| *nulls <= rows));
        if let (Some(field), Some(nulls)) = (by_id.get(&id), nulls) {
            bounds.insert(&field.name, (field, Bounds { nulls: Some(nulls), ..Bounds::default() }));
        }
    }
    for (map, upper) in [(125, false), (128, true)] {
        for (id, bytes) in file.field(map).by_id() {
            let Some(field) = by_id.get(&id) else { continue };
            let Some(value) = bytes.bytes().and_then(|bytes| values::from_bound(bytes, &field.dtype)) else { continue };
            let (_, bounds) = bounds.entry(&field.name).or_insert_with(|| (field, Bounds::default()));
            if upper {
                bounds.max = Some(value);
            } else {
                bounds.min = Some(value);
            }
        }
    }
    let nans: HashMap<i32, i64> = file.field(137).by_id().filter_map(|(id, count)| Some((id, count.int()?))).collect();
    let sound = |(name, (field, mut bounds)): (&str, (&Field, Bounds))| {
        // NaN is greater than all other numbers and not in the bounds.
        let float = matches!(field.dtype, Type::Float32 | Type::Float64);
        if float && field.id.and_then(|id| nans.get(&id)) != Some(&0) {
            bounds.max = None;
        }
        if let (Some(min), Some(max)) = (&bounds.min, &bounds.max)
            && values::compare(min, max).is_none_or(std::cmp::Ordering::is_gt)
        {
            bounds.min = None;
            bounds.max = None;
        }
        (bounds != Bounds::default()).then(|| (name.to_string(), bounds))
    };
    bounds.into_iter().filter_map(sound).collect()
}

pub fn key(partition: &Datum<'_>) -> Vec<Key> {
    let Datum::Record(fields) = partition else { return Vec::new() };
    let key = |value: &Datum<'_>| match value {
        Datum::Boolean(value) => Key::Int(i64::from(*value)),
        Datum::Int(value) => Key::Int(*value),
        Datum::Float(value) => Key::Float(bits(f64::from(*value))),
        Datum::Double(value) => Key::Float(bits(*value)),
        Datum::Decimal(value) => Key::Decimal(*value),
        Datum::Bytes(value) => Key::Bytes(value.to_vec()),
        Datum::String(value) => Key::Bytes(value.as_bytes().to_vec()),
        _ => Key::Null,
    };
    let mut keys: Vec<(i32, Key)> = fields.iter().map(|(id, value)| (*id, key(value))).collect();
    keys.sort_by_key(|(id, _)| *id);
    keys.into_iter().map(|(_, key)| key).collect()
}

/// All NaNs are one value.
fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}
