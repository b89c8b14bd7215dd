//! What `plan` decides when a query ends, is stopped or deleted: what is kept for how long, and what is removed.

use floe_api::report::{Category, RunPhase};
use floe_api::{Phase, Reason, ResultHolder, TtlSpec};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Action;
use super::world::World;
use crate::query::facts::{PodState, Stuck};

#[test]
fn cancel_ends_when_the_pods_are_gone() {
    for polite in [true, false] {
        let mut world = World::new();
        world.polite = polite;
        world.start_up();
        world.query.spec.cancel = true;
        world.reconcile();
        assert_eq!(world.phase(), Some(Phase::Running), "the pods are still there");
        world.run_until("Cancelled", |w| w.phase() == Some(Phase::Cancelled));
        assert!(world.pods.values().all(|pod| pod.is_ended()));
        world.settle();
        assert!(world.pods.is_empty() && !world.shared && world.query.metadata.finalizers.is_none());
    }
    let mut world = World::new();
    world.query.spec.cancel = true;
    world.reconcile();
    assert_eq!(world.phase(), Some(Phase::Cancelled), "a query that never began");
}

#[test]
fn a_coordinator_that_may_have_run_unseen_is_cleaned_up_after() {
    for on_a_node in [true, false] {
        let mut world = World::new();
        world.reconcile();
        world.coordinator().unwrap().node = on_a_node.then(|| "node".to_owned());
        world.query.spec.cancel = true;
        world.reconcile();
        assert_eq!(world.query.metadata.finalizers.is_some(), on_a_node);
        let mut cleaned = false;
        for _ in 0..20 {
            world.tick();
            world.reconcile();
            cleaned |= world.pods.contains_key("q-clean");
        }
        assert_eq!((world.phase(), cleaned), (Some(Phase::Cancelled), on_a_node));
        assert!(world.pods.is_empty() && world.query.metadata.finalizers.is_none());
    }
}

#[test]
fn a_commit_that_won_the_race_against_cancel_is_a_success() {
    let mut world = World::new();
    world.start_up();
    world.query.spec.cancel = true;
    world.say(RunPhase::Succeeded);
    world.reconcile();
    assert_eq!(world.phase(), Some(Phase::Succeeded));
}

#[test]
fn suspend_frees_the_pods_and_resume_is_a_new_attempt_that_counts_for_nothing() {
    let mut world = World::new();
    world.start_up();
    world.query.spec.suspend = true;
    world.run_until("Suspended", |w| w.phase() == Some(Phase::Suspended) && w.pods.is_empty());
    assert!(world.query.metadata.finalizers.is_none(), "the coordinator left its word");
    world.query.spec.suspend = false;
    world.report = None;
    world.start_up();
    assert_eq!((world.status().attempt, world.status().failures), (Some(2), Some(0)));
}

#[test]
fn a_coordinator_that_is_deleted_from_outside_is_no_cancellation_and_no_worker() {
    let mut world = World::new();
    world.start_up();
    let now = world.now;
    world.coordinator().unwrap().deleting_at = Some(now);
    world.tick();
    let plan = world.reconcile();
    assert_eq!((world.status().attempt, world.status().failures), (Some(2), Some(1)));
    let told: Vec<_> = plan.notices.iter().map(|notice| (notice.reason, notice.note.as_str())).collect();
    assert!(matches!(told[..], [(Reason::PodDeleted, note)] if note.contains("was deleted")), "{told:?}");
}

#[test]
fn a_client_may_cancel_at_the_coordinator() {
    let mut world = World::new();
    world.start_up();
    world.end_coordinator(Some(super::world::cancelled()));
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Cancelled), "Cancelled"));
}

#[test]
fn deletion_waits_for_the_last_word_or_cleans() {
    for polite in [true, false] {
        let mut world = World::new();
        world.polite = polite;
        world.start_up();
        world.query.metadata.deletion_timestamp = Some(Time(world.now));
        let mut cleaned = false;
        for _ in 0..60 {
            world.reconcile();
            cleaned |= world.pods.contains_key("q-clean");
            if world.is_gone {
                break;
            }
            world.tick();
        }
        assert!(world.is_gone && cleaned != polite, "polite: {polite}, cleaned: {cleaned}");
    }
}

#[test]
fn a_cleaning_pod_that_can_never_start_is_not_waited_for() {
    let mut world = World::new();
    world.polite = false;
    world.start_up();
    world.query.metadata.deletion_timestamp = Some(Time(world.now));
    world.run_until("the cleaning pod", |w| w.pods.contains_key("q-clean"));
    let stuck = Stuck { reason: Reason::ImagePull, words: "InvalidImageName".into(), fatal: true };
    world.pods.get_mut("q-clean").unwrap().state = PodState::Waiting(Some(stuck));
    let plan = world.reconcile();
    let told = plan.notices.iter().find(|n| n.reason == Reason::CleanFailed).expect("a notice");
    assert!(told.note.contains("cannot start: InvalidImageName"), "{}", told.note);
    world.settle();
    assert!(world.is_gone);
}

#[test]
fn cleaning_is_bounded() {
    let mut world = World::new();
    world.polite = false;
    world.start_up();
    world.query.metadata.deletion_timestamp = Some(Time(world.now));
    for second in 0..400 {
        let plan = world.reconcile();
        if world.is_gone {
            assert!(second > 100 && plan.notices.iter().any(|n| n.reason == Reason::CleanFailed));
            return;
        }
        world.tick();
        if let Some(pod) = world.pods.get_mut("q-clean") {
            pod.state = PodState::Waiting(None);
        }
    }
    panic!("the finalizer stayed");
}

#[test]
fn a_result_without_a_sink_stays_for_its_time() {
    let mut world = World::new();
    world.query.spec.sink = None;
    world.start_up();
    world.say(RunPhase::Succeeded);
    world.reconcile();
    world.reconcile();
    for name in ["q-1-w0-0", "q-1-w1-0"] {
        assert!(world.pods[name].deleting_at.is_some(), "{name} is kept without need");
    }
    for _ in 0..30 {
        world.reconcile();
        world.tick();
    }
    assert!(world.pods.len() == 1 && world.pods.contains_key("q-1-c") && world.shared);
    assert_eq!(world.query.metadata.finalizers, None);
    let status = world.status();
    assert_eq!(status.result_with, Some(ResultHolder::Coordinator));
    assert_eq!(status.workers.as_ref().unwrap().summary.as_deref(), Some("2"), "not 0/2");
    let open: Vec<_> = status.conditions.iter().filter(|c| c.status != "True").collect();
    assert!(open.is_empty(), "nothing of a query that succeeded looks like a failure: {open:?}");
    world.now += SignedDuration::from_secs(600);
    world.settle();
    assert!(world.pods.is_empty() && !world.shared);
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Succeeded), "ResultExpired"));
}

#[test]
fn workers_stay_with_a_result_that_only_they_hold() {
    let mut world = World::new();
    world.brings = false;
    world.query.spec.sink = None;
    world.start_up();
    world.say(RunPhase::Succeeded);
    for _ in 0..30 {
        world.reconcile();
        world.tick();
    }
    assert_eq!((world.pods.len(), world.status().result_with), (3, Some(ResultHolder::Workers)));
    world.now += SignedDuration::from_secs(600);
    world.settle();
    assert!(world.pods.is_empty() && world.status().result_with.is_none());
}

#[test]
fn failed_pods_stay_for_their_logs_but_do_not_work() {
    let mut world = World::new();
    world.query.spec.keep_failed_pods_seconds = Some(300);
    world.start_up();
    world.fail(Category::User, "ComputeError");
    world.reconcile();
    let plan = world.reconcile();
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Dismiss { .. })), "{:?}", plan.actions);
    assert!(!plan.actions.iter().any(|a| matches!(a, Action::DeletePod { .. })));
    world.now += SignedDuration::from_secs(301);
    world.settle();
    assert!(world.pods.is_empty());
}

#[test]
fn workers_that_a_failed_query_never_had_do_not_stay_to_wait_for_it() {
    let mut world = World::new();
    world.query.spec.keep_failed_pods_seconds = Some(300);
    world.run_until("workers run", |w| w.pods.values().filter(|pod| pod.is_running()).count() == 3);
    // Planning needs no worker.
    world.fail(Category::User, "ColumnNotFoundError");
    world.report.as_mut().unwrap().workers = vec!["q-1-w0-0".into()];
    world.reconcile();
    let plan = world.reconcile();
    let deleted: Vec<&str> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::DeletePod { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, ["q-1-w1-0"], "only the other one hears from its coordinator that it may end");
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Dismiss { .. })), "{:?}", plan.actions);
}

#[test]
fn the_query_goes_after_its_ttl() {
    let mut world = World::new();
    world.query.spec.ttl_seconds_after_finished = Some(TtlSpec { succeeded: Some(60), failed: None });
    world.start_up();
    world.say(RunPhase::Succeeded);
    world.settle();
    assert!(!world.is_gone);
    world.now += SignedDuration::from_secs(61);
    world.reconcile();
    assert!(world.is_gone);
}

#[test]
fn a_managed_query_is_left_alone() {
    let mut world = World::new();
    world.query.spec.managed_by = Some("kueue.x-k8s.io/multikueue".into());
    let plan = world.reconcile();
    assert!(plan.actions.is_empty() && plan.status == Default::default() && plan.requeue.is_none());
}

/// A query may have come under another manager before the CRD rejected that, or from a restored backup.
#[test]
fn the_deletion_of_a_managed_query_with_floes_finalizer_is_served() {
    for polite in [true, false] {
        let mut world = World::new();
        world.polite = polite;
        world.start_up();
        world.query.spec.managed_by = Some("kueue.x-k8s.io/multikueue".into());
        world.query.metadata.deletion_timestamp = Some(Time(world.now));
        world.run_until("the end of its deletion", |w| w.is_gone);
    }
    // Without the finalizer nothing of it is Floe's to delete.
    let mut world = World::new();
    world.query.spec.managed_by = Some("kueue.x-k8s.io/multikueue".into());
    world.query.metadata.deletion_timestamp = Some(Time(world.now));
    assert!(world.reconcile().actions.is_empty());
}
