//! Thousands of clusters, each from a seed that is printed when a check fails: twenty queries, each with its own
//! scheduler and all that may happen to one query, on workers that they share and that come and go. `FLOE_SIM_SEED`
//! runs one seed, `FLOE_SIM_RUNS` that many from the first.

mod checks;
mod trouble;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::fair::{Before, check_books, check_idle, check_lent, check_shares, check_whole};
use crate::cluster::{Action, Claim, ClusterState, Demand, Event as Ask, Limits, decide as share};
use crate::tests::books;
use crate::tests::scenario::{Kind, Rng, Scenario};
use crate::tests::seen::Seen;
use crate::tests::watch::Watch;
use crate::tests::world::{Happening, World};
use crate::{Event, Millis, State, decide};

const RUNS: u64 = 2_000;
const QUERIES: usize = 20;
const MAX_VIRTUAL_MS: Millis = 3_000_000;

/// Events that concern all queries.
#[derive(Debug)]
enum Shared {
    Arrive(usize),
    Up(usize),
    Trouble(usize),
    /// The coordinator notices that this incarnation of the worker is lost.
    Noticed(usize, u32),
    Undrain(usize, u32),
    /// A query processes its inbox.
    Wake(usize),
}

/// A message from the cluster scheduler to a query.
#[derive(Debug)]
enum Told {
    Event(Event),
    Call,
}

/// One query with its scheduler, its view of the world, and its checker.
struct Member<'a> {
    name: String,
    claim: Claim,
    scenario: &'a Scenario,
    state: State,
    world: World,
    watch: Watch<'a>,
    inbox: VecDeque<Told>,
    reported_demand: Option<Demand>,
    phase: Phase,
    /// Since when it has had no slot though it could work and one could be given.
    waiting_since: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Away,
    Waiting,
    Running,
    Over,
}

struct Worker {
    alive: bool,
    /// Known to the coordinator.
    known: bool,
    draining: bool,
    life: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Met {
    seen: Seen,
    refused: u64,
    waited: u64,
    lent: u64,
    calls: u64,
    kept: u64,
    losses: u64,
    unfelt: u64,
    large: u64,
    starved: u64,
}

struct Sim<'a> {
    rng: Rng,
    now: Millis,
    sequence: u64,
    queue: BTreeMap<(Millis, u64), Shared>,
    cluster: ClusterState,
    workers: Vec<Worker>,
    slots: u32,
    memory_bytes: u64,
    members: Vec<Member<'a>>,
    met: Met,
    trace: bool,
}

/// What may happen to the queries of a cluster; without trouble a calm query runs each task once.
fn scenarios(rng: &mut Rng, troubled: bool, workers: usize, slots: u32) -> Vec<Scenario> {
    let kinds = [
        Kind::Slow,
        Kind::Recoverable,
        Kind::Recoverable,
        Kind::UserErrors,
        Kind::Cancelled,
        Kind::Deadline,
        Kind::Poison,
        Kind::BigTasks,
        Kind::TooBig,
        Kind::Split,
        Kind::Broken,
    ];
    let one = |_| {
        let kind = match troubled {
            true => kinds[rng.below(kinds.len() as u64) as usize],
            false => [Kind::Calm, Kind::Calm, Kind::Slow, Kind::BigTasks][rng.below(4) as usize],
        };
        let mut scenario = Scenario::new(kind, rng);
        (scenario.workers, scenario.slots) = (workers, slots);
        if kind == Kind::Poison {
            // Its other tasks are lost when tasks of other queries end a worker.
            scenario.limits.lost_per_task = 8;
        }
        scenario
    };
    (0..QUERIES).map(one).collect()
}

fn simulate(seed: u64, trace: bool) -> Met {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9) ^ 77);
    let troubled = !seed.is_multiple_of(4);
    let (workers, slots) = (rng.range(1, 5) as usize, rng.range(1, 4) as u32);
    let scenarios = scenarios(&mut rng, troubled, workers, slots);
    let limits = Limits {
        max_running: [3, 8, 20, 64][rng.below(4) as usize],
        max_waiting: [4, 100][rng.below(2) as usize],
        max_waiting_bytes: 1_000,
        patience_ms: 10_000,
    };
    let mut sim = Sim {
        now: 0,
        sequence: 0,
        queue: BTreeMap::new(),
        cluster: ClusterState::new(limits),
        workers: (0..workers).map(|_| Worker { alive: false, known: false, draining: false, life: 0 }).collect(),
        slots,
        memory_bytes: if rng.chance(50) { 1_000 * u64::from(slots) } else { 0 },
        members: Vec::new(),
        met: Met::default(),
        trace,
        rng,
    };
    for (at, scenario) in scenarios.iter().enumerate() {
        let member = sim.member(at, scenario);
        sim.members.push(member);
        let when = if sim.rng.chance(50) { 0 } else { sim.rng.below(5_000) };
        sim.at(when, Shared::Arrive(at));
    }
    for worker in 0..workers {
        let when = sim.rng.below(300);
        sim.at(when, Shared::Up(worker));
        for _ in 0..if troubled { sim.rng.range(1, 4) } else { 0 } {
            let when = sim.rng.range(300, 20_000);
            sim.at(when, Shared::Trouble(worker));
        }
    }
    sim.run();
    sim.met
}

/// What a query believes that it may run on a worker, what it runs, and whether alone.
fn use_of(state: &State, worker: &str) -> (u32, u32, bool) {
    let on = state.worker_index.get(worker).map(|at| &state.workers[*at]);
    on.map_or((0, 0, false), |on| (on.slots, on.running, on.alone))
}

fn name(worker: usize) -> String {
    format!("w{worker}")
}

impl<'a> Sim<'a> {
    fn member(&mut self, at: usize, scenario: &'a Scenario) -> Member<'a> {
        let state = State::new(&scenario.graph, scenario.limits).expect("a good graph");
        let claim = Claim {
            priority: if self.rng.chance(70) { 0 } else { self.rng.range(0, 4) as i32 - 2 },
            weight: if self.rng.chance(60) { 1 } else { self.rng.range(1, 6) as u32 },
            group: None,
            task_memory_bytes: [0, 500, 1_100, 2_000, 9_000][self.rng.below(5) as usize],
            job_bytes: self.rng.below(300),
        };
        Member {
            name: format!("q{at:02}"),
            claim,
            scenario,
            state,
            world: World::shared(scenario, Rng(self.rng.next())),
            watch: Watch::new(scenario),
            inbox: VecDeque::new(),
            reported_demand: None,
            phase: Phase::Away,
            waiting_since: None,
        }
    }

    fn at(&mut self, time: Millis, what: Shared) {
        self.sequence += 1;
        self.queue.insert((time, self.sequence), what);
    }

    fn later(&mut self, from: u64, to: u64, what: Shared) {
        let time = self.now + self.rng.range(from, to);
        self.at(time, what);
    }

    /// Runs until nothing happens any more: always the next event of all queries or of one.
    fn run(&mut self) {
        while self.members.iter().any(|member| member.phase != Phase::Over) {
            let shared = self.queue.first_key_value().map(|((time, _), _)| *time);
            let running = |(_, member): &(usize, &Member<'_>)| member.phase == Phase::Running;
            let own = self.members.iter().enumerate().filter(running);
            let own = own.filter_map(|(at, member)| Some((member.world.queue.first_key_value()?.0.0, at))).min();
            match (shared, own) {
                (Some(time), own) if own.is_none_or(|(own, _)| time <= own) => {
                    let Some((_, what)) = self.queue.pop_first() else { return };
                    self.now = self.now.max(time);
                    self.happen(what);
                }
                (_, Some((time, at))) => {
                    self.now = self.now.max(time);
                    self.own(at);
                }
                (_, None) => {
                    let left: Vec<_> = self.members.iter().filter(|member| member.phase != Phase::Over).collect();
                    let left: Vec<_> = left.iter().map(|member| (&member.name, member.phase)).collect();
                    panic!("nothing happens any more and these have not ended: {left:?}");
                }
            }
            assert!(self.now < MAX_VIRTUAL_MS, "does not end");
        }
        let counts = self.cluster.counts();
        assert_eq!((counts.running, counts.waiting, counts.slots_used), (0, 0, 0), "something is left");
    }

    /// The next event of one query.
    fn own(&mut self, at: usize) {
        let now = self.now;
        let member = &mut self.members[at];
        let Some(((_, _), what)) = member.world.queue.pop_first() else { return };
        member.world.now = now;
        match what {
            Happening::Say(event) => self.process_inbox(at, Some(event)),
            what => {
                member.world.happen(member.scenario, what);
                if let Some(worker) = member.world.crashed.take() {
                    self.crash(worker);
                }
            }
        }
    }

    /// A query processes its inbox, then this event, and reports its demand.
    fn process_inbox(&mut self, at: usize, event: Option<Event>) {
        if self.members[at].phase != Phase::Running {
            return;
        }
        let mut called = false;
        while let Some(told) = self.members[at].inbox.pop_front() {
            match told {
                Told::Event(event) => self.step(at, event),
                Told::Call => called = true,
            }
        }
        if let Some(event) = event {
            self.step(at, event);
        }
        self.report_demand(at, called);
    }

    fn report_demand(&mut self, at: usize, mut called: bool) {
        for rounds in 0.. {
            assert!(rounds < 10, "{} and the cluster do not come to terms", self.members[at].name);
            let member = &mut self.members[at];
            if member.phase != Phase::Running {
                return;
            }
            let demand = member.state.demand();
            if !called && member.reported_demand.as_ref() == Some(&demand) {
                break;
            }
            called = false;
            member.reported_demand = Some(demand.clone());
            let query = member.name.clone();
            self.ask(Some(at), Ask::Demand { query, demand });
        }
        self.watch_hunger();
    }

    fn step(&mut self, at: usize, event: Event) {
        let (now, trace) = (self.now, self.trace);
        let member = &mut self.members[at];
        if member.phase != Phase::Running {
            return;
        }
        if trace {
            println!("{now:>7} {} {event:?}", member.name);
        }
        member.world.now = now;
        let loss = match &event {
            Event::WorkerLost { worker } => {
                // What is due by now happens with any event.
                let mut otherwise = member.state.clone();
                decide(&mut otherwise, Event::Tick, now);
                Some((member.watch.has_stake(worker), otherwise.progress().counters))
            }
            _ => None,
        };
        member.watch.told(&event, now);
        let actions = decide(&mut member.state, event, now);
        for action in &actions {
            if trace {
                println!("        -> {action:?}");
            }
            member.watch.took(&member.state, action, now);
            member.world.carry_out(member.scenario, &member.state, action);
        }
        member.watch.settled(&member.state, now);
        books::check_books(&member.state);
        if let Some((false, otherwise)) = loss {
            let after = member.state.progress().counters;
            let felt = |counters: crate::Counters| (counters.failed_attempts, counters.retries, counters.made_again);
            assert_eq!(felt(otherwise), felt(after), "{} felt the loss of a worker that it did not need", member.name);
            self.met.unfelt += 1;
        }
        if member.watch.finished.is_some() {
            member.phase = Phase::Over;
            member.inbox.clear();
            let query = member.name.clone();
            let mut seen = member.watch.seen;
            seen.speculative_won = member.state.progress().counters.speculative_won;
            self.met.seen.add(seen);
            self.ask(None, Ask::Left { query });
        }
    }

    /// Passes an event to the cluster scheduler and carries out its actions.
    fn ask(&mut self, caller: Option<usize>, event: Ask) {
        if self.trace {
            println!("{:>7} cluster {event:?}", self.now);
        }
        let before = Before::of(&self.cluster);
        let (running, first, waiting) = (self.cluster.queries.len(), self.first(), self.cluster.waiting.len());
        let waiting_bytes = self.cluster.waiting_bytes;
        let actions = share(&mut self.cluster, event, self.now);
        check_books(&self.cluster);
        check_idle(&self.cluster);
        check_lent(&self.cluster);
        check_whole(&self.cluster);
        check_shares(&before, &self.cluster);
        self.met.kept += self.cluster.workers.iter().filter(|worker| worker.reserved_for.is_some()).count() as u64;
        let index = |query: &str| query[1..].parse::<usize>().expect("q and a number");
        for action in actions {
            if self.trace {
                println!("        => {action:?}");
            }
            match action {
                Action::Admit { query } => self.start(index(&query), first.as_ref()),
                Action::Refuse { query, error } => {
                    assert_eq!(error.class, "TooManyQueries");
                    let limits = self.cluster.limits;
                    let bytes = waiting_bytes + self.members[index(&query)].claim.job_bytes;
                    let full = waiting >= limits.max_waiting || bytes > limits.max_waiting_bytes;
                    assert!(full && running >= limits.max_running, "{query} refused though there is room");
                    self.met.refused += 1;
                    // It comes back later.
                    self.later(1_000, 5_000, Shared::Arrive(index(&query)));
                    self.members[index(&query)].phase = Phase::Away;
                }
                Action::Grant { query, worker, slots, whole } => {
                    let at = index(&query);
                    assert_eq!(Some(at), caller, "an answer to another one");
                    self.met.large += u64::from(self.members[at].claim.task_memory_bytes > 1_500);
                    self.step(at, Event::Granted { worker, slots, whole });
                }
                Action::Call { query } => {
                    let at = index(&query);
                    assert_ne!(Some(at), caller);
                    self.met.calls += 1;
                    self.members[at].inbox.push_back(Told::Call);
                    self.later(0, 20, Shared::Wake(at));
                }
            }
        }
        self.check_told();
    }

    /// Of the queries that wait, the one that came first among those of the highest priority.
    fn first(&self) -> Option<String> {
        let waiting = self.cluster.waiting.iter();
        let first = waiting.min_by_key(|((_, no), waiting)| (-waiting.claim.priority, *no));
        first.map(|(_, waiting)| waiting.query.clone())
    }

    /// `first`: the first of the queries that waited.
    fn start(&mut self, at: usize, first: Option<&String>) {
        self.met.waited += u64::from(first.is_some());
        assert!(
            first.is_none_or(|first| *first == self.members[at].name),
            "{} is admitted out of turn",
            self.members[at].name
        );
        self.members[at].phase = Phase::Running;
        // It may have waited: its own time begins now.
        let scenario = self.members[at].scenario;
        self.members[at].world.start_at(scenario, self.now);
        for worker in 0..self.workers.len() {
            let on = &self.workers[worker];
            if on.known {
                self.members[at].inbox.push_back(Told::Event(Event::WorkerUp { worker: name(worker), slots: 0 }));
                if on.draining {
                    let draining = Event::WorkerDraining { worker: name(worker) };
                    self.members[at].inbox.push_back(Told::Event(draining));
                }
            }
        }
        self.later(0, 20, Shared::Wake(at));
    }
}

#[test]
fn queries_share_workers_whatever_happens() {
    if let Ok(seed) = std::env::var("FLOE_SIM_SEED") {
        println!("{:?}", simulate(seed.parse().expect("FLOE_SIM_SEED is a number"), true));
        return;
    }
    let runs = std::env::var("FLOE_SIM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let mut sum = Met::default();
    for seed in 0..runs {
        match catch_unwind(AssertUnwindSafe(|| simulate(seed, false))) {
            Ok(met) => sum.add(met),
            Err(panic) => {
                eprintln!("simulation failed: FLOE_SIM_SEED={seed} shows it step by step");
                resume_unwind(panic);
            }
        }
    }
    println!("{sum:?}");
    sum.assert_something_of_everything(runs >= RUNS);
}
