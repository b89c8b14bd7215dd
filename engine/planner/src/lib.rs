//! Optimized IR -> `StageGraph`. Pure: no files, no clock, no network; all it knows of the data is in the IR (schemas,
//! Parquet metadata, frames) and in `Options`.
//!
//! `walk` goes down the IR and gives every node a `Rel`: fragments with the number of tasks they run in and what is
//! known of row order. A node that needs its rows in other tasks closes its input's fragments into stages and reads
//! them back through an exchange. What has no distributed form is gathered to one task, with the reason kept.
//!
//! Reading order: `inputs` (what is read, cut into tasks), `properties` (what is known of rows), `operators` (each kind
//! of node), `exchanges` (rows that change tasks), `strategies` (which way a join is done), `checks` (what must hold of
//! a graph).

mod checks;
mod close;
mod context;
mod exchanges;
mod explain;
mod fragment;
mod inputs;
mod operators;
mod properties;
mod small;
mod strategies;
mod walk;

use polars_plan::dsl::SinkTypeIR;
use polars_plan::plans::{IR, IRPlan};

pub use checks::check;
pub use exchanges::resolve::{Cuts, Form};
pub use fragment::{Fragment, Keep, KeyFilter, SourceUnit, SummarySpec, Tag, decode};
pub use inputs::leaves::source_bytes;
pub use operators::sinks::packing;
pub use properties::categories::numbered;

use context::Cx;
use floe_wire::error::Result;
use floe_wire::facts::PlanOutput;
use floe_wire::graph::{Coalescing, Exchange, StageGraph};
use small::Size;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Stages, or one task if the input is small.
    Auto,
    /// Always stages.
    Distributed,
    /// One task.
    SingleNode,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    pub workers: u32,
    /// Threads with which a worker runs a task.
    pub cpus: u32,
    /// Partitions of an exchange per worker; none: by size.
    pub partitions_per_worker: Option<u32>,
    /// A join side up to this size is broadcast instead of shuffling both sides.
    pub broadcast_limit_bytes: u64,
    /// Largest broadcast, in measured bytes; a larger one is refused.
    pub max_broadcast_bytes: Option<u64>,
    /// Most bytes in memory that one scan task reads, where files and row groups can be cut so.
    pub scan_task_bytes: u64,
    /// Bytes of shuffled data that one task should hold.
    pub partition_bytes: u64,
    /// Sizes measured after a stage may change how the next one is cut.
    pub adaptive: bool,
    /// Runtime filters: the smaller side's keys drop rows of a join's other side before its exchange.
    pub runtime_filters: bool,
    /// Reorder inner joins where statistics show a clear gain.
    pub reorder_joins: bool,
    /// `Mode::Auto` runs inputs up to this size as one task, unless Python functions are called for many of their rows.
    pub small_input_bytes: u64,
    /// The sinks, as `Exchange::Sink` counts them; none: the rows are the query's result.
    pub sinks: Vec<SinkShape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkShape {
    /// One task writes all rows.
    pub single_file: bool,
    /// Bytes in memory of the rows that fill a file of the requested size; none: a task writes all its rows to one
    /// file.
    pub file_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            mode: Mode::Auto,
            workers: 1,
            cpus: 1,
            partitions_per_worker: None,
            broadcast_limit_bytes: 128 << 20,
            max_broadcast_bytes: None,
            scan_task_bytes: 128 << 20,
            partition_bytes: 128 << 20,
            adaptive: false,
            runtime_filters: true,
            reorder_joins: true,
            small_input_bytes: 32 << 20,
            sinks: Vec::new(),
        }
    }
}

/// The sinks that are nodes of the plan, in the order that `Exchange::Sink` counts them.
pub fn own_sinks(plan: &IRPlan) -> Vec<SinkTypeIR> {
    let payload = |ir: &IR| match ir {
        IR::Sink { payload: payload @ (SinkTypeIR::File(_) | SinkTypeIR::Partitioned(_)), .. } => Some(payload.clone()),
        _ => None,
    };
    match plan.root() {
        IR::SinkMultiple { inputs } => inputs.iter().filter_map(|n| payload(plan.lp_arena.get(*n))).collect(),
        ir => payload(ir).into_iter().collect(),
    }
}

pub fn plan(mut ir: IRPlan, options: &Options) -> Result<StageGraph> {
    let mut notes = if options.reorder_joins { strategies::reorder::reorder(&mut ir) } else { vec![] };
    let mode = match options.mode {
        Mode::Auto => match small::size(&ir, options) {
            Size::Small => Mode::SingleNode,
            Size::Called => {
                let why = "the input is small, but Python functions are called for its rows: all workers share them";
                notes.push(why.to_owned());
                Mode::Distributed
            }
            Size::Large => Mode::Auto,
        },
        mode => mode,
    };
    let whole = match mode {
        Mode::SingleNode if options.mode == Mode::Auto => Some("the input is small".to_string()),
        Mode::SingleNode => Some("execution.mode is single-node".to_string()),
        Mode::Auto | Mode::Distributed => {
            numbered(&ir).map(|e| format!("{e}: categories are numbered by each process for itself"))
        }
    };
    let (mut cx, inputs) = Cx::new(ir, options);
    cx.graph.notes = notes;
    operators::peaks::over_numbers(&mut cx.ex);
    if options.adaptive {
        cx.graph.coalescing = Some(Coalescing { min_tasks: options.workers, max_bytes: options.partition_bytes });
    }
    cx.graph.max_broadcast_bytes = options.max_broadcast_bytes;
    let mut sinks = 0;
    for end in inputs {
        let one = |single_file| Some(SinkShape { single_file, file_bytes: None });
        let (input, own) = match cx.ir.get(end).clone() {
            IR::Sink { input, payload: SinkTypeIR::File(_) } => (input, one(true)),
            IR::Sink { input, payload: SinkTypeIR::Partitioned(_) } => (input, one(false)),
            IR::Sink { input, .. } => (input, None),
            _ => (end, None),
        };
        let sink = options.sinks.get(sinks as usize).copied().or(own);
        let exchange = match sink {
            Some(_) => {
                sinks += 1;
                Exchange::Sink { sink: sinks - 1 }
            }
            None => Exchange::Result,
        };
        cx.graph.outputs.push(PlanOutput {
            columns: close::columns(&cx.schema(input)),
            ordered: cx.order_out(input) && checks::promised(input, &cx.ir, &cx.ex),
        });
        let roots = if let Some(reason) = &whole {
            cx.whole_plan_stage(input, exchange, reason)?
        } else {
            let rel = cx.walk(input)?;
            let rel = cx.in_order(rel)?;
            let rel = match sink {
                Some(sink) => cx.to_sink(rel, sink)?,
                None => rel,
            };
            cx.close(&rel, exchange, None)?
        };
        cx.graph.roots.extend(roots);
    }
    properties::repeat::mark_orders(&mut cx.graph, &cx.varying_order);
    Ok(cx.graph)
}
