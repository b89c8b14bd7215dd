//! Any event in any state: random events, most of them about things that do not exist, must neither break the books nor
//! bring a second end.

use super::books::check_books;
use super::case::{done, failed, inputs_lost, progress, resolved, started};
use super::scenario::{Kind, Rng, Scenario};
use crate::{Action, Event, Limits, State, decide};
use floe_wire::error::{Category, QueryError};
use floe_wire::graph::StageId;

const CATEGORIES: [Category; 7] = [
    Category::User,
    Category::Io,
    Category::LostWorker,
    Category::OutOfMemory,
    Category::Deadline,
    Category::Cancelled,
    Category::Internal,
];

fn event(rng: &mut Rng, scenario: &Scenario) -> Event {
    let worker = format!("w{}", rng.below(4));
    let stage = rng.below(scenario.reads.len() as u64 + 1) as u32;
    let what = format!("{stage}.{}#{}", rng.below(6), rng.below(4));
    let kept = ["inline", "store", "w0", "w1", "elsewhere"][rng.below(5) as usize];
    let kinds = if rng.chance(2) { 17 } else { 14 };
    match rng.below(kinds) {
        0 | 1 => Event::WorkerUp { worker, slots: rng.below(4) as u32 },
        2 => Event::WorkerDraining { worker },
        3 => Event::WorkerLost { worker },
        4 | 5 if rng.chance(10) => Event::LeftOut { stage: StageId(stage), finer: rng.below(3) as u32 },
        4 | 5 => match scenario.reads.get(stage as usize) {
            Some(reads) => Event::Resolved {
                stage: StageId(stage),
                finer: rng.below(3) as u32,
                tasks: reads.iter().map(|reads| reads.clone().into()).collect(),
            },
            None => resolved(stage, &["0.0", "9.9"]),
        },
        6 => started(&what, &worker),
        7 => progress(&what, &worker, rng.next()),
        8..=10 => done(&what, &worker, kept),
        11 => inputs_lost(&what, &worker, &["0.0#0", "1.1#1", "7.7#7"]),
        12 => Event::Tick,
        13 => Event::Granted { worker, slots: rng.below(4) as u32, whole: rng.chance(50) },
        14 => failed(&what, &worker, CATEGORIES[rng.below(7) as usize]),
        15 => Event::ResolveFailed { stage: StageId(stage), error: QueryError::internal("no") },
        _ => [Event::Cancel, Event::DeadlineReached][rng.below(2) as usize].clone(),
    }
}

#[test]
fn garbage_neither_breaks_nor_ends_it_twice() {
    for seed in 0..1_500 {
        let mut rng = Rng(seed);
        let scenario = Scenario::new(Kind::ALL[rng.below(Kind::ALL.len() as u64) as usize], &mut rng);
        let limits = Limits { silent_ms: 500, slow_min_ms: 10, slow_after_done: 1, ..scenario.limits };
        let mut state = State::new(&scenario.graph, limits).unwrap();
        let (mut now, mut ends) = (0, 0);
        for _ in 0..150 {
            // Clocks may stand still or step back.
            now = (now + rng.below(200)).saturating_sub(50);
            let over = state.is_over();
            let actions = decide(&mut state, event(&mut rng, &scenario), now);
            assert!(!over || actions.is_empty(), "seed {seed}: {actions:?} after the end");
            for action in &actions {
                match action {
                    Action::Finish { .. } => ends += 1,
                    Action::Resolve { .. }
                    | Action::Launch { .. }
                    | Action::Cancel { .. }
                    | Action::Release { .. }
                    | Action::WakeAt(_) => assert_eq!(ends, 0, "seed {seed}: {action:?} after the end"),
                }
            }
            check_books(&state);
            let _ = state.progress();
        }
        assert!(ends <= 1, "seed {seed} ended {ends} times");
    }
}
