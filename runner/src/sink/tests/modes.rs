//! What each mode does with existing files, and that nothing is visible before a commit or left after an abort.

use floe_api::{SinkMode, SinkSpec};

use super::support::{Place, large, local, rows, s3, stage, task};
use crate::sink::{TaskSink, abandon, abort, commit, lease};
use floe_storage::{Options, Store};
use floe_wire::error::Category;

fn modes(place: &Place) {
    let spec = |mode| place.spec("out/q/", mode);
    let summary = place.run(&spec(SinkMode::Error), "first", &[rows(0, 5), rows(5, 9)]).unwrap();
    assert_eq!((summary.rows, summary.files), (9, 2));
    assert!(summary.bytes > 0);
    assert_eq!(place.values(), (0..9).collect::<Vec<_>>(), "names sort in the order of the rows");

    let error = place.prepare(&spec(SinkMode::Error), "second").unwrap_err();
    assert_eq!((error.category, error.class.as_str()), (Category::User, "SinkExists"));
    assert!(error.message.contains(&place.uri("out/q")), "{}", error.message);

    place.run(&spec(SinkMode::Append), "third", &[rows(9, 12)]).unwrap();
    assert_eq!(place.sorted(), (0..12).collect::<Vec<_>>());

    place.run(&spec(SinkMode::Overwrite), "fourth", &[rows(20, 22), rows(22, 23)]).unwrap();
    assert_eq!(place.values(), [20, 21, 22]);
    assert!(place.is_clean(), "{:?}", place.everything());
    assert_eq!(place.everything().len(), 2);

    // A file that no query wrote is neither deleted nor mixed with results.
    place.put("out/q/notes.md", b"mine");
    let error = place.prepare(&spec(SinkMode::Overwrite), "fifth").unwrap_err();
    assert_eq!(error.class, "BadSink");
    assert!(error.message.contains("notes.md"), "{}", error.message);
    assert!(place.is_clean());
    assert_eq!(place.values(), [20, 21, 22]);
}

#[test]
fn modes_on_disk() {
    modes(&local());
}

#[test]
fn modes_on_s3() {
    modes(&s3());
}

/// Files of all sizes, one lost task attempt: invisible until the commit, and a second commit changes nothing.
fn commit_is_idempotent(place: &Place) {
    let spec = place.spec("t/", SinkMode::Append);
    place.run(&spec, "old", &[rows(-3, 0)]).unwrap();
    let before = place.everything();
    let plan = place.prepare(&spec, "new").unwrap();
    let staged = stage(&plan, &[rows(0, 3), large(3, 300_000), rows(300_003, 300_003)]);
    // Another attempt at the second task, whose result is not used.
    drop(stage(&plan, &[rows(0, 0), large(3, 300_000)]));
    let visible = |place: &Place| -> Vec<String> {
        let hidden = |name: &String| name.contains(".floe-") || name.starts_with("upload ");
        place.everything().into_iter().filter(|name| !hidden(name)).collect()
    };
    assert_eq!(visible(place), before);
    let first = commit(&plan, &staged).unwrap();
    assert_eq!((first.rows, first.files), (300_003, 2), "the empty task gives no file");
    assert!(place.is_clean(), "{:?}", place.everything());
    let after = place.everything();
    // Another query appends; then the first coordinator, unsure whether it had committed, commits again.
    place.run(&spec, "other", &[rows(900_000, 900_001)]).unwrap();
    assert_eq!(commit(&plan, &staged).unwrap(), first);
    assert!(place.is_clean());
    assert_eq!(place.everything().len(), after.len() + 1);
    assert_eq!(place.sorted(), (-3..300_003).chain([900_000]).collect::<Vec<_>>());
    lease::die_quietly(&plan);
}

#[test]
fn commit_is_idempotent_on_disk() {
    commit_is_idempotent(&local());
}

#[test]
fn commit_is_idempotent_on_s3() {
    commit_is_idempotent(&s3());
}

/// Removes whatever was begun: staged files of finished tasks, of a running one, of a dropped one.
fn abort_leaves_nothing(place: &Place) {
    let spec = place.spec("deep/er/t/", SinkMode::Error);
    let plan = place.prepare(&spec, "q").unwrap();
    stage(&plan, &[rows(0, 3), large(0, 300_000)]);
    let under_way = TaskSink::new(&plan, task(7), 2).unwrap();
    drop(TaskSink::new(&plan, task(8), 1).unwrap());
    abort(&plan).unwrap();
    assert_eq!(place.everything(), Vec::<String>::new());
    // A late task recreates nothing.
    if plan.staging.is_some() {
        let error = TaskSink::new(&plan, task(9), 1).map(drop).unwrap_err();
        assert_eq!(error.category, Category::Io);
    }
    drop(under_way);
    abort(&plan).unwrap();
    assert_eq!(place.everything(), Vec::<String>::new());
    // The query can run again.
    place.run(&spec, "q", &[rows(0, 3)]).unwrap();
    assert_eq!(place.values(), [0, 1, 2]);
}

#[test]
fn abort_leaves_nothing_on_disk() {
    abort_leaves_nothing(&local());
}

#[test]
fn abort_leaves_nothing_on_s3() {
    abort_leaves_nothing(&s3());
}

/// Killed before any commit: workers remove what they can, the next run removes the rest.
fn leftovers_are_removed(place: &Place) {
    let spec = place.spec("t/", SinkMode::Append);
    let plan = place.prepare(&spec, "killed").unwrap();
    stage(&plan, &[large(0, 300_000), rows(0, 5)]);
    // Its coordinator is alive: another query on the same target leaves it alone.
    place.run(&spec, "beside", &[rows(1, 3)]).unwrap();
    assert!(!place.is_clean());
    lease::die(&plan);
    place.run(&spec, "next", &[rows(3, 5)]).unwrap();
    assert!(place.is_clean(), "{:?}", place.everything());
    assert_eq!(place.sorted(), [1, 2, 3, 4]);
}

#[test]
fn leftovers_are_removed_on_disk() {
    leftovers_are_removed(&local());
}

#[test]
fn leftovers_are_removed_on_s3() {
    leftovers_are_removed(&s3());
}

#[test]
fn workers_abandon_what_they_staged() {
    let place = local();
    let plan = place.prepare(&place.spec("x/", SinkMode::Error), "abandoned-local").unwrap();
    stage(&plan, &[rows(0, 3)]);
    lease::die(&plan);
    abandon("abandoned-local");
    assert_eq!(place.everything(), Vec::<String>::new());

    let place = s3();
    let plan = place.prepare(&place.spec("x/", SinkMode::Error), "abandoned-s3").unwrap();
    stage(&plan, &[large(0, 300_000)]);
    assert!(place.everything().iter().any(|name| name.starts_with("upload ")));
    abandon("abandoned-s3");
    assert!(!place.everything().iter().any(|name| name.starts_with("upload ")));
    abort(&plan).unwrap();
    assert_eq!(place.everything(), Vec::<String>::new());
}

#[test]
fn one_file_replaces_one_file() {
    for place in [local(), s3()] {
        let spec = |mode| place.spec("d/x.parquet", mode);
        place.run(&spec(SinkMode::Error), "a", &[rows(0, 3)]).unwrap();
        assert_eq!(place.everything(), ["d/x.parquet"]);
        assert_eq!(place.prepare(&spec(SinkMode::Error), "b").unwrap_err().class, "SinkExists");
        place.run(&spec(SinkMode::Overwrite), "c", &[large(0, 200_000)]).unwrap();
        assert_eq!(place.everything(), ["d/x.parquet"]);
        assert_eq!(place.values().len(), 200_000);
    }
}

#[test]
fn contradictions_in_a_spec_are_named() {
    let place = local();
    let base = || place.spec("t/", SinkMode::Error);
    let file = || place.spec("t.parquet", SinkMode::Error);
    let cases: Vec<(SinkSpec, &str, &str)> = vec![
        (SinkSpec { format: None, ..base() }, "BadSpec", "sink.format is missing"),
        (SinkSpec { uri: "ftp://x/y/".into(), ..base() }, "BadUri", "'ftp' is not supported"),
        (SinkSpec { uri: "https://x/y/".into(), ..base() }, "BadSpec", "for reading only"),
        (SinkSpec { partition_by: vec!["k".into()], ..file() }, "BadSpec", "sink.partitionBy writes many files"),
        (SinkSpec { max_file_rows: Some(1), ..file() }, "BadSpec", "sink.maxFileRows"),
        (SinkSpec { mode: SinkMode::Append, ..file() }, "BadSpec", "sink.mode: append"),
        (SinkSpec { partition_by: vec!["k".into(), "k".into()], ..base() }, "BadSpec", "column 'k' twice"),
        (
            SinkSpec {
                compression: Some(floe_api::SinkCompression::Snappy),
                format: Some(floe_api::Format::Csv),
                ..base()
            },
            "BadSpec",
            "snappy is not possible with format csv",
        ),
        (
            SinkSpec { compression: Some(floe_api::SinkCompression::Zstd), compression_level: Some(40), ..base() },
            "BadSpec",
            "sink.compressionLevel",
        ),
    ];
    for (spec, class, text) in cases {
        let error = place.prepare(&spec, "q").unwrap_err();
        assert_eq!((error.category, error.class.as_str()), (Category::User, class), "{error}");
        assert!(error.message.contains(text), "{error}");
    }
    let plan = place.prepare(&base(), "twice").unwrap();
    let error = place.prepare(&base(), "twice").unwrap_err();
    assert!(error.message.contains("another sink of this query"), "{error}");
    abort(&plan).unwrap();
    let mut plan = place.prepare(&SinkSpec { partition_by: vec!["missing".into()], ..base() }, "q").unwrap();
    let error = plan.check(rows(0, 1).schema()).unwrap_err();
    assert_eq!(error.class, "ColumnNotFoundError");
    plan.keys.clear();
    plan.check(rows(0, 1).schema()).unwrap();
    abort(&plan).unwrap();
    // Tables with a log must not be changed without the log.
    place.put("delta/_delta_log/00000000000000000000.json", b"{}");
    let error = place.prepare(&place.spec("delta/", SinkMode::Append), "q").unwrap_err();
    assert!(error.message.contains("a Delta table"), "{error}");
    assert!(place.is_clean());
}

#[test]
fn requests_that_the_store_refuses_are_user_errors() {
    let place = s3();
    let wrong: Options = [("aws_secret_access_key", "wrong")].into_iter().collect::<Options>().or(&place.options);
    let spec = place.spec("t/", SinkMode::Error);
    let error = crate::sink::prepare(&spec, &wrong, "q").unwrap_err();
    assert_eq!((error.category, error.class.as_str()), (Category::User, "PermissionError"), "{error}");
    assert!(error.message.contains("s3://bucket") && !error.message.contains("wrong"), "{error}");
    let missing = SinkSpec { uri: "s3://no-such-bucket/t/".into(), ..spec };
    let error = place.prepare(&missing, "q").unwrap_err();
    assert_eq!((error.category, error.class.as_str()), (Category::User, "FileNotFoundError"), "{error}");
    let error = Store::open("s3://bucket", &place.options).unwrap().read("nothing/here").unwrap_err();
    assert_eq!(error.class, "FileNotFoundError");
    assert!(error.message.contains("s3://bucket/nothing/here"), "{error}");
}

#[test]
fn a_directory_that_may_not_be_written_is_named() {
    let place = local();
    place.put("plain", b"a file");
    let error = place.prepare(&place.spec("plain/t/", SinkMode::Error), "q").unwrap_err();
    assert_eq!(error.category, Category::User, "{error}");
    let error = place.prepare(&place.spec("plain", SinkMode::Error), "q").unwrap_err();
    assert_eq!(error.class, "NotADirectoryError", "{error}");
}

#[test]
fn a_link_is_followed() {
    let place = local();
    place.put("real/x.parquet", b"old");
    std::os::unix::fs::symlink(place.uri("real/x.parquet"), place.uri("link.parquet")).unwrap();
    place.run(&place.spec("link.parquet", SinkMode::Overwrite), "q", &[rows(0, 2)]).unwrap();
    assert!(std::fs::symlink_metadata(place.uri("link.parquet")).unwrap().is_symlink());
    assert_eq!(place.everything(), ["link.parquet", "real/x.parquet"]);
    assert_eq!(place.sorted(), [0, 0, 1, 1], "read through both names");
}
