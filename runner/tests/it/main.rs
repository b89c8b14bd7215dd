//! The run time as its users meet it: real processes, real files, real signals. One binary, since linking Polars takes
//! its time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod dtypes;
mod engine;
mod faults;
mod golden;
mod http;
mod joining;
mod lift;
mod partitions;
mod process;
mod reorder;
mod results;
mod secrets;
mod sinks;
mod stages;
mod support;
mod traces;
mod warnings;
