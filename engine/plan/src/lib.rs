//! From what the user gave (`spec.plan`) to Polars' own plan: reads the bytes of `LazyFrame.serialize()` of every
//! accepted Polars version, runs plan scripts, and optimizes.
//!
//! Nothing here knows of stages or workers. What comes in is not trusted: it is parsed with limits, Python and SQL in
//! it are refused by name, panics of Polars' decoder and optimizer are contained, and the only credentials a plan
//! leaves with are the query's own.

use std::path::Path;

use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::DslPlan;
use polars_plan::plans::IRPlan;

use floe_polars::{contain_panics, on_big_stack, panics_as_polars, polars_error};
use floe_wire::error::{QueryError, Result};

mod blobs;
mod confine;
mod endless;
mod find;
mod for_client;
mod load;
mod msgpack;
mod numbers;
mod refuse;
mod rewrite;
mod script;
mod storage;
mod versions;
mod warnings;

pub use find::find;
pub use for_client::as_written_by;
pub use load::{LoadEnv, load};
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

/// As `decode`, with local relative paths in the plan taken as relative to `base`.
pub fn decode_at(bytes: &[u8], storage: &StorageOptions, base: Option<&Path>) -> Result<Loaded> {
    let (client, document) = versions::split(bytes)?;
    on_big_stack(|| {
        let Adapted { bytes, warnings, renamed } = adapt(client, document, storage, base)?;
        let plan = contain_panics("decoding the plan", || {
            floe_codec::decode_dsl(&bytes).map_err(|e| refuse::undecodable(client, &e.to_string()))
        })?;
        Ok(Loaded { plan, warnings, renamed })
    })
}

/// What Polars' own reader takes, and what to tell of it.
struct Adapted {
    bytes: Vec<u8>,
    warnings: Vec<String>,
    renamed: Vec<(String, String)>,
}

fn adapt(client: versions::Client, document: &[u8], storage: &StorageOptions, base: Option<&Path>) -> Result<Adapted> {
    let mut tree = msgpack::parse(document).map_err(|e| refuse::bad_plan(format!("the plan is damaged: {e}")))?;
    if ["root", "dsl_plans", "dataframes"].iter().any(|key| tree.get(key).is_none()) {
        return Err(refuse::bad_plan("the plan is damaged: its document has no root, plan nodes and frames"));
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
    Ok(Adapted { bytes: out, warnings: ctx.warnings, renamed: ctx.renamed })
}

/// Optimizes for the streaming engine. Reads what the optimizer wants to know of the sources: blocking.
pub fn optimize(plan: DslPlan) -> Result<IRPlan> {
    let ir = on_big_stack(|| {
        panics_as_polars(|| LazyFrame::from(plan).with_streaming(true).to_alp_optimized().map_err(polars_error))
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
