//! Tests of the cluster scheduler: `rules` is one short script per rule, `simulation` runs thousands of clusters on
//! which twenty queries, each with its own scheduler, share workers that come and go.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod fair;
mod garbage;
mod rules;
mod script;
mod simulation;
