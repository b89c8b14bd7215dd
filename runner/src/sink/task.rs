//! One task's part of a sink: the end of its Polars plan, and what came of it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use polars_core::{frame::DataFrame, utils::accumulate_dataframes_vertical};
use polars_error::PolarsResult;
use polars_io::utils::sync_on_close::SyncOnCloseType;
use polars_plan::{
    callback::PlanCallback,
    dsl::{
        FileSinkOptions, PartitionStrategyIR, PartitionedSinkOptionsIR, SinkTarget, SinkTypeIR, SpecialEq,
        UnifiedSinkArgs,
        file_provider::{FileProviderArgs, FileProviderReturn, FileProviderType},
    },
    plans::{AExpr, ExprToIRContext, FunctionIR, IR, to_expr_ir},
};
use polars_utils::arena::{Arena, Node};

use super::{Plan, from_ir::decode_expression, registry, write::Stage};
use floe_exec::panic_error;
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::TaskId;

/// Stages the rows of one task. Dropped before `finish`, it removes what it had staged.
pub struct TaskSink {
    stage: Arc<Stage>,
    rows: Arc<AtomicU64>,
    finished: bool,
}

impl TaskSink {
    pub fn new(plan: &Plan, task: TaskId, attempt: u32) -> Result<TaskSink> {
        let stage = Arc::new(Stage::new(plan, task, attempt)?);
        registry::add(&plan.query, &stage);
        Ok(TaskSink { stage, rows: Arc::default(), finished: false })
    }

    /// Puts the sink on top of `input` (in place of a sink that is there) and returns the new top of the plan. Rows are
    /// encoded by Polars' own sinks, in parallel and in bounded memory; running the plan returns no rows.
    pub fn attach(&self, input: Node, nodes: &mut Arena<IR>, expressions: &mut Arena<AExpr>) -> Result<Node> {
        let input = match nodes.get(input) {
            IR::Sink { input, .. } => *input,
            _ => input,
        };
        let schema = IR::schema(nodes.get(input), nodes).into_owned();
        let payload = self.payload(&schema, expressions)?;
        let rows = self.rows.clone();
        let count = move |frame: DataFrame| {
            rows.fetch_add(frame.height() as u64, Ordering::Relaxed);
            Ok(frame)
        };
        let function = FunctionIR::Opaque {
            function: Arc::new(count),
            schema: None,
            predicate_pd: false,
            projection_pd: false,
            streamable: true,
            fmt_str: "COUNT ROWS OF SINK".into(),
        };
        let input = nodes.add(IR::MapFunction { input, function });
        Ok(nodes.add(IR::Sink { input, payload }))
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
        let limited = plan.max_file_rows.is_some() || plan.max_file_bytes.is_some();
        if plan.keys.is_empty() && !limited {
            let file = self.stage.open(String::new(), 0)?;
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
            // The path as Polars' own partitioned sinks write it, value by value percent-encoded.
            let directory = polars_io::hive::HivePathFormatter::new(arguments.partition_keys.columns()).to_string();
            let file = stage.open(directory, arguments.index_in_partition);
            file.map(FileProviderReturn::Writable).map_err(super::write::to_polars)
        };
        Ok(SinkTypeIR::Partitioned(PartitionedSinkOptionsIR {
            // Never written to, since every file comes from the provider. A local path bounds the open files at 128.
            base_path: polars_utils::pl_path::PlRefPath::new("/"),
            file_path_provider: FileProviderType::Function(PlanCallback::Rust(SpecialEq::new(Arc::new(provide)))),
            partition_strategy,
            file_format: plan.format.clone(),
            unified_sink_args,
            max_rows_per_file: plan.max_file_rows.unwrap_or(u32::MAX),
            approximate_bytes_per_file: plan.max_file_bytes.unwrap_or(u64::MAX),
        }))
    }

    /// Rows that went in so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Bytes that went out so far.
    pub fn bytes(&self) -> u64 {
        self.stage.bytes()
    }

    /// The error that Polars ran into, or the one of the store behind it, which says more (and whether to try again).
    pub fn explain(&self, error: QueryError) -> QueryError {
        self.stage.failure().unwrap_or(error)
    }

    /// After the plan ran to its end: what the coordinator needs to commit.
    pub fn finish(mut self) -> Result<Vec<Bytes>> {
        let staged = self.stage.finish(self.rows())?;
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

/// The same for those who have frames rather than a plan. It holds all rows until `finish`: for small results and
/// tests; a task that runs a plan uses `TaskSink::attach`.
pub struct TaskWriter {
    sink: TaskSink,
    frames: Vec<DataFrame>,
}

impl TaskWriter {
    pub fn new(plan: &Plan, task: TaskId, attempt: u32) -> Result<TaskWriter> {
        Ok(TaskWriter { sink: TaskSink::new(plan, task, attempt)?, frames: Vec::new() })
    }

    /// Rows in order. At least one frame is needed, since even an empty result has a schema.
    pub fn write(&mut self, frame: DataFrame) -> Result<()> {
        self.frames.push(frame);
        Ok(())
    }

    pub fn finish(self) -> Result<Vec<Bytes>> {
        let TaskWriter { sink, frames } = self;
        let run = || -> PolarsResult<()> {
            let Some(frame) = (!frames.is_empty()).then(|| accumulate_dataframes_vertical(frames)).transpose()? else {
                return Ok(());
            };
            let (mut nodes, mut expressions) = (Arena::new(), Arena::new());
            let schema = frame.schema().clone();
            let scan = nodes.add(IR::DataFrameScan { df: Arc::new(frame), schema, output_schema: None });
            let top = sink.attach(scan, &mut nodes, &mut expressions).map_err(super::write::to_polars)?;
            polars_stream::StreamingQuery::build(top, &mut nodes, &mut expressions)?.execute().map(drop)
        };
        let ran = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panic_error(&*panic))?;
        ran.map_err(|error| sink.explain(polars_error(error)))?;
        sink.finish()
    }
}
