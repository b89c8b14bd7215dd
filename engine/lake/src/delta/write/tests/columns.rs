//! Rows against the columns of a table.

use serde_json::{Value as Json, json};

use super::store::*;
use crate::delta::tests::memory::{Memory, add, features, files, metadata, protocol};
use crate::delta::write::commit;
use crate::delta::write::widen::PROPERTY;
use crate::table::{Field, Type, Unit, Value};
use crate::write::Mode;

fn column(name: &str, kind: Json, nullable: bool) -> Json {
    json!({"name": name, "type": kind, "nullable": nullable, "metadata": {}})
}

fn schema(columns: &[Json]) -> String {
    json!({"type": "struct", "fields": columns}).to_string()
}

fn table(columns: &[Json]) -> Faulty {
    Faulty::new(Memory::with(protocol(), metadata(&schema(columns)), &[]))
}

fn wide() -> Faulty {
    let item =
        json!({"type": "struct", "fields": [column("a", json!("long"), true), column("b", json!("double"), true)]});
    table(&[
        column("id", json!("long"), false),
        column("Name", json!("string"), true),
        column("price", json!("decimal(12,4)"), true),
        column("items", json!({"type": "array", "elementType": item, "containsNull": true}), true),
        column(
            "tags",
            json!({"type": "map", "keyType": "string", "valueType": "integer", "valueContainsNull": true}),
            true,
        ),
    ])
}

fn decimal(precision: u8, scale: u8) -> Type {
    Type::Decimal { precision, scale }
}

fn map(value: Type) -> Type {
    let key = Field { nullable: false, ..field("key", Type::String) };
    Type::Map { key: Box::new(key), value: Box::new(field("value", value)) }
}

#[test]
fn columns_are_found_by_name_and_cast_to_the_tables_types() {
    let items = list(Type::Struct(vec![field("b", Type::Float32)]));
    let columns = [("items", items), ("price", decimal(10, 4)), ("id", Type::Int16), ("tags", map(Type::Int8))];
    let target = wide().prepare(&request("q", Mode::Append, &columns)).unwrap();
    let names: Vec<_> = target.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["items", "price", "id", "tags"]);
    assert_eq!(target.columns[1].dtype, decimal(12, 4));
    assert_eq!((&target.columns[2].dtype, target.columns[2].nullable), (&Type::Int64, false));
    let whole = Type::Struct(vec![field("a", Type::Int64), field("b", Type::Float64)]);
    assert_eq!(target.columns[0].dtype, list(whole));
    assert_eq!(target.columns[3].dtype, map(Type::Int32));
    assert_eq!(target.stored, [true; 4]);
}

#[test]
fn what_does_not_fit_is_named() {
    let id = ("id", Type::Int64);
    let time = |utc| Type::Timestamp { unit: Unit::Micros, utc };
    for (columns, parts) in [
        (vec![("Name", Type::String)], vec!["lack the column \"id\", which may not be null"]),
        (vec![("ID", Type::Int64)], vec!["\"ID\" differs from the table's \"id\" in case only"]),
        (
            vec![id.clone(), ("new", Type::Int8)],
            vec!["no column \"new\"; leave it out, or write sink.schemaEvolution: merge to add it"],
        ),
        (vec![id.clone(), ("Name", Type::Binary)], vec!["\"Name\" is of the type binary", "string in the table"]),
        (vec![id.clone(), ("price", decimal(12, 3))], vec!["\"price\"", "decimal(12,3)", "decimal(12,4)"]),
        (vec![id.clone(), ("price", decimal(5, 5))], vec!["decimal(5,5)"]),
        (vec![id.clone(), ("price", Type::Int8)], vec!["byte", "decimal(12,4)"]),
        (vec![("id", Type::Float64)], vec!["\"id\" is of the type double in the rows and long in the table"]),
        (vec![("id", time(true))], vec!["timestamp in the rows"]),
        (vec![("id", time(false))], vec!["timestamp_ntz in the rows"]),
        (vec![id.clone(), ("tags", map(Type::Int64))], vec!["\"tags.value\" is of the type long", "integer"]),
        (vec![id.clone(), ("items", Type::String)], vec!["string in the rows and array"]),
        (
            vec![id.clone(), ("items", list(Type::Struct(vec![field("A", Type::Int8), field("c", Type::Int8)])))],
            vec!["\"items.element.A\" differs from the table's \"a\"", "no column \"items.element.c\""],
        ),
        (vec![id.clone(), id.clone()], vec!["\"id\" and \"id\" have one name"]),
    ] {
        let (class, message) = failure(wide().prepare(&request("q", Mode::Overwrite, &columns)));
        assert_eq!(class, "SchemaError");
        for part in parts {
            assert!(message.contains(part), "{message} has {part}");
        }
    }
    let mut parted = request("q", Mode::Append, &[id]);
    parted.partition = by(&["id"]);
    assert!(failure(wide().prepare(&parted)).1.contains("partitioned by [], and the rows are to be by [\"id\"]"));
}

#[test]
fn partitions_are_those_of_the_table() {
    let mut settings = metadata(&schema(&[column("x", json!("long"), true), column("day", json!("date"), true)]));
    settings["metaData"]["partitionColumns"] = json!(["day"]);
    let store = Faulty::new(Memory::with(protocol(), settings, &[]));
    let mut rows = request("q", Mode::Append, &[("day", Type::Date), ("x", Type::Int64)]);
    let target = store.prepare(&rows).unwrap();
    assert_eq!((target.partition.clone(), target.stored), (by(&["day"]).unwrap(), vec![false, true]));
    rows.partition = by(&["x"]);
    assert!(failure(store.prepare(&rows)).1.contains("partitioned by [\"day\"]"));
    let lacking = request("q", Mode::Append, &[("x", Type::Int64)]);
    assert!(failure(store.prepare(&lacking)).1.contains("lack the column \"day\", which partitions"));
}

#[test]
fn nulls_are_refused_where_the_table_has_none() {
    let store = wide();
    let rows = request("q", Mode::Append, &[("id", Type::Int64)]);
    let mut file = written("f.parquet", &[]);
    assert!(failure(store.commit(&rows, &[file.clone()])).1.contains("were not counted"));
    file.bounds.insert("id".to_owned(), bounds(Value::Int(1), Value::Int(2), 1));
    let (class, message) = failure(store.commit(&rows, &[file.clone()]));
    assert!(class == "SchemaError" && message.contains("column \"id\" has nulls"), "{message}");
    file.bounds.insert("id".to_owned(), bounds(Value::Int(1), Value::Int(2), 0));
    store.commit(&rows, &[file]).unwrap();
    // An empty text is null as the value of a partition.
    let mut settings = metadata(&schema(&[column("x", json!("long"), true), column("p", json!("string"), false)]));
    settings["metaData"]["partitionColumns"] = json!(["p"]);
    let parted = Faulty::new(Memory::with(protocol(), settings, &[]));
    let rows = request("q", Mode::Append, &[("x", Type::Int64), ("p", Type::String)]);
    for value in [None, Some(Value::String(String::new()))] {
        assert!(failure(parted.commit(&rows, &[written("f", &[value])])).1.contains("\"p\" has nulls"));
    }
    parted.commit(&rows, &[written("f", &[Some(Value::String("a".into()))])]).unwrap();
    // Nobody counts those in nested columns.
    let list = json!({"type": "array", "elementType": "long", "containsNull": false});
    let nested = table(&[column("l", list, true)]);
    let rows = request("q", Mode::Append, &[("l", super::store::list(Type::Int64))]);
    assert!(failure(nested.prepare(&rows)).1.contains("\"l.element\" may be null"));
}

#[test]
fn missing_columns_are_added_if_asked_for() {
    let store = wide();
    let item = Type::Struct(vec![field("c", list(Type::Date)), field("a", Type::Int64)]);
    let mut rows = request("q", Mode::Append, &[("id", Type::Int64), ("new", Type::Int8), ("items", list(item))]);
    rows.evolve = true;
    let mut file = written("f.parquet", &[]);
    file.bounds.insert("id".to_owned(), bounds(Value::Int(1), Value::Int(2), 0));
    file.bounds.insert("new".to_owned(), bounds(Value::Int(3), Value::Int(4), 0));
    store.memory().commit(1, &[add("before")]);
    store.commit(&rows, &[file.clone()]).unwrap();
    let table = store.latest();
    let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id", "Name", "price", "items", "tags", "new"]);
    let item = Type::Struct(vec![field("a", Type::Int64), field("b", Type::Float64), field("c", list(Type::Date))]);
    assert_eq!(table.columns[3].dtype, list(item));
    assert_eq!((files(&table).len(), &files(&table)[1].bounds), (2, &file.bounds));
    assert_eq!(store.actions(2, "metaData").len(), 1);
    assert_eq!(store.actions(2, "protocol").len(), 0);
    // Nothing is left to add.
    rows.query = "again".to_owned();
    store.commit(&rows, &[]).unwrap();
    assert_eq!(store.actions(3, "metaData").len(), 0);
    // The type of a column is changed only where the table allows it.
    let mut other = request("other", Mode::Append, &[("id", Type::Int64), ("new", Type::Int64)]);
    other.evolve = true;
    let message = failure(store.prepare(&other)).1;
    assert!(message.contains("\"new\" is of the type long") && message.contains(PROPERTY), "{message}");
}

/// A table whose types may be widened.
fn narrow() -> Faulty {
    let item = json!({"type": "struct", "fields": [column("a", json!("byte"), true)]});
    let list = json!({"type": "array", "elementType": "short", "containsNull": true});
    let lists = json!({"type": "array", "elementType": list, "containsNull": true});
    let mut settings = metadata(&schema(&[
        column("i", json!("integer"), true),
        column("f", json!("float"), true),
        column("d", json!("decimal(5,2)"), true),
        column("s", item, true),
        column("l", lists, true),
        column("p", json!("integer"), true),
    ]));
    settings["metaData"]["partitionColumns"] = json!(["p"]);
    settings["metaData"]["configuration"] = json!({PROPERTY: "true"});
    Faulty::new(Memory::with(features(&["typeWidening"]), settings, &[]))
}

fn wider() -> Vec<(&'static str, Type)> {
    vec![
        ("i", Type::Int64),
        ("f", Type::Float64),
        ("d", decimal(4, 2)),
        ("s", Type::Struct(vec![field("a", Type::Int32), field("new", Type::Int8)])),
        ("l", list(list(Type::Int32))),
        ("p", Type::Int16),
    ]
}

#[test]
fn types_are_widened_where_the_table_allows_it() {
    let store = narrow();
    let mut rows = request("q", Mode::Append, &wider());
    let message = failure(store.prepare(&rows)).1;
    for part in ["\"i\" is of the type long", "\"l.element.element\"", "\"s.a\"", PROPERTY] {
        assert!(message.contains(part), "{message}");
    }
    rows.evolve = true;
    store.commit(&rows, &[written("f", &[Some(Value::Int(1))])]).unwrap();
    let table = store.latest();
    for ((name, dtype), column) in
        wider().iter().zip(&table.columns).filter(|((name, _), _)| !["d", "p"].contains(name))
    {
        assert_eq!((name, dtype), (&column.name.as_str(), &column.dtype));
    }
    assert_eq!((&table.columns[2].dtype, &table.columns[5].dtype), (&decimal(5, 2), &Type::Int32));
    let text = store.action(1, "metaData")["schemaString"].as_str().unwrap().to_owned();
    let fields: Json = serde_json::from_str::<Json>(&text).unwrap()["fields"].take();
    let changes = |field: &Json| field["metadata"]["delta.typeChanges"].clone();
    assert_eq!(changes(&fields[0]), json!([{"fromType": "integer", "toType": "long"}]));
    assert_eq!(changes(&fields[1]), json!([{"fromType": "float", "toType": "double"}]));
    assert_eq!((changes(&fields[2]), &fields[2]["type"]), (Json::Null, &json!("decimal(5,2)")));
    assert_eq!(changes(&fields[3]), Json::Null);
    assert_eq!(changes(&fields[3]["type"]["fields"][0]), json!([{"fromType": "byte", "toType": "integer"}]));
    assert_eq!(
        changes(&fields[4]),
        json!([{"fromType": "short", "toType": "integer", "fieldPath": "element.element"}])
    );
    // A second change follows the first.
    let mut more = request("r", Mode::Append, &[("l", list(list(Type::Int64))), ("p", Type::Int32)]);
    more.evolve = true;
    store.commit(&more, &[]).unwrap();
    let text = store.action(2, "metaData")["schemaString"].as_str().unwrap().to_owned();
    let fields: Json = serde_json::from_str::<Json>(&text).unwrap()["fields"].take();
    assert_eq!(changes(&fields[4]).as_array().unwrap().len(), 2);
    assert_eq!(changes(&fields[4])[1]["toType"], "long");
}

#[test]
fn what_is_not_widened_is_refused() {
    for (change, told) in [
        (("i", Type::Float64), "\"i\" is of the type double in the rows and integer in the table; cast it"),
        (("d", decimal(6, 2)), "\"d\" is of the type decimal(6,2) in the rows and decimal(5,2) in the table; cast it"),
        (("d", Type::Int64), "\"d\" is of the type long"),
        (("f", Type::String), "\"f\" is of the type string"),
        (
            ("p", Type::Int64),
            "\"p\" is of the type long in the rows and integer in the table; cast it; or, if it does not",
        ),
    ] {
        let mut columns = wider();
        columns.retain(|(name, _)| *name != change.0);
        columns.push(change);
        let mut rows = request("q", Mode::Overwrite, &columns);
        rows.evolve = true;
        let message = failure(narrow().prepare(&rows)).1;
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn the_rest_of_the_metadata_is_kept() {
    let mut settings = metadata(&schema(&[json!({"name": "x", "type": "long", "nullable": true,
        "metadata": {"comment": "kept"}})]));
    settings["metaData"]["name"] = json!("n");
    settings["metaData"]["description"] = json!("d");
    settings["metaData"]["createdTime"] = json!(5);
    settings["metaData"]["configuration"] = json!({"own.key": "v"});
    let before = settings["metaData"].clone();
    let store = Faulty::new(Memory::with(protocol(), settings, &[]));
    let mut rows = request("q", Mode::Append, &[("y", Type::Int8)]);
    rows.evolve = true;
    store.commit(&rows, &[]).unwrap();
    let mut after = store.action(1, "metaData");
    let text = after["schemaString"].take();
    let known: Json = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!(known["fields"][0]["metadata"]["comment"], "kept");
    assert_eq!(known["fields"][1], column("y", json!("byte"), true));
    after["schemaString"] = before["schemaString"].clone();
    assert_eq!(after, before);
}

#[test]
fn times_without_a_zone_bring_their_feature() {
    let local = Type::Timestamp { unit: Unit::Micros, utc: false };
    let lists = |reader: &[&str], writer: &[&str]| json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer});
    let given =
        |reader: i64, writer: i64| json!({"protocol": {"minReaderVersion": reader, "minWriterVersion": writer}});
    let mut rows = request("q", Mode::Append, &[("t", local)]);
    rows.evolve = true;
    for (before, after) in [
        (given(1, 1), Some(lists(&["timestampNtz"], &["timestampNtz"]))),
        (given(1, 2), Some(lists(&["timestampNtz"], &["appendOnly", "invariants", "timestampNtz"]))),
        (
            given(2, 5),
            Some(lists(
                &["columnMapping", "timestampNtz"],
                &[
                    "appendOnly",
                    "invariants",
                    "checkConstraints",
                    "changeDataFeed",
                    "generatedColumns",
                    "columnMapping",
                    "timestampNtz",
                ],
            )),
        ),
        (
            features(&["deletionVectors"]),
            Some(lists(&["deletionVectors", "timestampNtz"], &["deletionVectors", "timestampNtz"])),
        ),
        (features(&["timestampNtz"]), None),
    ] {
        let store = Faulty::new(Memory::with(before, metadata(&schema(&[column("x", json!("long"), true)])), &[]));
        store.commit(&rows, &[]).unwrap();
        assert_eq!(store.actions(1, "protocol").pop(), after);
        assert_eq!(store.latest().columns.len(), 2);
    }
}

#[test]
fn mapped_columns_get_names_and_ids() {
    let mapped = |name: &str, id: i64, kind: Json| {
        json!({"name": name, "type": kind, "nullable": true,
            "metadata": {"delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("p{id}")}})
    };
    let nested = json!({"type": "struct", "fields": [mapped("a", 3, json!("long"))]});
    let mut settings = metadata(&schema(&[mapped("x", 1, json!("long")), mapped("n", 2, nested)]));
    settings["metaData"]["configuration"] =
        json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "8"});
    let given = json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}});
    let store = Faulty::new(Memory::with(given, settings, &[]));
    let plain = store.prepare(&request("q", Mode::Append, &[("x", Type::Int8)])).unwrap();
    assert_eq!((plain.columns[0].physical.as_deref(), plain.columns[0].id), (Some("p1"), Some(1)));
    let two = Type::Struct(vec![field("b", Type::Int8), field("a", Type::Int64)]);
    let mut rows = request("q", Mode::Append, &[("n", two), ("y", Type::String)]);
    rows.evolve = true;
    // Any attempt commits what was prepared.
    rows.attempt = String::new();
    let target = store.prepare(&rows).unwrap();
    rows.attempt = "1".to_owned();
    assert_eq!(target.columns[1].id, Some(10));
    let mut file = written("f.parquet", &[]);
    file.bounds.insert("y".to_owned(), bounds(Value::String("u".into()), Value::String("v".into()), 0));
    commit(&store, &target, &rows, &[file.clone()]).unwrap();
    let table = store.latest();
    assert_eq!((&table.columns[1], &table.columns[2]), (&target.columns[0], &target.columns[1]));
    let Type::Struct(fields) = &table.columns[1].dtype else { panic!("no struct") };
    assert_eq!((fields[0].id, fields[1].id), (Some(3), Some(9)));
    let physical = table.columns[2].physical.clone().unwrap();
    assert!(physical.starts_with("col-") && fields[1].physical.as_ref().is_some_and(|name| *name != physical));
    assert_eq!(files(&table)[0].bounds, file.bounds);
    assert!(store.action(1, "add")["stats"].as_str().unwrap().contains(&physical));
    let properties = store.action(1, "metaData")["configuration"].clone();
    assert_eq!(properties["delta.columnMapping.maxColumnId"], "10");
}
