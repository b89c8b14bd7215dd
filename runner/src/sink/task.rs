//! One task's part of a sink: replaces the end of its Polars plan, and tracks the files that it staged.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use polars_core::frame::DataFrame;
use polars_error::PolarsResult;
use polars_io::utils::sync_on_close::SyncOnCloseType;
use polars_plan::{
    callback::PlanCallback,
    dsl::{
        FileSinkOptions, PartitionStrategyIR, PartitionedSinkOptionsIR, SinkTarget, SinkTypeIR, SpecialEq,
        UnifiedSinkArgs,
        file_provider::{FileProviderArgs, FileProviderReturn, FileProviderType},
    },
    plans::{AExpr, ExprToIRContext, FunctionIR, IR, IRPlan, to_expr_ir},
};
use polars_utils::arena::Arena;

use super::{Plan, file_size, from_ir::decode_expression, registry, table, write::Stage};
use floe_exec::{EachFrame, Passed, RowSink};
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::TaskId;

/// Stages the rows of one task. Dropping it before `finish` removes what it has staged.
pub struct TaskSink {
    stage: Arc<Stage>,
    counts: Arc<Counts>,
    finished: bool,
}

#[derive(Default)]
struct Counts {
    rows: AtomicU64,
    /// Bytes of the rows in memory.
    size: AtomicU64,
}

impl TaskSink {
    pub fn new(plan: &Plan, task: TaskId, attempt: u32) -> Result<TaskSink> {
        let stage = Arc::new(Stage::new(plan, task, attempt)?);
        registry::add(&plan.query, &stage);
        Ok(TaskSink { stage, counts: Arc::default(), finished: false })
    }

    fn payload(&self, schema: &polars_core::prelude::Schema, expressions: &mut Arena<AExpr>) -> Result<SinkTypeIR> {
        let plan = self.stage.plan();
        let unified_sink_args = UnifiedSinkArgs {
            mkdir: false,
            maintain_order: plan.maintain_order,
            sync_on_close: if plan.sync { SyncOnCloseType::All } else { SyncOnCloseType::None },
            cloud_options: None,
            sinked_paths_callback: None,
        };
        let max_bytes = file_size::limit(plan);
        if plan.keys.is_empty() && plan.max_file_rows.is_none() && max_bytes.is_none() {
            let file = self.stage.open(String::new(), 0, Vec::new())?;
            return Ok(SinkTypeIR::File(FileSinkOptions {
                target: SinkTarget::Dyn(SpecialEq::new(Arc::new(Mutex::new(Some(file))))),
                file_format: plan.format.clone(),
                unified_sink_args,
            }));
        }
        let partition_strategy = if plan.keys.is_empty() {
            PartitionStrategyIR::FileSize
        } else {
            let mut context = ExprToIRContext::new(expressions, schema);
            let keys = plan
                .keys
                .iter()
                .map(|key| to_expr_ir(decode_expression(&key.expression)?, &mut context).map_err(polars_error))
                .collect::<Result<_>>()?;
            PartitionStrategyIR::Keyed { keys, include_keys: plan.include_keys, keys_pre_grouped: false }
        };
        let stage = self.stage.clone();
        let provide = move |arguments: FileProviderArgs| -> PolarsResult<FileProviderReturn> {
            // The path as Polars' partitioned sinks write it, each value percent-encoded.
            let keys = table::directories(stage.plan(), arguments.partition_keys.columns());
            let directory = polars_io::hive::HivePathFormatter::new(&keys).to_string();
            let values = table::values(stage.plan(), &keys)?;
            let file = stage.open(directory, arguments.index_in_partition, values);
            file.map(FileProviderReturn::Writable).map_err(super::write::to_polars)
        };
        Ok(SinkTypeIR::Partitioned(PartitionedSinkOptionsIR {
            // Never written to, since the provider opens every file. A local path limits the open files to 128.
            base_path: polars_utils::pl_path::PlRefPath::new("/"),
            file_path_provider: FileProviderType::Function(PlanCallback::Rust(SpecialEq::new(Arc::new(provide)))),
            partition_strategy,
            file_format: plan.format.clone(),
            unified_sink_args,
            max_rows_per_file: plan.max_file_rows.unwrap_or(u32::MAX),
            approximate_bytes_per_file: max_bytes.unwrap_or(u64::MAX),
        }))
    }
}

impl RowSink for TaskSink {
    /// Replaces the plan's own sink, if it has one. Polars' own sinks encode the rows, in parallel and in bounded
    /// memory; running the plan returns no rows.
    fn attach(&self, plan: &mut IRPlan, each: Arc<EachFrame>) -> Result<()> {
        let IRPlan { lp_top, lp_arena: nodes, expr_arena: expressions } = plan;
        let input = match nodes.get(*lp_top) {
            IR::Sink { input, .. } => *input,
            _ => *lp_top,
        };
        let schema = IR::schema(nodes.get(input), nodes).into_owned();
        let payload = self.payload(&schema, expressions)?;
        let (counts, stage) = (self.counts.clone(), self.stage.clone());
        let count = move |frame: DataFrame| {
            let frame = each(frame, stage.bytes())?;
            counts.rows.fetch_add(frame.height() as u64, Ordering::Relaxed);
            counts.size.fetch_add(frame.estimated_size() as u64, Ordering::Relaxed);
            Ok(frame)
        };
        let function = FunctionIR::Opaque {
            function: Arc::new(count),
            schema: None,
            predicate_pd: false,
            projection_pd: false,
            streamable: true,
            fmt_str: "ROWS OF SINK".into(),
        };
        let input = nodes.add(IR::MapFunction { input, function });
        *lp_top = nodes.add(IR::Sink { input, payload });
        Ok(())
    }

    fn passed(&self) -> Passed {
        Passed {
            rows: self.counts.rows.load(Ordering::Relaxed),
            size: self.counts.size.load(Ordering::Relaxed),
            written: self.stage.bytes(),
        }
    }

    fn failure(&self) -> Option<QueryError> {
        self.stage.failure()
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Bytes>> {
        let passed = self.passed();
        let staged = self.stage.finish(passed.rows)?;
        file_size::learn(self.stage.plan(), passed.size, passed.written);
        self.finished = true;
        Ok(vec![staged])
    }
}

impl Drop for TaskSink {
    fn drop(&mut self) {
        if !self.finished {
            self.stage.discard();
        }
    }
}
