//! Columns as a schema in metadata, with ids for what is new.

use std::collections::HashSet;

use floe_wire::error::{QueryError, Result};
use serde_json::{Map, Value as Json, json};

use crate::table::{Field, Type, Unit};

/// Gives out ids of fields.
pub struct Ids(pub i32);

impl Ids {
    fn next(&mut self) -> i32 {
        self.0 = self.0.saturating_add(1);
        self.0
    }
}

/// The schema of a new table. All fields of one level get their ids before those inside them, as catalogs do it.
pub fn create(columns: &[Field], format: u32, ids: &mut Ids) -> Result<Json> {
    let Json::Object(mut schema) = structure(columns, format, ids, "", true)? else {
        return Err(QueryError::internal("a schema is no object"));
    };
    schema.insert("schema-id".into(), 0.into());
    Ok(Json::Object(schema))
}

/// A column that is added to a table, which may have rows already: so it is optional.
pub fn added(field: &Field, path: &str, format: u32, ids: &mut Ids) -> Result<Json> {
    let id = ids.next();
    let dtype = dtype(&field.dtype, format, ids, path, true)?;
    Ok(json!({"id": id, "name": field.name, "required": false, "type": dtype}))
}

fn structure(fields: &[Field], format: u32, ids: &mut Ids, path: &str, required: bool) -> Result<Json> {
    unique(fields, path)?;
    let own: Vec<i32> = fields.iter().map(|_| ids.next()).collect();
    let mut all = Vec::with_capacity(fields.len());
    for (field, id) in fields.iter().zip(own) {
        let dtype = dtype(&field.dtype, format, ids, &join(path, &field.name), required)?;
        all.push(json!({"id": id, "name": field.name, "required": required && !field.nullable, "type": dtype}));
    }
    Ok(json!({"type": "struct", "fields": all}))
}

/// Refuses two columns of one name.
pub fn unique(fields: &[Field], path: &str) -> Result<()> {
    let mut names = HashSet::new();
    match fields.iter().find(|field| !names.insert(field.name.as_str())) {
        Some(field) => Err(mismatch(format!("the rows have two columns {}", join(path, &field.name)))),
        None => Ok(()),
    }
}

fn dtype(dtype: &Type, format: u32, ids: &mut Ids, path: &str, required: bool) -> Result<Json> {
    Ok(match dtype {
        Type::Struct(fields) => structure(fields, format, ids, path, required)?,
        Type::List(element) => {
            let id = ids.next();
            let element_type = self::dtype(&element.dtype, format, ids, &join(path, "element"), required)?;
            json!({"type": "list", "element-id": id, "element": element_type, "element-required": required && !element.nullable})
        }
        Type::Map { key, value } => {
            let (key_id, value_id) = (ids.next(), ids.next());
            let key = self::dtype(&key.dtype, format, ids, &join(path, "key"), required)?;
            let value_type = self::dtype(&value.dtype, format, ids, &join(path, "value"), required)?;
            json!({"type": "map", "key-id": key_id, "key": key, "value-id": value_id, "value": value_type,
                "value-required": required && !value.nullable})
        }
        _ => primitive(dtype, format, path)?.into(),
    })
}

/// The name of a type, or why tables of this format version do not have it.
fn primitive(dtype: &Type, format: u32, path: &str) -> Result<String> {
    if let (Type::Timestamp { unit: Unit::Nanos, .. }, ..=2) = (dtype, format) {
        return Err(mismatch(format!(
            "column {path} has timestamps in nanoseconds, which Iceberg has from format version 3 on: cast it to \
             microseconds, or create the table with the property format-version = 3"
        )));
    }
    name(dtype).ok_or_else(|| QueryError::internal(format!("column {path} has a type without a name")))
}

/// How a type is called; `None` for nested ones.
pub fn name(dtype: &Type) -> Option<String> {
    Some(match dtype {
        Type::Boolean => "boolean".into(),
        Type::Int8 | Type::Int16 | Type::Int32 => "int".into(),
        Type::Int64 => "long".into(),
        Type::Float32 => "float".into(),
        Type::Float64 => "double".into(),
        Type::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        Type::String => "string".into(),
        Type::Binary => "binary".into(),
        Type::Fixed(size) => format!("fixed[{size}]"),
        Type::Uuid => "uuid".into(),
        Type::Date => "date".into(),
        Type::Time => "time".into(),
        Type::Timestamp { unit: Unit::Micros, utc: false } => "timestamp".into(),
        Type::Timestamp { unit: Unit::Micros, utc: true } => "timestamptz".into(),
        Type::Timestamp { unit: Unit::Nanos, utc: false } => "timestamp_ns".into(),
        Type::Timestamp { unit: Unit::Nanos, utc: true } => "timestamptz_ns".into(),
        Type::List(_) | Type::Map { .. } | Type::Struct(_) => return None,
    })
}

/// A type for messages.
pub fn shown(dtype: &Type) -> String {
    match dtype {
        Type::List(element) => format!("list<{}>", shown(&element.dtype)),
        Type::Map { key, value } => format!("map<{}, {}>", shown(&key.dtype), shown(&value.dtype)),
        Type::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}: {}", field.name, shown(&field.dtype))).collect();
            format!("struct<{}>", fields.join(", "))
        }
        _ => name(dtype).unwrap_or_default(),
    }
}

pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

/// A schema with other fields, under a new id.
pub fn with_fields(schema: &Json, fields: Vec<Json>, id: i64) -> Json {
    let mut schema = schema.as_object().cloned().unwrap_or_else(Map::new);
    schema.insert("fields".into(), fields.into());
    schema.insert("schema-id".into(), id.into());
    Json::Object(schema)
}

pub fn mismatch(message: String) -> QueryError {
    QueryError::user("SchemaMismatch", message)
}
