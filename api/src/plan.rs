//! Where the plan comes from: bytes of a serialized LazyFrame, SQL, or a Python script.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Quantity, quantity};

/// The first bytes of `LazyFrame.serialize()`. Two little-endian u16 (the version of Polars' plan format) and the 64
/// hexadecimal digits of a schema hash follow.
pub const MAGIC: &[u8] = b"DSL_VERSION";

/// Whether these bytes look like the output of `LazyFrame.serialize()`.
pub fn is_serialized(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// What to run: exactly one of `dsl`, `sql` and `python`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.dsl) ? 1 : 0) + (has(self.sql) ? 1 : 0) + (has(self.python) ? 1 : 0) == 1").message("write exactly one of plan.dsl, plan.sql and plan.python"))]
pub struct PlanSource {
    /// A plan made by `LazyFrame.serialize()` in Python Polars 1.43.2, 1.44, 2.0 or 2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dsl: Option<DslSource>,
    /// A SQL query over `tables` and `views`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262144))]
    pub sql: Option<String>,
    /// A Python script that assigns a LazyFrame or DataFrame to `result`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonSource>,
}

/// The location of a serialized plan's bytes: exactly one of the fields (besides `storage`).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.inline) ? 1 : 0) + (has(self.uri) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) + (has(self.path) ? 1 : 0) == 1").message("write exactly one of dsl.inline, dsl.uri, dsl.configMapKeyRef, dsl.secretKeyRef and dsl.path"),
    validation = Rule::new("!has(self.storage) || has(self.uri)").message("dsl.storage goes with dsl.uri only"),
)]
pub struct DslSource {
    /// The bytes in base64. Above 256 KiB `kubectl apply` needs `--server-side` (else it keeps a copy in an annotation, which
    /// may not be larger); an object is limited to about 1.5 MB: use `uri` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1400000))]
    pub inline: Option<String>,
    /// A URI of the file with the bytes: `s3://`, `gs://`, `az://`, `abfss://`, `http(s)://` or a local path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub uri: Option<String>,
    /// The storage of `uri`, by its name in `spec.storages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage: Option<String>,
    /// A key of a ConfigMap in the query's namespace (its `binaryData`, or base64 in its `data`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// A key of a Secret in the query's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// Path of a file on the coordinator: on this machine with `floe run`, in the coordinator's pod on a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub path: Option<String>,
}

/// One key of a ConfigMap or Secret in the query's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the ConfigMap or Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in that object.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A reference to an object in the query's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A Python script that can use `pl`, `scan(table)`, `params` and `catalog`. It runs once, beside the coordinator, in
/// its own process, with no credentials other than the query's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PythonSource {
    /// The script. It must assign a LazyFrame or DataFrame to `result`.
    #[schemars(length(min = 1, max = 262144))]
    pub script: String,
    /// Fail the query when the script has not ended after this many seconds.
    #[serde(default = "default_timeout_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: u32,
    /// Memory that the script and its child processes may use, and as much disk: at most `compute.coordinator.memory`,
    /// of which it is a part. If unset, half of that on a cluster, 4Gi with `floe run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub memory: Option<Quantity>,
}

fn default_timeout_seconds() -> u32 {
    120
}

/// The plan's only source, for code that acts on it.
#[derive(Clone, Copy, Debug)]
pub enum PlanKind<'a> {
    Dsl(&'a DslSource),
    Sql(&'a str),
    Python(&'a PythonSource),
}

impl PlanSource {
    /// `None` if none or several are given, which `validate` rejects.
    pub fn kind(&self) -> Option<PlanKind<'_>> {
        match (&self.dsl, &self.sql, &self.python) {
            (Some(dsl), None, None) => Some(PlanKind::Dsl(dsl)),
            (None, Some(sql), None) => Some(PlanKind::Sql(sql)),
            (None, None, Some(python)) => Some(PlanKind::Python(python)),
            _ => None,
        }
    }
}
