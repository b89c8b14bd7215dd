//! Turns what the user gave (`spec.plan`) into a Polars plan: decodes the bytes of `LazyFrame.serialize()` of every
//! accepted Polars version, runs plan scripts, resolves SQL, and optimizes.
//!
//! This crate knows nothing of stages or workers. Its input is not trusted: it is parsed with limits, Python and SQL in
//! it are refused by name where they cannot run, panics of Polars' decoder and optimizer are caught, and the only
//! credentials in the resulting plan are the query's own.

use std::path::Path;

use floe_api::{Format, TableSpec};
use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::DslPlan;
use polars_plan::plans::IRPlan;

use floe_polars::{on_big_stack, panics_as_polars, polars_error};
use floe_wire::error::{QueryError, Result};

mod added;
mod blobs;
mod caches;
mod cloud_options;
mod confine;
pub mod crossing;
pub mod databases;
mod decode;
mod endless;
mod find;
mod for_client;
pub mod functions;
mod hidden;
pub mod inputs;
mod join_where;
pub mod lake;
mod load;
mod membership;
mod msgpack;
mod null_partitions;
mod numbers;
pub mod own;
mod pipes;
pub mod projected;
mod pushdown;
pub mod python;
pub mod recursion;
mod refuse;
mod requirements;
mod rewrite;
mod script;
mod sql;
mod storage;
mod tree;
mod versions;
mod warnings;

pub use decode::{decode, decode_at, decode_with};
pub use find::find;
pub use for_client::as_written_by;
pub use load::{LoadEnv, load, load_open};
pub use sql::{FUNCTIONS, Written, lines, placed};
pub use storage::StorageOptions;
pub use versions::{ACCEPTED, Client, client};

/// Environment variables for Polars: resolve the metadata of all files of a scan, so that scans can be split by their
/// footers, and count rows per node.
pub fn environment() -> Vec<(&'static str, String)> {
    vec![("POLARS_RESOLVE_METADATA_LEVEL", "full".to_string()), ("POLARS_TRACK_METRICS", "1".to_string())]
}

/// A decoded plan, ready for Polars' optimizer, with the warnings for the user.
#[derive(Debug)]
pub struct Loaded {
    pub plan: DslPlan,
    pub warnings: Vec<String>,
    /// Local paths that were made absolute: (absolute path, path as the user wrote it).
    pub renamed: Vec<(String, String)>,
    /// Return the stages of the plan instead of its rows (EXPLAIN).
    pub explain: bool,
    /// Recursive tables whose rows are not computed yet, in dependency order.
    pub recursions: Vec<recursion::Recursion>,
    /// The SQL that the plan was resolved from, for the places of errors.
    pub texts: Written,
}

impl Loaded {
    /// A plan with nothing to be said of it.
    pub fn of(plan: DslPlan) -> Self {
        let texts = Written::default();
        Loaded { plan, warnings: vec![], renamed: vec![], explain: false, recursions: vec![], texts }
    }
}

/// Replaces absolute paths in an error message by the paths that the user wrote.
pub fn as_written(error: QueryError, renamed: &[(String, String)]) -> QueryError {
    let message = renamed.iter().fold(error.message.clone(), |text, (absolute, given)| text.replace(absolute, given));
    QueryError { message, ..error }
}

/// Whether tables of a format are more than files of that format, and `open` makes a plan of them.
fn is_opened(format: Format) -> bool {
    lake::is_table(format) || databases::is_database(format)
}

/// The rows of such a table.
fn open(table: &TableSpec, storage: &StorageOptions, base: &Path) -> Result<LazyFrame> {
    match table.resolved_format() {
        Some(format) if databases::is_database(format) => databases::open(table, storage),
        _ => lake::open(table, storage, base),
    }
}

/// Optimizes for the streaming engine. Blocking: the optimizer reads the metadata of the sources.
pub fn optimize(plan: DslPlan) -> Result<IRPlan> {
    optimize_with(plan, true)
}

/// The same; without `pushdown`, sources are asked for all rows and columns.
pub fn optimize_with(mut plan: DslPlan, pushdown: bool) -> Result<IRPlan> {
    if !pushdown {
        on_big_stack(|| {
            pushdown::fence(&mut plan);
            Ok(())
        })?;
    }
    let mut ir = on_big_stack(|| {
        panics_as_polars(|| {
            let mut ir = projected::optimize(LazyFrame::from(plan).with_streaming(true)).map_err(polars_error)?;
            // Before what is below caches is optimized, which may drop partition columns, and for filters moved by that.
            null_partitions::mend(&mut ir).map_err(polars_error)?;
            let mut ir = caches::optimize_below(ir);
            null_partitions::mend(&mut ir).map_err(polars_error)?;
            pushdown::unfence(&mut ir);
            Ok(ir)
        })
    })?;
    functions::call_sources(&mut ir)?;
    on_big_stack(|| lake::footers::read(&mut ir))?;
    hidden::check(&ir)?;
    endless::check(&ir)?;
    numbers::check(&ir)?;
    databases::put_in(&mut ir)?;
    Ok(ir)
}

/// Checks whether Polars can run a plan safely: an error for what would crash the process or give wrong results
/// silently.
pub fn can_run(plan: &DslPlan) -> Result<()> {
    // Leave every other error to Polars, which reports it itself.
    match panics_as_polars(|| LazyFrame::from(plan.clone()).to_alp().map_err(polars_error)) {
        Ok(ir) => endless::check(&ir).and_then(|()| numbers::check(&ir)),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod tests;
