//! Tables that are made by a write.

use serde_json::{Value as Json, json};

use super::store::*;
use crate::delta::tests::memory::{ROOT, files, names};
use crate::table::{Mapping, Type, Unit, Value};
use crate::write::{Mode, PartitionKey, Transform};

const LOCAL: Type = Type::Timestamp { unit: Unit::Micros, utc: false };

#[test]
fn a_new_table_is_what_was_asked_for() {
    let store = Faulty::default();
    let mut request = request("q", Mode::Create, &[("day", Type::Date), ("x", Type::Int64), ("s", Type::String)]);
    request.partition = by(&["day"]);
    request.properties = properties(&[("delta.logRetentionDuration", "interval 1 day")]);
    let target = store.prepare(&request).unwrap();
    assert_eq!((target.root.as_str(), target.data.as_str()), (ROOT, ROOT));
    assert_eq!(target.columns, request.columns);
    assert_eq!(target.stored, [false, true, true]);
    assert_eq!((target.directories, target.partition_types), (vec!["day".to_owned()], vec![Type::Date]));
    let mut file = written("day=1970-01-02/a b.parquet", &[Some(Value::Int(1))]);
    file.bounds.insert("x".to_owned(), bounds(Value::Int(-1), Value::Int(5), 1));
    let other = written("day=__HIVE_DEFAULT_PARTITION__/c.parquet", &[None]);
    let done = store.commit(&request, &[file.clone(), other.clone()]).unwrap();
    assert_eq!((done.version, done.was_committed), (0, false));
    assert_eq!(done.files, [file.uri.clone(), other.uri]);

    let table = store.latest();
    assert_eq!((table.version, &table.columns), (Some(0), &request.columns));
    assert_eq!(names(&table), ["day=1970-01-02/a b.parquet", "day=__HIVE_DEFAULT_PARTITION__/c.parquet"]);
    let found = files(&table);
    assert_eq!((&found[0].partition, &found[1].partition), (&vec![Some(Value::Int(1))], &vec![None]));
    assert_eq!((found[0].bytes, found[0].rows, &found[0].bounds), (7, Some(3), &file.bounds));

    let metadata = store.action(0, "metaData");
    assert_eq!(metadata["partitionColumns"], json!(["day"]));
    assert_eq!(metadata["configuration"], json!({"delta.logRetentionDuration": "interval 1 day"}));
    assert_eq!(metadata["format"], json!({"provider": "parquet", "options": {}}));
    assert!(metadata["createdTime"].as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(metadata["id"].as_str().unwrap().len(), 36);
    assert_eq!(store.action(0, "protocol"), json!({"minReaderVersion": 1, "minWriterVersion": 2}));
    assert_eq!(store.action(0, "txn")["appId"], "floe-q");
    let info = store.action(0, "commitInfo");
    assert_eq!(info["operation"], "CREATE TABLE AS SELECT");
    assert_eq!(info["operationParameters"], json!({"mode": "ErrorIfExists", "partitionBy": "[\"day\"]"}));
    let metrics = json!({"numFiles": "2", "numOutputRows": "6", "numOutputBytes": "14"});
    assert_eq!((&info["operationMetrics"], &info["isBlindAppend"]), (&metrics, &json!(true)));
    assert!(info["engineInfo"].as_str().unwrap().starts_with("Floe/"));
    assert_eq!(store.actions(0, "add")[0]["path"], "day=1970-01-02/a%20b.parquet");
}

#[test]
fn every_mode_makes_a_table_and_one_only_that() {
    for mode in [Mode::Create, Mode::Append, Mode::Overwrite, Mode::OverwritePartitions] {
        let store = Faulty::default();
        let first = request("first", mode.clone(), &[("x", Type::Int64)]);
        assert_eq!(store.commit(&first, &[]).unwrap().version, 0, "{mode:?}");
        assert_eq!(store.latest().columns, first.columns);
        let second = request("second", Mode::Create, &[("x", Type::Int64)]);
        let (class, message) = failure(store.prepare(&second));
        assert_eq!(class, "SinkExists");
        assert!(message.contains("use mode overwrite"), "{message}");
    }
    // The table is made while the rows are written.
    let store = Faulty::default();
    let other = Faulty::default();
    other.commit(&request("other", Mode::Create, &[("x", Type::Int64)]), &[]).unwrap();
    let made = ["commitInfo", "protocol", "metaData", "txn"].map(|kind| json!({kind: other.action(0, kind)}));
    store.fail([Fault::Overtaken(made.to_vec())]);
    assert_eq!(failure(store.commit(&request("late", Mode::Create, &[("x", Type::Int64)]), &[])).0, "SinkExists");
}

#[test]
fn a_new_table_asks_for_the_features_it_uses() {
    let lists = |reader: &[&str], writer: &[&str]| {
        let mut protocol = json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": writer});
        if !reader.is_empty() {
            (protocol["minReaderVersion"], protocol["readerFeatures"]) = (json!(3), json!(reader));
        }
        protocol
    };
    let versions = |reader: i64, writer: i64| json!({"minReaderVersion": reader, "minWriterVersion": writer});
    let local = list(Type::Struct(vec![field("t", LOCAL)]));
    for (dtype, set, protocol) in [
        (Type::Int8, &[][..], versions(1, 2)),
        (Type::Int8, &[("delta.appendOnly", "true")], versions(1, 2)),
        (Type::Int8, &[("delta.enableChangeDataFeed", "true")], versions(1, 4)),
        (Type::Int8, &[("delta.enableChangeDataFeed", "false")], versions(1, 2)),
        (Type::Int8, &[("delta.columnMapping.mode", "name")], versions(2, 5)),
        (Type::Int8, &[("delta.columnMapping.mode", "none")], versions(1, 2)),
        (LOCAL, &[], lists(&["timestampNtz"], &["timestampNtz"])),
        (local, &[("delta.appendOnly", "true")], lists(&["timestampNtz"], &["appendOnly", "timestampNtz"])),
        (Type::Int8, &[("delta.enableInCommitTimestamps", "true")], lists(&[], &["inCommitTimestamp"])),
        (
            Type::Int8,
            &[("delta.enableDeletionVectors", "true"), ("delta.columnMapping.mode", "id")],
            lists(&["columnMapping", "deletionVectors"], &["columnMapping", "deletionVectors"]),
        ),
        (Type::Int8, &[("delta.checkpointPolicy", "v2")], lists(&["v2Checkpoint"], &["v2Checkpoint"])),
        (Type::Int8, &[("delta.feature.domainMetadata", "supported")], lists(&[], &["domainMetadata"])),
    ] {
        let store = Faulty::default();
        let mut request = request("q", Mode::Create, &[("x", dtype)]);
        request.properties = properties(set);
        store.commit(&request, &[]).unwrap();
        assert_eq!(store.action(0, "protocol"), protocol, "{set:?}");
        let kept = store.action(0, "metaData")["configuration"].as_object().unwrap().clone();
        assert!(kept.keys().all(|name| !name.starts_with("delta.feature.")), "{kept:?}");
        store.latest();
    }
    for (name, value) in [
        ("delta.constraints.positive", "x > 0"),
        ("delta.enableRowTracking", "true"),
        ("delta.enableIcebergCompatV2", "true"),
        ("delta.feature.rowTracking", "supported"),
        ("delta.feature.icebergCompatV1", "supported"),
        ("delta.minWriterVersion", "7"),
        ("delta.columnMapping.maxColumnId", "7"),
        ("delta.columnMapping.mode", "names"),
    ] {
        let mut request = request("q", Mode::Append, &[("x", Type::Int8)]);
        request.properties = properties(&[(name, value)]);
        let (class, message) = failure(Faulty::default().prepare(&request));
        assert_eq!(class, "BadSpec");
        assert!(message.contains(&format!("\"{name}\"")), "{message}");
    }
}

#[test]
fn columns_can_be_mapped_from_the_start() {
    let store = Faulty::default();
    let nested =
        Type::Struct(vec![field("y", Type::Int8), field("z", list(Type::Struct(vec![field("w", Type::Date)])))]);
    let mut request = request("q", Mode::Create, &[("a b", Type::String), ("n", nested), ("day", Type::Date)]);
    request.properties = properties(&[("delta.columnMapping.mode", "id")]);
    request.partition = by(&["day"]);
    let target = store.prepare(&request).unwrap();
    let ids: Vec<_> = target.columns.iter().map(|column| column.id).collect();
    assert_eq!(ids, [Some(1), Some(2), Some(6)]);
    let name = |at: usize| target.columns[at].physical.clone().unwrap();
    assert!(name(0).starts_with("col-") && name(0) != name(1));
    assert_eq!(target.directories, [name(2)]);
    let mut file = written("f.parquet", &[Some(Value::Int(0))]);
    file.bounds.insert("a b".to_owned(), bounds(Value::String("u".into()), Value::String("v".into()), 0));
    store.commit(&request, &[file.clone()]).unwrap();
    let table = store.latest();
    assert_eq!((table.mapping, &table.columns), (Mapping::Id, &target.columns));
    assert_eq!((&files(&table)[0].bounds, &files(&table)[0].partition), (&file.bounds, &file.partition));
    let add = store.action(0, "add");
    assert_eq!(add["partitionValues"], json!({name(2): "1970-01-01"}));
    let stats: Json = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!(stats["minValues"], json!({name(0): "u"}));
    assert_eq!(store.action(0, "metaData")["configuration"]["delta.columnMapping.maxColumnId"], "6");
}

#[test]
fn what_delta_does_not_have_is_refused() {
    let nanos = Type::Timestamp { unit: Unit::Nanos, utc: true };
    for (dtype, help) in [
        (Type::Uuid, "cast it to binary"),
        (Type::Fixed(4), "cast it to binary"),
        (Type::Time, "cast it to a string"),
        (nanos.clone(), "cast it to microseconds"),
        (Type::Struct(vec![]), "give it a field"),
        (list(Type::Struct(vec![field("t", nanos)])), "\"x.element.t\""),
    ] {
        let (class, message) = failure(Faulty::default().prepare(&request("q", Mode::Append, &[("x", dtype)])));
        assert_eq!(class, "NotSupported");
        assert!(message.contains("\"x") && message.contains(help), "{message}");
    }
    let columns = [("x", Type::Int8), ("b", Type::Binary), ("l", list(Type::Int8))];
    for (partition, part) in [
        (vec![PartitionKey { column: "x".into(), transform: Transform::Bucket(3) }], "by Bucket(3)"),
        (by(&["b"]).unwrap(), "column \"b\" of the type binary"),
        (by(&["l"]).unwrap(), "column \"l\" of the type array"),
        (by(&["x", "x"]).unwrap(), "\"x\" partitions it twice"),
        (by(&["nope"]).unwrap(), "\"nope\""),
    ] {
        let mut request = request("q", Mode::Append, &columns);
        request.partition = Some(partition);
        let message = failure(Faulty::default().prepare(&request)).1;
        assert!(message.contains(part), "{message}");
    }
    let mut all = request("q", Mode::Append, &[("x", Type::Int8)]);
    all.partition = by(&["x"]);
    assert!(failure(Faulty::default().prepare(&all)).1.contains("none is left"));
    assert!(failure(Faulty::default().prepare(&request("q", Mode::Append, &[]))).1.contains("no columns"));
    let twins = request("q", Mode::Append, &[("x", Type::Int8), ("X", Type::Int8)]);
    assert!(failure(Faulty::default().prepare(&twins)).1.contains("\"x\" and \"X\""));
}
