//! Tests over tables in memory.

mod columns;
mod commits;
mod features;
mod new_tables;
mod overwrites;
mod store;
