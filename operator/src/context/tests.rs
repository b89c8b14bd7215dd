//! How contexts behave, as scenarios on a small cluster.

use floe_api::{ContextPhase, Reason};
use jiff::SignedDuration;

use super::names;
use super::plan::{Action, plan};
use super::world::{Query, World};
use crate::query::facts::Trouble;
use crate::query::names::Place;
use crate::random::Random;

const SHORT: Query = Query { tasks: 2, seconds: 2 };
const LONG: Query = Query { tasks: 12, seconds: 10 };

fn warm() -> World {
    let mut world = World::new();
    world.run_until("a worker", |w| w.ready() == 1);
    world
}

#[test]
fn it_starts_with_its_least_workers_grows_with_the_tasks_and_shrinks_after_a_while() {
    let mut world = warm();
    assert_eq!(world.phase(), Some(ContextPhase::Ready));
    assert_eq!(world.pods.len(), 2);
    world.submit(3, LONG);
    world.run_until("all workers", |w| w.ready() == 4);
    world.run_until("the end", |w| w.ended == 3);
    let ended = world.now;
    world.run_until("the least", |w| w.workers() == 1);
    let took = world.now.duration_since(ended);
    assert!(took >= SignedDuration::from_secs(30) && took < SignedDuration::from_secs(60), "{took}");
    world.run_for(60);
    assert_eq!((world.workers(), world.phase()), (1, Some(ContextPhase::Ready)));
}

#[test]
fn at_rest_it_is_one_pod_and_the_next_query_brings_workers_back() {
    let mut world = warm();
    world.submit(1, SHORT);
    world.run_until("the end", |w| w.ended == 1);
    world.run_until("rest", |w| w.workers() == 0);
    assert_eq!(world.phase(), Some(ContextPhase::Idle));
    world.run_for(600);
    assert_eq!(world.pods.len(), 1);
    world.submit(1, SHORT);
    world.run_until("the end", |w| w.ended == 2);
    assert_eq!(world.lost, 0);
    assert!(world.workers() >= 1);
}

#[test]
fn without_least_workers_there_are_none_before_the_first_query() {
    let mut world = World::new();
    world.context.spec.min_workers = 0;
    world.run_until("it serves", |w| w.status().serving.is_some());
    world.run_for(20);
    assert_eq!((world.workers(), world.phase()), (0, Some(ContextPhase::Idle)));
    world.submit(1, SHORT);
    world.run_until("the end", |w| w.ended == 1);
}

#[test]
fn a_changed_image_takes_over_with_as_many_workers_and_no_query_fails() {
    let mut world = warm();
    world.submit(4, LONG);
    world.run_until("all workers", |w| w.ready() == 4);
    world.image = "runner:2";
    world.run_until("a change", |w| w.phase() == Some(ContextPhase::Changing));
    world.submit(1, SHORT);
    world.run_until("the new one serves", |w| w.status().serving == Some(2));
    let new = world.pods.values().filter(|pod| pod.attempt() == Some(2) && pod.is_running()).count();
    assert_eq!(new, 5, "a coordinator and as many workers as before");
    world.submit(2, SHORT);
    world.run_until("the end", |w| w.ended == 7);
    world.run_until("the old ones are gone", |w| w.pods.values().all(|pod| pod.attempt() == Some(2)));
    assert_eq!(world.lost, 0);
    assert_eq!(world.status().revisions.len(), 1);
    assert_eq!(world.status().revisions[0].image, "runner:2");
}

#[test]
fn a_former_coordinator_stays_for_the_results_that_it_keeps() {
    let mut world = warm();
    world.keep_result(1, 1);
    world.image = "runner:2";
    world.run_until("the new one serves", |w| w.status().serving == Some(2));
    world.run_for(200);
    let old: Vec<_> = world.pods.values().filter(|pod| pod.attempt() == Some(1)).map(|pod| pod.place).collect();
    assert_eq!(old, [Place::Coordinator { attempt: 1 }], "and its workers go");
    world.keep_result(1, 0);
    world.run_until("it is gone", |w| w.pods.values().all(|pod| pod.attempt() == Some(2)));
}

#[test]
fn a_change_that_cannot_start_leaves_the_former_one_at_work() {
    let mut world = warm();
    world.stuck = true;
    world.context.spec.compute.memory = "999Gi".into();
    world.run_for(60);
    assert_eq!((world.status().serving, world.phase()), (Some(1), Some(ContextPhase::Changing)));
    assert_eq!(world.status().reason.as_deref(), Some("Unschedulable"));
    world.submit(1, SHORT);
    world.run_until("the end", |w| w.ended == 1);
    // Changing the spec back makes another revision like any other.
    world.stuck = false;
    world.context.spec.compute.memory = "2Gi".into();
    world.run_until("it is there", |w| w.status().serving == Some(3));
    assert_eq!(world.lost, 0);
}

#[test]
fn a_lost_coordinator_is_followed_by_another_with_workers_of_its_own() {
    let mut world = warm();
    world.submit(2, LONG);
    world.run_until("work", |w| w.ready() >= 2);
    world.kill(&names::pod("warm", Place::Coordinator { attempt: 1 }));
    world.run_until("another", |w| w.status().serving == Some(2));
    world.run_until("the end", |w| w.ended == 2);
    assert_eq!(world.lost, 2, "they ran again");
    world.run_until("tidiness", |w| w.pods.values().all(|pod| pod.attempt() == Some(2)));
    assert_eq!(world.status().revisions.len(), 1);
}

#[test]
fn a_lost_worker_is_replaced_and_those_that_always_fail_are_made_ever_more_slowly() {
    let mut world = warm();
    world.submit(1, LONG);
    world.run_until("work", |w| w.ready() == 4);
    let victim = world.pods.values().find(|pod| matches!(pod.place, Place::Worker { .. })).unwrap().name.clone();
    world.kill(&victim);
    world.run_until("the end", |w| w.ended == 1);
    assert!(!world.pods.contains_key(&victim));
    let mut world = World::new();
    world.context.spec.idle_timeout_seconds = 100_000;
    world.crashes = true;
    world.run_for(300);
    assert!(world.pods_made < 20, "{} pods", world.pods_made);
    assert_eq!(world.status().reason.as_deref(), Some("WorkerLost"));
    world.crashes = false;
    world.run_until("a worker", |w| w.ready() == 1);
}

#[test]
fn what_the_cluster_refuses_is_told_and_not_asked_again_at_once() {
    let mut world = World::new();
    world.trouble = Some(Trouble { reason: Reason::Quota, message: "exceeded quota".into(), fatal: false });
    world.hold_until = Some(world.now + SignedDuration::from_secs(10));
    let decided = world.reconcile();
    assert!(!decided.actions.iter().any(|action| matches!(action, Action::CreatePod { .. })), "{:?}", decided.actions);
    assert_eq!(world.status().reason.as_deref(), Some("Quota"));
    world.now += SignedDuration::from_secs(11);
    world.trouble = None;
    world.run_until("a worker", |w| w.ready() == 1);
}

#[test]
fn a_broken_spec_fails_and_a_broken_change_is_told_while_the_former_one_goes_on() {
    let mut world = World::new();
    world.context.spec.min_workers = 9;
    world.run_for(5);
    assert_eq!((world.phase(), world.pods.len()), (Some(ContextPhase::Failed), 0));
    assert!(world.status().message.unwrap().contains("spec.minWorkers"));
    world.context.spec.min_workers = 1;
    world.run_until("a worker", |w| w.ready() == 1);
    world.context.spec.compute.memory = "1Mi".into();
    world.submit(1, SHORT);
    world.run_until("the end", |w| w.ended == 1);
    let status = world.status();
    assert_eq!((status.reason.as_deref(), status.serving), (Some("BadSpec"), Some(1)), "{status:?}");
    let accepted = status.conditions.iter().find(|condition| condition.type_ == "Accepted").unwrap();
    assert_eq!(accepted.status, "False");
}

#[test]
fn a_deleted_context_is_left_to_the_garbage_collector() {
    let mut world = warm();
    world.delete();
    let decided = plan(&world.seen(), world.now);
    assert!(decided.actions.is_empty() && decided.requeue.is_none());
}

/// Whatever happens in whatever order: nothing that works is removed (`World` asserts that at every step), and when it
/// is quiet again all queries end and one pod is left.
#[test]
fn every_history_comes_to_rest() {
    for seed in 1..=150u64 {
        let mut random = Random::of(seed);
        let mut world = World::new();
        let mut sent = 0;
        for _ in 0..250 {
            match random.below(40) {
                0 => world.image = ["runner:1", "runner:2", "runner:3"][random.below(3) as usize],
                1 => {
                    let lead = world.status().serving.unwrap_or(1);
                    world.kill(&names::pod("warm", Place::Coordinator { attempt: lead }));
                }
                2 | 3 => {
                    let nth = random.below(6) as usize;
                    if let Some(name) = world.pods.keys().nth(nth).cloned() {
                        world.kill(&name);
                    }
                }
                4 => world.crashes = random.below(3) == 0,
                5 => world.stuck = random.below(3) == 0,
                6 => world.context.spec.max_workers = world.context.spec.max_workers.max(2 + random.below(6) as u32),
                7 => world.now += SignedDuration::from_secs(random.below(1000) as i64),
                8..=12 => {
                    let tasks = 1 + random.below(10) as u32;
                    world.submit(1, Query { tasks, seconds: 1 + random.below(8) as u32 });
                    sent += 1;
                }
                13 => {
                    let until = world.now + SignedDuration::from_secs(random.below(20) as i64);
                    world.hold_until = Some(until);
                }
                _ => world.tick(),
            }
            world.reconcile();
        }
        (world.crashes, world.stuck, world.hold_until) = (false, false, None);
        world.run_until(&format!("seed {seed}: the end of all queries"), |w| w.ended == sent);
        world.run_until(&format!("seed {seed}: rest"), |w| {
            w.pods.len() == 1 && w.status().revisions.len() == 1 && w.phase() == Some(ContextPhase::Idle)
        });
    }
}
