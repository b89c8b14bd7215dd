//! Which versions there are, and which files they have.

use serde_json::json;

use super::memory::*;
use crate::table::At;

#[test]
fn files_are_added_and_removed() {
    let mut table = Memory::new(&[add("a"), add("b")]);
    table.commit(1, &[remove("a"), add("c%20d")]);
    table.commit(2, &[add("a")]);
    assert_eq!(names(&table.latest()), ["b", "c d", "a"]);
    assert_eq!(names(&table.version(1).unwrap()), ["b", "c d"]);
    assert_eq!(names(&table.version(0).unwrap()), ["a", "b"]);
    assert_eq!(table.latest().version, Some(2));
}

#[test]
fn a_file_has_one_name() {
    let mut table = Memory::new(&[add("a"), add("s3a://bucket/table/b"), add("/table/c%64")]);
    table.commit(1, &[remove("s3://bucket/table/a"), remove("b"), remove("%63d")]);
    assert_eq!(names(&table.latest()), [""; 0]);
    assert!(table.latest().groups.is_empty());
}

#[test]
fn the_later_of_two_actions_counts() {
    let mut table = Memory::new(&[add("a"), remove("a"), remove("b"), add("b")]);
    table.commit(1, &[metadata(ID), metadata(&ID.replace("long", "date"))]);
    assert_eq!(names(&table.latest()), ["b"]);
    assert_eq!(table.latest().columns[0].dtype, crate::table::Type::Date);
}

#[test]
fn checkpoints_stand_for_the_commits_before_them() {
    let state = [
        json!({"protocol": {"minReaderVersion": 1}, "add": {"path": null, "size": null}}),
        metadata(ID),
        add("a"),
        add("b"),
        remove("z"),
    ];
    let later = |table: &mut Memory| {
        table.commit(4, &[remove("a"), add("c")]);
        table.latest()
    };
    for (kind, files) in [
        ("classic", vec![("00000000000000000003.checkpoint.parquet", &state[..])]),
        ("JSON", vec![("00000000000000000003.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json", &state)]),
        ("Parquet", vec![("00000000000000000003.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet", &state)]),
        (
            "parts",
            vec![
                ("00000000000000000003.checkpoint.0000000001.0000000002.parquet", &state[..3]),
                ("00000000000000000003.checkpoint.0000000002.0000000002.parquet", &state[3..]),
                ("00000000000000000003.checkpoint.0000000001.0000000003.parquet", &state),
            ],
        ),
    ] {
        let mut table = Memory::default();
        for (name, actions) in files {
            table.log(name, actions);
        }
        table.put("_delta_log/_last_checkpoint", b"{damaged".to_vec());
        let found = table.version(3).unwrap();
        assert_eq!((names(&found), found.version), (vec!["a", "b"], Some(3)), "{kind}");
        assert_eq!(names(&later(&mut table)), ["b", "c"], "{kind}");
        assert_eq!(failure(table.version(2)).0, "NoSuchVersion", "{kind}");
    }
}

#[test]
fn checkpoints_have_their_files_beside_them() {
    let mut table = Memory::new(&[]);
    let beside = |path: &str| json!({"sidecar": {"path": path, "sizeInBytes": 1, "modificationTime": 1}});
    table.log(
        "00000000000000000005.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json",
        &[
            features(&["v2Checkpoint"]),
            metadata(ID),
            beside("x.parquet"),
            beside("s3://bucket/table/_delta_log/_sidecars/y.parquet"),
        ],
    );
    table.log("_sidecars/x.parquet", &[add("a"), add("b")]).log("_sidecars/y.parquet", &[add("c")]);
    table.commit(6, &[remove("b")]);
    assert_eq!(names(&table.latest()), ["a", "c"]);
}

#[test]
fn an_unfinished_checkpoint_is_passed_over() {
    let mut table = Memory::new(&[add("a")]);
    table.commit(1, &[add("b")]).commit(2, &[add("c")]);
    table.log("00000000000000000002.checkpoint.parquet", &[]);
    table.log("00000000000000000001.checkpoint.0000000002.0000000002.parquet", &[add("b")]);
    table.log("00000000000000000001.00000000000000000002.compacted.json", &[add("x")]);
    table.log("_staged_commits/00000000000000000003.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json", &[add("y")]);
    assert_eq!(names(&table.latest()), ["a", "b", "c"]);
}

#[test]
fn maps_may_be_lists() {
    let mut table = Memory::default();
    let schema = ID.replace("id", "day");
    let mut settings = metadata(&schema);
    settings["metaData"]["partitionColumns"] = json!(["day"]);
    settings["metaData"]["configuration"] = json!([{"key": "delta.appendOnly", "value": "true"}]);
    let mut file = add("a");
    file["add"]["partitionValues"] = json!([{"key": "day", "value": "7"}]);
    table.log("00000000000000000000.checkpoint.parquet", &[protocol(), settings, file]);
    assert_eq!(files(&table.latest())[0].partition, [Some(crate::table::Value::Int(7))]);
}

#[test]
fn gaps_are_errors() {
    let mut table = Memory::new(&[add("a")]);
    table.commit(1, &[]).commit(2, &[]).commit(3, &[]).delete("00000000000000000002.json");
    let (class, message) = table.error();
    assert_eq!(class, "BadTable");
    assert!(message.contains("version 2 is missing"), "{message}");
    table.version(1).unwrap();
    table.delete("00000000000000000000.json");
    let (class, message) = table.error();
    assert_eq!(class, "BadTable");
    assert!(message.contains("version 0 is missing"), "{message}");
}

#[test]
fn what_is_not_there_is_said() {
    assert_eq!(Memory::default().error().0, "TableNotFound");
    let mut table = Memory::new(&[]);
    table.commit(1, &[]);
    for version in [-1, 2, i64::MAX] {
        let (class, message) = failure(table.version(version));
        assert_eq!(class, "NoSuchVersion");
        assert!(message.contains("versions 0 to 1 can be read"), "{message}");
    }
    for at in [At { snapshot: Some(1), ..At::default() }, At { reference: Some("main".into()), ..At::default() }] {
        assert_eq!(failure(table.read_at(at)).0, "NoSuchVersion");
    }
}

#[test]
fn damaged_logs_are_errors() {
    for line in ["{\"add\":", "{\"add\":{}}", "{\"add\":{\"path\":1}}", "[]", "\u{0}"] {
        let mut table = Memory::new(&[]);
        table.put("_delta_log/00000000000000000001.json", line.into());
        assert_eq!(table.error().0, "BadTable", "{line}");
    }
    // Depth costs no stack.
    for deep in ["{\"x\":".repeat(100_000), "[".repeat(100_000), format!("{{\"add\":{}", "[".repeat(100_000))] {
        let mut table = Memory::new(&[]);
        table.put("_delta_log/00000000000000000001.json", deep.clone().into());
        assert_eq!(table.error().0, "BadTable");
        let schema = Memory::with(protocol(), metadata(&deep), &[]);
        assert_eq!(schema.error().0, "BadTable");
    }
    let table = Memory::with(json!({}), metadata(ID), &[]);
    assert!(table.error().1.contains("no protocol action"));
    let table = Memory::with(protocol(), json!({}), &[]);
    assert!(table.error().1.contains("no metaData action"));
}

#[test]
fn times_are_those_of_the_files() {
    let mut table = Memory::new(&[]);
    for version in 1..=4 {
        table.commit(version, &[]);
    }
    // Written out of order: counts as a millisecond after version 2.
    table.touch(3, 500);
    for (wanted_ms, version) in
        [(0, 0), (999, 0), (1_000, 1), (2_000, 2), (2_001, 3), (3_999, 3), (4_000, 4), (i64::MAX, 4)]
    {
        assert_eq!(table.at_ms(wanted_ms).unwrap().version, Some(version), "{wanted_ms}");
    }
    let (class, message) = failure(table.at_ms(-1));
    assert_eq!(class, "NoSuchVersion");
    assert!(message.contains("0 of 1970-01-01T00:00:00Z"), "{message}");
}

#[test]
fn commits_may_carry_their_times() {
    let info = |time_ms: i64| json!({"commitInfo": {"inCommitTimestamp": time_ms}});
    let settings = |properties| {
        let mut settings = metadata(ID);
        settings["metaData"]["configuration"] = properties;
        settings
    };
    let mut table = Memory::new(&[]);
    table.commit(1, &[]);
    let on = json!({"delta.enableInCommitTimestamps": "true", "delta.inCommitTimestampEnablementVersion": "2",
        "delta.inCommitTimestampEnablementTimestamp": "50000"});
    table.commit(2, &[info(50_000), settings(on)]).commit(3, &[info(60_000)]).commit(4, &[info(70_000)]);
    for (wanted_ms, version) in [(0, 0), (1_500, 1), (49_999, 1), (50_000, 2), (69_999, 3), (70_000, 4), (i64::MAX, 4)]
    {
        assert_eq!(table.at_ms(wanted_ms).unwrap().version, Some(version), "{wanted_ms}");
    }
    let mut table = Memory::new(&[]);
    table.commit(0, &[info(5), protocol(), settings(json!({"delta.enableInCommitTimestamps": "true"}))]);
    table.commit(1, &[add("a")]);
    assert_eq!(failure(table.at_ms(5)).0, "BadTable");
    table.commit(1, &[info(9), add("a")]);
    assert_eq!(table.at_ms(8).unwrap().version, Some(0));
    assert_eq!(failure(table.at_ms(4)).0, "NoSuchVersion");
}
