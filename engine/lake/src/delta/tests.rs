//! Tests over small logs in memory.

mod columns;
mod files;
mod log;
pub mod memory;
