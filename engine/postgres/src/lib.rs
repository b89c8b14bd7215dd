//! PostgreSQL as a source: what a table or query has (`describe`), how it is split into parts that share no row (`split`),
//! the SQL that reads a part (`sql`, from what may be pushed down, `pushed`), and its rows as columns (`read`, `copy`,
//! `columns`). A plan holds a `Session` for each database, and its tasks get a `Unit` each. No Polars and no Arrow here: buffers are laid out so that they become arrays without copying values.

pub mod columns;
mod connection;
mod copy;
pub mod describe;
mod error;
mod literal;
mod numeric;
pub mod options;
pub mod pushed;
pub mod read;
pub mod runtime;
mod session;
pub mod snapshot;
pub mod split;
pub mod sql;
mod tls;
pub mod types;
mod unit;

pub use columns::Batch;
pub use connection::Connection;
pub use describe::{Described, describe};
pub use options::Source;
pub use pushed::Pushed;
pub use read::{Limits, Reading};
pub use session::Session;
pub use snapshot::Snapshot;
pub use split::{Part, split};
pub use unit::Unit;
