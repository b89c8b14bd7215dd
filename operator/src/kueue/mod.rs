//! Queries as Workloads of Kueue: a query that names a LocalQueue (label `kueue.x-k8s.io/queue-name`) has pods only while
//! its Workload is admitted. Floe does here what Kueue asks of whoever runs jobs: it makes the Workload, starts when it is
//! admitted, takes the pods away when it is evicted and then gives up the reservation, and tells when pods run and when
//! all has ended.
//!
//! `facts`, `read` and `build` are pure; the decisions are in `query::plan::queue`. Only `watch` and `apply` know the
//! client.

pub mod apply;
pub mod build;
pub mod facts;
pub mod read;
#[cfg(test)]
mod tests;
pub mod watch;
pub mod workload;

pub use facts::{Grant, Standing, Step};
pub use watch::Queues;
