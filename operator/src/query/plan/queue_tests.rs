//! What `plan` decides for a query that stands in a queue of Kueue.

use floe_api::report::RunPhase;
use floe_api::{Phase, Reason};

use super::COORDINATOR_READY;
use super::draft::condition;
use super::world::World;
use crate::kueue::{Grant, Standing, Step};
use crate::shares::Share;

fn admitted(workers: u32) -> Standing {
    Standing::Admitted(Grant { cluster_queue: "shared".into(), workers, ..Grant::default() })
}

fn waiting(is_stale: bool) -> Standing {
    Standing::Waiting { words: "couldn't assign flavors: insufficient unused quota".into(), is_stale }
}

fn evicted() -> Standing {
    Standing::Evicted { reason: "Preempted".into(), words: "Preempted to accommodate another".into() }
}

fn running(workers: u32) -> World {
    let mut world = World::new();
    world.standing = admitted(workers);
    world.start_up();
    world
}

#[test]
fn nothing_is_made_before_the_workload_is_admitted() {
    let mut world = World::new();
    world.query.spec.starting_deadline_seconds = Some(60);
    world.standing = Standing::Missing;
    world.reconcile();
    assert_eq!(world.told, [Step::Enter]);
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Pending), "WaitingForAdmission"));
    world.standing = waiting(false);
    for _ in 0..10 {
        let plan = world.reconcile();
        assert!(plan.actions.is_empty(), "{:?}", plan.actions);
        world.now += jiff::SignedDuration::from_secs(30);
    }
    let message = world.status().message.unwrap();
    assert!(
        message.contains("insufficient unused quota") && message.contains("kubectl describe workload"),
        "{message}"
    );
    world.standing = admitted(2);
    // Its starting deadline counts from here.
    world.start_up();
    assert_eq!(world.notices.iter().filter(|notice| notice.reason == Reason::Admitted).count(), 1);
    assert_eq!(world.told, [Step::Enter, Step::Ready], "Kueue learns that the pods run");
    assert_eq!((world.status().attempt, world.status().failures), (Some(1), Some(0)));
}

#[test]
fn a_spec_that_cannot_run_takes_no_place() {
    let mut world = World::new();
    world.query.spec.compute.workers = Some(0);
    world.standing = Standing::Missing;
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "BadSpec"));
    assert!(world.told.is_empty(), "{:?}", world.told);
}

#[test]
fn an_evicted_query_gives_its_pods_back_and_runs_again_when_it_is_admitted() {
    for polite in [true, false] {
        let mut world = running(2);
        world.query.spec.backoff_limit = 0;
        world.polite = polite;
        world.told.clear();
        world.standing = evicted();
        world.reconcile();
        assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Pending), "Preempted"));
        assert!(world.pods.values().all(|pod| pod.deleting_at.is_some()), "all of its pods go");
        assert!(world.told.is_empty(), "the place is not given up while pods use it");
        world.run_until("its pods are gone", |w| w.pods.is_empty());
        world.run_until("the place is given up", |w| w.told.contains(&Step::GiveUp));
        let status = world.status();
        assert_eq!((status.attempt, status.failures, status.started_at), (Some(2), Some(0), None));
        assert_eq!(world.notices.iter().filter(|notice| notice.reason == Reason::Preempted).count(), 1);
        world.standing = waiting(false);
        world.reconcile();
        assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Pending), "WaitingForAdmission"));
        world.standing = admitted(2);
        world.report = None;
        world.start_up();
        world.say(RunPhase::Succeeded);
        world.settle();
        assert_eq!(world.phase(), Some(Phase::Succeeded));
        assert!(matches!(world.told.last(), Some(Step::Finish { is_success: true, .. })), "{:?}", world.told);
        assert!(world.query.metadata.finalizers.is_none() && world.pods.is_empty());
    }
}

#[test]
fn a_result_that_was_reached_counts_even_if_the_place_is_lost() {
    let mut world = running(2);
    world.standing = evicted();
    world.say(RunPhase::Succeeded);
    world.reconcile();
    assert_eq!(world.phase(), Some(Phase::Succeeded));
    world.run_until("Kueue knows", |w| matches!(w.told.last(), Some(Step::Finish { is_success: true, .. })));
    assert!(world.pods.is_empty());
}

#[test]
fn a_kept_result_holds_the_coordinators_share_only_and_goes_when_kueue_wants_it() {
    let mut world = running(2);
    world.query.spec.sink = None;
    world.say(RunPhase::Succeeded);
    world.run_until("the workers are gone", |w| w.told.last() == Some(&Step::Reclaim));
    assert_eq!(world.pods.len(), 1, "the coordinator keeps the result");
    world.standing = Standing::Admitted(Grant { workers: 2, is_reclaimed: true, ..Grant::default() });
    world.told.clear();
    world.reconcile();
    assert!(world.told.is_empty(), "{:?}", world.told);
    world.standing = evicted();
    world.run_until("Kueue knows", |w| matches!(w.told.last(), Some(Step::Finish { is_success: true, .. })));
    assert!(world.pods.is_empty());
    world.standing = Standing::Finished;
    world.settle();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Succeeded), "ResultExpired"));
}

#[test]
fn it_has_no_more_workers_than_were_granted() {
    let mut world = World::new();
    world.query.spec.compute.workers = None;
    world.query.spec.compute.min_workers = Some(1);
    world.query.spec.compute.max_workers = Some(4);
    world.standing = admitted(2);
    let seen = world.observed(false);
    assert_eq!((seen.query.spec.compute.workers_to_start(), seen.query.spec.compute.worker_count()), (1, 2));
    let mut world = running(2);
    world.query.spec.compute.workers = Some(5);
    world.reconcile();
    assert_eq!(world.pods.len(), 3, "two workers and the coordinator");
}

#[test]
fn a_changed_query_asks_anew_before_it_has_pods_and_keeps_its_place_afterwards() {
    let mut world = World::new();
    world.standing = waiting(true);
    world.reconcile();
    assert_eq!(world.told, [Step::Leave]);
    world.standing = Standing::Leaving;
    let plan = world.reconcile();
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    let mut world = running(2);
    world.told.clear();
    world.standing = Standing::Admitted(Grant { workers: 2, is_stale: true, is_ready: true, ..Grant::default() });
    let plan = world.reconcile();
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    assert_eq!(world.phase(), Some(Phase::Running));
}

#[test]
fn a_held_query_leaves_the_queue_and_enters_it_again() {
    let mut world = running(2);
    world.query.spec.suspend = true;
    world.run_until("it is held", |w| w.phase() == Some(Phase::Suspended));
    assert_eq!(world.told.last(), Some(&Step::Leave));
    world.standing = Standing::Missing;
    world.told.clear();
    world.reconcile();
    assert!(world.told.is_empty(), "{:?}", world.told);
    world.query.spec.suspend = false;
    world.run_until("it asks again", |w| w.told.contains(&Step::Enter));
    world.query.spec.cancel = true;
    world.standing = waiting(false);
    world.run_until("Kueue knows", |w| matches!(w.told.last(), Some(Step::Finish { is_success: false, .. })));
    assert_eq!(world.phase(), Some(Phase::Cancelled));
}

#[test]
fn an_operator_that_knows_no_more_stops_nothing_and_starts_nothing() {
    for standing in [Standing::NotYet, Standing::Off] {
        let mut world = running(2);
        world.standing = standing.clone();
        let plan = world.reconcile();
        assert!(plan.actions.is_empty(), "{:?}", plan.actions);
        assert_eq!(world.phase(), Some(Phase::Running));
        let mut world = World::new();
        world.standing = standing;
        let plan = world.reconcile();
        assert!(plan.actions.is_empty() && world.phase() == Some(Phase::Pending), "{:?}", plan.actions);
    }
    let mut world = World::new();
    world.standing = Standing::Off;
    world.reconcile();
    assert!(world.status().message.unwrap().contains("set kueue.enabled"));
    assert_eq!(condition(&world.status(), COORDINATOR_READY).unwrap().reason, "NotQueued");
}

#[test]
fn a_query_on_a_context_has_no_place_in_a_queue() {
    let mut world = World::borrowing();
    world.standing = Standing::Missing;
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "BadSpec"));
    assert!(world.told.is_empty());
}

#[test]
fn a_query_without_a_share_makes_nothing_and_keeps_what_it_has() {
    let mut world = World::new();
    world.query.spec.starting_deadline_seconds = Some(60);
    world.share = Share::Waiting { ahead: 2, words: "at work: 4 of 4 queries".into() };
    for _ in 0..5 {
        let plan = world.reconcile();
        assert!(plan.actions.is_empty(), "{:?}", plan.actions);
        world.now += jiff::SignedDuration::from_secs(30);
    }
    let status = world.status();
    assert_eq!(
        (status.phase, status.ahead, world.reason().as_str()),
        (Some(Phase::Pending), Some(2), "WaitingForShare")
    );
    assert!(status.message.unwrap().contains("4 of 4 queries; 2 queries of the namespace come first"));
    world.share = Share::Held { workers: 2 };
    world.start_up();
    assert_eq!(world.status().ahead, None);
    // An operator that has just come up, and one whose limits were lowered.
    for share in [Share::NotYet, Share::Waiting { ahead: 0, words: "at work: 9 of 4 queries".into() }] {
        world.share = share;
        let plan = world.reconcile();
        assert!(plan.actions.is_empty() && world.phase() == Some(Phase::Running), "{:?}", plan.actions);
    }
    world.share = Share::Held { workers: 2 };
    world.query.spec.compute.workers = Some(9);
    world.reconcile();
    assert_eq!(world.pods.len(), 3, "no more workers than its share has");
}
