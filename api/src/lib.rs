//! Floe's types: the `DistributedQuery` object, the job that a coordinator gets, and what it tells of the query.
//!
//! What belongs here: plain data, its schema, its validation, and reading it from YAML with errors a person can act
//! on. What must not: a Kubernetes client, Polars, IO, clocks.

mod check;
pub mod compute;
pub mod data;
pub mod execution;
pub mod job;
pub mod plan;
pub mod quantity;
pub mod query;
pub mod read;
pub mod reason;
pub mod reference;
pub mod report;
pub mod schema;
pub mod secret;
pub mod sink;
pub mod status;
mod suggest;
pub mod validate;

pub use compute::{ComputeSpec, CoordinatorSpec, ImagePullPolicy, ScratchMedium, ScratchSpec};
pub use data::{Format, StorageSpec, TableSpec};
pub use execution::{
    ExecutionSpec, Mode, ShuffleCompression, ShufflePlace, ShuffleSpec, SingleWorkerOps, WarningPolicy,
};
pub use plan::{DslSource, KeyRef, NameRef, PlanSource, PythonSource};
pub use quantity::Quantity;
pub use query::{DistributedQuery, DistributedQuerySpec, TtlSpec};
pub use read::{from_value, from_yaml};
pub use reason::Reason;
pub use schema::crd;
pub use secret::Secret;
pub use sink::{CsvSinkSpec, QuoteStyle, SinkCompression, SinkFormat, SinkMode, SinkSpec};
pub use status::{
    DistributedQueryStatus, MAX_STAGES, Phase, SingleWorkerStatus, StageState, StageStatus, WorkerCounts,
};
pub use validate::{FieldError, validate};
