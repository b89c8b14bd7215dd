//! Distributes each kind of node, one file per kind.

pub(crate) mod aggregate;
pub(crate) mod asof;
mod distinct;
mod group_by;
mod group_windows;
pub(crate) mod halo;
pub(crate) mod join;
mod join_build;
pub(crate) mod peaks;
mod scalars;
pub(crate) mod sinks;
mod slice;
mod sort;
pub(crate) mod subexpressions;
pub(crate) mod unsorted;
mod window;
