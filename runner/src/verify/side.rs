//! The other side of a comparison: the distributed engine with warm workers in this process's children, or the
//! in-memory engine when only the oracles are compared. Turns the plans of files and query objects into jobs.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use floe_api::execution::{ExecutionSpec, Mode};
use polars_plan::dsl::DslPlan;

use super::Args;
use super::judge::{Ran, Side};
use super::oracle::{self, With};
use floe_wire::error::QueryError;

/// Polars' in-memory engine as the other side.
pub struct InMemory {
    pub limit: Duration,
}

impl Side for InMemory {
    fn run(&self, _name: &str, _bytes: &[u8], plan: &DslPlan) -> Ran {
        let (outcome, elapsed) = oracle::run(plan.clone(), With::InMemory, self.limit);
        Ran { outcome, stages: 1, tasks: 1, single_worker: Vec::new(), fell_back: None, elapsed }
    }

    fn is_in_memory_engine(&self) -> bool {
        true
    }
}

fn execution(args: &Args) -> anyhow::Result<Option<ExecutionSpec>> {
    args.execution.as_deref().map(|text| serde_json::from_str(text).context("--execution")).transpose()
}

/// Planner options for a run in this process: limits so small that stages have several tasks.
pub fn planner_options(args: &Args) -> anyhow::Result<floe_planner::Options> {
    let mode = match args.mode.as_str() {
        "distributed" => floe_planner::Mode::Distributed,
        "auto" => floe_planner::Mode::Auto,
        "single-node" => floe_planner::Mode::SingleNode,
        other => anyhow::bail!("no mode `{other}`: distributed, auto or single-node"),
    };
    let defaults = floe_planner::Options::default();
    let execution = execution(args)?;
    let adaptive = execution.as_ref().is_none_or(|execution| execution.adaptive);
    let broadcast = execution.as_ref().and_then(|execution| execution.broadcast_limit.bytes());
    Ok(floe_planner::Options {
        mode,
        workers: args.workers as u32,
        broadcast_limit_bytes: broadcast.unwrap_or(defaults.broadcast_limit_bytes),
        adaptive,
        partitions_per_worker: execution.and_then(|execution| execution.partitions_per_worker),
        ..defaults
    })
}

/// Whether a file is a query object rather than a plan.
pub fn is_query(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

/// The bytes of a plan file; for a query object, of the plan that its script or source gives.
pub fn plan_bytes(path: &Path) -> Result<Vec<u8>, QueryError> {
    let bytes = std::fs::read(path).map_err(|e| QueryError::io(format!("{}: {e}", path.display())))?;
    if !is_query(path) {
        return Ok(bytes);
    }
    let query: floe_api::DistributedQuery = serde_yaml_ng::from_slice(&bytes)
        .map_err(|e| QueryError::user("BadSpec", format!("{}: {e}", path.display())))?;
    let job = floe_api::job::Job::new("verify", query.metadata.name.unwrap_or_default(), query.spec);
    // As in a run: relative to where the command is started, not to where the query lies.
    let loaded = floe_plan::load(&job, &floe_plan::LoadEnv::new(Path::new(".")))?;
    floe_codec::encode_dsl(&loaded.plan).map_err(floe_polars::polars_error)
}

/// The plan of serialized bytes. SQL inside is resolved as in a run.
pub fn loaded(bytes: &[u8]) -> Result<floe_plan::Loaded, QueryError> {
    let python = floe_plan::python::Choice::of_environment();
    floe_plan::decode_with(bytes, &floe_plan::StorageOptions::default(), None, Some(&python))
}

/// The distributed engine with its workers up.
pub fn distributed(args: &Args, limit: Duration) -> anyhow::Result<Box<dyn Side>> {
    let mode = match planner_options(args)?.mode {
        floe_planner::Mode::Distributed => Mode::Distributed,
        floe_planner::Mode::Auto => Mode::Auto,
        floe_planner::Mode::SingleNode => Mode::SingleNode,
    };
    let execution = ExecutionSpec { mode, ..execution(args)?.unwrap_or_default() };
    Ok(Box::new(super::engine::Distributed::start(args.workers, execution, limit)?))
}
