//! Random nodes, stacked: each is chosen by the columns below it. A node that Polars refuses is dropped, or, now and
//! then, kept as a plan that must fail alike.

use std::path::Path;

use polars::prelude::*;
use polars_plan::dsl::DslPlan;

use super::{Gen, Scope, aggs, exprs, files, frames, is_key, joins};

/// A whole plan.
pub fn plan(g: &mut Gen, dir: &Path) -> PolarsResult<DslPlan> {
    let mut plan = source(g, dir)?;
    let nodes = 1 + g.below(6);
    for _ in 0..nodes {
        let grown = grow(g, plan.clone(), dir)?;
        match Scope::of(&grown) {
            Some(scope) if scope.cols.len() <= 40 => plan = grown,
            Some(_) => {}
            None if g.chance(0.15) => return Ok(grown),
            None => {}
        }
    }
    if g.chance(0.04)
        && let Some(scope) = Scope::of(&plan)
        && !scope.cols.is_empty()
    {
        return Ok(files::sink(g, plan, &scope, dir));
    }
    Ok(plan)
}

fn source(g: &mut Gen, dir: &Path) -> PolarsResult<DslPlan> {
    let rows = frames::height(g);
    let frame = frames::frame(g, rows)?;
    files::source(g, frame, dir)
}

/// The plan with one more node on top.
fn grow(g: &mut Gen, plan: DslPlan, dir: &Path) -> PolarsResult<DslPlan> {
    let Some(scope) = Scope::of(&plan) else { return Ok(plan) };
    if scope.cols.is_empty() {
        return Ok(plan);
    }
    let lf = LazyFrame::from(plan.clone());
    let grown = match g.below(60) {
        0..=4 => lf.filter(exprs::boolean(g, &scope, 2)),
        5..=8 => select(g, lf, &scope),
        9..=13 => with_columns(g, lf, &scope),
        14..=21 => group_by(g, lf, &scope),
        22..=29 => {
            let right = if g.chance(0.2) { grow(g, plan.clone(), dir)? } else { source(g, dir)? };
            return Ok(joins::join(g, plan, right));
        }
        30..=34 => sort(g, lf, &scope),
        35 | 36 => top_k(g, lf, &scope),
        37..=39 => slice(g, lf),
        40..=42 => unique(g, lf, &scope),
        43..=46 => windows(g, lf, &scope),
        47 | 48 => temporal_groups(g, lf, &scope),
        49 | 50 => union(g, plan, &scope, dir)?,
        51 => horizontal(g, lf, &scope)?,
        52 => explode(g, lf, &scope),
        53 => unpivot(g, lf, &scope),
        54 => lf.with_row_index(g.name(), g.chance(0.3).then_some(5)),
        55 => reductions(g, lf, &scope),
        56 => lf.cache(),
        57 => pivot_like(g, lf, &scope),
        58 => rows_gone(g, lf, &scope),
        _ => unnest(g, lf, &scope),
    };
    Ok(grown.logical_plan)
}

fn named(g: &mut Gen, e: Expr) -> Expr {
    e.alias(g.name())
}

fn select(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let names: Vec<PlSmallStr> = scope.cols.iter().map(|(n, _)| n.clone()).collect();
    let keep = 1 + g.below(names.len());
    let mut list: Vec<Expr> = g.shuffled(&names).into_iter().take(keep).map(col).collect();
    for _ in 0..g.below(3) {
        let e = exprs::any(g, scope, 2);
        list.push(named(g, e));
    }
    if g.chance(0.2) {
        let e = exprs::columnwise(g, scope);
        list.push(named(g, e));
    }
    lf.select(list)
}

fn with_columns(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let mut list = Vec::new();
    for _ in 0..1 + g.below(3) {
        let e = if g.chance(0.25) { exprs::columnwise(g, scope) } else { exprs::any(g, scope, 3) };
        list.push(named(g, e));
    }
    lf.with_columns(list)
}

/// Names of columns to group, sort or deduplicate by; mostly those with few values.
fn keys(g: &mut Gen, scope: &Scope, most: usize) -> Vec<PlSmallStr> {
    let mut keys: Vec<PlSmallStr> =
        ["k", "s"].into_iter().filter(|n| scope.has(n)).filter(|_| g.chance(0.6)).map(Into::into).collect();
    let others = if g.chance(0.1) { scope.names(|d| !d.is_nested()) } else { scope.names(is_key) };
    if keys.is_empty() || g.chance(0.25) {
        keys.extend(g.pick_of(&others).filter(|n| !keys.contains(n)));
    }
    keys.truncate(most);
    keys
}

fn group_by(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let names = keys(g, scope, 3);
    let mut by: Vec<Expr> = names.into_iter().map(col).collect();
    if by.is_empty() || g.chance(0.15) {
        let e = exprs::any(g, scope, 2);
        by.push(named(g, e));
    }
    let list: Vec<Expr> = (0..1 + g.below(4))
        .map(|_| {
            let e = aggs::aggregate(g, scope);
            named(g, e)
        })
        .collect();
    let stable = g.chance(0.5);
    let mut groups = if stable { lf.group_by_stable(by) } else { lf.group_by(by) };
    if g.chance(0.08) {
        groups = groups.having(len().gt(lit(1)));
    }
    if g.chance(0.05) {
        return groups.head(Some(2));
    }
    groups.agg(list)
}

fn sort(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let mut by: Vec<PlSmallStr> = keys(g, scope, 3);
    if g.chance(0.3) {
        let any = scope.names(|d| !d.is_null());
        by.extend(g.pick_of(&any).filter(|n| !by.contains(n)));
    }
    if by.is_empty() {
        return lf;
    }
    let options = exprs::sort_options(g, by.len());
    let lf = lf.sort(by, options);
    if g.chance(0.35) { slice(g, lf) } else { lf }
}

fn top_k(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let by: Vec<Expr> = keys(g, scope, 2).into_iter().map(col).collect();
    if by.is_empty() {
        return lf;
    }
    let options = exprs::sort_options(g, by.len()).with_maintain_order(false);
    let k = g.below(10) as IdxSize;
    if g.chance(0.5) { lf.top_k(k, by, options) } else { lf.bottom_k(k, by, options) }
}

fn slice(g: &mut Gen, lf: LazyFrame) -> LazyFrame {
    match g.below(6) {
        0 => lf.limit(g.below(12) as IdxSize),
        1 => lf.tail(g.below(12) as IdxSize),
        2 => lf.slice(g.between(0, 30), g.below(20) as IdxSize),
        3 => lf.slice(-g.between(1, 30), g.below(20) as IdxSize),
        4 => lf.first(),
        _ => lf.slice(g.between(0, 3), 1 + g.below(500) as IdxSize),
    }
}

fn unique(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let keep = *g.pick(&[
        UniqueKeepStrategy::First,
        UniqueKeepStrategy::Last,
        UniqueKeepStrategy::None,
        UniqueKeepStrategy::Any,
    ]);
    let subset = if g.chance(0.25) {
        None
    } else {
        let names = keys(g, scope, 2);
        if names.is_empty() { None } else { Some(by_name(names, true, false)) }
    };
    if g.chance(0.5) { lf.unique_stable(subset, keep) } else { lf.unique(subset, keep) }
}

fn windows(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let by: Vec<Expr> = keys(g, scope, 2).into_iter().map(col).collect();
    if by.is_empty() {
        return lf;
    }
    let mut list = Vec::new();
    for _ in 0..1 + g.below(2) {
        let scalar = g.chance(0.5);
        let e = if scalar {
            let numbers = scope.names(|d| d.is_primitive_numeric());
            let n = g.pick_of(&numbers).map_or_else(len, col);
            match g.below(7) {
                0 => n.sum(),
                1 => n.max(),
                2 => n.mean(),
                3 => n.first(),
                4 => len(),
                5 => n.n_unique(),
                _ => n.last(),
            }
        } else {
            exprs::columnwise(g, scope)
        };
        let ordered = g.chance(0.3) && scope.has("id");
        let mapping = if g.chance(0.08) { WindowMapping::Join } else { WindowMapping::GroupsToRows };
        let options = SortOptions::default().with_order_descending(g.chance(0.3));
        let order: Option<(Vec<Expr>, SortOptions)> = ordered.then(|| (vec![col("id")], options));
        if let Ok(e) = e.over_with_options(Some(by.clone()), order, mapping) {
            list.push(named(g, e));
        }
    }
    lf.with_columns(list)
}

/// Rolling and dynamic groups over the time or an integer index, with or without keys.
fn temporal_groups(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let on_time = scope.has("t") && g.chance(0.7);
    let index = if on_time { "t" } else { "id" };
    if !scope.has(index) || (!on_time && scope.dtype("id") != Some(&DataType::Int64)) {
        return lf;
    }
    if on_time && !matches!(scope.dtype("t"), Some(DataType::Datetime(..))) {
        return lf;
    }
    let lf = lf.sort([index], SortMultipleOptions::default().with_maintain_order(true));
    let by: Vec<Expr> = if scope.has("k") && g.chance(0.5) { vec![col("k")] } else { Vec::new() };
    let list: Vec<Expr> = (0..1 + g.below(2))
        .map(|_| {
            let e = aggs::aggregate(g, scope);
            named(g, e)
        })
        .collect();
    let window = if on_time { *g.pick(&["1h", "1d", "3h"]) } else { *g.pick(&["2i", "5i"]) };
    let zero = if on_time { "0ns" } else { "0i" };
    let closed = *g.pick(&[ClosedWindow::Left, ClosedWindow::Right, ClosedWindow::Both, ClosedWindow::None]);
    if g.chance(0.5) {
        let period = Duration::parse(window);
        let options =
            RollingGroupOptions { index_column: index.into(), period, offset: -period, closed_window: closed };
        lf.rolling(col(index), by, options).agg(list)
    } else {
        let options = DynamicGroupOptions {
            index_column: index.into(),
            every: Duration::parse(window),
            period: Duration::parse(window),
            offset: Duration::parse(zero),
            label: *g.pick(&[Label::Left, Label::Right, Label::DataPoint]),
            include_boundaries: g.chance(0.2),
            closed_window: closed,
            start_by: StartBy::WindowBound,
        };
        lf.group_by_dynamic(col(index), by, options).agg(list)
    }
}

fn union(g: &mut Gen, plan: DslPlan, scope: &Scope, dir: &Path) -> PolarsResult<LazyFrame> {
    let lf = LazyFrame::from(plan.clone());
    let args = UnionArgs { maintain_order: g.chance(0.8), ..UnionArgs::default() };
    match g.below(4) {
        0 => concat([lf.clone(), lf.filter(exprs::boolean(g, scope, 1))], args),
        1 => concat_lf_diagonal([lf, LazyFrame::from(source(g, dir)?)], UnionArgs { to_supertypes: true, ..args }),
        2 => {
            let options = exprs::sort_options(g, 1);
            let by = keys(g, scope, 1);
            let other = if by.is_empty() { lf.clone() } else { lf.clone().sort(by, options) };
            concat([lf, other.limit(5)], args)
        }
        _ => concat([lf.clone(), lf.clone(), lf], args),
    }
}

fn horizontal(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> PolarsResult<LazyFrame> {
    let e = exprs::columnwise(g, scope);
    let other = lf.clone().select([named(g, e)]);
    let other = if g.chance(0.5) { slice(g, other) } else { other };
    let options = HConcatOptions { parallel: true, strict: false, broadcast_unit_length: false };
    concat_lf_horizontal([lf, other], options)
}

fn explode(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let lists = scope.names(|d| d.is_list() || d.is_array());
    let options = ExplodeOptions { empty_as_null: g.chance(0.7), keep_nulls: g.chance(0.7) };
    match g.pick_of(&lists) {
        Some(name) => lf.explode(by_name([name], true, false), options),
        None => {
            // No list column yet: make one.
            let name = g.name();
            let lf = lf.with_columns([lit("x-y-z").str().split(lit("-")).alias(name.clone())]);
            lf.explode(by_name([name], true, false), options)
        }
    }
}

fn unpivot(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let numbers = scope.names(|d| d.is_primitive_numeric());
    let on: Vec<PlSmallStr> = g.shuffled(&numbers).into_iter().take(3).collect();
    let index: Vec<PlSmallStr> =
        ["s", "id"].into_iter().map(PlSmallStr::from).filter(|n| scope.has(n) && !on.contains(n)).collect();
    if on.is_empty() {
        return lf;
    }
    lf.unpivot(UnpivotArgsDSL {
        on: Some(by_name(on, true, false)),
        index: by_name(index, true, false),
        variable_name: None,
        value_name: None,
    })
}

fn reductions(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let list: Vec<Expr> = (0..1 + g.below(5))
        .map(|_| {
            let e = aggs::aggregate(g, scope);
            named(g, e)
        })
        .collect();
    match g.below(8) {
        0 => lf.null_count(),
        1 => lf.count(),
        2 => lf.select([len()]),
        _ => lf.select(list),
    }
}

/// The result of expanding `pivot`: one aggregate for each of some values.
fn pivot_like(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let numbers = scope.names(|d| d.is_primitive_numeric());
    let (true, Some(value)) = (scope.has("k") && scope.has("s"), g.pick_of(&numbers)) else { return lf };
    let list: Vec<Expr> = ["a", "b", "huge"]
        .into_iter()
        .map(|v| col(value.clone()).filter(col("s").eq(lit(v))).sum().alias(format!("sum_{v}")))
        .collect();
    lf.group_by([col("k")]).agg(list)
}

fn rows_gone(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let name = g.pick_of(&scope.cols).map(|(n, _)| n);
    let subset = name.map(|n| by_name([n], true, false));
    match g.below(4) {
        0 => lf.drop_nulls(subset),
        1 => lf.reverse(),
        2 => lf.fill_null(lit(0)),
        _ => lf.shift(lit(1)),
    }
}

fn unnest(g: &mut Gen, lf: LazyFrame, scope: &Scope) -> LazyFrame {
    let structs = scope.names(|d| d.is_struct());
    match g.pick_of(&structs) {
        Some(name) => lf.unnest(by_name([name.clone()], true, false), Some("_".into())),
        None => lf.with_columns([as_struct(vec![lit(1).alias("one"), lit("x").alias("two")]).alias(g.name())]),
    }
}
