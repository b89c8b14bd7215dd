//! Rewrites a plan so that everything it leaves to chance comes out differently: rows after a node without a promised
//! order are reversed or shuffled, and so are ties before an unstable sort. What stays the same is promised; what
//! changes is not, and a distributed run may differ there.
//!
//! Plan in, plan out; `judge` decides who runs the result and what follows from it.

use std::sync::Arc;

use floe_plan::inputs::{inputs, map_inputs};
use polars::prelude::{DataFrame, Expr, JoinType, LazyFrame, UniqueKeepStrategy, all};
use polars_ops::prelude::MaintainOrderJoin;
use polars_plan::dsl::{DslPlan, FunctionExpr};
use polars_plan::plans::DslFunction;

/// How rows without a promised order are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Reverse,
    Shuffle(u64),
}

/// The perturbed plan, and how many places were changed (none: the plan leaves nothing to chance, as far as is known).
pub fn perturb(plan: DslPlan, how: Move) -> (DslPlan, usize) {
    let mut touched = 0;
    let plan = rec(plan, how, &mut touched);
    (plan, touched)
}

fn rec(plan: DslPlan, how: Move, touched: &mut usize) -> DslPlan {
    let plan = map_inputs(plan, &mut |input| rec(input, how, touched));
    let plan = map_exprs(plan, &mut |e| move_expr(e, how, touched));
    match plan {
        DslPlan::Sort { input, by_column, slice, sort_options } if !sort_options.maintain_order => {
            *touched += 1;
            DslPlan::Sort { input: Arc::new(moved(Arc::unwrap_or_clone(input), how)), by_column, slice, sort_options }
        }
        DslPlan::Distinct { input, options } if !options.maintain_order => {
            *touched += 1;
            let input = match options.keep_strategy {
                UniqueKeepStrategy::Any => Arc::new(moved(Arc::unwrap_or_clone(input), how)),
                _ => input,
            };
            moved(DslPlan::Distinct { input, options }, how)
        }
        // One side's order is kept: matches of one row, and rows without a match, follow the other side in no promised
        // order.
        DslPlan::Join { input_left, input_right, left_on, right_on, predicates, options }
            if matches!(options.args.maintain_order, MaintainOrderJoin::Left | MaintainOrderJoin::Right) =>
        {
            *touched += 1;
            let (input_left, input_right) = match options.args.maintain_order {
                MaintainOrderJoin::Left => (input_left, Arc::new(moved(Arc::unwrap_or_clone(input_right), how))),
                _ => (Arc::new(moved(Arc::unwrap_or_clone(input_left), how)), input_right),
            };
            // Rows without a match on the ordered side come in hash order, which no order of the inputs changes.
            let unmatched = match options.args.how {
                JoinType::Full => true,
                JoinType::Left => options.args.maintain_order == MaintainOrderJoin::Right,
                JoinType::Right => options.args.maintain_order == MaintainOrderJoin::Left,
                _ => false,
            };
            let join = DslPlan::Join { input_left, input_right, left_on, right_on, predicates, options };
            if unmatched { moved(join, how) } else { join }
        }
        plan if unordered(&plan) => {
            *touched += 1;
            moved(plan, how)
        }
        plan => plan,
    }
}

/// Nodes whose output has no promised order.
fn unordered(plan: &DslPlan) -> bool {
    match plan {
        DslPlan::GroupBy { maintain_order, options, .. } => {
            !maintain_order && options.dynamic.is_none() && options.rolling.is_none()
        }
        DslPlan::Join { options, .. } => {
            options.args.maintain_order == MaintainOrderJoin::None && !matches!(options.args.how, JoinType::AsOf(_))
        }
        DslPlan::Union { args, .. } => !args.maintain_order,
        DslPlan::Pivot { maintain_order, .. } => !maintain_order,
        // The streaming engine puts columns one below the other for a part of the rows, the in-memory engine for all
        // rows.
        DslPlan::MapFunction { function: DslFunction::Unpivot { .. }, .. } => true,
        _ => false,
    }
}

fn moved(plan: DslPlan, how: Move) -> DslPlan {
    let all = all().as_expr();
    let expr = match how {
        Move::Reverse => all.reverse(),
        Move::Shuffle(seed) => all.shuffle(Some(seed)),
    };
    LazyFrame::from(plan).select([expr]).logical_plan
}

/// Expressions whose values come in no promised order.
fn move_expr(expr: Expr, how: Move, touched: &mut usize) -> Expr {
    expr.map_expr(|e| {
        let free = match &e {
            Expr::Function { function, .. } => matches!(
                function,
                FunctionExpr::Unique(false)
                    | FunctionExpr::Mode { maintain_order: false }
                    | FunctionExpr::ValueCounts { sort: false, .. }
            ),
            _ => false,
        };
        if !free {
            return e;
        }
        *touched += 1;
        match how {
            Move::Reverse => e.reverse(),
            Move::Shuffle(seed) => e.shuffle(Some(seed)),
        }
    })
}

/// Applies `f` to the expressions of a node.
pub fn map_exprs(plan: DslPlan, f: &mut dyn FnMut(Expr) -> Expr) -> DslPlan {
    let mut all = |list: Vec<Expr>| list.into_iter().map(&mut *f).collect::<Vec<_>>();
    match plan {
        DslPlan::Select { expr, input, options } => DslPlan::Select { expr: all(expr), input, options },
        DslPlan::HStack { input, exprs, options } => DslPlan::HStack { input, exprs: all(exprs), options },
        DslPlan::GroupBy { input, keys, predicates, aggs, maintain_order, options, apply } => {
            DslPlan::GroupBy { input, keys: all(keys), predicates, aggs: all(aggs), maintain_order, options, apply }
        }
        DslPlan::Filter { input, predicate } => DslPlan::Filter { input, predicate: f(predicate) },
        other => other,
    }
}

/// The frames that a plan carries, largest first, for a shrinker to cut.
pub fn frames(plan: &DslPlan, found: &mut Vec<Arc<DataFrame>>) {
    match plan {
        DslPlan::DataFrameScan { df, .. } => found.push(df.clone()),
        other => inputs(other).into_iter().for_each(|input| frames(input, found)),
    }
}
