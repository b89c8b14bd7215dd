//! The scheduler's own books, counted again: every sum and set that it keeps up to date step by step must be what a
//! fresh count gives.

use std::collections::BTreeSet;

use crate::State;
use crate::state::{Phase, TaskState, WorkerStatus, task_id};
use floe_wire::catalog::Catalog;
use floe_wire::graph::TaskId;

pub fn check_books(state: &State) {
    match state.phase {
        Phase::Running => {}
        Phase::Failing { .. } | Phase::Over => return,
    }
    let (mut ready, mut ready_alone, mut running) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut sleeping = BTreeSet::new();
    let mut on_workers = vec![(0, false); state.workers.len()];
    for (at, stage) in state.stages.iter().enumerate() {
        let (mut available, mut blocked, mut open) = (0, 0, 0);
        for (number, task) in stage.tasks.iter().enumerate() {
            let id = task_id(at, number);
            let missing_now = task.inputs.iter().filter(|input| !there(state, **input)).count();
            match &task.state {
                TaskState::Pending { missing } => {
                    open += 1;
                    assert_eq!(*missing, missing_now, "inputs of {id:?}");
                    if *missing > 0 {
                        blocked += 1;
                    } else if task.alone {
                        ready_alone.insert(id);
                    } else {
                        ready.insert(id);
                    }
                }
                TaskState::Backoff { until } => {
                    open += 1;
                    assert!(*until > state.now, "{id:?} sleeps too long");
                    sleeping.insert((*until, id));
                }
                TaskState::Running(attempts) => {
                    open += 1;
                    running.insert(id);
                    assert!((1..=2).contains(&attempts.len()), "{id:?} has {} attempts", attempts.len());
                    for attempt in attempts {
                        on_workers[attempt.worker].0 += 1;
                        on_workers[attempt.worker].1 |= attempt.alone;
                    }
                }
                TaskState::Done(_) => available += 1,
                TaskState::Gone => assert!(task.counted, "{id:?} was never done and is not to be"),
            }
        }
        assert_eq!((stage.available, stage.blocked, stage.open), (available, blocked, open), "books of stage {at}");
        assert!(stage.durations.is_sorted());
    }
    assert_eq!((&state.ready, &state.ready_alone), (&ready, &ready_alone));
    assert_eq!((&state.running, &state.sleeping), (&running, &sleeping));
    for (worker, (running, alone)) in state.workers.iter().zip(on_workers) {
        assert_eq!((worker.running, worker.alone), (running, alone), "books of {}", worker.name);
        assert!(worker.status != WorkerStatus::Lost || running == 0);
    }
}

fn there(state: &State, id: TaskId) -> bool {
    state.output(id).is_some()
}
