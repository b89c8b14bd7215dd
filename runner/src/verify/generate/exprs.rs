//! Random expressions by dtype: row-wise ones for filters, keys and columns; `columnwise` adds those that see a whole
//! column (shifts, cumulations, ranks).

use polars::prelude::*;
use polars_plan::dsl::functions;

use super::frames::STRINGS;
use super::{Gen, Scope};

/// A row-wise expression of any dtype.
pub fn any(g: &mut Gen, scope: &Scope, depth: usize) -> Expr {
    if g.chance(0.06) {
        return several(g, scope);
    }
    let Some((name, dtype)) = g.pick_of(&scope.cols) else { return lit(1) };
    of(g, scope, col(name), &dtype, depth)
}

/// Makes an expression from one of this dtype; the result may have another dtype.
pub fn of(g: &mut Gen, scope: &Scope, e: Expr, dtype: &DataType, depth: usize) -> Expr {
    if depth == 0 || g.chance(0.15) {
        return e;
    }
    match g.below(14) {
        0 => return boolean(g, scope, depth - 1),
        1 => return e.is_null(),
        2 => return when(boolean(g, scope, depth - 1)).then(e.clone()).otherwise(alike(g, scope, dtype)),
        3 => return e.fill_null(alike(g, scope, dtype)),
        4 => return e.cast(target(g, dtype)),
        5 if g.chance(0.3) => return e.strict_cast(target(g, dtype)),
        6 => return coalesce(&[e, alike(g, scope, dtype)]),
        _ => {}
    }
    match dtype {
        DataType::Boolean => match g.below(3) {
            0 => e.not(),
            1 => e.xor(boolean(g, scope, depth - 1)),
            _ => e.cast(DataType::UInt8),
        },
        d if d.is_primitive_numeric() || d.is_decimal() => number(g, scope, e, d, depth),
        DataType::String => text(g, scope, e),
        DataType::Categorical(..) | DataType::Enum(..) => match g.below(5) {
            0 => e.cast(DataType::String),
            // The numbers of categories depend on the process's history; those of an enum do not.
            1 if dtype.is_enum() => e.to_physical(),
            2 => e.cat().len_chars(),
            3 => e.cat().starts_with("t".into()),
            _ => e.eq(lit(*g.pick(&["one", "low", "mid"]))),
        },
        DataType::Binary => match g.below(4) {
            0 => e.binary().size_bytes(),
            1 => e.binary().hex_encode(),
            2 => e.binary().base64_encode(),
            _ => e.binary().starts_with(lit(&b"\x00"[..])),
        },
        DataType::Date | DataType::Datetime(..) | DataType::Time => moment(g, scope, e, dtype),
        DataType::Duration(_) => match g.below(5) {
            0 => e.dt().total_seconds(false),
            1 => e.dt().total_hours(g.chance(0.5)),
            2 => e * lit(2),
            3 => -e,
            _ => e.abs(),
        },
        DataType::List(inner) => list(g, e, inner),
        DataType::Array(inner, _) => array(g, e, inner),
        DataType::Struct(fields) => match (g.below(4), g.pick_of(fields)) {
            (0, _) => e.struct_().json_encode(),
            (1, _) => e.struct_().rename_fields(["one"]),
            (_, Some(field)) => {
                let inner = e.struct_().field_by_name(&field.name);
                of(g, scope, inner, &field.dtype, depth - 1)
            }
            _ => e,
        },
        _ => e,
    }
}

/// An expression over several columns at once.
fn several(g: &mut Gen, scope: &Scope) -> Expr {
    let numbers = scope.names(DataType::is_primitive_numeric);
    let picked: Vec<Expr> = (0..2 + g.below(2)).filter_map(|_| g.pick_of(&numbers)).map(col).collect();
    let anything: Vec<Expr> = (0..1 + g.below(3)).filter_map(|_| g.pick_of(&scope.cols)).map(|(n, _)| col(n)).collect();
    let made = match g.below(7) {
        0 => functions::sum_horizontal(&picked, true),
        1 => functions::max_horizontal(&picked),
        2 => functions::min_horizontal(&picked),
        3 => functions::mean_horizontal(&picked, g.chance(0.5)),
        4 => concat_list(&picked),
        5 => Ok(concat_str(
            anything.iter().map(|e| e.clone().cast(DataType::String)).collect::<Vec<_>>(),
            "-",
            g.chance(0.5),
        )),
        _ => Ok(as_struct(anything.iter().enumerate().map(|(i, e)| e.clone().alias(format!("p{i}"))).collect())),
    };
    made.unwrap_or_else(|_| lit(0))
}

/// A predicate.
pub fn boolean(g: &mut Gen, scope: &Scope, depth: usize) -> Expr {
    if depth > 0 && g.chance(0.3) {
        let (l, r) = (boolean(g, scope, depth - 1), boolean(g, scope, depth - 1));
        return match g.below(3) {
            0 => l.and(r),
            1 => l.or(r),
            _ => l.not(),
        };
    }
    let Some((name, dtype)) = g.pick_of(&scope.cols) else { return lit(true) };
    let e = col(name);
    if g.chance(0.1) {
        return if g.chance(0.5) { e.is_not_null() } else { e.is_null() };
    }
    match &dtype {
        DataType::Boolean => e,
        DataType::String if g.chance(0.5) => match g.below(4) {
            0 => e.str().contains(lit("[a-c]"), true),
            1 => e.str().starts_with(lit("a")),
            2 => e.str().contains_literal(lit("e")),
            _ => e.str().len_chars().gt(lit(1)),
        },
        d if d.is_float() && g.chance(0.2) => {
            if g.chance(0.5) {
                e.is_nan()
            } else {
                e.is_finite()
            }
        }
        d if d.is_nested() || d.is_null() => {
            if d.is_list() {
                e.list().len().gt(lit(1))
            } else {
                e.is_not_null()
            }
        }
        d => {
            let other = alike(g, scope, d);
            match g.below(9) {
                0 => e.eq(other),
                1 => e.neq(other),
                2 => e.lt(other),
                3 => e.gt_eq(other),
                4 => e.eq_missing(other),
                5 => e.is_between(other, alike(g, scope, d), ClosedInterval::Both),
                6 if d.is_integer() => {
                    e.is_in(lit(Series::new("".into(), [1_i64, 2, 5])).cast(d.clone()).implode(true), false)
                }
                7 => e.lt_eq(other),
                _ => e.gt(other),
            }
        }
    }
}

/// A literal or another column of the same dtype.
pub fn alike(g: &mut Gen, scope: &Scope, dtype: &DataType) -> Expr {
    let same = scope.names(|d| d == dtype);
    if g.chance(0.35)
        && let Some(name) = g.pick_of(&same)
    {
        return col(name);
    }
    literal(g, dtype).or_else(|| g.pick_of(&same).map(col)).unwrap_or_else(|| lit(NULL))
}

fn literal(g: &mut Gen, dtype: &DataType) -> Option<Expr> {
    Some(match dtype {
        DataType::Boolean => lit(g.chance(0.5)),
        DataType::Int64 | DataType::Int32 => lit(g.between(-3, 6)),
        d if d.is_integer() => lit(g.between(0, 6)).cast(d.clone()),
        d if d.is_float() => lit(g.between(-20, 20) as f64 / 4.0),
        d if d.is_decimal() => lit(g.between(-20, 200)).cast(d.clone()),
        DataType::String => lit(*g.pick(&STRINGS)),
        DataType::Categorical(..) => lit(*g.pick(&["one", "two"])).cast(dtype.clone()),
        DataType::Enum(..) => lit(*g.pick(&["low", "high"])).cast(dtype.clone()),
        DataType::Binary => lit(&b"ab"[..]),
        DataType::Date => lit(g.between(18_000, 18_060)).cast(DataType::Int32).cast(DataType::Date),
        DataType::Datetime(TimeUnit::Microseconds, None) => {
            lit(1_700_000_000_000_000 + g.between(0, 300) * 3_600_000_000).cast(dtype.clone())
        }
        DataType::Time => lit(g.between(0, 86_399) * 1_000_000_000).cast(DataType::Time),
        DataType::Duration(unit) => lit(g.between(-5, 500)).cast(DataType::Duration(*unit)),
        _ => return None,
    })
}

fn number(g: &mut Gen, scope: &Scope, e: Expr, dtype: &DataType, depth: usize) -> Expr {
    let others = scope.names(|d| d.is_primitive_numeric());
    let other = match g.pick_of(&others) {
        Some(name) if g.chance(0.5) => col(name),
        _ => lit(g.between(1, 5)),
    };
    match g.below(17) {
        0 | 1 => e + other,
        2 => e - other,
        3 => e * lit(g.between(1, 3)),
        4 => e / other,
        5 => e.floor_div(other),
        6 => e % lit(g.between(1, 5)),
        7 => e.abs(),
        8 => -e,
        9 if !dtype.is_decimal() => e.clip(lit(-3), lit(7)),
        10 => e.round(1, RoundMode::HalfToEven),
        11 => e.floor(),
        12 if !dtype.is_decimal() => e.cast(DataType::Float64).sqrt(),
        13 => e.cast(DataType::String),
        14 => e.pow(lit(2)),
        15 => e.sign(),
        _ if depth > 1 => {
            let inner = e + lit(1);
            number(g, scope, inner, dtype, depth - 1)
        }
        _ => e,
    }
}

fn text(g: &mut Gen, scope: &Scope, e: Expr) -> Expr {
    match g.below(19) {
        0 => e.str().to_uppercase(),
        1 => e.str().to_lowercase(),
        2 => e.str().len_bytes(),
        3 => e.str().len_chars(),
        4 => e.str().slice(lit(g.between(-2, 2)), lit(2)),
        5 => e.str().head(lit(2)),
        6 => e.str().replace_all(lit("a"), lit("é"), true),
        7 => e.str().strip_chars(lit(NULL)),
        8 => e.str().split(lit("-")),
        9 => e + alike(g, scope, &DataType::String),
        10 => e.str().reverse(),
        11 => e.str().pad_start(lit(4), '*'),
        12 => e.str().zfill(lit(5)),
        13 => e.str().contains(lit("^[a-z]"), true),
        14 => e.str().extract(lit("([a-z]+)"), 1),
        15 => e.str().count_matches(lit("a"), true),
        16 => e.str().hex_encode(),
        17 => e.str().find_literal(lit("b")),
        _ => e.cast(DataType::Binary),
    }
}

fn moment(g: &mut Gen, scope: &Scope, e: Expr, dtype: &DataType) -> Expr {
    if matches!(dtype, DataType::Time) {
        return match g.below(3) {
            0 => e.dt().hour(),
            1 => e.dt().minute(),
            _ => e.cast(DataType::Int64),
        };
    }
    match g.below(14) {
        0 => e.dt().year(),
        1 => e.dt().month(),
        2 => e.dt().weekday(),
        3 => e.dt().ordinal_day(),
        4 => e.dt().truncate(lit(*g.pick(&["1d", "1mo", "1w"]))),
        5 => e.dt().offset_by(lit(*g.pick(&["1mo", "-3d", "1y"]))),
        6 => e.dt().to_string("%Y-%m-%d"),
        7 => e.dt().month_start(),
        8 => e.dt().month_end(),
        9 => e.dt().quarter(),
        10 => e.clone() - alike(g, scope, dtype),
        11 if matches!(dtype, DataType::Datetime(..)) => e.dt().hour(),
        12 if matches!(dtype, DataType::Datetime(..)) => e.dt().date(),
        13 if matches!(dtype, DataType::Datetime(..)) => e.dt().round(lit("6h")),
        _ => e.dt().is_leap_year(),
    }
}

fn list(g: &mut Gen, e: Expr, inner: &DataType) -> Expr {
    let options = SortOptions::default().with_order_descending(g.chance(0.5));
    match g.below(14) {
        0 => e.list().len(),
        1 if inner.is_primitive_numeric() => e.list().sum(),
        2 if inner.is_primitive_numeric() => e.list().mean(),
        3 => e.list().max(),
        4 => e.list().min(),
        5 => e.list().first(),
        6 => e.list().get(lit(g.between(-2, 2)), true),
        7 => e.list().eval(element().reverse()),
        8 => e.list().slice(lit(g.between(-2, 1)), lit(2)),
        9 if !inner.is_nested() => e.list().sort(options),
        10 => e.list().drop_nulls(),
        11 => e.list().shift(lit(1)),
        12 => e.list().eval(element().is_null()),
        _ => e.list().last(),
    }
}

fn array(g: &mut Gen, e: Expr, inner: &DataType) -> Expr {
    match g.below(6) {
        0 => e.arr().to_list(),
        1 if inner.is_primitive_numeric() => e.arr().sum(),
        2 => e.arr().get(lit(0), true),
        3 if !inner.is_nested() => e.arr().max(),
        4 if !inner.is_nested() => e.arr().sort(SortOptions::default()),
        _ => e.arr().shift(lit(1)),
    }
}

fn target(g: &mut Gen, from: &DataType) -> DataType {
    if from.is_nested() {
        return from.clone();
    }
    if from.is_temporal() {
        return g.pick(&[DataType::Int64, DataType::String]).clone();
    }
    g.pick(&[
        DataType::Int8,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt16,
        DataType::Int128,
        DataType::Float32,
        DataType::Float64,
        DataType::String,
        DataType::Boolean,
        DataType::Decimal(38, 3),
    ])
    .clone()
}

/// An expression over a whole column that keeps its length.
pub fn columnwise(g: &mut Gen, scope: &Scope) -> Expr {
    let numbers = scope.names(|d| d.is_primitive_numeric());
    let Some((name, _)) = g.pick_of(&scope.cols) else { return lit(1) };
    let e = col(name);
    let n = g.pick_of(&numbers).map_or_else(|| lit(1), col);
    let fixed = RollingOptionsFixedWindow { window_size: 1 + g.below(4), min_periods: 1, ..Default::default() };
    let method =
        *g.pick(&[RankMethod::Average, RankMethod::Min, RankMethod::Max, RankMethod::Dense, RankMethod::Ordinal]);
    let descending = g.chance(0.5);
    match g.below(24) {
        0 | 1 => e.shift(lit(g.between(-2, 2))),
        2 => n.cum_sum(descending),
        3 => n.cum_max(descending),
        4 => n.cum_count(descending),
        5 => n.diff(lit(1), polars_core::series::ops::NullBehavior::Ignore),
        6 => n.rank(RankOptions { method, descending }, None),
        7 => e.reverse(),
        8 => n.rolling_sum(fixed),
        9 => n.rolling_mean(fixed),
        10 => n.rolling_max(fixed),
        11 => e.is_first_distinct(),
        12 => e.is_unique(),
        13 => e.fill_null_with_strategy(FillNullStrategy::Forward(None)),
        14 => e.fill_null_with_strategy(FillNullStrategy::Backward(Some(1))),
        15 => n.clone() - n.mean(),
        16 => n.clone() / n.sum(),
        17 => e.clone().first(),
        18 => n.max(),
        19 => e.rle_id(),
        20 => n.interpolate(InterpolationMethod::Linear),
        21 => e.is_duplicated(),
        22 => len(),
        _ => e.n_unique(),
    }
}

/// A sort key with options that suit it.
pub fn sort_options(g: &mut Gen, keys: usize) -> SortMultipleOptions {
    let descending: Vec<bool> = (0..keys).map(|_| g.chance(0.4)).collect();
    let nulls_last: Vec<bool> = (0..keys).map(|_| g.chance(0.4)).collect();
    SortMultipleOptions::default()
        .with_order_descending_multi(descending)
        .with_nulls_last_multi(nulls_last)
        .with_maintain_order(g.chance(0.5))
}
