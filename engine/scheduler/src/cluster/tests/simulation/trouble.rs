//! Changes and faults of workers: they join, drain, crash, lose files, and are noticed to be lost.

use super::{Phase, Shared, Sim, Told, name};
use crate::Event;
use crate::cluster::Event as Ask;

impl Sim<'_> {
    pub(super) fn happen(&mut self, what: Shared) {
        if self.trace {
            println!("{:>7} {what:?}", self.now);
        }
        match what {
            Shared::Arrive(at) => {
                let member = &mut self.members[at];
                member.phase = Phase::Waiting;
                let (query, claim) = (member.name.clone(), member.claim);
                self.ask(None, Ask::Arrived { query, claim });
            }
            Shared::Up(worker) => {
                let on = &mut self.workers[worker];
                (on.alive, on.known, on.draining) = (true, true, false);
                on.life += 1;
                self.members.iter_mut().for_each(|member| member.world.worker_up(worker));
                self.join(worker);
            }
            Shared::Undrain(worker, life) => {
                let on = &mut self.workers[worker];
                if on.alive && on.known && on.life == life {
                    on.draining = false;
                    self.join(worker);
                }
            }
            Shared::Noticed(worker, life) => {
                if self.workers[worker].known && self.workers[worker].life == life {
                    self.lose(worker);
                    self.later(1, 5_000, Shared::Up(worker));
                }
            }
            Shared::Trouble(worker) => self.trouble(worker),
            Shared::Wake(at) => self.process_inbox(at, None),
        }
    }

    pub(super) fn join(&mut self, worker: usize) {
        self.tell_all(|_| Event::WorkerUp { worker: name(worker), slots: 0 });
        let (slots, memory_bytes) = (self.slots, self.memory_bytes);
        self.ask(None, Ask::WorkerUp { worker: name(worker), slots, memory_bytes });
    }

    pub(super) fn lose(&mut self, worker: usize) {
        self.met.losses += 1;
        let on = &mut self.workers[worker];
        (on.known, on.alive) = (false, false);
        self.members.iter_mut().for_each(|member| member.world.worker_gone(worker));
        self.tell_all(|_| Event::WorkerLost { worker: name(worker) });
        self.ask(None, Ask::WorkerLost { worker: name(worker) });
    }

    pub(super) fn tell_all(&mut self, event: impl Fn(usize) -> Event) {
        for at in 0..self.members.len() {
            if self.members[at].phase == Phase::Running {
                self.members[at].inbox.push_back(Told::Event(event(at)));
                self.later(0, 20, Shared::Wake(at));
            }
        }
    }

    pub(super) fn trouble(&mut self, worker: usize) {
        if !self.workers[worker].alive || !self.workers[worker].known {
            return;
        }
        let life = self.workers[worker].life;
        match self.rng.below(10) {
            // Files of one query go, the worker stays.
            0 | 1 => {
                let at = self.rng.below(self.members.len() as u64) as usize;
                self.members[at].world.lose_a_file(worker);
            }
            2..=4 => {
                self.workers[worker].draining = true;
                self.tell_all(|_| Event::WorkerDraining { worker: name(worker) });
                self.ask(None, Ask::WorkerDraining { worker: name(worker) });
                match self.rng.chance(50) {
                    true => self.later(500, 3_000, Shared::Noticed(worker, life)),
                    false => self.later(500, 3_000, Shared::Undrain(worker, life)),
                }
            }
            // Reported lost at once, while it keeps running for a while.
            5 | 6 => self.later(0, 0, Shared::Noticed(worker, life)),
            _ => self.crash(worker),
        }
    }

    pub(super) fn crash(&mut self, worker: usize) {
        let life = self.workers[worker].life;
        self.workers[worker].alive = false;
        self.members.iter_mut().for_each(|member| member.world.worker_gone(worker));
        self.later(0, 2_000, Shared::Noticed(worker, life));
    }
}
