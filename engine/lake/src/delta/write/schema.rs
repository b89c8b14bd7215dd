//! The JSON of a schema: what new columns look like in it, and which types there are.

use serde_json::{Value as Json, json};

use crate::delta::schema::{ID, PHYSICAL};
use crate::table::{Field, Type, Unit};
use crate::unique;

/// How new fields are called in files, where columns are mapped.
pub struct Naming<'a> {
    /// What physical names are made of, so that they are the same whenever the same columns are added.
    pub seed: &'a [&'a str],
    /// The greatest id so far.
    pub max_id: i64,
}

impl Naming<'_> {
    fn metadata(&mut self, path: &str) -> Json {
        self.max_id += 1;
        let name = unique::uuid_of(&[self.seed, &[path]].concat());
        json!({ID: self.max_id, PHYSICAL: format!("col-{name}")})
    }
}

/// Adds the columns, and fields of nested ones, that are missing. Returns whether there were any.
///
/// Fields are found by names regardless of case: two that differ in nothing else cannot be in one table.
pub fn add_missing(
    fields: &mut Vec<Json>,
    columns: &[Field],
    is_new: bool,
    path: &str,
    naming: &mut Option<Naming>,
) -> bool {
    let mut added = false;
    for column in columns {
        let path = join(path, &column.name);
        let same = |field: &&mut Json| {
            field.get("name").and_then(Json::as_str).is_some_and(|name| same_name(name, &column.name))
        };
        if let Some(field) = fields.iter_mut().find(same) {
            added |= field.get_mut("type").is_some_and(|kind| descend(kind, &column.dtype, &path, naming));
            continue;
        }
        let metadata = naming.as_mut().map_or_else(|| json!({}), |naming| naming.metadata(&path));
        fields.push(json!({
            "name": column.name,
            "type": kind(&column.dtype, &path, naming),
            // Rows that the table already has get null.
            "nullable": column.nullable || !is_new,
            "metadata": metadata,
        }));
        added = true;
    }
    added
}

fn descend(kind: &mut Json, dtype: &Type, path: &str, naming: &mut Option<Naming>) -> bool {
    let mut inner = |key: &str, field: &Field| {
        let path = join(path, &field.name);
        kind.get_mut(key).is_some_and(|kind| descend(kind, &field.dtype, &path, naming))
    };
    match dtype {
        Type::List(element) => inner("elementType", element),
        Type::Map { key, value } => inner("keyType", key) | inner("valueType", value),
        Type::Struct(fields) => {
            let known = kind.get_mut("fields").and_then(Json::as_array_mut);
            known.is_some_and(|known| add_missing(known, fields, false, path, naming))
        }
        _ => false,
    }
}

fn kind(dtype: &Type, path: &str, naming: &mut Option<Naming>) -> Json {
    match dtype {
        Type::List(element) => json!({
            "type": "array",
            "elementType": kind(&element.dtype, &join(path, &element.name), naming),
            "containsNull": element.nullable,
        }),
        Type::Map { key, value } => json!({
            "type": "map",
            "keyType": kind(&key.dtype, &join(path, &key.name), naming),
            "valueType": kind(&value.dtype, &join(path, &value.name), naming),
            "valueContainsNull": value.nullable,
        }),
        Type::Struct(fields) => {
            let mut known = Vec::new();
            add_missing(&mut known, fields, true, path, naming);
            json!({"type": "struct", "fields": known})
        }
        plain => Json::from(type_name(plain)),
    }
}

/// The path of a field in errors.
pub fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

pub fn same_name(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// The name of a type as Delta has it, or, if it has none, as errors call it.
pub fn type_name(dtype: &Type) -> String {
    let name = match dtype {
        Type::Boolean => "boolean",
        Type::Int8 => "byte",
        Type::Int16 => "short",
        Type::Int32 => "integer",
        Type::Int64 => "long",
        Type::Float32 => "float",
        Type::Float64 => "double",
        Type::Decimal { precision, scale } => return format!("decimal({precision},{scale})"),
        Type::String => "string",
        Type::Binary => "binary",
        Type::Fixed(length) => return format!("fixed({length})"),
        Type::Uuid => "uuid",
        Type::Date => "date",
        Type::Time => "time",
        Type::Timestamp { unit: Unit::Micros, utc: true } => "timestamp",
        Type::Timestamp { unit: Unit::Micros, utc: false } => "timestamp_ntz",
        Type::Timestamp { unit: Unit::Nanos, .. } => "timestamp in nanoseconds",
        Type::List(_) => "array",
        Type::Map { .. } => "map",
        Type::Struct(_) => "struct",
    };
    name.to_owned()
}

/// Why a type cannot be in a Delta table, and what to do, for each column of such a type.
pub fn unknown_types(columns: &[Field], parent: &str, found: &mut Vec<String>) {
    for column in columns {
        let path = join(parent, &column.name);
        let help = match &column.dtype {
            Type::Uuid | Type::Fixed(_) => "cast it to binary",
            Type::Time => "cast it to a string, or to an integer of microseconds",
            Type::Timestamp { unit: Unit::Nanos, .. } => "cast it to microseconds",
            Type::Struct(fields) if fields.is_empty() => "give it a field, or leave it out",
            Type::Struct(fields) => {
                unknown_types(fields, &path, found);
                continue;
            }
            Type::List(element) => {
                unknown_types(std::slice::from_ref(element), &path, found);
                continue;
            }
            Type::Map { key, value } => {
                unknown_types(&[(**key).clone(), (**value).clone()], &path, found);
                continue;
            }
            _ => continue,
        };
        let name = match &column.dtype {
            Type::Struct(_) => "a struct without fields".to_owned(),
            other => format!("the type {}", type_name(other)),
        };
        found.push(format!("column \"{path}\" has {name}, which Delta tables do not have; {help}"));
    }
}

/// Whether a column, or a field of a nested one, holds times without a zone.
pub fn has_local_times(columns: &[Field]) -> bool {
    columns.iter().any(|column| match &column.dtype {
        Type::Timestamp { utc: false, .. } => true,
        Type::List(element) => has_local_times(std::slice::from_ref(element)),
        Type::Map { key, value } => [key, value].into_iter().any(|field| has_local_times(std::slice::from_ref(field))),
        Type::Struct(fields) => has_local_times(fields),
        _ => false,
    })
}

/// The fields of a schema, nested ones too, whose metadata has this key: their paths.
pub fn marked(kind: &Json, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    visit(kind, "", &mut |path, field| {
        if field.get("metadata").and_then(|metadata| metadata.get(key)).is_some_and(|value| !value.is_null()) {
            found.push(path.to_owned());
        }
    });
    found
}

/// The greatest id of a field.
pub fn max_id(kind: &Json) -> i64 {
    let mut greatest = 0;
    visit(kind, "", &mut |_, field| {
        let id = field.get("metadata").and_then(|metadata| metadata.get(ID)).and_then(Json::as_i64);
        greatest = greatest.max(id.unwrap_or(0));
    });
    greatest
}

fn visit(kind: &Json, path: &str, each: &mut impl FnMut(&str, &Json)) {
    for field in kind.get("fields").and_then(Json::as_array).into_iter().flatten() {
        let path = join(path, field.get("name").and_then(Json::as_str).unwrap_or_default());
        each(&path, field);
        visit(field.get("type").unwrap_or(&Json::Null), &path, each);
    }
    for (key, name) in [("elementType", "element"), ("keyType", "key"), ("valueType", "value")] {
        if let Some(inner) = kind.get(key) {
            visit(inner, &join(path, name), each);
        }
    }
}
