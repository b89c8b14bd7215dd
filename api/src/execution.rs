//! How a plan is cut into stages and moved through them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Quantity, quantity};

/// How the plan is cut into stages and moved through them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutionSpec {
    /// `auto`: stages if they help, one task for a small query. `distributed`: always stages. `single-node`: one task
    /// on one worker.
    pub mode: Mode,
    /// What to do with nodes of the plan that cannot be distributed: `auto` runs them on one worker and reports it,
    /// `forbid` fails the query and names them, `allow` runs them on one worker without reporting it.
    pub single_worker_ops: SingleWorkerOps,
    /// How rows are passed from stage to stage.
    pub shuffle: ShuffleSpec,
    /// Broadcast a join's side that is smaller than this to every worker instead of shuffling it; at most a 16th of a
    /// worker's memory. `0` disables broadcasts.
    #[schemars(schema_with = "quantity::schema")]
    pub broadcast_limit: Quantity,
    /// Number of shuffle partitions per worker. If unset, chosen from sizes and memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub partitions_per_worker: Option<u32>,
    /// Approximate maximum bytes in memory of the columns that one scan task reads. If unset, chosen from the input's
    /// size, the workers and their memory (an 8th of it at most).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub scan_task_bytes: Option<Quantity>,
    /// Maximum number of retries of a task after failures that are not the query's own.
    #[schemars(range(max = 100))]
    pub retries: u32,
    /// Start a second attempt of a task that is far slower than its peers; the first to finish counts.
    pub speculation: bool,
    /// Adapt later stages to the sizes that earlier ones really had: one task reads several small partitions, and a
    /// join's side that turns out small is broadcast.
    pub adaptive: bool,
    /// Filter the larger side of a join by the keys of the smaller one before it is shuffled.
    pub runtime_filters: bool,
    /// Reorder inner joins if the files' statistics show that another order makes far fewer intermediate rows, and the
    /// order of rows is not guaranteed.
    pub reorder_joins: bool,
    /// Ask sources only for the columns, rows and files that the query needs. `false` reads all, for comparison; the
    /// result is the same.
    pub pushdown: bool,
    /// `report`: report warnings (a difference between Polars versions, an ignored option) with the result. `fail`:
    /// fail the query on the first one.
    pub warnings: WarningPolicy,
}

impl Default for ExecutionSpec {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            single_worker_ops: SingleWorkerOps::default(),
            shuffle: ShuffleSpec::default(),
            broadcast_limit: Quantity::new("256Mi"),
            partitions_per_worker: None,
            scan_task_bytes: None,
            retries: 3,
            speculation: true,
            adaptive: true,
            runtime_filters: true,
            reorder_joins: true,
            pushdown: true,
            warnings: WarningPolicy::default(),
        }
    }
}

/// Whether the plan is cut into stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Auto,
    Distributed,
    SingleNode,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Distributed => "distributed",
            Mode::SingleNode => "single-node",
        }
    }
}

/// What to do with nodes that run on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SingleWorkerOps {
    #[default]
    Auto,
    Allow,
    Forbid,
}

/// What to do with warnings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WarningPolicy {
    #[default]
    Report,
    Fail,
}

/// How rows go from stage to stage.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.place) || self.place != 'store' || has(self.uri)").message("shuffle.place: store needs shuffle.uri, such as s3://bucket/scratch/"),
    validation = Rule::new("!has(self.uri) || (has(self.place) && self.place == 'store')").message("shuffle.uri goes with shuffle.place: store only"),
    validation = Rule::new("!has(self.uri) || !(self.uri.startsWith('http://') || self.uri.startsWith('https://') || self.uri.startsWith('hf://'))").message("shuffle.uri cannot be written by http: write s3://, gs://, az://, abfss:// or a shared directory"),
    validation = Rule::new("!has(self.storage) || has(self.uri)").message("shuffle.storage goes with shuffle.uri only"),
)]
pub struct ShuffleSpec {
    /// `local`: files on one machine that all its workers read. `http`: from worker to worker. `store`: an object store
    /// or shared directory, which outlives lost workers. `auto`: local on one machine, else http.
    #[serde(default)]
    pub place: ShufflePlace,
    /// Location of a `store` shuffle. Every query uses its own prefix below it and removes it at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub uri: Option<String>,
    /// The storage of `uri`, by its name in `spec.storages`. Left out, `spec.storage` is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage: Option<String>,
    /// `auto`: on one machine none in memory and lz4 on disk, lz4 over the network, zstd to a store.
    #[serde(default)]
    pub compression: ShuffleCompression,
    /// Memory per worker for shuffle data before it spills to scratch. If unset, a quarter of the worker's memory, an
    /// eighth below 2Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub memory: Option<Quantity>,
}

/// Memory for shuffle data of a worker with this much memory: small ones need more of it for their tasks.
pub fn default_shuffle_memory_bytes(memory_bytes: u64) -> u64 {
    if memory_bytes < 2 << 30 { memory_bytes / 8 } else { memory_bytes / 4 }
}

/// Where shuffle data is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShufflePlace {
    #[default]
    Auto,
    Local,
    Http,
    Store,
}

/// How shuffle data is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShuffleCompression {
    #[default]
    Auto,
    Lz4,
    Zstd,
    None,
}
