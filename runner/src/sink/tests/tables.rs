//! Delta and Iceberg tables as sinks: two attempts at one query, of which the first stops or goes on at any point, give the
//! rows of one of them, once; what the other one wrote goes.

use std::path::Path;

use floe_api::{Format, SinkMode, SinkSpec, TableSpec};
use floe_plan::StorageOptions;
use floe_plan::lake::write::TableSink;
use polars::prelude::*;

use super::support::{Place, local, rows, s3, stage};
use crate::sink::{Plan, Run, abort, begin, commit, fault, into_table, lease};

fn spec(place: &Place, name: &str, format: Format, mode: SinkMode) -> SinkSpec {
    SinkSpec { format: Some(format), ..place.spec(name, mode) }
}

fn storage(place: &Place) -> StorageOptions {
    place.options.pairs().collect()
}

/// An attempt at a query that has begun, and its rows as they go into the files.
fn attempt(place: &Place, spec: &SinkSpec, query: &str, attempt: u32, frames: &[DataFrame]) -> (Plan, Vec<DataFrame>) {
    let plan = frames[0].clone().lazy().logical_plan;
    let table = TableSink::prepare(spec, query, &plan, storage(place), Path::new("/")).unwrap();
    let rows = |frame: &DataFrame| {
        let rows = table.rows(frame.clone().lazy().logical_plan).unwrap();
        LazyFrame::from(rows).collect().unwrap()
    };
    let frames = frames.iter().map(rows).collect();
    let mut plan = into_table(spec, table, query).unwrap();
    plan.run = Run::new(attempt);
    begin(&mut plan).unwrap();
    (plan, frames)
}

/// The values of column `a` in the table.
fn values(place: &Place, spec: &SinkSpec) -> Vec<i64> {
    let table = TableSpec { uri: spec.uri.clone(), format: spec.format, ..TableSpec::default() };
    let frame = floe_plan::lake::open(&table, &storage(place), Path::new("/")).unwrap();
    let mut values: Vec<i64> =
        frame.collect().unwrap().column("a").unwrap().i64().unwrap().into_no_null_iter().collect();
    values.sort_unstable();
    values
}

fn data_files(place: &Place, name: &str) -> usize {
    place.everything().iter().filter(|file| file.starts_with(name) && file.ends_with(".parquet")).count()
}

/// The first attempt stops after `point` steps of its commit; a second one commits; then the first goes on. Returns
/// whether the first had stopped.
fn two_attempts(place: &Place, format: Format, mode: SinkMode, point: u32) -> bool {
    let name = format!("{}-{mode:?}-{point}", format.as_str());
    let spec = spec(place, &name, format, mode);
    let before: Vec<i64> = if mode == SinkMode::Append {
        let table = SinkSpec { partition_by: vec!["k".to_owned()], ..spec.clone() };
        let (other, frames) = attempt(place, &table, "another", 1, &[rows(0, 4)]);
        commit(&other, &stage(&other, &frames)).unwrap();
        lease::die_quietly(&other);
        (0..4).collect()
    } else {
        Vec::new()
    };
    let (first, frames) = attempt(place, &spec, "query", 1, &[rows(100, 103), rows(103, 106)]);
    let staged = stage(&first, &frames);
    fault::arm(point);
    let _ = commit(&first, &staged);
    let stopped = fault::disarm();
    let committed = values_or_none(place, &spec).is_some_and(|values| values.contains(&100));
    let (second, frames) = attempt(place, &spec, "query", 2, &[rows(10, 13), rows(13, 16)]);
    let summary = commit(&second, &stage(&second, &frames)).unwrap();
    assert_eq!(summary.rows, 6);
    // The first one wakes up.
    if commit(&first, &staged).is_err() {
        abort(&first).unwrap();
    }
    let want: Vec<i64> = match committed {
        true => before.iter().copied().chain(100..106).collect(),
        false => before.iter().copied().chain(10..16).collect(),
    };
    let mut want = want;
    want.sort_unstable();
    assert_eq!(values(place, &spec), want, "{name}");
    // Each task has a file for each of its partitions.
    let files = match mode {
        SinkMode::Append => 3 + 6,
        _ => 2,
    };
    assert_eq!(data_files(place, &name), files, "{name}: {:?}", place.everything());
    for plan in [&first, &second] {
        lease::die_quietly(plan);
    }
    stopped
}

fn values_or_none(place: &Place, spec: &SinkSpec) -> Option<Vec<i64>> {
    let table = TableSpec { uri: spec.uri.clone(), format: spec.format, ..TableSpec::default() };
    let frame = floe_plan::lake::open(&table, &storage(place), Path::new("/")).ok()?;
    Some(frame.collect().unwrap().column("a").unwrap().i64().unwrap().into_no_null_iter().collect())
}

fn every_point(place: &Place) {
    for format in [Format::Delta, Format::Iceberg] {
        for mode in [SinkMode::Error, SinkMode::Append] {
            let stops = (0..).take_while(|point| two_attempts(place, format, mode, *point)).count();
            assert!(stops >= 2, "{format:?}: {stops} steps");
        }
    }
}

#[test]
fn of_two_local_attempts_one_commits_once() {
    every_point(&local());
}

#[test]
fn of_two_attempts_in_a_store_one_commits_once() {
    every_point(&s3());
}

#[test]
fn an_aborted_attempt_leaves_no_file() {
    let place = local();
    for format in [Format::Delta, Format::Iceberg] {
        let spec = spec(&place, format.as_str(), format, SinkMode::Append);
        let (plan, frames) = attempt(&place, &spec, "query", 1, &[rows(0, 3)]);
        let staged = stage(&plan, &frames);
        // The files are visible, and the metadata is not written.
        fault::arm(1);
        commit(&plan, &staged).unwrap_err();
        fault::disarm();
        abort(&plan).unwrap();
        assert_eq!(data_files(&place, format.as_str()), 0);
        assert!(values_or_none(&place, &spec).is_none());
    }
}
