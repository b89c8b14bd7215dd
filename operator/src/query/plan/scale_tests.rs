//! How many workers a query has while it runs: it grows while tasks wait and shrinks when nothing needs them, and no
//! work is lost by that (`World` asserts it at every step).

use floe_api::Reason;
use floe_api::report::RunPhase;
use jiff::SignedDuration;

use super::Action;
use super::labour::Work;
use super::scale::{COOLDOWN, COOLDOWN_BEFORE_A_STAGE};
use super::world::World;
use crate::query::facts::{Turn, Waiting};
use crate::query::names::Place;
use crate::random::Random;

/// How long a stage may have fewer tasks left than there are workers.
const TAIL: SignedDuration = SignedDuration::from_secs(8);

const fn many(is_held: bool) -> Work {
    Work { tasks: 12, seconds: 8, is_held }
}

const fn one(seconds: u32) -> Work {
    Work { tasks: 1, seconds, is_held: false }
}

/// What Events say about the number of workers.
fn scaled(world: &World) -> Vec<&str> {
    world
        .notices
        .iter()
        .filter(|notice| matches!(notice.reason, Reason::ScaledUp | Reason::ScaledDown))
        .map(|notice| notice.note.as_str())
        .collect()
}

fn lost(world: &World) -> u32 {
    world.labour.as_ref().unwrap().lost
}

fn stage(world: &World) -> usize {
    world.labour.as_ref().unwrap().stage()
}

/// Pods of workers, including those being removed.
fn pods(world: &World) -> Vec<&str> {
    let pods = world.pods.values().filter(|pod| matches!(pod.place, Place::Worker { .. }));
    pods.map(|pod| pod.name.as_str()).collect()
}

fn run_for(world: &mut World, seconds: u32) {
    for _ in 0..seconds {
        world.reconcile();
        world.tick();
    }
}

fn finish(world: &mut World) {
    world.run_until("the end of the work", |w| w.labour.as_ref().unwrap().is_over());
    world.say(RunPhase::Succeeded);
    world.settle();
    assert!(world.pods.is_empty() && world.query.metadata.finalizers.is_none());
    assert_eq!((lost(world), world.status().failures), (0, Some(0)));
    assert!(world.notices.iter().all(|notice| !notice.warning), "{:?}", world.notices);
}

#[test]
fn it_begins_with_the_fewest_grows_while_tasks_wait_and_shrinks_for_a_single_task() {
    let mut world = World::elastic(&[many(false), one(100)]);
    world.query.spec.backoff_limit = 0;
    world.run_until("a worker", |w| pods(w).len() == 1);
    assert_eq!((world.workers(), pods(&world)), ((1, 0), vec!["q-1-w0-0"]));
    world.run_until("all workers", |w| w.workers() == (3, 3));
    assert_eq!(world.status().workers.unwrap().summary.as_deref(), Some("3/3"));
    world.run_until("the single task", |w| stage(w) == 1);
    let began = world.now;
    world.run_until("one worker", |w| w.workers() == (1, 1));
    assert!(world.now.duration_since(began) >= COOLDOWN - TAIL, "{}", world.now);
    world.run_until("its pod alone", |w| pods(w).len() == 1);
    assert!(world.now.duration_since(began) < COOLDOWN + SignedDuration::from_secs(10), "{}", world.now);
    assert_eq!(stage(&world), 1, "it still runs");
    assert_eq!(
        scaled(&world),
        [
            "The number of workers goes up from 1 to 3; tasks that wait: 11",
            "The number of workers goes down from 3 to 1; tasks that run or wait: 1"
        ]
    );
    finish(&mut world);
    assert_eq!(world.status().workers.unwrap().summary.as_deref(), Some("1"));
}

#[test]
fn a_worker_whose_outputs_are_read_is_drained_and_stays_until_then() {
    let mut world = World::elastic(&[many(true), one(100)]);
    world.run_until("one worker is wanted", |w| w.workers() == (1, 1) && stage(w) == 1);
    run_for(&mut world, 30);
    assert_eq!((stage(&world), pods(&world).len()), (1, 3), "they hold what the task reads");
    assert_eq!(world.labour.as_ref().unwrap().told_again, 0);
    finish(&mut world);
}

#[test]
fn workers_are_kept_longer_for_a_stage_that_is_to_come() {
    let mut world = World::elastic(&[many(false), one(200), many(false)]);
    world.run_until("all workers", |w| w.workers() == (3, 3));
    world.run_until("the last stage", |w| stage(w) == 2);
    assert_eq!((world.workers(), scaled(&world).len()), ((3, 3), 1));
    finish(&mut world);
    // But not forever, and they come back under other names, which counts as no loss.
    let mut world = World::elastic(&[many(false), one(600), many(false)]);
    world.query.spec.backoff_limit = 0;
    world.run_until("the single task", |w| stage(w) == 1);
    let began = world.now;
    world.run_until("one worker", |w| w.workers().0 == 1);
    assert!(world.now.duration_since(began) >= COOLDOWN_BEFORE_A_STAGE - TAIL);
    world.run_until("its pod alone", |w| pods(w).len() == 1);
    world.run_until("all workers again", |w| w.workers() == (3, 3));
    assert_eq!(pods(&world).iter().filter(|name| name.ends_with("-1")).count(), 2, "{:?}", pods(&world));
    finish(&mut world);
}

#[test]
fn a_fixed_number_stays_and_a_lower_one_ends_the_others() {
    let mut world = World::elastic(&[one(10), many(true), one(60)]);
    (world.query.spec.compute.min_workers, world.query.spec.compute.max_workers) = (None, None);
    world.query.spec.compute.workers = Some(3);
    world.run_until("all workers", |w| w.workers() == (3, 3));
    world.run_until("the second stage", |w| stage(w) == 1);
    run_for(&mut world, 10);
    assert!(scaled(&world).is_empty());
    world.query.spec.compute.workers = Some(1);
    world.query.metadata.generation = Some(2);
    world.run_until("one worker", |w| w.workers() == (1, 1) && pods(w).len() == 1);
    // The others handed over what they held, which this world does not simulate.
    world.run_until("the end of the work", |w| w.labour.as_ref().unwrap().is_over());
    world.say(RunPhase::Succeeded);
    world.settle();
    assert!(world.pods.is_empty() && world.status().failures == Some(0));
}

#[test]
fn what_a_quota_does_not_give_is_wanted_and_told() {
    let mut world = World::elastic(&[many(false)]);
    world.run_until("a worker", |w| pods(w).len() == 1);
    let waiting = Waiting { ahead: 0, words: "exceeded quota: small".into(), ..Waiting::default() };
    world.turn = Turn::Waiting(waiting);
    run_for(&mut world, 5);
    assert_eq!((world.workers(), world.reason().as_str()), ((3, 1), "Quota"));
    assert_eq!(scaled(&world).len(), 1);
    world.turn = Turn::Mine;
    world.run_until("all workers", |w| w.workers() == (3, 3));
    finish(&mut world);
}

#[test]
fn a_lost_worker_is_not_replaced_when_the_others_are_enough() {
    let mut world = World::elastic(&[many(false), one(100)]);
    world.run_until("all workers", |w| w.workers() == (3, 3));
    world.run_until("the single task", |w| stage(w) == 1);
    run_for(&mut world, 3);
    let idle = pods(&world).into_iter().find(|name| !world.labour.as_ref().unwrap().needs(name)).unwrap().to_owned();
    world.pods.remove(&idle);
    world.now += COOLDOWN;
    let plan = world.reconcile();
    assert!(!plan.actions.iter().any(|action| matches!(action, Action::CreatePod(_))), "{:?}", plan.actions);
    assert!(plan.notices.iter().any(|notice| notice.note.contains("the others are enough")), "{:?}", plan.notices);
    world.run_until("one worker", |w| pods(w).len() == 1);
    // That one is needed.
    let left = pods(&world)[0].to_owned();
    world.pods.remove(&left);
    let plan = world.reconcile();
    assert!(plan.notices.iter().any(|notice| notice.note.contains("takes its place")), "{:?}", plan.notices);
    world.run_until("another one", |w| w.workers() == (1, 1));
    assert_eq!(lost(&world), 1, "its task runs again");
}

/// The drain is repeated until the coordinator reports it.
#[test]
fn an_operator_that_takes_over_goes_on_with_what_the_status_says() {
    let mut world = World::elastic(&[many(false), one(100)]);
    world.run_until("fewer are wanted", |w| w.workers().0 == 1 && stage(w) == 1);
    assert!(world.status().workers.unwrap().released.len() == 2);
    // Nothing of the release has been done yet; whoever reconciles next does it, once.
    let drains = |world: &World| {
        let again = super::plan(&world.observed(false), &super::world::settings(), world.now);
        again.actions.iter().filter(|action| matches!(action, Action::Drain { .. })).count()
    };
    assert_eq!(drains(&world), 2);
    world.reconcile();
    assert_eq!(drains(&world), 2, "the coordinator has not said anything yet");
    world.tick();
    assert_eq!(drains(&world), 0);
    // The coordinator does not answer: the decision stays.
    world.report = None;
    world.reconcile();
    assert_eq!((world.workers().0, pods(&world).len()), (1, 3));
    finish(&mut world);
}

#[test]
fn a_coordinator_that_does_not_tell_its_load_gets_all_workers() {
    let mut world = World::elastic(&[one(1)]);
    world.labour = None;
    world.run_until("all workers", |w| w.workers() == (3, 3));
    assert_eq!(scaled(&world).len(), 1);
}

/// Whatever the stages are, whatever is lost meanwhile: the work gets done, no worker is removed that is needed, and no
/// attempt fails because of it.
#[test]
fn every_work_gets_done() {
    for seed in 1..=40u64 {
        let mut random = Random::of(seed);
        let mut below = |n: u64| u32::try_from(random.below(n)).unwrap();
        let count = 1 + below(4);
        let stages: Vec<Work> =
            (0..count).map(|_| Work { tasks: 1 + below(10), seconds: 1 + below(40), is_held: below(2) == 0 }).collect();
        let mut world = World::elastic(&stages);
        world.query.spec.backoff_limit = 100;
        for _ in 0..2000 {
            match below(60) {
                0 => {
                    if let Some(name) = pods(&world).get(below(3) as usize).map(|name| (*name).to_owned()) {
                        world.pods.remove(&name);
                    }
                }
                1 => world.turn = Turn::Waiting(Waiting { words: "exceeded quota".into(), ..Waiting::default() }),
                2 | 3 => world.turn = Turn::Free,
                4 => world.now += SignedDuration::from_secs(below(30).into()),
                5 if below(10) == 0 => world.query.spec.compute.max_workers = Some(1 + below(5)),
                _ => world.tick(),
            }
            world.reconcile();
            let (wanted, ready) = world.workers();
            assert!((1..=5).contains(&wanted) && ready <= wanted.max(3), "seed {seed}: {ready} of {wanted}");
            if world.labour.as_ref().unwrap().is_over() {
                break;
            }
        }
        world.turn = Turn::Free;
        world.run_until(&format!("seed {seed}: the end"), |w| w.labour.as_ref().unwrap().is_over());
        assert_eq!(world.status().attempt, Some(1), "seed {seed}");
        world.say(RunPhase::Succeeded);
        world.settle();
        assert!(world.pods.is_empty(), "seed {seed}");
    }
}
