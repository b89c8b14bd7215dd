//! How a plan is cut into stages and moved through them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Quantity, quantity};

/// How the plan is cut into stages and moved through them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutionSpec {
    /// `auto`: stages where they gain, one task for a query too small. `distributed`: stages all the same.
    /// `single-node`: one task on one worker.
    pub mode: Mode,
    /// Nodes of the plan with no distributed form: `auto` runs them on one worker and tells so, `forbid` fails the
    /// query and names them, `allow` runs them on one worker without a word.
    pub single_worker_ops: SingleWorkerOps,
    /// How rows go from stage to stage.
    pub shuffle: ShuffleSpec,
    /// A side of a join that is smaller goes whole to every worker instead of a shuffle; never more than a 16th of a
    /// worker's memory. `0` turns it off.
    #[schemars(schema_with = "quantity::schema")]
    pub broadcast_limit: Quantity,
    /// Partitions of a shuffle per worker. Left out, chosen from sizes and memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub partitions_per_worker: Option<u32>,
    /// Bytes in memory of the columns that one scan task reads, roughly and at most. Left out, chosen from the input's size,
    /// the workers and their memory (an 8th of it at most).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub scan_task_bytes: Option<Quantity>,
    /// How often one task may be tried again after failures that are not the query's own.
    #[schemars(range(max = 100))]
    pub retries: u32,
    /// Start a second attempt of a task that is far slower than its peers; the first to end wins.
    pub speculation: bool,
    /// Fit what follows to the sizes that a stage really had: small partitions are read together by one task, and a side of a
    /// join that turns out small goes whole to the tasks of the other.
    pub adaptive: bool,
    /// Let the smaller side of a join tell the tasks of the larger side which keys can match.
    pub runtime_filters: bool,
    /// Put inner joins into another order than the written one where the files' statistics show that it makes far fewer
    /// rows on the way, and no order of rows is promised.
    pub reorder_joins: bool,
    /// `report`: warnings (a difference between Polars versions, an ignored option) are told with the result. `fail`:
    /// the query fails on the first.
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
    /// `local`: files that all workers see on one machine. `http`: from worker to worker. `store`: an object store or
    /// shared directory, so that a lost worker loses nothing. `auto`: local on one machine, else http.
    #[serde(default)]
    pub place: ShufflePlace,
    /// Where a `store` shuffle goes. Every query uses a prefix of its own below it and removes it at the end.
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
    /// Memory per worker for shuffle data before it goes to scratch. Left out, a quarter of the worker's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub memory: Option<Quantity>,
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
