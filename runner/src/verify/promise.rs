//! What a plan promises about the order of its result. Polars' own analysis of orders (the one by which its optimizer
//! drops orders that nobody observes) says whether there is an order at all; the walk here adds which columns an
//! unstable sort leaves to chance.
//!
//! What cannot be seen in the plan alone (whether ties exist, whether an aggregate saw its rows in an unpromised order)
//! is found by running perturbed plans; see `perturb`.

use polars_ops::prelude::{JoinType, MaintainOrderJoin};
use polars_plan::dsl::{DslPlan, SinkTypeIR};
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::simplify_ordering::ir_node_key::IRNodeKey;
use polars_plan::plans::simplify_ordering::simplify_and_fetch_orderings;
use polars_plan::plans::{AExpr, FunctionIR, IR, IRPlan};
use polars_plan::prelude::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use super::compare::Order;

/// The order that a plan promises. A plan that cannot be optimized promises nothing that could be compared.
pub fn of_plan(dsl: DslPlan) -> Order {
    match floe_plan::optimize(dsl) {
        Ok(ir) => of_ir(ir),
        Err(_) => Order::Exact,
    }
}

/// Whether values of the result depend on how a process numbers categories.
pub fn has_numbers_of_a_process(dsl: DslPlan) -> bool {
    floe_plan::optimize(dsl).is_ok_and(|ir| floe_planner::numbered(&ir).is_some())
}

/// Where a plan takes the first or last of unordered rows. Which ones is chance, even if one machine always takes the
/// same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    None,
    /// Nothing above the cut depends on which rows it takes but their values: the height is promised.
    AtTop,
    /// Whatever is made of the rows depends on which ones they are.
    Below,
}

/// Looks for a slice of unordered rows.
pub fn cut_of(dsl: DslPlan) -> Cut {
    let Ok(ir) = floe_plan::optimize(dsl) else { return Cut::None };
    let (lp, mut node) = (&ir.lp_arena, ir.lp_top);
    if !cuts_below(node, lp) {
        return Cut::None;
    }
    while let (false, Some(input)) = (cuts(node, lp), keeps_height(node, lp, &ir.expr_arena)) {
        node = input;
    }
    if cuts(node, lp) && !lp.get(node).inputs().any(|input| cuts_below(input, lp)) { Cut::AtTop } else { Cut::Below }
}

/// The plan without the slices that end it, if some do.
pub fn without_slices(dsl: &DslPlan) -> Option<&DslPlan> {
    match dsl {
        DslPlan::Slice { input, .. } => Some(without_slices(input).unwrap_or(input)),
        DslPlan::IR { dsl, .. } => without_slices(dsl),
        _ => None,
    }
}

fn cuts_below(top: Node, lp: &Arena<IR>) -> bool {
    let mut stack = vec![top];
    while let Some(node) = stack.pop() {
        if cuts(node, lp) {
            return true;
        }
        stack.extend(lp.get(node).inputs());
    }
    false
}

fn cuts(node: Node, lp: &Arena<IR>) -> bool {
    match lp.get(node) {
        IR::Slice { input, .. } => !made_in_order(*input, lp),
        IR::Join { options, .. } => options.args.slice.is_some() && !made_in_order(node, lp),
        IR::GroupBy { options, .. } => options.slice.is_some() && !made_in_order(node, lp),
        IR::Distinct { options, .. } => options.slice.is_some() && !options.maintain_order,
        _ => false,
    }
}

/// The input of a node that has as many rows as it.
fn keeps_height(node: Node, lp: &Arena<IR>, exprs: &Arena<AExpr>) -> Option<Node> {
    match lp.get(node) {
        IR::Sink { input, .. }
        | IR::SimpleProjection { input, .. }
        | IR::HStack { input, .. }
        | IR::Sort { input, slice: None, .. }
        | IR::Cache { input, .. }
        | IR::MapFunction {
            input,
            function: FunctionIR::Hint(_) | FunctionIR::Rechunk | FunctionIR::RowIndex { .. },
        } => Some(*input),
        IR::Select { input, expr, .. } if expr.iter().all(|e| row_wise(e, exprs)) => Some(*input),
        _ => None,
    }
}

/// Whether the rows of a node come in an order, judged by its kind.
fn made_in_order(node: Node, lp: &Arena<IR>) -> bool {
    match lp.get(node) {
        IR::Join { options, .. } => {
            let unordered = options.args.maintain_order == MaintainOrderJoin::None;
            !unordered || matches!(options.args.how, JoinType::AsOf(_))
        }
        IR::GroupBy { maintain_order, options, .. } => {
            *maintain_order || options.dynamic.is_some() || options.rolling.is_some()
        }
        IR::Distinct { options, .. } => options.maintain_order,
        IR::SimpleProjection { input, .. }
        | IR::Select { input, .. }
        | IR::HStack { input, .. }
        | IR::Filter { input, .. }
        | IR::Cache { input, .. } => made_in_order(*input, lp),
        _ => true,
    }
}

/// The order that an optimized plan promises. Takes the plan: Polars' analysis rewrites it.
pub fn of_ir(mut ir: IRPlan) -> Order {
    ir.ensure_root_node_is_sink();
    if let IR::Sink { payload: SinkTypeIR::Partitioned(_), .. } = ir.root() {
        // The rows of a partition may be in several files.
        return Order::Any;
    }
    if let IR::SinkMultiple { .. } = ir.root() {
        // Each sink could promise its own; their frames are compared as multisets unless all keep an order.
        let IR::SinkMultiple { inputs } = ir.root() else { return Order::Any };
        let inputs = inputs.clone();
        let all = inputs.iter().all(|input| {
            let (mut lp, mut exprs) = (ir.lp_arena.clone(), ir.expr_arena.clone());
            ordered(*input, &mut lp, &mut exprs) && by_walk(*input, &ir.lp_arena, &ir.expr_arena) == Order::Exact
        });
        return if all { Order::Exact } else { Order::Any };
    }
    let walked = by_walk(ir.lp_top, &ir.lp_arena, &ir.expr_arena);
    let top = ir.lp_top;
    if ordered(top, &mut ir.lp_arena, &mut ir.expr_arena) { walked } else { Order::Any }
}

/// Polars' analysis of whether an order reaches the sink. It asserts what it expects of a plan; if that fails, an order
/// is taken as promised.
fn ordered(sink: Node, lp: &mut Arena<IR>, exprs: &mut Arena<AExpr>) -> bool {
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let (nodes, edges) = simplify_and_fetch_orderings(&[sink], lp, exprs);
        let edge = nodes.get(&IRNodeKey::new(sink, lp))?.in_edges.first().copied()?;
        edges.get(edge).map(|e| !e.is_unordered())
    }));
    looked.ok().flatten().unwrap_or(true)
}

/// Walks from the result down to where its order comes from.
fn by_walk(top: Node, lp: &Arena<IR>, exprs: &Arena<AExpr>) -> Order {
    let mut node = top;
    // The result's columns by their names at `node`; None if the column is computed.
    let mut renames: Option<Vec<(PlSmallStr, PlSmallStr)>> = None;
    loop {
        match lp.get(node) {
            IR::Sink { input, .. } | IR::Filter { input, .. } | IR::Slice { input, .. } | IR::Cache { input, .. } => {
                node = *input;
            }
            IR::SimpleProjection { input, columns } => {
                let same = columns.iter_names().map(|n| (n.clone(), n.clone())).collect();
                renames = Some(compose(renames, same));
                node = *input;
            }
            IR::Select { input, expr, .. } => {
                if !expr.iter().all(|e| row_wise(e, exprs)) {
                    return Order::Exact;
                }
                renames = Some(compose(renames, plain_columns(expr, exprs)));
                node = *input;
            }
            IR::HStack { input, exprs: added, .. } => {
                if !added.iter().all(|e| row_wise(e, exprs)) {
                    return Order::Exact;
                }
                let mut map: Vec<(PlSmallStr, PlSmallStr)> = lp
                    .get(*input)
                    .schema(lp)
                    .iter_names()
                    .filter(|n| !added.iter().any(|e| e.output_name() == *n))
                    .map(|n| (n.clone(), n.clone()))
                    .collect();
                map.extend(plain_columns(added, exprs));
                renames = Some(compose(renames, map));
                node = *input;
            }
            IR::MapFunction {
                input,
                function: FunctionIR::Hint(_) | FunctionIR::Rechunk | FunctionIR::RowIndex { .. },
            } => node = *input,
            IR::MapFunction { .. } => return Order::Exact,
            IR::Join { input_left, options, .. } if options.args.maintain_order == MaintainOrderJoin::Left => {
                // Names of the left side stay as they are.
                node = *input_left;
            }
            IR::Sort { by_column, sort_options, .. } => {
                if sort_options.maintain_order {
                    return Order::Exact;
                }
                let mut keys = Vec::new();
                for key in by_column {
                    let AExpr::Column(name) = exprs.get(key.node()) else { break };
                    let shown = match &renames {
                        None => Some(name.clone()),
                        Some(map) => map.iter().find(|(_, from)| from == name).map(|(to, _)| to.clone()),
                    };
                    match shown {
                        Some(name) => keys.push(name),
                        None => break,
                    }
                }
                return if keys.is_empty() { Order::Any } else { Order::By(keys) };
            }
            _ => return Order::Exact,
        }
    }
}

/// (name here, name in the input) of the expressions that only pass a column on.
fn plain_columns(list: &[ExprIR], exprs: &Arena<AExpr>) -> Vec<(PlSmallStr, PlSmallStr)> {
    list.iter()
        .filter_map(|e| match exprs.get(e.node()) {
            AExpr::Column(name) => Some((e.output_name().clone(), name.clone())),
            _ => None,
        })
        .collect()
}

/// `outer` maps result names to names here, `inner` maps names here to names in the input.
fn compose(
    outer: Option<Vec<(PlSmallStr, PlSmallStr)>>,
    inner: Vec<(PlSmallStr, PlSmallStr)>,
) -> Vec<(PlSmallStr, PlSmallStr)> {
    match outer {
        None => inner,
        Some(outer) => outer
            .into_iter()
            .filter_map(|(to, mid)| inner.iter().find(|(m, _)| *m == mid).map(|(_, from)| (to, from.clone())))
            .collect(),
    }
}

/// Whether each row gives one row, in its place.
fn row_wise(e: &ExprIR, exprs: &Arena<AExpr>) -> bool {
    polars_plan::plans::is_elementwise_rec(e.node(), exprs)
}

#[cfg(test)]
#[path = "promise_tests.rs"]
mod tests;
