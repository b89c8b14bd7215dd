//! Fills the placeholders of a fragment with the data of one task.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_io::RowIndex;
use polars_plan::dsl::{Operator, ScanSources};
use polars_plan::plans::{AExpr, AExprBuilder, ArenaExprIter, FunctionIR, IR, IRFunctionExpr, IRPlan};
use polars_utils::arena::Node;
use polars_utils::slice_enum::Slice;

use super::incoming::Incoming;
use super::{Context, Failure, databases, source};
use floe_planner::{Keep, SourceUnit, decode};
use floe_polars::polars_error;
use floe_postgres::Unit;
use floe_wire::error::{QueryError, Result, TaskError};
use floe_wire::task::{KeyRange, LeafInput, Portion, TaskOutput};

pub fn fill(
    plan: &mut IRPlan,
    inputs: &[LeafInput],
    ctx: &Context,
    failure: &Failure,
    out: &mut TaskOutput,
) -> Result<(), TaskError> {
    let mut nodes = Vec::new();
    collect(plan, plan.lp_top, &mut nodes);
    if nodes.len() != inputs.len() {
        let message = format!("a fragment of {} inputs got {}", nodes.len(), inputs.len());
        return Err(QueryError::internal(message).into());
    }
    for (node, input) in nodes.into_iter().zip(inputs) {
        match input {
            LeafInput::Source(unit) => base(plan, node, decode(unit)?, ctx, failure, out)?,
            LeafInput::KeySummaries(_) => {
                return Err(QueryError::internal("key summaries are read into a node of the plan").into());
            }
            LeafInput::Rows { outputs, range, before } => {
                let IR::DataFrameScan { schema, .. } = plan.lp_arena.get(node).clone() else {
                    let message = "an exchange is read into a node that is no placeholder";
                    return Err(QueryError::internal(message).into());
                };
                let chunks = || outputs.iter().flat_map(|portion| &portion.chunks);
                let bytes = chunks().map(|chunk| chunk.len).sum::<u64>();
                out.rows_in += chunks().map(|chunk| u64::from(chunk.rows)).sum::<u64>();
                out.bytes_in += bytes;
                let by_chunk = chunks().nth(1).is_some() && counts_runs(plan);
                let in_one = chunks().nth(1).is_some() && rolls(plan);
                if bytes >= ctx.stream_from_bytes && bytes > 0 && !by_chunk && !in_one && !schema.is_empty() {
                    streamed(plan, node, outputs, schema, ctx, failure)?;
                } else {
                    let mut df = super::read(outputs, &schema, &*ctx.store)?;
                    if in_one {
                        df.rechunk_mut();
                    }
                    // Keep the types that the engine produced, even if Polars' plan predicted others.
                    let schema = df.schema().clone();
                    frame(plan, node, df, schema, by_chunk);
                }
                if let Some(range) = range {
                    keep_range(plan, node, range);
                }
                if *before > 0 {
                    count_on(plan, node, *before)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether some expression is `rle`: the engine's node for it takes only contiguous rows.
fn counts_runs(plan: &IRPlan) -> bool {
    let rle = |ae: &AExpr| matches!(ae, AExpr::Function { function: IRFunctionExpr::RLE, .. });
    any_node(plan, |ir| has(plan, ir, rle))
}

/// Whether rows are grouped by overlapping windows: over contiguous rows the engine moves on from window to window,
/// otherwise it begins each anew and rounds differently.
fn rolls(plan: &IRPlan) -> bool {
    let windows = |ir: &IR| matches!(ir, IR::GroupBy { options, .. } if options.is_rolling() || options.is_dynamic());
    any_node(plan, |ir| windows(ir) || has(plan, ir, |ae| matches!(ae, AExpr::Rolling { .. })))
}

fn has(plan: &IRPlan, ir: &IR, what: impl Fn(&AExpr) -> bool) -> bool {
    ir.exprs().any(|e| plan.expr_arena.iter(e.node()).any(|(_, ae)| what(ae)))
}

fn any_node(plan: &IRPlan, what: impl Fn(&IR) -> bool) -> bool {
    let mut stack = vec![plan.lp_top];
    while let Some(node) = stack.pop() {
        let ir = plan.lp_arena.get(node);
        if what(ir) {
            return true;
        }
        stack.extend(ir.inputs());
    }
    false
}

/// Makes scans skip files and row groups without a key in [from, to].
pub fn bound<'a>(plan: &mut IRPlan, bounds: impl Iterator<Item = &'a (usize, String, i64, i64)>) {
    let mut nodes = Vec::new();
    for (leaf, column, from, to) in bounds {
        if nodes.is_empty() {
            collect(plan, plan.lp_top, &mut nodes);
        }
        let Some(node) = nodes.get(*leaf) else { continue };
        let IR::Scan { predicate, file_info, .. } = plan.lp_arena.get_mut(*node) else { continue };
        let Some(dtype) = file_info.schema.get(column.as_str()).cloned() else { continue };
        let arena = &mut plan.expr_arena;
        let name = PlSmallStr::from_str(column);
        let mut side = |value: i64, op| {
            let literal = AExprBuilder::lit_scalar(number(value, &dtype), arena);
            AExprBuilder::col(name.clone(), arena).binary_op(literal, op, arena)
        };
        let (from, to) = (side(*from, Operator::GtEq), side(*to, Operator::LtEq));
        let between = from.and(to, arena);
        let all = match predicate.take() {
            Some(old) => AExprBuilder::new_from_node(old.node()).and(between, arena),
            None => between,
        };
        *predicate = Some(all.expr_ir("keys"));
    }
}

/// Leaves depth first, left to right: the order of `TaskSpec::leaves`.
fn collect(plan: &IRPlan, node: Node, nodes: &mut Vec<Node>) {
    let inputs: Vec<Node> = plan.lp_arena.get(node).inputs().collect();
    if inputs.is_empty() {
        nodes.push(node);
    }
    for input in inputs {
        collect(plan, input, nodes);
    }
}

/// Puts a frame in place of a leaf. `by_chunk`, and a frame of one row, add a rechunk, behind which the engine assumes
/// no order: a single row always counts as sorted, though the keys of all partitions may not be.
pub(super) fn frame(plan: &mut IRPlan, node: Node, df: DataFrame, schema: SchemaRef, by_chunk: bool) {
    let by_chunk = by_chunk || df.height() <= 1;
    plan.lp_arena.replace(node, IR::DataFrameScan { df: Arc::new(df), schema, output_schema: None });
    if by_chunk {
        put_above(plan, node, |input| IR::MapFunction { input, function: FunctionIR::Rechunk });
    }
}

/// Puts rows that arrive while the engine runs in place of a leaf. The engine assumes no order in them.
fn streamed(
    plan: &mut IRPlan,
    node: Node,
    outputs: &[Portion],
    schema: SchemaRef,
    ctx: &Context,
    failure: &Failure,
) -> Result<(), TaskError> {
    let (scan, function) = source::streamed(Incoming::new(outputs, schema, ctx), failure)?;
    plan.lp_arena.replace(node, scan);
    put_above(plan, node, |input| IR::MapFunction { input, function });
    Ok(())
}

/// Puts a node between a leaf and its reader.
pub(super) fn put_above(plan: &mut IRPlan, leaf: Node, make: impl FnOnce(Node) -> IR) {
    let moved = plan.lp_arena.get(leaf).clone();
    let moved = plan.lp_arena.add(moved);
    plan.lp_arena.replace(leaf, make(moved));
}

fn base(
    plan: &mut IRPlan,
    node: Node,
    unit: SourceUnit,
    ctx: &Context,
    failure: &Failure,
    out: &mut TaskOutput,
) -> Result<(), TaskError> {
    match (unit, plan.lp_arena.get(node).clone()) {
        (SourceUnit::Database { unit }, IR::DataFrameScan { schema, .. }) => {
            databases::put(plan, node, vec![Unit::unpack(&unit)?], schema, ctx, failure)
        }
        (SourceUnit::Frame { height, ipc }, IR::DataFrameScan { schema, .. }) => {
            let df = floe_polars::frame_from_ipc(&ipc, height, &schema)?;
            out.rows_in += height as u64;
            out.bytes_in += ipc.len() as u64;
            frame(plan, node, df, schema, false);
            Ok(())
        }
        (
            SourceUnit::Files { first, count, rows, rows_before, keep },
            IR::Scan {
                sources,
                file_info,
                hive_parts,
                predicate,
                predicate_file_skip_applied,
                output_schema,
                mut scan_type,
                mut unified_scan_args,
            },
        ) => {
            let total = sources.len();
            let sources = if first == 0 && count == total { sources } else { part(&sources, first, count) };
            let hive_parts = hive_parts.map(|h| h.df().slice(first as i64, count).into());
            if count < total {
                scan_type.gather_after_filter(first > 0, first..first + count);
            }
            if let Some((offset, len)) = rows {
                unified_scan_args.pre_slice = Some(Slice::Positive { offset, len });
            }
            if let Some(index) = &mut unified_scan_args.row_index {
                // Within one file, the scan itself counts the rows before its slice.
                let skipped = rows.map_or(0, |(offset, _)| offset as u64);
                *index = RowIndex {
                    name: index.name.clone(),
                    offset: row_number(u64::from(index.offset) + rows_before - skipped)?,
                };
            }
            let scan = IR::Scan {
                sources,
                file_info,
                hive_parts,
                predicate,
                predicate_file_skip_applied,
                output_schema,
                scan_type,
                unified_scan_args,
            };
            plan.lp_arena.replace(node, scan);
            match keep {
                Some(keep) => Ok(keep_numbers(plan, node, &keep)?),
                None => Ok(()),
            }
        }
        _ => Err(QueryError::internal("a task's data does not fit its fragment").into()),
    }
}

fn part(sources: &ScanSources, first: usize, count: usize) -> ScanSources {
    match sources {
        ScanSources::Paths(paths) => ScanSources::Paths(paths.clone().sliced(first..first + count)),
        ScanSources::Buffers(buffers) => ScanSources::Buffers(buffers[first..first + count].into()),
        ScanSources::Files(_) => sources.clone(),
    }
}

/// Keeps the rows whose key is in [from, to), by a filter between the leaf and its reader.
fn keep_range(plan: &mut IRPlan, node: Node, range: &KeyRange) {
    let arena = &mut plan.expr_arena;
    let key = PlSmallStr::from_str(&range.key);
    let mut bound = |bytes: &bytes::Bytes, op| {
        let column = AExprBuilder::col(key.clone(), arena);
        let value = Scalar::new(DataType::Binary, AnyValue::BinaryOwned(bytes.to_vec()));
        let value = AExprBuilder::lit_scalar(value, arena);
        column.binary_op(value, op, arena)
    };
    let from = range.from.as_ref().map(|b| bound(b, Operator::GtEq));
    let to = range.to.as_ref().map(|b| bound(b, Operator::Lt));
    filter(plan, node, from, to);
}

/// Puts a filter between a leaf and its reader.
fn filter(plan: &mut IRPlan, node: Node, from: Option<AExprBuilder>, to: Option<AExprBuilder>) {
    let predicate = match (from, to) {
        (Some(a), Some(b)) => a.and(b, &mut plan.expr_arena),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return,
    };
    put_above(plan, node, |input| IR::Filter { input, predicate: predicate.expr_ir("range") });
}

/// Keeps the rows whose number or date is in [from, to): the others of these row groups belong to another task.
fn keep_numbers(plan: &mut IRPlan, node: Node, keep: &Keep) -> Result<()> {
    let schema = plan.lp_arena.get(node).schema(&plan.lp_arena).into_owned();
    let dtype = schema.get(&keep.column).cloned();
    let dtype =
        dtype.ok_or_else(|| QueryError::internal(format!("a scan is cut by '{}', which it lacks", keep.column)))?;
    let column = PlSmallStr::from_str(&keep.column);
    let arena = &mut plan.expr_arena;
    let mut bound = |value: i64, op| {
        let literal = AExprBuilder::lit_scalar(number(value, &dtype), arena);
        AExprBuilder::col(column.clone(), arena).binary_op(literal, op, arena)
    };
    let from = keep.from.map(|value| bound(value, Operator::GtEq));
    let to = keep.to.map(|value| bound(value, Operator::Lt));
    filter(plan, node, from, to);
    Ok(())
}

/// A bound as a value of the column's type; it was taken from values of that type.
fn number(value: i64, dtype: &DataType) -> Scalar {
    let value = match dtype {
        DataType::Int8 => AnyValue::Int8(value as i8),
        DataType::Int16 => AnyValue::Int16(value as i16),
        DataType::Int32 => AnyValue::Int32(value as i32),
        DataType::Date => AnyValue::Date(value as i32),
        _ => AnyValue::Int64(value),
    };
    Scalar::new(dtype.clone(), value)
}

/// Makes the row index that reads this leaf count on from the rows of earlier tasks.
fn count_on(plan: &mut IRPlan, leaf: Node, before: u64) -> Result<()> {
    let mut stack = vec![plan.lp_top];
    while let Some(node) = stack.pop() {
        if let IR::MapFunction { input, function: FunctionIR::RowIndex { offset, .. } } = plan.lp_arena.get_mut(node)
            && *input == leaf
        {
            *offset = Some(row_number(u64::from(offset.unwrap_or(0)) + before)?);
            return Ok(());
        }
        stack.extend(plan.lp_arena.get(node).inputs());
    }
    Ok(())
}

fn row_number(n: u64) -> Result<IdxSize> {
    IdxSize::try_from(n).map_err(|_| {
        let e = PolarsError::ComputeError("a row index passes 4,294,967,295, the most that it can count".into());
        polars_error(e)
    })
}
