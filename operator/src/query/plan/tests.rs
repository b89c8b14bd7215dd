//! What `plan` decides from a query's start to its end, case by case.

use floe_api::report::{Category, RunPhase};
use floe_api::{Phase, Reason};
use jiff::SignedDuration;

use super::world::World;
use super::{Action, CLEANED_UP, PLANNED, SUCCEEDED, WORKERS_READY, draft::condition};
use crate::query::facts::{Ending, Loss, Missing, PodState, Stuck, Trouble};
use crate::query::names::{FINALIZER, Place};

fn truth(world: &World, kind: &str) -> String {
    condition(&world.status(), kind).map(|c| c.status.clone()).unwrap_or_default()
}

#[test]
fn a_query_is_made_at_once_runs_and_leaves_nothing() {
    let mut world = World::new();
    let first = world.reconcile();
    let made =
        |actions: &[Action]| actions.iter().filter(|a| matches!(a, Action::CreatePod(_))).cloned().collect::<Vec<_>>();
    assert_eq!(
        made(&first.actions),
        [Action::CreatePod(Place::Coordinator { attempt: 1 })],
        "the coordinator is first"
    );
    assert!(made(&world.reconcile().actions).is_empty(), "no workers before it runs");
    assert!(first.actions.contains(&Action::AddFinalizer));
    assert_eq!(world.phase(), Some(Phase::Starting));
    world.start_up();
    assert_eq!((truth(&world, PLANNED), truth(&world, WORKERS_READY)), ("True".into(), "True".into()));
    assert_eq!(world.status().workers.unwrap().summary.as_deref(), Some("2/2"));
    world.say(RunPhase::Committing);
    world.run_until("Committing", |w| w.phase() == Some(Phase::Committing));
    world.say(RunPhase::Succeeded);
    world.reconcile();
    let status = world.status();
    assert_eq!(
        (status.phase, status.rows, status.result_uri.as_deref()),
        (Some(Phase::Succeeded), Some(7), Some("s3://b/out/"))
    );
    assert_eq!((status.progress.as_deref(), truth(&world, SUCCEEDED).as_str()), (Some("100%"), "True"));
    let since = |from: jiff::Timestamp, to: jiff::Timestamp| format!("{}s", to.duration_since(from).as_secs());
    let created = world.query.metadata.creation_timestamp.as_ref().unwrap().0;
    let (began, ended) = (status.started_at.as_ref().unwrap().0, status.finished_at.as_ref().unwrap().0);
    assert!(created < began && began < ended, "{created} {began} {ended}");
    assert_eq!(status.waited, Some(since(created, began)), "from its creation to its start");
    assert_eq!(status.duration, Some(since(created, ended)), "from its creation to its end");
    world.settle();
    assert!(world.pods.is_empty() && !world.shared && world.query.metadata.finalizers.is_none());
    assert_eq!(truth(&world, CLEANED_UP), "True");
}

#[test]
fn pods_that_are_placed_together_are_made_at_once() {
    use crate::gang::Gang;
    for gang in [Gang::Volcano, Gang::Yunikorn] {
        let mut world = World::new();
        world.gang = Some(gang);
        world.reconcile();
        let second = world.reconcile();
        let workers = |actions: &[Action]| {
            actions.iter().filter(|a| matches!(a, Action::CreatePod(Place::Worker { .. }))).count()
        };
        assert_eq!(workers(&second.actions), 2, "the coordinator is not placed without them: {:?}", second.actions);
        let coordinator = world.pods["q-1-c"].uid.clone();
        assert_eq!(world.group.take(), (gang == Gang::Volcano).then_some(coordinator));
        world.start_up();
        // One that takes a lost one's place needs no other group.
        world.end("q-1-w0-0", Ending { exit_code: Some(137), ..Ending::default() });
        world.group = None;
        world.reconcile();
        assert!(world.pods.contains_key("q-1-w0-1") && world.group.is_none());
    }
}

#[test]
fn a_query_that_fails_before_it_was_seen_at_work_was_planned_all_the_same() {
    let mut world = World::new();
    world.run_until("a coordinator runs", |world| world.pods.values().any(|pod| pod.is_running()));
    world.say(RunPhase::Planning);
    world.fail(Category::User, "ComputeError");
    world.reconcile();
    assert_eq!((world.phase(), world.status().reason.as_deref()), (Some(Phase::Failed), Some("QueryFailed")));
}

#[test]
fn faults_of_the_query_fail_it_at_once() {
    for (category, class, reason) in [
        (Category::User, "UnsupportedPlan", "BadPlan"),
        (Category::User, "FileNotFoundError", "MissingData"),
        (Category::User, "PermissionError", "AccessDenied"),
        (Category::User, "ComputeError", "QueryFailed"),
        (Category::Io, "IOError", "StorageFailed"),
        (Category::OutOfMemory, "OutOfMemory", "OutOfMemory"),
        (Category::Deadline, "DeadlineExceeded", "Deadline"),
    ] {
        let mut world = World::new();
        world.start_up();
        world.fail(category, class);
        world.reconcile();
        assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), reason), "{class}");
        let message = world.status().message.unwrap();
        assert!(message.contains("the words"), "{class}");
        assert_eq!(message.contains("limit is 2Gi"), reason == "OutOfMemory", "{message}");
        world.settle();
        assert!(world.pods.is_empty() && world.query.metadata.finalizers.is_none());
    }
}

#[test]
fn faults_of_the_infrastructure_begin_another_attempt_within_the_limit() {
    let mut world = World::new();
    for attempt in 1..=3 {
        world.run_until("the attempt", |w| w.status().attempt == Some(attempt) && w.report.is_some());
        world.fail(Category::Internal, "InternalError");
        world.run_until("the loss", |w| w.status().failures == Some(attempt));
        world.report = None;
    }
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "Internal"));
    world.settle();
    assert!(world.query.metadata.finalizers.is_none());
}

#[test]
fn a_killed_coordinator_is_followed_by_a_new_attempt_and_its_leftovers_are_removed_at_the_end() {
    let mut world = World::new();
    world.start_up();
    world.end_coordinator(None);
    world.reconcile();
    assert_eq!((world.status().attempt, world.phase()), (Some(2), Some(Phase::Starting)));
    assert_eq!(condition(&world.status(), CLEANED_UP).unwrap().reason, "LeftBehind");
    world.start_up();
    world.say(RunPhase::Succeeded);
    world.run_until("the cleaning pod", |w| w.pods.contains_key("q-clean"));
    assert_eq!(world.phase(), Some(Phase::Succeeded));
    assert!(world.query.metadata.finalizers.is_some());
    world.settle();
    assert!(world.query.metadata.finalizers.is_none() && world.pods.is_empty());
}

#[test]
fn a_coordinator_that_runs_out_of_memory_is_named() {
    let mut world = World::new();
    world.query.spec.backoff_limit = 0;
    world.start_up();
    let name = world.coordinator().unwrap().name.clone();
    world.end(&name, Ending { exit_code: Some(137), oom: true, ..Ending::default() });
    world.report = None;
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "CoordinatorOutOfMemory"));
    assert!(world.status().message.unwrap().contains("compute.coordinator.memory"));
}

#[test]
fn a_lost_worker_is_replaced_under_the_next_name_until_the_limit() {
    let mut world = World::new();
    world.start_up();
    for round in 0..3u32 {
        let name = format!("q-1-w1-{round}");
        world.end(&name, Ending { exit_code: Some(137), oom: true, ..Ending::default() });
        world.reconcile();
        if round < 2 {
            assert!(world.pods.contains_key(&format!("q-1-w1-{}", round + 1)), "round {round}");
            assert_eq!(world.phase(), Some(Phase::Running));
            assert_eq!(world.status().workers.unwrap().replaced["1"], round + 1);
        }
        world.tick();
    }
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "OutOfMemory"));
    let message = world.status().message.unwrap();
    for part in ["Worker 1", "q-1-w1-2", "2Gi", "compute.memory"] {
        assert!(message.contains(part), "{message} must name {part}");
    }
}

#[test]
fn deleted_and_evicted_workers_are_replaced_too() {
    let mut world = World::new();
    world.start_up();
    world.pods.remove("q-1-w0-0");
    world.pods.get_mut("q-1-w1-0").unwrap().disruption =
        Some(Loss { reason: Reason::Evicted, words: "was evicted".into() });
    let plan = world.reconcile();
    assert!(world.pods.contains_key("q-1-w0-1") && world.pods.contains_key("q-1-w1-1"));
    let reasons: Vec<Reason> = plan.notices.iter().map(|n| n.reason).collect();
    assert_eq!(reasons, [Reason::PodDeleted, Reason::Evicted]);
}

#[test]
fn a_worker_that_ends_quietly_may_have_heard_of_the_end_first() {
    let mut world = World::new();
    world.start_up();
    let at = Some(world.now);
    world.end("q-1-w0-0", Ending { exit_code: Some(0), at, ..Ending::default() });
    world.reconcile();
    assert!(!world.pods.contains_key("q-1-w0-1"));
    world.now += SignedDuration::from_secs(4);
    world.reconcile();
    assert!(world.pods.contains_key("q-1-w0-1"));
}

#[test]
fn what_holds_a_start_up_is_told_and_heals() {
    for (stuck, reason) in
        [(Reason::Unschedulable, "Unschedulable"), (Reason::ImagePull, "ImagePull"), (Reason::Volume, "Volume")]
    {
        let mut world = World::new();
        world.run_until("the workers", |w| w.pods.len() == 3);
        let words = "0/3 nodes are available".to_owned();
        world.pods.get_mut("q-1-w0-0").unwrap().state =
            PodState::Waiting(Some(Stuck { reason: stuck, words, fatal: false }));
        world.reconcile();
        assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Starting), reason));
        assert!(world.status().message.unwrap().contains("0/3 nodes"));
        world.start_up();
        assert_eq!(world.status().reason, None);
    }
}

#[test]
fn workers_are_ready_when_the_coordinator_says_so() {
    let mut world = World::new();
    world.reconcile();
    world.tick();
    world.report = None;
    world.reconcile();
    for pod in world.pods.values_mut() {
        pod.state = PodState::Running;
    }
    assert!(world.pods.len() == 3 && world.pods.values().all(|pod| pod.is_running()));
    world.reconcile();
    assert_eq!((truth(&world, WORKERS_READY).as_str(), world.phase()), ("False", Some(Phase::Starting)));
    world.start_up();
    // An operator that has just started has no report of the coordinator yet.
    world.report = None;
    world.reconcile();
    assert_eq!((truth(&world, WORKERS_READY).as_str(), world.phase()), ("True", Some(Phase::Running)));
}

#[test]
fn a_pod_that_does_not_answer_is_told_and_heals() {
    let mut world = World::new();
    world.start_up();
    world.silence = Some("pod q-1-w0-0 does not answer at port 7072: connection timed out".into());
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Running), "Unreachable"));
    let message = world.status().message.unwrap();
    assert!(message.contains("q-1-w0-0") && message.contains("NetworkPolicies"), "{message}");
    world.silence = None;
    world.reconcile();
    assert_eq!(world.status().reason, None);
}

#[test]
fn what_cannot_heal_fails_at_once() {
    let mut world = World::new();
    world.reconcile();
    let stuck = Stuck { reason: Reason::ImagePull, words: "InvalidImageName".into(), fatal: true };
    world.pods.get_mut("q-1-c").unwrap().state = PodState::Waiting(Some(stuck));
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "ImagePull"));
    let mut world = World::new();
    world.trouble = Some(Trouble { reason: Reason::BadSpec, message: "Pod q is invalid".into(), fatal: true });
    world.reconcile();
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "BadSpec"));
}

#[test]
fn a_missing_secret_is_told_and_waited_for() {
    let mut world = World::new();
    world.missing.push(Missing { reason: Reason::MissingSecret, message: "there is no Secret s".into() });
    let plan = world.reconcile();
    assert!(plan.actions.is_empty() && plan.requeue.is_some_and(|after| after.as_secs() <= 2));
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Starting), "MissingSecret"));
    world.missing.clear();
    world.start_up();
}

#[test]
fn the_starting_deadline_ends_a_start_that_never_comes() {
    let mut world = World::new();
    world.query.spec.starting_deadline_seconds = Some(30);
    world.missing.push(Missing { reason: Reason::MissingSecret, message: "there is no Secret s".into() });
    world.run_until("the deadline", |w| w.phase() == Some(Phase::Failed));
    assert_eq!(world.reason(), "StartingDeadline");
    assert!(world.status().message.unwrap().contains("MissingSecret"));
}

#[test]
fn the_deadline_holds_even_when_the_coordinator_does_not() {
    let mut world = World::new();
    world.query.spec.active_deadline_seconds = Some(10);
    world.start_up();
    world.run_until("the deadline", |w| w.phase() == Some(Phase::Failed));
    assert_eq!(world.reason(), "Deadline");
    world.settle();
    assert!(world.query.metadata.finalizers.is_none(), "the coordinator left its word when it was stopped");
}

#[test]
fn a_bad_spec_never_makes_a_pod() {
    let mut world = World::new();
    world.query.spec.compute.workers = Some(0);
    world.reconcile();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Failed), "BadSpec"));
    assert!(world.pods.is_empty());
}

#[test]
fn fewer_workers_than_wanted_are_enough_to_start() {
    let mut world = World::new();
    world.query.spec.compute.workers = None;
    world.query.spec.compute.min_workers = Some(1);
    world.query.spec.compute.max_workers = Some(3);
    world.reconcile();
    world.tick();
    let plan = world.reconcile();
    assert_eq!(plan.actions.iter().filter(|a| matches!(a, Action::CreatePod(Place::Worker { .. }))).count(), 3);
    world.tick();
    world.pods.retain(|name, _| !name.contains("-w1-") && !name.contains("-w2-"));
    world.tick();
    world.say(RunPhase::Running);
    world.reconcile();
    assert_eq!(world.phase(), Some(Phase::Running));
}

#[test]
fn times_of_conditions_move_only_with_their_truth() {
    let mut world = World::new();
    world.start_up();
    let before = condition(&world.status(), WORKERS_READY).unwrap().last_transition_time.clone();
    world.tick();
    world.reconcile();
    assert_eq!(condition(&world.status(), WORKERS_READY).unwrap().last_transition_time, before);
    assert!(world.query.metadata.finalizers.as_ref().is_some_and(|f| f[0] == FINALIZER));
}
