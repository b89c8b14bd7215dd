//! Queries that borrow a context: they wait for it, run on its coordinator, and end, stop and start again as others do.

use floe_api::report::{Category, RunPhase};
use floe_api::{Phase, Reason};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::World;
use super::{Action, CLEANED_UP};
use crate::context::register::{Lent, Loan};
use crate::query::facts::Trouble;
use crate::query::names::Place;
use crate::random::Random;

fn running() -> World {
    let mut world = World::borrowing();
    world.lend(1);
    world.run_until("the job is handed over", |w| w.submitted == 1);
    world.say(RunPhase::Running);
    world.run_until("Running", |w| w.phase() == Some(Phase::Running));
    world
}

fn condition(world: &World, kind: &str) -> String {
    let status = world.status();
    status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.reason.clone()).unwrap_or_default()
}

#[test]
fn it_waits_for_its_context_and_runs_there_without_pods_of_its_own() {
    let mut world = World::borrowing();
    world.run_until("it waits", |w| w.reason() == "MissingContext");
    assert_eq!(world.phase(), Some(Phase::Pending));
    let message = world.status().message.unwrap();
    assert!(message.contains("no ComputeContext warm") && message.contains("To do: create it"), "{message}");
    world.loan = Loan::Lent(std::sync::Arc::new(Lent { message: "its pod starts".into(), ..Lent::default() }));
    world.run_until("it waits for the coordinator", |w| w.reason() == "ContextStarting");
    assert!(world.status().message.unwrap().contains("its pod starts"));
    world.lend(1);
    world.run_until("the job is handed over", |w| w.submitted == 1);
    assert_eq!(world.status().context.unwrap().coordinator, "warm-g1-c");
    world.say(RunPhase::Running);
    world.run_until("Running", |w| w.phase() == Some(Phase::Running));
    assert_eq!(world.status().workers.unwrap().summary.as_deref(), Some("1"));
    world.say(RunPhase::Succeeded);
    world.settle();
    let status = world.status();
    assert_eq!((status.phase, status.attempt, status.rows), (Some(Phase::Succeeded), Some(1), Some(7)));
    assert_eq!(condition(&world, CLEANED_UP), "Removed");
    assert!(world.pods.is_empty() && !world.shared && world.query.metadata.finalizers.is_none());
    assert_eq!(world.submitted, 1);
    assert!(world.dismissed > 0, "the coordinator forgets it");
}

#[test]
fn its_turn_in_the_context_is_told() {
    let mut world = running();
    let report = world.report.as_mut().unwrap();
    (report.phase, report.ahead) = (RunPhase::Waiting, Some(3));
    world.reconcile();
    let status = world.status();
    assert_eq!((status.phase, status.ahead), (Some(Phase::Pending), Some(3)));
    assert!(status.message.unwrap().starts_with("3 queries of context warm"));
}

#[test]
fn a_full_context_is_tried_again_and_a_job_that_it_refuses_fails() {
    let mut world = World::borrowing();
    world.lend(1);
    world.trouble = Some(Trouble { reason: Reason::ContextFull, message: "too many".into(), fatal: false });
    for _ in 0..5 {
        world.reconcile();
        world.tick();
    }
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Pending), "ContextFull"));
    assert!(world.status().context.is_none() && world.submitted > 1);
    world.trouble = None;
    world.run_until("it has a place", |w| w.status().context.is_some());
    let mut world = World::borrowing();
    world.lend(1);
    world.reconcile();
    world.trouble = Some(Trouble { reason: Reason::BadSpec, message: "no".into(), fatal: true });
    world.run_until("Failed", |w| w.phase() == Some(Phase::Failed));
}

#[test]
fn a_lost_coordinator_makes_it_run_again() {
    let mut world = running();
    world.lend(2);
    world.run_until("another attempt", |w| w.submitted == 2);
    assert_eq!((world.status().attempt, world.status().failures), (Some(2), Some(1)));
    assert_eq!(world.status().context.unwrap().coordinator, "warm-g2-c");
    assert_eq!(condition(&world, CLEANED_UP), "LeftBehind");
    world.say(RunPhase::Succeeded);
    // A pod removes what the first attempt may have staged.
    world.run_until("a pod that cleans up", |w| w.pods.values().any(|pod| pod.place == Place::Clean));
    world.settle();
    assert_eq!((world.phase(), condition(&world, CLEANED_UP).as_str()), (Some(Phase::Succeeded), "Removed"));
    let mut world = running();
    world.query.spec.backoff_limit = 0;
    world.loan = Loan::Missing;
    world.run_until("Failed", |w| w.phase() == Some(Phase::Failed));
    assert_eq!(world.reason(), "BackoffLimit");
}

#[test]
fn a_job_that_did_not_arrive_is_given_again() {
    let mut world = running();
    (world.report, world.is_absent) = (None, true);
    world.run_until("it is given again", |w| w.submitted == 2);
    assert_eq!(world.status().attempt, Some(1));
}

#[test]
fn cancelling_and_suspending_reach_the_coordinator() {
    let mut world = running();
    world.query.spec.cancel = true;
    world.settle();
    assert_eq!((world.phase(), world.reason().as_str()), (Some(Phase::Cancelled), "Cancelled"));
    assert!(world.dismissed > 0 && world.pods.is_empty() && world.query.metadata.finalizers.is_none());
    let mut world = running();
    world.query.spec.suspend = true;
    world.settle();
    assert_eq!(world.phase(), Some(Phase::Suspended));
    assert!(world.query.metadata.finalizers.is_none());
    world.query.spec.suspend = false;
    world.run_until("it goes on", |w| w.submitted == 2);
    assert_eq!((world.status().attempt, world.status().failures), (Some(2), Some(0)));
    // If the query is faster than the cancellation, the result stands.
    let mut world = running();
    world.query.spec.cancel = true;
    world.say(RunPhase::Succeeded);
    world.settle();
    assert_eq!(world.phase(), Some(Phase::Succeeded));
    // Cancelled by a client with the query's token.
    let mut world = running();
    world.fail(Category::Cancelled, "Cancelled");
    world.settle();
    assert_eq!(world.phase(), Some(Phase::Cancelled));
}

#[test]
fn a_deleted_query_is_stopped_first() {
    let mut world = running();
    world.query.metadata.deletion_timestamp = Some(Time(world.now));
    world.run_until("it is gone", |w| w.is_gone);
    assert!(world.dismissed > 0 && world.pods.is_empty());
}

#[test]
fn what_a_lost_coordinator_left_is_removed_while_the_context_goes_on() {
    let mut world = running();
    world.lend(2);
    world.run_until("another attempt", |w| w.submitted == 2);
    world.say(RunPhase::Succeeded);
    world.run_until("Succeeded", |w| w.phase() == Some(Phase::Succeeded));
    world.query.metadata.deletion_timestamp = Some(Time(world.now));
    let begin = world.now;
    world.run_until("it is gone", |w| w.is_gone);
    assert!(
        world.now.duration_since(begin) < SignedDuration::from_secs(30),
        "nobody waits for a coordinator that stays"
    );
}

#[test]
fn a_result_stays_with_the_context_for_its_time_or_until_the_query_is_deleted() {
    let kept = || {
        let mut world = running();
        world.query.spec.sink = None;
        world.say(RunPhase::Succeeded);
        world.run_until("Succeeded", |w| w.phase() == Some(Phase::Succeeded));
        for _ in 0..20 {
            world.reconcile();
            world.tick();
        }
        assert_eq!(world.dismissed, 0, "it is kept");
        world
    };
    let mut world = kept();
    world.now += SignedDuration::from_secs(700);
    world.settle();
    assert_eq!((world.reason().as_str(), world.dismissed > 0), ("ResultExpired", true));
    assert!(world.query.metadata.finalizers.is_none());
    let mut world = kept();
    world.query.metadata.deletion_timestamp = Some(Time(world.now));
    world.run_until("it is gone", |w| w.is_gone);
    assert!(world.dismissed > 0, "and the context forgets it");
}

#[test]
fn nothing_is_concluded_before_the_context_was_looked_at() {
    let mut world = running();
    world.loan = Loan::NotYet;
    world.query.spec.cancel = true;
    let (before, decided) = (world.status(), world.reconcile());
    assert!(decided.actions.is_empty() && world.status() == before, "{:?}", decided.actions);
    world.query.metadata.deletion_timestamp = Some(Time(world.now));
    assert!(world.reconcile().actions.is_empty());
    // If contexts cannot be read, queries can still be deleted.
    world.now += SignedDuration::from_secs(61);
    world.run_until("it is gone", |w| w.is_gone);
}

#[test]
fn failures_are_those_of_any_query() {
    let cases = [
        (Category::User, Phase::Failed, "QueryFailed"),
        (Category::OutOfMemory, Phase::Failed, "OutOfMemory"),
        (Category::LostWorker, Phase::Starting, "WorkerLost"),
    ];
    for (category, phase, reason) in cases {
        let mut world = running();
        world.fail(category, "ComputeError");
        world.reconcile();
        assert_eq!((world.phase(), world.reason().as_str()), (Some(phase), reason));
        if phase == Phase::Starting {
            world.run_until("another attempt", |w| w.submitted == 2);
        }
    }
}

/// `World` asserts at every step that a terminal phase stays and that only the context's coordinators are asked.
#[test]
fn every_history_comes_to_rest() {
    for seed in 1..=300u64 {
        let mut random = Random::of(seed);
        let mut world = World::borrowing();
        world.query.spec.backoff_limit = 100;
        let (mut revision, mut ends) = (0, false);
        for _ in 0..60 {
            let is_there = world.report.is_some();
            match random.below(24) {
                0 | 1 => {
                    revision += 1;
                    world.lend(revision);
                }
                2 => world.loan = Loan::Missing,
                3 => world.loan = Loan::NotYet,
                4 => (world.report, world.is_absent) = (None, true),
                5 if is_there => world.say(RunPhase::Running),
                6 if is_there => world.say(RunPhase::Committing),
                7 if is_there && random.below(4) == 0 => world.say(RunPhase::Succeeded),
                8 if is_there => world.fail(Category::LostWorker, "NoWorkers"),
                9 if random.below(6) == 0 => world.query.spec.suspend = true,
                10 => world.query.spec.suspend = false,
                11 if random.below(10) == 0 => {
                    (world.query.spec.cancel, world.query.spec.suspend, ends) = (true, false, true);
                }
                12 => {
                    let trouble = Trouble { reason: Reason::ContextFull, message: "too many".into(), fatal: false };
                    world.trouble = Some(trouble);
                }
                13 => world.trouble = None,
                14 => world.now += SignedDuration::from_secs(40),
                _ => world.tick(),
            }
            world.reconcile();
        }
        (world.trouble, world.is_absent) = (None, false);
        world.query.spec.suspend = false;
        world.lend(revision + 1);
        for _ in 0..200 {
            if world.report.as_ref().is_some_and(|report| report.phase == RunPhase::Planning) {
                world.say(RunPhase::Succeeded);
            }
            world.reconcile();
            world.tick();
        }
        let status = world.status();
        let phase = status.phase.unwrap();
        assert!(phase.is_terminal() && (phase != Phase::Cancelled || ends), "seed {seed}: {status:?}");
        assert!(world.pods.is_empty(), "seed {seed}: {:?}", world.pods.keys());
        assert!(world.query.metadata.finalizers.is_none(), "seed {seed}: {status:?}");
        let again = world.reconcile();
        let quiet = |action: &Action| matches!(action, Action::Dismiss { .. });
        assert!(again.actions.iter().all(quiet), "seed {seed}: {:?}", again.actions);
    }
}
