//! Functions over groups, called for many groups at once.
//!
//! Polars calls such a function once for each group, and a call that crosses to another process costs a thousand times what
//! the function does. So the rows of each group are made a list, and the function is called for a batch of lists: the child
//! goes through them. What it gives for a group depends on that group alone, so the call is element-wise over lists.

use polars_core::chunked_array::builder::get_list_builder;
use polars_core::prelude::*;
use polars_plan::dsl::{DataTypeExpr, DslPlan, Expr, LazySerde};
use polars_plan::prelude::as_struct;
use polars_plan::utils::expr_output_name;
use polars_utils::pl_str::PlSmallStr;

use super::payload::{Kind, Packed, Payload, Returns};

/// No more groups than these go to one call: enough that the way there costs little.
pub const AT_ONCE: usize = 1024;

/// An aggregation that only calls a function.
pub struct OfGroups {
    /// The column that it makes.
    pub name: PlSmallStr,
    /// The lists that it is called with.
    pub lists: Expr,
    pub payload: Payload,
    /// That of the function.
    pub number: Option<usize>,
}

/// Whether all groups of this plan are known before the first is needed, and no two share rows.
pub fn are_apart(plan: &DslPlan) -> bool {
    matches!(plan, DslPlan::GroupBy { options, apply: None, .. } if options.dynamic.is_none() && options.rolling.is_none())
}

/// What to do instead of calling the function of an aggregation for each group. Nothing, if it is another aggregation, or if
/// it takes what is not surely a list of rows.
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

/// Whether an expression gives rows of the group, and not one value for it, or a literal.
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

/// One list for each group, of what the child gave: the rows of all groups, and the number of each row's group.
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
