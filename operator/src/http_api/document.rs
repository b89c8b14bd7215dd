//! Generates the OpenAPI document from the table of operations, the types of their answers and the schema of the CRD.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::operations::{self, Answer, COMMON, Content, Method, Operation};
use super::problem::{self, Kind};
use super::progress;
use super::view;

/// Renders the document as text, identically every time.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&sorted(document())).unwrap_or_default();
    text.push('\n');
    text
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for operation in operations::all() {
        let method = match operation.method {
            Method::Get => "get",
            Method::Post => "post",
            Method::Delete => "delete",
        };
        let path = paths.entry(operation.path).or_insert_with(|| json!({"parameters": place(operation)}));
        path[method] = described(operation, &mut generator);
    }
    let mut schemas: Map<String, Value> = generator.take_definitions(true);
    let whole = floe_api::schema::object_schema();
    let mut spec = opened(&whole["properties"]["spec"], true);
    // A rule of the CRD that a schema can express.
    let one = |kind: &str| json!({"required": [kind], "properties": {kind: {"not": {"type": "null"}}}});
    spec["properties"]["plan"]["oneOf"] = json!([one("dsl"), one("sql"), one("python")]);
    let kinds = Kind::ALL.iter().map(|kind| format!("urn:floe:problem:{}", kind.name()));
    schemas["Problem"]["properties"]["type"]["enum"] = kinds.collect();
    schemas.insert("QuerySpec".to_owned(), spec);
    schemas.insert("QueryStatus".to_owned(), opened(&whole["properties"]["status"], false));
    let context = floe_api::schema::context_schema();
    schemas.insert("ContextSpec".to_owned(), opened(&context["properties"]["spec"], true));
    schemas.insert("ContextStatus".to_owned(), opened(&context["properties"]["status"], false));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Floe",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Distributed Polars queries on Kubernetes, over HTTP. A query here is a DistributedQuery object of the \
                cluster, a context a ComputeContext. Callers show a Kubernetes token and may do what they may do with those objects.",
        },
        "security": [{"kubernetes": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"kubernetes": {
                "type": "http", "scheme": "bearer",
                "description": "A token of Kubernetes, such as `kubectl create token NAME` makes for a service account.",
            }},
        },
    })
}

fn place(operation: &Operation) -> Value {
    let word = operation.resource.word();
    let namespace = json!({"name": "namespace", "in": "path", "required": true, "description": "The namespace.",
        "schema": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}});
    let name = json!({"name": "name", "in": "path", "required": true, "description": format!("The {word}'s name."),
        "schema": {"type": "string", "maxLength": 50, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}});
    if operation.path.contains("{name}") { json!([namespace, name]) } else { json!([namespace]) }
}

fn described(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = operation
        .params
        .iter()
        .map(|param| {
            json!({"name": param.name, "in": "query", "description": param.about, "schema": param.form.schema()})
        })
        .collect();
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.about,
        "responses": answers(operation, generator),
    });
    if let Some(takes) = &operation.takes {
        let schema = (takes.body.0)(generator);
        described["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    if operation.takes.as_ref().is_some_and(|takes| takes.is_keyed) {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": "Names this request: sent again, it does nothing new. It holds as long as the query is there.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }));
    }
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    described
}

fn answers(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut answers = Map::new();
    for answer in operation.gives {
        answers.insert(answer.status.to_string(), good(answer, generator));
    }
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in COMMON.iter().chain(operation.problems) {
        by_status.entry(kind.status().as_u16()).or_default().push(*kind);
    }
    // The server answers these before anything reads the request: there is no body.
    answers.insert("414".to_owned(), json!({"description": "The address is too long"}));
    answers.insert("431".to_owned(), json!({"description": "The head of the request is too large"}));
    for (status, kinds) in by_status {
        let told: Vec<String> = kinds.iter().map(|kind| format!("{} (`{}`)", kind.title(), kind.name())).collect();
        let schema = problem::schema(generator);
        let content = json!({"application/problem+json": {"schema": schema}});
        answers.insert(status.to_string(), json!({"description": told.join("; "), "content": content}));
    }
    answers.into()
}

fn good(answer: &Answer, generator: &mut SchemaGenerator) -> Value {
    let content = match answer.content {
        Content::Nothing => return json!({"description": answer.about}),
        Content::Json(body) => json!({"application/json": {"schema": (body.0)(generator)}}),
        // The schema of one event.
        Content::Events => json!({"text/event-stream": {"schema": {
            "type": "object",
            "required": ["event", "data"],
            "properties": {
                "event": {"enum": progress::EVENTS},
                "id": {"type": "string"},
                "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": [
                    generator.subschema_for::<view::Progress>(), generator.subschema_for::<view::Deleted>(), problem::schema(generator),
                ]}},
            },
        }}}),
        Content::Logs => json!({
            "application/json": {"schema": generator.subschema_for::<view::Logs>()},
            "text/plain": {"schema": {"type": "string"}},
        }),
        Content::Rows => {
            let bytes = json!({"schema": {"type": "string", "format": "binary"}});
            let text = json!({"schema": {"type": "string"}});
            json!({
                "application/json": {"schema": generator.subschema_for::<view::Rows>()},
                "application/x-ndjson": text,
                "text/csv": text,
                "application/vnd.apache.parquet": bytes,
                "application/vnd.apache.arrow.stream": bytes,
            })
        }
    };
    let mut told = json!({"description": answer.about, "content": content});
    if matches!(answer.content, Content::Logs) {
        told["headers"] = json!({
            "Floe-Log-Complete": {"description": "Whether nothing was left out for its size", "schema": {"type": "boolean"}},
        });
    }
    if matches!(answer.content, Content::Rows) {
        told["headers"] = json!({
            "Floe-Rows-Total": {"description": "Rows of the whole result", "schema": {"type": "integer"}},
            "Link": {"description": "The next page (`rel=\"next\"`), if there is one", "schema": {"type": "string"}},
        });
    }
    told
}

/// Turns a Kubernetes schema into a JSON schema: quantities may be numbers or text, and anything is allowed where the
/// CRD keeps unknown fields. `strict`: as the server checks a spec: no unknown fields, and null for an omitted field.
fn opened(schema: &Value, strict: bool) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let keeps = map.contains_key("x-kubernetes-preserve-unknown-fields");
    let mut open = Map::new();
    for (key, value) in map {
        match key.as_str() {
            "properties" => {
                let required = map.get("required").and_then(Value::as_array);
                let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
                let properties = value.as_object().into_iter().flatten().map(|(name, property)| {
                    let property = opened(property, strict);
                    (name.clone(), if strict && !is_required(name) { nullable(property) } else { property })
                });
                open.insert(key.clone(), Value::Object(properties.collect()));
            }
            "items" | "additionalProperties" => {
                open.insert(key.clone(), opened(value, strict));
            }
            key if key.starts_with("x-kubernetes-") => {}
            _ => {
                open.insert(key.clone(), value.clone());
            }
        }
    }
    if map.contains_key("x-kubernetes-int-or-string") {
        open.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if strict && map.contains_key("properties") && !keeps {
        open.insert("additionalProperties".to_owned(), false.into());
    }
    open.into()
}

fn nullable(mut schema: Value) -> Value {
    match &mut schema["type"] {
        Value::String(one) => schema["type"] = json!([one.clone(), "null"]),
        Value::Array(several) => several.push("null".into()),
        _ => {
            schema.as_object_mut().map(|map| map.remove("type"));
        }
    }
    if let Some(choices) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        choices.push(Value::Null);
    }
    schema
}

/// Sorts keys and writes whole numbers as integers, whatever the features of the JSON library.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let tidy = |(key, value): (String, Value)| match value {
                // Put each paragraph on one line, as in the CRD.
                Value::String(text) if key == "description" => {
                    let lines: Vec<String> = text.split("\n\n").map(|part| part.replace('\n', " ")).collect();
                    (key, lines.join("\n\n").into())
                }
                value => (key, self::sorted(value)),
            };
            let sorted: BTreeMap<String, Value> = map.into_iter().map(tidy).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_api::result::FORMATS;

    /// `FLOE_UPDATE=1` writes the file.
    #[test]
    fn the_document_in_the_repository_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        if std::env::var_os("FLOE_UPDATE").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == text(), "floe-operator openapi > docs/openapi.json");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_its_answers() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        for operation in operations::all() {
            let path = &document["paths"][operation.path];
            let told = path.as_object().unwrap().values().find(|one| one["operationId"] == operation.id).unwrap();
            for status in ["400", "401", "403", "404", "429"] {
                assert!(told["responses"][status].is_object(), "{} {status}", operation.id);
            }
            assert_eq!(path["parameters"].as_array().unwrap().len(), operation.path.matches('{').count());
        }
        let formats =
            document.pointer("/paths/~1api~1v1~1namespaces~1{namespace}~1queries~1{name}~1result/get/parameters/0");
        assert_eq!(formats.unwrap()["schema"]["enum"], json!(FORMATS));
    }

    #[test]
    fn every_kind_of_problem_is_listed_once() {
        let names: std::collections::BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let listed = &document()["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
        assert_eq!(listed.as_array().unwrap().len(), names.len());
    }

    #[test]
    fn the_spec_is_that_of_the_crd_as_json_has_it() {
        let document = document();
        let spec = &document["components"]["schemas"]["QuerySpec"];
        assert_eq!(spec["additionalProperties"], false);
        assert_eq!(spec["properties"]["compute"]["properties"]["memory"]["type"], json!(["integer", "string", "null"]));
        assert_eq!(spec["properties"]["plan"]["type"], "object", "a plan is needed");
        assert!(!document.to_string().contains("x-kubernetes-"));
    }
}
