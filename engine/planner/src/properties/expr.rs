//! Answers questions about expressions: whether they can run on a part of the rows, and what they read.

use polars_core::prelude::*;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{
    AExpr, AExprBuilder, ArenaExprIter, IRBooleanFunction, IRFunctionExpr, LiteralValue, is_elementwise_rec,
    is_row_separable_rec, is_scalar_ae,
};
use polars_utils::arena::{Arena, Node};

/// Whether each output row depends on its own input row only.
pub fn elementwise(e: &ExprIR, arena: &Arena<AExpr>) -> bool {
    row_wise(e.node(), arena)
}

pub fn row_wise(node: Node, arena: &Arena<AExpr>) -> bool {
    is_elementwise_rec(node, arena) && !arena.iter(node).any(|(_, ae)| sees_all_rows(ae, arena))
}

/// An expression that Polars calls element-wise although it needs all rows: `is_in` with a list for each row in the
/// plan.
fn sees_all_rows(ae: &AExpr, arena: &Arena<AExpr>) -> bool {
    let AExpr::Function { input, function: IRFunctionExpr::Boolean(IRBooleanFunction::IsIn { .. }), .. } = ae else {
        return false;
    };
    input.get(1).is_some_and(|other| {
        matches!(arena.get(other.node()), AExpr::Literal(LiteralValue::Series(s)) if s.dtype().is_nested() && s.len() > 1)
    })
}

/// Whether it can be evaluated part by part and concatenated, though the number of rows may change. If two inputs each
/// change the number of rows, they line up only over the whole.
pub fn row_separable(e: &ExprIR, arena: &Arena<AExpr>) -> bool {
    let meet = |ae: &AExpr| {
        let mut inputs = Vec::new();
        ae.inputs_rev(&mut inputs);
        inputs.iter().filter(|n| !is_elementwise_rec(**n, arena)).count() > 1
    };
    is_row_separable_rec(e.node(), arena) && !arena.iter(e.node()).any(|(_, ae)| meet(ae) || sees_all_rows(ae, arena))
}

pub fn scalar(e: &ExprIR, arena: &Arena<AExpr>) -> bool {
    is_scalar_ae(e.node(), arena)
}

pub fn has_column(node: Node, arena: &Arena<AExpr>) -> bool {
    arena.iter(node).any(|(_, ae)| matches!(ae, AExpr::Column(_)))
}

/// Whether an aggregate in it depends on the order of rows.
pub fn asks_order(node: Node, arena: &Arena<AExpr>) -> bool {
    use polars_plan::plans::{IRAggExpr as Agg, IRFunctionExpr as Function};
    arena.iter(node).any(|(_, ae)| {
        matches!(
            ae,
            AExpr::Agg(Agg::First(_) | Agg::Last(_) | Agg::FirstNonNull(_) | Agg::LastNonNull(_))
                | AExpr::Function { function: Function::IndexOf, .. }
        )
    })
}

pub fn column_name(e: &ExprIR, arena: &Arena<AExpr>) -> Option<PlSmallStr> {
    match arena.get(e.node()) {
        AExpr::Column(name) => Some(name.clone()),
        _ => None,
    }
}

pub fn col(name: &PlSmallStr, arena: &mut Arena<AExpr>) -> ExprIR {
    ExprIR::from_column_name(name.clone(), arena)
}

/// Whether two expressions are the same computation.
pub fn same(a: Node, b: Node, arena: &Arena<AExpr>) -> bool {
    a == b || arena.get(a).is_expr_equal_to(arena.get(b), arena)
}

/// The expression as a key that is equal for equal values in every process. Categories, which every process numbers for
/// itself, become their text.
pub fn portable_key(node: Node, dtype: &DataType, arena: &mut Arena<AExpr>) -> (Node, DataType) {
    let wire = portable_dtype(dtype);
    if wire == *dtype {
        return (node, wire);
    }
    let cast = AExprBuilder::new_from_node(node).cast(wire.clone(), arena);
    (cast.node(), wire)
}

pub fn portable_dtype(dtype: &DataType) -> DataType {
    match dtype {
        DataType::Categorical(_, _) => DataType::String,
        DataType::List(inner) => DataType::List(Box::new(portable_dtype(inner))),
        DataType::Array(inner, n) => DataType::Array(Box::new(portable_dtype(inner)), *n),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| Field::new(f.name().clone(), portable_dtype(f.dtype()))).collect())
        }
        other => other.clone(),
    }
}

/// Whether Polars' row encoding, by which `is_unique` and similar functions compare, loses a difference that hashes
/// keep: it does not mark null structs, so a null struct equals one whose fields are all null.
pub fn encodes_alike(dtype: &DataType) -> bool {
    match dtype {
        DataType::Struct(_) => true,
        DataType::List(inner) | DataType::Array(inner, _) => encodes_alike(inner),
        _ => false,
    }
}

/// Whether this node, not counting its inputs, is element-wise.
pub fn top_elementwise(node: Node, arena: &Arena<AExpr>) -> bool {
    match arena.get(node) {
        AExpr::Function { options, .. } | AExpr::AnonymousFunction { options, .. } => options.is_elementwise(),
        AExpr::Literal(v) => v.is_scalar(),
        AExpr::Eval { variant, .. } => variant.is_elementwise(),
        AExpr::Element
        | AExpr::BinaryExpr { .. }
        | AExpr::Column(_)
        | AExpr::Ternary { .. }
        | AExpr::Cast { .. }
        | AExpr::StructField(_) => true,
        _ => false,
    }
}

/// Copies the expression; `replace` may put another node in place of any (outermost first).
pub fn rewrite(
    node: Node,
    arena: &mut Arena<AExpr>,
    replace: &mut dyn FnMut(Node, &mut Arena<AExpr>) -> Option<Node>,
) -> Node {
    if let Some(new) = replace(node, arena) {
        return new;
    }
    let ae = arena.get(node).clone();
    let mut inputs = Vec::new();
    ae.inputs_rev(&mut inputs);
    inputs.reverse();
    if inputs.is_empty() {
        return node;
    }
    let new: Vec<Node> = inputs.iter().map(|n| rewrite(*n, arena, replace)).collect();
    if new == inputs {
        return node;
    }
    arena.add(ae.replace_inputs(&new))
}
