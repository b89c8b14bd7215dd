//! From a job to what can be run: the plan loaded, optimized and cut into stages, the sinks ready. Blocking, and on a
//! stack that deep plans fit.

use std::path::PathBuf;
use std::sync::Arc;

use floe_api::SinkSpec;
use floe_api::execution::{Mode, SingleWorkerOps, WarningPolicy};
use floe_api::job::Job;
use polars_core::prelude::SchemaRef;
use polars_plan::plans::IRPlan;

use crate::sink;
use floe_wire::check::rejection;
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::StageGraph;

/// The planner's view of one worker when the job does not say.
const DEFAULT_MEMORY_BYTES: u64 = 2 << 30;

pub struct Prepared {
    pub graph: StageGraph,
    /// Of the result, when there is no sink.
    pub schema: SchemaRef,
    /// Ready for tasks (`begin` was called): whoever has them commits or aborts them.
    pub sinks: Arc<Vec<sink::Plan>>,
    /// Bytes the plan reads, as far as they are known.
    pub source_bytes: Option<u64>,
}

/// What of the engine matters for planning.
#[derive(Clone, Debug)]
pub struct Context {
    pub base: PathBuf,
    pub workers: u32,
    pub threads: u32,
}

/// With `mode` in place of the job's. `touch_sinks` is off for a mere look at the plan.
pub fn prepare(job: &Job, context: &Context, mode: Mode, touch_sinks: bool) -> Result<Prepared> {
    let (planned, warned) = floe_polars::warnings::listening(|| planned(job, context, mode));
    let mut prepared = planned?;
    let told = &mut prepared.graph.warnings;
    told.extend(warned.into_iter().map(|warning| warning.text));
    check(job, &prepared.graph)?;
    if touch_sinks {
        // A mere look at the plan shows what is wrong with it.
        if let Some(rejected) = rejection(&floe_planner::check(&prepared.graph)) {
            return Err(rejected);
        }
        let sinks = Arc::make_mut(&mut prepared.sinks);
        sinks.iter_mut().for_each(|sink| sink.run = sink::Run::new(job.attempt));
        for at in 0..sinks.len() {
            if let Err(error) = sink::begin(&mut sinks[at]) {
                sinks[..at].iter().for_each(|begun| drop(sink::abort(begun)));
                return Err(error);
            }
        }
    }
    Ok(prepared)
}

fn planned(job: &Job, context: &Context, mode: Mode) -> Result<Prepared> {
    let loaded = floe_plan::load(job, &floe_plan::LoadEnv::new(&context.base))?;
    let ir = floe_plan::optimize(loaded.plan).map_err(|error| floe_plan::as_written(error, &loaded.renamed))?;
    let source_bytes = floe_planner::source_bytes(&ir);
    let schema = ir.lp_arena.get(ir.lp_top).schema(&ir.lp_arena).into_owned();
    let sinks = sinks(job, &ir, &schema)?;
    let mut options = options(job, context, mode);
    options.sinks = sinks.iter().map(sink::Plan::shape).collect();
    let mut graph = floe_polars::contain_panics("planning the query", || floe_planner::plan(ir, &options))?;
    graph.warnings.splice(0..0, loaded.warnings);
    Ok(Prepared { graph, schema, sinks: Arc::new(sinks), source_bytes })
}

fn sinks(job: &Job, ir: &IRPlan, schema: &SchemaRef) -> Result<Vec<sink::Plan>> {
    let storage = |uri: &str| floe_storage::Options::from(&job.storage_options(uri, None));
    let own = floe_planner::own_sinks(ir);
    let Some(spec) = &job.spec.sink else {
        let plans = own.iter().map(|own| {
            let plan = sink::from_ir(own, &ir.expr_arena, &storage, &job.id)?;
            plan.ok_or_else(|| QueryError::internal("a sink of the plan writes no files"))
        });
        return plans.collect();
    };
    if !own.is_empty() {
        let message = "the plan ends in sinks of its own: leave spec.sink out, or remove them from the plan";
        return Err(QueryError::user("BadSpec", message));
    }
    let mut plan = spec_sink(job, spec)?;
    plan.check(schema)?;
    if let Some(packing) = floe_planner::packing(ir) {
        plan.expect_packing(packing);
    }
    Ok(vec![plan])
}

fn spec_sink(job: &Job, spec: &SinkSpec) -> Result<sink::Plan> {
    let options = job.storage_options(&spec.uri, spec.storage.as_deref());
    sink::from_spec(spec, &floe_storage::Options::from(&options), &job.id)
}

/// The sinks that the spec names; `None` when it names none and the plan may have its own.
pub(super) fn spec_sinks(job: &Job) -> Result<Option<Vec<sink::Plan>>> {
    job.spec.sink.as_ref().map(|spec| Ok(vec![spec_sink(job, spec)?])).transpose()
}

/// The part of a worker's memory that a broadcast may come to when it is measured.
const BROADCAST_SHARE: u64 = 3;

fn options(job: &Job, context: &Context, mode: Mode) -> floe_planner::Options {
    let (execution, defaults) = (&job.spec.execution, floe_planner::Options::default());
    let memory = job.spec.compute.memory.bytes().unwrap_or(DEFAULT_MEMORY_BYTES);
    floe_planner::Options {
        mode: match mode {
            Mode::Auto => floe_planner::Mode::Auto,
            Mode::Distributed => floe_planner::Mode::Distributed,
            Mode::SingleNode => floe_planner::Mode::SingleNode,
        },
        workers: context.workers.max(1),
        cpus: context.threads.max(1),
        partitions_per_worker: execution.partitions_per_worker,
        adaptive: execution.adaptive,
        runtime_filters: execution.runtime_filters,
        broadcast_most_bytes: (execution.broadcast_limit.bytes() != Some(0)).then_some(memory / BROADCAST_SHARE),
        // What is broadcast is held by every worker beside its own work.
        broadcast_limit_bytes: execution
            .broadcast_limit
            .bytes()
            .unwrap_or(defaults.broadcast_limit_bytes)
            .min(memory / 16),
        scan_task_bytes: execution
            .scan_task_bytes
            .as_ref()
            .and_then(|q| q.bytes())
            .unwrap_or((memory / 8).clamp(32 << 20, 512 << 20)),
        partition_bytes: (memory / 32).clamp(8 << 20, 256 << 20),
        ..defaults
    }
}

fn check(job: &Job, graph: &StageGraph) -> Result<()> {
    let execution = &job.spec.execution;
    if execution.single_worker_ops == SingleWorkerOps::Forbid
        && execution.mode != Mode::SingleNode
        && graph.stages.len() > 1
        && !graph.single_worker.is_empty()
    {
        let nodes: Vec<String> =
            graph.single_worker.iter().map(|node| format!("{} ({})", node.node, node.reason)).collect();
        let message = format!("execution.singleWorkerOps is forbid, and these run on one worker: {}", nodes.join("; "));
        return Err(QueryError::user("SingleWorkerForbidden", message));
    }
    if execution.warnings == WarningPolicy::Fail
        && let Some(warning) = graph.warnings.first()
    {
        return Err(QueryError::user("WarningAsError", warning.clone()));
    }
    Ok(())
}
