//! Table metadata (versions 1 to 3), and which snapshot of it is wanted.

use std::collections::BTreeMap;

use floe_wire::error::{QueryError, Result};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::table::At;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metadata {
    pub location: String,
    #[serde(default)]
    schemas: Vec<Json>,
    /// Version 1 only.
    schema: Option<Json>,
    current_schema_id: Option<i64>,
    #[serde(default)]
    partition_specs: Vec<Spec>,
    /// Version 1 only: the fields of the one specification.
    partition_spec: Option<Vec<SpecField>>,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    current_snapshot_id: Option<i64>,
    #[serde(default)]
    snapshots: Vec<Snapshot>,
    #[serde(default)]
    snapshot_log: Vec<LogEntry>,
    #[serde(default)]
    refs: BTreeMap<String, Reference>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spec {
    pub spec_id: i32,
    pub fields: Vec<SpecField>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SpecField {
    /// `None` where the transform has several arguments.
    pub source_id: Option<i32>,
    field_id: Option<i32>,
    pub transform: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    pub snapshot_id: i64,
    timestamp_ms: i64,
    pub manifest_list: Option<String>,
    /// Version 1 only.
    pub manifests: Option<Vec<String>>,
    schema_id: Option<i64>,
    pub key_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LogEntry {
    timestamp_ms: i64,
    snapshot_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Reference {
    snapshot_id: i64,
    r#type: String,
}

impl Spec {
    /// Ids of the partition fields: version 1 did not write them.
    pub fn fields(&self) -> impl Iterator<Item = (i32, &SpecField)> {
        self.fields.iter().zip(1000..).map(|(field, number)| (field.field_id.unwrap_or(number), field))
    }

    /// Whether all its fields have been removed (`void`).
    pub fn is_unpartitioned(&self) -> bool {
        self.fields.iter().all(|field| field.transform == "void")
    }
}

pub fn parse(json: &[u8], uri: &str) -> Result<Metadata> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Version {
        format_version: Option<u32>,
    }
    let bad = |error: serde_json::Error| {
        QueryError::user("BadTable", format!("the Iceberg metadata file {uri} cannot be understood: {error}"))
    };
    match serde_json::from_slice::<Version>(json).map_err(bad)?.format_version {
        Some(1..=3) => {}
        Some(version) => {
            let message = format!(
                "the Iceberg table of {uri} has the format version {version}, and versions 1, 2 and 3 are supported"
            );
            return Err(QueryError::user("UnsupportedTable", message));
        }
        None => {
            let message = format!("{uri} is not the metadata of an Iceberg table: it has no format-version");
            return Err(QueryError::user("BadTable", message));
        }
    }
    serde_json::from_slice(json).map_err(bad)
}

impl Metadata {
    /// The partition specifications by their ids.
    pub fn specs(&self) -> BTreeMap<i32, Spec> {
        let mut specs: BTreeMap<i32, Spec> =
            self.partition_specs.iter().map(|spec| (spec.spec_id, spec.clone())).collect();
        if let (true, Some(fields)) = (specs.is_empty(), &self.partition_spec) {
            specs.insert(0, Spec { spec_id: 0, fields: fields.clone() });
        }
        specs
    }

    /// The wanted snapshot, and the schema to read it by. No snapshot: the table has no rows yet.
    pub fn at(&self, at: &At) -> Result<(Option<&Snapshot>, &Json)> {
        if let Some(version) = at.version {
            return Err(no_snapshot(format!(
                "it has no versions, and version {version} is asked for: give a snapshot, a branch or tag, or a time"
            )));
        }
        if let Some(id) = at.snapshot {
            let snapshot = self
                .snapshot(id)
                .ok_or_else(|| no_snapshot(format!("it has no snapshot {id}; it has {}", self.snapshot_names())))?;
            return Ok((Some(snapshot), self.schema_of(snapshot)?));
        }
        if let Some(name) = &at.reference {
            return self.referenced(name);
        }
        if let Some(time) = at.timestamp_ms {
            let snapshot = self.current_at(time)?;
            return Ok((Some(snapshot), self.schema_of(snapshot)?));
        }
        Ok((self.current()?, self.current_schema()?))
    }

    fn current(&self) -> Result<Option<&Snapshot>> {
        let current = self.current_snapshot_id.filter(|id| *id != -1);
        let Some(id) = current.or_else(|| self.refs.get("main").map(|main| main.snapshot_id)) else {
            return Ok(None);
        };
        let snapshot = self.snapshot(id);
        snapshot.map(Some).ok_or_else(|| bad(format!("its current snapshot {id} is not among its snapshots")))
    }

    fn snapshot(&self, id: i64) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.snapshot_id == id)
    }

    /// A branch goes on with the table's schema, a tag stands for the table as it was.
    fn referenced(&self, name: &str) -> Result<(Option<&Snapshot>, &Json)> {
        let Some(reference) = self.refs.get(name) else {
            if name == "main" {
                return Ok((self.current()?, self.current_schema()?));
            }
            let names: Vec<&str> = self.refs.keys().map(String::as_str).collect();
            let has = if names.is_empty() { "main only".to_string() } else { names.join(", ") };
            return Err(no_snapshot(format!("it has no branch or tag {name}; it has {has}")));
        };
        let id = reference.snapshot_id;
        let snapshot = self.snapshot(id).ok_or_else(|| {
            bad(format!("the snapshot {id} of its {} {name} is not among its snapshots", reference.r#type))
        })?;
        let schema = if reference.r#type == "tag" { self.schema_of(snapshot)? } else { self.current_schema()? };
        Ok((Some(snapshot), schema))
    }

    fn current_at(&self, time_ms: i64) -> Result<&Snapshot> {
        let entries = self.snapshot_log.iter().filter(|entry| entry.timestamp_ms <= time_ms);
        // If several entries have the same time, the last one counts; `max_by_key` returns it.
        let Some(entry) = entries.max_by_key(|entry| entry.timestamp_ms) else {
            let first = self.snapshot_log.iter().map(|entry| entry.timestamp_ms).min();
            let has = match first {
                Some(first) => format!("its history begins at {}", time_text(first)),
                None => "its metadata has no history (snapshot-log)".to_string(),
            };
            return Err(no_snapshot(format!("it has no snapshot at {}: {has}", time_text(time_ms))));
        };
        let id = entry.snapshot_id;
        self.snapshot(id).ok_or_else(|| {
            let has = self.snapshot_names();
            no_snapshot(format!("its snapshot {id} of {} has expired; it has {has}", time_text(time_ms)))
        })
    }

    fn snapshot_names(&self) -> String {
        const SHOWN: usize = 20;
        if self.snapshots.is_empty() {
            return "none".into();
        }
        let newest = self.snapshots.iter().rev().take(SHOWN);
        let names: Vec<String> =
            newest.map(|snapshot| format!("{} ({})", snapshot.snapshot_id, time_text(snapshot.timestamp_ms))).collect();
        let more = self.snapshots.len().saturating_sub(SHOWN);
        if more == 0 { names.join(", ") } else { format!("{} and {more} older ones", names.join(", ")) }
    }

    fn current_schema(&self) -> Result<&Json> {
        match self.current_schema_id {
            Some(id) => self.schema(id).ok_or_else(|| bad(format!("its current schema {id} is not among its schemas"))),
            None => self.schema.as_ref().ok_or_else(|| bad("it has no schema".into())),
        }
    }

    fn schema(&self, id: i64) -> Option<&Json> {
        let found = self.schemas.iter().find(|schema| schema.get("schema-id").and_then(Json::as_i64) == Some(id));
        // Version 1 may have a single schema, without an id.
        found.or(if self.schemas.is_empty() { self.schema.as_ref() } else { None })
    }

    /// The table's schema when the snapshot was made, if that is known.
    fn schema_of(&self, snapshot: &Snapshot) -> Result<&Json> {
        match snapshot.schema_id {
            Some(id) => self
                .schema(id)
                .ok_or_else(|| bad(format!("the schema {id} of snapshot {} is missing", snapshot.snapshot_id))),
            None => self.current_schema(),
        }
    }
}

fn time_text(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms).map_or_else(|_| format!("{time_ms} ms"), |time| time.to_string())
}

fn no_snapshot(message: String) -> QueryError {
    QueryError::user("NoSuchSnapshot", message)
}

fn bad(message: String) -> QueryError {
    QueryError::user("BadTable", message)
}
