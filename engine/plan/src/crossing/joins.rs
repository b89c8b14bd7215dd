//! Builds joins. Equi-joins map to the engine's own. The engine lacks outer, semi and anti joins with a condition
//! beyond the keys: build them from an inner join that finds the matching pairs, and find the rows without a match by
//! row number.

use std::collections::HashSet;

use polars::prelude::*;
use polars_plan::dsl::Expr;
use polars_plan::prelude::col;
use serde_json::Value;

use super::data::{ExprData, Node, NodeKind};
use super::exprs::children;
use super::nodes::{names, sliced};
use super::{Context, damaged, lacking};
use crate::join_where::{concat, rows_without_pair};
use floe_wire::error::Result;

const LEFT_ROW: &str = "__floe_left_row";
const RIGHT_ROW: &str = "__floe_right_row";

pub fn build(ctx: &Context, node: &Node, left: LazyFrame, right: LazyFrame) -> Result<LazyFrame> {
    let NodeKind::Join { how, left_on, right_on, predicate, nulls_equal, slice, suffix, coalesce, maintain_order } =
        &node.kind
    else {
        return Err(damaged("a join is none"));
    };
    let kind = how.as_str().or_else(|| how.get(0).and_then(Value::as_str)).unwrap_or_default().to_ascii_lowercase();
    if let Some(predicate) = predicate {
        let joined = by_condition(ctx, node, &kind, *predicate, suffix, left, right)?;
        return sliced(joined, *slice);
    }
    let how = match kind.as_str() {
        "inner" => JoinType::Inner,
        "left" => JoinType::Left,
        "right" => JoinType::Right,
        "full" => JoinType::Full,
        "semi" => JoinType::Semi,
        "anti" => JoinType::Anti,
        "cross" => JoinType::Cross,
        "asof" => JoinType::AsOf(Box::new(asof(how)?)),
        _ => return Err(lacking(format!("a join of the kind {kind}"))),
    };
    let args = JoinArgs {
        suffix: Some(suffix.as_str().into()),
        nulls_equal: *nulls_equal,
        coalesce: match how {
            JoinType::Cross | JoinType::Semi | JoinType::Anti => JoinCoalesce::JoinSpecific,
            _ if *coalesce => JoinCoalesce::CoalesceColumns,
            _ => JoinCoalesce::KeepColumns,
        },
        maintain_order: match maintain_order.as_str() {
            "none" => MaintainOrderJoin::None,
            "left" => MaintainOrderJoin::Left,
            "right" => MaintainOrderJoin::Right,
            "left_right" => MaintainOrderJoin::LeftRight,
            "right_left" => MaintainOrderJoin::RightLeft,
            other => return Err(damaged(format!("a join that keeps the order {other}"))),
        },
        ..JoinArgs::new(how)
    };
    sliced(left.join(right, ctx.all(left_on)?, ctx.all(right_on)?, args), *slice)
}

fn asof(how: &Value) -> Result<AsOfOptions> {
    let names = |at: usize| {
        how.get(at)
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).map(Into::into).collect())
    };
    if how.get(2).is_some_and(|tolerance| !tolerance.is_null()) {
        return Err(lacking("an as-of join with a tolerance that is a number"));
    }
    Ok(AsOfOptions {
        strategy: match how.get(1).and_then(Value::as_str) {
            Some("forward") => AsofStrategy::Forward,
            Some("nearest") => AsofStrategy::Nearest,
            _ => AsofStrategy::Backward,
        },
        tolerance: None,
        tolerance_str: how.get(3).and_then(Value::as_str).map(Into::into),
        left_by: names(4),
        right_by: names(5),
        allow_eq: how.get(6).and_then(Value::as_bool).unwrap_or(true),
        check_sortedness: how.get(7).and_then(Value::as_bool).unwrap_or(true),
    })
}

/// A join condition, split by the sides that its parts use.
#[derive(Default)]
struct Condition {
    /// Equal keys of the left and the right side.
    keys: Vec<(Expr, Expr)>,
    /// Parts that use the right side only.
    right: Vec<Expr>,
    rest: Vec<Expr>,
}

fn condition(ctx: &Context, root: usize, left: &HashSet<&str>, right: &HashSet<String>) -> Result<Condition> {
    let exprs = &ctx.crossing.exprs;
    let mut parts = Condition::default();
    let mut open = vec![root];
    while let Some(at) = open.pop() {
        match exprs.get(at).ok_or_else(|| damaged("a condition is missing"))? {
            ExprData::Binary { op, left: a, right: b } if op == "And" || op == "LogicalAnd" => {
                open.extend([*b, *a]);
                continue;
            }
            ExprData::Binary { op, left: a, right: b } if op == "Eq" => {
                let (of_a, of_b) = (columns(exprs, *a), columns(exprs, *b));
                let in_left = |names: &HashSet<&str>| !names.is_empty() && names.iter().all(|name| left.contains(name));
                let in_right =
                    |names: &HashSet<&str>| !names.is_empty() && names.iter().all(|name| right.contains(*name));
                if in_left(&of_a) && in_right(&of_b) {
                    parts.keys.push((ctx.expr(*a)?, ctx.expr(*b)?));
                    continue;
                }
                if in_left(&of_b) && in_right(&of_a) {
                    parts.keys.push((ctx.expr(*b)?, ctx.expr(*a)?));
                    continue;
                }
            }
            _ => {}
        }
        let used = columns(exprs, at);
        if !used.is_empty() && used.iter().all(|name| right.contains(*name)) {
            parts.right.push(ctx.expr(at)?);
        } else {
            parts.rest.push(ctx.expr(at)?);
        }
    }
    Ok(parts)
}

fn columns(exprs: &[ExprData], root: usize) -> HashSet<&str> {
    let mut found = HashSet::new();
    let mut open = vec![root];
    while let Some(at) = open.pop() {
        if let ExprData::Column { name } = &exprs[at] {
            found.insert(name.as_str());
        }
        open.extend(children(&exprs[at]));
    }
    found
}

fn filtered(frame: LazyFrame, parts: Vec<Expr>) -> LazyFrame {
    parts.into_iter().fold(frame, LazyFrame::filter)
}

fn keyed(kind: JoinType) -> JoinArgs {
    JoinArgs { coalesce: JoinCoalesce::KeepColumns, ..JoinArgs::new(kind) }
}

fn by_condition(
    ctx: &Context,
    node: &Node,
    kind: &str,
    predicate: usize,
    suffix: &str,
    left: LazyFrame,
    right: LazyFrame,
) -> Result<LazyFrame> {
    let columns_of = |input: usize| -> Result<Vec<&str>> {
        let at = node.inputs.get(input).ok_or_else(|| damaged("a join of one input"))?;
        Ok(ctx.crossing.nodes[*at].schema.iter().map(|(name, _)| name.as_str()).collect())
    };
    let (of_left, of_right) = (columns_of(0)?, columns_of(1)?);
    let left_names: HashSet<&str> = of_left.iter().copied().collect();
    // In the condition, columns of the right side have the names of the result, with the suffix.
    let renamed: Vec<String> = of_right
        .iter()
        .map(|name| if left_names.contains(name) { format!("{name}{suffix}") } else { (*name).to_owned() })
        .collect();
    let right_names: HashSet<String> = renamed.iter().cloned().collect();
    let mut right = if of_right.iter().zip(&renamed).any(|(old, new)| old != new) {
        right.select(of_right.iter().zip(&renamed).map(|(old, new)| col(*old).alias(new.as_str())).collect::<Vec<_>>())
    } else {
        right
    };
    let mut parts = condition(ctx, predicate, &left_names, &right_names)?;
    let (keep_left, keep_right) = match kind {
        "inner" | "cross" | "iejoin" | "semi" => (false, false),
        "left" | "anti" => (true, false),
        "right" => (false, true),
        "full" => (true, true),
        _ => return Err(lacking(format!("a join of the kind {kind} with a condition"))),
    };
    let of_right_alone = std::mem::take(&mut parts.right);
    if keep_right {
        parts.rest.extend(of_right_alone);
    } else {
        right = filtered(right, of_right_alone);
    }
    let (left_on, right_on): (Vec<Expr>, Vec<Expr>) = parts.keys.into_iter().unzip();
    let pairs = |left: LazyFrame, right: LazyFrame, rest: Vec<Expr>| {
        let all = if left_on.is_empty() {
            left.cross_join(right, None)
        } else {
            left.join(right, left_on.clone(), right_on.clone(), keyed(JoinType::Inner))
        };
        filtered(all, rest)
    };
    if matches!(kind, "inner" | "cross" | "iejoin") {
        return Ok(pairs(left, right, parts.rest).select(names(node)));
    }
    if parts.rest.is_empty() && !left_on.is_empty() {
        let how = match kind {
            "left" => JoinType::Left,
            "right" => JoinType::Right,
            "full" => JoinType::Full,
            "semi" => JoinType::Semi,
            _ => JoinType::Anti,
        };
        let args = if matches!(how, JoinType::Semi | JoinType::Anti) { JoinArgs::new(how) } else { keyed(how) };
        return Ok(left.join(right, left_on, right_on, args).select(names(node)));
    }
    let left = left.with_row_index(LEFT_ROW, None).cache();
    let right = if keep_right { right.with_row_index(RIGHT_ROW, None).cache() } else { right };
    let met = pairs(left.clone(), right.clone(), parts.rest);
    match kind {
        "semi" => {
            let row = || [col(LEFT_ROW)];
            return Ok(left.join(met.select(row()), row(), row(), JoinArgs::new(JoinType::Semi)).select(names(node)));
        }
        "anti" => return Ok(rows_without_pair(left, &met, LEFT_ROW).select(names(node))),
        _ => {}
    }
    let met = met.cache();
    let mut all = vec![met.clone()];
    if keep_left {
        all.push(rows_without_pair(left, &met, LEFT_ROW));
    }
    if keep_right {
        all.push(rows_without_pair(right, &met, RIGHT_ROW));
    }
    Ok(concat(all)?.select(names(node)))
}
