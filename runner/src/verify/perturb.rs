//! A plan rewritten so that everything it leaves to chance comes out otherwise: rows after a node that promises no
//! order are reversed or shuffled, ties before an unstable sort too. Whatever stays the same under this is promised;
//! whatever changes is not, and a distributed run may differ there.
//!
//! Pure plan to plan; who runs the result and what follows from it is decided in `judge`.

use std::sync::Arc;

use polars::prelude::{DataFrame, Expr, JoinType, LazyFrame, UniqueKeepStrategy, all};
use polars_ops::prelude::MaintainOrderJoin;
use polars_plan::dsl::{DslPlan, FunctionExpr};
use polars_plan::plans::DslFunction;

/// In which way rows without a promised order are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Reverse,
    Shuffle(u64),
}

/// The perturbed plan, and how many places were touched (none: the plan leaves nothing to chance that we know of).
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
            // Rows without a match on the ordered side come by their hashes, which no order of the inputs moves.
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
        // The streaming engine has the columns of one part of the rows after each other, the other one those of all.
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

/// Applies `f` to the direct inputs of a node.
pub fn map_inputs(plan: DslPlan, f: &mut dyn FnMut(DslPlan) -> DslPlan) -> DslPlan {
    let mut one = |input: Arc<DslPlan>| Arc::new(f(Arc::unwrap_or_clone(input)));
    match plan {
        DslPlan::Filter { input, predicate } => DslPlan::Filter { input: one(input), predicate },
        DslPlan::Cache { input, id } => DslPlan::Cache { input: one(input), id },
        DslPlan::Select { expr, input, options } => DslPlan::Select { expr, input: one(input), options },
        DslPlan::GroupBy { input, keys, predicates, aggs, maintain_order, options, apply } => {
            DslPlan::GroupBy { input: one(input), keys, predicates, aggs, maintain_order, options, apply }
        }
        DslPlan::Join { input_left, input_right, left_on, right_on, predicates, options } => DslPlan::Join {
            input_left: one(input_left),
            input_right: one(input_right),
            left_on,
            right_on,
            predicates,
            options,
        },
        DslPlan::Gather { input, idxs, null_on_oob } => {
            DslPlan::Gather { input: one(input), idxs: one(idxs), null_on_oob }
        }
        DslPlan::HStack { input, exprs, options } => DslPlan::HStack { input: one(input), exprs, options },
        DslPlan::MatchToSchema { input, match_schema, per_column, extra_columns } => {
            DslPlan::MatchToSchema { input: one(input), match_schema, per_column, extra_columns }
        }
        DslPlan::Pivot { input, on, on_columns, index, values, agg, maintain_order, separator, column_naming } => {
            DslPlan::Pivot {
                input: one(input),
                on,
                on_columns,
                index,
                values,
                agg,
                maintain_order,
                separator,
                column_naming,
            }
        }
        DslPlan::Distinct { input, options } => DslPlan::Distinct { input: one(input), options },
        DslPlan::Sort { input, by_column, slice, sort_options } => {
            DslPlan::Sort { input: one(input), by_column, slice, sort_options }
        }
        DslPlan::Slice { input, offset, len } => DslPlan::Slice { input: one(input), offset, len },
        DslPlan::MapFunction { input, function } => DslPlan::MapFunction { input: one(input), function },
        DslPlan::Union { inputs, args } => DslPlan::Union { inputs: inputs.into_iter().map(&mut *f).collect(), args },
        DslPlan::HConcat { inputs, options } => {
            DslPlan::HConcat { inputs: inputs.into_iter().map(&mut *f).collect(), options }
        }
        DslPlan::ExtContext { input, contexts } => {
            let input = one(input);
            DslPlan::ExtContext { input, contexts: contexts.into_iter().map(&mut *f).collect() }
        }
        DslPlan::Sink { input, payload } => DslPlan::Sink { input: one(input), payload },
        DslPlan::SinkMultiple { inputs } => DslPlan::SinkMultiple { inputs: inputs.into_iter().map(&mut *f).collect() },
        DslPlan::MergeSorted { input_left, input_right, key, maintain_order } => {
            DslPlan::MergeSorted { input_left: one(input_left), input_right: one(input_right), key, maintain_order }
        }
        DslPlan::IR { dsl, .. } => f(Arc::unwrap_or_clone(dsl)),
        leaf @ (DslPlan::Scan { .. } | DslPlan::DataFrameScan { .. } | DslPlan::PipeWithSchema { .. }) => leaf,
        #[allow(unreachable_patterns, reason = "Python scans exist only with a feature that this build leaves out")]
        other => other,
    }
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

/// The frames that a plan carries, largest first: what a shrinker cuts.
pub fn frames(plan: &DslPlan, found: &mut Vec<Arc<DataFrame>>) {
    match plan {
        DslPlan::DataFrameScan { df, .. } => found.push(df.clone()),
        other => inputs(other).into_iter().for_each(|input| frames(input, found)),
    }
}

/// The direct inputs of a node.
pub fn inputs(plan: &DslPlan) -> Vec<&DslPlan> {
    match plan {
        DslPlan::Filter { input, .. }
        | DslPlan::Cache { input, .. }
        | DslPlan::Select { input, .. }
        | DslPlan::GroupBy { input, .. }
        | DslPlan::HStack { input, .. }
        | DslPlan::MatchToSchema { input, .. }
        | DslPlan::Pivot { input, .. }
        | DslPlan::Distinct { input, .. }
        | DslPlan::Sort { input, .. }
        | DslPlan::Slice { input, .. }
        | DslPlan::MapFunction { input, .. }
        | DslPlan::Sink { input, .. } => vec![input],
        DslPlan::Join { input_left, input_right, .. } | DslPlan::MergeSorted { input_left, input_right, .. } => {
            vec![input_left, input_right]
        }
        DslPlan::Gather { input, idxs, .. } => vec![input, idxs],
        DslPlan::ExtContext { input, contexts } => std::iter::once(&**input).chain(contexts).collect(),
        DslPlan::Union { inputs, .. } | DslPlan::HConcat { inputs, .. } | DslPlan::SinkMultiple { inputs } => {
            inputs.iter().collect()
        }
        DslPlan::PipeWithSchema { input, .. } => input.iter().collect(),
        DslPlan::IR { dsl, .. } => vec![dsl],
        DslPlan::Scan { .. } | DslPlan::DataFrameScan { .. } => Vec::new(),
        #[allow(unreachable_patterns, reason = "Python scans exist only with a feature that this build leaves out")]
        _ => Vec::new(),
    }
}
