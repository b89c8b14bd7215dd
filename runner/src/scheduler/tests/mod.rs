//! Tests of the scheduler: one table of rules, one seeded simulation of whole clusters with faults.
//!
//! Mutations that were tried by hand; each was caught:

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod books;
mod case;
mod end;
mod garbage;
mod retries;
mod rules;
mod scenario;
mod seen;
mod simulation;
mod watch;
mod world;
