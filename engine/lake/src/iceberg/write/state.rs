//! What a commit must know of a table's metadata, and whether the table can be written to.

use std::collections::{BTreeMap, HashMap};

use floe_wire::error::{QueryError, Result};
use serde::Deserialize;
use serde_json::Value as Json;

use super::super::{metadata, uri};
use super::updates::MAIN;

/// Names the query of a snapshot in its summary, and the attempt at it.
pub const QUERY: &str = "floe.query";
pub const ATTEMPT: &str = "floe.attempt";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
    pub format_version: u32,
    pub table_uuid: Option<String>,
    pub location: String,
    #[serde(default)]
    pub last_sequence_number: i64,
    #[serde(default)]
    pub last_updated_ms: i64,
    pub last_column_id: i32,
    pub current_schema_id: i64,
    pub schemas: Vec<Json>,
    pub default_spec_id: i32,
    pub partition_specs: Vec<Json>,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    current_snapshot_id: Option<i64>,
    #[serde(default)]
    snapshots: Vec<Snapshot>,
    #[serde(default)]
    refs: BTreeMap<String, Reference>,
    pub next_row_id: Option<i64>,
    #[serde(default)]
    encryption_keys: Option<Vec<Json>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    pub snapshot_id: i64,
    pub parent_snapshot_id: Option<i64>,
    pub manifest_list: Option<String>,
    #[serde(default)]
    pub summary: BTreeMap<String, String>,
    key_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Reference {
    snapshot_id: i64,
}

impl State {
    pub fn parse(json: &Json, uri: &str) -> Result<Self> {
        let bad = |error: serde_json::Error| {
            QueryError::user("BadTable", format!("the Iceberg metadata file {uri} cannot be understood: {error}"))
        };
        // Versions that are not known are refused here.
        metadata::parse(&serde_json::to_vec(json).map_err(bad)?, uri)?;
        if json.get("format-version").and_then(Json::as_u64) == Some(1) {
            return Err(unsupported(
                "it has the format version 1, which is not written: upgrade it by setting its property format-version \
                 to 2",
            ));
        }
        let state = State::deserialize(json).map_err(bad)?;
        let keys = state.encryption_keys.as_ref().is_some_and(|keys| !keys.is_empty());
        if keys
            || state.properties.contains_key("encryption.key-id")
            || state.snapshots.iter().any(|snapshot| snapshot.key_id.is_some())
        {
            return Err(unsupported("it is encrypted, and encrypted tables are not supported"));
        }
        if state.format_version >= 3 && state.next_row_id.is_none() {
            return Err(bad_table("its metadata has no next-row-id".into()));
        }
        Ok(state)
    }

    pub fn schema(&self) -> Result<&Json> {
        let current = |schema: &&Json| schema.get("schema-id").and_then(Json::as_i64) == Some(self.current_schema_id);
        let schema = self.schemas.iter().find(current);
        schema
            .ok_or_else(|| bad_table(format!("its current schema {} is not among its schemas", self.current_schema_id)))
    }

    pub fn spec(&self, id: i32) -> Result<&Json> {
        let wanted = |spec: &&Json| spec.get("spec-id").and_then(Json::as_i64) == Some(id.into());
        let spec = self.partition_specs.iter().find(wanted);
        spec.ok_or_else(|| bad_table(format!("its partition specification {id} is not among its specifications")))
    }

    /// The snapshot of the main branch; `None`: the table has no rows yet.
    pub fn main(&self) -> Result<Option<&Snapshot>> {
        let current = self.current_snapshot_id.filter(|id| *id != -1);
        let Some(id) = self.refs.get(MAIN).map(|main| main.snapshot_id).or(current) else { return Ok(None) };
        let snapshot = self.snapshots.iter().find(|snapshot| snapshot.snapshot_id == id);
        snapshot.map(Some).ok_or_else(|| bad_table(format!("its current snapshot {id} is not among its snapshots")))
    }

    pub fn has(&self, snapshot_id: i64) -> bool {
        self.snapshots.iter().any(|snapshot| snapshot.snapshot_id == snapshot_id)
    }

    pub fn has_snapshots(&self) -> bool {
        !self.snapshots.is_empty()
    }

    /// The snapshot that a query has committed to the main branch.
    pub fn committed(&self, query: &str) -> Result<Option<&Snapshot>> {
        let by_id: HashMap<i64, &Snapshot> = self.snapshots.iter().map(|one| (one.snapshot_id, one)).collect();
        let mut next = self.main()?;
        // A chain of parents cannot be longer than the list: broken metadata must not hold this up.
        for _ in 0..self.snapshots.len() {
            let Some(snapshot) = next else { break };
            if snapshot.summary.get(QUERY).is_some_and(|other| other == query) {
                return Ok(Some(snapshot));
            }
            next = snapshot.parent_snapshot_id.and_then(|parent| by_id.get(&parent).copied());
        }
        Ok(None)
    }

    /// Where data files go, as URIs that `Store` takes.
    pub fn data(&self) -> String {
        let property =
            ["write.data.path", "write.folder-storage.path"].iter().find_map(|key| self.properties.get(*key));
        self.path(property, "data")
    }

    /// Where manifests go.
    pub fn metadata(&self) -> String {
        self.path(self.properties.get("write.metadata.path"), "metadata")
    }

    fn path(&self, property: Option<&String>, name: &str) -> String {
        let own = || format!("{}/{name}", self.location.trim_end_matches('/'));
        uri(&property.map_or_else(own, |path| path.trim_end_matches('/').to_string()))
    }

    /// A URI of ours as the table has it in its metadata, with its own scheme.
    pub fn own(&self, path: &str) -> String {
        let own = ["s3a://", "s3n://"].into_iter().find(|scheme| self.location.starts_with(scheme));
        match (own, path.strip_prefix("s3://")) {
            (Some(scheme), Some(rest)) => format!("{scheme}{rest}"),
            _ => path.to_string(),
        }
    }
}

pub fn unsupported(message: impl Into<String>) -> QueryError {
    QueryError::user("UnsupportedTable", message)
}

pub fn bad_table(message: String) -> QueryError {
    QueryError::user("BadTable", message)
}
