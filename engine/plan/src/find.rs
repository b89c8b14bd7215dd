//! Finds expressions in a plan by their kind and by the types of their inputs.

use polars_core::prelude::*;
use polars_plan::plans::{AExpr, ArenaExprIter, ArenaLpIter, IRPlan, ToFieldContext};
use polars_utils::arena::Node;

pub struct Found {
    pub node: Node,
    /// Types of the expression's inputs.
    pub inputs: Vec<DataType>,
}

/// Finds the first expression that is `suspect` and, given the types of its inputs and its own type, `guilty`.
pub fn find(
    plan: &IRPlan,
    suspect: fn(&AExpr) -> bool,
    guilty: fn(&AExpr, &[DataType], &DataType) -> bool,
) -> Option<Found> {
    let arena = &plan.expr_arena;
    plan.lp_arena.iter(plan.lp_top).find_map(|(_, ir)| {
        let all = ir.exprs().flat_map(|e| arena.iter(e.node()));
        // Resolve types only if there is a suspect: most plans have none.
        let suspects: Vec<Node> = all.filter(|(_, e)| suspect(e)).map(|(node, _)| node).collect();
        if suspects.is_empty() {
            return None;
        }
        let mut columns = Schema::default();
        for input in ir.inputs() {
            columns.merge(plan.lp_arena.get(input).schema(&plan.lp_arena).as_ref().as_ref().clone());
        }
        let dtype = |n: Node| arena.get(n).to_dtype(&ToFieldContext::new(arena, &columns)).unwrap_or(DataType::Null);
        suspects.into_iter().find_map(|node| {
            let mut inputs = Vec::new();
            arena.get(node).inputs_rev(&mut inputs);
            let inputs: Vec<DataType> = inputs.into_iter().rev().map(dtype).collect();
            guilty(arena.get(node), &inputs, &dtype(node)).then_some(Found { node, inputs })
        })
    })
}
