//! Which rows group-bys, uniques and windows must find in one task.

use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, IR, IRBooleanFunction, IRFunctionExpr, IRPlan};
use polars_utils::arena::{Arena, Node};

use super::keys::{inputs, shown};
use super::placement::Place;
use crate::properties::expr;

/// The keys of a group-by or unique; none for other nodes.
pub(super) fn of_node(ir: &IR, plan: &IRPlan, arena: &mut Arena<AExpr>) -> Option<Vec<Node>> {
    match ir {
        IR::GroupBy { keys, .. } => Some(keys.iter().map(ExprIR::node).collect()),
        IR::Distinct { input, options } => {
            let all = || plan.lp_arena.get(*input).schema(&plan.lp_arena).iter_names_cloned().collect();
            let names: Vec<_> = options.subset.as_ref().map_or_else(all, |subset| subset.to_vec());
            Some(names.into_iter().map(|name| arena.add(AExpr::Column(name))).collect())
        }
        _ => None,
    }
}

/// The keys of every window in a node's expressions: of `over`, and what `is_unique` and kin look for.
pub(super) fn windows(ir: &IR, arena: &Arena<AExpr>) -> Vec<Vec<Node>> {
    fn find(node: Node, arena: &Arena<AExpr>, found: &mut Vec<Vec<Node>>) {
        match arena.get(node) {
            AExpr::Over { partition_by, .. } => found.push(partition_by.clone()),
            AExpr::Function {
                input,
                function:
                    IRFunctionExpr::Boolean(
                        IRBooleanFunction::IsUnique
                        | IRBooleanFunction::IsDuplicated
                        | IRBooleanFunction::IsFirstDistinct
                        | IRBooleanFunction::IsLastDistinct,
                    ),
                ..
            } => found.push(input.iter().map(ExprIR::node).collect()),
            _ => inputs(node, arena).into_iter().for_each(|input| find(input, arena, found)),
        }
    }
    let mut found = Vec::new();
    match ir {
        IR::HStack { exprs, .. } | IR::Select { expr: exprs, .. } => {
            exprs.iter().for_each(|e| find(e.node(), arena, &mut found));
        }
        IR::Filter { predicate, .. } => find(predicate.node(), arena, &mut found),
        _ => {}
    }
    found
}

/// Whether rows that are equal in the keys are in one task.
pub(super) fn together(place: &Place, keys: &[Node], arena: &Arena<AExpr>) -> Result<(), String> {
    let wanted: Vec<String> = keys.iter().map(|key| shown(*key, arena)).collect();
    let by = || if wanted.is_empty() { "no key".to_owned() } else { wanted.join(", ") };
    match place {
        Place::Everywhere => Ok(()),
        Place::Hashed(of) | Place::Grouped(of) => match of.iter().find(|key| !key.follows_from(&wanted, arena)) {
            None => Ok(()),
            Some(key) => Err(format!("rows are together by {}, and it is done by {}", key.shown(arena), by())),
        },
        Place::Ranged(ranges) => {
            let column = |key: &Node| match arena.get(*key) {
                AExpr::Column(name) => ranges.columns.iter().any(|column| column == name.as_str()),
                _ => false,
            };
            let cut = keys.iter().any(column);
            cut.then_some(()).ok_or_else(|| {
                format!("rows are cut by ranges of {}, and it is done by {}", ranges.columns.join(", "), by())
            })
        }
        Place::Source => Err(format!("tasks read any part of the data, and it is done by {}", by())),
        Place::Own => Err(format!("which rows a task has follows from no key, and it is done by {}", by())),
    }
}

/// Whether an expression is a column, and which.
pub(super) fn column(e: &ExprIR, arena: &Arena<AExpr>) -> Option<String> {
    expr::column_name(e, arena).map(|name| name.to_string())
}
