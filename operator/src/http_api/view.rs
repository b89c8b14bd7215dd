//! How answers show queries and contexts. Pure.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ObjectMeta};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value, json};

/// Whose answer it is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Head {
    name: String,
    namespace: String,
    /// UID of the object; an object created later under the same name has another one.
    uid: String,
    /// When it was created (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    /// Whether the object is being deleted.
    deleting: bool,
    labels: BTreeMap<String, String>,
}

impl From<ObjectMeta> for Head {
    fn from(metadata: ObjectMeta) -> Head {
        Head {
            name: metadata.name.unwrap_or_default(),
            namespace: metadata.namespace.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            created_at: metadata.creation_timestamp.map(|time| time.0.to_string()),
            deleting: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.unwrap_or_default(),
        }
    }
}

/// A query in full.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    #[serde(flatten)]
    head: Head,
    /// The spec as submitted, with defaults filled in.
    #[schemars(schema_with = "spec")]
    spec: Value,
    /// The state of the query.
    #[schemars(schema_with = "status")]
    status: Value,
}

/// A query in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    #[serde(flatten)]
    head: Head,
    /// Phase of the query. Succeeded, Failed and Cancelled are final.
    phase: String,
    /// Reason of the phase, as one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The reason as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Share of finished tasks, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<String>,
    /// Rows of the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    /// Location of the result, if the query has a sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_uri: Option<String>,
    /// Time from its creation to its end, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<String>,
}

/// Queries of a namespace, by name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page {
    pub items: Vec<Item>,
    /// Token of the next page, if there is one.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A context in full.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    #[serde(flatten)]
    head: Head,
    /// The spec as submitted, with defaults filled in.
    #[schemars(schema_with = "context_spec")]
    spec: Value,
    /// The state of the context.
    #[schemars(schema_with = "context_status")]
    status: Value,
}

/// A context in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextItem {
    #[serde(flatten)]
    head: Head,
    /// Phase of the context. In every phase but Failed it accepts queries.
    phase: String,
    /// What holds the context up, as one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The same as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Workers connected and wanted, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<String>,
    /// Number of running queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    queries_running: Option<u64>,
    /// Number of queries that wait for others to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    queries_waiting: Option<u64>,
    /// Memory in use on the workers and their total, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
}

/// Contexts of a namespace, by name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ContextPage {
    pub items: Vec<ContextItem>,
    /// Token of the next page, if there is one.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The logs of a query's pods.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Logs {
    /// Whether nothing was left out because of size limits: pods beyond the maximum number, lines beyond a pod's share.
    pub complete: bool,
    /// Log lines sorted by time: events of the runner or other text, each with its pod.
    #[schemars(schema_with = "log_lines")]
    pub lines: Vec<Value>,
}

fn log_lines(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {
        "type": "object",
        "required": ["pod"],
        // Other processes may also write JSON objects, with anything in these fields.
        "properties": {
            "time": {"description": "When the kubelet took the line (RFC 3339)."},
            "pod": {"type": "string", "description": "The pod that wrote it."},
            "level": {"description": "Of an event of the runner: TRACE, DEBUG, INFO, WARN or ERROR."},
            "message": {"description": "What it says."},
            "stage": {"description": "The number of the stage that it speaks of."},
        },
    }})
}

/// Rows as JSON.
#[derive(JsonSchema)]
#[schemars(extend("required" = ["offset", "rows"]))]
#[allow(dead_code, reason = "the form of the answer, for the document; it is written while it is read")]
pub struct Rows {
    /// Number of rows before these.
    offset: u64,
    /// Number of rows of the whole result.
    total: Option<u64>,
    /// URL of the next page, if there is one.
    next: Option<String>,
    /// One object per row, its fields in the order of the columns.
    rows: Vec<BTreeMap<String, Value>>,
}

/// A progress event.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "the form of an event, for the document")]
pub struct Progress {
    name: String,
    namespace: String,
    uid: String,
    #[schemars(schema_with = "status")]
    status: Value,
}

/// The event for a query that was deleted.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "the form of an event, for the document")]
pub struct Deleted {
    name: String,
    namespace: String,
    uid: String,
}

pub fn spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"$ref": "#/components/schemas/QuerySpec"})
}

pub fn status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"$ref": "#/components/schemas/QueryStatus"})
}

pub fn context_spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"$ref": "#/components/schemas/ContextSpec"})
}

pub fn context_status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"$ref": "#/components/schemas/ContextStatus"})
}

pub fn phase(object: &DynamicObject) -> &str {
    object.data["status"]["phase"].as_str().unwrap_or("Pending")
}

pub fn has_ended(object: &DynamicObject) -> bool {
    matches!(phase(object), "Succeeded" | "Failed" | "Cancelled")
}

fn whole(value: Value) -> Value {
    if value.is_object() { value } else { json!({}) }
}

pub fn query(object: DynamicObject) -> Query {
    let (metadata, mut data) = (object.metadata, object.data);
    Query { head: metadata.into(), spec: whole(data["spec"].take()), status: whole(data["status"].take()) }
}

pub fn item(object: DynamicObject) -> Item {
    let status = &object.data["status"];
    let text = |field: &str| status[field].as_str().map(str::to_owned);
    Item {
        phase: phase(&object).to_owned(),
        reason: text("reason"),
        message: text("message"),
        progress: text("progress"),
        rows: status["rows"].as_u64(),
        result_uri: text("resultUri"),
        duration: text("duration"),
        head: object.metadata.into(),
    }
}

pub fn context(object: DynamicObject) -> Context {
    let (metadata, mut data) = (object.metadata, object.data);
    Context { head: metadata.into(), spec: whole(data["spec"].take()), status: whole(data["status"].take()) }
}

pub fn context_item(object: DynamicObject) -> ContextItem {
    let status = &object.data["status"];
    let text = |field: &str| status[field].as_str().map(str::to_owned);
    ContextItem {
        phase: status["phase"].as_str().unwrap_or("Starting").to_owned(),
        reason: text("reason"),
        message: text("message"),
        workers: status["workers"]["summary"].as_str().map(str::to_owned),
        queries_running: status["queriesRunning"].as_u64(),
        queries_waiting: status["queriesWaiting"].as_u64(),
        memory: text("memory"),
        head: object.metadata.into(),
    }
}

pub fn progress(object: &DynamicObject) -> Value {
    let (metadata, status) = (&object.metadata, &object.data["status"]);
    let status = if status.is_object() { status.clone() } else { json!({}) };
    json!({"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid, "status": status})
}
