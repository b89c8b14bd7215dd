//! A schema in table metadata as columns, with the names that a name mapping gives them in files without ids.

use std::collections::HashMap;

use floe_wire::error::{QueryError, Result};
use serde_json::Value as Json;

use super::values;
use crate::table::{Field, Type, Unit};

/// Names by ids.
pub type Names = HashMap<i32, String>;

const DEPTH: usize = 100;

/// The columns of a schema.
pub fn columns(schema: &Json, names: &Names) -> Result<Vec<Field>> {
    fields(schema, names, "", 0)
}

/// The property `schema.name-mapping.default`. Of several names that a field may have, the first is taken: a file
/// that has the column by another one of them shows nulls in it.
pub fn name_mapping(property: &str) -> Result<Names> {
    fn collect(mapping: &Json, names: &mut Names) {
        for field in mapping.as_array().into_iter().flatten() {
            let id = field.get("field-id").and_then(Json::as_i64).and_then(|id| i32::try_from(id).ok());
            let first = field.get("names").and_then(Json::as_array).and_then(|names| names.first()?.as_str());
            if let (Some(id), Some(first)) = (id, first) {
                names.insert(id, first.to_string());
            }
            // JSON that is nested too deeply was refused when it was parsed.
            collect(field.get("fields").unwrap_or(&Json::Null), names);
        }
    }
    let mapping = serde_json::from_str(property)
        .map_err(|error| bad(format!("its property schema.name-mapping.default is not JSON: {error}")))?;
    let mut names = Names::new();
    collect(&mapping, &mut names);
    Ok(names)
}

fn fields(schema: &Json, names: &Names, path: &str, depth: usize) -> Result<Vec<Field>> {
    let fields = schema.get("fields").and_then(Json::as_array);
    let fields = fields.ok_or_else(|| bad(format!("its schema has no fields{}", of(path))))?;
    let field = |json: &Json| {
        let name = json.get("name").and_then(Json::as_str);
        let name = name.ok_or_else(|| bad(format!("its schema has a field without a name{}", of(path))))?;
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        let id = id(json, "id", &path)?;
        let dtype = dtype(json.get("type").unwrap_or(&Json::Null), names, &path, depth)?;
        let initial = match json.get("initial-default") {
            None | Some(Json::Null) => None,
            Some(value) => Some(values::from_json(value, &dtype).ok_or_else(|| {
                unsupported(format!("the initial-default {value} of its column {path} is not supported"))
            })?),
        };
        let required = json.get("required").and_then(Json::as_bool).unwrap_or(false);
        let physical = names.get(&id).cloned();
        Ok(Field { name: name.to_string(), dtype, nullable: !required, physical, id: Some(id), initial })
    };
    fields.iter().map(field).collect()
}

fn dtype(json: &Json, names: &Names, path: &str, depth: usize) -> Result<Type> {
    if depth > DEPTH {
        return Err(unsupported(format!("its column {path} is nested too deeply")));
    }
    if let Some(name) = json.as_str() {
        return primitive(name)
            .ok_or_else(|| unsupported(format!("its column {path} has the type {name}, which is not supported")));
    }
    let part = |name: &str, key: &str, required: Option<&str>| {
        let path = format!("{path}.{name}");
        let id = id(json, key, &path)?;
        let dtype = dtype(json.get(name).unwrap_or(&Json::Null), names, &path, depth + 1)?;
        let required = required.is_none_or(|key| json.get(key).and_then(Json::as_bool).unwrap_or(false));
        let physical = names.get(&id).cloned();
        let name = name.to_string();
        Ok::<_, QueryError>(Box::new(Field { name, dtype, nullable: !required, physical, id: Some(id), initial: None }))
    };
    match json.get("type").and_then(Json::as_str) {
        Some("struct") => Ok(Type::Struct(fields(json, names, path, depth + 1)?)),
        Some("list") => Ok(Type::List(part("element", "element-id", Some("element-required"))?)),
        Some("map") => Ok(Type::Map {
            key: part("key", "key-id", None)?,
            value: part("value", "value-id", Some("value-required"))?,
        }),
        _ => Err(unsupported(format!("its column {path} has the type {json}, which is not supported"))),
    }
}

fn primitive(name: &str) -> Option<Type> {
    let timestamp = |unit, utc| Type::Timestamp { unit, utc };
    Some(match name {
        "boolean" => Type::Boolean,
        "int" => Type::Int32,
        "long" => Type::Int64,
        "float" => Type::Float32,
        "double" => Type::Float64,
        "date" => Type::Date,
        "time" => Type::Time,
        "timestamp" => timestamp(Unit::Micros, false),
        "timestamptz" => timestamp(Unit::Micros, true),
        "timestamp_ns" => timestamp(Unit::Nanos, false),
        "timestamptz_ns" => timestamp(Unit::Nanos, true),
        "string" => Type::String,
        "uuid" => Type::Uuid,
        "binary" => Type::Binary,
        _ => {
            if let Some(parameters) = parameters(name, "decimal", '(', ')') {
                let (precision, scale) = parameters.split_once(',')?;
                let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
                return (1..=38).contains(&precision).then_some(Type::Decimal { precision, scale });
            }
            Type::Fixed(parameters(name, "fixed", '[', ']')?.trim().parse().ok()?)
        }
    })
}

fn parameters<'a>(name: &'a str, kind: &str, open: char, close: char) -> Option<&'a str> {
    name.strip_prefix(kind)?.trim().strip_prefix(open)?.strip_suffix(close)
}

fn id(json: &Json, key: &str, path: &str) -> Result<i32> {
    let id = json.get(key).and_then(Json::as_i64).and_then(|id| i32::try_from(id).ok());
    id.ok_or_else(|| bad(format!("its schema has no {key} of {path}")))
}

fn of(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" in {path}") }
}

fn unsupported(message: String) -> QueryError {
    QueryError::user("UnsupportedTable", message)
}

fn bad(message: String) -> QueryError {
    QueryError::user("BadTable", message)
}
