//! The processes of Floe's engine: a coordinator that moves a query through its stages, workers that run its tasks,
//! and what both need of the outside world. How plans are cut, scheduled and run is in the crates under `engine/`.

pub mod coordinator;
pub mod local;
pub mod proto;
pub mod secrecy;
pub mod shuffle;
pub mod sink;
pub mod telemetry;
pub mod verify;
pub mod worker;
