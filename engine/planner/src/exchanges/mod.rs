//! Moves rows between tasks: by key, gathered, kept (`redistribute`); decisions on an exchange before it runs
//! (`runtime_filters`, `adaptive_broadcast`), and once the sizes of its inputs are known (`resolve`).

pub(crate) mod adaptive_broadcast;
mod leaf_cut;
mod redistribute;
pub(crate) mod resolve;
pub(crate) mod runtime_filters;
