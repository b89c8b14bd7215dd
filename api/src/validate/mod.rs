//! Validates the meaning of a spec: everything that can be checked without running it. Pure and total. It repeats the
//! API server's rules, because `floe run` and the operator must not depend on them.

mod catalog;
mod compute;
mod database;
mod pods;
pub mod schedule;
mod sink;
mod values;

use std::fmt;

use base64::Engine as _;

use crate::plan::PlanKind;
use crate::{ComputeContextSpec, DistributedQuerySpec, DslSource, Format, TableSpec};
use catalog::not_iceberg;
use values::is_label_key;

/// One fault: its field and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FieldError {
    /// Such as `spec.compute.workers`; empty for the file as a whole.
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

/// All faults of a spec, in the order of its fields.
pub fn validate(spec: &DistributedQuerySpec) -> Vec<FieldError> {
    let mut faults = Faults { spec, errors: Vec::new() };
    faults.plan();
    faults.tables();
    faults.views();
    faults.storages();
    faults.catalogs();
    faults.compute(&spec.compute);
    faults.execution(&spec.execution);
    if let Some(sink) = &spec.sink {
        faults.sink(sink);
    }
    faults.after();
    if spec.suspend && spec.cancel {
        faults.push("spec.cancel", "suspend and cancel exclude each other: set one of them to false");
    }
    faults.labels("spec.labels", &spec.labels);
    faults.errors
}

/// All faults of a context's spec.
pub fn validate_context(spec: &ComputeContextSpec) -> Vec<FieldError> {
    // Fields that it shares with a query follow the same rules under the same names.
    let shared = DistributedQuerySpec {
        compute: spec.compute.clone(),
        storage: spec.storage.clone(),
        ..DistributedQuerySpec::default()
    };
    let mut faults = Faults { spec: &shared, errors: Vec::new() };
    if spec.max_workers == 0 {
        faults.push("spec.maxWorkers", "must be at least 1, is 0");
    } else if spec.min_workers > spec.max_workers {
        let message = format!("must not be above maxWorkers: {} is above {}", spec.min_workers, spec.max_workers);
        faults.push("spec.minWorkers", message);
    }
    let compute = &spec.compute;
    let own = [
        ("workers", compute.workers.is_some(), "is a query's: write spec.minWorkers and spec.maxWorkers"),
        ("minWorkers", compute.min_workers.is_some(), "is a query's: write spec.minWorkers"),
        ("maxWorkers", compute.max_workers.is_some(), "is a query's: write spec.maxWorkers"),
        ("contextRef", compute.context_ref.is_some(), "is a query's: a context has pods of its own"),
    ];
    let misplaced: Vec<_> = own.iter().filter(|(_, given, _)| *given).collect();
    for (field, _, message) in &misplaced {
        faults.push(format!("spec.compute.{field}"), *message);
    }
    if misplaced.is_empty() {
        faults.compute(compute);
    }
    faults.storages();
    if spec.max_queries_at_once == 0 {
        faults.push("spec.maxQueriesAtOnce", "must be at least 1, is 0");
    }
    faults.at_least("spec.queue.maxSize", &spec.queue.max_size, "1Mi");
    faults.errors
}

/// Whether Kubernetes accepts this as the name of a Secret, a ConfigMap or the like (RFC 1123).
pub fn is_object_name(name: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name.split('.').all(|part| {
            part.starts_with(is_end) && part.ends_with(is_end) && part.chars().all(|c| is_end(c) || c == '-')
        })
}

/// Validates the name of the object, which pods and services are named after.
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
                if let Some(memory) = &python.memory {
                    self.at_least("spec.plan.python.memory", memory, "256Mi");
                    let own = &self.spec.compute.coordinator.memory;
                    if memory.milli() > own.milli() {
                        let message = format!(
                            "{memory} is above spec.compute.coordinator.memory ({own}), in which the script runs: lower it, or \
                             raise that"
                        );
                        self.push("spec.plan.python.memory", message);
                    }
                }
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
        for (field, key) in [("configMapKeyRef", &dsl.config_map_key_ref), ("secretKeyRef", &dsl.secret_key_ref)] {
            if let Some(key) = key {
                self.object_name(&format!("spec.plan.dsl.{field}.name"), &key.name);
            }
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

    fn views(&mut self) {
        if !self.spec.views.is_empty() && self.spec.plan.sql.is_none() {
            self.push("spec.views", "views are for SQL: leave them out, or give plan.sql");
        }
        for (name, text) in &self.spec.views {
            if name.trim().is_empty() {
                self.push("spec.views", "a view's name must not be empty");
            }
            if text.trim().is_empty() {
                self.push(format!("spec.views.{name}"), "must not be empty: write SELECT …");
            }
            if self.spec.tables.contains_key(name) {
                self.push(format!("spec.views.{name}"), "a table has this name, too: rename one of them");
            }
        }
    }

    fn table(&mut self, path: &str, table: &TableSpec) {
        if table.format == Some(Format::Postgres) || database::is_named(&table.uri) {
            self.storage_name(&format!("{path}.storage"), table.storage.as_deref());
            return self.of_database(path, table);
        }
        for (field, given) in [("query", table.query.is_some()), ("partition", table.partition.is_some())] {
            if given {
                self.push(
                    format!("{path}.{field}"),
                    "is for tables of databases: leave it out, or write format: postgres",
                );
            }
        }
        if self.place(path, &table.uri, table.catalog.as_deref(), table.table.as_deref()) {
            self.uri(&format!("{path}.uri"), &table.uri, true);
        }
        self.storage_name(&format!("{path}.storage"), table.storage.as_deref());
        match table.resolved_format() {
            None if table.uri.is_empty() => {}
            Some(format) if table.catalog.is_some() && format != Format::Iceberg => {
                self.push(format!("{path}.format"), not_iceberg(format));
            }
            None => self.push(
                format!("{path}.format"),
                format!(
                    "is missing, and \"{}\" does not tell it: write parquet, csv, ndjson, ipc, delta, iceberg or postgres",
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
            if let Some(secret) = &storage.secret_ref {
                self.object_name(&format!("{path}.secretRef.name"), &secret.name);
            }
            if storage.options.keys().any(|k| k.trim().is_empty()) {
                self.push(format!("{path}.options"), "an option's name must not be empty");
            }
        }
    }
}

/// Decodes an inline plan; line breaks of a YAML block are ignored.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(packed)
}
