//! Many histories of schedules from seeds, and a thousand schedules at once.

use std::collections::BTreeSet;
use std::time::Instant;

use floe_api::schedule::calendar::{Calendar, zone};
use floe_api::schedule::cron::Cron;
use floe_api::{CatchUp, ConcurrencyPolicy, Phase, ScheduledQuery};
use jiff::{SignedDuration, Timestamp};

use super::world::{World, at, nightly};
use crate::random::Random;

const LINES: [&str; 7] =
    ["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 0 * * *", "45 23 * * *"];
/// Zones on days on which their clocks change (from noon of the day before).
const PLACES: [(&str, &str); 8] = [
    ("Etc/UTC", "2026-05-31T12:00:00Z"),
    ("Europe/Berlin", "2026-03-28T12:00:00Z"),
    ("Europe/Berlin", "2026-10-24T12:00:00Z"),
    ("America/New_York", "2026-03-07T12:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T03:00:00Z"),
    ("Australia/Lord_Howe", "2027-04-03T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-17T12:00:00Z"),
    ("Pacific/Apia", "2011-12-29T12:00:00Z"),
];

fn pick<'a, T>(random: &mut Random, from: &'a [T]) -> &'a T {
    &from[usize::try_from(random.below(from.len() as u64)).unwrap()]
}

fn calendar(line: &str, name: &str) -> Calendar {
    Calendar::new(Cron::parse(line).unwrap(), zone(name).unwrap())
}

/// The expected times, found minute by minute from what the clock shows, without the calendar.
fn by_the_clock(line: &str, name: &str, from: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
    let zone = zone(name).unwrap();
    let mut found = BTreeSet::new();
    let mut minute = Timestamp::from_second(from.as_second().div_euclid(60) * 60 + 60).unwrap();
    let reads = |text: &str, number: i8| match text.split_once('/') {
        Some((_, step)) => number % step.parse::<i8>().unwrap() == 0,
        None if text == "*" => true,
        None => text.split(',').any(|part| match part.split_once('-') {
            Some((low, high)) => (low.parse::<i8>().unwrap()..=high.parse().unwrap()).contains(&number),
            None => part.parse::<i8>().unwrap() == number,
        }),
    };
    let mut fields = line.split(' ');
    let (minutes, hours) = (fields.next().unwrap(), fields.next().unwrap());
    while minute <= until {
        let shown = zone.to_datetime(minute);
        if reads(minutes, shown.minute()) && reads(hours, shown.hour()) {
            found.insert(minute);
        }
        minute += SignedDuration::from_mins(1);
    }
    found
}

#[test]
fn the_calendar_agrees_with_the_clock() {
    for (name, begin) in PLACES {
        let from = at(begin);
        let until = from + SignedDuration::from_hours(60);
        for line in LINES {
            let clock = by_the_clock(line, name, from, until);
            let (last, _) = calendar(line, name).last(from, until, usize::MAX);
            let told: BTreeSet<Timestamp> = last.into_iter().collect();
            if line.split(' ').nth(1) == Some("*") {
                assert_eq!(told, clock, "{line} {name} {begin}");
                continue;
            }
            // Fixed hours: a time that the clock shows twice gets one query, and one that it skips comes later.
            let extra: Vec<_> = told.difference(&clock).collect();
            let left_out: Vec<_> = clock.difference(&told).collect();
            assert!(extra.len() <= 4 && left_out.len() <= 4, "{line} {name} {begin}: {extra:?} {left_out:?}");
            assert!(extra.is_empty() || left_out.is_empty(), "a clock goes one way: {line} {name} {begin}");
        }
    }
}

#[test]
fn whatever_happens_no_time_has_two_queries_and_each_is_accounted_for() {
    let sound = nightly("");
    for seed in 1..=80 {
        history(&sound, seed);
    }
}

fn history(sound: &ScheduledQuery, seed: u64) {
    let mut random = Random::of(seed);
    let (name, begin) = *pick(&mut random, &PLACES);
    let line = *pick(&mut random, &LINES);
    let mut schedule = sound.clone();
    schedule.spec.schedule = line.to_owned();
    schedule.spec.time_zone = name.to_owned();
    schedule.spec.concurrency_policy =
        *pick(&mut random, &[ConcurrencyPolicy::Forbid, ConcurrencyPolicy::Replace, ConcurrencyPolicy::Allow]);
    schedule.spec.catch_up = *pick(&mut random, &[CatchUp::Latest, CatchUp::All, CatchUp::None]);
    if schedule.spec.concurrency_policy == ConcurrencyPolicy::Replace && schedule.spec.catch_up == CatchUp::All {
        schedule.spec.catch_up = CatchUp::Latest;
    }
    schedule.spec.starting_deadline_seconds = *pick(&mut random, &[None, None, Some(30), Some(600)]);
    schedule.spec.successful_queries_history_limit = u32::try_from(random.below(4)).unwrap();
    let story = format!(
        "seed {seed}: {line} {name} {:?} {:?} {:?}",
        schedule.spec.concurrency_policy, schedule.spec.catch_up, schedule.spec.starting_deadline_seconds
    );
    let mut world = World::new(schedule, begin);
    let started = world.now;
    let mut is_even = true;
    for _ in 0..30 {
        world.runs = SignedDuration::from_secs(*pick(&mut random, &[5, 50, 400, 5000]));
        world.ends_as = *pick(&mut random, &[Phase::Succeeded, Phase::Succeeded, Phase::Failed]);
        let span = SignedDuration::from_secs(i64::try_from(random.below(7200)).unwrap());
        match random.below(8) {
            // The operator is away, but for less than 100 times.
            0 => {
                world.pass(world.now + span.min(SignedDuration::from_mins(95)));
            }
            1 => {
                world.look_and_end();
            }
            2 => {
                world.refuses = !world.refuses;
                // An operator that restarts knows nothing of it.
                (world.trouble, world.hold, world.setbacks) = (None, None, 0);
            }
            3 => world.schedule.spec.suspend = !world.schedule.spec.suspend,
            4 if seed.is_multiple_of(4) => {
                world.now -= span;
                is_even = false;
            }
            _ => world.run(world.now + span),
        }
    }
    (world.refuses, world.schedule.spec.suspend) = (false, false);
    (world.trouble, world.hold) = (None, None);
    world.runs = SignedDuration::from_secs(1);
    // Run until all is quiet: running queries have ended, and waiting ones were created.
    for _ in 0..300 {
        world.run(world.now + SignedDuration::from_secs(50));
        if world.active().is_empty() && world.status().waiting_time.is_none() {
            break;
        }
    }
    world.run(world.now + SignedDuration::from_secs(50));
    let until = world.status().settled_until.unwrap().0;
    let (all, _) = calendar(line, name).last(started, until, usize::MAX);
    let all: BTreeSet<Timestamp> = all.into_iter().collect();
    assert!(world.made.is_subset(&all), "{story}");
    let limit = world.schedule.spec.successful_queries_history_limit as usize;
    let kept = world.children.iter().filter(|c| c.phase == Some(Phase::Succeeded) && !c.is_leaving).count();
    assert!(kept <= limit, "{story}: {kept} are kept");
    let missed = world.status().missed_times.unwrap_or(0) as usize;
    if is_even && world.was_told(floe_api::Reason::TooManyMissedTimes) == 0 {
        assert_eq!(world.made.len() + missed, all.len(), "{story}");
        if world.schedule.spec.catch_up == CatchUp::All && world.schedule.spec.starting_deadline_seconds.is_none() {
            assert_eq!(missed, 0, "{story}");
        }
    }
}

#[test]
fn a_thousand_schedules_cost_what_happens_and_no_more() {
    let hours = 3;
    let mut sound = nightly("");
    sound.spec.time_zone = "Europe/Berlin".into();
    let began = Instant::now();
    let (mut looks, mut made, mut writes) = (0, 0, 0);
    for number in 0..1000u32 {
        let mut schedule = sound.clone();
        schedule.spec.schedule = format!("{} * * * *", number % 60);
        schedule.metadata.uid = Some(format!("uid-{number}"));
        let mut world = World::new(schedule, "2026-06-01T00:00:30Z");
        world.run(at("2026-06-01T00:00:30Z") + SignedDuration::from_hours(hours));
        looks += world.looks;
        made += world.made.len();
        writes += world.writes;
    }
    assert_eq!(made, 3000);
    // Per query, one reconcile when it is due and one when it ends. Besides, one in ten minutes because of the clock.
    let bound = 2 * 3000 + 1000 + 1000 * 6 * u32::try_from(hours).unwrap();
    assert!(looks <= bound, "{looks} looks, {bound} at most");
    assert!(writes <= 2 * 3000 + 1000, "{writes} writes");
    // About 25,000 reconciles, each of which plans at most twice.
    let each = began.elapsed() / looks;
    assert!(each.as_micros() < 5000, "{each:?} a look");
}
