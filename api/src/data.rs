//! Tables, and the storages of tables, plans, sinks and shuffles.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NameRef, Secret, schema};

/// A named table.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.format) || self.uri.matches('(?i)[.](parquet|pq|csv|tsv|ndjson|jsonl|ipc|arrow|feather)([.](gz|zst|zstd))?$')").message("write format (parquet, csv, ndjson, ipc, delta or iceberg), or a uri that ends in .parquet, .csv, .ndjson or .ipc"))]
pub struct TableSpec {
    /// Format of the files. If unset, it follows from the URI's extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// A file, directory or glob: a local path, `s3://`, `gs://`, `az://`, `abfss://` or `http(s)://`; for delta and
    /// iceberg the table's root, or the metadata file of an iceberg table.
    #[schemars(length(min = 1, max = 4096))]
    pub uri: String,
    /// Options of the reader as the keyword arguments of `pl.scan_*` name them, such as `separator` and `has_header`
    /// of csv or `hive_partitioning` of parquet; `version` or `timestamp` of delta; `snapshot_id`, `branch`, `tag` or
    /// `timestamp` of iceberg.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub options: BTreeMap<String, serde_json::Value>,
    /// The storage of `uri`, by its name in `spec.storages`. If unset, `spec.storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage: Option<String>,
}

impl TableSpec {
    /// The given format, or the one of the URI's extension. Always known after `validate`.
    pub fn resolved_format(&self) -> Option<Format> {
        self.format.or_else(|| Format::of_uri(&self.uri))
    }
}

/// Format of a table's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Parquet,
    Csv,
    Ndjson,
    Ipc,
    Delta,
    Iceberg,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Ipc => "ipc",
            Format::Delta => "delta",
            Format::Iceberg => "iceberg",
        }
    }

    /// The format of a file name's extension, ignoring compression suffixes.
    pub fn of_uri(uri: &str) -> Option<Format> {
        let mut name = uri.to_ascii_lowercase();
        for suffix in [".gz", ".zst", ".zstd"] {
            if let Some(stem) = name.strip_suffix(suffix) {
                name.truncate(stem.len());
                break;
            }
        }
        match name.rsplit_once('.')?.1 {
            "parquet" | "pq" => Some(Format::Parquet),
            "csv" | "tsv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            "ipc" | "arrow" | "feather" => Some(Format::Ipc),
            _ => None,
        }
    }
}

/// How to reach a store. Values are never printed: not in logs, status, events or explained plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// Endpoint of an S3-compatible server, such as `http://minio:9000`. If unset, the cloud provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub region: Option<String>,
    /// Options as Polars' `storage_options` name them, such as `aws_allow_http` or `azure_storage_account_name`. Keep
    /// credentials in `secretRef`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>", extend("maxProperties" = 100))]
    pub options: BTreeMap<String, Secret>,
    /// A Secret whose keys are such options: `aws_access_key_id`, `aws_secret_access_key`,
    /// `google_service_account_key`, `azure_storage_account_key`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
}
