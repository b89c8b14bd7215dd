//! Where the result goes and in which format.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Format, Quantity, quantity};

/// Where the result is written. Nothing is visible there before the query succeeds, and nothing remains after a
/// failure.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.uri) ? !has(self.catalog) && !has(self.table) : has(self.catalog) && has(self.table)").message("write sink.uri, or sink.catalog and sink.table"),
    validation = Rule::new("!has(self.catalog) || ((!has(self.format) || self.format == 'iceberg') && !has(self.csv))").message("a table of a catalog is an iceberg table: leave sink.format and sink.csv out"),
    validation = Rule::new("!has(self.table) || self.table.matches('^[^.]+([.][^.]+)+$')").message("sink.table must name the namespace and the table: namespace.name"),
    validation = Rule::new("has(self.format) || !has(self.uri) || self.uri.matches('(?i)[.](parquet|pq|csv|tsv|ndjson|jsonl|ipc|arrow|feather)([.](gz|zst|zstd))?$')").message("write sink.format (parquet, csv, ndjson, ipc, delta or iceberg), or a sink.uri that ends in .parquet, .csv, .ndjson or .ipc"),
    validation = Rule::new("!has(self.partitionBy) || self.partitionBy.size() == 0 || !has(self.uri) || self.uri.endsWith('/') || !self.uri.matches('(?i)[.](parquet|pq|csv|tsv|ndjson|jsonl|ipc|arrow|feather)([.](gz|zst|zstd))?$')").message("sink.partitionBy writes many files: write sink.uri as a directory that ends in /"),
    validation = Rule::new("!has(self.uri) || (!self.uri.startsWith('http://') && !self.uri.startsWith('https://') && !self.uri.startsWith('hf://'))").message("sink.uri cannot be written by http: write a local path, s3://, gs://, az:// or abfss://"),
    validation = Rule::new("!has(self.uri) || !self.uri.contains('*')").message("sink.uri has a glob, which only reading knows: write a directory that ends in /"),
    validation = Rule::new("!has(self.uri) || !self.uri.matches('(?i)[.](parquet|pq|csv|tsv|ndjson|jsonl|ipc|arrow|feather)([.](gz|zst|zstd))?$') || ((!has(self.mode) || self.mode != 'append') && !has(self.maxFileSize) && !has(self.maxFileRows))").message("mode: append, maxFileSize and maxFileRows write several files: write sink.uri as a directory that ends in /"),
    validation = Rule::new("!has(self.compression) || !has(self.format) || (self.format in ['csv', 'ndjson'] ? self.compression in ['none', 'zstd', 'gzip'] : self.format == 'ipc' ? self.compression in ['none', 'zstd', 'lz4'] : true)").message("sink.compression does not go with sink.format: csv and ndjson take none, zstd or gzip; ipc takes none, zstd or lz4"),
    validation = Rule::new("!has(self.compressionLevel) || has(self.compression)").message("sink.compressionLevel needs sink.compression beside it"),
    validation = Rule::new("!has(self.csv) || (has(self.format) ? self.format == 'csv' : !has(self.uri) || self.uri.matches('(?i)[.](csv|tsv)([.](gz|zst|zstd))?$'))").message("sink.csv goes with sink.format: csv only"),
    validation = Rule::new("!has(self.rowGroupSize) || (has(self.format) ? self.format in ['parquet', 'delta', 'iceberg'] : !has(self.uri) || self.uri.matches('(?i)[.](parquet|pq)$'))").message("sink.rowGroupSize goes with sink.format: parquet, delta or iceberg only"),
    validation = Rule::new("(!has(self.overwrite) && !has(self.overwriteWhere)) || (has(self.mode) && self.mode == 'overwrite')").message("sink.overwrite and sink.overwriteWhere go with sink.mode: overwrite only"),
    validation = Rule::new("!has(self.overwrite) || !has(self.overwriteWhere)").message("write sink.overwrite or sink.overwriteWhere, not both"),
    validation = Rule::new("(!has(self.overwrite) && !has(self.overwriteWhere) && !has(self.schemaEvolution)) || has(self.catalog) || (has(self.format) && self.format in ['delta', 'iceberg'])").message("sink.overwrite, sink.overwriteWhere and sink.schemaEvolution go with tables only: sink.format: delta or iceberg, or a table of a catalog"),
    validation = Rule::new("!has(self.format) || self.format != 'postgres'").message("sink.format cannot be postgres: databases are only read"),
)]
pub struct SinkSpec {
    /// A directory (ends in `/`) for many files, or one file: a local path, `s3://`, `gs://`, `az://` or `abfss://`; for
    /// delta and iceberg the table's root. Left out if `catalog` is given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 4096))]
    pub uri: String,
    /// The catalog of the table that is written, by its name in `spec.catalogs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub catalog: Option<String>,
    /// The table's name in the catalog: `namespace.name`, or `a.b.name` in a nested namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub table: Option<String>,
    /// The storage of `uri`, or of the files of a table whose catalog gives no credentials, by its name in
    /// `spec.storages`. If unset, `spec.storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage: Option<String>,
    /// Format of the files. If unset, it follows from the URI's extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<SinkFormat>,
    /// What to do if there is something at `uri` already: `error` fails before any work, `overwrite` replaces it at
    /// commit, `append` adds files to it.
    #[serde(default)]
    pub mode: SinkMode,
    /// With `mode: overwrite` into a delta or iceberg table, which of its rows are replaced: `table`, all of them, or
    /// `partitions`, those of every partition that the result has rows for. If unset, `table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<SinkOverwrite>,
    /// With `mode: overwrite` into a delta or iceberg table: replaces the rows that this filter over columns of
    /// `partitionBy` holds for, such as `day = '2026-01-31' AND region IN ('eu', 'us')`. All rows of the result must
    /// satisfy it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub overwrite_where: Option<String>,
    /// What to do if a column of the result is not in the delta or iceberg table, or of a wider type than there: `none`
    /// refuses it by its name, `merge` adds the column, or widens its type where the table's format allows it. If
    /// unset, `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_evolution: Option<SchemaEvolution>,
    /// Compression of the files. If unset, zstd for parquet and none for other formats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<SinkCompression>,
    /// Compression level in the method's own scale (zstd 1 to 22, gzip 0 to 9, brotli 0 to 11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 22))]
    pub compression_level: Option<i32>,
    /// Rows per Parquet row group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub row_group_size: Option<u64>,
    /// Write column statistics (parquet), with which readers skip data that cannot match.
    #[serde(default = "yes")]
    pub statistics: bool,
    /// Columns whose values name directories (`year=2026/`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub partition_by: Vec<String>,
    /// Write the columns of `partitionBy` into the files too.
    #[serde(default = "yes")]
    pub include_keys: bool,
    /// Start a new file at about this many bytes. If unset: 128Mi, or no limit if `maxFileRows` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity::schema")]
    pub max_file_size: Option<Quantity>,
    /// Start a new file after this many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_file_rows: Option<u64>,
    /// How csv files are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvSinkSpec>,
}

impl SinkSpec {
    /// The given format, that of a catalog's tables, or the one of the URI's extension. Always known after `validate`.
    pub fn resolved_format(&self) -> Option<SinkFormat> {
        let of_catalog = self.catalog.as_ref().map(|_| Format::Iceberg);
        self.format.or(of_catalog).or_else(|| Format::of_uri(&self.uri))
    }

    /// Where the result goes, for people: the URI, or the catalog and its table.
    pub fn place(&self) -> String {
        match (&self.catalog, &self.table) {
            (Some(catalog), Some(table)) => format!("{catalog}.{table}"),
            _ => self.uri.clone(),
        }
    }

    /// Whether the URI names one file rather than a directory of files.
    pub fn is_single_file(&self) -> bool {
        !self.uri.ends_with('/') && Format::of_uri(&self.uri).is_some()
    }
}

/// Sinks write the formats that tables are read in.
pub type SinkFormat = Format;

fn yes() -> bool {
    true
}

/// What to do if there is something at the URI already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkMode {
    #[default]
    Error,
    Overwrite,
    Append,
}

/// Which rows of a table `mode: overwrite` replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkOverwrite {
    Table,
    Partitions,
}

/// Whether a table's columns may change for the rows that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchemaEvolution {
    None,
    Merge,
}

/// Compression of a sink's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkCompression {
    None,
    Zstd,
    Lz4,
    Snappy,
    Gzip,
    Brotli,
}

impl SinkCompression {
    pub fn as_str(self) -> &'static str {
        match self {
            SinkCompression::None => "none",
            SinkCompression::Zstd => "zstd",
            SinkCompression::Lz4 => "lz4",
            SinkCompression::Snappy => "snappy",
            SinkCompression::Gzip => "gzip",
            SinkCompression::Brotli => "brotli",
        }
    }
}

/// How csv files are written; the names are those of `LazyFrame.sink_csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CsvSinkSpec {
    /// Write a header line in every file.
    pub include_header: bool,
    /// Begin every file with a UTF-8 byte order mark.
    pub include_bom: bool,
    /// One character between fields.
    #[schemars(length(min = 1, max = 1))]
    pub separator: String,
    /// Line terminator.
    #[schemars(length(min = 1, max = 2))]
    pub line_terminator: String,
    /// One character around fields that need it.
    #[schemars(length(min = 1, max = 1))]
    pub quote_char: String,
    /// When to quote fields.
    pub quote_style: QuoteStyle,
    /// Text for null values.
    #[schemars(length(max = 64))]
    pub null_value: String,
    /// Format of datetimes, in chrono's notation (`%Y-%m-%dT%H:%M:%S`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub datetime_format: Option<String>,
    /// Format of dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub date_format: Option<String>,
    /// Format of times.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub time_format: Option<String>,
    /// Write floats always (true) or never (false) in scientific notation. If unset, depending on the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub float_scientific: Option<bool>,
    /// Digits after the point of a float.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 64))]
    pub float_precision: Option<u32>,
    /// Write a comma as the decimal point.
    pub decimal_comma: bool,
}

impl Default for CsvSinkSpec {
    fn default() -> Self {
        Self {
            include_header: true,
            include_bom: false,
            separator: ",".into(),
            line_terminator: "\n".into(),
            quote_char: "\"".into(),
            quote_style: QuoteStyle::default(),
            null_value: String::new(),
            datetime_format: None,
            date_format: None,
            time_format: None,
            float_scientific: None,
            float_precision: None,
            decimal_comma: false,
        }
    }
}

/// Which csv fields are quoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuoteStyle {
    #[default]
    Necessary,
    Always,
    NonNumeric,
    Never,
}
