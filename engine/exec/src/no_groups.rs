//! Group-bys over no rows. Polars runs some group-bys in memory, and there some aggregates fail without any group
//! (`arg_max` returns one value where none is expected). A whole input is seldom empty; of many tasks some often have
//! no rows. So the input of such a group-by is computed first, as Polars does itself, and without rows the group-by
//! becomes an empty frame. Not so for windows: of no rows, Polars 0.55 leaves out the boundaries that the plan
//! declares.

use std::sync::{Arc, Mutex};

use polars_core::prelude::*;
use polars_plan::plans::{AExpr, ArenaExprIter, IR, IRFunctionExpr, IRPlan};
use polars_utils::arena::Node;

use super::{Failure, execute, lock};
use floe_polars::concat_frames;
use floe_wire::error::TaskError;

pub fn settle(plan: &mut IRPlan, failure: &Failure) -> Result<(), TaskError> {
    let mut found = Vec::new();
    find(plan, plan.lp_top, &mut found);
    for node in found {
        let IR::GroupBy { input, schema, .. } = plan.lp_arena.get(node) else { continue };
        let (input, schema) = (*input, schema.clone());
        if shares_caches(plan, input) {
            continue;
        }
        let df = collect(plan, input, failure)?;
        let (at, df) = match df.height() {
            0 => (node, DataFrame::empty_with_schema(&schema)),
            _ => (input, df),
        };
        let schema = df.schema().clone();
        plan.lp_arena.replace(at, IR::DataFrameScan { df: Arc::new(df), schema, output_schema: None });
    }
    Ok(())
}

/// The group-bys that may fail, inputs before their readers.
fn find(plan: &IRPlan, node: Node, found: &mut Vec<Node>) {
    let ir = plan.lp_arena.get(node);
    for input in ir.inputs() {
        find(plan, input, found);
    }
    if let IR::GroupBy { input, keys, aggs, apply: None, options, .. } = ir
        && !keys.is_empty()
        && !options.is_dynamic()
        && !options.is_rolling()
        && aggs.iter().any(|agg| fails(plan, agg.node()))
        && !aggs.iter().any(|agg| is_nested(plan, *input, agg.node()))
        && !found.contains(&node)
    {
        found.push(node);
    }
}

/// Whether an aggregate returns a value although there is no group.
fn fails(plan: &IRPlan, aggregate: Node) -> bool {
    let gives = |function: &IRFunctionExpr| matches!(function, IRFunctionExpr::ArgMin | IRFunctionExpr::ArgMax);
    plan.expr_arena.iter(aggregate).any(|(_, ae)| matches!(ae, AExpr::Function { function, .. } if gives(function)))
}

/// Whether an aggregate reads nested values: Polars' minimum of those depends on how they were computed.
fn is_nested(plan: &IRPlan, input: Node, aggregate: Node) -> bool {
    let schema = plan.lp_arena.get(input).schema(&plan.lp_arena);
    plan.expr_arena.iter(aggregate).any(|(_, ae)| match ae {
        AExpr::Column(name) => schema.get(name).is_some_and(DataType::is_nested),
        _ => false,
    })
}

/// Whether the rows below `input` come from a cache that is read elsewhere, too: computed twice, they might differ.
fn shares_caches(plan: &IRPlan, input: Node) -> bool {
    let within = caches(plan, input, None);
    !within.is_empty() && caches(plan, plan.lp_top, Some(input)).iter().any(|id| within.contains(id))
}

fn caches(plan: &IRPlan, top: Node, without: Option<Node>) -> Vec<polars_utils::unique_id::UniqueId> {
    let (mut stack, mut ids) = (vec![top], Vec::new());
    while let Some(node) = stack.pop() {
        if Some(node) == without {
            continue;
        }
        let ir = plan.lp_arena.get(node);
        if let IR::Cache { id, .. } = ir {
            ids.push(*id);
        }
        stack.extend(ir.inputs());
    }
    ids
}

fn collect(plan: &IRPlan, input: Node, failure: &Failure) -> Result<DataFrame, TaskError> {
    let part = IRPlan { lp_top: input, lp_arena: plan.lp_arena.clone(), expr_arena: plan.expr_arena.clone() };
    let schema = plan.lp_arena.get(input).schema(&plan.lp_arena).into_owned();
    let frames = Arc::new(Mutex::new(Vec::new()));
    let kept = frames.clone();
    execute(part, failure.clone(), move |df| {
        lock(&kept).push(df);
        Ok(())
    })?;
    let frames = std::mem::take(&mut *lock(&frames));
    Ok(concat_frames(frames, &schema)?)
}
