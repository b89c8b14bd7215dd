//! The CRDs, and the few schemas that cannot be derived.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use crate::{ComputeContext, DistributedQuery, ScheduledQuery, VolumeSpec};

/// The CustomResourceDefinition of `DistributedQuery` as applied to the API server.
pub fn crd() -> CustomResourceDefinition {
    tidied(DistributedQuery::crd())
}

/// The CustomResourceDefinition of `ComputeContext`.
pub fn context_crd() -> CustomResourceDefinition {
    tidied(ComputeContext::crd())
}

/// The CustomResourceDefinition of `ScheduledQuery`.
pub fn schedule_crd() -> CustomResourceDefinition {
    let mut crd = tidied(ScheduledQuery::crd());
    // A template is not a query that has started: all of it may change.
    each_schema(&mut crd, without_transitions);
    crd
}

fn tidied(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    each_schema(&mut crd, tidy);
    crd
}

fn each_schema(crd: &mut CustomResourceDefinition, change: fn(&mut Value)) {
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else { continue };
        let Ok(mut value) = serde_json::to_value(&*schema) else { continue };
        change(&mut value);
        if let Ok(changed) = serde_json::from_value(value) {
            *schema = changed;
        }
    }
}

/// Removes the rules that compare with the previous object.
fn without_transitions(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(rules)) = map.get_mut("x-kubernetes-validations") {
                rules.retain(|rule| !rule.get("rule").and_then(Value::as_str).is_some_and(|r| r.contains("oldSelf")));
                if rules.is_empty() {
                    map.remove("x-kubernetes-validations");
                }
            }
            map.values_mut().for_each(without_transitions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_transitions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The CRD of queries as the YAML kept in crds/.
pub fn crd_yaml() -> String {
    yaml_of(crd())
}

/// The CRD of contexts as the YAML kept in crds/.
pub fn context_crd_yaml() -> String {
    yaml_of(context_crd())
}

/// The CRD of schedules as the YAML kept in crds/.
pub fn schedule_crd_yaml() -> String {
    yaml_of(schedule_crd())
}

fn yaml_of(crd: CustomResourceDefinition) -> String {
    // Convert to JSON first: its maps are sorted, so the file changes only if the types do.
    let mut value = serde_json::to_value(crd).unwrap_or_default();
    whole_numbers(&mut value);
    let yaml = serde_yaml_ng::to_string(&value).unwrap_or_default();
    format!("# Generated from api/ by `floe crd`; do not edit.\n{yaml}")
}

/// The schema of the whole object as plain JSON, for checks and documentation.
pub fn object_schema() -> Value {
    schema_of(crd())
}

/// The same for contexts.
pub fn context_schema() -> Value {
    schema_of(context_crd())
}

/// The same for schedules.
pub fn schedule_schema() -> Value {
    schema_of(schedule_crd())
}

fn schema_of(crd: CustomResourceDefinition) -> Value {
    let schema = crd.spec.versions.first().and_then(|v| v.schema.as_ref()).and_then(|s| s.open_api_v3_schema.as_ref());
    serde_json::to_value(schema).unwrap_or_default()
}

/// Removes `nullable`, because omitted fields are absent and never null, and the API server then drops nulls before it
/// applies rules; adds bounds to integer formats; puts each paragraph of a description on one line.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            // A property may have the name of a keyword: only in schemas do these have scalars and lists as values.
            if map.get("nullable").is_some_and(Value::is_boolean) {
                map.remove("nullable");
            }
            if let Some(Value::Array(choices)) = map.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            let format = match map.get("format").and_then(Value::as_str) {
                Some("uint32" | "uint16" | "uint8") => Some("int32"),
                Some("uint64" | "uint") => Some("int64"),
                _ => None,
            };
            if let Some(format) = format {
                map.insert("format".into(), format.into());
            }
            // The API server does not enforce the format of numbers: bounds must reject what the field cannot hold.
            if map.get("format").and_then(Value::as_str) == Some("int32") {
                map.entry("minimum").or_insert(i32::MIN.into());
                map.entry("maximum").or_insert(i32::MAX.into());
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Writes whole numbers as integers: the schema's own type stores every bound as a float.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64()
                && number.is_f64()
                && float.fract() == 0.0
                && float.abs() < 1e15
            {
                *value = Value::from(float as i64);
            }
        }
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// A map from names to any JSON value.
pub fn any_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 1000,
        "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true},
    })
}

/// A text, number or boolean.
pub fn any_scalar(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// A map from names to SQL texts.
pub fn views(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 65536},
    })
}

/// An object of Kubernetes whose fields the operator checks, instead of listing them here.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A list of such objects.
pub fn any_object_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

/// Makes conditions a list map by type, so that every writer owns its own.
pub fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Vec::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>::json_schema(generator);
    let extension: Map<String, Value> = Map::from_iter([
        ("x-kubernetes-list-type".to_owned(), Value::from("map")),
        ("x-kubernetes-list-map-keys".to_owned(), Value::from(vec!["type"])),
        ("maxItems".to_owned(), Value::from(32)),
    ]);
    schema.ensure_object().extend(extension);
    schema
}

/// Makes volumes a list map by name, so that none has another's.
pub fn volumes(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Vec::<VolumeSpec>::json_schema(generator);
    let extension: Map<String, Value> = Map::from_iter([
        ("x-kubernetes-list-type".to_owned(), Value::from("map")),
        ("x-kubernetes-list-map-keys".to_owned(), Value::from(vec!["name"])),
        ("maxItems".to_owned(), Value::from(32)),
    ]);
    schema.ensure_object().extend(extension);
    schema
}

/// A map from label values to weights.
pub fn weights(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "integer", "format": "uint32", "minimum": 1, "maximum": 1000},
        "maxProperties": 256,
    })
}
