//! The runtime as its users see it: real processes, real files, real signals. One test binary, because linking Polars
//! takes long.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod across_tasks;
mod dtypes;
mod engine;
mod fall_back;
mod faults;
mod golden;
mod http;
mod joining;
mod memory;
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
