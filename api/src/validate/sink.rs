//! Validates how a plan is executed and where its result goes.

use std::collections::BTreeSet;

use super::Faults;
use crate::{ExecutionSpec, Format, ShufflePlace, SinkCompression, SinkMode, SinkSpec};

impl Faults<'_> {
    pub(super) fn execution(&mut self, execution: &ExecutionSpec) {
        let shuffle = &execution.shuffle;
        match (&shuffle.uri, shuffle.place) {
            (None, ShufflePlace::Store) => self
                .push("spec.execution.shuffle.uri", "is missing: place: store needs it, such as s3://bucket/scratch/"),
            (Some(_), ShufflePlace::Auto | ShufflePlace::Local | ShufflePlace::Http) => {
                self.push("spec.execution.shuffle.uri", "goes with place: store only")
            }
            (Some(uri), ShufflePlace::Store) => self.uri("spec.execution.shuffle.uri", uri, false),
            (None, ShufflePlace::Auto | ShufflePlace::Local | ShufflePlace::Http) => {}
        }
        if shuffle.storage.is_some() && shuffle.uri.is_none() {
            self.push("spec.execution.shuffle.storage", "goes with shuffle.uri only");
        }
        self.storage_name("spec.execution.shuffle.storage", shuffle.storage.as_deref());
        if let Some(memory) = &shuffle.memory {
            self.readable("spec.execution.shuffle.memory", memory);
        }
        self.readable("spec.execution.broadcastLimit", &execution.broadcast_limit);
        if let Some(bytes) = &execution.scan_task_bytes {
            self.at_least("spec.execution.scanTaskBytes", bytes, "64Ki");
        }
        if execution.partitions_per_worker == Some(0) {
            self.push("spec.execution.partitionsPerWorker", "must be at least 1, is 0");
        }
    }

    pub(super) fn sink(&mut self, sink: &SinkSpec) {
        if self.place("spec.sink", &sink.uri, sink.catalog.as_deref(), sink.table.as_deref()) {
            self.uri("spec.sink.uri", &sink.uri, false);
        }
        self.storage_name("spec.sink.storage", sink.storage.as_deref());
        let Some(format) = sink.resolved_format() else {
            if sink.uri.is_empty() {
                return;
            }
            self.push(
                "spec.sink.format",
                format!(
                    "is missing, and \"{}\" does not tell it: write parquet, csv, ndjson, ipc, delta or iceberg",
                    sink.uri
                ),
            );
            return;
        };
        if format == Format::Postgres {
            self.push("spec.sink.format", "cannot be postgres: databases are only read");
            return;
        }
        if sink.catalog.is_some() && format != Format::Iceberg {
            self.push("spec.sink.format", super::catalog::not_iceberg(format));
        }
        self.sink_table(sink, format);
        self.sink_compression(sink, format);
        let parquet = matches!(format, Format::Parquet | Format::Delta | Format::Iceberg);
        if sink.row_group_size.is_some() && !parquet {
            self.push(
                "spec.sink.rowGroupSize",
                format!("goes with parquet, delta and iceberg, not with {}", format.as_str()),
            );
        }
        match (&sink.csv, format) {
            (Some(csv), Format::Csv) => {
                for (field, text) in [("separator", &csv.separator), ("quoteChar", &csv.quote_char)] {
                    if text.len() != 1 {
                        self.push(
                            format!("spec.sink.csv.{field}"),
                            format!("must be one ASCII character, is \"{text}\""),
                        );
                    }
                }
                if csv.separator == csv.quote_char {
                    self.push("spec.sink.csv.quoteChar", "must differ from separator");
                }
            }
            (Some(_), other) => {
                self.push("spec.sink.csv", format!("goes with format: csv, not with {}", other.as_str()))
            }
            (None, _) => {}
        }
        if let Some(size) = &sink.max_file_size {
            self.at_least("spec.sink.maxFileSize", size, "64Ki");
        }
        let mut seen = BTreeSet::new();
        for (i, column) in sink.partition_by.iter().enumerate() {
            if column.is_empty() {
                self.push(format!("spec.sink.partitionBy[{i}]"), "a column's name must not be empty");
            } else if !seen.insert(column) {
                self.push(format!("spec.sink.partitionBy[{i}]"), format!("the column \"{column}\" is given twice"));
            }
        }
        if sink.is_single_file() && !matches!(format, Format::Delta | Format::Iceberg) {
            let directory = sink.uri.rsplit_once('.').map_or(sink.uri.as_str(), |(stem, _)| stem);
            let many = [
                ("partitionBy", !sink.partition_by.is_empty()),
                ("maxFileSize", sink.max_file_size.is_some()),
                ("maxFileRows", sink.max_file_rows.is_some()),
                ("mode", sink.mode == SinkMode::Append),
            ];
            for (field, _) in many.into_iter().filter(|(_, given)| *given) {
                let field = if field == "mode" { "mode: append" } else { field };
                self.push(
                    "spec.sink.uri",
                    format!("\"{}\" is one file, but {field} writes several: write a directory such as {directory}/ with format: {}", sink.uri, format.as_str()),
                );
            }
        }
    }

    /// Validates what only tables have.
    fn sink_table(&mut self, sink: &SinkSpec, format: Format) {
        let is_table = matches!(format, Format::Delta | Format::Iceberg);
        let given = [
            ("overwrite", sink.overwrite.is_some(), true),
            ("overwriteWhere", sink.overwrite_where.is_some(), true),
            ("schemaEvolution", sink.schema_evolution.is_some(), false),
        ];
        for (field, _, overwrites) in given.into_iter().filter(|(_, given, _)| *given) {
            let path = format!("spec.sink.{field}");
            if !is_table {
                self.push(path, format!("goes with delta and iceberg tables, not with {}", format.as_str()));
            } else if overwrites && sink.mode != SinkMode::Overwrite {
                self.push(path, "goes with mode: overwrite only");
            }
        }
        if sink.overwrite.is_some() && sink.overwrite_where.is_some() {
            self.push("spec.sink.overwriteWhere", "excludes overwrite: write only one of them");
        }
        if sink.overwrite_where.as_ref().is_some_and(|filter| filter.trim().is_empty()) {
            self.push("spec.sink.overwriteWhere", "must not be empty: write a filter such as day = '2026-01-31'");
        }
    }

    fn sink_compression(&mut self, sink: &SinkSpec, format: Format) {
        use SinkCompression::{Brotli, Gzip, Lz4, None as Plain, Snappy, Zstd};
        let Some(compression) = sink.compression else {
            if sink.compression_level.is_some() {
                self.push("spec.sink.compression", "is missing: compressionLevel needs it, such as zstd");
            }
            return;
        };
        let allowed: &[SinkCompression] = match format {
            Format::Parquet | Format::Delta | Format::Iceberg => &[Plain, Zstd, Lz4, Snappy, Gzip, Brotli],
            Format::Ipc => &[Plain, Zstd, Lz4],
            Format::Csv | Format::Ndjson => &[Plain, Zstd, Gzip],
            // No sink has this format.
            Format::Postgres => return,
        };
        if !allowed.contains(&compression) {
            let names: Vec<&str> = allowed.iter().map(|c| c.as_str()).collect();
            let message = format!(
                "{} files cannot be {}: write one of {}",
                format.as_str(),
                compression.as_str(),
                names.join(", ")
            );
            self.push("spec.sink.compression", message);
            return;
        }
        let Some(level) = sink.compression_level else { return };
        let range = match compression {
            Zstd => 1..=22,
            Gzip => 0..=9,
            Brotli => 0..=11,
            Plain | Lz4 | Snappy => {
                self.push(
                    "spec.sink.compressionLevel",
                    format!("{} has no levels: leave it out", compression.as_str()),
                );
                return;
            }
        };
        if !range.contains(&level) {
            let message =
                format!("{} has the levels {} to {}, not {level}", compression.as_str(), range.start(), range.end());
            self.push("spec.sink.compressionLevel", message);
        }
    }
}
