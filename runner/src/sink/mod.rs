//! Writes a query's rows to files that appear all at once or not at all.
//!
//! Every task of the last stage writes its own files with Polars' own sinks, to a hidden place: a directory beside the
//! target, or multipart uploads that are not completed. Its report travels as opaque bytes (`staged`) to the
//! coordinator, whose commit makes all files visible, or whose abort removes them.
//!
//! Order of calls: the coordinator makes a `Plan` (`from_spec` or `from_ir`) and calls `begin`; workers run a
//! `TaskSink` per task; the coordinator calls `commit` or `abort`. A worker that lost its coordinator calls `abandon`;
//! one whose query ended normally calls `forget`.
//!
//! Guarantees: nothing is visible under the target before the commit. A commit that failed half-way continues where it
//! stopped when it is called again. A second commit of the same query changes nothing. The next `begin` for the same
//! target removes what a killed coordinator left (undone before the commit point, completed after it). If several
//! attempts at one query are alive at once, the one that began last owns the target: `begin` takes it from the others,
//! whose commits and aborts then have no effect.
//!
//! Belongs here: names, formats, modes, the commit protocol. Does not belong here: how plans are cut, how messages
//! travel, how stores are accessed (`storage`).

mod fault;
mod file_size;
mod files;
mod from_ir;
mod from_spec;
mod lease;
mod local;
mod local_target;
mod lock;
mod naming;
mod object;
mod parallel;
mod registry;
mod staged;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use polars_core::prelude::Schema;
use polars_plan::dsl::FileWriteFormat;
use serde::{Deserialize, Serialize};

pub use self::{
    from_ir::from_ir,
    from_spec::from_spec,
    registry::{abandon, forget},
    table::{files_of, into_table},
    task::TaskSink,
};
use floe_planner::SinkShape;
use floe_storage::{Location, Options};
use floe_wire::error::{QueryError, Result};

/// A resolved sink: what workers need to stage files and the coordinator to commit them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub query: String,
    /// The run that this plan belongs to.
    pub run: Run,
    /// The directory (or prefix) that holds the files.
    pub root: Location,
    /// Name of the single file, if the target is a file.
    pub file: Option<String>,
    pub format: FileWriteFormat,
    /// File extension without the dot, including the compression suffix.
    pub extension: String,
    pub mode: Mode,
    pub names: Names,
    /// Partition keys: serialized Polars expressions over the rows, by output name.
    pub keys: Vec<Key>,
    pub include_keys: bool,
    pub max_file_rows: Option<u32>,
    /// Start another file after this many bytes of rows in memory, which is what Polars' own sinks count.
    pub max_file_bytes: Option<u64>,
    /// Start another file when the current one has about this many bytes; `None`: one file per task.
    pub target_file_bytes: Option<u64>,
    /// Expected bytes of rows in memory per byte of file, until it is measured.
    pub packing: f64,
    pub maintain_order: bool,
    /// Whether to create missing directories of the target.
    pub mkdir: bool,
    /// Whether to sync local files to disk before they count as written.
    pub sync: bool,
    pub storage: Options,
    /// Staging directory of local tasks, chosen by `begin`.
    pub staging: Option<std::path::PathBuf>,
    /// Directories above the target that `begin` created, outermost first.
    pub made: Vec<std::path::PathBuf>,
    /// The table that the files become part of. Only its coordinator knows it.
    #[serde(skip)]
    pub table: Option<Arc<table::Table>>,
}

/// One try at a query: the operator's attempt number, and a nonce that differs between coordinators, even restarted
/// ones of the same attempt. All staged names contain it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub attempt: u32,
    pub nonce: String,
}

impl Run {
    pub fn new(attempt: u32) -> Run {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        Run { attempt, nonce: nonce[..8].to_owned() }
    }

    fn parse(text: &str) -> Option<Run> {
        let (attempt, nonce) = text.split_once('x')?;
        Some(Run { attempt: attempt.parse().ok()?, nonce: nonce.to_owned() })
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.attempt, self.nonce)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub name: String,
    pub expression: Bytes,
    /// What directories call the key, if not by its name.
    pub directory: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The target must be empty or missing.
    Error,
    /// Replace all data files of the target.
    Overwrite,
    /// Add new files beside the old ones.
    Append,
    /// Like Polars' own sinks: replace files of the same name, keep others.
    Replace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Names {
    /// `part-<query>-<run>-<stage>-<task>-<n>.<extension>`: unique, and a later attempt can find the query's own files.
    Floe,
    /// `00000000.<extension>` and so on, like Polars' partitioned sinks.
    Polars,
}

/// Result of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub uri: String,
    pub rows: u64,
    pub bytes: u64,
    pub files: u64,
}

impl Plan {
    /// Whether the target is one file: all rows must come through one task.
    pub fn single_file(&self) -> bool {
        self.file.is_some()
    }

    /// Whether one task must write all files to get what Polars would write: a single file, and Polars' own partitioned
    /// sinks if names or file boundaries depend on all rows.
    pub fn single_task(&self) -> bool {
        let limited = self.max_file_rows.is_some() || self.max_file_bytes.is_some();
        self.single_file() || (self.names == Names::Polars && (limited || self.is_object()))
    }

    /// Sets the expected ratio to that of the source files, if the format compresses at all.
    pub fn expect_packing(&mut self, of_sources: f64) {
        if file_size::packs(&self.format) {
            self.packing = of_sources.clamp(1.0, 16.0);
        }
    }

    /// Properties of the sink for the planner.
    pub fn shape(&self) -> SinkShape {
        let file_bytes = self.target_file_bytes.map(|target| file_size::row_bytes_for(target, self.packing));
        SinkShape { single_file: self.single_task(), file_bytes }
    }

    pub fn uri(&self) -> String {
        match &self.file {
            Some(file) => self.root.join(file).uri(),
            None => self.root.uri(),
        }
    }

    /// Where the result is: a directory ends in a slash, by which readers know it.
    pub fn result_uri(&self) -> String {
        if let Some(table) = &self.table {
            return table.root().to_owned();
        }
        let uri = self.uri();
        match self.file.is_some() || uri.ends_with('/') {
            true => uri,
            false => format!("{uri}/"),
        }
    }

    pub fn is_object(&self) -> bool {
        matches!(self.root, Location::Object { .. })
    }

    /// Whether the target is written in place because it is no regular file: `/dev/null`, a pipe.
    pub(crate) fn is_device(&self) -> bool {
        let path = self.file.as_ref().and_then(|file| self.root.local_path().map(|root| root.join(file)));
        path.and_then(|path| path.metadata().ok()).is_some_and(|meta| !meta.is_file() && !meta.is_dir())
    }

    /// Checks whether rows of this schema can be written.
    pub fn check(&self, schema: &Schema) -> Result<()> {
        if self.names == Names::Polars {
            // Polars checks its own plan.
            return Ok(());
        }
        for key in &self.keys {
            if !schema.contains(key.name.as_str()) {
                let known: Vec<&str> = schema.iter_names().map(|name| name.as_str()).collect();
                return Err(QueryError::user(
                    "ColumnNotFoundError",
                    format!("sink.partitionBy: column '{}' not found; the result has: {}", key.name, known.join(", ")),
                ));
            }
        }
        if !self.keys.is_empty() && !self.include_keys && self.keys.len() == schema.len() {
            return Err(QueryError::user(
                "BadSpec",
                "sink.partitionBy names every column of the result: no column would be left for the files; set \
                 sink.includeKeys: true",
            ));
        }
        Ok(())
    }
}

/// Checks the spec, then the target; the plan is then ready for tasks.
pub fn prepare(spec: &floe_api::SinkSpec, storage: &Options, query: &str) -> Result<Plan> {
    let mut plan = from_spec(spec, storage, query)?;
    begin(&mut plan)?;
    Ok(plan)
}

/// Checks the target before any work is done, clears what a killed query left there, and creates the staging place.
/// Nothing becomes visible.
pub fn begin(plan: &mut Plan) -> Result<()> {
    match plan.root {
        _ if plan.is_device() => Ok(()),
        Location::Local(_) => local::begin(plan),
        Location::Object { .. } => object::begin(plan),
        Location::Http(_) => Err(QueryError::user("BadUri", format!("{}: http(s) is for reading only", plan.uri()))),
    }
}

/// Makes all files visible. `staged` has the results of `TaskSink::finish`, by task, in row order. May be called again
/// after a failure, and after success (it then changes nothing).
pub fn commit(plan: &Plan, staged: &[Vec<Bytes>]) -> Result<Summary> {
    let chosen = staged::choose(plan, staged)?;
    if let Some(table) = &plan.table {
        table::note(plan, table, &chosen);
    }
    match plan.root {
        _ if plan.is_device() => {}
        Location::Local(_) => local::commit(plan, &chosen)?,
        _ => object::commit(plan, &chosen)?,
    }
    match &plan.table {
        Some(table) => table::commit(plan, table, chosen),
        None => Ok(chosen.summary),
    }
}

/// The error if another attempt at the query has taken over the sink.
pub fn superseded(plan: &Plan) -> Option<QueryError> {
    let is_taken = match plan.root {
        _ if plan.is_device() => false,
        Location::Local(_) => local::is_taken(plan),
        // An unreachable store proves nothing.
        _ => object::is_taken(plan).unwrap_or(false),
    };
    is_taken.then(|| lease::superseded(plan))
}

/// Removes everything that the query staged. A finished commit is not undone.
pub fn abort(plan: &Plan) -> Result<()> {
    match plan.root {
        _ if plan.is_device() => Ok(()),
        Location::Local(_) => local::abort(plan),
        _ => object::abort(plan),
    }?;
    plan.table.as_ref().map_or(Ok(()), |table| table::abort(table))
}

/// Like `abort`, for a process that did not begin the query, after its coordinator is gone.
pub fn sweep(plan: &Plan) -> Result<()> {
    match plan.root {
        _ if plan.is_device() => Ok(()),
        Location::Local(_) => local::sweep(plan),
        _ => object::sweep(plan),
    }
}
