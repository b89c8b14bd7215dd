//! Overwriting a part of a table.

use serde_json::{Value as Json, json};

use super::store::*;
use crate::delta::tests::memory::{ID, Memory, add, metadata, names, protocol};
use crate::filter::Filter;
use crate::table::{Type, Value};
use crate::write::{Mode, Request};

fn rows(query: &str, mode: Mode) -> Request {
    request(query, mode, &[("id", Type::Int64)])
}

fn table(actions: &[Json]) -> Faulty {
    Faulty::new(Memory::new(actions))
}

/// The metadata of a table that is partitioned by `p`.
fn parted(dtype: &str) -> Json {
    let text = ID.replace("]}", &format!(r#",{{"name":"p","type":"{dtype}","nullable":true,"metadata":{{}}}}]}}"#));
    let mut settings = metadata(&text);
    settings["metaData"]["partitionColumns"] = json!(["p"]);
    settings
}

fn part(path: &str, value: Json) -> Json {
    let mut add = add(path);
    add["add"]["partitionValues"] = json!({"p": value});
    add
}

fn matching(filter: &str) -> Mode {
    Mode::OverwriteWhere(Filter::parse(filter).unwrap())
}

#[test]
fn partitions_are_overwritten_where_rows_are() {
    let actions = [
        part("one", json!("1.0")),
        part("same", json!("1")),
        part("two", json!("2")),
        part("null", json!(null)),
        part("empty", json!("")),
    ];
    let columns = [("id", Type::Int64), ("p", Type::Float64)];
    let mode = Mode::OverwritePartitions;
    for (values, left) in [
        (vec![], vec!["one", "same", "two", "null", "empty"]),
        (vec![Some(Value::Float(1.0))], vec!["two", "null", "empty", "late", "n0"]),
        (vec![None, Some(Value::Float(2.0))], vec!["one", "same", "n0", "n1"]),
        (vec![Some(Value::Float(3.0))], vec!["one", "same", "two", "null", "empty", "late", "n0"]),
    ] {
        let store = Faulty::new(Memory::with(protocol(), parted("double"), &actions));
        let files: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(at, value)| written(&format!("n{at}"), std::slice::from_ref(value)))
            .collect();
        let late = if files.is_empty() { vec![] } else { vec![part("late", json!("2.0"))] };
        store.fail([Fault::Overtaken(late)]);
        store.commit(&request("q", mode.clone(), &columns), &files).unwrap();
        assert_eq!(names(&store.latest()), left);
        assert_eq!(store.action(2, "commitInfo")["operationParameters"]["dynamicPartitionOverwrite"], "true");
    }
    // Without partitions all rows are in one.
    let store = table(&[add("a")]);
    store.commit(&rows("none", mode.clone()), &[]).unwrap();
    assert_eq!(names(&store.latest()), ["a"]);
    store.commit(&rows("some", mode), &[written("b", &[])]).unwrap();
    assert_eq!(names(&store.latest()), ["b"]);
}

#[test]
fn what_a_filter_holds_for_is_overwritten() {
    let actions = [
        part("a", json!("2026-01-01")),
        part("b", json!("2026-01-02")),
        part("none", json!(null)),
        part("no", json!("")),
    ];
    let columns = [("id", Type::Int64), ("p", Type::Date)];
    let day = |day: i64| Some(Value::Int(20_453 + day));
    for (filter, values, left) in [
        ("p = '2026-01-01'", vec![day(1)], vec!["b", "none", "no", "n0"]),
        ("p >= '2026-01-01'", vec![day(1), day(9)], vec!["none", "no", "n0", "n1"]),
        ("p is null", vec![None], vec!["a", "b", "late", "n0"]),
        ("p != '2026-01-02'", vec![], vec!["b", "none", "no"]),
        ("p = '2027-01-01'", vec![], vec!["a", "b", "none", "no", "late"]),
    ] {
        let store = Faulty::new(Memory::with(protocol(), parted("date"), &actions));
        let files: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(at, value)| written(&format!("n{at}"), std::slice::from_ref(value)))
            .collect();
        // What comes meanwhile is overwritten too.
        store.fail([Fault::Overtaken(vec![part("late", json!("2026-01-01"))])]);
        let first = request("q", matching(filter), &columns);
        store.commit(&first, &files).unwrap();
        assert_eq!(names(&store.latest()), left, "{filter}");
        let info = store.action(2, "commitInfo");
        assert_eq!(info["operationParameters"]["predicate"], filter);
        assert_eq!(
            (&info["operationParameters"]["mode"], &info["isBlindAppend"]),
            (&json!("Overwrite"), &json!(false))
        );
        // A second attempt changes nothing.
        let again = Request { attempt: "2".to_owned(), ..first };
        assert_eq!(store.commit(&again, &[]).unwrap().version, 2);
        assert_eq!(names(&store.latest()), left, "{filter}");
    }
}

#[test]
fn rows_that_a_filter_does_not_hold_for_are_refused() {
    let store = Faulty::new(Memory::with(protocol(), parted("string"), &[part("a", json!("eu"))]));
    let columns = [("id", Type::Int64), ("p", Type::String)];
    let rows = request("q", matching("p = 'eu'"), &columns);
    for (value, shown) in
        [(Some(Value::String("us".into())), "'us'"), (None, "null"), (Some(Value::String("".into())), "null")]
    {
        let error = store.commit(&rows, &[written("new", &[value])]).unwrap_err();
        assert!(error.message.contains(&format!("does not hold for (p = {shown})")), "{error}");
        assert_eq!(names(&store.latest()), ["a"]);
    }
    let error = store.prepare(&request("q", matching("id = 1"), &columns)).unwrap_err();
    assert!(error.message.contains("by column id, since the table is partitioned by p"), "{error}");
    let error = table(&[]).prepare(&self::rows("q", matching("id = 1"))).unwrap_err();
    assert!(error.message.contains("the table is partitioned by nothing"), "{error}");
    // A new table has the partitions that the rows ask for.
    let store = Faulty::default();
    let mut rows = rows;
    rows.partition = by(&["p"]);
    store.commit(&rows, &[written("new", &[Some(Value::String("eu".into()))])]).unwrap();
    assert_eq!(names(&store.latest()), ["new"]);
}

#[test]
fn tables_that_only_grow_are_not_overwritten() {
    let mut settings = parted("string");
    settings["metaData"]["configuration"] = json!({"delta.appendOnly": "true"});
    let store = Faulty::new(Memory::with(protocol(), settings, &[]));
    let rows = request("q", matching("p = 'eu'"), &[("id", Type::Int64), ("p", Type::String)]);
    assert!(failure(store.prepare(&rows)).1.contains("delta.appendOnly"));
}
