//! Widens the types of columns to those of the rows, and notes the changes in the schema, where readers that follow them
//! look for them (the table feature `typeWidening`).

use serde_json::{Value as Json, json};

use super::protocol;
use super::schema::type_name;
use crate::delta::actions::{Metadata, Protocol};
use crate::delta::schema::{TYPE_CHANGES, named};
use crate::table::{Field, Type};

const FEATURE: &str = "typeWidening";
pub const PROPERTY: &str = "delta.enableTypeWidening";

/// Whether the table lets types be widened.
pub fn is_allowed(protocol: &Protocol, metadata: &Metadata) -> bool {
    protocol::is_on(protocol, metadata, FEATURE, PROPERTY)
}

/// Widens columns that are narrower than in the rows; returns whether there were any. Columns that partition the table
/// keep their types: values of partitions are written as text, which does not tell the type that they had.
pub fn widen(schema: &mut Json, columns: &[Field], partition: &[String]) -> bool {
    let columns: Vec<&Field> = columns.iter().filter(|column| !partition.contains(&column.name)).collect();
    fields(schema, &columns)
}

/// The fields of a struct.
fn fields(kind: &mut Json, columns: &[&Field]) -> bool {
    let Some(fields) = kind.get_mut("fields").and_then(Json::as_array_mut) else { return false };
    let mut widened = false;
    for column in columns {
        let same = |field: &&mut Json| field.get("name").and_then(Json::as_str) == Some(&column.name);
        let Some(field) = fields.iter_mut().find(same) else { continue };
        let mut changes = Vec::new();
        if let Some(kind) = field.get_mut("type") {
            widened |= one(kind, &column.dtype, "", &mut changes);
        }
        if !changes.is_empty() {
            widened = true;
            note(field, changes);
        }
    }
    widened
}

/// Widens a type and adds the change to those of its field; `place` is the type's path within the field. Returns whether
/// fields of structs inside were widened, which note their own changes.
fn one(kind: &mut Json, dtype: &Type, place: &str, changes: &mut Vec<Json>) -> bool {
    let below = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    let mut inner = |key: &str, name: &str, field: &Field, changes: &mut Vec<Json>| {
        kind.get_mut(key).is_some_and(|kind| one(kind, &field.dtype, &below(name), changes))
    };
    match dtype {
        Type::Struct(columns) => fields(kind, &columns.iter().collect::<Vec<_>>()),
        Type::List(element) => inner("elementType", "element", element, changes),
        Type::Map { key, value } => inner("keyType", "key", key, changes) | inner("valueType", "value", value, changes),
        _ => {
            let Some(from) = kind.as_str() else { return false };
            if named(from).is_some_and(|from| may_widen(&from, dtype)) {
                let to = type_name(dtype);
                let mut change = json!({"fromType": from, "toType": to});
                if !place.is_empty() {
                    change["fieldPath"] = place.into();
                }
                changes.push(change);
                *kind = to.into();
            }
            false
        }
    }
}

fn note(field: &mut Json, changes: Vec<Json>) {
    if !field.get("metadata").is_some_and(Json::is_object) {
        field["metadata"] = json!({});
    }
    let known = &mut field["metadata"][TYPE_CHANGES];
    match known {
        Json::Array(known) => known.extend(changes),
        _ => *known = changes.into(),
    }
}

/// The width of a type of integers.
pub fn integer_bytes(dtype: &Type) -> Option<u8> {
    match dtype {
        Type::Int8 => Some(1),
        Type::Int16 => Some(2),
        Type::Int32 => Some(4),
        Type::Int64 => Some(8),
        _ => None,
    }
}

/// Whether a column may be widened to the type of the rows without being altered by hand. Integers do not become
/// decimals or floats, as readers of integers would not expect that; decimals keep their digits, since files of several
/// precisions cannot be read as one column yet.
pub fn may_widen(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (Type::Float32, Type::Float64) => true,
        _ => matches!((integer_bytes(from), integer_bytes(to)), (Some(from), Some(to)) if from < to),
    }
}
