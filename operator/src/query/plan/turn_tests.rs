//! What `plan` decides for a query that waits for its turn, and for one whose spec or image changes meanwhile.

use floe_api::report::{Category, RunPhase};
use floe_api::{Phase, Reason};

use super::COORDINATOR_READY;
use super::draft::condition;
use super::world::World;
use crate::query::facts::{PodState, Stuck, Turn, Waiting};

fn waiting(ahead: u32, give_back: bool) -> Turn {
    Turn::Waiting(Waiting {
        ahead,
        words: "exceeded quota: small, requested: pods=1".into(),
        give_back,
        is_never: false,
        for_nodes: false,
    })
}

#[test]
fn a_query_that_waits_for_a_quota_makes_nothing_and_tells_its_place() {
    let mut world = World::new();
    world.turn = waiting(2, false);
    let plan = world.reconcile();
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    assert_eq!(
        (world.phase(), world.reason().as_str(), world.status().ahead),
        (Some(Phase::Starting), "Quota", Some(2))
    );
    let message = world.status().message.unwrap();
    for part in ["exceeded quota: small", "2 queries of the namespace", "free the quota"] {
        assert!(message.contains(part), "{message} must say {part}");
    }
    world.turn = waiting(0, false);
    let plan = world.reconcile();
    assert!(world.status().message.unwrap().contains("is the next"));
    assert!(
        plan.requeue.is_some_and(|after| after.as_millis() <= 1000),
        "room is taken up at once: {:?}",
        plan.requeue
    );
    world.turn = Turn::Mine;
    world.start_up();
    assert_eq!((world.status().ahead, world.status().attempt), (None, Some(1)));
}

#[test]
fn pods_that_wait_in_vain_are_given_back_and_the_query_begins_again_in_its_turn() {
    for polite in [true, false] {
        let mut world = World::new();
        world.query.spec.backoff_limit = 0;
        world.polite = polite;
        world.reconcile();
        // Its workers are refused; it keeps its coordinator for a while.
        world.turn = waiting(1, false);
        world.tick();
        let plan = world.reconcile();
        assert!(plan.actions.is_empty() && world.pods.len() == 1, "{:?}", plan.actions);
        world.turn = waiting(1, true);
        world.run_until("its pods are gone", |w| w.pods.is_empty());
        let status = world.status();
        assert_eq!((status.phase, status.attempt, status.failures), (Some(Phase::Starting), Some(2), Some(0)));
        assert_eq!((status.ahead, status.started_at.is_some()), (Some(1), false));
        world.turn = Turn::Mine;
        world.report = None;
        world.start_up();
        world.say(RunPhase::Succeeded);
        world.settle();
        assert!(world.query.metadata.finalizers.is_none() && world.pods.is_empty());
    }
}

#[test]
fn a_fault_of_the_query_is_told_even_while_its_pods_are_given_back() {
    let mut world = World::new();
    world.run_until("a coordinator runs", |w| w.report.is_some());
    world.turn = waiting(1, true);
    world.reconcile();
    assert_eq!(condition(&world.status(), COORDINATOR_READY).unwrap().reason, "GivenBack");
    world.fail(Category::User, "UnsupportedPlan");
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "BadPlan"));
}

#[test]
fn a_query_at_work_keeps_what_it_has_when_a_lost_worker_has_no_room() {
    let mut world = World::new();
    world.start_up();
    world.turn = waiting(1, true);
    world.pods.remove("q-1-w0-0");
    let plan = world.reconcile();
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Running), "Quota"));
    world.turn = Turn::Mine;
    world.reconcile();
    assert!(world.pods.contains_key("q-1-w0-1"));
}

#[test]
fn sizes_are_those_of_the_attempts_start_and_more_or_fewer_workers_come_at_once() {
    let mut world = World::new();
    world.start_up();
    let pinned = world.status().pinned.unwrap();
    assert_eq!((pinned.image.as_str(), pinned.memory.as_str()), ("runner:1", "2Gi"));
    // The operator is upgraded, and the query continues with what it has.
    world.image = "runner:2";
    let plan = world.reconcile();
    assert!(plan.actions.is_empty() && world.status().pinned == Some(pinned.clone()), "{:?}", plan.actions);
    world.query.spec.compute.workers = Some(3);
    world.query.metadata.generation = Some(2);
    let plan = world.reconcile();
    assert!(plan.notices.is_empty(), "{:?}", plan.notices);
    assert!(world.pods.contains_key("q-1-w2-0"));
    world.query.spec.compute.workers = Some(1);
    world.reconcile();
    let leaving: Vec<_> =
        world.pods.values().filter(|pod| pod.deleting_at.is_some()).map(|pod| pod.name.clone()).collect();
    assert_eq!(leaving, ["q-1-w1-0", "q-1-w2-0"]);
    world.tick();
    world.reconcile();
    assert_eq!(world.status().workers.unwrap().summary.as_deref(), Some("1/1"));
    // A change that the CRD's rules cannot reject: it is reported, and applies to the next attempt.
    world.query.spec.compute.annotations.insert("a".into(), "b".into());
    world.query.metadata.generation = Some(3);
    let plan = world.reconcile();
    assert_eq!(plan.notices.iter().map(|notice| notice.reason).collect::<Vec<_>>(), [Reason::Changed]);
    assert_eq!((world.phase(), world.status().attempt), (Some(Phase::Running), Some(1)));
    assert!(world.reconcile().notices.is_empty(), "it is told once");
}

#[test]
fn a_query_that_has_not_started_begins_again_with_what_is_changed() {
    let mut world = World::new();
    world.run_until("the workers", |w| w.pods.len() == 3);
    let stuck = Stuck { reason: Reason::Unschedulable, words: "0/3 nodes are available".into(), fatal: false };
    world.pods.get_mut("q-1-w0-0").unwrap().state = PodState::Waiting(Some(stuck));
    world.reconcile();
    assert_eq!(world.reason(), "Unschedulable");
    world.query.spec.compute.cpus = "100m".into();
    world.query.metadata.generation = Some(2);
    world.start_up();
    let status = world.status();
    assert_eq!((status.attempt, status.failures, status.pinned.unwrap().cpus.as_str()), (Some(2), Some(0), "100m"));
}
