//! The reference of the spec as Markdown, generated from the CRD's schema: `kubectl explain` on one page.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::schema;

/// The whole of docs/spec.md.
pub fn markdown() -> String {
    let schema = schema::object_schema();
    let mut out = String::from(
        "# DistributedQuery\n\n\
         <!-- Generated from api/; do not edit. `FLOE_WRITE_GENERATED=1 cargo test -p floe-api` writes it. -->\n\n\
         Every field of the object that `floe run` and `kubectl apply` take. Required fields are marked with *; all others\n\
         may be left out. `floe validate query.yaml` checks a query without running it, `kubectl explain dq.spec` shows\n\
         the same text on a cluster.\n\n\
         ```yaml\n\
         apiVersion: floe.dev/v1alpha1\n\
         kind: DistributedQuery\n\
         metadata: {name: q3}\n\
         spec:\n\
         \x20 plan:\n\
         \x20   python:\n\
         \x20     script: |\n\
         \x20       result = scan(\"orders\").group_by(\"o_orderdate\").agg(pl.len())\n\
         \x20 tables:\n\
         \x20   orders: {format: parquet, uri: \"data/orders/*.parquet\"}\n\
         \x20 compute: {workers: 4, cpus: 1, memory: 2Gi}\n\
         \x20 sink: {uri: \"out/q3/\", format: parquet, mode: overwrite}\n\
         ```\n",
    );
    for part in ["spec", "status"] {
        if let Some(object) = schema.get("properties").and_then(|p| p.get(part)) {
            section(&mut out, part, object);
        }
    }
    out.push_str(QUANTITIES);
    out
}

/// The whole of docs/context-spec.md.
pub fn context_markdown() -> String {
    let mut schema = schema::context_schema();
    // These are described with the query, which has them as well.
    for shared in ["compute", "storage"] {
        if let Some(field) =
            schema.pointer_mut(&format!("/properties/spec/properties/{shared}")).and_then(Value::as_object_mut)
        {
            field.remove("properties");
            field.remove("default");
        }
    }
    let mut out = String::from(
        "# ComputeContext\n\n\
         <!-- Generated from api/; do not edit. `FLOE_WRITE_GENERATED=1 cargo test -p floe-api` writes it. -->\n\n\
         Every field of the object; [contexts.md](contexts.md) tells how it is used. `compute` and `storage` are those of a query\n\
         ([spec.md](spec.md#speccompute)), without the number of workers.\n",
    );
    for part in ["spec", "status"] {
        if let Some(object) = schema.get("properties").and_then(|p| p.get(part)) {
            section(&mut out, part, object);
        }
    }
    out
}

/// The whole of docs/schedule-spec.md.
pub fn schedule_markdown() -> String {
    let mut schema = schema::schedule_schema();
    // Described with the query.
    if let Some(field) =
        schema.pointer_mut("/properties/spec/properties/queryTemplate/properties/spec").and_then(Value::as_object_mut)
    {
        field.remove("properties");
        field.remove("default");
    }
    let mut out = String::from(
        "# ScheduledQuery\n\n\
         <!-- Generated from api/; do not edit. `FLOE_WRITE_GENERATED=1 cargo test -p floe-api` writes it. -->\n\n\
         Every field of the object; [schedules.md](schedules.md) tells how it is used. `queryTemplate.spec` is that of a query\n\
         ([spec.md](spec.md)).\n",
    );
    for part in ["spec", "status"] {
        if let Some(object) = schema.get("properties").and_then(|p| p.get(part)) {
            section(&mut out, part, object);
        }
    }
    out
}

const QUANTITIES: &str = "\n## Quantities\n\n\
Amounts are written as Kubernetes writes them: a whole number, or text with a suffix. `m` is a thousandth; `k`, `M`, `G`,\n\
`T` are powers of 1000; `Ki`, `Mi`, `Gi`, `Ti` are powers of 1024. Fractions go in quotes (`\"0.5\"`) or in thousandths\n\
(`500m`).\n";

/// Types of Kubernetes, which its documentation describes better than a copy of it would.
fn is_foreign(path: &str) -> bool {
    const FOREIGN: [&str; 5] = [
        "spec.compute.env",
        "spec.compute.envFrom",
        "spec.compute.tolerations",
        "spec.compute.imagePullSecrets",
        "status.conditions",
    ];
    FOREIGN.contains(&path)
}

/// The fields of one object as a table, then the objects below it.
fn section(out: &mut String, path: &str, object: &Value) {
    let Some(properties) = object.get("properties").and_then(Value::as_object) else { return };
    // Writing to a string does not fail.
    let _ = writeln!(out, "\n## {path}\n");
    if let Some(text) = object.get("description").and_then(Value::as_str) {
        let _ = writeln!(out, "{text}\n");
    }
    out.push_str("| field | type | default | what it is |\n|---|---|---|---|\n");
    let required: Vec<&str> =
        object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in properties {
        let mark = if required.contains(&name.as_str()) { "\\*" } else { "" };
        let text = field.get("description").and_then(Value::as_str).unwrap_or_default();
        let _ = writeln!(
            out,
            "| `{name}`{mark} | {} | {} | {} |",
            kind(&format!("{path}.{name}"), field),
            default(field),
            cell(&format!("{text}{}", bounds(field))),
        );
    }
    rules(out, object);
    for (name, field) in properties {
        let below = format!("{path}.{name}");
        if is_foreign(&below) {
            continue;
        }
        if let Some((suffix, inner)) = inner_object(field) {
            section(out, &format!("{below}{suffix}"), inner);
        }
    }
}

/// The object that a field, its values or its items consist of.
fn inner_object(field: &Value) -> Option<(&'static str, &Value)> {
    if field.get("properties").is_some() {
        return Some(("", field));
    }
    let values = field.get("additionalProperties").filter(|v| v.get("properties").is_some());
    let items = field.get("items").filter(|v| v.get("properties").is_some());
    values.map(|v| (".<name>", v)).or(items.map(|v| ("[]", v)))
}

fn kind(path: &str, field: &Value) -> String {
    if field.get("x-kubernetes-int-or-string").is_some() {
        return "quantity".to_owned();
    }
    if let Some(choices) = field.get("enum").and_then(Value::as_array) {
        let choices: Vec<String> = choices.iter().filter_map(Value::as_str).map(|c| format!("`{c}`")).collect();
        return choices.join(", ");
    }
    let anchor = |path: &str| path.replace(['.', '[', ']', '<', '>'], "").to_lowercase();
    match field.get("type").and_then(Value::as_str) {
        Some("object") if is_foreign(path) => "object".to_owned(),
        Some("object") => match (inner_object(field), field.get("additionalProperties")) {
            (Some(("", _)), _) => format!("[object](#{})", anchor(path)),
            (Some((suffix, _)), _) => format!("map of [objects](#{})", anchor(&format!("{path}{suffix}"))),
            (None, Some(values)) => match values.get("type").and_then(Value::as_str) {
                Some(kind) => format!("map of {}", word(kind)),
                None => "map of any values".to_owned(),
            },
            (None, None) => "object".to_owned(),
        },
        Some("array") => match inner_object(field) {
            Some((suffix, _)) if !is_foreign(path) => {
                format!("list of [objects](#{})", anchor(&format!("{path}{suffix}")))
            }
            _ => {
                let items = field.get("items").and_then(|i| i.get("type")).and_then(Value::as_str).unwrap_or("object");
                format!("list of {}s", word(items))
            }
        },
        Some(kind) => word(kind).to_owned(),
        None => "any value".to_owned(),
    }
}

fn word(kind: &str) -> &str {
    match kind {
        "string" => "text",
        "integer" => "whole number",
        "boolean" => "true or false",
        other => other,
    }
}

/// The default of a plain field; that of an object follows from its fields.
fn default(field: &Value) -> String {
    match field.get("default") {
        None | Some(Value::Object(_)) => String::new(),
        Some(Value::String(text)) if text.is_empty() => "empty".to_owned(),
        Some(Value::String(text)) => format!("`{}`", cell(&text.escape_debug().to_string().replace("\\\"", "\""))),
        Some(value) => format!("`{value}`"),
    }
}

fn bounds(field: &Value) -> String {
    // The bounds of the type itself mean nothing to the reader.
    let number = |key: &str| field.get(key).and_then(Value::as_f64).filter(|n| n.abs() < f64::from(i32::MAX));
    match (number("minimum").filter(|min| *min != 0.0), number("maximum")) {
        (Some(min), Some(max)) => format!(" From {min} to {max}."),
        (Some(min), None) => format!(" At least {min}."),
        (None, Some(max)) => format!(" At most {max}."),
        (None, None) => String::new(),
    }
}

fn rules(out: &mut String, object: &Value) {
    let rules = object.get("x-kubernetes-validations").and_then(Value::as_array);
    let messages: Vec<&str> =
        rules.into_iter().flatten().filter_map(|r| r.get("message")).filter_map(Value::as_str).collect();
    if messages.is_empty() {
        return;
    }
    out.push_str("\nRules:\n\n");
    for message in messages {
        let _ = writeln!(out, "- {message}");
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Every field of the schema by its path, for tests.
pub fn fields(schema: &Value) -> Vec<(String, &Map<String, Value>)> {
    let mut all = Vec::new();
    collect(schema, "", &mut all);
    all
}

fn collect<'a>(schema: &'a Value, path: &str, all: &mut Vec<(String, &'a Map<String, Value>)>) {
    let Some(object) = schema.as_object() else { return };
    for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if let Some(map) = property.as_object() {
            all.push((below.clone(), map));
        }
        collect(property, &below, all);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(inner) = object.get(key) {
            collect(inner, &format!("{path}{suffix}"), all);
        }
    }
}
