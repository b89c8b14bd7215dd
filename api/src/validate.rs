//! The sense of a spec: all that can be said without running it. Pure and total; what the API server's rules say too
//! is said here again, because `floe run` and the operator must not depend on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;

use crate::job::Provider;
use crate::plan::PlanKind;
use crate::{
    ComputeSpec, DistributedQuerySpec, DslSource, ExecutionSpec, Format, Quantity, ScratchMedium, ShufflePlace,
    SinkCompression, SinkMode, SinkSpec, TableSpec, quantity, suggest,
};

/// One fault: the field it is in and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FieldError {
    /// `spec.compute.workers`; empty for the file as a whole.
    pub path: String,
    pub message: String,
}

impl FieldError {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Everything that is wrong with a spec, in the order of its fields.
pub fn validate(spec: &DistributedQuerySpec) -> Vec<FieldError> {
    let mut faults = Faults { spec, errors: Vec::new() };
    faults.plan();
    faults.tables();
    faults.storages();
    faults.compute(&spec.compute);
    faults.execution(&spec.execution);
    if let Some(sink) = &spec.sink {
        faults.sink(sink);
    }
    if spec.suspend && spec.cancel {
        faults.push("spec.cancel", "suspend and cancel exclude each other: set one of them to false");
    }
    faults.labels("spec.labels", &spec.labels);
    faults.errors
}

/// The name of the object: pods and services are named after it.
pub fn validate_name(name: Option<&str>) -> Vec<FieldError> {
    let Some(name) = name else { return Vec::new() };
    let ok = name.len() <= 50
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if ok {
        return Vec::new();
    }
    let message = format!(
        "\"{name}\" cannot name pods: write at most 50 lower-case letters, digits and -, beginning with a letter"
    );
    vec![FieldError::new("metadata.name", message)]
}

struct Faults<'a> {
    spec: &'a DistributedQuerySpec,
    errors: Vec<FieldError>,
}

impl Faults<'_> {
    fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError::new(path, message));
    }

    fn plan(&mut self) {
        let plan = &self.spec.plan;
        let given: Vec<&str> =
            [("dsl", plan.dsl.is_some()), ("sql", plan.sql.is_some()), ("python", plan.python.is_some())]
                .into_iter()
                .filter_map(|(name, given)| given.then_some(name))
                .collect();
        match plan.kind() {
            None if given.is_empty() => {
                self.push("spec.plan", "is empty: write one of plan.dsl, plan.sql and plan.python")
            }
            None => self.push("spec.plan", format!("has {}: write only one of them", given.join(" and "))),
            Some(PlanKind::Dsl(dsl)) => self.dsl(dsl),
            Some(PlanKind::Sql(sql)) => {
                if sql.trim().is_empty() {
                    self.push("spec.plan.sql", "must not be empty");
                } else if self.spec.tables.is_empty() {
                    self.push("spec.tables", "is empty: name the tables that plan.sql reads");
                }
            }
            Some(PlanKind::Python(python)) => {
                if !python.script.contains("result") {
                    self.push(
                        "spec.plan.python.script",
                        "never assigns `result`: end it with result = <a LazyFrame or DataFrame>",
                    );
                }
                if python.timeout_seconds == 0 {
                    self.push("spec.plan.python.timeoutSeconds", "must be at least 1, is 0");
                }
                self.at_least("spec.plan.python.memory", &python.memory, "256Mi");
            }
        }
    }

    fn dsl(&mut self, dsl: &DslSource) {
        let given: Vec<&str> = [
            ("inline", dsl.inline.is_some()),
            ("uri", dsl.uri.is_some()),
            ("configMapKeyRef", dsl.config_map_key_ref.is_some()),
            ("secretKeyRef", dsl.secret_key_ref.is_some()),
            ("path", dsl.path.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect();
        match given.len() {
            0 => {
                self.push("spec.plan.dsl", "is empty: write one of inline, uri, configMapKeyRef, secretKeyRef and path")
            }
            1 => {}
            _ => self.push("spec.plan.dsl", format!("has {}: write only one of them", given.join(" and "))),
        }
        if let Some(inline) = &dsl.inline
            && let Err(e) = decode_base64(inline)
        {
            self.push("spec.plan.dsl.inline", format!("is not base64 ({e}): write base64.b64encode(lf.serialize())"));
        }
        if let Some(uri) = &dsl.uri {
            self.uri("spec.plan.dsl.uri", uri, true);
        } else if dsl.storage.is_some() {
            self.push("spec.plan.dsl.storage", "goes with dsl.uri only");
        }
        self.storage_name("spec.plan.dsl.storage", dsl.storage.as_deref());
        if !self.spec.tables.is_empty() {
            self.push(
                "spec.tables",
                "a dsl plan names its own sources: leave tables out, or give plan.python or plan.sql",
            );
        }
    }

    fn tables(&mut self) {
        for (name, table) in &self.spec.tables {
            let path = format!("spec.tables.{name}");
            if name.trim().is_empty() {
                self.push("spec.tables", "a table's name must not be empty");
            }
            self.table(&path, table);
        }
    }

    fn table(&mut self, path: &str, table: &TableSpec) {
        self.uri(&format!("{path}.uri"), &table.uri, true);
        self.storage_name(&format!("{path}.storage"), table.storage.as_deref());
        match table.resolved_format() {
            None => self.push(
                format!("{path}.format"),
                format!(
                    "is missing, and \"{}\" does not tell it: write parquet, csv, ndjson, ipc, delta or iceberg",
                    table.uri
                ),
            ),
            Some(format @ (Format::Delta | Format::Iceberg)) if table.uri.contains(['*', '?', '[']) => self.push(
                format!("{path}.uri"),
                format!("a {} table is named by its root, without a glob", format.as_str()),
            ),
            Some(_) => {}
        }
    }

    fn storages(&mut self) {
        let default = self.spec.storage.iter().map(|s| ("spec.storage".to_owned(), s));
        let named = self.spec.storages.iter().map(|(name, s)| (format!("spec.storages.{name}"), s));
        for (path, storage) in default.chain(named) {
            if let Some(endpoint) = &storage.endpoint
                && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
            {
                self.push(
                    format!("{path}.endpoint"),
                    format!("\"{endpoint}\" has no scheme: write http://{endpoint} or https://{endpoint}"),
                );
            }
            if storage.options.keys().any(|k| k.trim().is_empty()) {
                self.push(format!("{path}.options"), "an option's name must not be empty");
            }
        }
    }

    fn compute(&mut self, compute: &ComputeSpec) {
        for (field, count) in
            [("workers", compute.workers), ("minWorkers", compute.min_workers), ("maxWorkers", compute.max_workers)]
        {
            if count == Some(0) {
                self.push(format!("spec.compute.{field}"), "must be at least 1, is 0");
            }
        }
        match (compute.workers, compute.min_workers, compute.max_workers) {
            (Some(_), min, max) if min.is_some() || max.is_some() => self.push(
                "spec.compute.workers",
                "excludes minWorkers and maxWorkers: write either workers or the two bounds",
            ),
            (None, Some(_), None) => self.push("spec.compute.maxWorkers", "is missing: minWorkers needs it beside it"),
            (None, Some(min), Some(max)) if min > max => {
                self.push("spec.compute.minWorkers", format!("must not be above maxWorkers: {min} is above {max}"))
            }
            _ => {}
        }
        self.above_zero("spec.compute.cpus", &compute.cpus);
        self.at_least("spec.compute.memory", &compute.memory, "64Mi");
        self.above_zero("spec.compute.coordinator.cpus", &compute.coordinator.cpus);
        self.at_least("spec.compute.coordinator.memory", &compute.coordinator.memory, "64Mi");
        let scratch = &compute.scratch;
        if let Some(size) = &scratch.size {
            self.at_least("spec.compute.scratch.size", size, "16Mi");
        } else if scratch.medium == ScratchMedium::Claim {
            self.push("spec.compute.scratch.size", "is missing: medium: claim needs it, such as 50Gi");
        }
        if scratch.storage_class_name.is_some() && scratch.medium != ScratchMedium::Claim {
            self.push("spec.compute.scratch.storageClassName", "goes with medium: claim only");
        }
        if let Err(e) = compute.typed_pod_template() {
            self.push("spec.compute.podTemplate", format!("is not a pod template: {e}"));
        }
        self.environment(compute);
        self.labels("spec.compute.labels", &compute.labels);
        self.labels("spec.compute.nodeSelector", &compute.node_selector);
        for key in compute.annotations.keys() {
            self.label_key("spec.compute.annotations", key);
        }
        if compute.context_ref.is_some() {
            let own = [
                ("image", compute.image.is_some()),
                ("podTemplate", compute.pod_template.is_some()),
                ("affinity", compute.affinity.is_some()),
                ("serviceAccountName", compute.service_account_name.is_some()),
                ("env", !compute.env.is_empty()),
                ("envFrom", !compute.env_from.is_empty()),
            ];
            for (field, _) in own.into_iter().filter(|(_, given)| *given) {
                self.push(
                    format!("spec.compute.{field}"),
                    "belongs to the context that contextRef names: leave it out here",
                );
            }
        }
    }

    fn environment(&mut self, compute: &ComputeSpec) {
        let mut seen = BTreeSet::new();
        for (i, variable) in compute.env.iter().enumerate() {
            let path = format!("spec.compute.env[{i}].name");
            let name = variable.name.as_str();
            if name.is_empty() || name.contains('=') || name.contains('\0') {
                self.push(path, format!("\"{name}\" cannot name an environment variable"));
            } else if name.starts_with("FLOE_") {
                self.push(path, format!("{name}: names that begin with FLOE_ are Floe's own"));
            } else if !seen.insert(name) {
                self.push(path, format!("{name} is given twice"));
            }
        }
    }

    fn execution(&mut self, execution: &ExecutionSpec) {
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

    fn sink(&mut self, sink: &SinkSpec) {
        self.uri("spec.sink.uri", &sink.uri, false);
        self.storage_name("spec.sink.storage", sink.storage.as_deref());
        let Some(format) = sink.resolved_format() else {
            self.push(
                "spec.sink.format",
                format!(
                    "is missing, and \"{}\" does not tell it: write parquet, csv, ndjson, ipc, delta or iceberg",
                    sink.uri
                ),
            );
            return;
        };
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

    /// A URI with a scheme that is known, and something behind it.
    fn uri(&mut self, path: &str, uri: &str, reading: bool) {
        const SCHEMES: [&str; 13] =
            ["s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss", "http", "https", "hf", "file"];
        if uri.trim().is_empty() {
            return self.push(path, "must not be empty");
        }
        if uri != uri.trim() {
            return self.push(path, format!("\"{uri}\" begins or ends with a space: leave it out"));
        }
        if !reading && uri.contains('*') {
            self.push(
                path,
                format!("\"{uri}\" has a glob, which only reading knows: write a directory that ends in /"),
            );
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            // `s3:/bucket` would otherwise be taken for a local directory named `s3:`.
            if let Some((scheme, rest)) = uri.split_once(":/")
                && SCHEMES.contains(&scheme)
            {
                self.push(path, format!("\"{uri}\" lacks a slash: write {scheme}://{rest}"));
            }
            return;
        };
        let scheme = scheme.to_ascii_lowercase();
        if !SCHEMES.contains(&scheme.as_str()) {
            let message = match suggest::nearest(&scheme, SCHEMES) {
                Some(meant) => format!("{scheme}:// is not known, did you mean {meant}://{rest}?"),
                None => {
                    format!("{scheme}:// is not known: write a local path, s3://, gs://, az://, abfss:// or http(s)://")
                }
            };
            return self.push(path, message);
        }
        if rest.trim_start_matches('/').is_empty() && scheme != "file" {
            return self.push(path, format!("\"{uri}\" names nothing: write {scheme}://bucket/path"));
        }
        if !reading && Provider::of(uri) == Provider::Http {
            self.push(
                path,
                format!("{scheme}:// can only be read: write a local path, s3://, gs://, az:// or abfss://"),
            );
        }
    }

    fn storage_name(&mut self, path: &str, name: Option<&str>) {
        let Some(name) = name else { return };
        if self.spec.storages.contains_key(name) {
            return;
        }
        let message = match suggest::nearest(name, self.spec.storages.keys().map(String::as_str)) {
            Some(meant) => format!("no storage is named \"{name}\", did you mean \"{meant}\"?"),
            None => format!("no storage is named \"{name}\": describe it under spec.storages.{name}"),
        };
        self.push(path, message);
    }

    fn readable(&mut self, path: &str, amount: &Quantity) -> Option<u128> {
        let milli = amount.milli();
        if milli.is_none() {
            self.push(path, format!("\"{amount}\" is not a quantity: write {}", quantity::EXAMPLES));
        }
        milli
    }

    fn above_zero(&mut self, path: &str, amount: &Quantity) {
        if self.readable(path, amount) == Some(0) {
            self.push(path, "must be above 0, such as 1 or 500m");
        }
    }

    fn at_least(&mut self, path: &str, amount: &Quantity, least: &str) {
        let Some(milli) = self.readable(path, amount) else { return };
        let Some(least_milli) = Quantity::new(least).milli() else { return };
        if milli >= least_milli {
            return;
        }
        // `memory: 2` is two bytes; nobody means that.
        let bare = amount.as_str().chars().all(|c| c.is_ascii_digit() || c == '.') && milli > 0 && milli < 4_096_000;
        let message = match bare {
            true => format!("{amount} is {amount} bytes, did you mean {amount}Gi?"),
            false => format!("must be at least {least}, is {amount}"),
        };
        self.push(path, message);
    }

    fn labels(&mut self, path: &str, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            self.label_key(path, key);
            let ends = |c: char| c.is_ascii_alphanumeric();
            let ok = value.len() <= 63
                && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
                && (value.is_empty() || (value.starts_with(ends) && value.ends_with(ends)));
            if !ok {
                self.push(
                    format!("{path}.{key}"),
                    format!("\"{value}\" is not a label value: write at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit"),
                );
            }
        }
    }

    fn label_key(&mut self, path: &str, key: &str) {
        let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
        let ends = |c: char| c.is_ascii_alphanumeric();
        let name_ok = (1..=63).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && name.starts_with(ends)
            && name.ends_with(ends);
        let prefix_ok = prefix.is_none_or(|p| {
            (1..=253).contains(&p.len())
                && p.split('.').all(|part| {
                    !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                })
        });
        if !name_ok || !prefix_ok {
            self.push(
                path,
                format!(
                    "\"{key}\" is not a label key: write letters, digits, -, _ and ., such as team or example.com/team"
                ),
            );
        } else if prefix.is_some_and(|p| p == "floe.dev" || p.ends_with(".floe.dev")) {
            self.push(path, format!("{key}: keys under floe.dev/ are Floe's own"));
        }
    }
}

/// The bytes of an inline plan; line breaks of a YAML block do not count.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(packed)
}
