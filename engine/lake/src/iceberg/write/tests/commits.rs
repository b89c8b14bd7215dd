//! Commits that race, fail, or come a second time.

use super::store::{Fault, Memory, ROOT, file, request};
use crate::files::Files;
use crate::iceberg::write::{commit, prepare};
use crate::table::Type;
use crate::write::{Mode, Store};

#[test]
fn a_query_commits_once() {
    let store = Memory::default();
    let mut create = request("q", Mode::Create);
    let first = store.commit(&create, &[file("a", None)]).unwrap();
    assert!(!first.was_committed);
    store.commit(&request("other", Mode::Append), &[file("b", None)]).unwrap();
    create.attempt = "2".into();
    // The table is there by the first attempt.
    let again = store.commit(&create, &[file("a2", None)]).unwrap();
    assert_eq!((again.was_committed, again.version), (true, first.version));
    assert_eq!(again.files, [format!("{ROOT}/data/a")]);
    assert_eq!(store.names(), ["a", "b"]);
    // Files that are part of the table are never given back to be removed.
    create.attempt = "1".into();
    assert!(!store.commit(&create, &[file("a", None)]).unwrap().was_committed);
    assert_eq!(store.metadata()["snapshots"].as_array().unwrap().len(), 2);
    let error = store.commit(&request("q2", Mode::Create), &[]).unwrap_err();
    assert_eq!(error.class, "SinkExists");
    assert!(error.message.contains(ROOT), "{}", error.message);
}

#[test]
fn queries_without_rows_commit_too() {
    let store = Memory::default();
    store.commit(&request("q", Mode::Create), &[]).unwrap();
    assert!(store.commit(&request("q", Mode::Create), &[]).unwrap().files.is_empty());
    store.commit(&request("a", Mode::Append), &[]).unwrap();
    assert!(store.names().is_empty());
    let metadata = store.metadata();
    assert_eq!(metadata["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(metadata["snapshots"][1]["summary"]["total-records"], "0");
}

#[test]
fn lost_answers() {
    let store = Memory::default();
    store.fault(Fault::LoseAnswer);
    assert!(!store.commit(&request("q", Mode::Create), &[file("a", None)]).unwrap().was_committed);
    store.fault(Fault::Fail);
    store.fault(Fault::LoseAnswer);
    store.commit(&request("r", Mode::Append), &[file("b", None)]).unwrap();
    assert_eq!(store.names(), ["a", "b"]);
    let metadata = store.metadata();
    assert_eq!(metadata["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(metadata["metadata-log"].as_array().unwrap().len(), 1);
    assert_eq!(store.read(&format!("{ROOT}/metadata/version-hint.text")).unwrap().unwrap(), "2");
    // An outcome that stays unknown leaves the files, as the commit may take effect yet.
    let before = store.avro_files().len();
    (0..4).for_each(|_| store.fault(Fault::Fail));
    assert_eq!(store.commit(&request("s", Mode::Append), &[file("c", None)]).unwrap_err().message, "no answer");
    assert_eq!(store.avro_files().len(), before + 2);
    assert_eq!(store.names(), ["a", "b"]);
}

#[test]
fn commits_that_race() {
    let store = Memory::default();
    let other = |query: &'static str, name: &'static str| {
        Fault::Compete(Box::new(move |store| {
            store.commit(&request(query, Mode::Append), &[file(name, None)]).map(drop).unwrap();
        }))
    };
    // The table is created by another in between.
    store.fault(other("o1", "x"));
    store.commit(&request("q", Mode::Append), &[file("a", None)]).unwrap();
    assert_eq!(store.names(), ["a", "x"]);
    store.fault(other("o2", "y"));
    store.commit(&request("r", Mode::Overwrite), &[file("b", None)]).unwrap();
    assert_eq!(store.names(), ["b"]);
    store.fault(other("o3", "z"));
    let error = store.commit(&request("s", Mode::Create), &[file("c", None)]).unwrap_err();
    assert_eq!(error.class, "SinkExists");
    // Every file of metadata is that of a snapshot.
    for uri in store.avro_files() {
        let name = uri.clone();
        store.faults.lock().unwrap().clear();
        let used = store.metadata()["snapshots"].to_string().contains(&name) || is_listed(&store, &name);
        assert!(used, "{name} is left");
    }
}

fn is_listed(store: &Memory, uri: &str) -> bool {
    let metadata = store.metadata();
    let lists = metadata["snapshots"].as_array().unwrap().iter().map(|one| one["manifest-list"].as_str().unwrap());
    lists
        .map(|list| store.read(list).unwrap().unwrap())
        .any(|list| super::super::list::read(&list).unwrap().iter().any(|manifest| manifest.path == uri))
}

#[test]
fn another_attempt_that_is_first() {
    let store = Memory::default();
    store.commit(&request("o", Mode::Create), &[]).unwrap();
    store.fault(Fault::Compete(Box::new(|store| {
        let mut request = request("q", Mode::Append);
        request.attempt = "2".into();
        store.commit(&request, &[file("second", None)]).map(drop).unwrap();
    })));
    let committed = store.commit(&request("q", Mode::Append), &[file("first", None)]).unwrap();
    assert!(committed.was_committed);
    assert_eq!(committed.files, [format!("{ROOT}/data/second")]);
    assert_eq!(store.names(), ["second"]);
    assert_eq!(store.avro_files().len(), 3);
}

#[test]
fn files_that_do_not_fit_any_more() {
    let store = Memory::default();
    let mut create = request("o", Mode::Create);
    create.columns.push(super::store::field("n", Type::Int32));
    store.commit(&create, &[]).unwrap();
    let narrow = crate::write::Request { query: "q".into(), mode: Mode::Append, ..create.clone() };
    let target = prepare(&store, ROOT, &narrow).unwrap();
    let mut wide = crate::write::Request { query: "w".into(), mode: Mode::Append, evolve: true, ..create };
    wide.columns[2].dtype = Type::Int64;
    store.commit(&wide, &[]).unwrap();
    let before = store.avro_files();
    let error = commit(&store, &target, &narrow, &[file("a", None)]).unwrap_err();
    assert_eq!(error.class, "TableChanged");
    assert_eq!(store.avro_files(), before);
}

#[test]
fn tables_that_are_refused() {
    let prepared = |change: &dyn Fn(&mut serde_json::Value)| {
        let store = Memory::default();
        store.commit(&request("o", Mode::Create), &[]).unwrap();
        store.change(change);
        prepare(&store, ROOT, &request("q", Mode::Append)).unwrap_err().message
    };
    assert!(prepared(&|metadata| metadata["format-version"] = 1.into()).contains("format-version to 2"));
    assert!(prepared(&|metadata| metadata["format-version"] = 4.into()).contains("format version 4"));
    assert!(
        prepared(&|metadata| metadata["encryption-keys"] = serde_json::json!([{"key-id": "k"}])).contains("encrypted")
    );
    let transform = |transform: &'static str| {
        prepared(&move |metadata| {
            let field = serde_json::json!({"source-id": 1, "field-id": 1000, "name": "p", "transform": transform});
            metadata["partition-specs"][0]["fields"] = serde_json::json!([field]);
        })
    };
    assert!(transform("zorder[3]").contains("zorder[3] (p)"));
    assert!(transform("hour").contains("hour of a column of the type long"));
    // A table of a catalog.
    let store = Memory::default();
    store.commit(&request("o", Mode::Create), &[]).unwrap();
    let metadata = store.metadata().to_string();
    store.delete(&format!("{ROOT}/metadata/version-hint.text")).unwrap();
    store.delete(&format!("{ROOT}/metadata/v1.metadata.json")).unwrap();
    store.write(&format!("{ROOT}/metadata/00001-x.metadata.json"), metadata.into()).unwrap();
    let error = prepare(&store, ROOT, &request("q", Mode::Append)).unwrap_err();
    assert!(error.message.contains("through its catalog"), "{}", error.message);
}
