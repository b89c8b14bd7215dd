//! Client of Iceberg REST catalogs: which namespaces and tables there are, where a table's metadata is and how its files
//! are reached, and commits to tables.
//!
//! Belongs here: the protocol, its tokens and errors. Does not belong here: what metadata means (`floe-lake`), reading
//! files (`floe-storage`), Polars.
//!
//! The functions block. They may be called from any thread, including one that runs async code, because a runtime of
//! this crate does the work.

mod api;
mod auth;
mod catalog;
mod error;
mod http;
mod names;
mod options;
mod runtime;
#[cfg(test)]
mod tests;
mod vended;

pub use api::{Create, Loaded, Outcome};
pub use catalog::Catalog;
pub use options::CatalogOptions;
pub use vended::Vended;
