//! Makes the query objects to write to a cluster, from files or from options alone. They contain only what the user
//! wrote, so that server-side apply owns no more than that, and are checked as a whole. Nothing here talks to a
//! cluster.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::data::Format;
use floe_api::{FieldError, SinkFormat};
use serde_json::{Value, json};

use crate::args::cluster::{MakeArgs, SubmitArgs};
use crate::error::Failure;
use crate::human;
use crate::query::{self, object_at};

/// The API server takes objects of about 1.5 MB; base64 turns three bytes into four.
const MAX_INLINE_BYTES: usize = 1_000_000;
/// The longest script that a query may have.
const MAX_SCRIPT_BYTES: u64 = 262_144;
/// Leaves room for the letters that the server appends to a generated name.
const MAX_STEM: usize = 40;

/// The checked queries of a command line. `generate`: a script without a name gets one from the server.
pub fn queries(args: &SubmitArgs, generate: bool) -> Result<Vec<Value>, Failure> {
    for (option, given, how) in [
        ("--secret", &args.query.secret, "kubectl create secret generic"),
        ("--config-map", &args.query.config_map, "kubectl create configmap"),
    ] {
        if let Some((name, path)) = given.first() {
            return Err(Failure::Usage(format!(
                "{option} {name}={path} is for queries on this machine: on a cluster create the object first \
                 ({how} {name} --from-env-file={path}) and name it in the query"
            )));
        }
    }
    let mut made = Vec::new();
    for file in args.all_files() {
        let (what, value) = query::read(file)?;
        made.push(finish(&what, value, args, generate)?);
    }
    if let Some((what, value)) = of_options(args, generate)? {
        made.push(finish(&what, value, args, generate)?);
    }
    if args.make.name.is_some() && made.len() > 1 {
        return Err(Failure::Usage(format!("--name is for one query, and these are {}", made.len())));
    }
    Ok(made)
}

/// The query that the options describe, if they name a source.
fn of_options(args: &SubmitArgs, generate: bool) -> Result<Option<(String, Value)>, Failure> {
    let make = &args.make;
    let (what, stem, plan) = if let Some(path) = &make.script {
        (shown(path), stem(path), json!({"python": {"script": read_script(path)?}}))
    } else if let Some(path) = &make.plan {
        let bytes = std::fs::read(path).map_err(|source| Failure::Read { path: path.clone(), source })?;
        if !floe_api::plan::is_serialized(&bytes) {
            let fault = FieldError::new("", "is no plan made by LazyFrame.serialize()");
            return Err(Failure::Spec { what: shown(path), faults: vec![fault] });
        }
        (shown(path), stem(path), json!({"dsl": {"path": path.to_string_lossy()}}))
    } else if let Some(sql) = &args.query.sql {
        ("--sql".to_owned(), "sql".to_owned(), query::sql_query(sql)?["spec"]["plan"].take())
    } else {
        return Ok(None);
    };
    let metadata = match &make.name {
        Some(name) => json!({"name": name}),
        None if generate => json!({"generateName": format!("{stem}-")}),
        None => json!({"name": stem}),
    };
    let query = json!({
        "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": metadata, "spec": {"plan": plan},
    });
    Ok(Some((what, query)))
}

/// Applies the options to the query, and checks the result.
fn finish(what: &str, mut query: Value, args: &SubmitArgs, generate: bool) -> Result<Value, Failure> {
    let refuse = |faults| Failure::Spec { what: what.to_owned(), faults };
    overlay(&mut query, &args.make).map_err(|fault| refuse(vec![fault]))?;
    query::override_fields(what, &mut query, &args.query)?;
    if let Some(path) = query["spec"]["plan"]["dsl"]["path"].as_str().map(PathBuf::from) {
        let dsl = object_at(&mut query, &["spec", "plan", "dsl"]).map_err(|fault| refuse(vec![fault]))?;
        dsl.remove("path");
        dsl.insert("inline".into(), inline(&path)?.into());
    }
    floe_api::from_value(query.clone()).map_err(refuse)?;
    if !generate && query["metadata"]["name"].is_null() {
        let fault =
            FieldError::new("metadata.name", "is missing: `apply` needs to know which query it is; give --name");
        return Err(refuse(vec![fault]));
    }
    Ok(query)
}

/// Applies the options to the query.
pub fn overlay(query: &mut Value, make: &MakeArgs) -> Result<(), FieldError> {
    if let Some(name) = &make.name {
        let metadata = object_at(query, &["metadata"])?;
        metadata.remove("generateName");
        metadata.insert("name".into(), name.as_str().into());
    }
    if let Some(uri) = &make.sink {
        let sink = object_at(query, &["spec", "sink"])?;
        sink.insert("uri".into(), uri.as_str().into());
        if !sink.contains_key("format") {
            sink.insert("format".into(), sink_format(uri).as_str().into());
        }
    }
    if let Some(mode) = &make.sink_mode {
        object_at(query, &["spec", "sink"])?.insert("mode".into(), mode.as_str().into());
    }
    if let Some(secret) = &make.storage {
        object_at(query, &["spec", "storage"])?.insert("secretRef".into(), json!({"name": secret}));
    }
    if let Some(context) = &make.on {
        let compute = object_at(query, &["spec", "compute"])?;
        // The context determines the number of workers.
        ["workers", "minWorkers", "maxWorkers"].iter().for_each(|field| drop(compute.remove(*field)));
        compute.insert("contextRef".into(), json!({"name": context}));
    }
    for (field, value) in [("cpus", &make.cpus), ("memory", &make.memory), ("image", &make.image)] {
        if let Some(value) = value {
            object_at(query, &["spec", "compute"])?.insert(field.into(), value.as_str().into());
        }
    }
    Ok(())
}

fn sink_format(uri: &str) -> SinkFormat {
    match Format::of_uri(uri) {
        Some(Format::Csv) => SinkFormat::Csv,
        Some(Format::Ndjson) => SinkFormat::Ndjson,
        Some(Format::Ipc) => SinkFormat::Ipc,
        None | Some(Format::Parquet | Format::Delta | Format::Iceberg | Format::Postgres) => SinkFormat::Parquet,
    }
}

/// Reads a plan from a local file, to embed it in the object.
fn inline(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    if bytes.len() > MAX_INLINE_BYTES {
        return Err(Failure::Usage(format!(
            "{}: a plan of {} is too large for an object; put it in a store and write its address in spec.plan.dsl.uri",
            path.display(),
            human::bytes(bytes.len() as u64)
        )));
    }
    Ok(STANDARD.encode(&bytes))
}

fn read_script(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let limit = MAX_SCRIPT_BYTES + 1;
    match path == Path::new("-") {
        true => std::io::stdin().take(limit).read_to_string(&mut text).map_err(failed)?,
        false => std::fs::File::open(path).map_err(failed)?.take(limit).read_to_string(&mut text).map_err(failed)?,
    };
    if text.len() as u64 > MAX_SCRIPT_BYTES {
        return Err(Failure::Usage(format!("{}: a script may have at most {MAX_SCRIPT_BYTES} bytes", shown(path))));
    }
    Ok(text)
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// A query name derived from its file's name.
fn stem(path: &Path) -> String {
    let mut name = query::name_of(path);
    name.truncate(MAX_STEM);
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
#[path = "make_tests.rs"]
mod tests;
