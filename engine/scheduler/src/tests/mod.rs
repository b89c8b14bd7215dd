//! Tests of the scheduler: `rules` and `retries` are one short script per rule, `simulation` runs thousands of random
//! queries on random clusters with faults, `garbage` tells it nonsense.
//!
//! The simulation is checked by breaking rules by hand; each of these was caught by a seed below 10,000 (all but the
//! rarest below 500): resolving, launching or attempting again before the inputs are there; unblocking at the first
//! input or never; wanting everything, or only one step back, after a loss; keeping outputs or attempts of a lost
//! worker; staying with work that nobody wants; releasing while a reader is open, results, or never; launching on lost,
//! draining or full workers, or beside a task that must be alone; leaking a slot or freeing it twice; no worker kept
//! free for a task that must be alone; never alone after running out of memory; user errors retried, or not the first
//! one reported; no pause after IO failures, or none for second attempts; sleepers not woken; no alarm; each limit
//! removed; results accepted of attempts that do not run, or run elsewhere; losers left running; rows of a re-run
//! counted twice; second attempts on the same worker, in any number, too early, or beside nothing; silent attempts
//! kept; reports that lose the replacement or an inline output; attempts left running at the end; a result that lacks a
//! root; a second resolution accepted; work after the end; outputs of two runs of an unstable task mixed. What is only
//! better or worse (locality, spread, skew, where to retry, what is kept) is in `rules` and `retries`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

pub(crate) mod books;
mod case;
mod end;
mod garbage;
mod retries;
mod rules;
pub(crate) mod scenario;
pub(crate) mod seen;
mod simulation;
pub(crate) mod watch;
pub(crate) mod world;
