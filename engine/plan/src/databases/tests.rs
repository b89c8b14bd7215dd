use floe_api::{PartitionSpec, TableSpec};
use floe_postgres::Batch;
use floe_postgres::columns::{Array, Bits, Values};
use floe_postgres::pushed::{Clause, Comparison, Literal};
use polars::prelude::*;
use serde_json::json;

use super::{frames, options, pushed, stands_for_table};

fn schema() -> Schema {
    [
        ("id", DataType::Int32),
        ("name", DataType::String),
        ("ok", DataType::Boolean),
        ("at", DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC))),
    ]
    .into_iter()
    .map(|(name, dtype)| (PlSmallStr::from_static(name), dtype))
    .collect()
}

#[test]
fn conditions_are_said_where_types_are_the_same() {
    let said = |expr: Expr| pushed::clause(&expr, &schema());
    let id = |by, value| Clause::Compare { column: "id".into(), by, to: Literal::Int(value) };
    assert_eq!(said(col("id").gt(lit(5i32))), Some(id(Comparison::Greater, 5)));
    assert_eq!(said(lit(5i32).gt(col("id"))), Some(id(Comparison::Less, 5)), "turned around");
    let wide = Expr::Literal(LiteralValue::Scalar(Scalar::from(5i64)));
    assert_eq!(said(col("id").gt(wide)), None, "Polars would widen the column");
    assert_eq!(said(col("id").cast(DataType::Int64).gt(lit(5i64))), None);
    assert_eq!(said(col("id").gt(lit(NULL))), None);
    assert_eq!(said(col("other").is_null()), None, "no such column");
    assert_eq!(said(col("ok").not()), Some(Clause::Not(Box::new(Clause::True("ok".into())))));
    assert_eq!(said(col("id")), None, "no boolean");
    // One side of an alternative cannot be left out.
    assert_eq!(said(col("id").sqrt().gt(lit(1.0)).or(col("name").is_null())), None);
    let prefix = Clause::StartsWith { column: "name".into(), prefix: "a%".into() };
    assert_eq!(said(col("name").str().starts_with(lit("a%"))), Some(prefix));
}

#[test]
fn batches_become_frames_with_their_nulls() {
    let validity = || Some(Bits { bytes: vec![0b101], len: 3 });
    let array = |values, validity| Array { values, validity };
    let batch = Batch {
        rows: 3,
        columns: vec![
            array(Values::Int32(vec![1, 0, 3]), validity()),
            array(Values::Bytes { offsets: vec![0, 1, 1, 3], bytes: b"abc".to_vec() }, validity()),
            array(Values::Bool(Bits { bytes: vec![0b011], len: 3 }), None),
            array(Values::Int64(vec![0, 1, 2]), None),
        ],
    };
    let frame = frames::frame(batch, &schema()).unwrap();
    assert_eq!(**frame.schema(), schema());
    assert_eq!(frame.column("id").unwrap().i32().unwrap().to_vec(), [Some(1), None, Some(3)]);
    let names: Vec<_> = frame.column("name").unwrap().str().unwrap().iter().collect();
    assert_eq!(names, [Some("a"), None, Some("bc")]);
    assert!(!stands_for_table(&frame));
}

#[test]
fn fields_of_a_table_are_options() {
    let partition = PartitionSpec { column: "id".into(), bounds: vec!["10".into()], ..PartitionSpec::default() };
    let table = TableSpec {
        table: Some("s.t".into()),
        partition: Some(partition),
        options: [("connections".to_owned(), json!(3))].into(),
        ..TableSpec::default()
    };
    let given = serde_json::to_value(options(&table)).unwrap();
    assert_eq!(given, json!({"table": "s.t", "connections": 3, "partition": {"column": "id", "bounds": ["10"]}}));
}
