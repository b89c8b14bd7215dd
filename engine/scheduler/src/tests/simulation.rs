//! Thousands of random queries on random clusters, each from a seed that is printed when a check fails.
//! `FLOE_SIM_SEED` runs one seed, `FLOE_SIM_RUNS` that many from the first.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::books::check_books;
use super::scenario::{Kind, Rng, Scenario};
use super::seen::Seen;
use super::watch::Watch;
use super::world::{Happening, World};
use crate::{Event, State, decide};

const RUNS: u64 = 9_600;
const MAX_STEPS: u64 = 20_000;
const MAX_VIRTUAL_MS: u64 = 600_000;

fn simulate(seed: u64, trace: bool) -> Seen {
    let mut rng = Rng(seed);
    let kind = Kind::ALL[(seed % Kind::ALL.len() as u64) as usize];
    let scenario = Scenario::new(kind, &mut rng);
    let mut state = State::new(&scenario.graph, scenario.limits).expect("a good graph");
    let mut world = World::new(&scenario, rng);
    let mut watch = Watch::new(&scenario);
    if trace {
        println!("{kind:?} reads {:?} kept {:?}", scenario.reads, scenario.kept);
    }
    let mut steps_after_end = 0;
    while let Some(((time, _), what)) = world.queue.pop_first() {
        world.now = time;
        let event = match what {
            Happening::Say(event) => event,
            Happening::Arrive(_)
            | Happening::Fetch(_)
            | Happening::End(..)
            | Happening::Beat(_)
            | Happening::Trouble(_)
            | Happening::Return(_)
            | Happening::Undrain(..) => {
                world.happen(&scenario, what);
                continue;
            }
        };
        if trace {
            println!("{time:>7} {event:?}");
        }
        if watch.finished.is_some() {
            steps_after_end += 1;
            let actions = decide(&mut state, event, time);
            assert!(actions.is_empty(), "{actions:?} after the end");
            if steps_after_end > 50 {
                break;
            }
            continue;
        }
        watch.told(&event, time);
        let actions = decide(&mut state, event, time);
        for action in &actions {
            if trace {
                println!("        -> {action:?}");
            }
            watch.took(&state, action, time);
            world.carry_out(&scenario, &state, action);
        }
        watch.settled(&state, time);
        check_books(&state);
        assert!(watch.seen.steps < MAX_STEPS && time < MAX_VIRTUAL_MS, "does not end");
    }
    assert!(watch.finished.is_some(), "nothing happens any more and the query has not ended");
    assert!(!decide(&mut state, Event::Tick, u64::MAX).iter().any(|_| true));
    watch.seen.speculative_won = state.progress().counters.speculative_won;
    watch.seen
}

#[test]
fn every_query_ends_as_it_should_whatever_happens() {
    if let Ok(seed) = std::env::var("FLOE_SIM_SEED") {
        let seen = simulate(seed.parse().expect("FLOE_SIM_SEED is a number"), true);
        println!("{seen:?}");
        return;
    }
    let runs = std::env::var("FLOE_SIM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let mut sum = Seen::default();
    for seed in 0..runs {
        match catch_unwind(AssertUnwindSafe(|| simulate(seed, false))) {
            Ok(seen) => sum.add(seen),
            Err(panic) => {
                eprintln!("simulation failed: FLOE_SIM_SEED={seed} shows it step by step");
                resume_unwind(panic);
            }
        }
    }
    println!("{sum:?}");
    sum.assert_something_of_everything(runs >= RUNS);
}
