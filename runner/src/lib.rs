//! The processes of Floe's engine: a coordinator that moves a query through its stages, workers that run its tasks,
//! and what both need of the outside world. How plans are cut, scheduled and run is in the crates under `engine/`.

pub mod convert;
pub mod coordinator;
mod listen;
mod local;
mod proto;
pub mod secrecy;
pub mod setup;
mod shuffle;
pub mod sink;
mod telemetry;
pub mod verify;
pub mod worker;
mod writeback;
