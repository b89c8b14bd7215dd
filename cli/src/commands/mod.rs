//! One file per command. Each resolves its typed arguments and returns the exit code.

pub mod cluster;
pub mod crd;
pub mod explain;
pub mod run;
pub mod validate;
pub mod verify;
pub mod version;
