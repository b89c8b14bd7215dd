//! Sources of Python (IO plugins). While a plan is optimized, each is a scan, so that Polars moves columns, filters and
//! limits down to it. Then it becomes a call that gets them as arguments. What the source gets is applied to its rows
//! again: sources may ignore it.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

use polars_core::prelude::*;
use polars_lazy::frame::{IntoLazy, LazyFrame};
use polars_plan::dsl::{AnonymousScanOptions, DslBuilder, DslPlan, Expr, FileScanDsl, FileScanIR, UnifiedScanArgs};
use polars_plan::frame::OptFlags;
use polars_plan::plans::{AExpr, AnonymousScan, AnonymousScanArgs, IR, IRPlan, node_to_expr, to_alp};
use polars_plan::prelude::{by_name, col};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;
use polars_utils::slice_enum::Slice;
use serde_json::json;

use super::call::Task;
use super::payload::{Payload, Returns};
use super::pushed;
use super::put::{FRAME, call};
use crate::inputs::inputs;
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

struct PythonSource {
    payload: Payload,
    schema: SchemaRef,
    task: Task,
}

/// What a source is asked for.
#[derive(Default)]
struct Request {
    /// All columns if none are named.
    columns: Option<Vec<PlSmallStr>>,
    slice: Option<Slice>,
    /// Applied to the rows of the slice.
    predicate: Option<Expr>,
    /// The columns of the result, if fewer than the source gives.
    output: Option<Vec<PlSmallStr>>,
}

/// The scan of a source.
pub fn scan(payload: &Payload, task: &Task) -> Result<DslPlan> {
    let Returns::Frame(schema) = &payload.returns else {
        return Err(QueryError::internal("a source without a schema"));
    };
    let args = UnifiedScanArgs { schema: Some(schema.clone()), ..UnifiedScanArgs::default() };
    let source = PythonSource { payload: payload.clone(), schema: schema.clone(), task: task.clone() };
    let options = AnonymousScanOptions { skip_rows: None, fmt_str: "PYTHON SOURCE" };
    Ok(DslBuilder::anonymous_scan(Arc::new(source), options, args).map_err(polars_error)?.build())
}

/// Whether a plan reads a source of Python. Polars' streaming engine has no scan for it.
pub fn has_source(plan: &DslPlan) -> bool {
    let mut open = vec![plan];
    while let Some(plan) = open.pop() {
        if let DslPlan::Scan { scan_type, .. } = plan
            && matches!(&**scan_type, FileScanDsl::Anonymous { .. })
        {
            return true;
        }
        open.extend(inputs(plan));
    }
    false
}

/// Whether a node of an optimized plan is what a source's call begins with.
pub fn is_source(ir: &IR) -> bool {
    matches!(ir, IR::DataFrameScan { schema, .. } if schema.len() == 1 && schema.contains(FRAME))
}

/// Turns the scans of an optimized plan into calls.
pub fn call_sources(plan: &mut IRPlan) -> Result<()> {
    let (mut open, mut seen) = (vec![plan.lp_top], HashSet::new());
    while let Some(node) = open.pop() {
        if !seen.insert(node) {
            continue;
        }
        open.extend(plan.lp_arena.get(node).inputs());
        let Some(called) = called(plan.lp_arena.get(node), &plan.expr_arena).map_err(polars_error)? else { continue };
        put_call(plan, node, called).map_err(polars_error)?;
    }
    Ok(())
}

fn put_call(plan: &mut IRPlan, scan: Node, called: DslPlan) -> PolarsResult<()> {
    let root = to_alp(called, &mut plan.expr_arena, &mut plan.lp_arena, &mut OptFlags::default())?;
    let ir = plan.lp_arena.take(root);
    plan.lp_arena.replace(scan, ir);
    Ok(())
}

fn called(ir: &IR, expressions: &Arena<AExpr>) -> PolarsResult<Option<DslPlan>> {
    let IR::Scan { scan_type, unified_scan_args, predicate, output_schema, .. } = ir else { return Ok(None) };
    let FileScanIR::Anonymous { function, .. } = &**scan_type else { return Ok(None) };
    let Some(source) = function.as_any().downcast_ref::<PythonSource>() else { return Ok(None) };
    let predicate = predicate.as_ref().map(|predicate| node_to_expr(predicate.node(), expressions));
    let output: Vec<PlSmallStr> = match output_schema {
        Some(wanted) if wanted.len() < source.schema.len() => wanted.iter_names().cloned().collect(),
        _ => {
            return source
                .called(Request { predicate, slice: unified_scan_args.pre_slice.clone(), ..Request::default() })
                .map(Some);
        }
    };
    let used: HashSet<PlSmallStr> = predicate.iter().flat_map(pushed::columns).chain(output.iter().cloned()).collect();
    let columns: Vec<PlSmallStr> = source.schema.iter_names().filter(|name| used.contains(*name)).cloned().collect();
    let request = Request {
        columns: Some(columns).filter(|columns| !columns.is_empty()),
        slice: unified_scan_args.pre_slice.clone(),
        predicate,
        output: Some(output),
    };
    source.called(request).map(Some)
}

impl PythonSource {
    fn called(&self, request: Request) -> PolarsResult<DslPlan> {
        let Request { columns, slice, predicate, output } = request;
        let rows = match slice {
            Some(Slice::Positive { offset, len }) => offset.checked_add(len),
            Some(Slice::Negative { .. }) | None => None,
        };
        // The source would filter before it counts rows.
        let pushed = predicate.as_ref().filter(|_| slice.is_none()).and_then(pushed::of_predicate);
        let args = json!({
            "columns": columns.as_ref().map(|names| names.iter().map(PlSmallStr::as_str).collect::<Vec<_>>()),
            "rows": rows,
            "predicate": pushed,
        });
        let schema = match &columns {
            Some(columns) => Arc::new(self.schema.try_project(columns)?),
            None => self.schema.clone(),
        };
        let payload = Payload { args: args.to_string(), returns: Returns::Frame(schema), ..self.payload.clone() };
        let one = DataFrame::new(1, vec![Column::full_null(FRAME.into(), 1, &DataType::Boolean)])?.lazy();
        let mut frame =
            one.select([call(col(FRAME), &payload, &self.task)]).unnest(by_name([FRAME], true, false), None);
        if let Some(slice) = slice {
            let (offset, len) = slice.to_signed_offset_len();
            frame = frame.slice(offset, IdxSize::try_from(len).unwrap_or(IdxSize::MAX));
        }
        if let Some(predicate) = predicate {
            frame = frame.filter(predicate);
        }
        if let Some(output) = output {
            frame = frame.select(output.into_iter().map(col).collect::<Vec<_>>());
        }
        Ok(frame.logical_plan)
    }
}

impl AnonymousScan for PythonSource {
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// For Polars' in-memory engine only.
    fn scan(&self, args: AnonymousScanArgs) -> PolarsResult<DataFrame> {
        let columns: Option<Vec<PlSmallStr>> = args.with_columns.map(|names| names.to_vec());
        let slice = args.n_rows.map(|len| Slice::Positive { offset: 0, len });
        let request = Request { output: columns, slice, predicate: args.predicate, ..Request::default() };
        LazyFrame::from(self.called(request)?).collect()
    }

    fn schema(&self, _infer_schema_length: Option<usize>) -> PolarsResult<SchemaRef> {
        Ok(self.schema.clone())
    }

    fn allows_predicate_pushdown(&self) -> bool {
        true
    }

    fn allows_projection_pushdown(&self) -> bool {
        true
    }
}
