//! A virtual cluster with a virtual clock: workers that compute, crash, return, drain and lose files, and a network that
//! delays, doubles and reorders what they say. It plays the shell's part as the module's head asks of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::error::{Category, QueryError};
use crate::graph::*;
use crate::scheduler::{Action, Event, Limits, Millis, State};

/// splitmix64
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What is done to a query; decides what its end must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing goes wrong: every task runs exactly once.
    Calm,
    /// Slow attempts and nothing else.
    Slow,
    /// All that can be recovered from, with budgets that suffice.
    Recoverable,
    /// The same with small budgets.
    Harsh,
    UserErrors,
    Cancelled,
    Deadline,
    /// All workers go and none comes back.
    Deserted,
    /// A task ends every worker that runs it.
    Poison,
    /// Tasks that fit only alone.
    BigTasks,
    /// A task that fits nowhere.
    TooBig,
    /// A task with a fault of Floe's own, each time.
    Broken,
}

impl Kind {
    pub const ALL: [Kind; 12] = [
        Kind::Calm,
        Kind::Slow,
        Kind::Recoverable,
        Kind::Harsh,
        Kind::UserErrors,
        Kind::Cancelled,
        Kind::Deadline,
        Kind::Deserted,
        Kind::Poison,
        Kind::BigTasks,
        Kind::TooBig,
        Kind::Broken,
    ];

    /// Workers crash, drain, lose files, and attempts fail, so that a retry helps.
    fn faulty(self) -> bool {
        match self {
            Kind::Recoverable | Kind::Harsh => true,
            Kind::Calm
            | Kind::Slow
            | Kind::UserErrors
            | Kind::Cancelled
            | Kind::Deadline
            | Kind::Deserted
            | Kind::Poison
            | Kind::BigTasks
            | Kind::TooBig
            | Kind::Broken => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Inline,
    Worker,
    Store,
}

/// One random query and what happens to it.
pub struct Scenario {
    pub kind: Kind,
    pub graph: StageGraph,
    /// By stage and task: what it reads.
    pub reads: Vec<Vec<Vec<TaskId>>>,
    pub kept: Vec<Kept>,
    pub limits: Limits,
    pub useful: Vec<bool>,
    pub user_errors: HashSet<TaskId>,
    pub poison: Option<TaskId>,
    pub big: HashSet<TaskId>,
    pub too_big: Option<TaskId>,
    pub broken: Option<TaskId>,
    pub workers: usize,
    pub slots: u32,
}

impl Scenario {
    pub fn new(kind: Kind, rng: &mut Rng) -> Self {
        let stages = rng.range(1, 7) as usize;
        let mut graph = StageGraph::default();
        let mut reads: Vec<Vec<Vec<TaskId>>> = Vec::new();
        let mut kept = Vec::new();
        for at in 0..stages {
            let inputs: Vec<usize> =
                (0..at).filter(|input| rng.chance(if input + 1 == at { 70 } else { 25 })).collect();
            let count = if rng.chance(6) { 0 } else { rng.range(1, 5) as usize };
            let mut tasks = Vec::new();
            for task in 0..count {
                let mut from = Vec::new();
                for input in &inputs {
                    let all = (0..reads[*input].len()).map(|task| id(*input, task));
                    match (at + *input) % 3 {
                        0 => from.extend(all.filter(|read| read.task as usize % count == task)),
                        1 => from.extend(all),
                        _ => from.extend(all.filter(|_| rng.chance(70))),
                    }
                }
                tasks.push(from);
            }
            reads.push(tasks);
            kept.push([Kept::Worker, Kept::Worker, Kept::Worker, Kept::Inline, Kept::Store][rng.below(5) as usize]);
            let exchange =
                Leaf::Exchange { stages: inputs.iter().map(|at| StageId(*at as u32)).collect(), read: Read::All };
            let source = Leaf::Source { what: String::new(), per_task: vec![Bytes::new(); count] };
            graph.stages.push(Stage {
                id: StageId(at as u32),
                label: format!("work {at}"),
                fragment: Bytes::new(),
                explain: Vec::new(),
                leaves: if inputs.is_empty() { vec![source] } else { vec![exchange] },
                output: Exchange::Whole,
            });
        }
        graph.roots = vec![StageId(stages as u32 - 1)];
        for at in 0..stages - 1 {
            if rng.chance(15) {
                graph.roots.push(StageId(at as u32));
            }
        }
        let mut useful = vec![false; stages];
        for at in (0..stages).rev() {
            useful[at] |= graph.roots.contains(&StageId(at as u32));
            if let (true, Leaf::Exchange { stages, .. }) = (useful[at], &graph.stages[at].leaves[0]) {
                stages.iter().for_each(|input| useful[input.0 as usize] = true);
            }
        }
        let all: Vec<TaskId> = (0..stages)
            .filter(|at| useful[*at])
            .flat_map(|at| (0..reads[at].len()).map(move |task| id(at, task)))
            .collect();
        let mut some = |count: u64| -> HashSet<TaskId> {
            (0..count).filter(|_| !all.is_empty()).map(|_| all[rng.below(all.len() as u64) as usize]).collect()
        };
        let one = some(1).into_iter().next();
        let of = |this: Kind| one.filter(|_| kind == this);
        let user_errors = if kind == Kind::UserErrors { some(3) } else { HashSet::new() };
        let big = if kind == Kind::BigTasks { some(4) } else { HashSet::new() };
        let generous = kind != Kind::Harsh;
        let many = if generous { 10_000 } else { 4 };
        let limits = Limits {
            io_per_task: if generous { 1000 } else { 3 },
            io_per_query: if generous { 10_000 } else { 12 },
            lost_per_task: if kind == Kind::Poison { 4 } else { many },
            lost_per_query: if generous { 10_000 } else { 12 },
            fetch_per_task: many,
            internal_per_task: 2,
            no_worker_ms: 60_000,
            silent_ms: 20_000,
            slow_min_ms: 500,
            speculation: kind != Kind::Calm && rng.chance(80),
            user_error_wait_ms: rng.below(200),
            seed: rng.next(),
            ..Limits::default()
        };
        Self {
            kind,
            graph,
            reads,
            kept,
            limits,
            useful,
            user_errors,
            poison: of(Kind::Poison),
            big,
            too_big: of(Kind::TooBig),
            broken: of(Kind::Broken),
            workers: rng.range(1, 4) as usize,
            slots: rng.range(1, 3) as u32,
        }
    }

    /// The one right content of a task's output.
    pub fn value(&self, task: TaskId, inputs: impl Iterator<Item = u64>) -> u64 {
        let start = Rng((u64::from(task.stage.0) << 32) | u64::from(task.task)).next();
        inputs.fold(start, |sum, value| Rng(sum.rotate_left(7) ^ value).next())
    }

    pub fn right_values(&self) -> Vec<Vec<u64>> {
        let mut values: Vec<Vec<u64>> = Vec::new();
        for (stage, tasks) in self.reads.iter().enumerate() {
            let of_stage = tasks.iter().enumerate().map(|(task, reads)| {
                let read = reads.iter().map(|read| values[read.stage.0 as usize][read.task as usize]);
                self.value(id(stage, task), read)
            });
            let of_stage = of_stage.collect();
            values.push(of_stage);
        }
        values
    }
}

pub fn id(stage: usize, task: usize) -> TaskId {
    TaskId { stage: StageId(stage as u32), task: task as u32 }
}

pub fn value_of(output: &TaskOutput) -> u64 {
    u64::from_le_bytes(output.staged[0].as_ref().try_into().expect("eight bytes"))
}

/// Something that happens in the cluster or on its way to the scheduler.
#[derive(Debug)]
pub enum Happening {
    Say(Event),
    Arrive(Run),
    Fetch(Run),
    End(Run, u64),
    Beat(Run),
    Trouble(usize),
    Return(usize),
    /// Takes tasks again after draining, if it is still in that life.
    Undrain(usize, u32),
}

#[derive(Clone, Debug)]
pub struct Run {
    task: TaskId,
    attempt: u32,
    worker: usize,
    life: u32,
    alone: bool,
    inputs: Vec<Location>,
}

struct Worker {
    alive: bool,
    /// Reported lost though alive: comes back with a new life.
    cut: bool,
    leaves: bool,
    /// Counts its lives: what was sent to an earlier one is lost.
    life: u32,
    files: HashMap<String, u64>,
    running: HashSet<(TaskId, u32)>,
    slow: bool,
}

pub struct World {
    pub rng: Rng,
    pub now: Millis,
    pub queue: BTreeMap<(Millis, u64), Happening>,
    sequence: u64,
    workers: Vec<Worker>,
    store: HashMap<String, u64>,
    io_failures: HashMap<TaskId, u32>,
    internal: HashSet<TaskId>,
    quiet_after: Millis,
}

impl World {
    pub fn new(scenario: &Scenario, rng: Rng) -> Self {
        let mut world = Self {
            rng,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            workers: Vec::new(),
            store: HashMap::new(),
            io_failures: HashMap::new(),
            internal: HashSet::new(),
            quiet_after: 30_000,
        };
        world.at(0, Happening::Say(Event::Tick));
        for worker in 0..scenario.workers {
            let slow = scenario.kind == Kind::Slow && worker == 1;
            world.workers.push(Worker {
                alive: true,
                cut: false,
                leaves: false,
                life: 0,
                files: HashMap::new(),
                running: HashSet::new(),
                slow,
            });
            let up = world.rng.below(300);
            world.at(up, Happening::Say(Event::WorkerUp { worker: format!("w{worker}"), slots: scenario.slots }));
            if scenario.kind.faulty() || scenario.kind == Kind::Deserted {
                for _ in 0..world.rng.range(1, 3) {
                    let when = world.rng.range(300, 8_000);
                    world.at(when, Happening::Trouble(worker));
                }
            }
        }
        let when = world.rng.below(3_000);
        match scenario.kind {
            Kind::Cancelled => world.at(when, Happening::Say(Event::Cancel)),
            Kind::Deadline => world.at(when, Happening::Say(Event::DeadlineReached)),
            Kind::Calm
            | Kind::Slow
            | Kind::Recoverable
            | Kind::Harsh
            | Kind::UserErrors
            | Kind::Deserted
            | Kind::Poison
            | Kind::BigTasks
            | Kind::TooBig
            | Kind::Broken => {}
        }
        world
    }

    pub fn at(&mut self, time: Millis, what: Happening) {
        self.sequence += 1;
        self.queue.insert((time, self.sequence), what);
    }

    fn later(&mut self, from: u64, to: u64, what: Happening) {
        let time = self.now + self.rng.range(from, to);
        self.at(time, what);
    }

    /// Over the network: late, sometimes very late, sometimes twice, in any order.
    fn say(&mut self, scenario: &Scenario, event: Event) {
        let calm = scenario.kind == Kind::Calm;
        if !calm && self.rng.chance(5) {
            self.later(0, 4_000, Happening::Say(event.clone()));
        }
        let slowest = if !calm && self.rng.chance(3) { 3_000 } else { 30 };
        self.later(0, slowest, Happening::Say(event));
    }

    /// The shell carries out one action.
    pub fn carry_out(&mut self, scenario: &Scenario, state: &State, action: &Action) {
        match action {
            Action::Resolve { stage } => {
                let reads = &scenario.reads[stage.0 as usize];
                let tasks = reads.iter().map(|reads| reads.clone().into()).collect();
                let resolved = Event::Resolved { stage: *stage, tasks };
                self.later(0, 20, Happening::Say(resolved.clone()));
                if self.rng.chance(10) {
                    self.later(0, 200, Happening::Say(resolved));
                }
            }
            Action::Launch { task, attempt, worker, alone, inputs_moved: _ } => {
                let worker = number(worker);
                let reads = &scenario.reads[task.stage.0 as usize][task.task as usize];
                let mut inputs = Vec::new();
                for read in reads {
                    let output = state.output(*read).unwrap_or_else(|| panic!("{task:?} launched without {read:?}"));
                    inputs.push(output.pieces[0].piece.at.clone());
                }
                let life = self.workers[worker].life;
                let run = Run { task: *task, attempt: *attempt, worker, life, alone: *alone, inputs };
                self.later(0, 30, Happening::Arrive(run));
            }
            Action::Cancel { task, attempt, worker } => {
                // Some attempts notice too late and finish all the same.
                if self.rng.chance(80) {
                    self.workers[number(worker)].running.remove(&(*task, *attempt));
                }
            }
            Action::Release { stage } => {
                let prefix = format!("{}/", stage.0);
                self.store.retain(|path, _| !path.starts_with(&prefix));
                for worker in &mut self.workers {
                    worker.files.retain(|path, _| !path.starts_with(&prefix));
                }
            }
            Action::WakeAt(time) => {
                let late = self.rng.below(5);
                self.at(time + late, Happening::Say(Event::Tick));
            }
            Action::Finish { .. } => {}
        }
    }

    /// Something happens in the cluster.
    pub fn happen(&mut self, scenario: &Scenario, what: Happening) {
        match what {
            Happening::Say(_) => unreachable!("for the scheduler"),
            Happening::Arrive(run) => {
                let worker = &mut self.workers[run.worker];
                if !worker.alive || worker.life != run.life {
                    return;
                }
                worker.running.insert((run.task, run.attempt));
                let (task, attempt) = (run.task, run.attempt);
                self.say(scenario, Event::Started { task, attempt, worker: name(run.worker) });
                self.later(50, 50, Happening::Beat(run.clone()));
                self.later(0, 300, Happening::Fetch(run));
            }
            Happening::Fetch(run) if self.is_on(&run) => self.fetch(scenario, run),
            Happening::Beat(run) if self.is_on(&run) => {
                let (task, attempt, rows) = (run.task, run.attempt, self.now);
                self.say(scenario, Event::Progress { task, attempt, worker: name(run.worker), rows, bytes: rows });
                self.later(1_000, 1_000, Happening::Beat(run));
            }
            Happening::End(run, value) if self.is_on(&run) => self.end(scenario, run, value),
            // Its attempt or its worker is no more.
            Happening::Fetch(_) | Happening::Beat(_) | Happening::End(..) => {}
            Happening::Trouble(worker) => self.trouble(scenario, worker),
            Happening::Undrain(worker, life) => {
                let back = &self.workers[worker];
                if back.alive && !back.cut && back.life == life {
                    let up = Event::WorkerUp { worker: name(worker), slots: scenario.slots };
                    self.at(self.now, Happening::Say(up));
                }
            }
            Happening::Return(worker) => {
                let back = &mut self.workers[worker];
                back.alive = true;
                back.cut = false;
                back.leaves = false;
                back.life += 1;
                back.files.clear();
                back.running.clear();
                self.at(self.now, Happening::Say(Event::WorkerUp { worker: name(worker), slots: scenario.slots }));
            }
        }
    }

    fn is_on(&self, run: &Run) -> bool {
        let worker = &self.workers[run.worker];
        worker.alive && worker.life == run.life && worker.running.contains(&(run.task, run.attempt))
    }

    fn fetch(&mut self, scenario: &Scenario, run: Run) {
        let reads = &scenario.reads[run.task.stage.0 as usize][run.task.task as usize];
        let (mut lost, mut values) = (Vec::new(), Vec::new());
        for (read, at) in reads.iter().zip(&run.inputs) {
            let found = match at {
                Location::Inline(bytes) => Some(u64::from_le_bytes(bytes.as_ref().try_into().expect("eight bytes"))),
                Location::Store { uri } => self.store.get(uri).copied(),
                Location::Worker { worker, path, .. } => {
                    let holder = &self.workers[number(worker)];
                    holder.files.get(path).copied().filter(|_| holder.alive)
                }
            };
            match found {
                Some(value) => values.push(value),
                None => lost.push(*read),
            }
        }
        let (task, attempt, worker) = (run.task, run.attempt, name(run.worker));
        if !lost.is_empty() {
            self.workers[run.worker].running.remove(&(task, attempt));
            return self.say(scenario, Event::InputsLost { task, attempt, worker, lost });
        }
        let value = scenario.value(task, values.into_iter());
        let hangs = scenario.kind.faulty() && self.now < self.quiet_after && self.rng.chance(1);
        if hangs {
            // Nobody hears of it again.
            self.queue.retain(|_, what| match what {
                Happening::Beat(beat) => (beat.task, beat.attempt) != (task, attempt),
                Happening::Say(_)
                | Happening::Arrive(_)
                | Happening::Fetch(_)
                | Happening::End(..)
                | Happening::Trouble(_)
                | Happening::Return(_)
                | Happening::Undrain(..) => true,
            });
            let (rows, bytes) = (1, 1);
            return self.later(1, 1, Happening::Say(Event::Progress { task, attempt, worker, rows, bytes }));
        }
        let slow = match scenario.kind {
            Kind::Calm => false,
            Kind::Slow => self.workers[run.worker].slow || self.rng.chance(5),
            Kind::Recoverable
            | Kind::Harsh
            | Kind::UserErrors
            | Kind::Cancelled
            | Kind::Deadline
            | Kind::Deserted
            | Kind::Poison
            | Kind::BigTasks
            | Kind::TooBig
            | Kind::Broken => self.rng.chance(5),
        };
        let (from, to) = if slow { (5_000, 9_000) } else { (1, 400) };
        self.later(from, to, Happening::End(run, value));
    }

    fn end(&mut self, scenario: &Scenario, run: Run, value: u64) {
        let (task, attempt, worker) = (run.task, run.attempt, run.worker);
        if scenario.poison == Some(task) {
            return self.crash(worker, true);
        }
        self.workers[worker].running.remove(&(task, attempt));
        let fault = self.fault(scenario, &run);
        if let Some(category) = fault {
            let error = QueryError::new(category, "Test", format!("{} {}", task.stage.0, task.task));
            return self.say(scenario, Event::TaskFailed { task, attempt, worker: name(worker), error });
        }
        let path = format!("{}/{}/{attempt}", task.stage.0, task.task);
        let at = match scenario.kept[task.stage.0 as usize] {
            Kept::Inline => Location::Inline(Bytes::copy_from_slice(&value.to_le_bytes())),
            Kept::Store => {
                self.store.insert(path.clone(), value);
                Location::Store { uri: path }
            }
            Kept::Worker => {
                self.workers[worker].files.insert(path.clone(), value);
                Location::Worker { worker: name(worker), path, url: String::new() }
            }
        };
        let piece = Piece { at, offset: 0, len: 8, rows: 1 };
        let output = TaskOutput {
            pieces: vec![PieceOut { partition: 0, piece, bounds: None }],
            rows: value % 10,
            bytes: value % 1000,
            staged: vec![Bytes::copy_from_slice(&value.to_le_bytes())],
            ..TaskOutput::default()
        };
        self.say(scenario, Event::TaskDone { task, attempt, worker: name(worker), output });
    }

    fn fault(&mut self, scenario: &Scenario, run: &Run) -> Option<Category> {
        let task = run.task;
        if scenario.user_errors.contains(&task) {
            return Some(Category::User);
        }
        if scenario.broken == Some(task) {
            return Some(Category::Internal);
        }
        if scenario.too_big == Some(task) || scenario.big.contains(&task) && !run.alone {
            return Some(Category::OutOfMemory);
        }
        if !scenario.kind.faulty() || self.now > self.quiet_after {
            return None;
        }
        if self.rng.chance(8) {
            let failures = self.io_failures.entry(task).or_default();
            *failures += 1;
            return (*failures < 5).then_some(Category::Io);
        }
        if self.rng.chance(2) {
            return Some(Category::LostWorker);
        }
        if self.rng.chance(1) {
            return Some(Category::Cancelled);
        }
        (self.rng.chance(2) && self.internal.insert(task)).then_some(Category::Internal)
    }

    fn trouble(&mut self, scenario: &Scenario, worker: usize) {
        if !self.workers[worker].alive || self.workers[worker].cut {
            return;
        }
        if scenario.kind == Kind::Deserted {
            return self.crash(worker, false);
        }
        if self.workers[worker].leaves {
            return self.crash(worker, true);
        }
        match self.rng.below(10) {
            // A file goes, its worker stays.
            0 | 1 => {
                let mut paths: Vec<String> = self.workers[worker].files.keys().cloned().collect();
                paths.sort_unstable();
                if !paths.is_empty() {
                    let path = &paths[self.rng.below(paths.len() as u64) as usize];
                    self.workers[worker].files.remove(path);
                }
            }
            2 | 3 => {
                self.at(self.now, Happening::Say(Event::WorkerDraining { worker: name(worker) }));
                if self.rng.chance(50) {
                    self.workers[worker].leaves = true;
                    self.later(500, 3_000, Happening::Trouble(worker));
                } else {
                    let life = self.workers[worker].life;
                    self.later(500, 3_000, Happening::Undrain(worker, life));
                }
            }
            // Cut off: reported lost while it lives, so that it goes on talking for a while.
            4 | 5 => {
                self.workers[worker].cut = true;
                self.at(self.now, Happening::Say(Event::WorkerLost { worker: name(worker) }));
                self.later(200, 4_000, Happening::Return(worker));
            }
            _ => self.crash(worker, true),
        }
    }

    fn crash(&mut self, worker: usize, returns: bool) {
        self.workers[worker].alive = false;
        self.workers[worker].files.clear();
        self.workers[worker].running.clear();
        if self.workers[worker].cut {
            return;
        }
        let noticed = self.now + self.rng.below(2_000);
        self.at(noticed, Happening::Say(Event::WorkerLost { worker: name(worker) }));
        if returns {
            let back = noticed + 1 + self.rng.below(5_000);
            self.at(back, Happening::Return(worker));
        }
    }
}

fn name(worker: usize) -> String {
    format!("w{worker}")
}

fn number(name: &str) -> usize {
    name[1..].parse().expect("w and a number")
}
