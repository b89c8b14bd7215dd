//! Categories of a categorical are numbered by each process for itself. A plan that looks at the numbers would mix
//! those of several processes, so it runs in one.

use polars_core::prelude::*;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{
    AExpr, ArenaExprIter, ArenaLpIter, IR, IRCategoricalFunction as Cat, IRFunctionExpr as Function, IRPlan, ToFieldContext,
};
use polars_utils::arena::{Arena, Node};

/// The expression of a plan that turns categories into their numbers, or numbers into categories.
pub fn numbered(plan: &IRPlan) -> Option<String> {
    plan.lp_arena.iter(plan.lp_top).find_map(|(_, ir)| in_node(ir, plan))
}

fn in_node(ir: &IR, plan: &IRPlan) -> Option<String> {
    let arena = &plan.expr_arena;
    // Most plans have no such function at all; types are asked for only then.
    let suspects = ir.exprs().flat_map(|e| arena.iter(e.node()).map(|(node, _)| node)).filter(|n| suspect(*n, arena));
    let suspects: Vec<Node> = suspects.collect();
    if suspects.is_empty() {
        return None;
    }
    let mut seen = Schema::default();
    for input in ir.inputs() {
        seen.merge(plan.lp_arena.get(input).schema(&plan.lp_arena).as_ref().as_ref().clone());
    }
    let node = suspects.into_iter().find(|n| looks(*n, arena, &seen))?;
    Some(super::walk::show(&ExprIR::from_node(node, arena), arena))
}

fn suspect(node: Node, arena: &Arena<AExpr>) -> bool {
    match arena.get(node) {
        AExpr::Cast { dtype, .. } => is_number(dtype) || holds(dtype),
        AExpr::Function { function: Function::ToPhysical | Function::Reinterpret(_), .. } => true,
        AExpr::Function { function: Function::Categorical(Cat::To(..) | Cat::Physical | Cat::GetCategories), .. } => true,
        _ => false,
    }
}

fn looks(node: Node, arena: &Arena<AExpr>, schema: &Schema) -> bool {
    let dtype = |n: Node| arena.get(n).to_dtype(&ToFieldContext::new(arena, schema)).unwrap_or(DataType::Null);
    match arena.get(node) {
        AExpr::Cast { expr, dtype: to, .. } => {
            let from = dtype(*expr);
            is_number(to) && holds(&from) || holds(to) && is_number(&from)
        },
        AExpr::Function { input, .. } => input.iter().any(|e| holds(&dtype(e.node()))) || holds(&dtype(node)),
        _ => false,
    }
}

fn is_number(dtype: &DataType) -> bool {
    match dtype {
        DataType::List(inner) | DataType::Array(inner, _) => is_number(inner),
        DataType::Struct(fields) => fields.iter().any(|field| is_number(field.dtype())),
        other => other.is_primitive_numeric(),
    }
}

/// Enums bring their numbers along; categoricals do not.
fn holds(dtype: &DataType) -> bool {
    match dtype {
        DataType::Categorical(..) => true,
        DataType::List(inner) | DataType::Array(inner, _) => holds(inner),
        DataType::Struct(fields) => fields.iter().any(|field| holds(field.dtype())),
        _ => false,
    }
}
