//! Rows against the columns of tables.

use serde_json::json;

use super::super::updates::{Requirement, Update};
use super::store::{Memory, ROOT, field, request};
use crate::iceberg::write::prepare;
use crate::table::{Field, Type, Unit};
use crate::write::{Mode, Request, Target};

fn decimal(precision: u8) -> Type {
    Type::Decimal { precision, scale: 2 }
}

fn columns() -> Vec<Field> {
    let inner = Type::Struct(vec![field("x", Type::Int32), field("y", Type::Int32)]);
    vec![
        field("i", Type::Int32),
        field("l", Type::Int64),
        field("d", decimal(10)),
        field("s", Type::List(Box::new(field("element", inner)))),
        Field { nullable: false, ..field("must", Type::String) },
    ]
}

fn table() -> Memory {
    let store = Memory::default();
    store.commit(&Request { columns: columns(), ..request("o", Mode::Create) }, &[]).unwrap();
    store
}

fn with(change: impl FnOnce(&mut Vec<Field>), evolve: bool) -> Result<Target, String> {
    let mut columns = columns();
    change(&mut columns);
    let request = Request { columns, evolve, ..request("q", Mode::Append) };
    prepare(&table(), ROOT, &request).map_err(|error| error.message)
}

#[test]
fn rows_are_matched_by_name() {
    let target = with(
        |columns| {
            columns.reverse();
            columns[4].dtype = Type::Int8;
            columns[3].dtype = Type::Int32;
            columns[2].dtype = decimal(5);
            columns[1].dtype = Type::List(Box::new(field("item", Type::Struct(vec![field("y", Type::Int16)]))));
        },
        false,
    )
    .unwrap();
    let found: Vec<_> = target.columns.iter().map(|column| (column.id.unwrap(), column.nullable)).collect();
    assert_eq!(found, [(5, false), (4, true), (3, true), (2, true), (1, true)]);
    assert_eq!((&target.columns[4].dtype, &target.columns[3].dtype), (&Type::Int32, &Type::Int64));
    assert_eq!(target.columns[2].dtype, decimal(10));
    let Type::List(element) = &target.columns[1].dtype else { panic!("no list") };
    let Type::Struct(inner) = &element.dtype else { panic!("no struct") };
    assert_eq!((element.name.as_str(), inner.len(), inner[0].id), ("element", 1, Some(8)));
    assert!(with(|columns| drop(columns.remove(1)), false).is_ok());
}

#[test]
fn rows_that_do_not_fit() {
    for (change, told) in [
        (
            Box::new(|columns: &mut Vec<Field>| drop(columns.pop())) as Box<dyn FnOnce(&mut Vec<Field>)>,
            "lack the column must",
        ),
        (Box::new(|columns| columns.push(field("new", Type::Date))), "have the column new, which the table lacks"),
        (Box::new(|columns| columns.push(field("l", Type::Date))), "two columns l"),
        (
            Box::new(|columns| columns[0].dtype = Type::Int64),
            "column i has the type long in the rows and int in the table: cast it, or write sink.schemaEvolution: merge",
        ),
        (
            Box::new(|columns| columns[0].dtype = Type::String),
            "column i has the type string in the rows and int in the table: cast it",
        ),
        (Box::new(|columns| columns[2].dtype = decimal(12)), "decimal(12, 2) in the rows and decimal(10, 2)"),
        (
            Box::new(|columns| {
                columns[3].dtype = Type::List(Box::new(field("element", Type::Struct(vec![field("z", Type::Int32)]))))
            }),
            "column s.element.z, which the table lacks",
        ),
    ] {
        let message = with(change, false).unwrap_err();
        assert!(message.contains(told) && message.contains(ROOT), "{message}");
    }
    let nanos = |columns: &mut Vec<Field>| columns.push(field("t", Type::Timestamp { unit: Unit::Nanos, utc: false }));
    assert!(with(nanos, true).unwrap_err().contains("column t has timestamps in nanoseconds"));
    assert!(
        with(|columns| columns[2].dtype = decimal(12), true)
            .unwrap_err()
            .contains("decimal(10, 2) in the table: cast it")
    );
    assert!(
        with(|columns| columns[1].dtype = Type::Float64, true).unwrap_err().contains("double in the rows and long")
    );
}

#[test]
fn tables_evolve() {
    let store = table();
    let mut columns = columns();
    columns[0].dtype = Type::Int64;
    let inner =
        Type::Struct(vec![field("x", Type::Int64), field("z", Type::List(Box::new(field("element", Type::Date))))]);
    columns[3].dtype = Type::List(Box::new(field("element", inner)));
    columns.insert(0, Field { nullable: false, ..field("new", Type::Boolean) });
    let request = Request { columns, evolve: true, ..request("q", Mode::Append) };
    let target = prepare(&store, ROOT, &request).unwrap();
    // Columns that are added are optional.
    assert_eq!((target.columns[0].id, target.columns[0].nullable), (Some(9), true));
    store.commit(&request, &[]).unwrap();
    let metadata = store.metadata();
    assert_eq!((&metadata["current-schema-id"], &metadata["last-column-id"]), (&json!(1), &json!(11)));
    assert_eq!(metadata["snapshots"][1]["schema-id"], 1);
    let read = store.read_table().columns;
    assert_eq!(read.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["i", "l", "d", "s", "must", "new"]);
    assert_eq!((&read[0].dtype, &read[2].dtype), (&Type::Int64, &decimal(10)));
    let Type::List(element) = &read[3].dtype else { panic!("no list") };
    let Type::Struct(inner) = &element.dtype else { panic!("no struct") };
    assert_eq!(inner.iter().map(|field| field.id.unwrap()).collect::<Vec<_>>(), [7, 8, 10]);
    // What was known to nobody here is still there.
    store.change(|metadata| metadata["schemas"][1]["unheard-of"] = json!({"a": 1}));
    store.commit(&Request { query: "r".into(), ..request }, &[]).unwrap();
    let metadata = store.metadata();
    assert_eq!(metadata["schemas"].as_array().unwrap().len(), 2);
    assert_eq!(metadata["schemas"][1]["unheard-of"], json!({"a": 1}));
}

#[test]
fn changes_as_catalogs_take_them() {
    let requirement = Requirement::AssertRefSnapshotId { r#ref: "main".into(), snapshot_id: None };
    let expected = json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null});
    assert_eq!(serde_json::to_value(requirement).unwrap(), expected);
    assert_eq!(serde_json::to_value(Requirement::AssertCreate).unwrap(), json!({"type": "assert-create"}));
    let update = Update::SetSnapshotRef { ref_name: "main".into(), r#type: "branch".into(), snapshot_id: 5 };
    let expected = json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 5});
    assert_eq!(serde_json::to_value(update).unwrap(), expected);
    let update = Update::AddSchema { schema: json!({}), last_column_id: 3 };
    assert_eq!(
        serde_json::to_value(update).unwrap(),
        json!({"action": "add-schema", "schema": {}, "last-column-id": 3})
    );
}
