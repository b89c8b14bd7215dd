//! Tables that ask something of their writers.

use serde_json::{Value as Json, json};

use super::store::*;
use crate::delta::tests::memory::{ID, Memory, metadata};
use crate::table::Type;
use crate::write::Mode;

fn store(protocol: Json, properties: Json, of_column: Json) -> Faulty {
    let mut schema: Json = serde_json::from_str(ID).unwrap();
    schema["fields"][0]["metadata"] = of_column;
    let mut settings = metadata(&schema.to_string());
    settings["metaData"]["configuration"] = properties;
    Faulty::new(Memory::with(json!({"protocol": protocol}), settings, &[]))
}

fn legacy(writer: i64) -> Json {
    json!({"minReaderVersion": 1, "minWriterVersion": writer})
}

fn lists(names: &[&str]) -> Json {
    json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": names})
}

#[test]
fn features_are_refused_by_name_where_they_are_used() {
    let invariant = json!({"delta.invariants": "{\"expression\": {\"expression\": \"id > 3\"}}"});
    let generated = json!({"delta.generationExpression": "1"});
    let identity = json!({"delta.identity.start": 1, "delta.identity.step": 1});
    let default = json!({"CURRENT_DEFAULT": "1"});
    let check = json!({"delta.constraints.positive": "id > 0"});
    let iceberg = json!({"delta.enableIcebergCompatV2": "true"});
    let only = json!({"delta.appendOnly": "true"});
    let none = || json!({});
    for (protocol, properties, of_column, refused) in [
        (legacy(1), none(), invariant.clone(), None),
        (legacy(2), none(), invariant.clone(), Some("column \"id\" has an invariant (feature \"invariants\")")),
        (legacy(2), check.clone(), none(), None),
        (legacy(3), check.clone(), none(), Some("constraint \"positive\"")),
        (legacy(3), none(), generated.clone(), None),
        (legacy(4), none(), generated.clone(), Some("\"generatedColumns\"")),
        (legacy(5), none(), identity.clone(), None),
        (legacy(6), none(), identity.clone(), Some("\"identityColumns\"")),
        (legacy(6), none(), none(), None),
        (lists(&["invariants"]), none(), invariant.clone(), Some("\"invariants\"")),
        (lists(&[]), none(), invariant, None),
        (lists(&["checkConstraints"]), check, none(), Some("\"checkConstraints\"")),
        (lists(&["generatedColumns"]), none(), generated, Some("\"generatedColumns\"")),
        (lists(&["identityColumns"]), none(), identity, Some("\"identityColumns\"")),
        (lists(&["allowColumnDefaults"]), none(), default, Some("\"allowColumnDefaults\"")),
        (lists(&["allowColumnDefaults", "invariants", "identityColumns", "checkConstraints"]), none(), none(), None),
        (lists(&["icebergCompatV2"]), iceberg, none(), Some("\"icebergCompatV2\"")),
        (lists(&["icebergCompatV2"]), none(), none(), None),
        (lists(&["rowTracking", "domainMetadata"]), none(), none(), Some("feature \"rowTracking\", which")),
        (lists(&["x", "y"]), none(), none(), Some("features \"x\", \"y\"")),
        (lists(&["clustering", "domainMetadata", "vacuumProtocolCheck"]), none(), none(), None),
        (lists(&["appendOnly", "changeDataFeed"]), json!({"delta.enableChangeDataFeed": "true"}), none(), None),
        (legacy(2), only, none(), Some("\"delta.appendOnly\" forbids")),
        (lists(&["appendOnly"]), json!({"delta.appendOnly": "false"}), none(), None),
        (legacy(8), none(), none(), Some("writer version 8")),
    ] {
        let store = store(protocol.clone(), properties, of_column);
        for mode in [Mode::Overwrite, Mode::OverwritePartitions] {
            let rows = request("q", mode, &[("id", Type::Int64)]);
            let result = store.prepare(&rows);
            let Some(part) = refused else {
                assert!(result.is_ok(), "{protocol}: {result:?}");
                continue;
            };
            let (class, message) = failure(result);
            assert_eq!(class, "UnsupportedTable");
            assert!(message.contains("cannot be written") && message.contains(part), "{message} has {part}");
        }
    }
}

#[test]
fn tables_that_only_grow_are_appended_to() {
    let store = store(legacy(2), json!({"delta.appendOnly": "true"}), json!({}));
    assert_eq!(store.commit(&request("q", Mode::Append, &[("id", Type::Int64)]), &[]).unwrap().version, 1);
}

#[test]
fn commits_carry_ever_later_times() {
    let mut settings = metadata(ID);
    settings["metaData"]["configuration"] = json!({"delta.enableInCommitTimestamps": "true"});
    let far = 9_000_000_000_000_i64;
    let mut memory = Memory::default();
    memory.commit(
        0,
        &[
            json!({"commitInfo": {"inCommitTimestamp": 5}}),
            json!({"protocol": lists(&["inCommitTimestamp"])}),
            settings,
        ],
    );
    let store = Faulty::new(memory);
    let time = |version: i64| {
        let uri = format!("{}/_delta_log/{version:020}.json", crate::delta::tests::memory::ROOT);
        let bytes = crate::files::Files::read(&store, &uri).unwrap().unwrap();
        let first: Json = serde_json::from_slice(bytes.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        first["commitInfo"]["inCommitTimestamp"].as_i64().unwrap()
    };
    store.commit(&request("a", Mode::Append, &[("id", Type::Int64)]), &[]).unwrap();
    assert!(time(1) > 1_700_000_000_000, "the time of the commit");
    // The clock of another writer is ahead.
    store.fail([Fault::Overtaken(vec![json!({"commitInfo": {"inCommitTimestamp": far}})])]);
    assert_eq!(store.commit(&request("b", Mode::Append, &[("id", Type::Int64)]), &[]).unwrap().version, 3);
    assert_eq!(time(3), far + 1);
    assert_eq!(store.memory().at_ms(far).unwrap().version, Some(2));
    store.memory().commit(4, &[json!({"commitInfo": {}})]);
    let (class, message) = failure(store.commit(&request("c", Mode::Append, &[("id", Type::Int64)]), &[]));
    assert!(class == "BadTable" && message.contains("inCommitTimestamp"), "{message}");
}
