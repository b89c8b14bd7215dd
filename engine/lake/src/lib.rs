//! Lake tables: which files a snapshot of a Delta or Iceberg table has, what they hold, and which of their rows are
//! deleted. No Polars and no network here: `Files` reads, and the caller makes scans of what this crate finds.

mod checksum;
pub mod delta;
pub mod files;
pub mod filter;
pub mod iceberg;
pub mod listing;
pub mod options;
pub mod parallel;
pub mod table;
mod unique;
pub mod write;
