//! Counts the cases that simulations covered.

/// What happened in a run or in all: a simulation in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub launches: u64,
    pub speculative: u64,
    pub speculative_won: u64,
    pub alone: u64,
    pub made_again: u64,
    pub released_made_again: u64,
    pub inputs_lost: u64,
    pub ignored: u64,
    pub released: u64,
    pub silent: u64,
    pub drained_spared: u64,
    pub stale: u64,
    pub cut_finer: u64,
    pub steps: u64,
}

impl Seen {
    fn parts(&mut self) -> [(&'static str, &mut u64); 14] {
        [
            ("launches", &mut self.launches),
            ("speculative", &mut self.speculative),
            ("speculative_won", &mut self.speculative_won),
            ("alone", &mut self.alone),
            ("made_again", &mut self.made_again),
            ("released_made_again", &mut self.released_made_again),
            ("inputs_lost", &mut self.inputs_lost),
            ("ignored", &mut self.ignored),
            ("released", &mut self.released),
            ("silent", &mut self.silent),
            ("drained_spared", &mut self.drained_spared),
            ("stale", &mut self.stale),
            ("cut_finer", &mut self.cut_finer),
            ("steps", &mut self.steps),
        ]
    }

    pub fn add(&mut self, mut other: Seen) {
        for ((_, sum), (_, part)) in self.parts().into_iter().zip(other.parts()) {
            *sum += *part;
        }
    }

    pub fn assert_something_of_everything(&mut self, enough_runs: bool) {
        for (name, part) in self.parts() {
            assert!(*part > 0 || !enough_runs, "the simulation never met: {name}");
        }
    }
}
