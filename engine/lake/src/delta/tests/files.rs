//! What is known of the files: partitions, statistics, deleted rows.

use roaring::RoaringTreemap;
use serde_json::{Value as Json, json};

use super::memory::*;
use crate::table::{Bounds, Value};

fn columns(kinds: &[(&str, &str)]) -> Json {
    let fields: Vec<_> = kinds
        .iter()
        .map(|(name, kind)| json!({"name": name, "type": kind, "nullable": true, "metadata": {}}))
        .collect();
    metadata(&json!({"type": "struct", "fields": fields}).to_string())
}

#[test]
fn partitions_have_values() {
    let mut settings = columns(&[("day", "date"), ("text", "string"), ("id", "long")]);
    settings["metaData"]["partitionColumns"] = json!(["text", "day"]);
    let file = |values: Json| {
        let mut file = add("a");
        file["add"]["partitionValues"] = values;
        file
    };
    let read = |values| Memory::with(protocol(), settings.clone(), &[file(values)]);
    let text = |text: &str| Some(Value::String(text.into()));
    for (values, found) in [
        (json!({"day": "1970-01-03", "text": "ü/x=1 %"}), [text("ü/x=1 %"), Some(Value::Int(2))]),
        (json!({"day": null, "text": null}), [None, None]),
        (json!({"day": "", "text": ""}), [None, None]),
        (json!({}), [None, None]),
    ] {
        assert_eq!(files(&read(values).latest())[0].partition, found);
    }
    let (class, message) = read(json!({"day": "tomorrow"})).error();
    assert_eq!(class, "BadTable");
    assert!(message.contains("\"tomorrow\"") && message.contains("\"day\""), "{message}");
}

/// The bounds of column `a` of this type, from statistics as text and from those of a checkpoint.
fn bounds(kind: &str, stats: &Json) -> Bounds {
    let mut file = add("x");
    file["add"]["stats"] = json!(stats.to_string());
    let settings = columns(&[("a", kind)]);
    let text = Memory::with(protocol(), settings.clone(), &[file]).latest();
    let mut parsed = add("x");
    parsed["add"]["stats"] = Json::Null;
    parsed["add"]["stats_parsed"] = stats.clone();
    let mut table = Memory::default();
    table.log("00000000000000000000.checkpoint.parquet", &[protocol(), settings, parsed]);
    let table = table.latest();
    let (text, parsed) = (&files(&text)[0], &files(&table)[0].bounds);
    assert_eq!(text.rows, stats["numRecords"].as_u64());
    assert_eq!(text.bounds, *parsed, "{stats}");
    text.bounds.get("a").cloned().unwrap_or_default()
}

fn range(kind: &str, min: Json, max: Json) -> (Option<Value>, Option<Value>) {
    let stats = json!({"numRecords": 9, "minValues": {"a": min}, "maxValues": {"a": max}, "nullCount": {"a": 2}});
    let found = bounds(kind, &stats);
    assert_eq!(found.nulls, Some(2));
    (found.min, found.max)
}

#[test]
fn statistics_are_bounds() {
    let int = |min, max| (Some(Value::Int(min)), Some(Value::Int(max)));
    assert_eq!(range("long", json!(-5), json!(7)), int(-5, 7));
    assert_eq!(range("date", json!("1970-01-02"), json!("1970-02-01")), int(1, 31));
    assert_eq!(range("date", json!("0001-01-01"), json!("9999-12-31")), (None, Some(Value::Int(2_932_896))));
    let text = |text: &str| Some(Value::String(text.into()));
    assert_eq!(range("string", json!("a"), json!("b\u{10ffff}")), (text("a"), text("b\u{10ffff}")));
    assert_eq!(range("boolean", json!(false), json!(true)), (Some(Value::Boolean(false)), Some(Value::Boolean(true))));
    for kind in ["long", "date", "string", "boolean", "double", "decimal(5,2)", "timestamp", "binary"] {
        assert_eq!(range(kind, json!({"b": 1}), json!([1])), (None, None), "{kind}");
        assert_eq!(range(kind, Json::Null, Json::Null), (None, None), "{kind}");
    }
    assert_eq!(range("binary", json!("61"), json!("62")), (None, None));
}

#[test]
fn times_were_cut_off() {
    let int = |min, max| (Some(Value::Int(min)), Some(Value::Int(max)));
    let day = 10_000 * 86_400_000_000;
    assert_eq!(
        range("timestamp", json!("1997-05-19T00:00:00.000Z"), json!("1997-05-19T00:00:00.001Z")),
        int(day, day + 2_000)
    );
    assert_eq!(
        range("timestamp", json!("1997-05-19T01:00:00.000+01:00"), json!("1997-05-18T16:00:00.000-08:00")),
        int(day, day + 1_000)
    );
    assert_eq!(
        range("timestamp_ntz", json!("1997-05-19T00:00:00.000"), json!("1997-05-19T00:00:00")),
        int(day, day + 1_000)
    );
    // An offset of old, whose seconds are left out.
    assert_eq!(
        range("timestamp", json!("1970-01-01T00:44:00-00:44"), Json::Null).0,
        Some(Value::Int(88 * 60_000_000 - 60_000_000))
    );
    assert_eq!(range("timestamp", json!("0001-01-01T00:00:00Z"), json!("1500-01-01T00:00:00Z")), (None, None));
}

#[test]
fn a_time_without_a_zone_is_of_utc_in_parquet_only() {
    let stats = json!({"numRecords": 1, "minValues": {"a": "1970-01-01T00:00:01"}});
    let mut file = add("x");
    file["add"]["stats"] = json!(stats.to_string());
    let mut parsed = add("y");
    parsed["add"]["stats_parsed"] = stats;
    let table = Memory::with(protocol(), columns(&[("a", "timestamp")]), &[file, parsed]).latest();
    assert!(files(&table)[0].bounds.is_empty());
    assert_eq!(files(&table)[1].bounds["a"].min, Some(Value::Int(1_000_000)));
}

#[test]
fn numbers_may_be_rounded() {
    let min = |kind, min| match range(kind, min, json!(1e300)) {
        (Some(Value::Float(min)), None) => min,
        other => panic!("{other:?}"),
    };
    assert_eq!(min("double", json!(2)), 2.0);
    let least = min("double", json!(0.1));
    assert!(least < 0.1 && least > 0.1 - 1e-15, "{least}");
    let least = min("float", json!(0.1));
    assert!(least <= f64::from(0.1_f32) && least > 0.1 - 1e-7, "{least}");
    assert_eq!(range("double", json!("NaN"), json!("NaN")), (None, None));
    let decimal = |min, max| (Some(Value::Decimal(min)), Some(Value::Decimal(max)));
    assert_eq!(
        range("decimal(12,5)", json!(-2342342.23423), json!(2342222.23454)),
        decimal(-234_234_223_423, 234_222_223_454)
    );
    assert_eq!(range("decimal(5,2)", json!("-1.50"), json!(3)), decimal(-150, 300));
    let (Some(Value::Decimal(min)), Some(Value::Decimal(max))) =
        range("decimal(38,2)", json!(123456789012345678901.25), json!(123456789012345678901.25))
    else {
        panic!("no bounds")
    };
    assert!(min < 12345678901234567890125 && max > 12345678901234567890125 && max - min < 1 << 32, "{min} {max}");
}

#[test]
fn counts_of_nulls_hold_with_wide_bounds_at_the_ends_only() {
    let wide =
        |nulls: u64| json!({"numRecords": 9, "tightBounds": false, "minValues": {"a": 1}, "nullCount": {"a": nulls}});
    for (nulls, found) in [(0, Some(0)), (3, None), (9, Some(9))] {
        assert_eq!(bounds("long", &wide(nulls)).nulls, found);
    }
    assert_eq!(bounds("long", &wide(9)).min, None, "of nulls alone nothing is least");
}

/// A vector as it is in files: framed, after the file's version.
fn vector_file(rows: &[u64]) -> (Vec<u8>, usize) {
    let mut data = 1_681_511_377_u32.to_le_bytes().to_vec();
    rows.iter().copied().collect::<RoaringTreemap>().serialize_into(&mut data).unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(&data);
    let length = data.len();
    let file = [&[1][..], &(length as u32).to_be_bytes(), &data, &crc.sum().to_be_bytes()].concat();
    (file, length)
}

const UUID: &str = "ab^-aqEH.-t@S}K{vb[*k^";
const VECTOR: &str = "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";

fn deleted(action: &str, path: &str, bytes: usize, count: usize) -> Json {
    json!({action: {"path": path, "size": 1, "partitionValues": {}, "stats": "{\"numRecords\":5000000000,\"nullCount\":{\"id\":7}}",
        "deletionVector": {"storageType": "u", "pathOrInlineDv": UUID, "offset": 1, "sizeInBytes": bytes, "cardinality": count}}})
}

#[test]
fn deleted_rows_are_found() {
    let rows = [0, 7, 70_000, 4_294_967_296];
    let (file, bytes) = vector_file(&rows);
    let mut table = Memory::with(features(&["deletionVectors"]), metadata(ID), &[add("a"), add("b")]);
    table.put(VECTOR, file.clone());
    table.commit(1, &[remove("a"), deleted("add", "a", bytes, 4)]);
    let found = table.latest();
    assert_eq!(names(&found), ["b", "a"]);
    assert_eq!(files(&found)[0].deleted, None);
    let data = &files(&found)[1];
    assert_eq!(data.deleted.as_ref().unwrap().iter().collect::<Vec<_>>(), rows);
    assert_eq!(data.rows, Some(5_000_000_000));
    assert!(data.bounds.is_empty(), "the count of nulls may be of all rows");
    // Another vector makes another file.
    table.commit(2, &[remove("a")]);
    assert_eq!(names(&table.latest()), ["b", "a"]);
    table.commit(3, &[deleted("remove", "a", bytes, 4)]);
    assert_eq!(names(&table.latest()), ["b"]);
}

#[test]
fn damaged_vectors_are_errors() {
    let (file, bytes) = vector_file(&[1, 2]);
    let read = |file: Vec<u8>, action: Json| {
        let mut table = Memory::with(features(&["deletionVectors"]), metadata(ID), &[action]);
        table.put(VECTOR, file);
        table
    };
    read(file.clone(), deleted("add", "a", bytes, 2)).latest();
    for at in 1..file.len() {
        let mut other = file.clone();
        other[at] ^= 1;
        assert_eq!(read(other, deleted("add", "a", bytes, 2)).error().0, "BadTable", "byte {at}");
        assert_eq!(read(file[..at].to_vec(), deleted("add", "a", bytes, 2)).error().0, "BadTable", "{at} bytes");
    }
    assert!(read(file.clone(), deleted("add", "a", bytes, 3)).error().1.contains("the log says 3"));
    let mut unknown = deleted("add", "a", bytes, 2);
    unknown["add"]["stats"] = json!("{}");
    assert!(read(file.clone(), unknown).error().1.contains("numRecords"));
    let mut few = deleted("add", "a", bytes, 2);
    few["add"]["stats"] = json!("{\"numRecords\":2}");
    assert!(read(file, few).error().1.contains("past the 2 rows"));
}

#[test]
fn statistics_that_are_none_cost_nothing() {
    for text in ["", "{", "[]", "{\"numRecords\":-1}", "{\"minValues\":[]}"] {
        let mut file = add("a");
        file["add"]["stats"] = json!(text);
        let table = Memory::new(&[file]).latest();
        assert_eq!((files(&table)[0].rows, files(&table)[0].bounds.len()), (None, 0), "{text}");
    }
}
