//! Loads the plan of a job, in whichever form it was given. Blocking: reads files and waits for scripts.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::DslSource;
use floe_api::job::Job;
use floe_api::plan::{PlanKind, is_serialized};

use super::decode::decode_open;
use super::python::{Choice, Purpose};
use super::{Loaded, StorageOptions, lake, refuse, script, sql};
use floe_polars::io_error;
use floe_wire::error::{QueryError, Result};

/// Size limit of a plan: larger files are no plans, or do not fit into a coordinator's memory.
const MAX_PLAN_BYTES: u64 = 8 << 30;

/// Settings for loading that depend on the process.
#[derive(Clone, Debug)]
pub struct LoadEnv {
    /// Base of relative paths in the job: the directory of the job's file, else the working directory.
    pub base: PathBuf,
    /// Python that runs plan scripts and resolves SQL.
    pub python: Choice,
}

impl LoadEnv {
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), python: Choice::of_environment() }
    }
}

/// Loads a plan; recursive tables are refused.
pub fn load(job: &Job, env: &LoadEnv) -> Result<Loaded> {
    load_open(job, env)?.without_recursion()
}

/// Loads a plan, and leaves its recursive tables to the caller.
pub fn load_open(job: &Job, env: &LoadEnv) -> Result<Loaded> {
    let storage = StorageOptions::of_job(job);
    let base =
        std::path::absolute(&env.base).map_err(|e| io_error(e.kind(), format!("{}: {e}", env.base.display())))?;
    match job.spec.plan.kind() {
        Some(PlanKind::Dsl(source)) => {
            decode_open(&dsl_bytes(source, job, &base)?, &storage, Some(&base), Some(&env.python))
        }
        Some(PlanKind::Python(source)) => {
            let job = &*with_catalogs(job, &source.script, &storage)?;
            let python = env.python.find(Purpose::Script, &mut |line| tracing::warn!("{line}"))?;
            script::run(source, job, &storage, &base, &python, &env.python)
        }
        Some(PlanKind::Sql(text)) => {
            let views = job.spec.views.values().map(String::as_str);
            let texts: Vec<&str> = std::iter::once(text).chain(views).collect();
            sql::run(text, &*with_catalogs(job, &texts.join("\n"), &storage)?, &storage, &base, &env.python)
        }
        None => Err(QueryError::user("BadSpec", "write exactly one of plan.dsl, plan.sql and plan.python")),
    }
}

/// The job, and as its tables those that a text names in catalogs.
fn with_catalogs<'j>(job: &'j Job, text: &str, storage: &StorageOptions) -> Result<Cow<'j, Job>> {
    let found = lake::catalogs::named_in(text, storage)?;
    if found.is_empty() {
        return Ok(Cow::Borrowed(job));
    }
    let mut job = job.clone();
    for (name, table) in found {
        job.spec.tables.entry(name).or_insert(table);
    }
    Ok(Cow::Owned(job))
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
    // On a cluster, the operator resolves references to `inline` or `path` when it writes the job.
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

/// Reads a file, or joins the files of a directory in the order of their names: a plan can be split into parts that
/// each fit into one ConfigMap or Secret.
fn read_parts(path: &Path, as_given: &str) -> Result<Vec<u8>> {
    if !path.is_dir() {
        return read_file(path, as_given);
    }
    let failed = |e: std::io::Error| io_error(e.kind(), format!("the plan {as_given} cannot be read: {e}"));
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut parts =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    // Mounted volumes have hidden directories next to their files.
    parts.retain(|part| part.is_file());
    parts.sort();
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(read_file(&part, as_given)?);
    }
    Ok(bytes)
}

/// Decodes base64 if the file is text.
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
