//! Two coordinators of one query: the first is still alive when the second stages. Only what the second wrote becomes
//! visible, whatever the first one does, at any time.

use floe_api::{SinkMode, SinkSpec};
use polars::prelude::*;

use super::support::{Place, large, local, rows, s3, stage, task, write};
use crate::sink::{abort, commit, fault};

const OLD: std::ops::Range<i64> = 0..4;

/// Rows of the first attempt: small files, and one that is too large for a message.
fn first_rows() -> [DataFrame; 2] {
    let noise = (col("noise") % lit(1_000_000_007u64)).cast(DataType::Int64).alias("a");
    [rows(100, 107), large(200, 600_000).lazy().select([noise]).collect().unwrap()]
}

fn second_rows() -> [DataFrame; 2] {
    [rows(10, 13), rows(13, 16)]
}

fn expected(mode: SinkMode) -> Vec<i64> {
    match mode {
        SinkMode::Append => OLD.chain(10..16).collect(),
        SinkMode::Error | SinkMode::Overwrite => (10..16).collect(),
    }
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Directory,
    Partitioned,
    File,
}

fn spec(place: &Place, name: &str, mode: SinkMode, shape: Shape) -> SinkSpec {
    match shape {
        Shape::Directory => place.spec(&format!("{name}/t/"), mode),
        Shape::Partitioned => SinkSpec {
            partition_by: vec!["a".to_owned()],
            include_keys: true,
            ..place.spec(&format!("{name}/t/"), mode)
        },
        Shape::File => place.spec(&format!("{name}/t.parquet"), mode),
    }
}

/// One task writes a file; several write a directory, with few partitions.
fn frames(shape: Shape, frames: [DataFrame; 2]) -> Vec<DataFrame> {
    match shape {
        Shape::Directory => frames.to_vec(),
        Shape::Partitioned => frames.iter().map(|frame| frame.head(Some(3))).collect(),
        Shape::File => {
            let [one, other] = frames;
            vec![one.select(["a"]).unwrap().vstack(&other.select(["a"]).unwrap()).unwrap()]
        }
    }
}

/// When the first attempt continues.
#[derive(Clone, Copy, Debug)]
enum When {
    WhileTheSecondStages,
    AfterItsCommit,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Abort,
    Commit,
    /// Like a coordinator: abort if the commit fails.
    CommitThenAbort,
}

fn cases() -> [(SinkMode, Shape); 3] {
    [(SinkMode::Error, Shape::Directory), (SinkMode::Append, Shape::Partitioned), (SinkMode::Overwrite, Shape::File)]
}

/// The first commit stops after `point` steps, and continues (or aborts) later. Returns whether it had stopped.
fn zombie(place: &Place, name: &str, (mode, shape): (SinkMode, Shape), point: u32, act: Act, when: When) -> bool {
    let spec = spec(place, name, mode, shape);
    if mode != SinkMode::Error {
        let before = SinkSpec { mode: SinkMode::Error, ..spec.clone() };
        place.run(&before, "before", &frames(shape, [rows(OLD.start, 2), rows(2, OLD.end)])).unwrap();
    }
    let first = place.attempt(&spec, "q", 1).unwrap();
    let first_staged = stage(&first, &frames(shape, first_rows()));
    fault::arm(point);
    let begun = commit(&first, &first_staged);
    let stopped = fault::disarm();
    assert_eq!(begun.is_err(), stopped, "{name}: {begun:?}");

    let again = std::cell::Cell::new(false);
    let act = || {
        if matches!(act, Act::Commit | Act::CommitThenAbort) {
            let late = commit(&first, &first_staged);
            // After an abort there is nothing to take over: it only checks that its files are there.
            if stopped && !again.get() {
                let error = late.map(drop).unwrap_err();
                assert_eq!(error.class, "Superseded", "{name}: {error}");
            }
        }
        if matches!(act, Act::Abort | Act::CommitThenAbort) {
            again.set(true);
            abort(&first).unwrap();
        }
    };
    if let (false, SinkMode::Error, Shape::File) = (stopped, mode, shape) {
        // The first is finished: its file is an ordinary existing file.
        assert_eq!(place.attempt(&spec, "q", 2).map(drop).unwrap_err().class, "SinkExists", "{name}");
        floe_storage::delete_prefix(&place.uri(name), &place.options).unwrap();
        return false;
    }
    let second = place.attempt(&spec, "q", 2).unwrap();
    if let When::WhileTheSecondStages = when {
        act();
    }
    let second_staged = stage(&second, &frames(shape, second_rows()));
    if let When::WhileTheSecondStages = when {
        act();
    }
    let summary = commit(&second, &second_staged).unwrap();
    if let When::AfterItsCommit = when {
        act();
    }
    assert_eq!(place.sorted(), expected(mode), "{name}");
    assert_eq!(summary.rows, 6, "{name}");
    // If the first could still run, it has cleaned up its own files.
    abort(&first).unwrap();
    assert!(place.is_clean(), "{name}: {:?}", place.everything());
    floe_storage::delete_prefix(&place.uri(name), &place.options).unwrap();
    stopped
}

fn every_point(place: &Place) {
    for (at, case) in cases().into_iter().enumerate() {
        for (act, when) in [
            (Act::Abort, When::WhileTheSecondStages),
            (Act::Commit, When::AfterItsCommit),
            (Act::CommitThenAbort, When::WhileTheSecondStages),
        ] {
            let mut points = 0;
            while zombie(place, &format!("{at}-{act:?}-{when:?}-{points}"), case, points, act, when) {
                points += 1;
                assert!(points < 100, "the commit never gets through");
            }
            assert!(points >= 2, "{case:?}: only {points} points");
        }
    }
}

#[test]
fn the_later_attempt_owns_the_target_on_disk() {
    every_point(&local());
}

#[test]
fn the_later_attempt_owns_the_target_on_s3() {
    every_point(&s3());
}

/// Tasks of the first attempt continue after it has lost the target.
fn late_tasks(place: &Place) {
    let spec = place.spec("t/", SinkMode::Error);
    let first = place.attempt(&spec, "late", 1).unwrap();
    let mut staged = stage(&first, &[rows(0, 3)]);
    let second = place.attempt(&spec, "late", 2).unwrap();
    // In an object store they can upload without effect; on disk their directory is gone.
    match write(&first, task(1), &large(0, 300_000)) {
        Ok(late) => staged.push(late),
        Err(error) => assert_eq!(error.category, floe_wire::error::Category::Io, "{error}"),
    }
    assert_eq!(commit(&first, &staged).unwrap_err().class, "Superseded");
    abort(&first).unwrap();
    let staged = stage(&second, &[rows(10, 12)]);
    commit(&second, &staged).unwrap();
    assert_eq!(place.sorted(), [10, 11]);
    assert!(place.is_clean(), "{:?}", place.everything());
}

#[test]
fn late_tasks_of_an_earlier_attempt_write_nothing() {
    late_tasks(&local());
    late_tasks(&s3());
}

#[test]
fn an_earlier_attempt_does_not_begin_after_a_later_one() {
    for place in [local(), s3()] {
        let spec = place.spec("t/", SinkMode::Error);
        let second = place.attempt(&spec, "early", 2).unwrap();
        let error = place.attempt(&spec, "early", 1).map(drop).unwrap_err();
        assert_eq!(error.class, "Superseded", "{error}");
        let staged = stage(&second, &[rows(0, 3)]);
        commit(&second, &staged).unwrap();
        assert_eq!(place.values(), [0, 1, 2]);
        assert!(place.is_clean());
    }
}
