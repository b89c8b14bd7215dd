//! Overwriting a part of a table.

use serde_json::json;

use super::store::{Fault, Memory, field, file, request};
use super::tables::{entries, key, manifests, partitioned};
use crate::filter::Filter;
use crate::table::{Field, Type, Unit, Value};
use crate::write::{Mode, PartitionKey, Request, Transform, Written};

fn matching(filter: &str) -> Mode {
    Mode::OverwriteWhere(Filter::parse(filter).unwrap())
}

fn of(name: &str, partition: &[Option<Value>]) -> Written {
    Written { partition: partition.to_vec(), ..file(name, None) }
}

fn text(text: &str) -> Option<Value> {
    Some(Value::String(text.into()))
}

#[test]
fn overwriting_partitions_keeps_the_others() {
    let store = Memory::default();
    let files = [file("u", Some(Some("u"))), file("v", Some(Some("v"))), file("none", Some(None))];
    let first = store.commit(&partitioned("q0", Mode::Create), &files).unwrap().version;
    store.commit(&partitioned("q1", Mode::Append), &[file("v2", Some(Some("v")))]).unwrap();
    store.commit(&partitioned("q2", Mode::Append), &[file("w", Some(Some("w")))]).unwrap();
    let new = [file("new_v", Some(Some("v"))), file("new_none", Some(None))];
    let last = store.commit(&request("q3", Mode::OverwritePartitions), &new).unwrap().version;
    assert_eq!(store.names(), ["new_none", "new_v", "u", "w"]);
    let listed = manifests(&store);
    // The manifest of `w` is as it was.
    assert_eq!(listed.iter().map(|manifest| manifest.sequence).collect::<Vec<_>>(), [4, 3, 4, 4]);
    let entry = |status, name: &str, snapshot| (status, name.to_string(), Some(snapshot), Some(1), None);
    assert_eq!(entries(&store, &listed[3]), [entry(0, "u", first), entry(2, "v", last), entry(2, "none", last)]);
    assert_eq!(listed[3].min_sequence, 1);
    let summary = &store.metadata()["snapshots"][3]["summary"];
    assert_eq!((&summary["deleted-data-files"], &summary["total-records"]), (&json!("3"), &json!("40")));
    assert_eq!(summary["replace-partitions"], "true");
    // Nothing is in the partitions of no rows.
    store.commit(&request("q4", Mode::OverwritePartitions), &[]).unwrap();
    assert_eq!(store.names().len(), 4);
    // Files of another partitioning.
    store.change(|metadata| {
        let more = json!({"spec-id": 1, "fields": [{"source-id": 1, "field-id": 1001, "name": "id", "transform": "identity"}]});
        metadata["partition-specs"].as_array_mut().unwrap().push(more);
        metadata["default-spec-id"] = 1.into();
    });
    let mut by_id = file("x", None);
    by_id.partition = vec![Some(Value::Int(5))];
    let error = store.commit(&request("q5", Mode::OverwritePartitions), &[by_id.clone()]).unwrap_err();
    assert!(error.message.contains("earlier partitioning"), "{}", error.message);
    store.commit(&request("q6", Mode::Overwrite), &[by_id]).unwrap();
    assert_eq!(store.names(), ["x"]);
}

/// Every transform, with the values of three partitions of a table.
fn transforms() -> Vec<(Field, Transform, [Option<Value>; 3])> {
    let int = |a: i64, b: i64| [Some(Value::Int(a)), Some(Value::Int(b)), None];
    let time = |unit, utc| Type::Timestamp { unit, utc };
    let decimal = Type::Decimal { precision: 20, scale: 2 };
    vec![
        (
            field("c", Type::Boolean),
            Transform::Identity,
            [Some(Value::Boolean(true)), Some(Value::Boolean(false)), None],
        ),
        (field("c", Type::Int32), Transform::Identity, int(-1, 7)),
        (field("c", Type::Int64), Transform::Identity, int(i64::MIN, 7)),
        (field("c", Type::Float32), Transform::Identity, [Some(Value::Float(0.5)), Some(Value::Float(f64::NAN)), None]),
        (field("c", Type::Float64), Transform::Identity, [Some(Value::Float(1e300)), Some(Value::Float(-1.0)), None]),
        (
            field("c", decimal.clone()),
            Transform::Identity,
            [Some(Value::Decimal(-5)), Some(Value::Decimal(1 << 60)), None],
        ),
        (field("c", Type::String), Transform::Identity, [text(""), text("a/b=ü"), None]),
        (
            field("c", Type::Binary),
            Transform::Identity,
            [Some(Value::Binary(vec![0, 255])), Some(Value::Binary(vec![])), None],
        ),
        (field("c", Type::Date), Transform::Identity, int(-1, 20_000)),
        (field("c", time(Unit::Micros, true)), Transform::Identity, int(-1, 1)),
        (field("c", Type::Date), Transform::Year, int(-1, 56)),
        (field("c", time(Unit::Micros, false)), Transform::Month, int(-1, 672)),
        (field("c", time(Unit::Micros, true)), Transform::Day, int(-1, 20_454)),
        (field("c", time(Unit::Micros, false)), Transform::Hour, int(-1, 490_000)),
        (field("c", Type::Int64), Transform::Bucket(16), int(0, 15)),
        (field("c", Type::String), Transform::Bucket(4), int(3, 1)),
        (field("c", Type::Date), Transform::Bucket(2), int(0, 1)),
        (field("c", Type::Int32), Transform::Truncate(10), int(-10, 0)),
        (field("c", Type::String), Transform::Truncate(2), [text("ab"), text("äö"), None]),
        (field("c", decimal), Transform::Truncate(50), [Some(Value::Decimal(-50)), Some(Value::Decimal(100)), None]),
    ]
}

#[test]
fn partitions_of_every_transform_are_overwritten() {
    for (column, transform, values) in transforms() {
        let store = Memory::default();
        let keys: Option<Vec<PartitionKey>> = Some(vec![key("c", transform)]);
        let rows = |query: &str, mode| Request {
            columns: vec![field("id", Type::Int64), column.clone()],
            partition: keys.clone(),
            ..request(query, mode)
        };
        let at = |name: &str, at: usize| of(name, std::slice::from_ref(&values[at]));
        store.commit(&rows("q0", Mode::Create), &[at("a", 0), at("b", 1), at("none", 2)]).unwrap();
        store.commit(&rows("q1", Mode::Append), &[at("a2", 0), at("none2", 2)]).unwrap();
        // Another writer is faster: what it adds to the same partition is replaced, what it adds elsewhere stays.
        let late = (rows("late", Mode::Append), [at("late_a", 0), at("late_b", 1)]);
        store.fault(Fault::Compete(Box::new(move |store| {
            store.commit(&late.0, &late.1).map(drop).unwrap();
        })));
        let replace = rows("q2", Mode::OverwritePartitions);
        let first = store.commit(&replace, &[at("new", 0)]).unwrap();
        let told = format!("{transform:?} of {:?}", column.dtype);
        assert_eq!(store.names(), ["b", "late_b", "new", "none", "none2"], "{told}");
        // A second attempt finds the commit of the first.
        let second = Request { attempt: "2".into(), ..replace };
        let again = store.commit(&second, &[at("second", 1)]).unwrap();
        assert_eq!((again.was_committed, again.version), (true, first.version), "{told}");
        store.commit(&rows("q3", Mode::OverwritePartitions), &[at("new_none", 2)]).unwrap();
        assert_eq!(store.names(), ["b", "late_b", "new", "new_none"], "{told}");
    }
}

#[test]
fn partitions_that_were_written_before_a_column_was_widened() {
    let store = Memory::default();
    let rows = |query: &str, mode, dtype| Request {
        columns: vec![field("id", Type::Int64), field("c", dtype)],
        partition: Some(vec![key("c", Transform::Identity), key("c", Transform::Bucket(8))]),
        evolve: true,
        ..request(query, mode)
    };
    let at = |name: &str, c: i64| of(name, &[Some(Value::Int(c)), Some(Value::Int(c % 8))]);
    store.commit(&rows("q0", Mode::Create, Type::Int32), &[at("a", 1), at("b", 2)]).unwrap();
    store.commit(&rows("q1", Mode::OverwritePartitions, Type::Int64), &[at("new", 1)]).unwrap();
    assert_eq!(store.names(), ["b", "new"]);
    store.commit(&rows("q2", matching("c < 3"), Type::Int64), &[at("less", -8)]).unwrap();
    assert_eq!(store.names(), ["less"]);
}

#[test]
fn without_partitions_all_rows_are_in_one() {
    let store = Memory::default();
    store.commit(&request("q0", Mode::Create), &[file("a", None)]).unwrap();
    store.commit(&request("q1", Mode::OverwritePartitions), &[]).unwrap();
    assert_eq!(store.names(), ["a"]);
    store.commit(&request("q2", Mode::OverwritePartitions), &[file("b", None)]).unwrap();
    assert_eq!(store.names(), ["b"]);
}

#[test]
fn what_a_filter_holds_for_is_overwritten() {
    let files = || [file("u", Some(Some("u"))), file("v", Some(Some("v"))), file("none", Some(None))];
    for (filter, new, left) in [
        ("g = 'u'", vec![file("new", Some(Some("u")))], vec!["new", "none", "v"]),
        ("g in ('u', 'w')", vec![file("new", Some(Some("w")))], vec!["new", "none", "v"]),
        ("g is null or g = 'v'", vec![file("new", Some(None))], vec!["late", "new", "u"]),
        ("not g = 'v'", vec![], vec!["none", "v"]),
        ("g = 'x'", vec![], vec!["late", "none", "u", "v"]),
    ] {
        let store = Memory::default();
        store.commit(&partitioned("q0", Mode::Create), &files()).unwrap();
        store.fault(Fault::Compete(Box::new(|store| {
            store.commit(&request("late", Mode::Append), &[file("late", Some(Some("u")))]).map(drop).unwrap();
        })));
        let replace = request("q1", matching(filter));
        let first = store.commit(&replace, &new).unwrap();
        assert_eq!(store.names(), left, "{filter}");
        let again = store.commit(&Request { attempt: "2".into(), ..replace }, &[]).unwrap();
        assert_eq!(
            (again.version, store.names()),
            (first.version, left.iter().map(|name| (*name).to_owned()).collect())
        );
    }
    let store = Memory::default();
    store.commit(&partitioned("q0", Mode::Create), &files()).unwrap();
    store.commit(&request("q1", matching("g > 'a'")), &[file("new", Some(Some("z")))]).unwrap();
    let summary = &store.metadata()["snapshots"][1]["summary"];
    assert_eq!((&summary["operation"], &summary["deleted-data-files"]), (&json!("overwrite"), &json!("2")));
    assert_eq!((&summary["total-records"], summary.get("replace-partitions")), (&json!("20"), None));
    store.commit(&request("q2", matching("g > 'a'")), &[]).unwrap();
    assert_eq!(store.metadata()["snapshots"][2]["summary"]["operation"], "delete");
}

#[test]
fn filters_over_what_is_no_partition_are_refused() {
    let store = Memory::default();
    store.commit(&partitioned("q0", Mode::Create), &[file("u", Some(Some("u")))]).unwrap();
    let before = store.avro_files();
    let error = store.commit(&request("q1", matching("g = 'u'")), &[file("v", Some(Some("v")))]).unwrap_err();
    assert!(error.message.contains("does not hold for (g = 'v'): leave them out"), "{}", error.message);
    let error = store.commit(&request("q2", matching("id = 1")), &[]).unwrap_err();
    assert!(error.message.contains("by column id, since the table is partitioned by g"), "{}", error.message);
    assert_eq!((store.avro_files(), store.names()), (before, vec!["u".to_owned()]));
    // A day is not the value of a time.
    let rows = |mode| Request {
        columns: vec![field("id", Type::Int64), field("at", Type::Timestamp { unit: Unit::Micros, utc: true })],
        partition: Some(vec![key("at", Transform::Day), key("id", Transform::Identity)]),
        ..request("q", mode)
    };
    for filter in ["at = '2026-01-01'", "\"day(at)\" = '2026-01-01'"] {
        let error = Memory::default().commit(&rows(matching(filter)), &[]).unwrap_err();
        assert!(error.message.contains("partitioned by day(at), id"), "{}", error.message);
    }
    Memory::default()
        .commit(&rows(matching("id = 1")), &[of("a", &[Some(Value::Int(3)), Some(Value::Int(1))])])
        .unwrap();
}

#[test]
fn files_of_another_partitioning_are_told_apart_if_it_has_the_column() {
    let repartitioned = |fields: serde_json::Value| {
        let store = Memory::default();
        store
            .commit(&partitioned("q0", Mode::Create), &[file("u", Some(Some("u"))), file("v", Some(Some("v")))])
            .unwrap();
        store.change(|metadata| {
            metadata["partition-specs"].as_array_mut().unwrap().push(json!({"spec-id": 1, "fields": fields}));
            metadata["default-spec-id"] = 1.into();
        });
        store
    };
    let by_both = json!([
        {"source-id": 1, "field-id": 1001, "name": "id", "transform": "identity"},
        {"source-id": 2, "field-id": 1000, "name": "g", "transform": "identity"},
    ]);
    let both = |name: &str, g: &str| of(name, &[Some(Value::Int(1)), text(g)]);
    let store = repartitioned(by_both.clone());
    store.commit(&request("q1", Mode::Append), &[both("u2", "u"), both("w", "w")]).unwrap();
    store.commit(&request("q2", matching("g = 'u'")), &[both("new", "u")]).unwrap();
    assert_eq!(store.names(), ["new", "v", "w"]);
    // The older files are of many values of `id`.
    let error = store.commit(&request("q3", matching("id = 1 and g = 'u'")), &[]).unwrap_err();
    assert!(error.message.contains("not by the values of id"), "{}", error.message);
    assert_eq!(store.names(), ["new", "v", "w"]);
    store.commit(&request("q4", Mode::Overwrite), &[both("all", "u")]).unwrap();
    store.commit(&request("q5", matching("id = 1 and g = 'u'")), &[]).unwrap();
    assert!(store.names().is_empty());
}
