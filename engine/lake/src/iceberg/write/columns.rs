//! The columns of the rows against those of the table, by their names: what files are to hold, and how the schema must
//! change for it.

use floe_wire::error::Result;
use serde_json::Value as Json;

use super::schema::{self, Ids, join, mismatch, name, shown};
use super::state::bad_table;
use crate::table::{Field, Type};
use crate::write::EVOLVE;

/// How rows go into a table.
pub struct Matched {
    /// As files are to hold them, in the order of the rows.
    pub columns: Vec<Field>,
    /// The fields of the schema that the table must get; `None`: it fits as it is.
    pub fields: Option<Vec<Json>>,
    /// The greatest id after the change.
    pub last_id: i32,
}

/// `table` has the columns of `schema`.
pub fn of(rows: &[Field], schema: &Json, table: &[Field], evolve: bool, format: u32, last_id: i32) -> Result<Matched> {
    let fields = schema.get("fields").and_then(Json::as_array);
    let fields = fields.ok_or_else(|| bad_table("its schema has no fields".into()))?;
    let mut matcher = Matcher { evolve, format, ids: Ids(last_id), changed: false };
    let mut new = fields.clone();
    let columns = matcher.fields(rows, table, &mut new, "")?;
    Ok(Matched { columns, fields: matcher.changed.then_some(new), last_id: matcher.ids.0 })
}

struct Matcher {
    evolve: bool,
    format: u32,
    ids: Ids,
    changed: bool,
}

impl Matcher {
    /// `json` has the table's fields, which are changed in place.
    fn fields(&mut self, rows: &[Field], table: &[Field], json: &mut Vec<Json>, path: &str) -> Result<Vec<Field>> {
        schema::unique(rows, path)?;
        for (field, json) in table.iter().zip(json.iter()) {
            if rows.iter().all(|row| row.name != field.name) {
                missing(field, json, &join(path, &field.name))?;
            }
        }
        let mut columns = Vec::with_capacity(rows.len());
        for row in rows {
            let path = join(path, &row.name);
            match table.iter().position(|field| field.name == row.name) {
                Some(index) => {
                    let (field, json) = (&table[index], &mut json[index]["type"]);
                    let dtype = self.dtype(&row.dtype, &field.dtype, json, &path)?;
                    columns.push(Field { dtype, physical: None, initial: None, ..field.clone() });
                }
                None if self.evolve => {
                    let added = schema::added(row, &path, self.format, &mut self.ids)?;
                    let column = super::super::schema::columns(
                        &serde_json::json!({"fields": [added.clone()]}),
                        &super::super::schema::Names::new(),
                    )?;
                    json.push(added);
                    columns.extend(column);
                    self.changed = true;
                }
                None => {
                    return Err(mismatch(format!(
                        "the rows have the column {path}, which the table lacks: leave it out, or write {EVOLVE} to \
                         add it to the table"
                    )));
                }
            }
        }
        Ok(columns)
    }

    /// The type in files, which is that of the table after the change.
    fn dtype(&mut self, row: &Type, table: &Type, json: &mut Json, path: &str) -> Result<Type> {
        let part = |field: &Field, dtype| Box::new(Field { dtype, physical: None, initial: None, ..field.clone() });
        match (row, table) {
            (Type::Struct(rows), Type::Struct(fields)) => {
                let Some(json) = json.get_mut("fields").and_then(Json::as_array_mut) else {
                    return Err(bad_table(format!("its schema has no fields in {path}")));
                };
                Ok(Type::Struct(self.fields(rows, fields, json, path)?))
            }
            (Type::List(row), Type::List(field)) => {
                let dtype = self.dtype(&row.dtype, &field.dtype, &mut json["element"], &join(path, "element"))?;
                Ok(Type::List(part(field, dtype)))
            }
            (Type::Map { key: row_key, value: row_value }, Type::Map { key, value }) => {
                // The keys of a map must not change, so no field may be added to them.
                let evolve = std::mem::replace(&mut self.evolve, false);
                let key_type = self.dtype(&row_key.dtype, &key.dtype, &mut json["key"], &join(path, "key"));
                self.evolve = evolve;
                let value_type =
                    self.dtype(&row_value.dtype, &value.dtype, &mut json["value"], &join(path, "value"))?;
                Ok(Type::Map { key: part(key, key_type?), value: part(value, value_type) })
            }
            _ if row == table || fits(row, table) => Ok(table.clone()),
            _ if widens(table, row) => {
                let Some(promoted) = name(row).filter(|_| self.evolve) else {
                    return Err(mismatch(format!(
                        "column {path} has the type {} in the rows and {} in the table: cast it, or write {EVOLVE} to \
                         widen the table's type",
                        shown(row),
                        shown(table)
                    )));
                };
                *json = promoted.into();
                self.changed = true;
                Ok(row.clone())
            }
            _ => Err(mismatch(format!(
                "column {path} has the type {} in the rows and {} in the table: cast it",
                shown(row),
                shown(table)
            ))),
        }
    }
}

/// Whether every value of a type is one of the other.
fn fits(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (Type::Int8 | Type::Int16, Type::Int32 | Type::Int64) | (Type::Int32, Type::Int64) => true,
        (Type::Float32, Type::Float64) => true,
        (Type::Decimal { precision, scale }, Type::Decimal { precision: wide, scale: same }) => {
            precision <= wide && scale == same
        }
        _ => false,
    }
}

/// Whether the table's column may be widened to the type of the rows. The format would allow it for decimals, too, but
/// files of several precisions cannot be read as one column yet.
fn widens(table: &Type, rows: &Type) -> bool {
    !matches!(rows, Type::Decimal { .. }) && fits(table, rows)
}

/// A column of the table that the rows do not have.
fn missing(field: &Field, json: &Json, path: &str) -> Result<()> {
    if json.get("write-default").is_some_and(|default| !default.is_null()) {
        return Err(mismatch(format!(
            "the rows lack the column {path}, which has a default in the table, and defaults are not filled in: add it \
             to the rows"
        )));
    }
    if !field.nullable {
        return Err(mismatch(format!("the rows lack the column {path}, which is required in the table: add it")));
    }
    Ok(())
}
