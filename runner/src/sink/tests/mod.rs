//! Tests on a real disk and against a real S3 server: every mode, every crash point of a commit.

mod attempts;
mod crash;
mod formats;
mod modes;
mod support;
mod tables;
