//! Parses YAML into a query, and reports every fault with its field. The shape is checked against the CRD's own schema,
//! so that `floe run` accepts what the API server accepts; then `validate` checks the meaning.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::check::{check, describe, join, scalar};
use crate::validate::{self, FieldError};
use crate::{ComputeContext, DistributedQuery, ScheduledQuery, schema};

const API_VERSION: &str = "floe.dev/v1alpha1";
const KIND: &str = "DistributedQuery";
const CONTEXT: &str = "ComputeContext";
const SCHEDULE: &str = "ScheduledQuery";
/// Approximate limit of the API server for one object; larger ones could never be applied.
const MAX_BYTES: usize = 3 << 20;

/// Reads one query from YAML (or JSON), checked and complete with defaults.
pub fn from_yaml(text: &str) -> Result<DistributedQuery, Vec<FieldError>> {
    from_value(yaml_value(text)?)
}

/// Reads one context from YAML (or JSON), checked and complete with defaults.
pub fn context_from_yaml(text: &str) -> Result<ComputeContext, Vec<FieldError>> {
    context_from_value(yaml_value(text)?)
}

/// Reads one context from a JSON value, checked and complete with defaults.
pub fn context_from_value(mut value: Value) -> Result<ComputeContext, Vec<FieldError>> {
    drop_nulls(&mut value);
    let mut errors = Vec::new();
    check_envelope(&value, CONTEXT, &mut errors);
    if errors.is_empty() {
        check(&schema::context_schema(), &value, "", &mut errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let context: ComputeContext =
        serde_json::from_value(value).map_err(|e| vec![FieldError::new("", format!("not a {CONTEXT}: {e}"))])?;
    let mut errors = validate::validate_name(context.metadata.name.as_deref());
    errors.extend(validate::validate_context(&context.spec));
    if errors.is_empty() { Ok(context) } else { Err(errors) }
}

/// Reads one schedule from YAML (or JSON), checked and complete with defaults.
pub fn schedule_from_yaml(text: &str) -> Result<ScheduledQuery, Vec<FieldError>> {
    let mut value = yaml_value(text)?;
    drop_nulls(&mut value);
    let mut errors = Vec::new();
    check_envelope(&value, SCHEDULE, &mut errors);
    if errors.is_empty() {
        check(&schema::schedule_schema(), &value, "", &mut errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let schedule: ScheduledQuery =
        serde_json::from_value(value).map_err(|e| vec![FieldError::new("", format!("not a {SCHEDULE}: {e}"))])?;
    let errors = validate::schedule::validate_schedule(&schedule);
    if errors.is_empty() { Ok(schedule) } else { Err(errors) }
}

/// Parses one YAML document into a JSON value, unchecked.
pub fn yaml_value(text: &str) -> Result<Value, Vec<FieldError>> {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the file has {} bytes, more than the {MAX_BYTES} that an object may have: put a large plan in a file of its own and name it in spec.plan.dsl.uri",
            text.len()
        );
        return Err(vec![FieldError::new("", message)]);
    }
    if is_too_deep(text) {
        return Err(vec![FieldError::new("", "is nested too deep: no query has thousands of brackets in brackets")]);
    }
    let mut documents = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        // Parse into YAML's own value first: it rejects duplicate keys, which JSON's accepts silently.
        let value = <serde_yaml_ng::Value as serde::Deserialize>::deserialize(document)
            .map_err(|e| vec![FieldError::new("", format!("not valid YAML: {e}"))])?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    match <[_; 1]>::try_from(documents) {
        Ok([document]) => to_json(document, ""),
        Err(documents) if documents.is_empty() => {
            Err(vec![FieldError::new("", format!("the file is empty: write a {KIND} with apiVersion: {API_VERSION}"))])
        }
        Err(documents) => {
            let message = format!("the file holds {} documents: write one {KIND} a file", documents.len());
            Err(vec![FieldError::new("", message)])
        }
    }
}

/// Reads one query from a JSON value, checked and complete with defaults.
pub fn from_value(mut value: Value) -> Result<DistributedQuery, Vec<FieldError>> {
    drop_nulls(&mut value);
    let mut errors = Vec::new();
    check_envelope(&value, KIND, &mut errors);
    if errors.is_empty() {
        check(object_schema(), &value, "", &mut errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let query: DistributedQuery =
        serde_json::from_value(value).map_err(|e| vec![FieldError::new("", format!("not a {KIND}: {e}"))])?;
    let mut errors = validate::validate_name(query.metadata.name.as_deref());
    errors.extend(validate::validate(&query.spec));
    if errors.is_empty() { Ok(query) } else { Err(errors) }
}

/// The YAML parser takes time quadratic in the depth of brackets before it rejects them.
fn is_too_deep(text: &str) -> bool {
    const MAX_DEPTH: i32 = 4000;
    let mut depth = 0i32;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = (depth - 1).max(0),
            _ => {}
        }
        depth > MAX_DEPTH
    })
}

pub(crate) fn object_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(schema::object_schema)
}

/// YAML has features that JSON has not: keys that are not text, and tags.
fn to_json(value: serde_yaml_ng::Value, path: &str) -> Result<Value, Vec<FieldError>> {
    use serde_yaml_ng::Value as Yaml;
    let fault = |message: String| Err(vec![FieldError::new(path, message)]);
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(b) => b.into(),
        Yaml::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(n), _, _) => n.into(),
            (_, Some(n), _) => n.into(),
            (_, _, Some(n)) if n.is_finite() => n.into(),
            _ => return fault(format!("{n} is not a number that JSON can hold")),
        },
        Yaml::String(s) => s.into(),
        Yaml::Sequence(items) => {
            let items = items.into_iter().enumerate();
            Value::Array(items.map(|(i, item)| to_json(item, &format!("{path}[{i}]"))).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(map) => {
            let mut object = Map::new();
            for (key, value) in map {
                let key = match key {
                    Yaml::String(s) => s,
                    Yaml::Bool(_) | Yaml::Number(_) | Yaml::Null => {
                        let text = serde_yaml_ng::to_string(&key).unwrap_or_default();
                        let text = text.trim();
                        return fault(format!("the key {text} must be text: write \"{text}\" in quotes"));
                    }
                    _ => return fault("a key must be text".into()),
                };
                let value = to_json(value, &join(path, &key))?;
                object.insert(key, value);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => return fault(format!("the tag {} has no meaning here: leave it out", tagged.tag)),
    })
}

/// A null means an omitted field, as for the API server. Inside params, options and pod templates it is a value.
fn drop_nulls(value: &mut Value) {
    let Value::Object(map) = value else { return };
    map.retain(|_, v| !v.is_null());
    for (key, v) in map.iter_mut() {
        if ["params", "options", "podTemplate", "workerPodTemplate"].contains(&key.as_str()) {
            continue;
        }
        drop_nulls(v);
    }
}

fn check_envelope(value: &Value, wanted: &str, errors: &mut Vec<FieldError>) {
    let Value::Object(map) = value else {
        errors.push(FieldError::new(
            "",
            format!("must be a {wanted} with apiVersion, kind, metadata and spec, is {}", describe(value)),
        ));
        return;
    };
    match map.get("apiVersion") {
        Some(Value::String(version)) if version == API_VERSION => {}
        Some(version) => {
            errors.push(FieldError::new("apiVersion", format!("must be {API_VERSION}, is {}", describe(version))))
        }
        None => errors.push(FieldError::new("apiVersion", format!("is missing: write apiVersion: {API_VERSION}"))),
    }
    match map.get("kind") {
        Some(Value::String(kind)) if kind == wanted => {}
        Some(kind) => errors.push(FieldError::new("kind", format!("must be {wanted}, is {}", describe(kind)))),
        None => errors.push(FieldError::new("kind", format!("is missing: write kind: {wanted}"))),
    }
    match map.get("metadata") {
        Some(Value::Object(metadata)) => match metadata.get("name") {
            Some(Value::String(_)) => {}
            Some(name) => {
                let advice = scalar(name).map_or_else(String::new, |text| format!(": write \"{text}\" in quotes"));
                errors.push(FieldError::new("metadata.name", format!("must be text, is {}{advice}", describe(name))))
            }
            None if metadata.contains_key("generateName") => {}
            None => {
                let what = match wanted {
                    CONTEXT => "context",
                    SCHEDULE => "schedule",
                    _ => "query",
                };
                errors.push(FieldError::new("metadata.name", format!("is missing: write a name for the {what}")));
            }
        },
        Some(other) => {
            errors.push(FieldError::new("metadata", format!("must be an object with a name, is {}", describe(other))))
        }
        None => {
            let name = match wanted {
                CONTEXT => "my-context",
                SCHEDULE => "my-schedule",
                _ => "my-query",
            };
            errors.push(FieldError::new("metadata", format!("is missing: write metadata: {{name: {name}}}")));
        }
    }
    if !map.contains_key("spec") {
        let what = match wanted {
            CONTEXT => "is missing: write spec: {maxWorkers: 4}",
            SCHEDULE => "is missing: write spec.schedule, and the queries under spec.queryTemplate",
            _ => "is missing: write the query's plan under spec.plan",
        };
        errors.push(FieldError::new("spec", what.to_owned()));
    }
}
