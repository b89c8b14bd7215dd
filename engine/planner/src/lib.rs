//! Optimized IR -> `StageGraph`. Pure: no files, no clock, no network; what it needs to know of the data stands in
//! the IR (schemas, Parquet metadata, frames) and in `Options`.
//!
//! `walk` goes down the IR and gives every node a `Rel`: fragments with the number of tasks they run in and what is
//! known of row order. A node that needs its rows elsewhere closes its input's fragments into stages and reads them
//! back through an exchange. What has no distributed form is gathered to one task, with the reason kept.

mod aggregate;
mod asof;
mod categories;
mod checks;
mod context;
mod distinct;
mod estimate;
mod exchange;
mod explain;
mod expr;
mod fragment;
mod group_by;
mod group_windows;
mod join;
mod keys;
mod leaf_cut;
mod leaves;
mod lift;
mod meet;
mod neighbours;
mod peaks;
mod ranges;
mod rel;
mod repeat;
mod resolve;
mod rising;
mod rounding;
mod running;
mod scalars;
mod sinks;
mod slice;
mod sort;
mod strategies;
mod switch;
mod unsorted;
mod walk;
mod window;

use polars_plan::dsl::SinkTypeIR;
use polars_plan::plans::{IR, IRPlan};

pub use categories::numbered;
pub use checks::check;
pub use fragment::{Fragment, Keep, KeyFilter, Notes, SourceUnit, Tag, decode};
pub use leaves::source_bytes;
pub use resolve::{Cuts, Form};
pub use sinks::packing;

use context::Cx;
use floe_wire::error::Result;
use floe_wire::facts::PlanOutput;
use floe_wire::graph::{Exchange, Merge, StageGraph};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Stages where they pay, one task where the input is small.
    Auto,
    /// Stages always.
    Distributed,
    /// One task.
    SingleNode,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    pub workers: u32,
    /// Threads a worker runs a task with.
    pub cpus: u32,
    /// Parts of an exchange for each worker; without it, by size.
    pub partitions_per_worker: Option<u32>,
    /// A join side up to this size is sent whole to every task instead of shuffling both sides.
    pub broadcast_limit_bytes: u64,
    /// A broadcast that turns out larger than this is not made.
    pub broadcast_most_bytes: Option<u64>,
    /// Bytes in memory of what one scan task reads at most, where files and row groups can be cut so.
    pub scan_task_bytes: u64,
    /// Bytes of shuffled data that one task should hold.
    pub partition_bytes: u64,
    /// Sizes that are known after a stage may change how the next one is cut.
    pub adaptive: bool,
    /// A smaller side of a join tells the tasks of the other which keys can match.
    pub runtime_filters: bool,
    /// `Mode::Auto` runs inputs up to this size as one task.
    pub small_input_bytes: u64,
    /// What takes the rows, by the count of `Exchange::Sink`; none: they are the query's result.
    pub sinks: Vec<SinkShape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkShape {
    /// All rows go through one task.
    pub single_file: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            mode: Mode::Auto,
            workers: 1,
            cpus: 1,
            partitions_per_worker: None,
            broadcast_limit_bytes: 128 << 20,
            broadcast_most_bytes: None,
            scan_task_bytes: 128 << 20,
            partition_bytes: 128 << 20,
            adaptive: false,
            runtime_filters: true,
            small_input_bytes: 32 << 20,
            sinks: Vec::new(),
        }
    }
}

/// The sinks that a plan ends in by itself, in the order that `Exchange::Sink` counts them.
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

pub fn plan(ir: IRPlan, options: &Options) -> Result<StageGraph> {
    let mode = match options.mode {
        Mode::Auto if source_bytes(&ir).is_some_and(|b| b <= options.small_input_bytes) => Mode::SingleNode,
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
    peaks::over_numbers(&mut cx.ex);
    if options.adaptive {
        cx.graph.merge = Some(Merge { tasks: options.workers, bytes: options.partition_bytes });
    }
    cx.graph.broadcast_most_bytes = options.broadcast_most_bytes;
    let mut sinks = 0;
    for end in inputs {
        let one = |single_file| Some(SinkShape { single_file });
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
            columns: context::columns(&cx.schema(input)),
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
    repeat::mark_orders(&mut cx.graph, &cx.varying_order);
    Ok(cx.graph)
}
