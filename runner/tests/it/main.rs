//! The run time as its users meet it: real processes, real files, real signals. One binary, since linking Polars takes
//! its time.

mod engine;
mod faults;
mod http;
mod process;
mod support;
mod traces;
