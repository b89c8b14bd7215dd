//! What a query does that waits for others.

use floe_api::{AfterCondition, Phase};
use jiff::SignedDuration;

use super::world::World;
use crate::query::facts::{Before, State};

fn before(query: &str, state: State) -> Before {
    Before { query: query.into(), condition: AfterCondition::Succeeded, state }
}

fn ended(phase: Phase) -> State {
    State::Ended { phase, reason: if phase == Phase::Failed { "OutOfMemory".into() } else { "Completed".into() } }
}

#[test]
fn nothing_is_made_before_the_others_have_ended() {
    let mut world = World::new();
    world.query.spec.starting_deadline_seconds = Some(60);
    world.before = vec![before("a", State::Going), before("b", State::Missing), before("c", ended(Phase::Succeeded))];
    for _ in 0..20 {
        let plan = world.reconcile();
        assert!(plan.actions.is_empty(), "{:?}", plan.actions);
        world.now += SignedDuration::from_secs(30);
    }
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Pending), "WaitingForQuery"));
    let message = world.status().message.unwrap();
    assert!(message.contains("the query a has not ended; there is no query b yet"), "{message}");
    assert!(!message.contains("query c"), "{message}");
    world.before = vec![before("a", ended(Phase::Succeeded)), before("b", ended(Phase::Succeeded))];
    // Its starting deadline counts from here.
    world.start_up();
    assert_eq!(world.phase(), Some(Phase::Running));
    // What becomes of the others later does not matter.
    world.before = vec![before("a", State::Missing)];
    world.reconcile();
    assert_eq!(world.phase(), Some(Phase::Running));
}

#[test]
fn it_fails_when_another_did_not_end_as_it_has_to() {
    for (state, words) in [
        (ended(Phase::Failed), "the query a failed (OutOfMemory)"),
        (ended(Phase::Cancelled), "the query a was cancelled"),
        (
            State::Circle(vec!["q".into(), "a".into(), "q".into()]),
            "these queries wait for each other: q after a after q",
        ),
    ] {
        let mut world = World::new();
        world.before = vec![before("b", State::Going), before("a", state)];
        world.reconcile();
        assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "QueryBeforeFailed"), "{words}");
        assert!(world.status().message.unwrap().contains(words), "{words}");
        world.settle();
        assert!(world.pods.is_empty() && !world.shared);
    }
    let mut world = World::new();
    world.before = vec![Before { condition: AfterCondition::Ended, ..before("a", ended(Phase::Failed)) }];
    world.start_up();
    assert_eq!(world.phase(), Some(Phase::Running));
}

#[test]
fn one_that_waits_can_be_cancelled_and_held() {
    let mut world = World::new();
    world.before = vec![before("a", State::Going)];
    world.reconcile();
    world.query.spec.suspend = true;
    world.run_until("it is held", |world| world.phase() == Some(Phase::Suspended));
    world.query.spec.suspend = false;
    world.run_until("it waits again", |world| world.phase() == Some(Phase::Pending));
    assert_eq!(world.reason(), "WaitingForQuery");
    world.query.spec.cancel = true;
    world.run_until("it is cancelled", |world| world.phase() == Some(Phase::Cancelled));
    assert!(world.pods.is_empty());
}

#[test]
fn nothing_is_said_before_the_others_are_known() {
    let mut world = World::new();
    world.before = vec![before("a", State::NotYet)];
    let plan = world.reconcile();
    assert!(plan.actions.is_empty() && plan.requeue.is_some());
    assert_ne!(world.reason(), "WaitingForQuery");
}
