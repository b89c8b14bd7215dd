//! Protocols and schemas.

use serde_json::{Value as Json, json};

use super::memory::*;
use crate::table::{Mapping, Type, Unit};

fn schema(fields: Json) -> String {
    json!({"type": "struct", "fields": fields}).to_string()
}

fn column(name: &str, kind: Json) -> Json {
    json!({"name": name, "type": kind, "nullable": true, "metadata": {}})
}

fn typed(kind: Json) -> Memory {
    Memory::with(protocol(), metadata(&schema(json!([column("a", kind)]))), &[])
}

#[test]
fn primitive_types_are_known() {
    let timestamp = |utc| Type::Timestamp { unit: Unit::Micros, utc };
    for (name, dtype) in [
        ("byte", Type::Int8),
        ("short", Type::Int16),
        ("integer", Type::Int32),
        ("long", Type::Int64),
        ("float", Type::Float32),
        ("double", Type::Float64),
        ("decimal(10,2)", Type::Decimal { precision: 10, scale: 2 }),
        ("decimal(38, 0)", Type::Decimal { precision: 38, scale: 0 }),
        ("string", Type::String),
        ("binary", Type::Binary),
        ("boolean", Type::Boolean),
        ("date", Type::Date),
        ("timestamp", timestamp(true)),
        ("timestamp_ntz", timestamp(false)),
    ] {
        assert_eq!(typed(json!(name)).latest().columns[0].dtype, dtype, "{name}");
    }
    for name in ["variant", "void", "interval year", "decimal(39,0)", "decimal(2,3)"] {
        let (class, message) = typed(json!(name)).error();
        assert_eq!(class, "UnsupportedTable");
        assert!(message.contains(name) && message.contains("\"a\""), "{message}");
    }
}

#[test]
fn nested_types_are_known() {
    let item = json!({"type": "struct", "fields": [column("x", json!("date"))]});
    let list = json!({"type": "array", "elementType": item, "containsNull": false});
    let map = json!({"type": "map", "keyType": "string", "valueType": list, "valueContainsNull": true});
    let table = typed(map).latest();
    let Type::Map { key, value } = &table.columns[0].dtype else { panic!("no map") };
    assert_eq!((&key.dtype, key.nullable, value.nullable), (&Type::String, false, true));
    let Type::List(element) = &value.dtype else { panic!("no list") };
    assert!(!element.nullable);
    let Type::Struct(fields) = &element.dtype else { panic!("no struct") };
    assert_eq!((fields[0].name.as_str(), &fields[0].dtype), ("x", &Type::Date));
    let (_, message) = typed(json!({"type": "array", "elementType": "variant"})).error();
    assert!(message.contains("\"a.element\""), "{message}");
}

#[test]
fn only_known_features_are_read() {
    let read = |protocol| Memory::with(protocol, metadata(ID), &[]);
    for name in
        ["columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "typeWidening"]
    {
        read(features(&[name])).latest();
    }
    for name in ["variantType", "catalogManaged", "geospatial", "newest"] {
        let (class, message) = read(features(&["timestampNtz", name])).error();
        assert_eq!(class, "UnsupportedTable");
        assert!(message.contains(&format!("feature \"{name}\"")) && message.contains("DROP FEATURE"), "{message}");
    }
    read(json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["newest"]}})).latest();
    read(json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}})).latest();
    let (class, message) = read(json!({"protocol": {"minReaderVersion": 4, "minWriterVersion": 8}})).error();
    assert_eq!(class, "UnsupportedTable");
    assert!(message.contains("reader version 4"), "{message}");
    let mut csv = metadata(ID);
    csv["metaData"]["format"]["provider"] = json!("csv");
    assert!(Memory::with(protocol(), csv, &[]).error().1.contains("\"csv\""));
}

fn mapped(mode: &str, fields: Json) -> Json {
    let mut settings = metadata(&schema(fields));
    settings["metaData"]["configuration"] = json!({"delta.columnMapping.mode": mode});
    settings
}

fn renamed(name: &str, physical: &str, id: i32) -> Json {
    json!({"name": name, "type": "long", "nullable": true,
        "metadata": {"delta.columnMapping.id": id, "delta.columnMapping.physicalName": physical}})
}

#[test]
fn columns_may_be_mapped() {
    let fields = json!([renamed("a", "col-1", 1), renamed("b", "col-2", 2)]);
    for (mode, mapping) in [("name", Mapping::Name), ("id", Mapping::Id)] {
        let mut settings = mapped(mode, fields.clone());
        settings["metaData"]["partitionColumns"] = json!(["b"]);
        let mut file = add("x");
        file["add"]["partitionValues"] = json!({"col-2": "5", "b": "6"});
        file["add"]["stats"] = json!("{\"numRecords\":1,\"minValues\":{\"col-1\":7,\"a\":8}}");
        let table = Memory::with(features(&["columnMapping"]), settings, &[file]).latest();
        assert_eq!(table.mapping, mapping);
        let names: Vec<_> =
            table.columns.iter().map(|field| (field.name.as_str(), field.physical.as_deref(), field.id)).collect();
        assert_eq!(names, [("a", Some("col-1"), Some(1)), ("b", Some("col-2"), Some(2))]);
        assert_eq!(table.groups[0].partition, ["b"]);
        assert_eq!(files(&table)[0].partition, [Some(crate::table::Value::Int(5))]);
        assert_eq!(files(&table)[0].bounds["a"].min, Some(crate::table::Value::Int(7)));
    }
    // The property counts with the feature only.
    let table = Memory::with(protocol(), mapped("name", fields.clone()), &[]).latest();
    assert_eq!((table.mapping, &table.columns[0].physical), (Mapping::Name, &None));
    let version_2 = json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}});
    let table = Memory::with(version_2.clone(), mapped("name", fields.clone()), &[]).latest();
    assert_eq!(table.columns[0].physical.as_deref(), Some("col-1"));
    for settings in [mapped("name", json!([column("a", json!("long"))])), mapped("other", fields)] {
        assert_eq!(Memory::with(version_2.clone(), settings, &[]).error().0, "BadTable");
    }
}

#[test]
fn elements_may_have_ids() {
    let mut list = renamed("a", "col-1", 1);
    list["type"] = json!({"type": "array", "elementType": "long", "containsNull": true});
    list["metadata"]["delta.columnMapping.nested.ids"] = json!({"col-1.element": 9});
    let table = Memory::with(features(&["columnMapping"]), mapped("id", json!([list])), &[]).latest();
    let Type::List(element) = &table.columns[0].dtype else { panic!("no list") };
    assert_eq!(element.id, Some(9));
}

#[test]
fn types_may_widen() {
    let changed = |from: &str, to: &str| {
        let mut column = column("a", json!(to));
        column["metadata"]["delta.typeChanges"] = json!([{"fromType": from, "toType": to}]);
        Memory::with(features(&["typeWidening", "timestampNtz"]), metadata(&schema(json!([column]))), &[])
    };
    for (from, to) in [
        ("byte", "long"),
        ("integer", "double"),
        ("float", "double"),
        ("byte", "decimal(4,1)"),
        ("long", "decimal(20,0)"),
        ("decimal(10,2)", "decimal(20,5)"),
        ("date", "timestamp_ntz"),
    ] {
        changed(from, to).latest();
    }
    for (from, to) in
        [("long", "integer"), ("long", "double"), ("decimal(10,2)", "decimal(10,4)"), ("integer", "string")]
    {
        let (class, message) = changed(from, to).error();
        assert_eq!(class, "UnsupportedTable");
        assert!(message.contains(&format!("from {from} to {to}")), "{message}");
    }
}
