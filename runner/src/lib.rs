//! Floe's engine: plan -> stages -> tasks -> shuffle -> sink.
//!
//! Pure layers (`graph`, `planner`, `scheduler`) know nothing of clocks, files or sockets; the shells
//! (`coordinator`, `worker`) carry out what they decide.

pub mod coordinator;
pub mod error;
pub mod exec;
pub mod graph;
pub mod local;
pub mod plan;
pub mod planner;
pub mod proto;
pub mod scheduler;
pub mod shuffle;
pub mod sink;
pub mod storage;
pub mod telemetry;
pub mod verify;
pub mod worker;
