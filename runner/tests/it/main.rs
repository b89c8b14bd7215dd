//! The run time as its users meet it: real processes, real files, real signals. One binary, since linking Polars takes
//! its time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;
mod faults;
mod http;
mod partitions;
mod process;
mod support;
mod traces;
