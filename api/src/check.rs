//! Checks a JSON value against the CRD's structural schema: unknown fields, wrong types, values out of bounds, each
//! with what to write instead. Checks only the shape; `validate` checks the meaning.

use serde_json::{Map, Value};

use crate::read::object_schema;
use crate::validate::FieldError;
use crate::{Quantity, quantity, suggest};

/// Checks a value against a structural schema.
pub fn check(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut fault = |message: String| errors.push(FieldError::new(path, message));
    if schema.get("x-kubernetes-int-or-string").is_some() {
        if let Some(message) = quantity_fault(value) {
            fault(message);
        }
        return;
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => match value {
            Value::Object(map) => check_object(schema, map, path, errors),
            other => fault(format!("must be {}, is {}", object_form(schema), describe(other))),
        },
        Some("array") => match value {
            Value::Array(items) => {
                if let Some(max) = schema.get("maxItems").and_then(Value::as_u64)
                    && items.len() as u64 > max
                {
                    fault(format!("has {} items, at most {max} are allowed", items.len()));
                }
                if let Some(item_schema) = schema.get("items") {
                    for (i, item) in items.iter().enumerate() {
                        check(item_schema, item, &format!("{path}[{i}]"), errors);
                    }
                }
            }
            other => fault(format!(
                "must be a list, is {}: write [{}]",
                describe(other),
                scalar(other).unwrap_or("…".into())
            )),
        },
        Some("string") => match value {
            Value::String(text) => {
                if let Some(message) = text_fault(schema, text) {
                    fault(message);
                }
            }
            Value::Bool(_) | Value::Number(_) => {
                let text = scalar(value).unwrap_or_default();
                match choices(schema) {
                    Some(choices) => fault(format!("must be one of {}, is {text}", list(&choices))),
                    None => fault(format!("must be text, is {}: write \"{text}\" in quotes", describe(value))),
                }
            }
            other => fault(format!("must be text, is {}", describe(other))),
        },
        Some("integer") => match value.as_i64().map(i128::from).or(value.as_u64().map(i128::from)) {
            Some(number) => {
                if let Some(message) = range_fault(schema, number) {
                    fault(message);
                }
            }
            None => match value.as_str().filter(|_| path.ends_with("Seconds")).and_then(seconds) {
                Some(seconds) => {
                    fault(format!("must be a whole number of seconds, is {}: write {seconds}", describe(value)))
                }
                None => fault(format!("must be a whole number, is {}", describe(value))),
            },
        },
        Some("number") if !value.is_number() => fault(format!("must be a number, is {}", describe(value))),
        Some("boolean") if !value.is_boolean() => fault(format!("must be true or false, is {}", describe(value))),
        _ => {}
    }
}

fn check_object(schema: &Value, map: &Map<String, Value>, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(max) = schema.get("maxProperties").and_then(Value::as_u64)
        && map.len() as u64 > max
    {
        errors.push(FieldError::new(path, format!("has {} entries, at most {max} are allowed", map.len())));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        for (key, value) in map {
            check(values, value, &join(path, key), errors);
        }
        return;
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let keep_unknown = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
    for (key, value) in map {
        // The envelope has been checked before, and metadata belongs to Kubernetes.
        if path.is_empty() && matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            continue;
        }
        match properties.get(key) {
            Some(property) => check(property, value, &join(path, key), errors),
            None if keep_unknown => {}
            None => errors.push(unknown_field(path, key, properties)),
        }
    }
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(key) {
            let what = properties.get(key).and_then(|p| p.get("description")).and_then(Value::as_str);
            let what = what.and_then(|d| d.split(". ").next()).unwrap_or("it has no default").trim_end_matches('.');
            errors.push(FieldError::new(join(path, key), format!("is missing: {}", lower_first(what))));
        }
    }
}

fn unknown_field(path: &str, key: &str, properties: &Map<String, Value>) -> FieldError {
    let message = match suggest::nearest(key, properties.keys().map(String::as_str)) {
        Some(meant) => format!("unknown field, did you mean \"{meant}\"?"),
        None => {
            let mut places = Vec::new();
            elsewhere(object_schema(), "", key, &mut places);
            places.sort_by_key(|place| place.matches('.').count());
            places.truncate(3);
            if places.is_empty() {
                let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                format!("unknown field, the fields here are {}", list(&names))
            } else {
                format!("unknown field here, did you mean {}?", places.join(" or "))
            }
        }
    };
    FieldError::new(join(path, key), message)
}

/// The paths of fields of this name elsewhere in the spec: most misplaced fields are off by one level.
fn elsewhere(schema: &Value, path: &str, key: &str, places: &mut Vec<String>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    if !path.is_empty() && properties.contains_key(key) {
        places.push(join(path, key));
    }
    for (name, property) in properties.iter().filter(|(name, _)| !path.is_empty() || *name == "spec") {
        elsewhere(property, &join(path, name), key, places);
    }
}

/// Describes the expected object, for users who wrote something else.
fn object_form(schema: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return "an object such as {name: value}".to_owned();
    };
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let names: Vec<&str> = if required.is_empty() { properties.keys().map(String::as_str).collect() } else { required };
    match names.as_slice() {
        [] => "an object".to_owned(),
        [first, second, ..] if names.len() <= 3 => format!("an object such as {{{first}: …, {second}: …}}"),
        [first, ..] => format!("an object such as {{{first}: …}}"),
    }
}

/// Converts `5m` to seconds.
fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "s" | "sec" | "seconds" => 1,
        "m" | "min" | "minutes" => 60,
        "h" | "hours" => 3600,
        "d" | "days" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn quantity_fault(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if Quantity::new(text.as_str()).milli().is_some() => None,
        Value::String(text) => {
            let meant = text.trim().replace(' ', "");
            let stem = meant.trim_end_matches(['b', 'B']);
            let meant = [
                stem.to_owned(),
                stem.to_uppercase(),
                stem.replace("gi", "Gi").replace("mi", "Mi"),
                stem.to_lowercase(),
            ]
            .into_iter()
            .find(|m| !m.is_empty() && Quantity::new(m.as_str()).milli().is_some());
            Some(match meant {
                Some(meant) => format!("\"{text}\" is not a quantity, did you mean {meant}?"),
                None => format!("\"{text}\" is not a quantity: write {}", quantity::EXAMPLES),
            })
        }
        Value::Number(n) if n.is_u64() => None,
        Value::Number(n) if n.is_i64() => Some(format!("{n} is negative: write {}", quantity::EXAMPLES)),
        // The API server accepts only whole numbers and text here, so a fraction must be in quotes.
        Value::Number(n) => Some(format!("{n} must be in quotes: write \"{n}\"")),
        other => Some(format!("must be a quantity such as {}, is {}", quantity::EXAMPLES, describe(other))),
    }
}

fn text_fault(schema: &Value, text: &str) -> Option<String> {
    if let Some(choices) = choices(schema) {
        if choices.contains(&text) {
            return None;
        }
        return Some(match suggest::nearest(text, choices.iter().copied()) {
            Some(meant) => format!("\"{text}\" is not known, did you mean {meant}? ({})", list(&choices)),
            None => format!("must be one of {}, is \"{text}\"", list(&choices)),
        });
    }
    let chars = text.chars().count() as u64;
    let min = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0);
    let max = schema.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
    if chars < min {
        return Some("must not be empty".to_owned());
    }
    if chars > max {
        return Some(format!("has {chars} characters, at most {max} are allowed"));
    }
    None
}

fn range_fault(schema: &Value, number: i128) -> Option<String> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64).map(|f| f as i128);
    let (type_min, type_max) = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    let min = bound("minimum").unwrap_or(type_min);
    let max = bound("maximum").unwrap_or(type_max);
    if number < min {
        Some(format!("must be at least {min}, is {number}"))
    } else if number > max {
        Some(format!("must be at most {max}, is {number}"))
    } else {
        None
    }
}

fn choices(schema: &Value) -> Option<Vec<&str>> {
    Some(schema.get("enum")?.as_array()?.iter().filter_map(Value::as_str).collect())
}

pub fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Describes a value briefly in words.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(b) => format!("{b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) if s.chars().count() > 40 => {
            format!("the text \"{}…\"", s.chars().take(40).collect::<String>())
        }
        Value::String(s) => format!("the text \"{s}\""),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        Value::String(s) => Some(s.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        // Keep an acronym as it is.
        Some(first) if !chars.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
