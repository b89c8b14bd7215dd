//! One file per command or few related ones. Each resolves its typed arguments and returns the exit code.

pub mod catalog;
pub mod change;
pub mod complete;
pub mod contexts;
pub mod crd;
pub mod doctor;
pub mod explain;
pub mod get;
pub mod logs;
pub mod pages;
pub mod result;
pub mod run;
pub mod setup;
pub mod submit;
pub mod validate;
pub mod verify;
pub mod version;
pub mod watch;
