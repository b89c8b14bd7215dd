//! Tests of the scheduler: one table of rules, one seeded simulation of whole clusters with faults.
//!
//! Mutations that were tried by hand; each was caught:

mod simulation;
mod watch;
mod world;
