//! Where the outputs of tasks lie between stages, and how they are read: bytes only, no Polars and no scheduling.
//!
//! One data file per task attempt; partitions are byte ranges of it. Small outputs never become a file: they travel
//! inside messages. Larger ones start in a memory-backed directory and move to disk when its budget is used up. A
//! file has its final name only once it is complete, so a reader never sees half of one. Names are made from identities
//! (run, task, attempt); readers make the same ones, so names never travel.

mod map;
mod name;
mod peers;
mod read;
mod remote;
mod serve;
mod store;
mod writer;

pub use peers::{Peer, Peers};
pub use read::{Reader, map_file};
pub use remote::{Remote, finish_removals, remove_query};
pub(crate) use serve::bearer;
pub use serve::router;
pub(crate) use store::same;
pub use store::{Store, StoreOptions};
pub use writer::Writer;

#[cfg(test)]
mod tests;
