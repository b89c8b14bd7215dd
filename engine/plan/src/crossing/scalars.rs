//! Scalar subqueries. Polars puts their one row beside the rows of the query (HConcat) and takes the first value of the
//! column where it is used. Here the one row is cross-joined to all rows, which is a broadcast; HConcat would gather
//! all rows on one worker.

use std::collections::HashSet;

use super::data::{Crossing, ExprData, NodeKind};
use super::exprs::children;

/// Columns that come from scalar subqueries. Polars generates their names, and uses each once.
pub fn broadcast_columns(crossing: &Crossing) -> HashSet<String> {
    let mut found = HashSet::new();
    for at in 0..crossing.nodes.len() {
        for scalar in beside(crossing, at).unwrap_or_default() {
            let names = crossing.nodes[*scalar].schema.iter().map(|(name, _)| name.clone());
            found.extend(names.filter(|name| name.contains("_POLARS_TMP")));
        }
    }
    found
}

/// The one-row inputs of an HConcat whose other input has rows of its own; `None` for any other node.
pub fn beside(crossing: &Crossing, at: usize) -> Option<&[usize]> {
    let node = &crossing.nodes[at];
    let NodeKind::Hconcat { options: (_, _, true) } = node.kind else { return None };
    let (_, rest) = node.inputs.split_first()?;
    (!rest.is_empty() && rest.iter().all(|input| is_one_row(crossing, *input))).then_some(rest)
}

pub fn is_one_row(crossing: &Crossing, at: usize) -> bool {
    let node = &crossing.nodes[at];
    match &node.kind {
        NodeKind::Select { exprs } => {
            !exprs.is_empty()
                && (exprs.iter().all(|(_, expr)| is_scalar(crossing, *expr))
                    || node.inputs.iter().all(|input| is_one_row(crossing, *input))
                        && exprs.iter().all(|(_, expr)| is_row_wise(crossing, *expr)))
        }
        NodeKind::WithColumns { exprs } => {
            node.inputs.iter().all(|input| is_one_row(crossing, *input))
                && exprs.iter().all(|(_, expr)| is_row_wise(crossing, *expr))
        }
        NodeKind::Project | NodeKind::Cache { .. } => node.inputs.iter().all(|input| is_one_row(crossing, *input)),
        NodeKind::Frame { height, .. } => *height == 1,
        _ => false,
    }
}

/// The column whose single value an expression takes, with `item`, `first` or `last`.
pub fn value_of(crossing: &Crossing, at: usize) -> Option<usize> {
    match &crossing.exprs[at] {
        ExprData::Agg { name, input, .. } if matches!(name.as_str(), "item" | "first" | "last") => {
            input.first().copied().filter(|column| matches!(crossing.exprs[*column], ExprData::Column { .. }))
        }
        _ => None,
    }
}

/// Whether an expression always returns one row.
pub fn is_scalar(crossing: &Crossing, at: usize) -> bool {
    match &crossing.exprs[at] {
        ExprData::Literal { .. } | ExprData::Dyn { .. } | ExprData::Len | ExprData::Agg { .. } => true,
        ExprData::Cast { input, .. } | ExprData::Alias { input, .. } => is_scalar(crossing, *input),
        expr @ (ExprData::Binary { .. } | ExprData::Ternary { .. }) => {
            children(expr).into_iter().all(|child| is_scalar(crossing, child))
        }
        ExprData::Function { name, .. } if name == "null_count" => true,
        ExprData::Function { name, input, .. } => {
            KEEPS_ROWS.contains(&name.as_str()) && input.iter().all(|child| is_scalar(crossing, *child))
        }
        _ => false,
    }
}

/// Whether an expression returns one row per input row.
fn is_row_wise(crossing: &Crossing, at: usize) -> bool {
    match &crossing.exprs[at] {
        ExprData::Column { .. } | ExprData::Literal { .. } => true,
        ExprData::Cast { input, .. } | ExprData::Alias { input, .. } => is_row_wise(crossing, *input),
        expr @ (ExprData::Binary { .. } | ExprData::Ternary { .. }) => {
            children(expr).into_iter().all(|child| is_row_wise(crossing, child))
        }
        ExprData::Function { name, input, .. } => {
            KEEPS_ROWS.contains(&name.as_str()) && input.iter().all(|child| is_row_wise(crossing, *child))
        }
        _ => false,
    }
}

const KEEPS_ROWS: [&str; 15] = [
    "as_struct",
    "decimal_mul",
    "decimal_div",
    "coalesce",
    "fill_null",
    "round",
    "abs",
    "negate",
    "BooleanFunction.Not",
    "BooleanFunction.IsNull",
    "BooleanFunction.IsNotNull",
    "trunc_rem",
    "trunc_int_div",
    "floor",
    "ceil",
];

/// Whether a select keeps the number of rows: one of its columns is a column of the input.
pub fn keeps_rows(crossing: &Crossing, exprs: &[(String, usize)], broadcast: &HashSet<String>) -> bool {
    exprs.iter().any(|(_, at)| match &crossing.exprs[*at] {
        ExprData::Column { name } => !broadcast.contains(name),
        _ => false,
    })
}
