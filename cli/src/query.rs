//! Makes a checked query and its job from a file and the command line: applies overrides, and resolves references to a
//! cluster's Secrets and ConfigMaps from local files. Nothing here starts a process.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use floe_api::data::Format;
use floe_api::job::{Job, StorageOptions};
use floe_api::{DistributedQuery, FieldError, KeyRef, Secret};
use serde_json::{Map, Value, json};

use crate::args::QueryArgs;
use crate::error::Failure;

/// Maximum size of a query's file. Plan files are not limited here.
const MAX_QUERY_BYTES: u64 = 16 << 20;

/// A query ready to run on this machine.
#[derive(Debug)]
pub struct Prepared {
    pub job: Job,
    /// Environment of coordinator and workers, from `compute.env` and `envFrom`.
    pub env: Vec<(String, Secret)>,
    pub workers: u32,
}

/// The queries of a command line: its files, or the text of `--sql`.
pub fn load_all<'a>(
    files: impl IntoIterator<Item = &'a PathBuf>,
    args: &QueryArgs,
) -> Vec<(String, Result<DistributedQuery, Failure>)> {
    if args.sql.is_some() {
        return vec![("--sql".to_owned(), load(Path::new("--sql"), args))];
    }
    files.into_iter().map(|file| (file.display().to_string(), load(file, args))).collect()
}

/// Reads a query, applies the command line's overrides, and checks it.
pub fn load(file: &Path, args: &QueryArgs) -> Result<DistributedQuery, Failure> {
    let (what, mut value) = match &args.sql {
        Some(text) => ("--sql".to_owned(), sql_query(text)?),
        None => read(file)?,
    };
    override_fields(&what, &mut value, args)?;
    floe_api::from_value(value).map_err(|faults| Failure::Spec { what, faults })
}

/// Overrides fields of a query with the command line's options.
pub fn override_fields(what: &str, value: &mut Value, args: &QueryArgs) -> Result<(), Failure> {
    let refuse = |faults| Failure::Spec { what: what.to_owned(), faults };
    if let Some(workers) = args.workers {
        let compute = object_at(value, &["spec", "compute"]).map_err(|e| refuse(vec![e]))?;
        compute.remove("minWorkers");
        compute.remove("maxWorkers");
        compute.insert("workers".into(), workers.into());
    }
    if let Some(mode) = &args.mode {
        let execution = object_at(value, &["spec", "execution"]).map_err(|e| refuse(vec![e]))?;
        execution.insert("mode".into(), mode.as_str().into());
    }
    for (name, text) in &args.table {
        let tables = object_at(value, &["spec", "tables"]).map_err(|e| refuse(vec![e]))?;
        let (format, uri) = table(text);
        tables.insert(
            name.clone(),
            match format {
                Some(format) => json!({"format": format, "uri": uri}),
                None => json!({"uri": uri}),
            },
        );
    }
    for (name, text) in &args.view {
        let text = sql_text(text)?;
        object_at(value, &["spec", "views"]).map_err(|e| refuse(vec![e]))?.insert(name.clone(), text.into());
    }
    for (name, text) in &args.param {
        let params = object_at(value, &["spec", "params"]).map_err(|e| refuse(vec![e]))?;
        params.insert(name.clone(), yaml_value(&format!("--param {name}"), text)?);
    }
    for (path, text) in &args.set {
        set(value, path, yaml_value(&format!("--set {path}"), text)?).map_err(|e| refuse(vec![e]))?;
    }
    Ok(())
}

/// Resolves what the query refers to into a job for a coordinator on this machine.
pub fn prepare(query: DistributedQuery, args: &QueryArgs) -> Result<Prepared, Failure> {
    let name = query.metadata.name.or(query.metadata.generate_name).unwrap_or_else(|| "query".to_owned());
    let refuse = |path: &str, message: String| Failure::Spec {
        what: name.clone(),
        faults: vec![FieldError::new(path, message)],
    };
    let mut spec = query.spec;
    if spec.suspend {
        return Err(refuse("spec.suspend", "is true: add --set spec.suspend=false to run the query".into()));
    }
    if spec.cancel {
        return Err(refuse("spec.cancel", "is true: add --set spec.cancel=false to run the query".into()));
    }
    if !spec.after.is_empty() {
        let message = "names queries of a cluster: run those first, and this one with --set spec.after=[]";
        return Err(refuse("spec.after", message.into()));
    }
    let secrets = Objects { kind: "Secret", option: "--secret", given: &args.secret };
    let config_maps = Objects { kind: "ConfigMap", option: "--config-map", given: &args.config_map };

    if let Some(dsl) = &mut spec.plan.dsl {
        let from = match (dsl.secret_key_ref.take(), dsl.config_map_key_ref.take()) {
            (Some(key), _) => Some((secrets.key("spec.plan.dsl.secretKeyRef", &key), "spec.plan.dsl.secretKeyRef")),
            (None, Some(key)) => {
                Some((config_maps.key("spec.plan.dsl.configMapKeyRef", &key), "spec.plan.dsl.configMapKeyRef"))
            }
            (None, None) => None,
        };
        if let Some((bytes, path)) = from {
            let bytes = bytes.map_err(|e| refuse(path, e))?;
            // A ConfigMap contains base64 as text, or the bytes themselves as binary data.
            let text = std::str::from_utf8(&bytes).ok().filter(|t| floe_api::validate::decode_base64(t).is_ok());
            dsl.inline = Some(match text {
                Some(text) => text.split_ascii_whitespace().collect(),
                None => base64::engine::general_purpose::STANDARD.encode(&bytes),
            });
        }
    }

    let mut env = Vec::new();
    for (i, source) in spec.compute.env_from.iter().enumerate() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        let path = format!("spec.compute.envFrom[{i}]");
        let (objects, name, optional) = match (&source.secret_ref, &source.config_map_ref) {
            (Some(r), _) => (&secrets, &r.name, r.optional),
            (None, Some(r)) => (&config_maps, &r.name, r.optional),
            (None, None) => continue,
        };
        match objects.all(name) {
            Ok(all) => env.extend(all.into_iter().map(|(key, value)| (format!("{prefix}{key}"), text(value)))),
            Err(_) if optional == Some(true) => {}
            Err(message) => return Err(refuse(&path, message)),
        }
    }
    for (i, variable) in spec.compute.env.iter().enumerate() {
        let path = format!("spec.compute.env[{i}].valueFrom");
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Secret::new(value.as_str()),
            (None, Some(from)) => {
                let (objects, key, optional) = match (&from.secret_key_ref, &from.config_map_key_ref) {
                    (Some(r), _) => (&secrets, KeyRef { name: r.name.clone(), key: r.key.clone() }, r.optional),
                    (None, Some(r)) => (&config_maps, KeyRef { name: r.name.clone(), key: r.key.clone() }, r.optional),
                    // Fields of a pod have no meaning on this machine.
                    (None, None) => continue,
                };
                match objects.key(&path, &key) {
                    Ok(bytes) => text(bytes),
                    Err(_) if optional == Some(true) => continue,
                    Err(message) => return Err(refuse(&path, message)),
                }
            }
            (None, None) => Secret::default(),
        };
        env.push((variable.name.clone(), value));
    }

    let of_functions = spec.compute.variables_of_functions().into_iter();
    env.extend(of_functions.map(|(name, value)| (name.to_owned(), Secret::new(value))));

    let workers = spec.compute.worker_count();
    let mut job = Job::new(uuid::Uuid::now_v7().to_string(), name.clone(), spec);
    job.traceparent = std::env::var("TRACEPARENT").ok().filter(|t| !t.is_empty());
    let storages = job.spec.storages.iter().map(|(name, storage)| (name.as_str(), storage));
    let default = job.spec.storage.iter().map(|storage| ("", storage));
    let mut resolved: BTreeMap<String, StorageOptions> = BTreeMap::new();
    for (storage_name, storage) in default.chain(storages) {
        let Some(secret) = &storage.secret_ref else { continue };
        let path = match storage_name {
            "" => "spec.storage.secretRef".to_owned(),
            named => format!("spec.storages.{named}.secretRef"),
        };
        let all = secrets.all(&secret.name).map_err(|message| refuse(&path, message))?;
        resolved.insert(storage_name.to_owned(), all.into_iter().map(|(key, value)| (key, text(value))).collect());
    }
    job.secrets = resolved;
    job.catalog_secrets = catalog_secrets(&name, &job, &secrets)?;
    Ok(Prepared { job, env, workers })
}

/// A job that knows the query's catalogs and their properties, to look into them.
pub fn catalogs(query: DistributedQuery, args: &QueryArgs) -> Result<Job, Failure> {
    let name = query.metadata.name.or(query.metadata.generate_name).unwrap_or_else(|| "query".to_owned());
    let mut job = Job::new("", name.clone(), query.spec);
    let secrets = Objects { kind: "Secret", option: "--secret", given: &args.secret };
    job.catalog_secrets = catalog_secrets(&name, &job, &secrets)?;
    Ok(job)
}

fn catalog_secrets(what: &str, job: &Job, secrets: &Objects<'_>) -> Result<BTreeMap<String, StorageOptions>, Failure> {
    let mut all = BTreeMap::new();
    for (name, catalog) in &job.spec.catalogs {
        let Some(secret) = &catalog.secret_ref else { continue };
        let read = secrets.all(&secret.name).map_err(|message| Failure::Spec {
            what: what.to_owned(),
            faults: vec![FieldError::new(format!("spec.catalogs.{name}.secretRef"), message)],
        })?;
        all.insert(name.clone(), read.into_iter().map(|(key, value)| (key, text(value))).collect());
    }
    Ok(all)
}

/// Secrets or ConfigMaps given on the command line.
struct Objects<'a> {
    kind: &'static str,
    option: &'static str,
    given: &'a [(String, String)],
}

impl Objects<'_> {
    fn path(&self, name: &str) -> Result<PathBuf, String> {
        let given = self.given.iter().rev().find(|(given, _)| given == name);
        given.map(|(_, path)| PathBuf::from(path)).ok_or_else(|| {
            format!(
                "the {} \"{name}\" is in a cluster: add {} {name}=<a file of key=value lines, or a directory with a file per key>",
                self.kind, self.option
            )
        })
    }

    fn all(&self, name: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let path = self.path(name)?;
        let failed = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
        let mut all = BTreeMap::new();
        if std::fs::metadata(&path).map_err(failed)?.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let key = entry.file_name().to_string_lossy().into_owned();
                // A mounted Secret keeps its versions under names that begin with two dots.
                if !key.starts_with("..") && entry.path().is_file() {
                    all.insert(key, std::fs::read(entry.path()).map_err(failed)?);
                }
            }
        } else {
            let text = std::fs::read_to_string(&path).map_err(failed)?;
            for (number, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let Some((key, value)) = line.split_once('=') else {
                    return Err(format!("{} line {}: write key=value", path.display(), number + 1));
                };
                all.insert(key.trim().to_owned(), value.trim().as_bytes().to_vec());
            }
        }
        Ok(all)
    }

    fn key(&self, _path: &str, key: &KeyRef) -> Result<Vec<u8>, String> {
        let mut all = self.all(&key.name)?;
        all.remove(&key.key).ok_or_else(|| format!("the {} \"{}\" has no key \"{}\"", self.kind, key.name, key.key))
    }
}

fn text(bytes: Vec<u8>) -> Secret {
    // Files often end in a line break, credentials do not.
    Secret::new(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']))
}

/// The file as a JSON value, and its name for messages.
pub fn read(file: &Path) -> Result<(String, Value), Failure> {
    let failed = |source| Failure::Read { path: file.to_owned(), source };
    let mut bytes = Vec::new();
    let what = if file == Path::new("-") {
        std::io::stdin().take(MAX_QUERY_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        "standard input".to_owned()
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        if opened.metadata().map_err(failed)?.is_dir() {
            return Err(Failure::Usage(format!("{} is a directory: name the query's file", file.display())));
        }
        opened.take(MAX_QUERY_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        file.display().to_string()
    };
    if floe_api::plan::is_serialized(&bytes) {
        if file == Path::new("-") {
            return Err(Failure::Usage("a serialized plan must be a file: give its path".to_owned()));
        }
        return Ok((what, plan_query(file)));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::Spec {
        what: what.clone(),
        faults: vec![FieldError::new("", "is neither YAML text nor a plan made by LazyFrame.serialize()")],
    })?;
    let value = floe_api::read::yaml_value(&text).map_err(|faults| Failure::Spec { what: what.clone(), faults })?;
    Ok((what, value))
}

/// A query name derived from its file's name.
pub fn name_of(file: &Path) -> String {
    let stem = file.file_stem().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let clean: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let clean = clean.trim_matches('-');
    match clean.chars().next() {
        Some(first) if first.is_ascii_lowercase() => clean.to_owned(),
        _ => format!("plan-{clean}").trim_end_matches('-').to_owned(),
    }
}

fn plan_query(file: &Path) -> Value {
    json!({
        "apiVersion": "floe.dev/v1alpha1",
        "kind": "DistributedQuery",
        "metadata": {"name": name_of(file)},
        "spec": {"plan": {"dsl": {"path": file.to_string_lossy()}}},
    })
}

/// A SQL text, or the contents of a file whose name ends in `.sql`.
pub fn sql_text(text: &str) -> Result<String, Failure> {
    let path = Path::new(text);
    let is_file =
        path.extension().is_some_and(|end| end.eq_ignore_ascii_case("sql")) && !text.contains(char::is_whitespace);
    match is_file {
        true => std::fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source }),
        false => Ok(text.to_owned()),
    }
}

/// A query object with such a text.
pub fn sql_query(text: &str) -> Result<Value, Failure> {
    Ok(json!({
        "apiVersion": "floe.dev/v1alpha1",
        "kind": "DistributedQuery",
        "metadata": {"name": "sql"},
        "spec": {"plan": {"sql": sql_text(text)?}},
    }))
}

/// Splits `parquet:data/orders/` into format and URI. Without a format the URI's extension decides, else it is Parquet.
fn table(text: &str) -> (Option<&str>, &str) {
    const FORMATS: [&str; 6] = ["parquet", "csv", "ndjson", "ipc", "delta", "iceberg"];
    match text.split_once(':') {
        Some((format, uri)) if FORMATS.contains(&format) => (Some(format), uri),
        _ => (Format::of_uri(text).is_none().then_some("parquet"), text),
    }
}

fn yaml_value(what: &str, text: &str) -> Result<Value, Failure> {
    serde_yaml_ng::from_str(text).map_err(|e| Failure::Usage(format!("{what}: the value is not YAML: {e}")))
}

/// The object at a path, created if it is missing.
pub fn object_at<'a>(value: &'a mut Value, path: &[&str]) -> Result<&'a mut Map<String, Value>, FieldError> {
    let mut at = value;
    let mut so_far = String::new();
    for key in path {
        so_far = if so_far.is_empty() { (*key).to_owned() } else { format!("{so_far}.{key}") };
        let Value::Object(map) = at else {
            return Err(FieldError::new(so_far, "cannot be set: what holds it is not an object"));
        };
        at = map.entry(*key).or_insert(Value::Null);
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
    }
    match at {
        Value::Object(map) => Ok(map),
        _ => Err(FieldError::new(so_far, "must be an object")),
    }
}

/// Sets the field at a dotted path, `[0]` for the items of a list.
fn set(value: &mut Value, path: &str, to: Value) -> Result<(), FieldError> {
    let mut at = value;
    for part in path.split('.') {
        let (key, indices) = match part.split_once('[') {
            Some((key, rest)) => {
                (key, rest.split('[').map(|i| i.strip_suffix(']').and_then(|i| i.parse::<usize>().ok())).collect())
            }
            None => (part, Vec::new()),
        };
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else {
            return Err(FieldError::new(path, "cannot be set: what holds it is not an object"));
        };
        at = map.entry(key).or_insert(Value::Null);
        for index in indices {
            let Some(index) = index else {
                return Err(FieldError::new(path, "write an item of a list as name[0]"));
            };
            at = at
                .as_array_mut()
                .and_then(|items| items.get_mut(index))
                .ok_or_else(|| FieldError::new(path, format!("cannot be set: there is no item {index} in the list")))?;
        }
    }
    *at = to;
    Ok(())
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
