//! The processes of Floe's engine: a coordinator that runs a query's stages, workers that run its tasks, and their
//! connections to the outside. How plans are cut, scheduled and executed is in the crates under `engine/`.

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
