//! Stores the outputs of tasks between stages, and reads them: bytes only, no Polars and no scheduling.
//!
//! One data file per task attempt; partitions are byte ranges of it. Small outputs never become a file: they travel in
//! messages. Larger ones start in a memory-backed directory and move to disk when its budget is used up, when another
//! query has a right to the room (`share`), or when tasks need the memory (`give_way`). A file gets its final name only
//! once it is complete, so a reader never sees a partial one. Names follow from identities (run,
//! task, attempt), which readers know, so names are never sent.

mod give_way;
mod map;
mod name;
mod peers;
mod read;
mod remote;
mod serve;
mod share;
mod store;
mod writer;

pub(crate) use map::page_bytes;
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
