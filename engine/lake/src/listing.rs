//! The files of a snapshot, for people and programs that look into a table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::table::{Table, Type};

/// A data file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub path: String,
    /// The values of the columns that partition the table, as text. `None` is null.
    pub partition: BTreeMap<String, Option<String>>,
    /// Rows in the file, the deleted ones included.
    pub rows: Option<u64>,
    pub bytes: u64,
    /// Rows that are deleted by their position.
    pub deleted: u64,
    /// Files of equality deletes that apply to it. Which rows those delete, only reading them tells.
    pub equality_deletes: u64,
}

/// The files of a snapshot by their paths.
pub fn files(table: &Table) -> Vec<Listed> {
    let mut listed = Vec::new();
    for group in &table.groups {
        let equality_deletes = group.deletes.iter().map(|delete| delete.uris.len() as u64).sum();
        let dtype =
            |name: &String| table.columns.iter().find(|column| column.name == *name).map(|column| &column.dtype);
        let types: Vec<Option<&Type>> = group.partition.iter().map(dtype).collect();
        for file in &group.files {
            let keys = group.partition.iter().zip(&types).zip(&file.partition);
            let partition = keys.map(|((name, dtype), value)| {
                let text = value.as_ref().map(|value| match dtype {
                    Some(dtype) => value.text(dtype),
                    None => format!("{value:?}"),
                });
                (name.clone(), text)
            });
            listed.push(Listed {
                path: file.uri.clone(),
                partition: partition.collect(),
                rows: file.rows,
                bytes: file.bytes,
                deleted: file.deleted.as_ref().map_or(0, |rows| rows.len()),
                equality_deletes,
            });
        }
    }
    listed.sort_by(|one, other| one.path.cmp(&other.path));
    listed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roaring::RoaringTreemap;

    use super::*;
    use crate::table::{DataFile, EqualityDelete, Field, Group, Mapping, Unit, Value};

    #[test]
    fn files_are_listed_with_what_is_deleted() {
        let field = |name: &str, dtype| Field {
            name: name.into(),
            dtype,
            nullable: true,
            physical: None,
            id: None,
            initial: None,
        };
        let file = |uri: &str, partition: Vec<Option<Value>>, deleted: Option<[u64; 2]>| DataFile {
            uri: uri.into(),
            bytes: 7,
            rows: Some(3),
            partition,
            bounds: BTreeMap::new(),
            deleted: deleted.map(|rows| Arc::new(RoaringTreemap::from_iter(rows))),
        };
        let delete = EqualityDelete { columns: vec!["raw".into()], uris: vec!["x".into(), "y".into()] };
        let table = Table {
            root: "r".into(),
            version: Some(1),
            columns: vec![
                field("day", Type::Date),
                field("raw", Type::Binary),
                field("at", Type::Timestamp { unit: Unit::Nanos, utc: true }),
            ],
            mapping: Mapping::Name,
            groups: vec![
                Group {
                    partition: vec!["day".into(), "raw".into(), "at".into()],
                    files: vec![
                        file(
                            "b",
                            vec![Some(Value::Int(0)), Some(Value::Binary(vec![1, 255])), Some(Value::Int(1_500))],
                            None,
                        ),
                        file("a", vec![None, None, None], Some([0, 2])),
                    ],
                    deletes: vec![],
                },
                Group { partition: vec![], files: vec![file("c", vec![], None)], deletes: vec![delete] },
            ],
        };
        let listed = files(&table);
        assert_eq!(listed.iter().map(|file| file.path.as_str()).collect::<String>(), "abc");
        assert_eq!((listed[0].deleted, &listed[0].partition["day"]), (2, &None));
        let text = |name: &str| listed[1].partition[name].as_deref().unwrap();
        assert_eq!((text("day"), text("raw"), text("at")), ("1970-01-01", "01ff", "1970-01-01T00:00:00.000001Z"));
        assert_eq!((listed[2].equality_deletes, listed[2].partition.len()), (2, 0));
        let json = serde_json::to_value(&listed[2]).unwrap();
        assert_eq!(json["equalityDeletes"], 2);
    }
}
