//! Partition specifications: of new tables, and those of tables as the writer of files needs them.

use floe_wire::error::{QueryError, Result};
use serde_json::{Value as Json, json};

use super::schema::shown;
use super::state::{bad_table, unsupported};
use crate::iceberg::schemas;
use crate::table::{Field, Type};
use crate::write::{PartitionKey, Transform};

/// A field of a specification.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub id: i32,
    pub source: i32,
    pub name: String,
    /// `None`: the field was taken out (`void`), and is null in all files.
    pub key: Option<PartitionKey>,
    /// The type of the partition's values.
    pub dtype: Type,
}

/// The specification of a new table with these columns.
pub fn create(keys: &[PartitionKey], columns: &[Field]) -> Result<Json> {
    let mut fields: Vec<Json> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (key, id) in keys.iter().zip(1000..) {
        let column = columns.iter().find(|column| column.name == key.column).ok_or_else(|| {
            bad_partition(format!("the table is to be partitioned by {}, which is no column of the rows", key.column))
        })?;
        result(key.transform, &column.dtype).ok_or_else(|| {
            bad_partition(format!(
                "column {} has the type {}, which {} does not take",
                key.column,
                shown(&column.dtype),
                text(key.transform)
            ))
        })?;
        let same = |other: &&PartitionKey| other.column == key.column && kind(other.transform) == kind(key.transform);
        if keys.iter().filter(same).count() > 1 {
            return Err(bad_partition(format!(
                "the table is to be partitioned twice by {} of {}",
                kind(key.transform),
                key.column
            )));
        }
        let mut name = name(key);
        // Only the identity transform may be named like a column.
        while names.contains(&name) || (columns.iter().any(|other| other.name == name) && name != key.column) {
            name.push('_');
        }
        fields.push(json!({"source-id": column.id, "field-id": id, "name": name, "transform": text(key.transform)}));
        names.push(name);
    }
    Ok(json!({"spec-id": 0, "fields": fields}))
}

/// The fields of a specification of a table with these columns.
pub fn parts(spec: &Json, columns: &[Field]) -> Result<Vec<Part>> {
    let fields = spec.get("fields").and_then(Json::as_array);
    let fields = fields.ok_or_else(|| bad_table("its partition specification has no fields".into()))?;
    let part = |json: &Json| {
        let number = |key: &str| json.get(key).and_then(Json::as_i64).and_then(|id| i32::try_from(id).ok());
        let name = json.get("name").and_then(Json::as_str).unwrap_or_default().to_string();
        let transform = json.get("transform").and_then(Json::as_str).unwrap_or_default();
        let id = number("field-id").ok_or_else(|| bad_table(format!("its partition field {name} has no id")))?;
        let source = number("source-id").ok_or_else(|| {
            unsupported(format!("its partition field {name} is made of several columns, which is not supported"))
        })?;
        let column = columns.iter().find(|column| column.id == Some(source));
        if transform == "void" {
            // The column may have been dropped. All values are null, so any type will do.
            let dtype = column.map_or(Type::Int32, |column| column.dtype.clone());
            return Ok(Part { id, source, name, key: None, dtype });
        }
        let known = parse(transform).ok_or_else(|| {
            unsupported(format!("it is partitioned by {transform} ({name}), which is not supported for writing"))
        })?;
        let column = column.ok_or_else(|| {
            unsupported(format!(
                "its partition field {name} is not of a column at the top level, which is not supported for writing"
            ))
        })?;
        let dtype = result(known, &column.dtype).ok_or_else(|| {
            bad_table(format!(
                "its partition field {name} is {transform} of a column of the type {}",
                shown(&column.dtype)
            ))
        })?;
        Ok(Part { id, source, name, key: Some(PartitionKey { column: column.name.clone(), transform: known }), dtype })
    };
    fields.iter().map(part).collect()
}

/// The identity fields of a specification, as ids of their columns and of the fields. Its other fields may have unknown
/// transforms.
pub fn identities(spec: &Json) -> Vec<(i32, i32)> {
    let fields = spec.get("fields").and_then(Json::as_array).into_iter().flatten();
    let identity = fields.filter(|field| field.get("transform").and_then(Json::as_str) == Some("identity"));
    let number = |field: &Json, key: &str| field.get(key).and_then(Json::as_i64).and_then(|id| i32::try_from(id).ok());
    identity.filter_map(|field| Some((number(field, "source-id")?, number(field, "field-id")?))).collect()
}

/// Whether the rows ask for the partitioning that the table has.
pub fn check(wanted: Option<&Vec<PartitionKey>>, parts: &[Part]) -> Result<()> {
    let has: Vec<&PartitionKey> = parts.iter().filter_map(|part| part.key.as_ref()).collect();
    match wanted {
        Some(wanted) if wanted.iter().collect::<Vec<_>>() != has => {
            let shown = |keys: Vec<&PartitionKey>| {
                let keys: Vec<String> = keys.into_iter().map(shown_key).collect();
                if keys.is_empty() { "nothing".to_string() } else { keys.join(", ") }
            };
            Err(bad_partition(format!(
                "the table is partitioned by {}, and {} is asked for: leave the partitioning out to write to the table \
                 as it is",
                shown(has),
                shown(wanted.iter().collect())
            )))
        }
        _ => Ok(()),
    }
}

/// A key for messages.
pub fn shown_key(key: &PartitionKey) -> String {
    format!("{}({})", text(key.transform), key.column)
}

/// The Avro record of partition values in manifests.
pub fn avro(parts: &[Part]) -> Result<Json> {
    let field = |part: &Part| {
        let name = avro_name(&part.name);
        let mut field = schemas::partition_field(&name, avro_type(&part.dtype, part.id)?, part.id);
        if name != part.name {
            field["iceberg-field-name"] = part.name.clone().into();
        }
        Ok(field)
    };
    Ok(schemas::partition(parts.iter().map(field).collect::<Result<_>>()?))
}

fn avro_type(dtype: &Type, id: i32) -> Result<Json> {
    // Named types are defined once: each field has its own.
    let fixed = |size: u32| json!({"type": "fixed", "name": format!("fixed_{id}"), "size": size});
    Ok(match dtype {
        Type::Boolean => json!("boolean"),
        Type::Int32 => json!("int"),
        Type::Int64 => json!("long"),
        Type::Float32 => json!("float"),
        Type::Float64 => json!("double"),
        Type::String => json!("string"),
        Type::Binary => json!("bytes"),
        Type::Date => json!({"type": "int", "logicalType": "date"}),
        Type::Time => json!({"type": "long", "logicalType": "time-micros"}),
        Type::Timestamp { unit, utc } => {
            let unit = match unit {
                crate::table::Unit::Micros => "timestamp-micros",
                crate::table::Unit::Nanos => "timestamp-nanos",
            };
            json!({"type": "long", "logicalType": unit, "adjust-to-utc": utc})
        }
        Type::Fixed(size) => fixed(*size),
        Type::Uuid => {
            let mut uuid = fixed(16);
            uuid["logicalType"] = "uuid".into();
            uuid
        }
        Type::Decimal { precision, scale } => {
            // The fewest bytes that hold every number of this many digits.
            let most = 10i128.checked_pow((*precision).into()).unwrap_or(i128::MAX);
            let size = (1..16u32).find(|size| most <= 1i128 << (8 * size - 1)).unwrap_or(16);
            let mut decimal = fixed(size);
            decimal["logicalType"] = "decimal".into();
            decimal["precision"] = (*precision).into();
            decimal["scale"] = (*scale).into();
            decimal
        }
        _ => return Err(QueryError::internal(format!("a partition of the type {}", shown(dtype)))),
    })
}

/// A name that Avro allows, made as other writers make it.
fn avro_name(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.chars().enumerate() {
        match c {
            '_' | 'a'..='z' | 'A'..='Z' => out.push(c),
            '0'..='9' if at > 0 => out.push(c),
            '0'..='9' => out.extend(['_', c]),
            _ => out.push_str(&format!("_x{:X}", u32::from(c))),
        }
    }
    if out.is_empty() { "_".into() } else { out }
}

/// The type of a transform's result; `None` if it does not accept the column's type.
fn result(transform: Transform, dtype: &Type) -> Option<Type> {
    let time = matches!(dtype, Type::Date | Type::Timestamp { .. });
    let nested = matches!(dtype, Type::List(_) | Type::Map { .. } | Type::Struct(_));
    match transform {
        Transform::Identity => (!nested).then(|| dtype.clone()),
        Transform::Year | Transform::Month => time.then_some(Type::Int32),
        Transform::Day => time.then_some(Type::Date),
        Transform::Hour => (time && *dtype != Type::Date).then_some(Type::Int32),
        Transform::Bucket(count) => {
            let float = matches!(dtype, Type::Float32 | Type::Float64 | Type::Boolean);
            (count > 0 && !nested && !float).then_some(Type::Int32)
        }
        Transform::Truncate(width) => {
            let takes = matches!(dtype, Type::Int32 | Type::Int64 | Type::Decimal { .. } | Type::String | Type::Binary);
            (width > 0 && takes).then(|| dtype.clone())
        }
    }
}

pub fn text(transform: Transform) -> String {
    match transform {
        Transform::Bucket(count) => format!("bucket[{count}]"),
        Transform::Truncate(width) => format!("truncate[{width}]"),
        other => kind(other).into(),
    }
}

fn parse(text: &str) -> Option<Transform> {
    let number = |kind: &str| text.strip_prefix(kind)?.strip_prefix('[')?.strip_suffix(']')?.trim().parse().ok();
    Some(match text {
        "identity" => Transform::Identity,
        "year" => Transform::Year,
        "month" => Transform::Month,
        "day" => Transform::Day,
        "hour" => Transform::Hour,
        _ => number("bucket").map(Transform::Bucket).or_else(|| number("truncate").map(Transform::Truncate))?,
    })
}

fn kind(transform: Transform) -> &'static str {
    match transform {
        Transform::Identity => "identity",
        Transform::Year => "year",
        Transform::Month => "month",
        Transform::Day => "day",
        Transform::Hour => "hour",
        Transform::Bucket(_) => "bucket",
        Transform::Truncate(_) => "truncate",
    }
}

fn name(key: &PartitionKey) -> String {
    match key.transform {
        Transform::Identity => key.column.clone(),
        Transform::Truncate(_) => format!("{}_trunc", key.column),
        other => format!("{}_{}", key.column, kind(other)),
    }
}

fn bad_partition(message: String) -> QueryError {
    QueryError::user("PartitionMismatch", message)
}
