//! The CRD in crds/ and the reference in docs/ are what the types make, and they read well.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Holds a file against what is made now; FLOE_WRITE_GENERATED=1 writes it.
fn hold(file: &str, made: &str) {
    let path = root().join(file);
    if std::env::var_os("FLOE_WRITE_GENERATED").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "{file} is not what api/ makes: run FLOE_WRITE_GENERATED=1 cargo test -p floe-api --test crd"
    );
}

#[test]
fn the_crd_file_is_what_the_types_make() {
    let file = "crds/floe.dev_distributedqueries.yaml";
    let made = floe_api::schema::crd_yaml();
    // The order of keys hangs on how the workspace builds serde_json; what they say does not.
    let kept = std::fs::read_to_string(root().join(file)).unwrap_or_default();
    let parsed = |text: &str| serde_yaml_ng::from_str::<Value>(text).unwrap_or_default();
    if parsed(&kept) != parsed(&made) {
        hold(file, &made);
    }
}

#[test]
fn the_crd_file_of_contexts_is_what_the_types_make() {
    let file = "crds/floe.dev_computecontexts.yaml";
    let made = floe_api::schema::context_crd_yaml();
    let kept = std::fs::read_to_string(root().join(file)).unwrap_or_default();
    let parsed = |text: &str| serde_yaml_ng::from_str::<Value>(text).unwrap_or_default();
    if parsed(&kept) != parsed(&made) {
        hold(file, &made);
    }
}

#[test]
fn the_crd_file_of_schedules_is_what_the_types_make() {
    let file = "crds/floe.dev_scheduledqueries.yaml";
    let made = floe_api::schema::schedule_crd_yaml();
    let kept = std::fs::read_to_string(root().join(file)).unwrap_or_default();
    let parsed = |text: &str| serde_yaml_ng::from_str::<Value>(text).unwrap_or_default();
    if parsed(&kept) != parsed(&made) {
        hold(file, &made);
    }
}

#[test]
fn a_template_may_change() {
    let crd = floe_api::schema::schedule_crd_yaml();
    assert!(crd.contains("x-kubernetes-validations") && !crd.contains("oldSelf"), "its queries are new ones");
}

#[test]
fn the_reference_is_what_the_types_make() {
    hold("docs/spec.md", &floe_api::reference::markdown());
    hold("docs/context-spec.md", &floe_api::reference::context_markdown());
    hold("docs/schedule-spec.md", &floe_api::reference::schedule_markdown());
}

#[test]
fn every_field_is_described_and_none_is_beyond_what_the_api_server_takes() {
    let (queries, contexts) = (floe_api::schema::object_schema(), floe_api::schema::context_schema());
    let fields = floe_api::reference::fields(&queries);
    assert!(fields.len() > 100, "{}", fields.len());
    let schedules = floe_api::schema::schedule_schema();
    let others = [&contexts, &schedules].into_iter().flat_map(floe_api::reference::fields);
    for (path, field) in fields.into_iter().chain(others) {
        let described = field.get("description").and_then(Value::as_str).is_some_and(|d| d.len() > 5);
        assert!(described, "{path} has no description");
        for refused in ["$ref", "oneOf", "anyOf", "nullable", "const", "definitions"] {
            assert!(!field.contains_key(refused), "{path} has {refused}");
        }
        let typed = field.contains_key("type")
            || field.contains_key("x-kubernetes-int-or-string")
            || field.contains_key("x-kubernetes-preserve-unknown-fields");
        assert!(typed, "{path} has no type");
        if let Some(format) = field.get("format").and_then(Value::as_str) {
            assert!(["int32", "int64", "date-time"].contains(&format), "{path} has the format {format}");
        }
    }
}

#[test]
fn the_crd_fits_where_kubectl_apply_keeps_it() {
    // The last-applied annotation takes 262144 bytes.
    for crd in [floe_api::crd(), floe_api::schedule_crd()] {
        let json = serde_json::to_string(&crd).unwrap();
        assert!(json.len() < 200_000, "{}", json.len());
    }
}

#[test]
fn every_example_is_sound() {
    let mut seen = 0;
    let mut dirs = vec![root().join("examples")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                check(&path, &std::fs::read_to_string(&path).unwrap());
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no examples");
}

#[test]
fn every_query_in_the_documentation_is_sound() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path()).collect();
    files.push(root().join("README.md"));
    let mut seen = 0;
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let kinds = ["DistributedQuery", "ComputeContext", "ScheduledQuery"];
            if kinds.iter().any(|kind| block.contains(&format!("kind: {kind}"))) {
                check(path, block);
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no queries");
}

fn check(path: &Path, text: &str) {
    let read = match text {
        text if text.contains("kind: ComputeContext") => floe_api::context_from_yaml(text).map(drop),
        text if text.contains("kind: ScheduledQuery") => floe_api::schedule_from_yaml(text).map(drop),
        text => floe_api::from_yaml(text).map(drop),
    };
    if let Err(errors) = read {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}: {}", path.display(), errors.join("\n"));
    }
}
