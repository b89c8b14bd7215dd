//! Calls functions over groups for many groups at once.
//!
//! Polars calls such a function once per group, and a call to another process costs about a thousand times the function
//! itself. So implode the rows of each group to a list, and call the function with a batch of lists; the child loops
//! over them. The result for a group depends on that group alone, so the call is element-wise over lists.

use polars_core::chunked_array::builder::get_list_builder;
use polars_core::prelude::*;
use polars_plan::dsl::{DataTypeExpr, DslPlan, Expr, LazySerde};
use polars_plan::prelude::as_struct;
use polars_plan::utils::expr_output_name;
use polars_utils::pl_str::PlSmallStr;

use super::payload::{Kind, Packed, Payload, Returns};

/// Send at most this many groups per call: enough to make the cost of the call itself negligible.
pub const MAX_GROUPS_PER_CALL: usize = 1024;

/// An aggregation that only calls a function, rewritten.
pub struct OfGroups {
    /// Its output column.
    pub name: PlSmallStr,
    /// The lists to call the function with.
    pub lists: Expr,
    pub payload: Payload,
    /// Number of the function in the document.
    pub number: Option<usize>,
}

/// Whether the groups of this plan do not overlap, and are all known before the first result: no dynamic or rolling
/// windows.
pub fn are_apart(plan: &DslPlan) -> bool {
    matches!(plan, DslPlan::GroupBy { options, apply: None, .. } if options.dynamic.is_none() && options.rolling.is_none())
}

/// Rewrites an aggregation that calls a function per group to lists and one call. `None` for other aggregations, and
/// for inputs that may not be a list of the group's rows.
pub fn of_groups(aggregation: &Expr) -> Option<OfGroups> {
    let (given, call) = match aggregation {
        Expr::Alias(call, name) => (Some(name.clone()), &**call),
        call => (None, call),
    };
    let Expr::AnonymousFunction { input, function: LazySerde::Bytes(bytes), options, .. } = call else { return None };
    let Packed { payload, number, .. } = Packed::read(bytes)?.ok()?;
    let typed = match &payload.returns {
        Returns::Unknown => true,
        Returns::Type(dtype) => matches!(**dtype, DataTypeExpr::Literal(_) | DataTypeExpr::SelfDtype),
        _ => false,
    };
    if payload.kind != Kind::Columns || options.is_elementwise() || !typed || !input.iter().all(gives_rows) {
        return None;
    }
    let name = given.or_else(|| expr_output_name(input.first()?).ok())?;
    let lists = match input.as_slice() {
        [one] => one.clone().implode(true),
        several => {
            let numbered = several.iter().enumerate();
            as_struct(numbered.map(|(at, one)| one.clone().implode(true).alias(at.to_string())).collect())
        }
    };
    let payload = Payload { groups: Some(input.len()), ..(*payload).clone() };
    Some(OfGroups { lists: lists.alias(name.clone()), name, payload, number })
}

/// Whether an expression returns rows of the group, instead of one value per group or a literal.
fn gives_rows(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(input, _) | Expr::Cast { expr: input, .. } | Expr::Sort { expr: input, .. } => gives_rows(input),
        Expr::Filter { input, by } => gives_rows(input) && gives_rows(by),
        Expr::SortBy { expr, by, .. } => gives_rows(expr) && by.iter().all(gives_rows),
        Expr::BinaryExpr { left, right, .. } => {
            let literal = |side: &Expr| matches!(side, Expr::Literal(_));
            (gives_rows(left) && (gives_rows(right) || literal(right))) || (literal(left) && gives_rows(right))
        }
        _ => false,
    }
}

/// Builds one list per group from the child's answer: the rows of all groups, and the group number of each row.
pub fn lists(rows: &Series, numbers: &Series, groups: usize) -> PolarsResult<Series> {
    let numbers = numbers.cast(&DataType::UInt32)?;
    let numbers = numbers.u32()?;
    let mut lists = get_list_builder(rows.dtype(), rows.len(), groups, rows.name().clone());
    let (mut at, mut numbers) = (0, numbers.iter().flatten().peekable());
    for group in 0..groups {
        let mut count = 0;
        while numbers.next_if(|number| *number as usize == group).is_some() {
            count += 1;
        }
        lists.append_series(&rows.slice(at, count))?;
        at += count as i64;
    }
    polars_ensure!(at as usize == rows.len(), ComputeError: "the rows of a Python function's groups are out of order");
    Ok(lists.finish().into_series())
}
