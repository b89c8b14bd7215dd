//! From a job to its plan, whichever way the plan was given. Blocking: reads files and waits for scripts.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::DslSource;
use floe_api::job::Job;
use floe_api::plan::{PlanKind, is_serialized};

use super::python::{Choice, Purpose};
use super::{Loaded, StorageOptions, decode_open, refuse, script, sql};
use floe_polars::io_error;
use floe_wire::error::{QueryError, Result};

/// A larger file is no plan, or one that no coordinator can hold.
const MAX_PLAN_BYTES: u64 = 8 << 30;

/// What loading needs of the process it runs in.
#[derive(Clone, Debug)]
pub struct LoadEnv {
    /// What relative paths of the job are relative to: the directory of its file, else the working directory.
    pub base: PathBuf,
    /// The Python that runs plan scripts and resolves SQL.
    pub python: Choice,
}

impl LoadEnv {
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), python: Choice::of_environment() }
    }
}

/// A plan that is whole: recursive tables are refused.
pub fn load(job: &Job, env: &LoadEnv) -> Result<Loaded> {
    load_open(job, env)?.without_recursion()
}

/// A plan whose recursive tables are still to be made.
pub fn load_open(job: &Job, env: &LoadEnv) -> Result<Loaded> {
    let storage = StorageOptions::of_job(job);
    let base =
        std::path::absolute(&env.base).map_err(|e| io_error(e.kind(), format!("{}: {e}", env.base.display())))?;
    match job.spec.plan.kind() {
        Some(PlanKind::Dsl(source)) => {
            decode_open(&dsl_bytes(source, job, &base)?, &storage, Some(&base), Some(&env.python))
        }
        Some(PlanKind::Python(source)) => {
            let python = env.python.find(Purpose::Script, &mut |line| tracing::warn!("{line}"))?;
            script::run(source, job, &storage, &base, &python, &env.python)
        }
        Some(PlanKind::Sql(text)) => sql::run(text, job, &storage, &base, &env.python),
        None => Err(QueryError::user("BadSpec", "write exactly one of plan.dsl, plan.sql and plan.python")),
    }
}

fn dsl_bytes(source: &DslSource, job: &Job, base: &Path) -> Result<Vec<u8>> {
    if let Some(text) = &source.inline {
        let compact: String = text.split_ascii_whitespace().collect();
        return STANDARD
            .decode(compact)
            .map_err(|e| refuse::bad_plan(format!("spec.plan.dsl.inline is not base64: {e}")));
    }
    if let Some(path) = &source.path {
        return from_file(read_parts(&base.join(path), path)?);
    }
    if let Some(uri) = &source.uri {
        return read_uri(uri, source.storage.as_deref(), job, base);
    }
    // References are resolved to `inline` or `path` by whoever makes the job of a cluster's object.
    let (field, reference) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(reference), _) => ("configMapKeyRef", reference),
        (None, Some(reference)) => ("secretKeyRef", reference),
        (None, None) => {
            return Err(QueryError::user("BadSpec", "spec.plan.dsl names no bytes: give inline, uri or path"));
        }
    };
    Err(QueryError::user(
        "BadSpec",
        format!(
            "spec.plan.dsl.{field} ({}/{}) works on a cluster only: without one, give path or uri",
            reference.name, reference.key
        ),
    ))
}

fn read_uri(uri: &str, storage: Option<&str>, job: &Job, base: &Path) -> Result<Vec<u8>> {
    match uri.split_once("://") {
        None => read_file(&base.join(uri), uri),
        Some(("file", path)) => read_file(Path::new(path), uri),
        Some(_) => {
            let options = job.storage_options(uri, storage);
            let options = options.iter().map(|(key, value)| (key.as_str(), value.reveal())).collect();
            floe_storage::read(uri, &options).map(Vec::from)
        }
    }
}

/// A file, or a directory whose files are the parts of one plan in the order of their names (what one object of a
/// cluster cannot hold).
fn read_parts(path: &Path, as_given: &str) -> Result<Vec<u8>> {
    if !path.is_dir() {
        return read_file(path, as_given);
    }
    let failed = |e: std::io::Error| io_error(e.kind(), format!("the plan {as_given} cannot be read: {e}"));
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut parts =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    // Mounted volumes have hidden directories beside their files.
    parts.retain(|part| part.is_file());
    parts.sort();
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(read_file(&part, as_given)?);
    }
    Ok(bytes)
}

/// A text file may hold the bytes as base64.
fn from_file(bytes: Vec<u8>) -> Result<Vec<u8>> {
    const TEXT: fn(&u8) -> bool =
        |byte| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || matches!(byte, b'+' | b'/' | b'=');
    if bytes.is_empty() || is_serialized(&bytes) || !bytes.iter().all(TEXT) {
        return Ok(bytes);
    }
    let compact: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Ok(STANDARD.decode(compact).unwrap_or(bytes))
}

fn read_file(path: &Path, as_given: &str) -> Result<Vec<u8>> {
    let (most, limit) = (MAX_PLAN_BYTES, MAX_PLAN_BYTES >> 30);
    let meta = std::fs::metadata(path).ok();
    if meta.as_ref().is_some_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return Err(refuse::bad_plan(format!("the plan {as_given} is no file: a device or pipe has no end")));
    }
    if meta.is_some_and(|meta| meta.is_file() && meta.len() > most) {
        return Err(refuse::bad_plan(format!(
            "the plan {as_given} has more than {limit} GiB: scan large data, do not carry it"
        )));
    }
    std::fs::read(path).map_err(|e| {
        let text = match e.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            _ => e.to_string(),
        };
        let at = if Path::new(as_given) == path { String::new() } else { format!(" ({})", path.display()) };
        io_error(e.kind(), format!("the plan {as_given}{at} cannot be read: {text}"))
    })
}
