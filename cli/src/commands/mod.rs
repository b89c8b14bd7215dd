//! One file a command. Each takes its typed arguments, resolves them once, and returns the exit code.

pub mod cluster;
pub mod crd;
pub mod explain;
pub mod run;
pub mod validate;
pub mod verify;
pub mod version;
