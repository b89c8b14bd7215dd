//! A table's schema, from the JSON in its metadata.

use serde_json::{Map, Value as Json};

use super::error::{bad_table, unsupported};
use crate::table::{Field, Mapping, Type, Unit};
use floe_wire::error::Result;

pub const PHYSICAL: &str = "delta.columnMapping.physicalName";
pub const ID: &str = "delta.columnMapping.id";
const NESTED_IDS: &str = "delta.columnMapping.nested.ids";
pub const TYPE_CHANGES: &str = "delta.typeChanges";

/// The columns of a table.
#[derive(Debug)]
pub struct Schema {
    pub fields: Vec<Field>,
    /// Whether each column was a float earlier, from which time its statistics are rounded.
    pub was_float: Vec<bool>,
}

/// Reads the schema. Names and ids in files are read if columns are mapped.
pub fn parse(root: &str, text: &str, mapping: Option<Mapping>) -> Result<Schema> {
    let schema: Json =
        serde_json::from_str(text).map_err(|error| bad_table(root, format!("its schema is no JSON: {error}")))?;
    let reader = Reader { root, mapping };
    let columns = schema.get("fields").and_then(Json::as_array);
    let columns = columns.ok_or_else(|| bad_table(root, "its schema has no \"fields\""))?;
    let fields = columns.iter().map(|column| reader.field(column, "")).collect::<Result<_>>()?;
    Ok(Schema { fields, was_float: columns.iter().map(was_float).collect() })
}

fn was_float(column: &Json) -> bool {
    changes(column).iter().any(|change| change.get("fromType").and_then(Json::as_str) == Some("float"))
}

fn changes(column: &Json) -> &[Json] {
    let changes = column.get("metadata").and_then(|metadata| metadata.get(TYPE_CHANGES)).and_then(Json::as_array);
    changes.map_or(&[], Vec::as_slice)
}

/// The ids of a field's elements, keys and values, which have no metadata of their own: by their paths.
#[derive(Clone, Copy)]
struct Nested<'a> {
    ids: Option<&'a Map<String, Json>>,
}

impl Nested<'_> {
    fn id(self, path: &str) -> Option<i32> {
        self.ids?.get(path)?.as_i64().and_then(|id| i32::try_from(id).ok())
    }
}

struct Reader<'a> {
    root: &'a str,
    mapping: Option<Mapping>,
}

impl Reader<'_> {
    /// Reads a field of a struct. `parent` names the struct in errors.
    fn field(&self, field: &Json, parent: &str) -> Result<Field> {
        let text = |key: &str| field.get(key).and_then(Json::as_str);
        let name = text("name")
            .ok_or_else(|| bad_table(self.root, format!("a field in \"{parent}\" of its schema has no name")))?;
        let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        let (mut physical, mut id) = (None, None);
        let metadata = field.get("metadata").and_then(Json::as_object);
        if self.mapping.is_some() {
            let entry = |key: &str| {
                metadata.and_then(|metadata| metadata.get(key)).ok_or_else(|| {
                    bad_table(self.root, format!("its columns are mapped, but column \"{path}\" has no \"{key}\""))
                })
            };
            physical = entry(PHYSICAL)?.as_str().map(str::to_owned);
            if physical.is_none() {
                return Err(bad_table(self.root, format!("\"{PHYSICAL}\" of column \"{path}\" is no text")));
            }
            id = metadata.and_then(|all| all.get(ID)).and_then(Json::as_i64).and_then(|id| i32::try_from(id).ok());
            if self.mapping == Some(Mapping::Id) && id.is_none() {
                return Err(bad_table(
                    self.root,
                    format!("its columns are mapped by ids, but column \"{path}\" has no \"{ID}\""),
                ));
            }
        }
        self.check_changes(field, &path)?;
        let ids = metadata.and_then(|metadata| metadata.get(NESTED_IDS)).and_then(Json::as_object);
        let nested = Nested { ids: ids.filter(|_| self.mapping.is_some()) };
        let kind = field.get("type").ok_or_else(|| bad_table(self.root, format!("column \"{path}\" has no type")))?;
        let dtype = self.dtype(kind, &path, physical.as_deref().unwrap_or(name), nested)?;
        let nullable = field.get("nullable").and_then(Json::as_bool).unwrap_or(true);
        Ok(Field { name: name.to_owned(), dtype, nullable, physical, id, initial: None })
    }

    /// An element, key or value. `place` is its path in files.
    fn inner(
        &self,
        kind: Option<&Json>,
        name: &str,
        nullable: Option<&Json>,
        at: (&str, &str, Nested),
    ) -> Result<Field> {
        let (path, place, nested) = at;
        let (path, place) = (format!("{path}.{name}"), format!("{place}.{name}"));
        let kind = kind.ok_or_else(|| bad_table(self.root, format!("column \"{path}\" has no type")))?;
        let dtype = self.dtype(kind, &path, &place, nested)?;
        let nullable = nullable.and_then(Json::as_bool).unwrap_or(true);
        Ok(Field { name: name.to_owned(), dtype, nullable, physical: None, id: nested.id(&place), initial: None })
    }

    fn dtype(&self, kind: &Json, path: &str, place: &str, nested: Nested) -> Result<Type> {
        if let Json::String(name) = kind {
            return self.primitive(name, path);
        }
        let part = |key: &str| kind.get(key);
        let at = (path, place, nested);
        match part("type").and_then(Json::as_str) {
            Some("struct") => {
                let fields = part("fields").and_then(Json::as_array);
                let fields =
                    fields.ok_or_else(|| bad_table(self.root, format!("column \"{path}\" has no \"fields\"")))?;
                Ok(Type::Struct(fields.iter().map(|field| self.field(field, path)).collect::<Result<_>>()?))
            }
            Some("array") => {
                Ok(Type::List(Box::new(self.inner(part("elementType"), "element", part("containsNull"), at)?)))
            }
            Some("map") => Ok(Type::Map {
                key: Box::new(self.inner(part("keyType"), "key", Some(&Json::Bool(false)), at)?),
                value: Box::new(self.inner(part("valueType"), "value", part("valueContainsNull"), at)?),
            }),
            // Spark's user-defined types are stored as their SQL types.
            Some("udt") => match part("sqlType") {
                Some(storage) => self.dtype(storage, path, place, nested),
                None => Err(bad_table(self.root, format!("column \"{path}\" has no \"sqlType\""))),
            },
            _ => Err(self.no_type(&kind.to_string(), path)),
        }
    }

    fn primitive(&self, name: &str, path: &str) -> Result<Type> {
        named(name).ok_or_else(|| self.no_type(name, path))
    }

    fn no_type(&self, kind: &str, path: &str) -> floe_wire::error::QueryError {
        let what = format!("column \"{path}\" is of the type {kind}, which Floe does not have");
        unsupported(self.root, what, "drop the column, or copy the others to another table")
    }

    /// Files from before a change hold the old type. The caller widens it; nothing else may be needed.
    fn check_changes(&self, column: &Json, path: &str) -> Result<()> {
        for change in changes(column) {
            let kind = |key: &str| change.get(key).and_then(Json::as_str).unwrap_or_default();
            let (from, to) = (kind("fromType"), kind("toType"));
            let types = (self.primitive(from, path)?, self.primitive(to, path)?);
            if !widens(&types.0, &types.1) {
                let what = format!("column \"{path}\" was changed from {from} to {to}, which Floe cannot follow");
                return Err(unsupported(self.root, what, "write the table anew with the new type"));
            }
        }
        Ok(())
    }
}

/// The type of this name; `None` if Floe does not have it, or if it is nested.
pub fn named(name: &str) -> Option<Type> {
    Some(match name {
        "byte" => Type::Int8,
        "short" => Type::Int16,
        "integer" => Type::Int32,
        "long" => Type::Int64,
        "float" => Type::Float32,
        "double" => Type::Float64,
        "string" => Type::String,
        "binary" => Type::Binary,
        "boolean" => Type::Boolean,
        "date" => Type::Date,
        "timestamp" => Type::Timestamp { unit: Unit::Micros, utc: true },
        "timestamp_ntz" => Type::Timestamp { unit: Unit::Micros, utc: false },
        _ => {
            let (precision, scale) = decimal(name)?;
            Type::Decimal { precision, scale }
        }
    })
}

fn decimal(name: &str) -> Option<(u8, u8)> {
    if name == "decimal" {
        return Some((10, 0));
    }
    let (precision, scale) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    ((1..=38).contains(&precision) && scale <= precision).then_some((precision, scale))
}

/// Changes that lose no value. These are more than the protocol allows: Spark makes decimals of less than ten digits
/// of small integers.
fn widens(from: &Type, to: &Type) -> bool {
    let digits = |dtype: &Type| match dtype {
        Type::Int8 => Some((3, 1)),
        Type::Int16 => Some((5, 2)),
        Type::Int32 => Some((10, 3)),
        Type::Int64 => Some((19, 4)),
        _ => None,
    };
    match (from, to) {
        (Type::Decimal { precision: p0, scale: s0 }, Type::Decimal { precision: p1, scale: s1 }) => {
            s1 >= s0 && i16::from(*p1) - i16::from(*p0) >= i16::from(*s1) - i16::from(*s0)
        }
        (from, Type::Decimal { precision, scale }) => {
            digits(from).is_some_and(|(needed, _)| i16::from(*precision) - i16::from(*scale) >= needed)
        }
        (Type::Float32, Type::Float64) | (Type::Int8 | Type::Int16 | Type::Int32, Type::Float64) => true,
        (Type::Date, Type::Timestamp { utc: false, .. }) => true,
        (from, to) => matches!((digits(from), digits(to)), (Some((_, narrow)), Some((_, wide))) if narrow <= wide),
    }
}
