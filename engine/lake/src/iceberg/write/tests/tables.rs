//! What tables hold after they are written.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::list;
use super::store::{Memory, ROOT, by_g, field, file, request};
use crate::files::Files;
use crate::iceberg::avro::Container;
use crate::table::{At, Bounds, Type, Unit, Value};
use crate::write::{Mode, PartitionKey, Request, Transform};

pub fn key(column: &str, transform: Transform) -> PartitionKey {
    PartitionKey { column: column.into(), transform }
}

#[test]
fn a_new_table_is_read_back() {
    let store = Memory::default();
    let decimal = Type::Decimal { precision: 10, scale: 2 };
    let timestamp = Type::Timestamp { unit: Unit::Micros, utc: true };
    let mut request = request("q", Mode::Append);
    let inner = vec![field("x", Type::Int8), field("l", Type::List(Box::new(field("element", Type::Date))))];
    request.columns = vec![
        field("s", Type::Struct(inner)),
        field("d", decimal.clone()),
        field("ts", timestamp.clone()),
        field("g", Type::String),
        field("n", Type::Int16),
    ];
    let keys = vec![
        key("d", Transform::Identity),
        key("ts", Transform::Day),
        key("g", Transform::Truncate(3)),
        key("n", Transform::Bucket(8)),
    ];
    request.partition = Some(keys.clone());
    request.properties = BTreeMap::from([("owner".into(), "me".into())]);
    let target = super::super::prepare(&store, ROOT, &request).unwrap();
    assert_eq!((target.root.as_str(), target.data.as_str()), (ROOT, "s3://lake/t/data"));
    assert_eq!(target.partition, keys);
    assert_eq!(target.directories, ["d", "ts_day", "g_trunc", "n_bucket"]);
    assert_eq!(target.partition_types, [decimal, Type::Date, Type::String, Type::Int32]);
    // Levels are numbered one after the other.
    assert_eq!(target.columns.iter().map(|column| column.id.unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let Type::Struct(inner) = &target.columns[0].dtype else { panic!("no struct") };
    assert_eq!((inner[0].id, inner[1].id, &inner[0].dtype), (Some(6), Some(7), &Type::Int32));
    assert_eq!(target.columns[4].dtype, Type::Int32);
    let mut written = file("a", None);
    written.partition =
        vec![Some(Value::Decimal(-150)), Some(Value::Int(20_000)), Some(Value::String("abc".into())), None];
    let bounds = |min, max, nulls| Bounds { min: Some(min), max: Some(max), nulls: Some(nulls) };
    let text = |text: &str| Value::String(text.into());
    written.bounds = BTreeMap::from([
        ("n".into(), bounds(Value::Int(-1), Value::Int(7), 3)),
        ("g".into(), bounds(text("abcdefghijklmnopqrstuvw"), text("abcz"), 0)),
        ("ts".into(), Bounds { nulls: Some(10), ..Bounds::default() }),
    ]);
    super::super::commit(&store, &target, &request, &[written]).unwrap();
    let table = store.read_table();
    assert_eq!(table.groups[0].partition, ["d"]);
    let read = &table.groups[0].files[0];
    assert_eq!((read.rows, read.bytes, read.uri.as_str()), (Some(10), 100, "s3://lake/t/data/a"));
    assert_eq!(read.partition, [Some(Value::Decimal(-150))]);
    assert_eq!(read.bounds["n"], bounds(Value::Int(-1), Value::Int(7), 3));
    assert_eq!(read.bounds["g"], bounds(text("abcdefghijklmnop"), text("abcz"), 0));
    assert_eq!(read.bounds["ts"].nulls, Some(10));
    let metadata = store.metadata();
    assert_eq!(metadata["format-version"], 2);
    assert_eq!(metadata["last-column-id"], 8);
    assert_eq!(metadata["last-partition-id"], 1003);
    assert_eq!(metadata["properties"], json!({"owner": "me"}));
    assert_eq!(metadata["refs"]["main"], json!({"snapshot-id": table.version, "type": "branch"}));
    assert_eq!(metadata["snapshot-log"][0]["snapshot-id"], json!(table.version));
    let summary = &metadata["snapshots"][0]["summary"];
    assert_eq!((&summary["operation"], &summary["floe.query"]), (&json!("append"), &json!("q")));
    assert_eq!((&summary["added-records"], &summary["total-files-size"]), (&json!("10"), &json!("100")));
    let manifests = manifests(&store);
    let partitions = manifests[0].partitions.clone().unwrap();
    assert_eq!(partitions[1].lower.as_deref(), Some(20_000i32.to_le_bytes().as_slice()));
    assert_eq!((partitions[3].nulls, &partitions[3].upper), (true, &None));
}

/// The current manifests.
pub fn manifests(store: &Memory) -> Vec<list::ManifestFile> {
    let metadata = store.metadata();
    let current = &metadata["snapshots"].as_array().unwrap().last().unwrap()["manifest-list"];
    list::read(&store.read(current.as_str().unwrap()).unwrap().unwrap()).unwrap()
}

/// Status, name, snapshot, sequence number and first row of each entry.
#[allow(clippy::type_complexity)]
pub fn entries(
    store: &Memory,
    manifest: &list::ManifestFile,
) -> Vec<(i64, String, Option<i64>, Option<i64>, Option<i64>)> {
    let bytes = store.read(&manifest.path).unwrap().unwrap();
    let mut entries = Vec::new();
    let each = |row: crate::iceberg::avro::decode::Datum<'_>| {
        let file = row.field(2);
        let name = file.field(100).string().unwrap().rsplit('/').next().unwrap().to_string();
        let first_row = file.field(142).int();
        entries.push((row.field(0).int().unwrap(), name, row.field(1).int(), row.field(3).int(), first_row));
        Ok(())
    };
    Container::open(&bytes, &[]).unwrap().rows(each).unwrap();
    entries
}

pub fn partitioned(query: &str, mode: Mode) -> Request {
    Request { partition: by_g(), ..request(query, mode) }
}

#[test]
fn appending_keeps_manifests() {
    let store = Memory::default();
    let mut create = request("q0", Mode::Create);
    create.properties.insert("write.metadata.previous-versions-max".into(), "2".into());
    let first = store.commit(&create, &[file("a", None)]).unwrap().version;
    for (query, name) in [("q1", "b"), ("q2", "c"), ("q3", "d")] {
        store.commit(&request(query, Mode::Append), &[file(name, None)]).unwrap();
    }
    assert_eq!(store.names(), ["a", "b", "c", "d"]);
    let metadata = store.metadata();
    assert_eq!(metadata["last-sequence-number"], 4);
    let log = metadata["metadata-log"].as_array().unwrap();
    let names: Vec<&str> = log.iter().map(|one| one["metadata-file"].as_str().unwrap()).collect();
    assert_eq!(names, [format!("{ROOT}/metadata/v2.metadata.json"), format!("{ROOT}/metadata/v3.metadata.json")]);
    assert_eq!(metadata["snapshots"][1]["parent-snapshot-id"], first);
    let sequences: Vec<i64> = manifests(&store).iter().map(|manifest| manifest.sequence).collect();
    assert_eq!(sequences, [4, 3, 2, 1]);
    assert_eq!(metadata["snapshots"][3]["summary"]["total-data-files"], "4");
    let past = crate::iceberg::table(&store, ROOT, &At { snapshot: Some(first), ..At::default() }).unwrap();
    assert_eq!(super::store::names(&past), ["a"]);
}

#[test]
fn overwriting_deletes_all_files() {
    let store = Memory::default();
    let first = store.commit(&request("q0", Mode::Overwrite), &[file("a", None), file("b", None)]).unwrap().version;
    let second = store.commit(&request("q1", Mode::Overwrite), &[file("c", None)]).unwrap().version;
    assert_eq!(store.names(), ["c"]);
    let listed = manifests(&store);
    let deleted = |name: &str| (2, name.to_string(), Some(second), Some(1), None);
    assert_eq!(entries(&store, &listed[1]), [deleted("a"), deleted("b")]);
    let counts = listed[1].counts.unwrap();
    assert_eq!((counts.files, counts.rows), ([0, 0, 2], [0, 0, 20]));
    let summary = &store.metadata()["snapshots"][1]["summary"];
    assert_eq!((&summary["operation"], &summary["deleted-records"]), (&json!("overwrite"), &json!("20")));
    assert_eq!((&summary["total-records"], &summary["removed-files-size"]), (&json!("10"), &json!("200")));
    store.commit(&request("q2", Mode::Overwrite), &[]).unwrap();
    assert!(store.names().is_empty());
    let summary = &store.metadata()["snapshots"][2]["summary"];
    assert_eq!((&summary["operation"], &summary["total-data-files"]), (&json!("delete"), &json!("0")));
    // Manifests of deleted files are not carried on.
    assert_eq!(manifests(&store).len(), 1);
    let past = crate::iceberg::table(&store, ROOT, &At { snapshot: Some(first), ..At::default() }).unwrap();
    assert_eq!(super::store::names(&past), ["a", "b"]);
}

#[test]
fn rows_of_version_3_have_ids() {
    let store = Memory::default();
    let mut create = partitioned("q0", Mode::Create);
    create.properties.insert("format-version".into(), "3".into());
    store.commit(&create, &[file("u", Some(Some("u"))), file("v", Some(Some("v")))]).unwrap();
    store.commit(&request("q1", Mode::Append), &[file("w", Some(Some("w")))]).unwrap();
    let last =
        store.commit(&request("q2", Mode::OverwritePartitions), &[file("new", Some(Some("u")))]).unwrap().version;
    let metadata = store.metadata();
    assert_eq!(metadata["format-version"], 3);
    assert!(metadata["properties"].get("format-version").is_none());
    let ids: Vec<_> = metadata["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["first-row-id"], &one["added-rows"]))
        .collect();
    // The rows of a manifest that is written again count too.
    assert_eq!(ids, [(&json!(0), &json!(20)), (&json!(20), &json!(10)), (&json!(30), &json!(20))]);
    assert_eq!(metadata["next-row-id"], 50);
    let listed = manifests(&store);
    assert_eq!(listed.iter().map(|manifest| manifest.first_row).collect::<Vec<_>>(), [Some(30), Some(20), Some(40)]);
    let kept = entries(&store, &listed[2]);
    assert_eq!(kept[0], (2, "u".into(), Some(last), Some(1), Some(0)));
    assert_eq!((kept[1].0, kept[1].4), (0, Some(10)));
    assert_eq!(store.names(), ["new", "v", "w"]);
}

#[test]
fn columns_that_were_taken_out_of_the_partitioning() {
    let store = Memory::default();
    store.commit(&partitioned("q0", Mode::Create), &[file("u", Some(Some("u")))]).unwrap();
    store.change(|metadata| {
        let fields = json!([
            {"source-id": 2, "field-id": 1000, "name": "g", "transform": "void"},
            {"source-id": 1, "field-id": 1001, "name": "id bucket", "transform": "bucket[4]"},
        ]);
        metadata["partition-specs"].as_array_mut().unwrap().push(json!({"spec-id": 1, "fields": fields}));
        metadata["default-spec-id"] = 1.into();
    });
    let mut bucket = file("b", None);
    bucket.partition = vec![Some(Value::Int(3))];
    let request = Request { partition: Some(vec![key("id", Transform::Bucket(4))]), ..request("q1", Mode::Append) };
    store.commit(&request, &[bucket]).unwrap();
    assert_eq!(store.names(), ["b", "u"]);
    let partitions = manifests(&store)[0].partitions.clone().unwrap();
    assert!(partitions[0].nulls && !partitions[1].nulls);
    let wrong = Request { partition: by_g(), query: "q2".into(), ..request };
    let error = store.commit(&wrong, &[]).unwrap_err();
    assert!(error.message.contains("bucket[4](id), and identity(g) is asked for"), "{}", error.message);
}
