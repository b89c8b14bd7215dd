//! A virtual cluster with a virtual clock: workers that compute, crash, return, drain and lose files, and a network
//! that delays, doubles and reorders what they say. It plays the shell's part as the module's head asks of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::scenario::{Kept, Kind, Rng, Scenario};
use crate::{Action, Event, Millis, State};
use floe_wire::catalog::Catalog;
use floe_wire::chunk::*;
use floe_wire::error::{Category, QueryError};
use floe_wire::graph::*;
use floe_wire::task::*;

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
    /// Others may run beside it.
    crowded: bool,
    /// How fine its stage was cut.
    finer: u32,
    inputs: Vec<(OutputId, Place)>,
}

struct Worker {
    alive: bool,
    /// Reported lost though alive: comes back with a new life.
    cut: bool,
    leaves: bool,
    /// Counts its lives: what was sent to an earlier one is lost.
    life: u32,
    files: BTreeMap<OutputId, u64>,
    running: HashSet<(TaskId, u32)>,
    slow: bool,
}

pub struct World {
    pub rng: Rng,
    pub now: Millis,
    pub queue: BTreeMap<(Millis, u64), Happening>,
    sequence: u64,
    workers: Vec<Worker>,
    store: HashMap<OutputId, u64>,
    io_failures: HashMap<TaskId, u32>,
    internal: HashSet<TaskId>,
    quiet_after: Millis,
    /// How fine each stage was cut last.
    finer: Vec<u32>,
    /// Workers come and go by what happens to all queries that share them, not by what happens to this one.
    shared: bool,
    /// The worker that a task of this query crashed, for the test that keeps the shared workers.
    pub crashed: Option<usize>,
}

impl World {
    fn idle(scenario: &Scenario, rng: Rng, shared: bool) -> Self {
        let worker = |worker: usize| Worker {
            alive: !shared,
            cut: false,
            leaves: false,
            life: 0,
            files: BTreeMap::new(),
            running: HashSet::new(),
            slow: scenario.kind == Kind::Slow && worker == 1,
        };
        Self {
            rng,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            workers: (0..scenario.workers).map(worker).collect(),
            store: HashMap::new(),
            io_failures: HashMap::new(),
            internal: HashSet::new(),
            quiet_after: 30_000,
            finer: vec![0; scenario.reads.len()],
            shared,
            crashed: None,
        }
    }

    /// One query's view of workers that others use too.
    pub fn shared(scenario: &Scenario, rng: Rng) -> Self {
        Self::idle(scenario, rng, true)
    }

    /// The query starts.
    pub fn start_at(&mut self, scenario: &Scenario, now: Millis) {
        self.now = now;
        self.quiet_after += now;
        self.at(now, Happening::Say(Event::Tick));
        let when = now + self.rng.below(3_000);
        match scenario.kind {
            Kind::Cancelled => self.at(when, Happening::Say(Event::Cancel)),
            Kind::Deadline => self.at(when, Happening::Say(Event::DeadlineReached)),
            _ => {}
        }
    }

    /// A shared worker is there, with nothing of what it had in an earlier life.
    pub fn worker_up(&mut self, worker: usize) {
        self.worker_gone(worker);
        let worker = &mut self.workers[worker];
        worker.alive = true;
        worker.life += 1;
    }

    pub fn worker_gone(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        worker.alive = false;
        worker.files.clear();
        worker.running.clear();
    }

    pub fn new(scenario: &Scenario, rng: Rng) -> Self {
        let mut world = Self::idle(scenario, rng, false);
        world.at(0, Happening::Say(Event::Tick));
        for worker in 0..scenario.workers {
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
            | Kind::Split
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

    /// Sends it over the network: late, sometimes very late, sometimes twice, in any order.
    fn say(&mut self, scenario: &Scenario, event: Event) {
        let calm = scenario.kind == Kind::Calm;
        if !calm && self.rng.chance(5) {
            self.later(0, 4_000, Happening::Say(event.clone()));
        }
        let slowest = if !calm && self.rng.chance(3) { 3_000 } else { 30 };
        self.later(0, slowest, Happening::Say(event));
    }

    /// Carries out one action, as the shell does.
    pub fn carry_out(&mut self, scenario: &Scenario, state: &State, action: &Action) {
        match action {
            Action::Resolve { stage, finer } => {
                let at = stage.0 as usize;
                self.finer[at] = *finer;
                let reads = &scenario.reads[at];
                let fewer = scenario.split.get(&at).filter(|_| *finer == 0).map_or(reads.len(), |(fewer, _)| *fewer);
                let resolved = match scenario.graph.left_out(*stage) {
                    Some(_) if *finer == 0 && reads.is_empty() => Event::LeftOut { stage: *stage, finer: *finer },
                    _ => {
                        let tasks = reads[..fewer].iter().map(|reads| reads.clone().into()).collect();
                        Event::Resolved { stage: *stage, finer: *finer, tasks }
                    }
                };
                let slowest = if scenario.kind.faulty() && self.rng.chance(20) { 3_000 } else { 20 };
                self.later(0, slowest, Happening::Say(resolved.clone()));
                if self.rng.chance(10) {
                    self.later(0, 4_000, Happening::Say(resolved));
                }
            }
            Action::Launch { task, attempt, worker, alone } => {
                let worker = number(worker);
                let reads = &scenario.reads[task.stage.0 as usize][task.task as usize];
                let mut inputs = Vec::new();
                for read in reads {
                    let found = state.output(*read).unwrap_or_else(|| panic!("{task:?} launched without {read:?}"));
                    inputs.push((found.id, found.output.place.clone()));
                }
                let life = self.workers[worker].life;
                let on = &state.workers[state.worker_index[&name(worker)]];
                let crowded = !alone && !(on.whole && on.slots <= 1);
                let finer = self.finer[task.stage.0 as usize];
                let run = Run { task: *task, attempt: *attempt, worker, life, crowded, finer, inputs };
                self.later(0, 30, Happening::Arrive(run));
            }
            Action::Cancel { task, attempt, worker } => {
                // Some attempts notice too late and finish all the same.
                if self.rng.chance(80) {
                    self.workers[number(worker)].running.remove(&(*task, *attempt));
                }
            }
            Action::Release { stage } => {
                self.store.retain(|output, _| output.task.stage != *stage);
                for worker in &mut self.workers {
                    worker.files.retain(|output, _| output.task.stage != *stage);
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
        let (mut lost, mut values) = (Vec::new(), Vec::new());
        for (output, place) in &run.inputs {
            let found = match place {
                Place::Inline(bytes) => Some(u64::from_le_bytes(bytes.as_ref().try_into().expect("eight bytes"))),
                Place::Store => self.store.get(output).copied(),
                Place::Worker { worker, .. } => {
                    let holder = &self.workers[worker.0 as usize];
                    holder.files.get(output).copied().filter(|_| holder.alive)
                }
            };
            match found {
                Some(value) => values.push(value),
                None => lost.push(*output),
            }
        }
        let (task, attempt, worker) = (run.task, run.attempt, name(run.worker));
        if !lost.is_empty() {
            if self.rng.chance(30) {
                // Wrongly reports one that cannot be lost, too.
                let inline =
                    |(output, _): &&(OutputId, Place)| scenario.kept[output.task.stage.0 as usize] == Kept::Inline;
                lost.extend(run.inputs.iter().find(inline).map(|(output, _)| *output));
            }
            self.workers[run.worker].running.remove(&(task, attempt));
            return self.say(scenario, Event::InputsLost { task, attempt, worker, lost });
        }
        let value = scenario.value(task, attempt, values.into_iter());
        let hangs = scenario.kind.faulty() && self.now < self.quiet_after && self.rng.chance(1);
        if hangs {
            // No more is heard of it.
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
            | Kind::Split
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
        let id = OutputId { task, attempt };
        let place = match scenario.kept[task.stage.0 as usize] {
            Kept::Inline => Place::Inline(Bytes::copy_from_slice(&value.to_le_bytes())),
            Kept::Store => {
                self.store.insert(id, value);
                Place::Store
            }
            Kept::Worker => {
                self.workers[worker].files.insert(id, value);
                Place::Worker { worker: WorkerId(worker as u32), shelf: Shelf::Disk }
            }
        };
        let output = TaskOutput {
            place,
            chunks: Chunks::new(vec![Chunk { partition: 0, rows: 1, offset: 0, len: 8 }]),
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
        let split = scenario.split.get(&(task.stage.0 as usize));
        let coarse = run.finer == 0 && split.is_some_and(|(_, bad)| *bad == task.task as usize);
        if scenario.too_big == Some(task) || coarse || run.crowded && scenario.big.contains(&task) {
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
            0 | 1 => self.lose_a_file(worker),
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

    /// A file goes, its worker stays.
    pub fn lose_a_file(&mut self, worker: usize) {
        let outputs: Vec<OutputId> = self.workers[worker].files.keys().copied().collect();
        if !outputs.is_empty() {
            let output = outputs[self.rng.below(outputs.len() as u64) as usize];
            self.workers[worker].files.remove(&output);
        }
    }

    fn crash(&mut self, worker: usize, returns: bool) {
        if self.shared {
            self.crashed = Some(worker);
            return;
        }
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
