//! Changes of table metadata as a REST catalog takes them: what must hold, and what is changed. `apply` makes the
//! changes where there is no catalog that does. Metadata stays JSON, so that what is not known here survives.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use floe_wire::error::{QueryError, Result};

/// The branch that is written to.
pub const MAIN: &str = "main";
/// In updates, the schema, specification or order that was added last.
const LAST: i64 = -1;
/// How many earlier metadata files are named in metadata, where the table does not say it.
const PREVIOUS_VERSIONS: usize = 100;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Requirement {
    AssertCreate,
    AssertTableUuid { uuid: String },
    AssertRefSnapshotId { r#ref: String, snapshot_id: Option<i64> },
    AssertCurrentSchemaId { current_schema_id: i64 },
    AssertLastAssignedFieldId { last_assigned_field_id: i32 },
    AssertDefaultSpecId { default_spec_id: i32 },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Update {
    AssignUuid { uuid: String },
    UpgradeFormatVersion { format_version: u32 },
    SetLocation { location: String },
    SetProperties { updates: BTreeMap<String, String> },
    AddSchema { schema: Json, last_column_id: i32 },
    SetCurrentSchema { schema_id: i64 },
    AddSpec { spec: Json },
    SetDefaultSpec { spec_id: i64 },
    AddSortOrder { sort_order: Json },
    SetDefaultSortOrder { sort_order_id: i64 },
    AddSnapshot { snapshot: Json },
    SetSnapshotRef { ref_name: String, r#type: String, snapshot_id: i64 },
}

/// The updates that make a table which has this metadata and no snapshot.
pub fn creation(metadata: &Json) -> Result<Vec<Update>> {
    let text = |key: &str| {
        let text = metadata.get(key).and_then(Json::as_str).map(str::to_string);
        text.ok_or_else(|| bad(format!("the metadata of the new table has no {key}")))
    };
    let last = |key: &str| {
        let last = metadata.get(key).and_then(Json::as_array).and_then(|items| items.last()).cloned();
        last.ok_or_else(|| bad(format!("the metadata of the new table has no {key}")))
    };
    let number = |key: &str| metadata.get(key).and_then(Json::as_i64).unwrap_or_default();
    let properties = metadata.get("properties").and_then(Json::as_object).into_iter().flatten();
    let properties = properties.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string())));
    let schema = last("schemas")?;
    let last_column_id = i32::try_from(number("last-column-id")).unwrap_or(i32::MAX);
    let format_version = u32::try_from(number("format-version")).unwrap_or_default();
    Ok(vec![
        Update::AssignUuid { uuid: text("table-uuid")? },
        Update::UpgradeFormatVersion { format_version },
        Update::AddSchema { schema, last_column_id },
        Update::SetCurrentSchema { schema_id: LAST },
        Update::AddSpec { spec: last("partition-specs")? },
        Update::SetDefaultSpec { spec_id: LAST },
        Update::AddSortOrder { sort_order: last("sort-orders")? },
        Update::SetDefaultSortOrder { sort_order_id: LAST },
        Update::SetLocation { location: text("location")? },
        Update::SetProperties { updates: properties.collect() },
    ])
}

/// Metadata after these updates. `base` is what it was and the URI of its file, `None` for a new table.
pub fn apply(base: Option<(&Json, &str)>, updates: &[Update], now_ms: i64) -> Result<Json> {
    let mut metadata = match base {
        Some((Json::Object(metadata), uri)) => {
            let mut metadata = metadata.clone();
            log_version(&mut metadata, uri);
            metadata
        }
        Some(_) => return Err(bad("the table's metadata is no JSON object")),
        None => empty(),
    };
    for update in updates {
        one(&mut metadata, update, now_ms)?;
    }
    metadata.insert("last-updated-ms".into(), now_ms.into());
    Ok(Json::Object(metadata))
}

fn empty() -> Map<String, Json> {
    let empty = json!({
        "format-version": 2, "last-sequence-number": 0, "last-column-id": 0, "last-partition-id": 999,
        "current-schema-id": 0, "default-spec-id": 0, "default-sort-order-id": 0, "schemas": [], "partition-specs": [],
        "sort-orders": [], "properties": {}, "snapshots": [], "snapshot-log": [], "metadata-log": [], "refs": {},
        "statistics": [], "partition-statistics": [],
    });
    match empty {
        Json::Object(empty) => empty,
        _ => Map::new(),
    }
}

/// Names the file that held the metadata so far.
fn log_version(metadata: &mut Map<String, Json>, uri: &str) {
    let property = metadata.get("properties").and_then(|all| all.get("write.metadata.previous-versions-max"));
    let kept = property.and_then(Json::as_str).and_then(|text| text.parse().ok()).unwrap_or(PREVIOUS_VERSIONS).max(1);
    let time = metadata.get("last-updated-ms").cloned().unwrap_or_else(|| 0.into());
    let log = array(metadata, "metadata-log");
    log.push(json!({"metadata-file": uri, "timestamp-ms": time}));
    let spare = log.len().saturating_sub(kept);
    log.drain(..spare);
}

fn one(metadata: &mut Map<String, Json>, update: &Update, now_ms: i64) -> Result<()> {
    match update {
        Update::AssignUuid { uuid } => set(metadata, "table-uuid", uuid.clone()),
        Update::UpgradeFormatVersion { format_version } => {
            set(metadata, "format-version", *format_version);
            if *format_version >= 3 {
                metadata.entry("next-row-id").or_insert_with(|| 0.into());
            }
        }
        Update::SetLocation { location } => set(metadata, "location", location.clone()),
        Update::SetProperties { updates } => {
            let properties = metadata.entry("properties").or_insert_with(|| json!({}));
            for (key, value) in updates {
                properties[key.as_str()] = value.clone().into();
            }
        }
        Update::AddSchema { schema, last_column_id } => {
            array(metadata, "schemas").push(schema.clone());
            let last = integer(metadata, "last-column-id").max(i64::from(*last_column_id));
            set(metadata, "last-column-id", last);
        }
        Update::SetCurrentSchema { schema_id } => {
            current(metadata, "current-schema-id", "schemas", "schema-id", *schema_id)?
        }
        Update::AddSpec { spec } => {
            array(metadata, "partition-specs").push(spec.clone());
            let fields = spec.get("fields").and_then(Json::as_array).into_iter().flatten();
            let last = fields.filter_map(|field| field.get("field-id")?.as_i64()).max().unwrap_or(999);
            let last = integer(metadata, "last-partition-id").max(last);
            set(metadata, "last-partition-id", last);
        }
        Update::SetDefaultSpec { spec_id } => {
            current(metadata, "default-spec-id", "partition-specs", "spec-id", *spec_id)?
        }
        Update::AddSortOrder { sort_order } => array(metadata, "sort-orders").push(sort_order.clone()),
        Update::SetDefaultSortOrder { sort_order_id } => {
            current(metadata, "default-sort-order-id", "sort-orders", "order-id", *sort_order_id)?;
        }
        Update::AddSnapshot { snapshot } => {
            let sequence = snapshot.get("sequence-number").and_then(Json::as_i64).unwrap_or_default();
            if sequence <= integer(metadata, "last-sequence-number") {
                return Err(bad(format!(
                    "the new snapshot has the sequence number {sequence}, which was given before"
                )));
            }
            set(metadata, "last-sequence-number", sequence);
            if let Some(rows) = snapshot.get("added-rows").and_then(Json::as_i64) {
                let next = integer(metadata, "next-row-id") + rows;
                set(metadata, "next-row-id", next);
            }
            array(metadata, "snapshots").push(snapshot.clone());
        }
        Update::SetSnapshotRef { ref_name, r#type, snapshot_id } => {
            // What else the reference has (how long snapshots are kept) stays.
            let refs = metadata.entry("refs").or_insert_with(|| json!({}));
            refs[ref_name.as_str()]["snapshot-id"] = (*snapshot_id).into();
            refs[ref_name.as_str()]["type"] = r#type.clone().into();
            if ref_name == MAIN {
                set(metadata, "current-snapshot-id", *snapshot_id);
                array(metadata, "snapshot-log").push(json!({"snapshot-id": snapshot_id, "timestamp-ms": now_ms}));
            }
        }
    }
    Ok(())
}

fn current(metadata: &mut Map<String, Json>, key: &str, list: &str, id_key: &str, id: i64) -> Result<()> {
    let last = array(metadata, list).last().and_then(|item| item.get(id_key)?.as_i64());
    let id = if id == LAST { last.ok_or_else(|| bad(format!("the table has no {list}")))? } else { id };
    set(metadata, key, id);
    Ok(())
}

fn set(metadata: &mut Map<String, Json>, key: &str, value: impl Into<Json>) {
    metadata.insert(key.to_string(), value.into());
}

fn integer(metadata: &Map<String, Json>, key: &str) -> i64 {
    metadata.get(key).and_then(Json::as_i64).unwrap_or_default()
}

fn array<'a>(metadata: &'a mut Map<String, Json>, key: &str) -> &'a mut Vec<Json> {
    let value = metadata.entry(key).or_insert(Json::Null);
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Json::Array(items) => items,
        _ => unreachable!("it was made an array above"),
    }
}

fn bad(message: impl Into<String>) -> QueryError {
    QueryError::user("BadTable", message.into())
}
