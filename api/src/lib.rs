//! Floe's types: the `DistributedQuery`, `ComputeContext` and `ScheduledQuery` objects, the job that a coordinator
//! gets, and its reports.
//!
//! What belongs here: plain data, its schema, its validation, and reading it from YAML with errors a person can act on.
//! What does not: a Kubernetes client, Polars, IO, clocks.

mod check;
pub mod compute;
pub mod context;
pub mod data;
pub mod execution;
pub mod job;
pub mod logline;
pub mod plan;
pub mod quantity;
pub mod query;
pub mod read;
pub mod reason;
pub mod reference;
pub mod report;
pub mod schedule;
pub mod schema;
pub mod secret;
pub mod sink;
pub mod status;
pub mod suggest;
pub mod validate;
pub mod volume;
mod words;

pub use compute::{ComputeSpec, CoordinatorSpec, ImagePullPolicy, ScratchMedium, ScratchSpec};
pub use context::{
    ComputeContext, ComputeContextSpec, ComputeContextStatus, ContextPhase, ContextWorkers, FairShareSpec, QueueSpec,
    RevisionStatus,
};
pub use data::{CatalogSpec, CatalogType, Format, PartitionBy, PartitionSpec, StorageSpec, TableSpec, table_parts};
pub use execution::{
    ExecutionSpec, Mode, ShuffleCompression, ShufflePlace, ShuffleSpec, SingleWorkerOps, WarningPolicy,
};
pub use plan::{DslSource, KeyRef, NameRef, PlanSource, PythonSource};
pub use quantity::Quantity;
pub use query::{AfterCondition, AfterSpec, DistributedQuery, DistributedQuerySpec, TtlSpec};
pub use read::{context_from_value, context_from_yaml, from_value, from_yaml, schedule_from_yaml};
pub use reason::Reason;
pub use schedule::{
    ActiveQuery, CatchUp, ConcurrencyPolicy, ParamSpec, ParamType, QueryTemplate, ScheduledQuery, ScheduledQuerySpec,
    ScheduledQueryStatus, TemplateMeta,
};
pub use schema::{context_crd, crd, schedule_crd};
pub use secret::Secret;
pub use sink::{
    CsvSinkSpec, QuoteStyle, SchemaEvolution, SinkCompression, SinkFormat, SinkMode, SinkOverwrite, SinkSpec,
};
pub use status::{
    BorrowedStatus, DistributedQueryStatus, MAX_STAGES, Phase, PinnedStatus, ResultHolder, SingleWorkerStatus,
    StageState, StageStatus, WorkerCounts,
};
pub use validate::schedule::validate_schedule;
pub use validate::{FieldError, validate, validate_context};
pub use volume::{ClaimVolume, EmptyDirVolume, SecretVolume, VolumeSpec};
pub use words::counted;
