//! What the metadata of an Iceberg table says, for people and as JSON. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The columns of `history`, and of `snapshots`.
pub const HISTORY: [&str; 5] = ["time", "snapshot", "parent", "ancestor", "expired"];
pub const SNAPSHOTS: [&str; 9] =
    ["snapshot", "parent", "time", "operation", "added", "deleted", "files", "rows", "refs"];

/// Everything of a table, as lines.
pub fn described(name: &str, metadata_location: Option<&str>, metadata: &Value) -> String {
    let object = object(name, metadata_location, metadata);
    let mut lines = Vec::new();
    let mut add = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("{:<12} {text}", format!("{label}:")));
        }
    };
    add("Table", name.to_owned());
    for (label, key) in [
        ("Location", "location"),
        ("Metadata", "metadataLocation"),
        ("Format", "formatVersion"),
        ("UUID", "uuid"),
        ("Updated", "updated"),
    ] {
        add(label, cell(&object[key]));
    }
    let current = &object["currentSnapshot"];
    if current.is_object() {
        let said = |key: &str, unit: &str| {
            let count = current[key].as_u64().map(|n| format!(", {}", crate::human::plural(n, unit)));
            count.unwrap_or_default()
        };
        let (files, records) = (said("files", "file"), said("rows", "row"));
        let of =
            format!("{} of {} ({})", cell(&current["snapshot"]), cell(&current["time"]), cell(&current["operation"]));
        add("Snapshot", format!("{of}{files}{records}"));
    } else {
        add("Snapshot", "none: the table has no rows yet".to_owned());
    }
    for (label, kind) in [("Branches", "branch"), ("Tags", "tag")] {
        let refs = object["refs"].as_object().into_iter().flatten().filter(|(_, one)| one["type"] == kind);
        let mut refs: Vec<String> = refs.map(|(name, one)| format!("{name} ({})", cell(&one["snapshot"]))).collect();
        refs.sort();
        add(label, refs.join(", "));
    }
    add("Partitions", words(&object["partitionBy"]));
    add("Sorted by", words(&object["sortedBy"]));
    lines.push("Columns:".to_owned());
    let columns = object["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(
        crate::human::aligned(&cells(columns, &["id", "column", "type", "required", "doc"]))
            .into_iter()
            .map(|line| format!("  {line}")),
    );
    let properties = object["properties"].as_object().filter(|properties| !properties.is_empty());
    if let Some(properties) = properties {
        lines.push("Properties:".to_owned());
        lines.extend(properties.iter().map(|(key, value)| format!("  {key}={}", cell(value))));
    }
    lines.join("\n")
}

/// The same as JSON.
pub fn object(name: &str, metadata_location: Option<&str>, metadata: &Value) -> Value {
    let schema = current(metadata, "schemas", "schema-id", "current-schema-id").unwrap_or(&metadata["schema"]);
    let columns: Vec<Value> = items(&schema["fields"])
        .map(|field| {
            let required = field["required"] == true;
            json!({"id": field["id"], "column": field["name"], "type": type_name(&field["type"]), "required": required,
                "doc": field.get("doc").cloned().unwrap_or_default()})
        })
        .collect();
    let names = columns_by_id(schema);
    let named = |fields: &Value, direction: bool| -> Vec<String> {
        let shown = items(fields).filter(|field| field["transform"] != "void").map(|field| {
            let id = field["source-id"].as_i64().unwrap_or(-1);
            let column =
                names.get(&id.to_string()).and_then(Value::as_str).map_or_else(|| format!("#{id}"), str::to_owned);
            let transform = field["transform"].as_str().unwrap_or_default();
            let of = if transform == "identity" { column } else { format!("{transform}({column})") };
            match direction && field["direction"] == "desc" {
                true => format!("{of} desc"),
                false => of,
            }
        });
        shown.collect()
    };
    let none = Value::Null;
    let spec = current(metadata, "partition-specs", "spec-id", "default-spec-id");
    let spec = spec.map_or(&metadata["partition-spec"], |spec| &spec["fields"]);
    let order =
        current(metadata, "sort-orders", "order-id", "default-sort-order-id").map_or(&none, |order| &order["fields"]);
    let refs: Map<String, Value> = metadata["refs"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, one)| (name.clone(), json!({"type": one["type"], "snapshot": one["snapshot-id"]})))
        .collect();
    let now = metadata["current-snapshot-id"].as_i64();
    let snapshot = snapshots(metadata).into_iter().find(|one| now.is_some() && one["snapshot"].as_i64() == now);
    json!({
        "table": name,
        "location": metadata["location"],
        "metadataLocation": metadata_location,
        "formatVersion": metadata["format-version"],
        "uuid": metadata["table-uuid"],
        "updated": time(&metadata["last-updated-ms"]),
        "currentSnapshot": snapshot,
        "refs": refs,
        "partitionBy": named(spec, false),
        "sortedBy": named(order, true),
        "columns": columns,
        "properties": metadata.get("properties").cloned().unwrap_or_else(|| json!({})),
    })
}

/// Snapshots that can be read, the newest first.
pub fn snapshots(metadata: &Value) -> Vec<Value> {
    let refs: Vec<(&String, Option<i64>)> = metadata["refs"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, one)| (name, one["snapshot-id"].as_i64()))
        .collect();
    let mut all: Vec<&Value> = items(&metadata["snapshots"]).collect();
    all.sort_by_key(|one| std::cmp::Reverse((one["timestamp-ms"].as_i64(), one["sequence-number"].as_i64())));
    let row = |one: &Value| {
        let id = one["snapshot-id"].as_i64();
        let summary = |key: &str| number(&one["summary"][key]);
        let names: Vec<&str> = refs.iter().filter(|(_, of)| *of == id).map(|(name, _)| name.as_str()).collect();
        json!({
            "snapshot": one["snapshot-id"],
            "parent": one["parent-snapshot-id"],
            "time": time(&one["timestamp-ms"]),
            "operation": one["summary"]["operation"],
            "added": summary("added-records"),
            "deleted": summary("deleted-records"),
            "files": summary("total-data-files"),
            "rows": summary("total-records"),
            "refs": names,
        })
    };
    all.into_iter().map(row).collect()
}

/// Snapshots that were current, the newest first, and whether the current one descends from them.
pub fn history(metadata: &Value) -> Vec<Value> {
    let parent = |id: i64| {
        let one = items(&metadata["snapshots"]).find(|one| one["snapshot-id"].as_i64() == Some(id));
        (one.is_some(), one.and_then(|one| one["parent-snapshot-id"].as_i64()))
    };
    let mut ancestors = BTreeSet::new();
    let mut at = metadata["current-snapshot-id"].as_i64();
    while let Some(id) = at.filter(|id| ancestors.insert(*id)) {
        at = parent(id).1;
    }
    let entries = metadata["snapshot-log"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |entry: &Value| {
        let id = entry["snapshot-id"].as_i64().unwrap_or(-1);
        let (is_there, parent) = parent(id);
        json!({
            "time": time(&entry["timestamp-ms"]),
            "snapshot": entry["snapshot-id"],
            "parent": parent,
            "ancestor": ancestors.contains(&id),
            "expired": !is_there,
        })
    };
    entries.iter().rev().map(row).collect()
}

/// Rows of a table under the names of some of their keys.
pub fn cells(rows: &[Value], keys: &[&str]) -> Vec<Vec<String>> {
    if rows.is_empty() {
        return Vec::new();
    }
    let head = keys.iter().map(|key| key.to_uppercase()).collect();
    let body = rows.iter().map(|row| keys.iter().map(|key| cell(&row[*key])).collect());
    std::iter::once(head).chain(body).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(_) => words(value),
        other => other.to_string(),
    }
}

fn words(list: &Value) -> String {
    items(list).map(cell).collect::<Vec<_>>().join(", ")
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The item of a list that another field names by its id.
fn current<'a>(metadata: &'a Value, list: &str, id: &str, wanted: &str) -> Option<&'a Value> {
    let wanted = metadata.get(wanted)?.as_i64()?;
    items(&metadata[list]).find(|one| one[id].as_i64() == Some(wanted))
}

/// Dotted names of all columns, also of nested ones, by their ids.
fn columns_by_id(schema: &Value) -> Map<String, Value> {
    let mut names = Map::new();
    let mut open: Vec<(String, &Value)> = vec![(String::new(), schema)];
    while let Some((prefix, of)) = open.pop() {
        for field in items(&of["fields"]) {
            let name = format!("{prefix}{}", field["name"].as_str().unwrap_or_default());
            open.push((format!("{name}."), &field["type"]));
            names.insert(field["id"].to_string(), name.into());
        }
    }
    names
}

/// `list<int>` and the like.
fn type_name(of: &Value) -> String {
    match of["type"].as_str() {
        Some("list") => format!("list<{}>", type_name(&of["element"])),
        Some("map") => format!("map<{}, {}>", type_name(&of["key"]), type_name(&of["value"])),
        Some("struct") => {
            let fields = items(&of["fields"])
                .map(|field| format!("{}: {}", field["name"].as_str().unwrap_or_default(), type_name(&field["type"])));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        _ => of.as_str().unwrap_or("unknown").to_owned(),
    }
}

fn time(ms: &Value) -> Value {
    let at = ms.as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or(Value::Null, |at| at.to_string().into())
}

/// Summaries hold numbers as text.
fn number(text: &Value) -> Value {
    text.as_str().and_then(|text| text.parse::<u64>().ok()).map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Value {
        json!({
            "format-version": 2, "table-uuid": "u", "location": "s3://b/t", "last-updated-ms": 1_764_590_400_000_i64,
            "current-schema-id": 1, "default-spec-id": 1, "default-sort-order-id": 1, "current-snapshot-id": 30,
            "schemas": [
                {"schema-id": 0, "type": "struct", "fields": []},
                {"schema-id": 1, "type": "struct", "fields": [
                    {"id": 1, "name": "id", "required": true, "type": "long", "doc": "key"},
                    {"id": 2, "name": "at", "required": false, "type": {"type": "struct", "fields": [
                        {"id": 3, "name": "day", "required": false, "type": "date"}]}},
                    {"id": 4, "name": "tags", "required": false,
                        "type": {"type": "map", "key": "string", "value": {"type": "list", "element": "int"}}}]}],
            "partition-specs": [{"spec-id": 0, "fields": []}, {"spec-id": 1, "fields": [
                {"source-id": 3, "transform": "month", "name": "m", "field-id": 1000},
                {"source-id": 1, "transform": "void", "name": "v", "field-id": 1001},
                {"source-id": 1, "transform": "bucket[8]", "name": "b", "field-id": 1002}]}],
            "sort-orders": [{"order-id": 1, "fields": [{"source-id": 1, "transform": "identity", "direction": "desc"}]}],
            "properties": {"owner": "me"},
            "refs": {"main": {"type": "branch", "snapshot-id": 30}, "eoy": {"type": "tag", "snapshot-id": 10}},
            "snapshots": [
                {"snapshot-id": 10, "timestamp-ms": 1000, "summary": {"operation": "append", "added-records": "5", "total-records": "5"}},
                {"snapshot-id": 20, "parent-snapshot-id": 10, "timestamp-ms": 2000, "summary": {"operation": "append"}},
                {"snapshot-id": 30, "parent-snapshot-id": 10, "timestamp-ms": 3000,
                    "summary": {"operation": "overwrite", "deleted-records": "2", "total-records": "3", "total-data-files": "1"}}],
            "snapshot-log": [
                {"snapshot-id": 5, "timestamp-ms": 500}, {"snapshot-id": 10, "timestamp-ms": 1000},
                {"snapshot-id": 20, "timestamp-ms": 2000}, {"snapshot-id": 30, "timestamp-ms": 3000}],
        })
    }

    #[test]
    fn a_table_is_described() {
        let text = described("lake.ns.t", Some("s3://b/t/metadata/3.json"), &metadata());
        let want = "\
Table:       lake.ns.t
Location:    s3://b/t
Metadata:    s3://b/t/metadata/3.json
Format:      2
UUID:        u
Updated:     2025-12-01T12:00:00Z
Snapshot:    30 of 1970-01-01T00:00:03Z (overwrite), 1 file, 3 rows
Branches:    main (30)
Tags:        eoy (10)
Partitions:  month(at.day), bucket[8](id)
Sorted by:   id desc
Columns:";
        assert!(text.starts_with(want), "{text}");
        assert!(text.contains("map<string, list<int>>") && text.contains("struct<day: date>"), "{text}");
        assert!(text.ends_with("Properties:\n  owner=me"), "{text}");
        let empty = described("t", None, &json!({"format-version": 1, "location": "l", "schema": {"fields": []}}));
        assert!(
            empty.contains("Snapshot:    none: the table has no rows yet") && !empty.contains("Metadata"),
            "{empty}"
        );
    }

    #[test]
    fn snapshots_and_history_begin_with_the_newest() {
        let ids = |rows: &[Value]| rows.iter().map(|row| row["snapshot"].as_i64().unwrap()).collect::<Vec<_>>();
        let snapshots = snapshots(&metadata());
        assert_eq!(ids(&snapshots), [30, 20, 10]);
        assert_eq!((&snapshots[2]["refs"], &snapshots[2]["added"]), (&json!(["eoy"]), &json!(5)));
        let history = history(&metadata());
        assert_eq!(ids(&history), [30, 20, 10, 5]);
        let said = |key: &str| history.iter().map(|row| row[key] == true).collect::<Vec<_>>();
        assert_eq!(said("ancestor"), [true, false, true, false]);
        assert_eq!(said("expired"), [false, false, false, true]);
        assert_eq!(cells(&history, &HISTORY)[4], ["1970-01-01T00:00:00.5Z", "5", "", "no", "yes"]);
        assert_eq!(cells(&history, &HISTORY)[0], ["TIME", "SNAPSHOT", "PARENT", "ANCESTOR", "EXPIRED"]);
        assert!(cells(&[], &HISTORY).is_empty());
    }

    #[test]
    fn a_parent_that_is_its_own_ends() {
        let odd = json!({"current-snapshot-id": 1, "snapshots": [{"snapshot-id": 1, "parent-snapshot-id": 1}],
            "snapshot-log": [{"snapshot-id": 1, "timestamp-ms": 1}]});
        assert_eq!(history(&odd).len(), 1);
    }
}
