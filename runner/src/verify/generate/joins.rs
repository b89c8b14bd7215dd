//! Random joins: every kind and option, with matching keys; as-of, cross and inequality joins.

use polars::prelude::*;
use polars_plan::dsl::DslPlan;

use super::{Gen, Scope, exprs, is_key};

/// `left` joined with `right` in some way.
pub fn join(g: &mut Gen, left: DslPlan, right: DslPlan) -> DslPlan {
    let (Some(ls), Some(rs)) = (Scope::of(&left), Scope::of(&right)) else { return left };
    match g.below(20) {
        0 => return LazyFrame::from(left).cross_join(LazyFrame::from(right).slice(0, 7), None).logical_plan,
        1 | 2 => return inequality(g, left, right, &ls, &rs).unwrap_or_default(),
        3 | 4 if ls.has("t") && rs.has("t") => return asof(g, left, right, &ls, &rs),
        _ => {}
    }
    let mut both: Vec<(PlSmallStr, PlSmallStr)> = Vec::new();
    for (name, dtype) in &ls.cols {
        if is_key(dtype) && rs.dtype(name) == Some(dtype) {
            both.push((name.clone(), name.clone()));
        }
    }
    // Prefer the keys with few values, or most joins would be empty.
    let mut keys: Vec<(PlSmallStr, PlSmallStr)> = Vec::new();
    for wanted in ["k", "s"] {
        if let Some(pair) = both.iter().find(|(l, _)| l == wanted)
            && (keys.is_empty() || g.chance(0.3))
            && g.chance(0.8)
        {
            keys.push(pair.clone());
        }
    }
    if keys.is_empty() {
        let shuffled = g.shuffled(&both);
        keys.extend(shuffled.into_iter().take(1 + g.below(2)));
    }
    // Keys of different names.
    if keys.is_empty() || g.chance(0.08) {
        let dtypes: Vec<_> = ls.cols.iter().filter(|(_, d)| is_key(d)).cloned().collect();
        if let Some((name, dtype)) = g.pick_of(&dtypes) {
            let others = rs.names(|d| *d == dtype);
            if let Some(other) = g.pick_of(&others) {
                keys = vec![(name, other)];
            }
        }
    }
    if keys.is_empty() {
        return LazyFrame::from(left)
            .cross_join(LazyFrame::from(right).slice(0, 3), Some("_cross".into()))
            .logical_plan;
    }
    let how = match g.below(12) {
        0..=3 => JoinType::Inner,
        4..=6 => JoinType::Left,
        7 => JoinType::Right,
        8 | 9 => JoinType::Full,
        10 => JoinType::Semi,
        _ => JoinType::Anti,
    };
    let expression = g.chance(0.1);
    let key = |name: &PlSmallStr| if expression { col(name.clone()).cast(DataType::String) } else { col(name.clone()) };
    let left_on: Vec<Expr> = keys.iter().map(|(l, _)| key(l)).collect();
    let right_on: Vec<Expr> = keys.iter().map(|(_, r)| key(r)).collect();
    let mut builder = LazyFrame::from(left)
        .join_builder()
        .with(LazyFrame::from(right))
        .left_on(left_on)
        .right_on(right_on)
        .how(how.clone())
        .join_nulls(g.chance(0.25))
        .maintain_order(*g.pick(&[
            MaintainOrderJoin::None,
            MaintainOrderJoin::None,
            MaintainOrderJoin::Left,
            MaintainOrderJoin::Right,
            MaintainOrderJoin::LeftRight,
            MaintainOrderJoin::RightLeft,
        ]));
    if matches!(how, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) {
        builder = builder.coalesce(*g.pick(&[
            JoinCoalesce::JoinSpecific,
            JoinCoalesce::CoalesceColumns,
            JoinCoalesce::KeepColumns,
        ]));
        // The validation rarely holds: most such plans fail, and must fail alike.
        if g.chance(0.05) {
            builder = builder.validate(*g.pick(&[
                JoinValidation::OneToOne,
                JoinValidation::OneToMany,
                JoinValidation::ManyToOne,
            ]));
        }
    }
    if g.chance(0.3) {
        builder = builder.suffix("_r");
    }
    builder.finish().logical_plan
}

fn asof(g: &mut Gen, left: DslPlan, right: DslPlan, ls: &Scope, rs: &Scope) -> DslPlan {
    let by: Vec<PlSmallStr> = ["k", "s"]
        .into_iter()
        .filter(|n| ls.has(n) && ls.dtype(n) == rs.dtype(n))
        .filter(|_| g.chance(0.4))
        .map(Into::into)
        .collect();
    let by = if by.is_empty() { None } else { Some(by) };
    let options = AsOfOptions {
        strategy: *g.pick(&[AsofStrategy::Backward, AsofStrategy::Forward, AsofStrategy::Nearest]),
        tolerance: None,
        tolerance_str: if g.chance(0.3) { Some("2h".into()) } else { None },
        left_by: by.clone(),
        right_by: by,
        allow_eq: g.chance(0.8),
        check_sortedness: true,
    };
    // Both sides sorted by time, as the join requires.
    let sorted =
        |plan: DslPlan| LazyFrame::from(plan).sort(["t"], SortMultipleOptions::default().with_maintain_order(true));
    sorted(left)
        .join_builder()
        .with(sorted(right))
        .left_on([col("t")])
        .right_on([col("t")])
        .how(JoinType::AsOf(Box::new(options)))
        .suffix("_asof")
        .finish()
        .logical_plan
}

fn inequality(g: &mut Gen, left: DslPlan, right: DslPlan, ls: &Scope, rs: &Scope) -> Option<DslPlan> {
    let numbers = |s: &Scope| s.names(|d| d.is_primitive_numeric());
    let right_frame = LazyFrame::from(right).select([all().as_expr().name().suffix("_i")]).slice(0, 40);
    let mut predicates = Vec::new();
    for _ in 0..1 + g.below(2) {
        let (l, r) = (g.pick_of(&numbers(ls))?, g.pick_of(&numbers(rs))?);
        let r = col(format!("{r}_i"));
        predicates.push(match g.below(4) {
            0 => col(l).lt(r),
            1 => col(l).gt_eq(r),
            2 => col(l).lt_eq(r),
            _ => col(l).gt(r),
        });
    }
    if g.chance(0.3) {
        predicates.push(exprs::boolean(g, ls, 0));
    }
    let left = LazyFrame::from(left).slice(0, 60);
    Some(left.join_builder().with(right_frame).join_where(predicates).logical_plan)
}
