//! Where a query's rows go: files that appear all at once or not at all.
//!
//! Every task of the last stage writes files of its own with Polars' own sinks, to a place where nobody sees them: a
//! hidden directory beside the target, or multipart uploads that are not complete. What it wrote travels as opaque
//! bytes (`staged`) to the coordinator, whose commit makes all of it visible, or whose abort leaves nothing.
//!
//! Order of calls: the coordinator makes a `Plan` (`from_spec` or `from_ir`) and calls `begin`; workers run a
//! `TaskSink` per task; the coordinator calls `commit` or `abort`. A worker that lost its coordinator calls `abandon`,
//! one whose query ended well calls `forget`.
//!
//! Guarantees: nothing under the target before commit; a commit that failed half-way goes on where it stopped when it
//! is called again; a second commit of the same query changes nothing; what a killed coordinator left is removed by the
//! next `begin` for the same target (undone before the commit point, finished after it). Of several attempts at one
//! query that are alive at once, the one that began last has the target: `begin` takes it from the others, whose
//! commits and aborts change nothing from then on.
//!
//! Belongs here: names, formats, modes, the commit protocol. Does not belong here: how plans are cut, how messages
//! travel, how stores are reached (`storage`).

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
mod task;
#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;
use polars_core::prelude::Schema;
use polars_plan::dsl::FileWriteFormat;
use serde::{Deserialize, Serialize};

pub use self::{
    from_ir::from_ir,
    from_spec::from_spec,
    registry::{abandon, forget},
    task::TaskSink,
};
use floe_planner::SinkShape;
use floe_storage::{Location, Options};
use floe_wire::error::{QueryError, Result};

/// A resolved sink: what workers need to stage files and the coordinator to commit them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub query: String,
    /// The run of the query that this belongs to.
    pub run: Run,
    /// The directory (or prefix) that holds the files.
    pub root: Location,
    /// The one file in it, when the target is a file.
    pub file: Option<String>,
    pub format: FileWriteFormat,
    /// Of the files, without the dot, compression suffix included.
    pub extension: String,
    pub mode: Mode,
    pub names: Names,
    /// Partition keys: serialized Polars expressions over the rows, by output name.
    pub keys: Vec<Key>,
    pub include_keys: bool,
    pub max_file_rows: Option<u32>,
    /// A task begins another file after rows of this many bytes in memory, which is what Polars' own sinks count.
    pub max_file_bytes: Option<u64>,
    /// A task begins another file when one has about this many bytes; none: it writes one file.
    pub target_file_bytes: Option<u64>,
    /// Expected bytes of rows in memory per byte of a file, until some were written.
    pub packing: f64,
    pub maintain_order: bool,
    /// Whether missing directories of the target are made.
    pub mkdir: bool,
    /// Local files are flushed to the disk before they count as written.
    pub sync: bool,
    pub storage: Options,
    /// Where local tasks stage (chosen by `begin`).
    pub staging: Option<std::path::PathBuf>,
    /// Directories that `begin` made above the target, outermost first.
    pub made: Vec<std::path::PathBuf>,
}

/// One try at a query: the operator's attempt, and a nonce that no other coordinator has, not even one that was started
/// again for the same attempt. All staged names carry it.
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The target must be empty or missing.
    Error,
    /// All data files of the target are replaced.
    Overwrite,
    /// New files beside the old ones.
    Append,
    /// As Polars' own sinks: files of the same name are replaced, others stay.
    Replace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Names {
    /// `part-<query>-<run>-<stage>-<task>-<n>.<extension>`: unique, and a later attempt finds the query's own files.
    Floe,
    /// `00000000.<extension>` and on, as Polars' partitioned sinks name them.
    Polars,
}

/// What a commit made visible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub uri: String,
    pub rows: u64,
    pub bytes: u64,
    pub files: u64,
}

impl Plan {
    /// One file: all rows must come through one task.
    pub fn single_file(&self) -> bool {
        self.file.is_some()
    }

    /// Whether the files are only as Polars makes them if one task writes them all: a single file, and Polars' own
    /// partitioned sinks where names or file boundaries depend on all rows.
    pub fn single_task(&self) -> bool {
        let limited = self.max_file_rows.is_some() || self.max_file_bytes.is_some();
        self.single_file() || (self.names == Names::Polars && (limited || self.is_object()))
    }

    /// Expects files to be compressed about as well as those that the rows come from, if the format compresses at all.
    pub fn expect_packing(&mut self, of_sources: f64) {
        if file_size::packs(&self.format) {
            self.packing = of_sources.clamp(1.0, 16.0);
        }
    }

    /// What the planner needs to know of it.
    pub fn shape(&self) -> SinkShape {
        let file_bytes = self.target_file_bytes.map(|target| file_size::rows_for(target, self.packing));
        SinkShape { single_file: self.single_task(), file_bytes }
    }

    pub fn uri(&self) -> String {
        match &self.file {
            Some(file) => self.root.join(file).uri(),
            None => self.root.uri(),
        }
    }

    pub fn is_object(&self) -> bool {
        matches!(self.root, Location::Object { .. })
    }

    /// A target that is written in place because it is no regular file: `/dev/null`, a pipe.
    pub(crate) fn is_device(&self) -> bool {
        let path = self.file.as_ref().and_then(|file| self.root.local_path().map(|root| root.join(file)));
        path.and_then(|path| path.metadata().ok()).is_some_and(|meta| !meta.is_file() && !meta.is_dir())
    }

    /// Whether rows of this schema can be written as the plan says.
    pub fn check(&self, schema: &Schema) -> Result<()> {
        if self.names == Names::Polars {
            // Polars checked its own plan.
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

/// Checks the spec, then the target; the plan is ready for tasks.
pub fn prepare(spec: &floe_api::SinkSpec, storage: &Options, query: &str) -> Result<Plan> {
    let mut plan = from_spec(spec, storage, query)?;
    begin(&mut plan)?;
    Ok(plan)
}

/// Checks the target before any work is done, clears what a killed query left there, and makes the place where tasks
/// stage. Nothing becomes visible.
pub fn begin(plan: &mut Plan) -> Result<()> {
    match plan.root {
        _ if plan.is_device() => Ok(()),
        Location::Local(_) => local::begin(plan),
        Location::Object { .. } => object::begin(plan),
        Location::Http(_) => Err(QueryError::user("BadUri", format!("{}: http(s) is for reading only", plan.uri()))),
    }
}

/// Makes everything visible. `staged` is what `TaskSink::finish` gave, by task in the order of the rows. May be called
/// again after a failure, and after success (it then changes nothing).
pub fn commit(plan: &Plan, staged: &[Vec<Bytes>]) -> Result<Summary> {
    let chosen = staged::choose(plan, staged)?;
    match plan.root {
        _ if plan.is_device() => {}
        Location::Local(_) => local::commit(plan, &chosen)?,
        _ => object::commit(plan, &chosen)?,
    }
    Ok(chosen.summary)
}

/// The error if another attempt at the query has taken the sink over.
pub fn superseded(plan: &Plan) -> Option<QueryError> {
    let is_taken = match plan.root {
        _ if plan.is_device() => false,
        Location::Local(_) => local::is_taken(plan),
        // A store that cannot be asked proves nothing.
        _ => object::is_taken(plan).unwrap_or(false),
    };
    is_taken.then(|| lease::superseded(plan))
}

/// Removes all that the query staged, whatever its workers had begun. A finished commit is not undone.
pub fn abort(plan: &Plan) -> Result<()> {
    match plan.root {
        _ if plan.is_device() => Ok(()),
        Location::Local(_) => local::abort(plan),
        _ => object::abort(plan),
    }
}

/// As `abort`, by a process that did not begin the query, when its coordinator is gone.
pub fn sweep(plan: &Plan) -> Result<()> {
    match plan.root {
        _ if plan.is_device() => Ok(()),
        Location::Local(_) => local::sweep(plan),
        _ => object::sweep(plan),
    }
}
