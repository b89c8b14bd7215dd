//! Turns the body of a request into the object to create, and reports every fault with its field. Pure.

use std::collections::BTreeMap;

use floe_api::FieldError;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::auth::User;
use super::idempotency::{self, Key};
use super::problem::{Kind, Problem};
use super::view;

/// Annotation: who made the object over the HTTP API. For information only; nothing trusts it.
pub const SUBMITTED_BY: &str = "floe.dev/submitted-by";

/// A query to run.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = ["spec"], "additionalProperties" = false))]
#[allow(
    dead_code,
    reason = "the form of the body, for the document; it is read field by field for the sake of its faults"
)]
pub struct Submission {
    /// The query's name, unique in its namespace. If omitted, one is generated; with an Idempotency-Key it must be
    /// omitted, because the key determines the name.
    #[schemars(length(max = 50), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    name: Option<String>,
    /// Labels of the query's object.
    #[schemars(schema_with = "labels")]
    labels: Option<BTreeMap<String, String>>,
    /// What to run, as in the spec of a DistributedQuery: plan, tables, storage, compute, sink and so on.
    #[schemars(schema_with = "view::spec")]
    spec: Value,
}

fn labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": ["object", "null"],
        "maxProperties": 64,
        "propertyNames": {"pattern": "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"},
        "additionalProperties": {"type": "string", "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"},
    })
}

/// A context to create.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = ["name", "spec"], "additionalProperties" = false))]
#[allow(
    dead_code,
    reason = "the form of the body, for the document; it is read field by field for the sake of its faults"
)]
pub struct ContextSubmission {
    /// The context's name, unique in its namespace: queries refer to it in `spec.compute.contextRef`.
    #[schemars(length(max = 50), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    name: String,
    /// Labels of the context's object.
    #[schemars(schema_with = "labels")]
    labels: Option<BTreeMap<String, String>>,
    /// The context's spec, as in a ComputeContext.
    #[schemars(schema_with = "view::context_spec")]
    spec: Value,
}

/// The object to create.
#[derive(Debug, PartialEq)]
pub struct Made {
    pub object: Value,
    /// The name, if it is known before the object is created.
    pub name: Option<String>,
    /// The digest of the request.
    pub request: String,
}

pub fn query(body: &[u8], namespace: &str, user: &User, key: Option<&Key>) -> Result<Made, Problem> {
    let mut given = Given::read(body)?;
    if key.is_some() && given.name.take().is_some() {
        given.faults.push(FieldError::new("name", "must be left out with an Idempotency-Key, which names the query"));
    }
    let name = given.name.take().or_else(|| key.map(Key::query_name));
    let annotations = annotations(user, key, &given.request);
    let check = |object| floe_api::from_value(object).err();
    given.made("DistributedQuery", namespace, name, annotations, "write the query's plan under spec.plan", check)
}

pub fn context(body: &[u8], namespace: &str, user: &User) -> Result<Made, Problem> {
    let mut given = Given::read(body)?;
    let name = given.name.take();
    if name.is_none() && !given.faults.iter().any(|fault| fault.path == "name") {
        let how = "is missing: queries name the context by it, in spec.compute.contextRef";
        given.faults.push(FieldError::new("name", how));
    }
    let annotations = annotations(user, None, &given.request);
    let check = |object| floe_api::context_from_value(object).err();
    let how = "write {} for a context with the defaults";
    given.made("ComputeContext", namespace, name, annotations, how, check)
}

/// A parsed body, with the faults found so far.
struct Given {
    name: Option<String>,
    labels: Value,
    spec: Option<Value>,
    request: String,
    faults: Vec<FieldError>,
}

impl Given {
    fn read(body: &[u8]) -> Result<Given, Problem> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Problem::new(Kind::BadRequest, format!("the body is no JSON: {error}")))?;
        let Value::Object(mut map) = value else {
            let how = "the body must be an object with spec, and name and labels if you like";
            return Err(Problem::new(Kind::BadRequest, how));
        };
        map.retain(|_, value| !value.is_null());
        let request = idempotency::digest(&Value::Object(map.clone()));
        let mut faults = Vec::new();
        for field in map.keys().filter(|field| !["name", "labels", "spec"].contains(&field.as_str())) {
            let advice = match floe_api::suggest::nearest(field, ["name", "labels", "spec"]) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "the fields here are name, labels and spec".to_owned(),
            };
            faults.push(FieldError::new(field.as_str(), format!("unknown field, {advice}")));
        }
        let name = match map.remove("name") {
            None => None,
            Some(Value::String(name)) => Some(name),
            Some(_) => {
                faults.push(FieldError::new("name", "must be text"));
                None
            }
        };
        let labels = map.remove("labels").unwrap_or_else(|| json!({}));
        faults.extend(label_faults(&labels));
        Ok(Given { name, labels, spec: map.remove("spec"), request, faults })
    }

    /// Returns the object, if `check` finds no fault and there was none before.
    fn made(
        self,
        kind: &str,
        namespace: &str,
        name: Option<String>,
        annotations: Map<String, Value>,
        how: &str,
        check: impl Fn(Value) -> Option<Vec<FieldError>>,
    ) -> Result<Made, Problem> {
        let mut faults = self.faults;
        let Some(spec) = self.spec else {
            faults.push(FieldError::new("spec", format!("is missing: {how}")));
            return Err(Problem::invalid(faults));
        };
        let mut metadata = json!({"namespace": namespace, "labels": self.labels, "annotations": annotations});
        match &name {
            Some(name) => metadata["name"] = name.as_str().into(),
            None => metadata["generateName"] = "q-".into(),
        }
        let object = json!({"apiVersion": "floe.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        let found = check(object.clone()).unwrap_or_default();
        faults.extend(found.into_iter().map(|fault| match fault.path.as_str() {
            "metadata.name" => FieldError::new("name", fault.message),
            _ => fault,
        }));
        if !faults.is_empty() {
            return Err(Problem::invalid(faults));
        }
        Ok(Made { object, name, request: self.request })
    }
}

fn label_faults(labels: &Value) -> Vec<FieldError> {
    match labels {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_string())
            .map(|(name, _)| FieldError::new(format!("labels.{name}"), "must be text"))
            .collect(),
        _ => vec![FieldError::new("labels", "must be an object such as {\"team\": \"sales\"}")],
    }
}

fn annotations(user: &User, key: Option<&Key>, request: &str) -> Map<String, Value> {
    let mut annotations = Map::from_iter([(SUBMITTED_BY.to_owned(), Value::from(user.name.as_str()))]);
    if let Some(key) = key {
        annotations.insert(idempotency::KEY.to_owned(), key.annotation().into());
        annotations.insert(idempotency::REQUEST.to_owned(), request.into());
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(body: &str, key: Option<&Key>) -> Result<Made, Problem> {
        query(body.as_bytes(), "n", &User { name: "ann".into(), ..User::default() }, key)
    }

    fn fields(body: &str) -> Vec<String> {
        let problem = made(body, None).unwrap_err();
        assert_eq!(problem.kind, Kind::Invalid, "{}", problem.detail);
        problem.errors.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_body_becomes_an_object_of_its_caller() {
        let made = made(r#"{"name": "a", "labels": {"t": "x"}, "spec": {"plan": {"sql": "select 1"}}}"#, None).unwrap();
        let metadata = &made.object["metadata"];
        assert_eq!((metadata["name"].as_str(), metadata["namespace"].as_str()), (Some("a"), Some("n")));
        assert_eq!(metadata["labels"], json!({"t": "x"}));
        assert_eq!(metadata["annotations"], json!({SUBMITTED_BY: "ann"}));
        assert_eq!(made.object["spec"], json!({"plan": {"sql": "select 1"}}), "nothing is added to what was written");
    }

    #[test]
    fn a_key_names_the_query_and_no_name_generates_one() {
        let key = Key::read(b"k", "ann").unwrap();
        let body = r#"{"spec": {"plan": {"sql": "select 1"}}}"#;
        let keyed = made(body, Some(&key)).unwrap();
        assert_eq!(keyed.name, Some(key.query_name()));
        assert_eq!(keyed.object["metadata"]["annotations"][idempotency::REQUEST], keyed.request.as_str());
        assert_eq!(made(body, None).unwrap().object["metadata"]["generateName"], "q-");
        let named = made(r#"{"name": "a", "spec": {"plan": {"sql": "select 1"}}}"#, Some(&key)).unwrap_err();
        assert_eq!(named.errors[0].field, "name");
    }

    #[test]
    fn every_fault_is_told_by_its_field() {
        assert_eq!(fields("{}"), ["spec"]);
        assert_eq!(fields(r#"{"spce": 1, "spec": {"plan": {"sql": "x"}}}"#), ["spce"]);
        assert_eq!(fields(r#"{"name": 1, "labels": [], "spec": {"plan": {"sql": "x"}}}"#)[..2], ["name", "labels"]);
        assert_eq!(fields(r#"{"name": "A", "spec": {"plan": {"sql": "x"}}}"#), ["name"]);
        assert_eq!(fields(r#"{"labels": {"a": 1}, "spec": {"plan": {"sql": "x"}}}"#)[0], "labels.a");
        assert_eq!(fields(r#"{"spec": {"plan": {"sql": "x"}, "compute": {"workers": 0}}}"#), ["spec.compute.workers"]);
        assert_eq!(fields(r#"{"spec": {"plan": {"sql": "x", "sqk": "y"}}}"#), ["spec.plan.sqk"]);
        for body in ["", "[]", "{", "\"x\"", "{\"a\":1,}"] {
            assert_eq!(made(body, None).unwrap_err().kind, Kind::BadRequest, "{body}");
        }
    }

    #[test]
    fn a_context_has_a_name_and_a_spec_of_its_own_kind() {
        let made = |body: &str| context(body.as_bytes(), "n", &User { name: "ann".into(), ..User::default() });
        let warm = made(r#"{"name": "warm", "labels": {"t": "x"}, "spec": {"maxWorkers": 3}}"#).unwrap();
        assert_eq!((warm.object["kind"].as_str(), warm.name.as_deref()), (Some("ComputeContext"), Some("warm")));
        assert_eq!(warm.object["metadata"]["annotations"], json!({SUBMITTED_BY: "ann"}));
        assert_eq!(warm.object["spec"], json!({"maxWorkers": 3}));
        let fields = |body: &str| -> Vec<String> {
            made(body).unwrap_err().errors.into_iter().map(|fault| fault.field).collect()
        };
        assert_eq!(fields(r#"{"spec": {}}"#), ["name"]);
        assert_eq!(fields(r#"{"name": 1, "spec": {}}"#), ["name"]);
        assert_eq!(fields(r#"{"name": "warm"}"#), ["spec"]);
        assert_eq!(fields(r#"{"name": "Warm", "spec": {}}"#), ["name"]);
        assert_eq!(fields(r#"{"name": "warm", "spec": {"plan": {"sql": "x"}}}"#), ["spec.plan"]);
        assert_eq!(fields(r#"{"name": "warm", "spec": {"compute": {"workers": 2}}}"#), ["spec.compute.workers"]);
        assert_eq!(fields(r#"{"name": "warm", "spec": {"minWorkers": 3, "maxWorkers": 2}}"#), ["spec.minWorkers"]);
    }
}
