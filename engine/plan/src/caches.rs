//! Pushes filters down below explicit caches. Polars pushes filters down to a cache and stops there, except for caches
//! that it inserted itself: filters below stay where they were written, above joins that are then computed in full. SQL
//! with correlated subqueries has many such caches. So optimize the subplan of each cache on its own.

use std::collections::HashSet;

use polars_core::prelude::PolarsResult;
use polars_mem_engine::scan_predicate::functions::apply_scan_predicate_to_scan_ir;
use polars_plan::frame::OptFlags;
use polars_plan::plans::{IR, IRPlan, optimize};
use polars_utils::arena::Node;
use polars_utils::unique_id::UniqueId;

use crate::projected::joins_no_columns;

/// All cache nodes with the same id: they share one subplan.
struct Cache {
    id: UniqueId,
    nodes: Vec<Node>,
    below: Node,
}

/// Optimizes the subplans of all caches. Returns the plan unchanged if nodes other than caches would then be shared:
/// readers of plans expect a tree.
pub fn optimize_below(plan: IRPlan) -> IRPlan {
    let mut caches = Vec::new();
    collect(&plan, plan.lp_top, &mut caches);
    caches.retain(|cache| has_filter(&plan, cache.below));
    if caches.is_empty() {
        return plan;
    }
    let IRPlan { lp_top, lp_arena, expr_arena } = &plan;
    let mut optimized = IRPlan { lp_top: *lp_top, lp_arena: lp_arena.clone(), expr_arena: expr_arena.clone() };
    match each(&mut optimized, caches) {
        Ok(()) if is_tree(&optimized) && !joins_no_columns(&optimized) => optimized,
        Ok(()) => plan,
        Err(error) => {
            tracing::debug!(%error, "what is below caches stays as it is");
            plan
        }
    }
}

fn is_tree(plan: &IRPlan) -> bool {
    let (mut stack, mut nodes, mut ids) = (vec![plan.lp_top], HashSet::new(), HashSet::new());
    while let Some(node) = stack.pop() {
        let ir = plan.lp_arena.get(node);
        let is_new = match ir {
            IR::Cache { id, .. } if !ids.insert(*id) => continue,
            IR::Cache { .. } => true,
            _ => nodes.insert(node),
        };
        if !is_new || matches!(ir, IR::Invalid) {
            return false;
        }
        stack.extend(ir.inputs());
    }
    true
}

fn each(plan: &mut IRPlan, caches: Vec<Cache>) -> PolarsResult<()> {
    let flags = OptFlags::PREDICATE_PUSHDOWN
        | OptFlags::PROJECTION_PUSHDOWN
        | OptFlags::SIMPLIFY_EXPR
        | OptFlags::FAST_PROJECTION
        | OptFlags::STREAMING;
    for Cache { nodes, below, .. } in caches {
        let (arena, expressions) = (&mut plan.lp_arena, &mut plan.expr_arena);
        let below = optimize(below, flags, arena, expressions, &mut Vec::new(), apply_scan_predicate_to_scan_ir)?;
        for node in nodes {
            if let IR::Cache { input, .. } = plan.lp_arena.get_mut(node) {
                *input = below;
            }
        }
    }
    Ok(())
}

/// Collects the caches of a plan, inner ones first.
fn collect(plan: &IRPlan, node: Node, caches: &mut Vec<Cache>) {
    let ir = plan.lp_arena.get(node);
    for input in ir.inputs() {
        collect(plan, input, caches);
    }
    if let IR::Cache { id, input } = ir {
        match caches.iter_mut().find(|cache| cache.id == *id) {
            Some(cache) if cache.nodes.contains(&node) => {}
            Some(cache) => cache.nodes.push(node),
            None => caches.push(Cache { id: *id, nodes: vec![node], below: *input }),
        }
    }
}

/// Whether a filter stands between a node and the next caches below it.
fn has_filter(plan: &IRPlan, node: Node) -> bool {
    let ir = plan.lp_arena.get(node);
    match ir {
        IR::Filter { .. } => true,
        IR::Cache { .. } => false,
        _ => ir.inputs().any(|input| has_filter(plan, input)),
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    #[test]
    fn filters_make_inner_joins_of_cross_joins_below_nested_caches() {
        let frame = |name: &str| df!(name => (0..10i64).collect::<Vec<_>>()).unwrap().lazy();
        let pairs = frame("a").cross_join(frame("b"), None).filter(col("a").eq(col("b")));
        let numbered = |rows: LazyFrame| rows.with_row_index("n", None).cache();
        let first = numbered(pairs.filter(col("a").gt(lit(3i64))));
        let both = first
            .clone()
            .join(first, [col("n")], [col("n")], JoinArgs::new(JoinType::Left))
            .select([col("a"), col("b")]);
        let second = numbered(both.filter(col("b").lt(lit(8i64))));
        let plan = second.clone().join(second, [col("n")], [col("n")], JoinArgs::new(JoinType::Inner));
        let described = crate::optimize(plan.logical_plan.clone()).unwrap().describe();
        assert!(!described.contains("CROSS JOIN"), "{described}");
        assert!(described.matches("INNER JOIN").count() > 1, "{described}");
        let expected = plan.clone().collect().unwrap();
        assert_eq!(expected.height(), 4);
    }
}
