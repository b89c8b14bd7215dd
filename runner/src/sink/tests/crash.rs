//! A commit that crashes at any step: readers see the old state or the new one, never both or a mix.

use floe_api::SinkMode;

use super::support::{Place, local, rows, s3, stage};
use crate::sink::{abort, commit, fault, from_spec, lease, sweep};

const OLD: std::ops::Range<i64> = 0..4;
const NEW: std::ops::Range<i64> = 10..16;

/// What happens after the crash.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The same coordinator commits again, twice.
    Retry,
    /// It aborts.
    Abort,
    /// It is dead; another query with the same target starts and fails.
    Another,
    /// It is dead; the same query runs again from the start.
    Again,
    /// It is dead; another process cleans up.
    Sweep,
}

fn expected(mode: SinkMode, committed: bool) -> Vec<i64> {
    match (mode, committed) {
        (_, false) => OLD.collect(),
        (SinkMode::Append, true) => OLD.chain(NEW).collect(),
        (_, true) => NEW.collect(),
    }
}

/// Crashes after each number of steps until the commit succeeds; returns the number of crash points.
fn every_point(place: &Place, mode: SinkMode, partitioned: bool, then: Then) -> u32 {
    for point in 0..200 {
        let name = format!("{mode:?}-{partitioned}-{then:?}-{point}/t/");
        let only = |values: Vec<i64>| values;
        let mut spec = place.spec(&name, mode);
        if partitioned {
            spec.partition_by = vec!["k".to_owned()];
        }
        let mut first = spec.clone();
        first.mode = SinkMode::Append;
        place.run(&first, "old", &[rows(OLD.start, 2), rows(2, OLD.end)]).unwrap();
        let frames = [rows(NEW.start, 13), rows(13, NEW.end)];
        let plan = place.prepare(&spec, "new").unwrap();
        let staged = stage(&plan, &frames);
        fault::arm(point);
        let result = commit(&plan, &staged);
        let crashed = fault::disarm();
        assert_eq!(result.is_err(), crashed, "{name}: {result:?}");
        let whole = expected(mode, true);
        match then {
            Then::Retry => {
                commit(&plan, &staged).unwrap();
                assert_eq!(only(place.sorted()), whole, "{name}");
                commit(&plan, &staged).unwrap();
                assert_eq!(only(place.sorted()), whole, "{name}");
            }
            Then::Abort => {
                abort(&plan).unwrap();
                let now = place.sorted();
                assert!(now == expected(mode, false) || now == whole, "{name}: {now:?}");
                assert!(crashed || now == whole, "{name}: a finished commit was undone");
            }
            Then::Another => {
                lease::die_or_not(&plan, crashed);
                let mut spec = spec.clone();
                spec.mode = SinkMode::Append;
                let other = place.prepare(&spec, "another").unwrap();
                let now = place.sorted();
                assert!(now == expected(mode, false) || now == whole, "{name}: {now:?}");
                abort(&other).unwrap();
                assert_eq!(place.sorted(), now, "{name}");
            }
            Then::Sweep => {
                lease::die_or_not(&plan, crashed);
                sweep(&from_spec(&spec, &place.options, "new").unwrap()).unwrap();
                let now = place.sorted();
                assert!(now == expected(mode, false) || now == whole, "{name}: {now:?}");
                assert!(crashed || now == whole, "{name}: a finished commit was undone");
            }
            Then::Again => {
                lease::die_or_not(&plan, crashed);
                let again = place.prepare(&spec, "new").unwrap();
                let staged = stage(&again, &frames);
                commit(&again, &staged).unwrap();
                assert_eq!(place.sorted(), whole, "{name}");
            }
        }
        assert!(place.is_clean(), "{name}: {:?}", place.everything());
        assert!(place.everything().iter().all(|name| !name.ends_with('/')), "{name}: {:?}", place.everything());
        lease::die_quietly(&plan);
        floe_storage::delete_prefix(&place.uri(name.trim_end_matches("/t/")), &place.options).unwrap();
        if !crashed {
            return point;
        }
    }
    panic!("the commit never gets through");
}

fn all(place: &Place) {
    for mode in [SinkMode::Append, SinkMode::Overwrite] {
        for partitioned in [false, true] {
            for then in [Then::Retry, Then::Abort, Then::Another, Then::Again, Then::Sweep] {
                let points = every_point(place, mode, partitioned, then);
                assert!(points >= 4, "{mode:?} {then:?}: only {points} crash points");
            }
        }
    }
}

#[test]
fn a_commit_can_crash_at_any_step_on_disk() {
    all(&local());
}

#[test]
fn a_commit_can_crash_at_any_step_on_s3() {
    all(&s3());
}
