//! Finds plans that depend on the numbers of categories. Every process numbers them for itself; a plan that reads the
//! numbers would mix those of several processes, so it runs in one.

use polars_core::prelude::*;
use polars_ops::frame::JoinType;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{
    AExpr, ArenaLpIter, IR, IRArrayFunction as Array, IRCategoricalFunction as Cat, IRFunctionExpr as Function,
    IRListFunction as List, IRPlan,
};

/// Finds a part of a plan that turns categories into their numbers, or numbers into categories.
pub fn numbered(plan: &IRPlan) -> Option<String> {
    let shown = |e: &ExprIR| crate::walk::show(e, &plan.expr_arena);
    if let Some(found) = floe_plan::find(plan, suspect, takes_numbers) {
        return Some(shown(&ExprIR::from_node(found.node, &plan.expr_arena)));
    }
    // As-of joins look for the nearest number.
    plan.lp_arena.iter(plan.lp_top).find_map(|(_, ir)| match ir {
        IR::Join { input_left, left_on, options, .. } if matches!(options.args.how, JoinType::AsOf(_)) => {
            let schema = plan.lp_arena.get(*input_left).schema(&plan.lp_arena);
            let of_categories = |e: &&ExprIR| e.dtype(&schema, &plan.expr_arena).is_ok_and(holds);
            left_on.iter().find(of_categories).map(|e| format!("as-of join on {}", shown(e)))
        }
        _ => None,
    })
}

fn suspect(e: &AExpr) -> bool {
    match e {
        AExpr::Cast { dtype, .. } => is_number(dtype) || holds(dtype),
        AExpr::Function { function: Function::ToPhysical | Function::Reinterpret(_), .. } => true,
        AExpr::Function { function: Function::Categorical(Cat::To(..) | Cat::Physical), .. } => true,
        // The least of several categories is the one with the least number.
        AExpr::Function {
            function: Function::ListExpr(List::Min | List::Max | List::ArgMin | List::ArgMax), ..
        } => true,
        AExpr::Function {
            function: Function::ArrayExpr(Array::Min | Array::Max | Array::ArgMin | Array::ArgMax),
            ..
        } => true,
        e => compares_numbers(e),
    }
}

/// These functions compare categories by their numbers; there is no other order.
fn compares_numbers(e: &AExpr) -> bool {
    matches!(
        e,
        AExpr::Function {
            function: Function::PeakMin | Function::PeakMax | Function::CumMin { .. } | Function::CumMax { .. },
            ..
        }
    )
}

fn takes_numbers(e: &AExpr, inputs: &[DataType], output: &DataType) -> bool {
    if compares_numbers(e) {
        return inputs.iter().any(holds);
    }
    let from = inputs.iter().any(holds) && is_number(output);
    let to = holds(output) && inputs.iter().any(is_number);
    let nested = |dtype: &DataType| dtype.is_nested() && holds(dtype);
    from || to || matches!(output, DataType::Categorical(..)) && inputs.iter().any(nested)
}

fn is_number(dtype: &DataType) -> bool {
    match dtype {
        DataType::List(inner) | DataType::Array(inner, _) => is_number(inner),
        DataType::Struct(fields) => fields.iter().any(|field| is_number(field.dtype())),
        other => other.is_primitive_numeric(),
    }
}

/// Whether a type holds categoricals. Enums carry their numbers in the type; categoricals do not.
fn holds(dtype: &DataType) -> bool {
    match dtype {
        DataType::Categorical(..) => true,
        DataType::List(inner) | DataType::Array(inner, _) => holds(inner),
        DataType::Struct(fields) => fields.iter().any(|field| holds(field.dtype())),
        _ => false,
    }
}
