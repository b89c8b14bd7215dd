//! Random aggregates by dtype: those that split into partial and final, those that need a whole group, and
//! expressions over them.

use polars::prelude::*;

use super::{Gen, Scope, exprs};

/// An aggregate over some column, without a name of its own.
pub fn aggregate(g: &mut Gen, scope: &Scope) -> Expr {
    if g.chance(0.08) {
        return len();
    }
    let Some((name, dtype)) = g.pick_of(&scope.cols) else { return len() };
    let mut e = col(name);
    if g.chance(0.12) {
        e = e.filter(exprs::boolean(g, scope, 1));
    }
    if dtype.is_primitive_numeric() && g.chance(0.1) {
        e = e + lit(1);
    }
    let one = of(g, scope, e, &dtype);
    if dtype.is_primitive_numeric() && g.chance(0.12) {
        let numbers = scope.names(|d| d.is_primitive_numeric());
        let other = g.pick_of(&numbers).map_or_else(len, |n| col(n).sum());
        return match g.below(3) {
            0 => other / len(),
            1 => other + lit(1),
            _ => other.clone() - other,
        };
    }
    one
}

fn of(g: &mut Gen, scope: &Scope, e: Expr, dtype: &DataType) -> Expr {
    // Aggregates that every dtype has.
    match g.below(24) {
        0 => return e.first(),
        1 => return e.last(),
        2 => return e.count(),
        3 => return e.null_count(),
        4 => return e,
        5 => return e.head(Some(2)),
        6 => return e.tail(Some(1)),
        7 if scope.has("id") => return e.sort_by([col("id")], SortMultipleOptions::default()).first(),
        8 => return e.len(),
        9 if !dtype.is_nested() => return e.n_unique(),
        10 if !dtype.is_nested() => return e.unique().len(),
        11 => return e.reverse(),
        12 => return e.slice(lit(1), lit(2)),
        13 => return e.implode(true),
        14 => return e.drop_nulls().first(),
        15 => return e.has_nulls(),
        _ => {}
    }
    match dtype {
        DataType::Boolean => match g.below(4) {
            0 => e.any(g.chance(0.5)),
            1 => e.all(g.chance(0.5)),
            2 => e.sum(),
            _ => e.mean(),
        },
        d if d.is_primitive_numeric() => match g.below(20) {
            0..=2 => e.sum(),
            3 | 4 => e.mean(),
            5 => e.min(),
            6 => e.max(),
            7 => e.median(),
            8 => e.std(1),
            9 => e.var(g.below(2) as u8),
            10 => e.quantile(
                lit(0.25),
                *g.pick(&[QuantileMethod::Nearest, QuantileMethod::Linear, QuantileMethod::Lower]),
            ),
            11 => e.arg_max(),
            12 => e.arg_min(),
            13 => e.sort(SortOptions::default()),
            14 => e.cum_sum(false),
            15 => e.max() - col_like(g, scope).min(),
            16 => e.sum() / len(),
            17 => e.top_k(lit(2)),
            18 => e.is_null().sum(),
            _ => (e * lit(2)).sum(),
        },
        d if d.is_decimal() => match g.below(4) {
            0 => e.sum(),
            1 => e.min(),
            2 => e.max(),
            _ => e.mean(),
        },
        d if d.is_temporal() => match g.below(4) {
            0 => e.min(),
            1 => e.max(),
            2 => e.mean(),
            _ => e.median(),
        },
        DataType::String => match g.below(5) {
            0 => e.min(),
            1 => e.max(),
            2 => e.str().join("|", true),
            3 => e.mode(true),
            _ => e.sort(SortOptions::default()),
        },
        DataType::Binary | DataType::Categorical(..) | DataType::Enum(..) => {
            if g.chance(0.5) {
                e.min()
            } else {
                e.max()
            }
        }
        _ => e.first(),
    }
}

fn col_like(g: &mut Gen, scope: &Scope) -> Expr {
    let numbers = scope.names(|d| d.is_primitive_numeric());
    g.pick_of(&numbers).map_or_else(|| lit(0), col)
}
