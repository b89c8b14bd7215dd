//! Tables in memory: their manifests are written as the specification has them, and read back.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use floe_wire::error::{QueryError, Result};
use roaring::RoaringTreemap;
use serde_json::{Value as Json, json};

use super::avro::decode::Datum;
use super::avro::write::Writer;
use super::{schemas, table};
use crate::checksum::crc32;
use crate::files::{Entry, Files};
use crate::table::{At, Bounds, EqualityDelete, Group, Mapping, Table, Value};

const ROOT: &str = "s3://lake/t";

/// Files and position deletes by their URIs.
#[derive(Default)]
struct Memory {
    files: HashMap<String, Bytes>,
    positions: HashMap<String, Vec<(String, u64)>>,
}

impl Files for Memory {
    fn read(&self, uri: &str) -> Result<Option<Bytes>> {
        Ok(self.files.get(uri).cloned())
    }
    fn read_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        let file = self.files.get(uri).ok_or_else(|| QueryError::io(format!("no {uri}")))?;
        Ok(file.slice(range.start as usize..range.end as usize))
    }
    fn read_all(&self, uris: &[String]) -> Result<Vec<Bytes>> {
        uris.iter().map(|uri| self.read(uri)?.ok_or_else(|| QueryError::io(format!("no {uri}")))).collect()
    }
    fn list(&self, directory: &str) -> Result<Vec<Entry>> {
        let mut uris: Vec<&String> = self.files.keys().filter(|uri| uri.starts_with(directory)).collect();
        uris.sort();
        Ok(uris.into_iter().map(|uri| Entry { uri: uri.clone(), bytes: 0, modified_ms: 0 }).collect())
    }
    fn parquet_rows(&self, _: &str, _: &[&str]) -> Result<String> {
        Err(QueryError::io("not used"))
    }
    fn positions(&self, uri: &str) -> Result<Vec<(String, u64)>> {
        self.positions.get(uri).cloned().ok_or_else(|| QueryError::io(format!("no positions {uri}")))
    }
}

impl Memory {
    fn put(&mut self, name: &str, bytes: impl Into<Bytes>) {
        self.files.insert(format!("{ROOT}/metadata/{name}"), bytes.into());
    }

    /// Writes the manifests (specification, sequence number, entries) and the metadata of a table of three columns.
    fn table(&mut self, manifests: &[(i64, i64, Vec<Datum<'_>>)], change: impl FnOnce(&mut Json)) {
        let paths: Vec<String> = (0..manifests.len()).map(|i| format!("{ROOT}/metadata/m{i}.avro")).collect();
        let mut listed = Vec::new();
        for ((spec, sequence, entries), path) in manifests.iter().zip(&paths) {
            let fields = [("g", json!("string"), 1000), ("b", json!("int"), 1001)];
            let fields = fields.map(|(name, dtype, id)| schemas::partition_field(name, dtype, id)).to_vec();
            let partition = schemas::partition(if *spec == 0 { vec![] } else { fields });
            let manifest = container(&schemas::manifest(&partition, 3), entries);
            self.files.insert(path.clone(), manifest.into());
            let numbers = [(501, 1), (502, *spec), (517, 0), (515, *sequence), (516, 0), (503, 1), (504, 1), (505, 0)];
            let numbers = numbers.into_iter().chain([(506, 0), (512, 1), (513, 0), (514, 0)]);
            let path = (500, Datum::String(path));
            listed.push(Datum::Record(numbers.map(|(id, n)| (id, Datum::Int(n))).chain([path]).collect()));
        }
        self.put("list.avro", container(&schemas::manifest_list(3), &listed));
        let mut metadata = metadata();
        change(&mut metadata);
        self.put("00003-x.metadata.json", metadata.to_string());
    }
}

fn container(schema: &Json, rows: &[Datum<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(schema, &[]).unwrap();
    rows.iter().for_each(|row| writer.row(row).unwrap());
    writer.finish().unwrap()
}

fn metadata() -> Json {
    let field = |id, name, dtype| json!({"id": id, "name": name, "required": false, "type": dtype});
    json!({
        "format-version": 2, "location": ROOT, "current-schema-id": 1, "current-snapshot-id": 11,
        "schemas": [
            {"schema-id": 0, "fields": [field(1, "old_id", "int")]},
            {"schema-id": 1, "fields": [field(1, "id", "long"), field(2, "g", "string"), field(3, "x", "double")]},
        ],
        "partition-specs": [
            {"spec-id": 0, "fields": []},
            {"spec-id": 1, "fields": [
                {"source-id": 2, "field-id": 1000, "name": "g", "transform": "identity"},
                {"source-id": 1, "field-id": 1001, "name": "b", "transform": "bucket[4]"},
            ]},
        ],
        "snapshots": [
            {"snapshot-id": 10, "timestamp-ms": 1000, "manifest-list": format!("{ROOT}/metadata/list.avro"), "schema-id": 0},
            {"snapshot-id": 11, "timestamp-ms": 2000, "manifest-list": format!("{ROOT}/metadata/list.avro"), "schema-id": 1},
        ],
        "snapshot-log": [{"snapshot-id": 10, "timestamp-ms": 1000}, {"snapshot-id": 11, "timestamp-ms": 2000}],
        "refs": {
            "main": {"snapshot-id": 11, "type": "branch"},
            "old": {"snapshot-id": 10, "type": "tag"},
            "side": {"snapshot-id": 10, "type": "branch"},
        },
    })
}

/// A live entry of 100 rows, with more fields of the data file.
fn entry<'a>(content: i64, path: &'a str, partition: &[Datum<'a>], more: Vec<(i32, Datum<'a>)>) -> Datum<'a> {
    let format = if path.ends_with("puffin") { "puffin" } else { "PARQUET" };
    let copied = |value: &Datum<'a>| match value {
        Datum::String(text) => Datum::String(text),
        Datum::Int(value) => Datum::Int(*value),
        _ => Datum::Null,
    };
    let partition = (1000..).zip(partition.iter().map(copied)).collect();
    let mut file = more;
    file.extend([
        (134, Datum::Int(content)),
        (100, Datum::String(path)),
        (101, Datum::String(format)),
        (102, Datum::Record(partition)),
    ]);
    for (id, value) in [(103, 100), (104, 5000)] {
        if file.iter().all(|(other, _)| *other != id) {
            file.push((id, Datum::Int(value)));
        }
    }
    Datum::Record(vec![(0, Datum::Int(1)), (2, Datum::Record(file))])
}

fn read(memory: &Memory) -> Table {
    table(memory, ROOT, &At::default()).unwrap()
}

fn error(memory: &Memory, at: At) -> (String, String) {
    let error = table(memory, ROOT, &at).unwrap_err();
    (error.class, error.message)
}

fn uris(group: &Group) -> Vec<&str> {
    group.files.iter().map(|file| file.uri.as_str()).collect()
}

fn deleted(table: &Table, uri: &str) -> Vec<u64> {
    let mut files = table.groups.iter().flat_map(|group| &group.files);
    let file = files.find(|file| file.uri == uri).unwrap();
    file.deleted.iter().flat_map(|deleted| deleted.iter()).collect()
}

#[test]
fn partitions_and_bounds() {
    let bytes = |id, value: &'static [u8]| (Datum::Int(id), Datum::Bytes(value));
    let count = |id, value| (Datum::Int(id), Datum::Int(value));
    let stats = vec![
        (110, Datum::Map(vec![count(1, 0), count(2, 100), count(3, 200)])),
        (125, Datum::Map(vec![bytes(1, &[1, 0, 0, 0]), bytes(3, &[0; 8])])),
        (128, Datum::Map(vec![bytes(1, &[9, 0, 0, 0, 0, 0, 0, 0]), bytes(3, &[0; 8])])),
    ];
    let mut memory = Memory::default();
    let by_group = vec![
        entry(0, "s3a://lake/a", &[Datum::String("u"), Datum::Int(1)], stats),
        entry(0, "s3://lake/b", &[Datum::Null, Datum::Null], vec![]),
    ];
    let gone = Datum::Record(vec![
        (0, Datum::Int(2)),
        (
            2,
            Datum::Record(match entry(0, "gone", &[], vec![]) {
                Datum::Record(mut fields) => match fields.pop() {
                    Some((_, Datum::Record(file))) => file,
                    _ => vec![],
                },
                _ => vec![],
            }),
        ),
    ]);
    memory.table(&[(1, 1, by_group), (0, 2, vec![entry(0, "s3://lake/c", &[], vec![]), gone])], |_| {});
    let table = read(&memory);
    assert_eq!((table.version, table.mapping, table.root.as_str()), (Some(11), Mapping::Id, ROOT));
    assert_eq!(
        table.groups.iter().map(uris).collect::<Vec<_>>(),
        [vec!["s3://lake/a", "s3://lake/b"], vec!["s3://lake/c"]]
    );
    assert_eq!(table.groups[0].partition, ["g"]);
    assert!(table.groups[1].partition.is_empty());
    let file = &table.groups[0].files[0];
    assert_eq!(file.partition, [Some(Value::String("u".into()))]);
    assert_eq!(table.groups[0].files[1].partition, [None]);
    assert_eq!((file.rows, file.bytes), (Some(100), 5000));
    let int = |value| Some(Value::Int(value));
    assert_eq!(file.bounds["id"], Bounds { min: int(1), max: int(9), nulls: Some(0) });
    assert_eq!(file.bounds["g"], Bounds { nulls: Some(100), ..Bounds::default() });
    // There may be NaN in it, and it cannot have more nulls than rows.
    assert_eq!(file.bounds["x"], Bounds { min: Some(Value::Float(0.0)), ..Bounds::default() });
}

#[test]
fn snapshots() {
    let mut memory = Memory::default();
    memory.table(&[(0, 1, vec![entry(0, "s3://lake/a", &[], vec![])])], |_| {});
    let at = |at: At| {
        let table = table(&memory, ROOT, &at).unwrap();
        (table.version.unwrap(), table.columns[0].name.clone())
    };
    assert_eq!(at(At::default()), (11, "id".into()));
    assert_eq!(at(At { snapshot: Some(10), ..At::default() }), (10, "old_id".into()));
    assert_eq!(at(At { reference: Some("old".into()), ..At::default() }), (10, "old_id".into()));
    assert_eq!(at(At { reference: Some("side".into()), ..At::default() }), (10, "id".into()));
    assert_eq!(at(At { timestamp_ms: Some(1999), ..At::default() }), (10, "old_id".into()));
    assert_eq!(at(At { timestamp_ms: Some(2000), ..At::default() }), (11, "id".into()));
    for (at, told) in [
        (At { version: Some(1), ..At::default() }, "it has no versions"),
        (At { snapshot: Some(5), ..At::default() }, "it has 11 (1970-01-01T00:00:02Z), 10"),
        (At { reference: Some("x".into()), ..At::default() }, "it has main, old, side"),
        (At { timestamp_ms: Some(1), ..At::default() }, "begins at 1970-01-01T00:00:01Z"),
    ] {
        let (class, message) = error(&memory, at);
        assert_eq!(class, "NoSuchSnapshot");
        assert!(message.starts_with("Iceberg table s3://lake/t: ") && message.contains(told), "{message}");
    }
}

#[test]
fn finding_the_metadata() {
    let mut memory = Memory::default();
    assert_eq!(error(&memory, At::default()).0, "TableNotFound");
    memory.table(&[], |metadata| metadata["current-snapshot-id"] = json!(11));
    memory.put("00002-y.metadata.json", "{}");
    assert_eq!(read(&memory).version, Some(11));
    memory.put("00003-z.metadata.json", "{}");
    let (class, message) = error(&memory, At::default());
    assert!(class == "BadTable" && message.contains("00003-x.metadata.json or"), "{message}");
    // A hint may be behind.
    memory.put("version-hint.text", "1\n");
    memory.put("v1.metadata.json", "{}");
    let mut newer = metadata();
    newer["current-snapshot-id"] = json!(10);
    memory.put("v2.metadata.json", newer.to_string());
    assert_eq!(read(&memory).version, Some(10));
    let named = table(&memory, &format!("{ROOT}/metadata/00003-x.metadata.json"), &At::default());
    assert_eq!(named.unwrap().version, Some(11));
}

#[test]
fn tables_that_are_refused() {
    for (change, told) in [
        (("format-version", json!(4)), "format version 4"),
        (("schemas", json!([{"schema-id": 1, "fields": [{"id": 1, "name": "v", "type": "variant"}]}])), "type variant"),
        (("current-schema-id", json!(7)), "current schema 7"),
        (("location", json!(null)), "cannot be understood"),
    ] {
        let mut memory = Memory::default();
        memory.table(&[], |metadata| metadata[change.0] = change.1);
        let (_, message) = error(&memory, At::default());
        assert!(message.contains(told), "{message}");
    }
    for more in [(101, Datum::String("orc")), (131, Datum::Bytes(b"key"))] {
        let mut memory = Memory::default();
        memory.table(&[(0, 1, vec![entry(0, "s3://lake/a", &[], vec![more])])], |_| {});
        let (class, message) = error(&memory, At::default());
        assert!(class == "UnsupportedTable" && message.contains("s3://lake/a"), "{message}");
    }
}

#[test]
fn position_deletes() {
    let mut memory = Memory::default();
    let group = |name| [Datum::String(name), Datum::Int(0)];
    let data = |sequence, path, name| (1, sequence, vec![entry(0, path, &group(name), vec![])]);
    let manifests = [
        data(1, "s3://lake/a", "u"),
        data(5, "s3://lake/late", "u"),
        data(1, "s3://lake/other", "v"),
        (1, 4, vec![entry(1, "s3://lake/d1", &group("u"), vec![])]),
        (1, 4, vec![entry(1, "s3://lake/unread", &group("w"), vec![])]),
        (1, 4, vec![entry(1, "s3://lake/d2", &group("u"), vec![(143, Datum::String("s3://lake/a"))])]),
    ];
    memory.table(&manifests, |_| {});
    let d1 =
        [("s3://lake/a", 3), ("s3://lake/a", 1), ("s3://lake/late", 2), ("s3://lake/other", 2), ("s3://lake/a", 100)];
    let owned = |deletes: &[(&str, u64)]| deletes.iter().map(|(path, at)| ((*path).to_string(), *at)).collect();
    memory.positions.insert("s3://lake/d1".into(), owned(&d1));
    memory.positions.insert("s3://lake/d2".into(), owned(&[("s3://lake/a", 7)]));
    let table = read(&memory);
    assert_eq!(deleted(&table, "s3://lake/a"), [1, 3, 7]);
    assert!(deleted(&table, "s3://lake/late").is_empty());
    assert!(deleted(&table, "s3://lake/other").is_empty());
}

fn vector(positions: &[u64]) -> Vec<u8> {
    let mut content = vec![0xd1, 0xd3, 0x39, 0x64];
    positions.iter().copied().collect::<RoaringTreemap>().serialize_into(&mut content).unwrap();
    let mut blob = (content.len() as u32).to_be_bytes().to_vec();
    blob.extend_from_slice(&content);
    blob.extend_from_slice(&crc32(&content).to_be_bytes());
    blob
}

#[test]
fn deletion_vectors() {
    let blob = vector(&[2, 50]);
    let size = blob.len() as i64;
    let delete = |path: &'static str, rows| {
        let more =
            vec![(103, Datum::Int(rows)), (143, Datum::String(path)), (144, Datum::Int(4)), (145, Datum::Int(size))];
        entry(1, "s3://lake/v.puffin", &[], more)
    };
    let data = || (0, 1, vec![entry(0, "s3://lake/a", &[], vec![]), entry(0, "s3://lake/b", &[], vec![])]);
    let positions = || (0, 2, vec![entry(1, "s3://lake/d", &[], vec![])]);
    let mut memory = Memory::default();
    memory.files.insert("s3://lake/v.puffin".into(), [b"PFA1", blob.as_slice()].concat().into());
    let deletes = vec![("s3://lake/a".to_string(), 9), ("s3://lake/b".to_string(), 8)];
    memory.positions.insert("s3://lake/d".into(), deletes);
    memory.table(&[data(), positions(), (0, 3, vec![delete("s3://lake/a", 2)])], |_| {});
    let table = read(&memory);
    // The vector has all deletes of its file.
    assert_eq!(deleted(&table, "s3://lake/a"), [2, 50]);
    assert_eq!(deleted(&table, "s3://lake/b"), [8]);

    memory.table(&[data(), (0, 3, vec![delete("s3://lake/b", 3)])], |_| {});
    assert!(error(&memory, At::default()).1.contains("2 positions"));
    memory.table(&[data(), (0, 3, vec![delete("s3://lake/b", 2), delete("s3://lake/b", 2)])], |_| {});
    assert!(error(&memory, At::default()).1.contains("several deletion vectors"));
    let mut broken = blob;
    broken[20] ^= 1;
    memory.files.insert("s3://lake/v.puffin".into(), [b"PFA1", broken.as_slice()].concat().into());
    memory.table(&[data(), (0, 3, vec![delete("s3://lake/a", 2)])], |_| {});
    assert!(error(&memory, At::default()).1.contains("checksum"));
}

#[test]
fn equality_deletes() {
    let group = |name| [Datum::String(name), Datum::Int(0)];
    let ids = |ids: &[i64]| (135, Datum::Array(ids.iter().map(|id| Datum::Int(*id)).collect()));
    let lower = |value: &'static [u8]| (125, Datum::Map(vec![(Datum::Int(1), Datum::Bytes(value))]));
    let no_nulls = || (110, Datum::Map(vec![(Datum::Int(1), Datum::Int(0))]));
    let upper = |value: &'static [u8]| (128, Datum::Map(vec![(Datum::Int(1), Datum::Bytes(value))]));
    let manifests = [
        (1, 1, vec![entry(0, "s3://lake/a", &group("u"), vec![upper(&[5, 0, 0, 0]), no_nulls()])]),
        (1, 2, vec![entry(0, "s3://lake/b", &group("v"), vec![])]),
        (1, 3, vec![entry(0, "s3://lake/new", &group("u"), vec![])]),
        (1, 3, vec![entry(2, "s3://lake/e1", &group("u"), vec![ids(&[3, 1])])]),
        (0, 2, vec![entry(2, "s3://lake/e2", &[], vec![ids(&[1, 3])])]),
        (0, 3, vec![entry(2, "s3://lake/e3", &[], vec![ids(&[2])])]),
        (0, 3, vec![entry(2, "s3://lake/far", &[], vec![ids(&[1]), lower(&[6, 0, 0, 0]), no_nulls()])]),
    ];
    let mut memory = Memory::default();
    memory.table(&manifests, |_| {});
    let table = read(&memory);
    let delete = |columns: &[&str], uris: &[&str]| EqualityDelete {
        columns: columns.iter().map(ToString::to_string).collect(),
        uris: uris.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(
        table.groups.iter().map(uris).collect::<Vec<_>>(),
        [["s3://lake/a"], ["s3://lake/b"], ["s3://lake/new"]]
    );
    let both = delete(&["id", "x"], &["s3://lake/e1", "s3://lake/e2"]);
    assert_eq!(table.groups[0].deletes, [delete(&["g"], &["s3://lake/e3"]), both]);
    let far = delete(&["id"], &["s3://lake/far"]);
    assert_eq!(table.groups[1].deletes, [delete(&["g"], &["s3://lake/e3"]), far]);
    assert!(table.groups[2].deletes.is_empty());

    memory.table(
        &[
            (0, 1, vec![entry(0, "s3://lake/a", &[], vec![])]),
            (0, 2, vec![entry(2, "s3://lake/e", &[], vec![ids(&[9])])]),
        ],
        |_| {},
    );
    assert!(error(&memory, At::default()).1.contains("field 9"));
}

#[test]
fn broken_manifests() {
    let mut memory = Memory::default();
    memory.table(&[(0, 1, vec![entry(0, "s3://lake/a", &[], vec![])])], |_| {});
    let whole = memory.files[&format!("{ROOT}/metadata/m0.avro")].clone();
    for end in (0..whole.len()).step_by(41) {
        // Cut between two blocks it would be a manifest with fewer files: here there is one block.
        memory.put("m0.avro", whole.slice(..end));
        if let Err(error) = table(&memory, ROOT, &At::default()) {
            assert_eq!(error.class, "BadTable");
        }
    }
    for at in (0..whole.len()).step_by(41) {
        let mut broken = whole.to_vec();
        broken[at] ^= 0x55;
        memory.put("m0.avro", broken);
        let _ = table(&memory, ROOT, &At::default());
    }
}
