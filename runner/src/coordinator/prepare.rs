//! Prepares a job: loads and optimizes its plan, cuts it into stages, begins its sinks. Blocks, and needs a stack large
//! enough for deep plans.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use floe_api::SinkSpec;
use floe_api::execution::{Mode, SingleWorkerOps, WarningPolicy};
use floe_api::job::Job;
use polars_core::prelude::SchemaRef;
use polars_plan::plans::IRPlan;

use super::run::cancelled;
use crate::sink;
use floe_plan::databases::{self, Held};
use floe_plan::lake::write::TableSink;
use floe_plan::{Loaded, StorageOptions, Written, placed};
use floe_wire::check::rejection;
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::StageGraph;

/// Worker memory that the planner assumes if the job gives none.
const DEFAULT_MEMORY_BYTES: u64 = 2 << 30;

pub struct Prepared {
    pub graph: StageGraph,
    /// The schema of the result, if there is no sink.
    pub schema: SchemaRef,
    /// Begun (`begin` was called): their holder must commit or abort them.
    pub sinks: Arc<Vec<sink::Plan>>,
    /// Bytes the plan reads, as far as they are known.
    pub source_bytes: Option<u64>,
    /// The SQL of the query, for the places of its tasks' errors.
    pub texts: Written,
    /// The snapshots of databases that its tasks read.
    pub held: Held,
}

/// Decides once between taking the sinks and giving up planning.
#[derive(Default)]
pub struct Taking(AtomicU8);

impl Taking {
    const TAKING: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// Returns whether sinks may be taken.
    fn start(&self) -> bool {
        self.first(Self::TAKING)
    }

    /// Returns true if no sink has been taken, nor will be.
    pub fn give_up(&self) -> bool {
        self.first(Self::GIVEN_UP)
    }

    fn first(&self, state: u8) -> bool {
        self.0.compare_exchange(0, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// What planning needs to know of the engine.
#[derive(Clone, Debug)]
pub struct Context {
    pub base: PathBuf,
    pub workers: u32,
    pub threads: u32,
}

/// Prepares a job for display, with `mode` in place of its own; takes no sink, and puts empty frames in place of
/// recursive tables.
pub fn prepare(job: &Job, context: &Context, mode: Mode) -> Result<Prepared> {
    let mut loaded = load(job, context)?;
    let recursive = loaded.recursions.len();
    while let Some(next) = loaded.recursions.first() {
        let none = next.whole.rows();
        loaded.fill(&none)?;
    }
    let mut prepared = prepare_loaded(loaded, job, context, mode, None)?;
    if recursive > 0 {
        let note = "recursive tables are made first, round by round, each round as a query of its own";
        prepared.graph.notes.push(note.to_owned());
    }
    Ok(prepared)
}

/// Loads a job's plan; leaves its recursive tables to the caller.
pub fn load(job: &Job, context: &Context) -> Result<Loaded> {
    let env = floe_plan::LoadEnv::new(job.base.as_ref().unwrap_or(&context.base));
    let (loaded, warned) = floe_polars::warnings::listening(|| floe_plan::load_open(job, &env));
    let mut loaded = loaded?;
    loaded.warnings.extend(warned.into_iter().map(|warning| warning.text));
    Ok(loaded)
}

/// Prepares a plan; without `taking` for display only, and then takes no sink.
pub fn prepare_loaded(
    loaded: Loaded,
    job: &Job,
    context: &Context,
    mode: Mode,
    taking: Option<&Taking>,
) -> Result<Prepared> {
    let (planned, warned) = floe_polars::warnings::listening(|| planned(loaded, job, context, mode));
    let mut prepared = planned?;
    let warnings = &mut prepared.graph.warnings;
    warnings.extend(warned.into_iter().map(|warning| warning.text));
    check(job, &prepared.graph)?;
    if let Some(taking) = taking {
        // A plan for display is shown with its faults.
        if let Some(rejected) = rejection(&floe_planner::check(&prepared.graph)) {
            return Err(rejected);
        }
        if !taking.start() {
            return Err(cancelled());
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

fn planned(loaded: Loaded, job: &Job, context: &Context, mode: Mode) -> Result<Prepared> {
    if !loaded.explain {
        return staged(loaded, job, context, mode);
    }
    // EXPLAIN: the stages are the result, as lines of text.
    let stages =
        staged(Loaded { explain: false, ..loaded }, &Job { spec: without_sink(job), ..job.clone() }, context, mode)?;
    let plan = floe_plan::lines("plan", &super::explain::render(&stages.graph, super::explain::Format::Text))?;
    let lines = Loaded { explain: true, ..Loaded::of(plan) };
    staged(lines, job, context, Mode::SingleNode)
}

fn without_sink(job: &Job) -> floe_api::DistributedQuerySpec {
    floe_api::DistributedQuerySpec { sink: None, ..job.spec.clone() }
}

fn staged(mut loaded: Loaded, job: &Job, context: &Context, mode: Mode) -> Result<Prepared> {
    let table = table(&loaded, job, context)?;
    if let Some(table) = &table {
        loaded.plan = table.rows(loaded.plan)?;
    }
    let held = databases::held(&loaded.plan);
    let ir = floe_plan::optimize_with(loaded.plan, job.spec.execution.pushdown)
        .map_err(|error| placed(&loaded.texts, floe_plan::as_written(error, &loaded.renamed)))?;
    let source_bytes = floe_planner::source_bytes(&ir);
    let schema = ir.lp_arena.get(ir.lp_top).schema(&ir.lp_arena).into_owned();
    let sinks = sinks(job, &ir, &schema, table)?;
    let mut options = options(job, context, mode);
    options.sinks = sinks.iter().map(sink::Plan::shape).collect();
    let mut graph = floe_polars::contain_panics("planning the query", || floe_planner::plan(ir, &options))?;
    graph.warnings.splice(0..0, loaded.warnings);
    Ok(Prepared { graph, schema, sinks: Arc::new(sinks), source_bytes, texts: loaded.texts, held })
}

/// The table of the spec's sink, if it is one.
fn table(loaded: &Loaded, job: &Job, context: &Context) -> Result<Option<TableSink>> {
    let is_table = |spec: &&SinkSpec| spec.resolved_format().is_some_and(floe_plan::lake::is_table);
    let Some(spec) = job.spec.sink.as_ref().filter(is_table) else { return Ok(None) };
    let base = job.base.as_ref().unwrap_or(&context.base);
    TableSink::prepare(spec, &job.id, &loaded.plan, StorageOptions::of_job(job), base).map(Some)
}

fn sinks(job: &Job, ir: &IRPlan, schema: &SchemaRef, table: Option<TableSink>) -> Result<Vec<sink::Plan>> {
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
    let mut plan = match table {
        Some(table) => sink::into_table(spec, table, &job.id)?,
        None => spec_sink(job, spec)?,
    };
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

/// The sinks that the spec names; `None` if it names none, and the plan may have its own.
pub(super) fn spec_sinks(job: &Job) -> Result<Option<Vec<sink::Plan>>> {
    let Some(spec) = &job.spec.sink else { return Ok(None) };
    if !spec.resolved_format().is_some_and(floe_plan::lake::is_table) {
        return Ok(Some(vec![spec_sink(job, spec)?]));
    }
    let Some((data, options)) = TableSink::data_of(spec, &StorageOptions::of_job(job))? else {
        return Ok(Some(vec![]));
    };
    Ok(Some(vec![sink::from_spec(&sink::files_of(spec, data), &options, &job.id)?]))
}

/// A broadcast may measure at most a worker's memory divided by this.
const BROADCAST_MEMORY_DIVISOR: u64 = 3;

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
        runtime_filters: execution.runtime_filters && execution.pushdown,
        reorder_joins: execution.reorder_joins,
        max_broadcast_bytes: (execution.broadcast_limit.bytes() != Some(0))
            .then_some(memory / BROADCAST_MEMORY_DIVISOR),
        // Every worker holds a broadcast beside its own work.
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
