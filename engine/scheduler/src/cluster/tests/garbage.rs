//! Any event in any state: demands that fit nothing, queries and workers that do not exist.

use super::fair::check_books;
use crate::cluster::{Claim, ClusterState, Demand, Event, Group, Limits, Request, Running, decide};
use crate::tests::scenario::Rng;

fn event(rng: &mut Rng) -> Event {
    let worker = |rng: &mut Rng| format!("w{}", rng.below(5));
    let query = format!("q{}", rng.below(8));
    match rng.below(12) {
        0 | 1 => Event::WorkerUp { worker: worker(rng), slots: rng.below(4) as u32, memory_bytes: rng.below(3) * 1000 },
        2 => Event::WorkerDraining { worker: worker(rng) },
        3 => Event::WorkerLost { worker: worker(rng) },
        4 => Event::Left { query },
        5 | 6 => {
            let claim = Claim {
                priority: rng.below(3) as i32 - 1,
                weight: rng.below(4) as u32,
                group: rng.chance(50).then(|| Group { id: rng.below(3), weight: rng.below(3) as u32 }),
                task_memory_bytes: rng.below(3) * 700,
                job_bytes: rng.below(100),
            };
            Event::Arrived { query, claim }
        }
        _ => {
            let some = |rng: &mut Rng| rng.chance(40).then(|| worker(rng));
            let running = (0..rng.below(3))
                .map(|_| Running { worker: worker(rng), tasks: rng.below(3) as u32, alone: rng.chance(20) })
                .collect();
            let requests = (0..rng.below(4))
                .map(|_| Request { near: some(rng), avoid: some(rng), tasks: rng.below(4) as u32 })
                .collect();
            let slow = (0..rng.below(3)).map(|_| worker(rng)).collect();
            Event::Demand { query, demand: Demand { running, requests, alone: rng.below(3) as u32, slow } }
        }
    }
}

#[test]
fn garbage_does_not_break_the_books() {
    for seed in 0..1_000 {
        let mut rng = Rng(seed);
        let limits = Limits { max_running: 3, max_waiting: 2, max_waiting_bytes: 150, patience_ms: 500 };
        let mut state = ClusterState::new(limits);
        let mut now = 0;
        for _ in 0..200 {
            // Clocks may stand still or step back.
            now = (now + rng.below(200)).saturating_sub(50);
            let event = event(&mut rng);
            let _ = decide(&mut state, event, now);
            let _ = (state.counts(), state.ahead("q0"));
            // Queries may report more tasks than there are slots, so only the sums must hold.
            check_sums(&state);
        }
    }
}

fn check_sums(state: &ClusterState) {
    let mut fair = state.clone();
    for worker in &mut fair.workers {
        worker.slots = worker.slots.max(worker.used);
    }
    if fair.workers.iter().zip(&state.workers).all(|(a, b)| a.slots == b.slots) {
        check_books(state);
    }
}
