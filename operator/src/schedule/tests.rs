//! What may happen to a single schedule, case by case.

use floe_api::{Phase, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{ACCEPTED, QUERY_CREATED};
use super::plan::{Action, plan};
use super::world::{World, at, nightly};

const HOURLY: &str = "  schedule: '0 * * * *'\n";

fn hourly(more: &str) -> World {
    World::new(nightly(&format!("{HOURLY}{more}")), "2026-06-01T00:30:00Z")
}

fn after(world: &World, minutes: i64) -> Timestamp {
    world.now + SignedDuration::from_mins(minutes)
}

fn condition(world: &World, kind: &str) -> (String, String, String) {
    let conditions = world.status().conditions;
    let found = conditions.iter().find(|known| known.type_ == kind).unwrap_or_else(|| panic!("no condition {kind}"));
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

#[test]
fn a_query_is_made_on_time_and_what_is_told_follows_it() {
    let mut world = hourly("");
    let first = world.look();
    assert!(first.actions.is_empty() && world.made.is_empty());
    let after = first.requeue.unwrap();
    assert_eq!(after.as_secs(), 600, "a long sleep is cut in pieces");
    world.run(at("2026-06-01T01:00:01Z"));
    assert_eq!(world.active(), [at("2026-06-01T01:00:00Z")]);
    let status = world.status();
    assert_eq!(status.active[0].name, "nightly-29671260");
    assert_eq!(status.active_queries, Some(1));
    assert_eq!(status.last_schedule_time, Some(Time(at("2026-06-01T01:00:00Z"))));
    assert_eq!(status.next_schedule_time, Some(Time(at("2026-06-01T02:00:00Z"))));
    assert_eq!((status.last_successful_time, status.missed_times), (None, None));
    world.run(at("2026-06-01T01:30:00Z"));
    let status = world.status();
    assert_eq!((status.active.len(), status.active_queries), (0, Some(0)));
    assert!(status.last_successful_time.is_some());
    assert_eq!(world.was_told(Reason::SawCompletedQuery), 1);
    assert_eq!(condition(&world, ACCEPTED).0, "True");
    assert_eq!(condition(&world, QUERY_CREATED).0, "True");
}

#[test]
fn history_is_kept_up_to_its_limits() {
    let mut world = hourly("  successfulQueriesHistoryLimit: 2\n  failedQueriesHistoryLimit: 1\n");
    world.run(after(&world, 5 * 60));
    assert_eq!(world.made.len(), 5);
    let kept: Vec<_> = world.children.iter().map(|child| child.scheduled_at).collect();
    assert_eq!(kept, [at("2026-06-01T04:00:00Z"), at("2026-06-01T05:00:00Z")]);
    world.ends_as = Phase::Failed;
    world.run(after(&world, 3 * 60));
    let count = |phase| world.children.iter().filter(|child| child.phase == Some(phase)).count();
    assert_eq!((count(Phase::Succeeded), count(Phase::Failed)), (2, 1));
    assert!(world.status().last_successful_time.unwrap().0 < at("2026-06-01T05:01:00Z"));
    let mut world = hourly("  successfulQueriesHistoryLimit: 0\n");
    world.run(after(&world, 3 * 60));
    assert!(world.made.len() == 3 && world.children.is_empty(), "{:?}", world.children);
}

#[test]
fn one_that_runs_holds_the_next_one_up_is_replaced_or_is_not_minded() {
    let long = |more: &str| {
        let mut world = hourly(more);
        world.runs = SignedDuration::from_mins(90);
        world.run(at("2026-06-01T02:00:10Z"));
        world
    };
    let mut forbid = long("");
    assert_eq!(forbid.active(), [at("2026-06-01T01:00:00Z")]);
    assert_eq!(forbid.status().waiting_time, Some(Time(at("2026-06-01T02:00:00Z"))));
    assert_eq!(forbid.was_told(Reason::QueryAlreadyActive), 1);
    forbid.run(at("2026-06-01T02:31:00Z"));
    assert_eq!(forbid.active(), [at("2026-06-01T02:00:00Z")], "made late, when the other one had ended");
    assert_eq!((forbid.status().waiting_time, forbid.status().missed_times), (None, None));
    let replace = long("  concurrencyPolicy: Replace\n");
    assert!(replace.made.len() == 2 && replace.children[0].is_leaving && !replace.children[1].is_leaving);
    let allow = long("  concurrencyPolicy: Allow\n");
    assert_eq!(allow.active().len(), 2);
    // If one runs for hours, the times in between are missed.
    let mut slow = hourly("");
    slow.runs = SignedDuration::from_mins(210);
    slow.run(at("2026-06-01T04:31:00Z"));
    assert_eq!(slow.made, [at("2026-06-01T01:00:00Z"), at("2026-06-01T04:00:00Z")].into());
    assert_eq!((slow.status().missed_times, slow.was_told(Reason::MissSchedule)), (Some(2), 2));
}

#[test]
fn what_was_missed_is_caught_up_as_the_spec_says() {
    // The operator is away from 01:30 to 05:10.
    let away = |more: &str| {
        let mut world = hourly(more);
        world.run(at("2026-06-01T01:30:00Z"));
        world.pass(at("2026-06-01T05:10:00Z"));
        world.run(at("2026-06-01T05:30:00Z"));
        let made: Vec<_> = world.made.iter().map(|time| time.strftime("%H").to_string()).collect();
        (made.join(" "), world.status().missed_times.unwrap_or(0), world.was_told(Reason::MissSchedule))
    };
    assert_eq!(away(""), ("01 05".into(), 3, 1));
    assert_eq!(away("  catchUp: All\n"), ("01 02 03 04 05".into(), 0, 0));
    assert_eq!(away("  catchUp: All\n  concurrencyPolicy: Allow\n"), ("01 02 03 04 05".into(), 0, 0));
    assert_eq!(away("  catchUp: None\n"), ("01".into(), 4, 1));
    assert_eq!(away("  catchUp: None\n  startingDeadlineSeconds: 900\n"), ("01 05".into(), 3, 1));
    assert_eq!(away("  startingDeadlineSeconds: 300\n"), ("01".into(), 4, 1));
    assert_eq!(away("  catchUp: All\n  startingDeadlineSeconds: 7200\n"), ("01 04 05".into(), 2, 1));
}

#[test]
fn of_very_many_missed_times_the_last_hundred_are_looked_at() {
    let away = |more: &str| {
        let mut world = World::new(nightly(&format!("  schedule: '* * * * *'\n{more}")), "2026-06-01T00:00:30Z");
        world.run(at("2026-06-01T00:01:30Z"));
        world.pass(at("2026-06-02T00:00:30Z"));
        world.run(at("2026-06-02T00:00:50Z"));
        assert_eq!(world.was_told(Reason::TooManyMissedTimes), 1, "{:?}", world.told);
        let before = world.told.len();
        world.look();
        assert_eq!(world.told.len(), before, "told once");
        world
    };
    assert_eq!(away("").made.len(), 2);
    let all = away("  catchUp: All\n  concurrencyPolicy: Allow\n");
    assert_eq!(all.made.len(), 101);
    assert_eq!(all.made.iter().nth(1), Some(&at("2026-06-01T22:21:00Z")));
}

#[test]
fn suspended_nothing_is_made_and_resumed_it_is_caught_up() {
    let mut world = hourly("");
    world.run(at("2026-06-01T01:00:05Z"));
    world.schedule.spec.suspend = true;
    world.run(at("2026-06-01T04:30:00Z"));
    let status = world.status();
    assert_eq!((status.next_schedule_time, status.missed_times, status.active.len()), (None, None, 0));
    let seen = world.seen();
    assert_eq!(plan(&seen, world.now).requeue, None, "nothing to wait for");
    world.schedule.spec.suspend = false;
    world.run(at("2026-06-01T04:40:00Z"));
    assert_eq!(world.made, [at("2026-06-01T01:00:00Z"), at("2026-06-01T04:00:00Z")].into());
    assert_eq!(world.status().missed_times, Some(2));
}

#[test]
fn times_before_a_change_of_the_schedule_are_no_missed_ones() {
    let mut world = World::new(nightly(""), "2026-06-01T00:00:00Z");
    world.run(at("2026-06-01T12:00:00Z"));
    assert_eq!(world.made.len(), 1);
    world.schedule.spec.schedule = "0 11 * * *".into();
    world.run(at("2026-06-01T13:00:00Z"));
    assert_eq!(world.made.len(), 1, "11:00 was before the change");
    world.schedule.spec.time_zone = "America/New_York".into();
    world.run(at("2026-06-01T15:30:00Z"));
    assert_eq!(world.made.last(), Some(&at("2026-06-01T15:00:00Z")), "11:00 in New York");
}

#[test]
fn an_operator_that_ends_before_it_writes_makes_nothing_twice() {
    for policy in ["Forbid", "Replace", "Allow"] {
        let mut world = hourly(&format!("  concurrencyPolicy: {policy}\n  successfulQueriesHistoryLimit: 0\n"));
        world.look();
        world.pass(at("2026-06-01T01:00:01Z"));
        world.look_and_end();
        assert_eq!(world.made.len(), 1);
        assert_eq!(world.status().last_schedule_time, None);
        // It even ends before the next operator looks: it must remain as the proof.
        world.pass(at("2026-06-01T01:05:00Z"));
        let next = world.look_and_end();
        assert_eq!(next.status.last_schedule_time, Some(Time(at("2026-06-01T01:00:00Z"))));
        assert!(!world.children[0].is_leaving, "{policy}");
        world.look();
        world.run(at("2026-06-01T01:30:00Z"));
        assert!(world.made.len() == 1 && world.children.is_empty(), "{policy}");
    }
}

#[test]
fn a_clock_that_goes_back_repeats_nothing_and_a_false_one_does_not_stop_it_for_long() {
    let mut world = hourly("");
    world.run(at("2026-06-01T03:10:00Z"));
    assert_eq!(world.made.len(), 3);
    world.pass(at("2026-06-01T01:20:00Z"));
    world.run(at("2026-06-01T03:20:00Z"));
    assert_eq!(world.made.len(), 3, "02:00 and 03:00 had theirs");
    assert_eq!(world.status().next_schedule_time, Some(Time(at("2026-06-01T04:00:00Z"))));
    world.schedule.status.as_mut().unwrap().settled_until = Some(Time(at("2036-01-01T00:00:00Z")));
    world.run(at("2026-06-01T04:10:00Z"));
    assert_eq!(world.made.len(), 4, "ten years are no clock that is a little fast");
}

#[test]
fn a_refusal_is_told_and_tried_again_less_and_less_often() {
    let mut world = hourly("");
    world.refuses = true;
    world.run(at("2026-06-01T01:30:00Z"));
    assert!(world.made.is_empty());
    let (status, reason, message) = condition(&world, QUERY_CREATED);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotAllowed"));
    assert!(message.starts_with("denied request: no. To do:"), "{message}");
    assert!((8..30).contains(&world.setbacks), "{} tries in half an hour", world.setbacks);
    world.refuses = false;
    world.run(at("2026-06-01T01:40:00Z"));
    assert_eq!(world.made.len(), 1);
    assert_eq!(condition(&world, QUERY_CREATED).0, "True");
    // After it is given up, the refusal remains visible.
    let mut world = hourly("  startingDeadlineSeconds: 60\n");
    world.refuses = true;
    world.run(at("2026-06-01T01:30:00Z"));
    assert_eq!(world.status().missed_times, Some(1));
    assert_eq!(condition(&world, QUERY_CREATED).0, "False");
    assert!(world.setbacks < 10);
    // The next time is not delayed by the retry delay of the one before.
    let mut world =
        World::new(nightly("  schedule: '* * * * *'\n  startingDeadlineSeconds: 5\n"), "2026-06-01T00:00:30Z");
    world.refuses = true;
    world.run(at("2026-06-01T00:20:30Z"));
    let tries = world.setbacks;
    assert!((20..=80).contains(&tries), "{tries} tries in 20 minutes");
    world.refuses = false;
    world.run(at("2026-06-01T00:21:30Z"));
    assert_eq!(world.made.len(), 1);
}

#[test]
fn what_cannot_be_read_makes_nothing_and_is_told_once() {
    let mut world = hourly("");
    world.run(at("2026-06-01T01:30:00Z"));
    world.schedule.spec.time_zone = "Europe/Atlantis".into();
    world.run(at("2026-06-01T03:30:00Z"));
    world.look();
    assert_eq!(world.made.len(), 1);
    assert_eq!(world.was_told(Reason::UnknownTimeZone), 1);
    assert_eq!(condition(&world, ACCEPTED).0, "False");
    assert_eq!(world.status().next_schedule_time, None);
    world.schedule.spec.time_zone = "Europe/Berlin".into();
    world.run(at("2026-06-01T04:10:00Z"));
    assert_eq!(world.made.len(), 2);
    assert_eq!(condition(&world, ACCEPTED).0, "True");
}

#[test]
fn one_that_is_deleted_does_nothing_more() {
    let mut world = hourly("");
    world.schedule.metadata.deletion_timestamp = Some(Time(world.now));
    world.pass(at("2026-06-01T03:30:00Z"));
    let plan = world.look();
    assert!(plan.actions.is_empty() && plan.requeue.is_none() && plan.notices.is_empty());
}

#[test]
fn a_query_that_was_deleted_by_hand_is_missed_and_not_made_again() {
    let mut world = hourly("");
    world.run(at("2026-06-01T01:00:05Z"));
    world.children.clear();
    world.run(at("2026-06-01T01:30:00Z"));
    assert_eq!((world.made.len(), world.was_told(Reason::MissingQuery)), (1, 1));
    assert_eq!(world.status().active_queries, Some(0));
}

#[test]
fn many_missed_times_are_made_a_few_at_a_time() {
    let mut world = World::new(
        nightly("  schedule: '* * * * *'\n  catchUp: All\n  concurrencyPolicy: Allow\n"),
        "2026-06-01T00:00:30Z",
    );
    world.look();
    world.pass(at("2026-06-01T00:50:30Z"));
    let creates = |plan: &super::plan::Plan| plan.actions.iter().filter(|a| matches!(a, Action::Create { .. })).count();
    let seen = world.seen();
    assert_eq!(creates(&plan(&seen, world.now)), 10);
    let plan = world.look();
    assert_eq!(world.made.len(), 10);
    assert!(plan.requeue.unwrap().as_millis() <= 250);
}
