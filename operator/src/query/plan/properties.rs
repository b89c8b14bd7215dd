//! Properties of every history: terminal phases stay, no action touches what is not the query's, and once the faults
//! stop, everything comes to rest. `World` asserts the first two at every step.

use floe_api::Reason;
use floe_api::report::{Category, RunPhase, WORKER_ORPHANED, WORKER_RESTART};
use floe_api::{DistributedQueryStatus, Phase, WorkerCounts};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::labour::Work;
use super::world::{World, settings};
use super::{Action, plan};
use crate::coordinator::Verdict;
use crate::query::facts::{Ending, Loss, Missing, PodState, Stuck, Trouble, Turn, Waiting};
use crate::query::names::FINALIZER;

#[derive(Clone, Debug)]
enum Blow {
    Tick,
    Hours(i64),
    KillCoordinator { politely: bool },
    EndPod { nth: usize, code: i32, oom: bool },
    VanishPod { nth: usize },
    DeletePod { nth: usize },
    EvictPod { nth: usize },
    StickPod { nth: usize, fatal: bool },
    Say(RunPhase),
    Fail(Category),
    Silence,
    Cancel,
    Suspend(bool),
    DeleteQuery,
    MissSecret(bool),
    Refuse(Option<bool>),
    Queue(Option<(u32, bool)>),
    Politeness(bool),
}

fn blow() -> impl Strategy<Value = Blow> {
    let nth = 0usize..6;
    prop_oneof![
        6 => Just(Blow::Tick),
        1 => (1i64..3).prop_map(Blow::Hours),
        1 => any::<bool>().prop_map(|politely| Blow::KillCoordinator { politely }),
        2 => (nth.clone(), prop_oneof![Just(0), Just(i32::from(WORKER_ORPHANED)), Just(i32::from(WORKER_RESTART)), Just(137)], any::<bool>())
            .prop_map(|(nth, code, oom)| Blow::EndPod { nth, code, oom }),
        1 => nth.clone().prop_map(|nth| Blow::VanishPod { nth }),
        1 => nth.clone().prop_map(|nth| Blow::DeletePod { nth }),
        1 => nth.clone().prop_map(|nth| Blow::EvictPod { nth }),
        1 => (nth, any::<bool>()).prop_map(|(nth, fatal)| Blow::StickPod { nth, fatal }),
        3 => prop_oneof![
            Just(RunPhase::Planning), Just(RunPhase::Running), Just(RunPhase::Committing),
            Just(RunPhase::Succeeded)
        ].prop_map(Blow::Say),
        1 => prop_oneof![
            Just(Category::User), Just(Category::Io), Just(Category::LostWorker), Just(Category::OutOfMemory),
            Just(Category::Deadline), Just(Category::Cancelled), Just(Category::Internal)
        ].prop_map(Blow::Fail),
        1 => Just(Blow::Silence),
        1 => Just(Blow::Cancel),
        1 => any::<bool>().prop_map(Blow::Suspend),
        1 => Just(Blow::DeleteQuery),
        1 => any::<bool>().prop_map(Blow::MissSecret),
        1 => proptest::option::of(any::<bool>()).prop_map(Blow::Refuse),
        1 => proptest::option::of((0u32..3, any::<bool>())).prop_map(Blow::Queue),
        1 => any::<bool>().prop_map(Blow::Politeness),
    ]
}

fn strike(world: &mut World, blow: &Blow) {
    let name = |world: &World, nth: usize| world.pods.keys().nth(nth).cloned();
    match *blow {
        Blow::Tick => world.tick(),
        Blow::Hours(hours) => world.now += SignedDuration::from_hours(hours),
        Blow::KillCoordinator { politely } => {
            world.end_coordinator(politely.then(super::world::cancelled));
        }
        Blow::EndPod { nth, code, oom } => {
            if let Some(name) = name(world, nth) {
                let at = Some(world.now);
                world.end(&name, Ending { exit_code: Some(code), at, oom, ..Ending::default() });
            }
        }
        Blow::VanishPod { nth } => {
            if let Some(name) = name(world, nth) {
                world.pods.remove(&name);
            }
        }
        Blow::DeletePod { nth } => {
            let now = world.now;
            if let Some(pod) = name(world, nth).and_then(|name| world.pods.get_mut(&name)) {
                pod.deleting_at.get_or_insert(now);
            }
        }
        Blow::EvictPod { nth } => {
            if let Some(pod) = name(world, nth).and_then(|name| world.pods.get_mut(&name)) {
                pod.disruption = Some(Loss { reason: Reason::Evicted, words: "was evicted".into() });
                pod.state = PodState::Ended(Ending::default());
            }
        }
        Blow::StickPod { nth, fatal } => {
            if let Some(pod) = name(world, nth).and_then(|name| world.pods.get_mut(&name)) {
                let words = "stuck".to_owned();
                pod.state = PodState::Waiting(Some(Stuck { reason: Reason::Unschedulable, words, fatal }));
            }
        }
        Blow::Say(phase) => {
            if world.coordinator().is_some_and(|pod| pod.is_running()) {
                world.say(phase);
            }
        }
        Blow::Fail(category) => {
            if world.coordinator().is_some_and(|pod| pod.is_running()) {
                world.fail(category, "Class");
            }
        }
        Blow::Silence => world.report = None,
        Blow::Cancel => {
            world.query.spec.cancel = true;
            world.query.spec.suspend = false;
        }
        Blow::Suspend(suspend) => world.query.spec.suspend = suspend && !world.query.spec.cancel,
        Blow::DeleteQuery => {
            world.query.metadata.deletion_timestamp.get_or_insert(Time(world.now));
            world.is_gone |= world.query.metadata.finalizers.is_none();
        }
        Blow::MissSecret(missing) => {
            world.missing.clear();
            if missing {
                world.missing.push(Missing { reason: Reason::MissingSecret, message: "no Secret".into() });
            }
        }
        Blow::Refuse(refusal) => {
            world.trouble = refusal.map(|fatal| Trouble { reason: Reason::Quota, message: "no".into(), fatal });
        }
        Blow::Queue(place) => {
            world.turn = place.map_or(Turn::Free, |(ahead, give_back)| {
                Turn::Waiting(Waiting {
                    ahead,
                    words: "exceeded quota".into(),
                    give_back,
                    is_never: false,
                    for_nodes: false,
                })
            });
        }
        Blow::Politeness(polite) => world.polite = polite,
    }
}

/// Stops the faults: what is missing appears, and the coordinator succeeds.
fn calm(world: &mut World) {
    world.missing.clear();
    world.trouble = None;
    world.turn = Turn::Free;
    world.query.spec.suspend = false;
    if world.is_gone {
        return;
    }
    for _ in 0..1500 {
        if world.coordinator().is_some_and(|pod| pod.is_running() && pod.deleting_at.is_none())
            && world.report.as_ref().is_some_and(|report| report.workers.len() >= world.least())
            && world.report.as_ref().is_some_and(|report| Verdict::of(report).is_none())
        {
            world.say(RunPhase::Succeeded);
        }
        world.reconcile();
        if world.is_gone {
            // Its owner references remove what it owned.
            return;
        }
        let again = plan(&world.observed(true), &settings(), world.now);
        let ended = world.phase().is_some_and(Phase::is_terminal);
        if ended && again.actions.is_empty() && again.status == world.status() && world.pods.is_empty() {
            assert_eq!(world.query.metadata.finalizers, None, "at rest without a finalizer");
            assert!(!world.shared, "at rest without Secrets");
            return;
        }
        world.tick();
    }
    panic!("never at rest: {:?}\n{:#?}", world.status(), world.pods);
}

/// The work of a query that scales.
fn stages() -> impl Strategy<Value = Vec<Work>> {
    let work = (1u32..9, 1u32..60, any::<bool>());
    proptest::collection::vec(work.prop_map(|(tasks, seconds, is_held)| Work { tasks, seconds, is_held }), 1..4)
}

/// What a status may say about its workers.
fn workers() -> impl Strategy<Value = WorkerCounts> {
    let counts = || proptest::collection::btree_map((0u32..4).prop_map(|index| index.to_string()), 0u32..3, 0..3);
    (0u32..5, counts(), counts(), any::<bool>()).prop_map(|(desired, replaced, released, is_surplus)| WorkerCounts {
        desired,
        replaced,
        released,
        surplus_since: is_surplus.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
        ..WorkerCounts::default()
    })
}

fn any_phase() -> impl Strategy<Value = Option<Phase>> {
    prop_oneof![
        Just(None),
        Just(Some(Phase::Pending)),
        Just(Some(Phase::Starting)),
        Just(Some(Phase::Planning)),
        Just(Some(Phase::Running)),
        Just(Some(Phase::Committing)),
        Just(Some(Phase::Succeeded)),
        Just(Some(Phase::Failed)),
        Just(Some(Phase::Cancelled)),
        Just(Some(Phase::Suspended)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_comes_to_rest(
        blows in proptest::collection::vec((blow(), any::<bool>()), 0..40),
        limit in 0u32..3,
        without_sink in any::<bool>(),
        stages in proptest::option::of(stages()),
    ) {
        let mut world = stages.map_or_else(World::new, |stages| World::elastic(&stages));
        world.query.spec.backoff_limit = limit;
        if without_sink {
            world.query.spec.sink = None;
        }
        for (blow, look) in &blows {
            strike(&mut world, blow);
            if world.is_gone {
                break;
            }
            if *look {
                world.reconcile();
            }
        }
        calm(&mut world);
    }

    /// An operator that starts may find any state, and remembers nothing.
    #[test]
    fn any_state_that_is_found_comes_to_rest(
        phase in any_phase(),
        attempt in proptest::option::of(1u32..4),
        failures in proptest::option::of(0u32..4),
        started in any::<bool>(),
        finalizer in any::<bool>(),
        stages in proptest::option::of(stages()),
        workers in proptest::option::of(workers()),
        blows in proptest::collection::vec(blow(), 0..10),
    ) {
        let mut world = stages.map_or_else(World::new, |stages| World::elastic(&stages));
        // Create pods and objects of some attempt.
        for _ in 0..3 {
            world.reconcile();
            world.tick();
        }
        let now = world.now;
        world.query.status = Some(DistributedQueryStatus {
            phase,
            attempt,
            failures,
            workers,
            started_at: started.then_some(Time(now)),
            finished_at: phase.filter(|p| p.is_terminal()).map(|_| Time(now)),
            ..DistributedQueryStatus::default()
        });
        world.query.metadata.finalizers = finalizer.then(|| vec![FINALIZER.to_owned()]);
        for blow in &blows {
            strike(&mut world, blow);
            if world.is_gone {
                break;
            }
        }
        calm(&mut world);
    }

    #[test]
    fn a_plan_is_a_function_of_what_is_seen(
        blows in proptest::collection::vec(blow(), 0..20),
        stages in proptest::option::of(stages()),
    ) {
        let mut world = stages.map_or_else(World::new, |stages| World::elastic(&stages));
        for blow in &blows {
            strike(&mut world, blow);
            if world.is_gone {
                break;
            }
            let seen = world.observed(true);
            let (one, two) = (plan(&seen, &settings(), world.now), plan(&seen, &settings(), world.now));
            prop_assert_eq!(&one.actions, &two.actions);
            prop_assert_eq!(&one.status, &two.status);
            let creates = one.actions.iter().filter(|a| matches!(a, Action::CreatePod(_)));
            let ended = seen.status.phase.is_some_and(Phase::is_terminal);
            prop_assert!(!ended || creates.count() <= 1, "after the end only a cleaning pod is made");
            world.reconcile();
        }
    }
}
