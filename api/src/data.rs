//! Tables, the storages of tables, plans, sinks and shuffles, and the catalogs of tables.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NameRef, Secret, schema};

/// A named table.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.uri) ? !has(self.catalog) && (!has(self.table) || (has(self.format) && self.format == 'postgres')) : has(self.catalog) && has(self.table)").message("write uri, or catalog and table"),
    validation = Rule::new("has(self.format) && self.format == 'postgres' ? has(self.uri) && has(self.table) != has(self.query) : !has(self.query) && !has(self.partition)").message("format: postgres takes uri with either table or query; query and partition are for it alone"),
    validation = Rule::new("(has(self.format) && self.format == 'postgres') == (has(self.uri) && self.uri.matches('^postgres(ql)?://'))").message("a PostgreSQL database is named as postgres://host:5432/database, with format: postgres"),
    validation = Rule::new("!has(self.uri) || !self.uri.matches('^postgres(ql)?://[^/@]*:[^/@]*@')").message("uri has a password: put it into the Secret of a storage"),
    validation = Rule::new("!has(self.catalog) || !has(self.format) || self.format == 'iceberg'").message("a table of a catalog is an iceberg table: leave format out"),
    validation = Rule::new("!has(self.catalog) || !has(self.table) || self.table.matches('^[^.]+([.][^.]+)+$')").message("table must name the namespace and the table: namespace.name"),
    validation = Rule::new("has(self.format) || !has(self.uri) || self.uri.matches('(?i)[.](parquet|pq|csv|tsv|ndjson|jsonl|ipc|arrow|feather)([.](gz|zst|zstd))?$')").message("write format (parquet, csv, ndjson, ipc, delta, iceberg or postgres), or a uri that ends in .parquet, .csv, .ndjson or .ipc"),
)]
pub struct TableSpec {
    /// Format of the files. If unset, it follows from the URI's extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// A file, directory or glob: a local path, `s3://`, `gs://`, `az://`, `abfss://` or `http(s)://`; for delta and
    /// iceberg the table's root, or the metadata file of an iceberg table; for postgres the database,
    /// `postgres://user@host:5432/database`. Left out if `catalog` is given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 4096))]
    pub uri: String,
    /// The catalog that knows the table, by its name in `spec.catalogs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub catalog: Option<String>,
    /// The table's name in the catalog: `namespace.name`, or `a.b.name` in a nested namespace; for postgres the name of a
    /// table or view as SQL writes it: `schema.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub table: Option<String>,
    /// For postgres, in place of `table`: a SELECT in the database's SQL, whose rows are the table's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub query: Option<String>,
    /// For postgres: how the rows are cut into parts that are read at the same time. If unset, a table is cut by where its
    /// rows lie, and a query is read in one part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionSpec>,
    /// Options of the reader as the keyword arguments of `pl.scan_*` name them, such as `separator` and `has_header`
    /// of csv or `hive_partitioning` of parquet; `version` or `timestamp` of delta; `snapshot_id`, `branch`, `tag` or
    /// `timestamp` of iceberg; `connections` (most at one time, 8 if unset), `sslmode` and `sslrootcert` of postgres.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub options: BTreeMap<String, serde_json::Value>,
    /// The storage of `uri`, or of the files of a table whose catalog gives no credentials, by its name in
    /// `spec.storages`. If unset, `spec.storage`. For postgres, its Secret has `password`, and `user` if the URI has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage: Option<String>,
}

/// How a table of a database is cut into parts.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.bounds) || (!has(self.count) && (!has(self.by) || self.by == 'range'))").message("partition.bounds are ranges, and say how many there are: leave count and by out"),
)]
pub struct PartitionSpec {
    /// The column by which rows are cut.
    #[schemars(length(min = 1, max = 1024))]
    pub column: String,
    /// `range` cuts the column's values into ranges, by the database's statistics; `value` puts each distinct value into one
    /// part, for columns of few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<PartitionBy>,
    /// The number of parts. If unset, as many as there are connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub count: Option<u32>,
    /// Where ranges begin, as the database writes values of the column: `["2026-01-01", "2026-02-01"]` makes three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub bounds: Vec<String>,
}

/// How a column cuts rows into parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartitionBy {
    Range,
    Value,
}

impl TableSpec {
    /// The given format, that of a catalog's tables, or the one of the URI's extension. Always known after `validate`.
    pub fn resolved_format(&self) -> Option<Format> {
        let of_catalog = self.catalog.as_ref().map(|_| Format::Iceberg);
        self.format.or(of_catalog).or_else(|| Format::of_uri(&self.uri))
    }
}

/// Format of a table's files, or the database that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Parquet,
    Csv,
    Ndjson,
    Ipc,
    Delta,
    Iceberg,
    Postgres,
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
            Format::Postgres => "postgres",
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

/// A catalog of tables and how to reach it. Values are never printed: not in logs, status, events or explained plans.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.uri.matches('^https?://[^/@[:space:]]+(/[^[:space:]]*)?$')").message("uri must be the address of a catalog, https://… or http://…, without user and password"),
    validation = Rule::new("!has(self.oauth2ServerUri) || self.oauth2ServerUri.matches('^https?://[^/@[:space:]]+(/[^[:space:]]*)?$')").message("oauth2ServerUri must be the address of a server, https://… or http://…, without user and password"),
)]
pub struct CatalogSpec {
    /// What the catalog speaks: `rest` is Iceberg's REST protocol.
    #[serde(default)]
    pub r#type: CatalogType,
    /// Address of the catalog, up to but without `/v1`: `https://catalog.example.com/api`.
    #[schemars(length(min = 1, max = 4096))]
    pub uri: String,
    /// The warehouse in the catalog. If unset, the catalog's only or default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub warehouse: Option<String>,
    /// Prefix of the catalog's paths. If unset, the catalog says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// Scope of the tokens that are asked for. If unset, `catalog`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub scope: Option<String>,
    /// Where tokens are asked for with client credentials. If unset, the catalog itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub oauth2_server_uri: Option<String>,
    /// Properties as Iceberg's clients name them, such as `header.X-Tenant` or `audience`. Keep credentials in
    /// `secretRef`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>", extend("maxProperties" = 100))]
    pub options: BTreeMap<String, Secret>,
    /// A Secret whose keys are such properties: `credential` (`client_id:client_secret`) or `token`, and any others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
}

/// What a catalog speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatalogType {
    /// Iceberg's REST protocol.
    #[default]
    Rest,
}

/// The namespace and the name in `namespace.name`, `None` if it is not of that form.
pub fn table_parts(table: &str) -> Option<(Vec<String>, String)> {
    let mut parts: Vec<String> = table.split('.').map(str::to_owned).collect();
    if parts.len() < 2 || parts.iter().any(|part| part.is_empty() || part.trim() != part) {
        return None;
    }
    let name = parts.pop()?;
    Some((parts, name))
}
