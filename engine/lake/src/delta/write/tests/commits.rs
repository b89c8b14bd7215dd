//! Commits among other writers, and after failures.

use serde_json::{Value as Json, json};

use super::store::*;
use crate::delta::tests::memory::{ID, Memory, ROOT, add, features, metadata, names, remove};
use crate::delta::write::{ATTEMPTS, commit};
use crate::table::Type;
use crate::write::{Mode, Request};

fn rows(query: &str, mode: Mode) -> Request {
    request(query, mode, &[("id", Type::Int64)])
}

fn table(actions: &[Json]) -> Faulty {
    Faulty::new(Memory::new(actions))
}

#[test]
fn an_append_is_made_after_those_of_others() {
    let store = table(&[add("a")]);
    store.fail([Fault::Overtaken(vec![add("b"), remove("a")]), Fault::Overtaken(vec![add("c")])]);
    let done = store.commit(&rows("q", Mode::Append), &[written("d", &[])]).unwrap();
    assert_eq!((done.version, done.was_committed), (3, false));
    assert_eq!(names(&store.latest()), ["b", "c", "d"]);
    let info = store.action(3, "commitInfo");
    assert_eq!((&info["operation"], &info["isBlindAppend"]), (&json!("WRITE"), &json!(true)));
    assert!(store.actions(3, "remove").is_empty());
}

#[test]
fn an_append_to_other_columns_is_made_again() {
    let schema = |change: fn(&mut Json)| {
        let mut schema: Json = serde_json::from_str(ID).unwrap();
        change(&mut schema["fields"]);
        metadata(&schema.to_string())
    };
    let more = schema(|fields| {
        let mut field = fields[0].clone();
        field["name"] = json!("more");
        fields.as_array_mut().unwrap().push(field);
    });
    let store = table(&[]);
    store.fail([Fault::Overtaken(vec![more])]);
    assert_eq!(store.commit(&rows("q", Mode::Append), &[written("a", &[])]).unwrap().version, 2);
    for (change, part) in [
        (schema(|fields| fields[0]["name"] = json!("other")), "no column \"id\""),
        (schema(|fields| fields[0]["type"] = json!("string")), "long in the rows and string"),
        (features(&["rowTracking"]), "\"rowTracking\""),
    ] {
        let store = table(&[]);
        store.fail([Fault::Overtaken(vec![change])]);
        let message = failure(store.commit(&rows("q", Mode::Append), &[written("a", &[])])).1;
        assert!(message.contains(part), "{message}");
        assert_eq!(names(&store.memory().version(0).unwrap()), [""; 0]);
    }
    // The rows would fit, but not the files.
    let store = table(&[]);
    let narrow = request("q", Mode::Append, &[("id", Type::Int8)]);
    store.memory().commit(1, &[schema(|fields| fields[0]["type"] = json!("byte"))]);
    store.fail([Fault::Overtaken(vec![metadata(ID)])]);
    let (class, message) = failure(store.commit(&narrow, &[written("a", &[])]));
    assert!(class == "SchemaError" && message.contains("changed while"), "{message}");
}

#[test]
fn an_overwrite_replaces_what_is_there_when_it_commits() {
    let mut gone = add("gone");
    let vector = json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40,
        "cardinality": 6});
    gone["add"]["deletionVector"] = vector.clone();
    gone["add"]["tags"] = json!({"k": "v"});
    let mut memory = Memory::with(features(&["deletionVectors"]), metadata(ID), &[add("a%20b"), gone]);
    memory.commit(1, &[add("c")]);
    let store = Faulty::new(memory);
    store.fail([Fault::Overtaken(vec![add("late"), remove("c")])]);
    assert_eq!(store.commit(&rows("q", Mode::Overwrite), &[written("new", &[])]).unwrap().version, 3);
    assert_eq!(names(&store.latest()), ["new"]);
    let removed = store.actions(3, "remove");
    let paths: Vec<_> = removed.iter().map(|remove| remove["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["a%20b", "gone", "late"]);
    assert_eq!((&removed[1]["deletionVector"], &removed[1]["tags"]), (&vector, &json!({"k": "v"})));
    assert_eq!((&removed[0]["size"], &removed[0]["partitionValues"]), (&json!(10), &json!({})));
    assert_eq!(removed[0].get("deletionVector"), None);
    assert!(removed[0]["extendedFileMetadata"] == true && removed[0]["dataChange"] == true);
    let info = store.action(3, "commitInfo");
    assert_eq!((&info["operationParameters"]["mode"], &info["isBlindAppend"]), (&json!("Overwrite"), &json!(false)));
    assert_eq!(info["operationMetrics"]["numRemovedFiles"], "3");
    // With no rows the table is empty.
    store.commit(&rows("none", Mode::Overwrite), &[]).unwrap();
    assert_eq!(names(&store.latest()), [""; 0]);
}

#[test]
fn files_of_a_checkpoint_are_removed_as_well() {
    let mut memory = Memory::default();
    memory.log(
        "00000000000000000003.checkpoint.parquet",
        &[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            metadata(ID),
            add("a"),
            json!({"txn": {"appId": "floe-before", "version": 1}}),
        ],
    );
    let store = Faulty::new(memory);
    let done = store.commit(&rows("before", Mode::Append), &[written("x", &[])]).unwrap();
    assert_eq!((done.version, done.was_committed, done.files.len()), (3, true, 0));
    // The commit is gone, but its file is the table's.
    let done = store.commit(&rows("before", Mode::Append), &[written("a", &[])]).unwrap();
    assert_eq!((done.was_committed, done.files), (false, vec![format!("{ROOT}/a")]));
    assert_eq!(store.commit(&rows("q", Mode::Overwrite), &[written("b", &[])]).unwrap().version, 4);
    assert_eq!(names(&store.latest()), ["b"]);
}

#[test]
fn a_query_commits_once() {
    for mode in [Mode::Create, Mode::Append, Mode::Overwrite, Mode::OverwritePartitions] {
        let store = Faulty::default();
        let first = rows("q", mode.clone());
        store.commit(&first, &[written("first", &[])]).unwrap();
        store.commit(&rows("other", Mode::Append), &[written("other", &[])]).unwrap();
        let second = Request { attempt: "2".to_owned(), ..first.clone() };
        let done = store.commit(&second, &[written("second", &[])]).unwrap();
        assert_eq!((done.version, done.was_committed), (0, true), "{mode:?}");
        assert_eq!(done.files, [format!("{ROOT}/first")]);
        assert_eq!(store.latest().version, Some(1));
        // An attempt that does not know that it succeeded must keep its files.
        let done = store.commit(&first, &[written("first", &[])]).unwrap();
        assert_eq!((done.was_committed, done.files), (false, vec![format!("{ROOT}/first")]));
    }
    // Two attempts at once.
    let store = table(&[]);
    let txn = json!({"txn": {"appId": "floe-q", "version": 1}});
    store.fail([Fault::Overtaken(vec![txn, add("theirs")])]);
    let done = store.commit(&rows("q", Mode::Append), &[written("ours", &[])]).unwrap();
    assert_eq!((done.version, done.was_committed, done.files), (1, true, vec![format!("{ROOT}/theirs")]));
    assert_eq!(names(&store.latest()), ["theirs"]);
}

#[test]
fn a_later_attempt_learns_of_the_first_whatever_became_of_the_table() {
    let store = table(&[]);
    store.commit(&rows("q", Mode::Append), &[written("a", &[])]).unwrap();
    let again = rows("q", Mode::Append);
    let target = store.prepare(&again).unwrap();
    store.memory().commit(2, &[metadata(&ID.replace("long", "string"))]);
    let later = store.prepare(&again).unwrap();
    for target in [target, later] {
        let done = commit(&store, &target, &again, &[written("b", &[])]).unwrap();
        assert_eq!((done.version, done.was_committed), (1, true));
    }
}

#[test]
fn lost_answers_are_looked_up() {
    for fault in [Fault::Lost, Fault::AskedAgain] {
        let store = table(&[]);
        store.fail([fault]);
        let done = store.commit(&rows("q", Mode::Append), &[written("a", &[])]).unwrap();
        assert_eq!((done.version, done.was_committed), (1, false));
        assert_eq!((names(&store.latest()), store.latest().version), (vec!["a"], Some(1)));
    }
    let store = table(&[]);
    store.fail([Fault::Refused]);
    let error = store.commit(&rows("q", Mode::Append), &[]).unwrap_err();
    assert!(error.message.contains("not written"), "{error}");
    assert_eq!(store.latest().version, Some(0));
}

#[test]
fn a_commit_gives_up_in_the_end() {
    let store = table(&[]);
    store.fail((0..ATTEMPTS).map(|_| Fault::Overtaken(vec![])));
    let (class, message) = failure(store.commit(&rows("q", Mode::Append), &[written("a", &[])]));
    assert_eq!(class, "CommitConflict");
    assert!(message.contains("20 times"), "{message}");
    assert_eq!(store.latest().version, Some(20));
    store.fail((1..ATTEMPTS).map(|_| Fault::Overtaken(vec![])));
    assert_eq!(store.commit(&rows("q", Mode::Append), &[written("a", &[])]).unwrap().version, 40);
}

#[test]
fn no_files_make_a_commit() {
    let store = table(&[add("a")]);
    let done = store.commit(&rows("q", Mode::Append), &[]).unwrap();
    assert_eq!((done.version, done.files.len()), (1, 0));
    for kind in ["add", "remove", "metaData", "protocol"] {
        assert!(store.actions(1, kind).is_empty(), "{kind}");
    }
    assert_eq!(store.action(1, "txn")["version"], 1);
    assert_eq!(names(&store.latest()), ["a"]);
}

#[test]
fn files_elsewhere_are_refused() {
    let store = table(&[]);
    let mut file = written("a", &[]);
    file.uri = format!("{ROOT}2/a");
    assert!(failure(store.commit(&rows("q", Mode::Append), &[file])).1.contains("not below"));
    assert!(failure(store.commit(&rows("q", Mode::Append), &[written("a", &[None])])).1.contains("1 values"));
}
