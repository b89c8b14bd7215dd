//! From what the user gave (`spec.plan`) to Polars' own plan: reads the bytes of `LazyFrame.serialize()` of every
//! accepted Polars version, runs plan scripts, and optimizes.
//!
//! Nothing here knows of stages or workers. What comes in is not trusted: it is parsed with limits, Python and SQL in
//! it are refused by name, panics of Polars' decoder and optimizer are contained, and the only credentials a plan
//! leaves with are the query's own.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::DslPlan;
use polars_plan::plans::IRPlan;

use floe_polars::{contain_panics, on_big_stack, panics_as_polars, polars_error};
use floe_wire::error::{QueryError, Result};

mod added;
mod blobs;
mod caches;
mod cloud_options;
mod confine;
pub mod crossing;
mod endless;
mod find;
mod for_client;
pub mod functions;
pub mod inputs;
mod load;
mod msgpack;
mod numbers;
mod pipes;
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

pub use find::find;
pub use for_client::as_written_by;
pub use load::{LoadEnv, load, load_open};
pub use sql::{FUNCTIONS, lines};
pub use storage::StorageOptions;
pub use versions::{ACCEPTED, Client, client};

/// What Polars takes from the environment: scans are cut by the footers of all their files, and nodes are counted.
pub fn environment() -> Vec<(&'static str, String)> {
    vec![("POLARS_RESOLVE_METADATA_LEVEL", "full".to_string()), ("POLARS_TRACK_METRICS", "1".to_string())]
}

/// A plan that Polars can optimize, and what the user should know about it.
#[derive(Debug)]
pub struct Loaded {
    pub plan: DslPlan,
    pub warnings: Vec<String>,
    /// Local paths that the plan has as relative ones: as they are read, and as the user wrote them.
    pub renamed: Vec<(String, String)>,
    /// Whether the stages of the plan are asked for, not its rows.
    pub explain: bool,
    /// Recursive tables whose rows are still to be put in, in the order in which they can be made.
    pub recursions: Vec<recursion::Recursion>,
}

/// An error about files, with their paths as the user wrote them.
pub fn as_written(error: QueryError, renamed: &[(String, String)]) -> QueryError {
    let message = renamed.iter().fold(error.message.clone(), |text, (absolute, given)| text.replace(absolute, given));
    QueryError { message, ..error }
}

/// Decodes the bytes of `LazyFrame.serialize()` of any accepted client version.
pub fn decode(bytes: &[u8], storage: &StorageOptions) -> Result<Loaded> {
    decode_at(bytes, storage, None)
}

/// As `decode`, with local relative paths in the plan taken as relative to `base`. SQL in the plan is refused.
pub fn decode_at(bytes: &[u8], storage: &StorageOptions, base: Option<&Path>) -> Result<Loaded> {
    decode_with(bytes, storage, base, None)
}

/// As `decode_at`; SQL that Polars 2.x keeps in a plan is resolved by this Python. Recursive tables in it are refused.
pub fn decode_with(
    bytes: &[u8],
    storage: &StorageOptions,
    base: Option<&Path>,
    python: Option<&python::Choice>,
) -> Result<Loaded> {
    decode_open(bytes, storage, base, python)?.without_recursion()
}

/// As `decode_with`; recursive tables are still to be made.
fn decode_open(
    bytes: &[u8],
    storage: &StorageOptions,
    base: Option<&Path>,
    python: Option<&python::Choice>,
) -> Result<Loaded> {
    let (client, document) = versions::split(bytes)?;
    let mut aside = vec![];
    let mut without_sql = vec![];
    let document = match python {
        Some(_) if client >= versions::Client::V2_0 => {
            on_big_stack(|| {
                let mut tree = parsed(document)?;
                sql::inside::set_aside(&mut tree, &mut aside)?;
                if !aside.is_empty() {
                    tree.write(&mut without_sql);
                }
                Ok(())
            })?;
            if aside.is_empty() { document } else { without_sql.as_slice() }
        }
        _ => document,
    };
    on_big_stack(|| {
        let Adapted { bytes, warnings, renamed, functions } = adapt(client, document, storage, base)?;
        // A document's functions have the same numbers whatever its root is.
        let placed = RefCell::new(HashSet::new());
        let decode = |bytes: &[u8], functions: &functions::Carried| {
            let plan = contain_panics("decoding the plan", || {
                floe_codec::decode_dsl(bytes).map_err(|e| refuse::undecodable(client, &e.to_string()))
            })?;
            if functions.is_empty() { Ok(plan) } else { functions::put_in(plan, functions, &mut placed.borrow_mut()) }
        };
        let plan = decode(&bytes, &functions)?;
        let mut loaded = Loaded { plan, warnings, renamed, explain: false, recursions: vec![] };
        if let (Some(python), false) = (python, aside.is_empty()) {
            let of_key = |key: &[u8]| {
                let document = sql::inside::with_root(document, key)?;
                let Adapted { bytes, functions, .. } = adapt(client, &document, storage, base)?;
                decode(&bytes, &functions)
            };
            let texts = RefCell::new(vec![]);
            let resolve = |text: &str, tables| {
                let mut text = sql::over(text, tables, storage, base.unwrap_or(Path::new("/")), python)?;
                let plan = std::mem::take(&mut text.plan);
                texts.borrow_mut().push(text);
                Ok(plan)
            };
            let mut back = sql::inside::PutBack {
                aside: &aside,
                decode: &of_key,
                resolve: &resolve,
                done: Default::default(),
                open: vec![],
            };
            loaded.plan = back.whole(loaded.plan)?;
            for text in texts.into_inner() {
                loaded.recursions.extend(text.recursions);
                loaded.warnings.extend(text.warnings);
                loaded.renamed.extend(text.renamed);
            }
        }
        functions::check_placed(&functions, &placed.borrow())?;
        Ok(loaded)
    })
}

fn parsed(document: &[u8]) -> Result<msgpack::Node<'_>> {
    msgpack::parse(document).map_err(|e| refuse::bad_plan(format!("the plan is damaged: {e}")))
}

/// What Polars' own reader takes, and what to tell of it.
struct Adapted {
    bytes: Vec<u8>,
    warnings: Vec<String>,
    renamed: Vec<(String, String)>,
    functions: functions::Carried,
}

fn adapt(client: versions::Client, document: &[u8], storage: &StorageOptions, base: Option<&Path>) -> Result<Adapted> {
    let mut tree = parsed(document)?;
    if ["root", "dsl_plans", "dataframes"].iter().any(|key| tree.get(key).is_none()) {
        return Err(refuse::bad_plan("the plan is damaged: its document has no root, plan nodes and frames"));
    }
    let mut functions = functions::Carried::default();
    if functions::settings().allowed {
        functions = functions::carry(&mut tree, client)?;
    }
    refuse::check(&tree)?;
    blobs::check(&tree)?;
    let mut ctx = rewrite::Context { client, storage, base, warnings: vec![], renamed: vec![] };
    if client >= versions::Client::V2_0 {
        ctx.warnings = warnings::of_version_2(&tree);
    }
    rewrite::rewrite(&mut tree, &mut ctx)?;
    let mut out = Vec::with_capacity(versions::HEADER_LEN + document.len() + 256);
    versions::engine_header(&mut out);
    tree.write(&mut out);
    Ok(Adapted { bytes: out, warnings: ctx.warnings, renamed: ctx.renamed, functions })
}

/// Optimizes for the streaming engine. Reads what the optimizer wants to know of the sources: blocking.
pub fn optimize(plan: DslPlan) -> Result<IRPlan> {
    let ir = on_big_stack(|| {
        panics_as_polars(|| {
            let ir = LazyFrame::from(plan).with_streaming(true).to_alp_optimized().map_err(polars_error)?;
            Ok(caches::optimize_below(ir))
        })
    })?;
    endless::check(&ir)?;
    numbers::check(&ir)?;
    Ok(ir)
}

/// Whether Polars itself can be let loose on a plan: an error for what would take the process down, or what it would get
/// wrong without a word.
pub fn can_run(plan: &DslPlan) -> Result<()> {
    // Everything else that is wrong with it, Polars says itself.
    match panics_as_polars(|| LazyFrame::from(plan.clone()).to_alp().map_err(polars_error)) {
        Ok(ir) => endless::check(&ir).and_then(|()| numbers::check(&ir)),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod tests;
