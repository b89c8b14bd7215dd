//! Tests over small logs in memory.

mod columns;
mod files;
mod log;
mod memory;
