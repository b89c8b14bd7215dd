//! Tables that are written and read back.

mod commits;
mod local;
mod overwrites;
mod schemas;
mod store;
mod tables;
