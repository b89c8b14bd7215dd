//! Fields of nested columns that have other names in files than in the table (Delta's column mapping by name).

use floe_lake::table::{Field, Type};
use polars_plan::dsl::Expr;
use polars_plan::prelude::element;

/// Whether a nested type has a field with another name in files.
pub fn has_renamed(of: &Type) -> bool {
    let renamed =
        |field: &Field| field.physical.as_ref().is_some_and(|name| *name != field.name) || has_renamed(&field.dtype);
    match of {
        Type::List(item) => has_renamed(&item.dtype),
        Type::Map { key, value } => has_renamed(&key.dtype) || has_renamed(&value.dtype),
        Type::Struct(fields) => fields.iter().any(renamed),
        _ => false,
    }
}

/// The type with the names that its fields have in files.
pub fn in_files(of: &Type) -> Type {
    let named = |field: &Field| Field { dtype: in_files(&field.dtype), ..field.clone() };
    match of {
        Type::List(item) => Type::List(Box::new(named(item))),
        Type::Map { key, value } => Type::Map { key: Box::new(named(key)), value: Box::new(named(value)) },
        Type::Struct(fields) => {
            let fields = fields.iter().map(|field| Field { name: name_in_files(field).to_owned(), ..named(field) });
            Type::Struct(fields.collect())
        }
        plain => plain.clone(),
    }
}

/// Gives the fields of values from files the names that they have in the table.
pub fn renamed(values: Expr, of: &Type) -> Expr {
    if !has_renamed(of) {
        return values;
    }
    match of {
        Type::List(item) => values.list().eval(renamed(element(), &item.dtype)),
        Type::Map { key, value } => {
            let entry = |name: &str, field: &Field| Field { name: name.to_owned(), physical: None, ..field.clone() };
            let entries = Type::Struct(vec![entry("key", key), entry("value", value)]);
            values.list().eval(renamed(element(), &entries))
        }
        Type::Struct(fields) => {
            let nested = fields
                .iter()
                .filter(|field| has_renamed(&field.dtype))
                .map(|field| renamed(Expr::Field([name_in_files(field).into()].into()), &field.dtype));
            let nested: Vec<Expr> = nested.collect();
            let values = if nested.is_empty() { values } else { values.struct_().with_fields(nested) };
            values.struct_().rename_fields(fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>())
        }
        _ => values,
    }
}

fn name_in_files(field: &Field) -> &str {
    field.physical.as_deref().unwrap_or(&field.name)
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::super::types::dtype;
    use super::{Type, in_files, renamed};

    fn field(name: &str, physical: &str, dtype: Type) -> super::Field {
        super::Field {
            name: name.into(),
            dtype,
            nullable: true,
            physical: Some(physical.into()),
            id: None,
            initial: None,
        }
    }

    #[test]
    fn fields_at_every_depth_get_the_names_of_the_table() {
        let inner = Type::Struct(vec![field("x", "p1", Type::Int64), field("y", "p2", Type::String)]);
        let list = Type::List(Box::new(super::Field { physical: None, ..field("element", "", inner.clone()) }));
        let map = Type::Map {
            key: Box::new(super::Field { physical: None, ..field("key", "", Type::String) }),
            value: Box::new(super::Field { physical: None, ..field("value", "", inner.clone()) }),
        };
        let all = Type::Struct(vec![field("s", "p3", inner), field("l", "p4", list), field("m", "p5", map)]);
        let json = r#"{"c":{"p3":{"p1":1,"p2":"a"},"p4":[{"p1":2,"p2":null},null],"p5":[{"key":"k","value":{"p1":3,"p2":"b"}}]}}
{"c":null}
{"c":{"p3":null,"p4":[],"p5":null}}"#;
        let held = Schema::from_iter([Field::new("c".into(), dtype(&in_files(&all)))]);
        let rows = JsonReader::new(std::io::Cursor::new(json))
            .with_json_format(JsonFormat::JsonLines)
            .with_schema(held.into())
            .finish()
            .unwrap();
        let got = rows.clone().lazy().select([renamed(col("c"), &all)]).collect().unwrap();
        assert_eq!(got.dtypes(), [dtype(&all)]);
        let text = |frame: &mut DataFrame| {
            let mut lines = Vec::new();
            JsonWriter::new(&mut lines).with_json_format(JsonFormat::JsonLines).finish(frame).unwrap();
            String::from_utf8(lines).unwrap()
        };
        let mut want = text(&mut rows.clone());
        for (held, name) in [("p1", "x"), ("p2", "y"), ("p3", "s"), ("p4", "l"), ("p5", "m")] {
            want = want.replace(&format!("\"{held}\""), &format!("\"{name}\""));
        }
        assert_eq!(text(&mut got.clone()), want);
    }
}
