//! Builds functions by the traverser's names. Large namespaces are in `texts`.

use std::sync::Arc;

use polars::prelude::*;
use polars_plan::dsl::{BooleanFunction, Expr, FunctionExpr, RangeFunction};
use polars_plan::prelude::{lit, when};
use serde_json::Value;

use super::bounded::{Limit, bounded};
use super::exprs::{closed_window, duration};
use super::gauss::Gauss;
use super::plain::{plain, quantile_method};
use super::{damaged, lacking, parsed, product, texts, titles, values};
use floe_polars::polars_error;
use floe_wire::error::Result;

/// Arguments of a function that are not input columns.
pub struct Args<'a> {
    name: &'a str,
    args: &'a [Value],
}

impl<'a> Args<'a> {
    pub fn any(&self, at: usize) -> Result<&'a Value> {
        self.args.get(at).ok_or_else(|| damaged(format!("{} has too few arguments", self.name)))
    }

    fn wrong(&self, at: usize) -> floe_wire::error::QueryError {
        damaged(format!("argument {at} of {} is of another type than it should be", self.name))
    }

    pub fn bool(&self, at: usize) -> Result<bool> {
        self.any(at)?.as_bool().ok_or_else(|| self.wrong(at))
    }

    pub fn opt_bool(&self, at: usize) -> Result<Option<bool>> {
        Ok(self.any(at)?.as_bool())
    }

    pub fn int(&self, at: usize) -> Result<i64> {
        self.any(at)?.as_i64().ok_or_else(|| self.wrong(at))
    }

    pub fn size(&self, at: usize) -> Result<usize> {
        self.any(at)?.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| self.wrong(at))
    }

    pub fn small<T: TryFrom<i64>>(&self, at: usize) -> Result<T> {
        T::try_from(self.int(at)?).map_err(|_| self.wrong(at))
    }

    pub fn float(&self, at: usize) -> Result<f64> {
        values::float(self.any(at)?)?.ok_or_else(|| self.wrong(at))
    }

    pub fn text(&self, at: usize) -> Result<&'a str> {
        self.any(at)?.as_str().ok_or_else(|| self.wrong(at))
    }

    pub fn opt_text(&self, at: usize) -> Result<Option<&'a str>> {
        Ok(self.any(at)?.as_str())
    }

    pub fn list(&self, at: usize) -> Result<&'a [Value]> {
        self.any(at)?.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(at))
    }

    pub fn names(&self, at: usize) -> Result<Vec<PlSmallStr>> {
        self.list(at)?.iter().map(|name| name.as_str().map(PlSmallStr::from).ok_or_else(|| self.wrong(at))).collect()
    }

    pub fn floats(&self, at: usize) -> Result<Vec<f64>> {
        self.list(at)?.iter().map(|n| values::float(n)?.ok_or_else(|| self.wrong(at))).collect()
    }

    pub fn char(&self, at: usize) -> Result<char> {
        self.text(at)?.chars().next().ok_or_else(|| self.wrong(at))
    }

    pub fn dtype(&self, at: usize) -> Result<DataType> {
        values::dtype(self.any(at)?.get("dtype").ok_or_else(|| self.wrong(at))?)
    }

    pub fn span(&self, at: usize) -> Result<Duration> {
        duration(&serde_json::from_value(self.any(at)?.clone()).map_err(|_| self.wrong(at))?)
    }

    pub fn opt_span(&self, at: usize) -> Result<Option<Duration>> {
        if self.any(at)?.is_null() { Ok(None) } else { self.span(at).map(Some) }
    }

    pub fn unit(&self, at: usize) -> Result<TimeUnit> {
        values::time_unit(Some(self.any(at)?))
    }
}

pub fn build(name: &str, args: &[Value], input: Vec<Expr>, dtype: Option<&DataType>) -> Result<Expr> {
    let a = Args { name, args };
    if input.is_empty() {
        return Err(lacking(format!("the function {name} without arguments")));
    }
    if let Some(built) = by_others(&a, &input, dtype)? {
        return Ok(built);
    }
    let input = match (name, dtype) {
        ("StringFunction.PadStart", _) => within(Limit::PadStart, input, &[1])?,
        ("StringFunction.PadEnd", _) => within(Limit::PadEnd, input, &[1])?,
        ("RangeFunction.IntRanges", _) => within(Limit::Series, input, &[1, 0, 2])?,
        // Fields have the names of their expressions, which aliases in the newer plan are not part of.
        ("as_struct", Some(DataType::Struct(fields))) if fields.len() == input.len() => {
            input.into_iter().zip(fields).map(|(input, field)| input.alias(field.name().clone())).collect()
        }
        ("BooleanFunction.IsIn", _) if args.len() > 1 => alike(&a, input)?,
        _ => input,
    };
    let function = match name.split_once('.') {
        Some(("BooleanFunction", name)) => FunctionExpr::Boolean(boolean(name, &a)?),
        Some(("StringFunction", name)) => FunctionExpr::StringExpr(texts::string(name, &a, dtype)?),
        Some(("TemporalFunction", name)) => FunctionExpr::TemporalExpr(texts::temporal(name, &a)?),
        Some(("ListFunction", name)) => FunctionExpr::ListExpr(texts::list(name, &a)?),
        Some(("ArrayFunction", name)) => FunctionExpr::ArrayExpr(texts::array(name, &a)?),
        Some(("StructFunction", name)) => FunctionExpr::StructExpr(texts::structure(name, &a)?),
        Some(("BitwiseFunction", name)) => FunctionExpr::Bitwise(texts::bitwise(name)?),
        Some(("RangeFunction", name)) => FunctionExpr::Range(range(name, &a)?),
        Some(("RollingFunction", name)) => return rolling(name, &a, input),
        _ => plain(name, &a, args.len(), dtype)?,
    };
    Ok(Expr::Function { input, function })
}

/// Functions that this engine lacks, expressed by others.
fn by_others(a: &Args, input: &[Expr], dtype: Option<&DataType>) -> Result<Option<Expr>> {
    let two = || -> Result<(Expr, Expr)> {
        let [left, right] = input else { return Err(damaged(format!("{} takes two columns", a.name))) };
        Ok((left.clone(), right.clone()))
    };
    let built = match a.name {
        "decimal_mul" => {
            let (left, right) = two()?;
            let product = product::product(left, right, a.size(0)?);
            return product.map(Some).ok_or_else(|| damaged("a product of more than 38 digits"));
        }
        // Cast both sides to the scale of the result; the engine divides with 256-bit intermediates.
        "decimal_div" => {
            let (left, right) = two()?;
            let to = DataType::Decimal(38, a.size(0)?);
            left.strict_cast(to.clone()).true_div(right.strict_cast(to))
        }
        // Compute with integers in units of the last digit.
        "trunc_rem" if dtype.is_some_and(DataType::is_decimal) => {
            let (left, right) = two()?;
            let Some(DataType::Decimal(_, scale)) = dtype else { return Err(damaged("a decimal without a scale")) };
            let unit = lit(10i128.pow(u32::try_from(*scale).unwrap_or(0)));
            let (left, right) = (units(left, *scale), units(right, *scale));
            let rest = trunc_rem(left.clone(), right.clone()).strict_cast(DataType::Decimal(38, *scale));
            by_zero_fails(left, right, rest.true_div(unit.cast(DataType::Decimal(38, *scale))))
        }
        "trunc_int_div" if dtype.is_some_and(DataType::is_decimal) => {
            let (left, right) = two()?;
            let scale = scale_of(a.dtype(0)?).max(scale_of(a.dtype(1)?));
            let (left, right) = (units(left, scale), units(right, scale));
            let quotient = trunc_int_div(left.clone(), right.clone()).strict_cast(DataType::Decimal(38, 0));
            by_zero_fails(left, right, quotient)
        }
        // Nulls for what is no date or time, with the format that is found.
        "StringFunction.Strptime" if a.opt_text(0)?.is_none() && a.bool(2)? => {
            let (text, strict) = (input.first().cloned().ok_or_else(|| damaged("a cast of no text"))?, a.bool(1)?);
            return Ok(dtype.and_then(|dtype| parsed::parsed(text, dtype, strict)));
        }
        "erf" | "erfc" => {
            let [number] = input else { return Err(damaged(format!("{} takes one column", a.name))) };
            let function = if a.name == "erf" { Gauss::Erf } else { Gauss::Erfc };
            function.of(number.clone())
        }
        "approx_quantile" => {
            let (values, at) = two()?;
            quantile_of_any(values, at)
        }
        "StringFunction.Titlecase" => {
            let [text] = input else { return Err(damaged("INITCAP takes one column")) };
            titles::titled(text.clone())?
        }
        // Multiply in the element type, as Polars does: small integers wrap around.
        "ArrayFunction.Dot" => {
            let (left, right) = two()?;
            let list = |side: Expr| build("ArrayFunction.ToList", &[], vec![side], None);
            build("ListFunction.Sum", &[], vec![list(left)? * list(right)?], None)?
        }
        // Remainder of the division that truncates, from the one that rounds down.
        "trunc_rem" => {
            let (left, right) = two()?;
            trunc_rem(left, right)
        }
        "trunc_int_div" => {
            let (left, right) = two()?;
            if dtype.is_some_and(DataType::is_float) {
                left.true_div(right).truncate(0)
            } else {
                trunc_int_div(left, right)
            }
        }
        _ => return Ok(None),
    };
    // The literals above must not change the type.
    Ok(Some(match dtype {
        Some(dtype) => built.cast(dtype.clone()),
        None => built,
    }))
}

/// The value nearest to a quantile, of any type that has an order.
fn quantile_of_any(values: Expr, at: Expr) -> Expr {
    let last = values.clone().count().cast(DataType::Float64) - lit(1.0);
    let index = (last * at).round(0, RoundMode::HalfAwayFromZero).cast(DataType::Int64);
    Expr::Gather {
        expr: Arc::new(values.drop_nulls().sort(SortOptions::default())),
        idx: Arc::new(index),
        returns_scalar: true,
        null_on_oob: true,
    }
}

/// Remainder with the sign of the dividend.
fn trunc_rem(left: Expr, right: Expr) -> Expr {
    let rest = left.clone() % right.clone();
    let other_sign = left.lt(lit(0)).neq(right.clone().lt(lit(0)));
    when(rest.clone().neq(lit(0)).and(other_sign)).then(rest.clone() - right).otherwise(rest)
}

/// Quotient of integers, rounded to zero.
fn trunc_int_div(left: Expr, right: Expr) -> Expr {
    let rest = left.clone() % right.clone();
    let quotient = left.clone().floor_div(right.clone());
    let other_sign = left.lt(lit(0)).neq(right.lt(lit(0)));
    when(rest.neq(lit(0)).and(other_sign)).then(quotient.clone() + lit(1)).otherwise(quotient)
}

/// A decimal as an integer, in units of 10^-scale.
fn units(side: Expr, scale: usize) -> Expr {
    side.strict_cast(DataType::Decimal(38, scale)).to_physical()
}

/// `result`, and the error of a division by zero: what was computed with integers is null instead.
fn by_zero_fails(left: Expr, right: Expr, result: Expr) -> Expr {
    let whole = |side: Expr| side.strict_cast(DataType::Decimal(38, 0));
    when(right.clone().eq(lit(0))).then(whole(left).true_div(whole(right))).otherwise(result)
}

fn scale_of(dtype: DataType) -> usize {
    match dtype {
        DataType::Decimal(_, scale) => scale,
        _ => 0,
    }
}

/// The arguments with a limit on the first of those at `guarded`.
fn within(limit: Limit, mut input: Vec<Expr>, guarded: &[usize]) -> Result<Vec<Expr>> {
    let arguments = guarded.iter().map(|at| input.get(*at).cloned()).collect::<Option<Vec<_>>>();
    let arguments = arguments.ok_or_else(|| damaged("a function has too few arguments"))?;
    input[guarded[0]] = bounded(limit, arguments)?;
    Ok(input)
}

/// Both sides of an IN of decimals with one type: the engine compares none of two.
fn alike(a: &Args, input: Vec<Expr>) -> Result<Vec<Expr>> {
    let (value, item) = (a.dtype(1)?, a.dtype(2)?);
    let [left, right] = <[Expr; 2]>::try_from(input).map_err(|_| damaged("IN takes two columns"))?;
    let to = if value.is_float() || item.is_float() {
        DataType::Float64
    } else {
        DataType::Decimal(38, scale_of(value).max(scale_of(item)))
    };
    Ok(vec![left.strict_cast(to.clone()), right.strict_cast(DataType::List(Box::new(to)))])
}

fn boolean(name: &str, a: &Args) -> Result<BooleanFunction> {
    use BooleanFunction as B;
    Ok(match name {
        "Any" => B::Any { ignore_nulls: a.bool(0)? },
        "All" => B::All { ignore_nulls: a.bool(0)? },
        "IsEmpty" => B::IsEmpty { ignore_nulls: a.bool(0)? },
        "HasNulls" => B::HasNulls,
        "IsNull" => B::IsNull,
        "IsNotNull" => B::IsNotNull,
        "IsFinite" => B::IsFinite,
        "IsInfinite" => B::IsInfinite,
        "IsNan" => B::IsNan,
        "IsNotNan" => B::IsNotNan,
        "IsFirstDistinct" => B::IsFirstDistinct,
        "IsLastDistinct" => B::IsLastDistinct,
        "IsUnique" => B::IsUnique,
        "IsDuplicated" => B::IsDuplicated,
        "IsBetween" => B::IsBetween { closed: closed_interval(a.text(0)?)? },
        "IsIn" => B::IsIn { nulls_equal: a.bool(0)? },
        "IsClose" => B::IsClose {
            abs_tol: polars_utils::total_ord::TotalOrdWrap(a.float(0)?),
            rel_tol: polars_utils::total_ord::TotalOrdWrap(a.float(1)?),
            nans_equal: a.bool(2)?,
        },
        "IsSorted" => B::IsSorted { descending: a.opt_bool(0)?, nulls_last: a.opt_bool(1)? },
        "AllHorizontal" => B::AllHorizontal,
        "AnyHorizontal" => B::AnyHorizontal,
        "Not" => B::Not,
        _ => return Err(lacking(format!("the function BooleanFunction.{name}"))),
    })
}

fn closed_interval(name: &str) -> Result<ClosedInterval> {
    Ok(match name {
        "both" => ClosedInterval::Both,
        "left" => ClosedInterval::Left,
        "right" => ClosedInterval::Right,
        "none" => ClosedInterval::None,
        _ => return Err(damaged(format!("an interval that is closed {name}"))),
    })
}

fn range(name: &str, a: &Args) -> Result<RangeFunction> {
    use RangeFunction as R;
    let zone = |at| TimeZone::opt_try_new(a.opt_text(at)?).map_err(polars_error);
    let unit = |at| if a.any(at)?.is_null() { Ok(None) } else { a.unit(at).map(Some) };
    let arguments = |at| -> Result<DateRangeArgs> {
        Ok(match a.text(at)? {
            "start_end_interval" => DateRangeArgs::StartEndInterval,
            "start_end_samples" => DateRangeArgs::StartEndSamples,
            "start_interval_samples" => DateRangeArgs::StartIntervalSamples,
            "end_interval_samples" => DateRangeArgs::EndIntervalSamples,
            other => return Err(damaged(format!("a range of {other}"))),
        })
    };
    Ok(match name {
        "IntRange" => R::IntRange { step: a.int(0)?, dtype: a.dtype(1)?.into() },
        "IntRanges" => R::IntRanges { dtype: a.dtype(0)?.into() },
        "LinearSpace" => R::LinearSpace { closed: closed_interval(a.text(0)?)? },
        "DateRange" => {
            R::DateRange { interval: a.opt_span(0)?, closed: closed_window(a.text(1)?)?, arg_type: arguments(2)? }
        }
        "DateRanges" => {
            R::DateRanges { interval: a.opt_span(0)?, closed: closed_window(a.text(1)?)?, arg_type: arguments(2)? }
        }
        "DatetimeRange" => R::DatetimeRange {
            interval: a.opt_span(0)?,
            closed: closed_window(a.text(1)?)?,
            time_unit: unit(2)?,
            time_zone: zone(3)?,
            arg_type: arguments(4)?,
        },
        "DatetimeRanges" => R::DatetimeRanges {
            interval: a.opt_span(0)?,
            closed: closed_window(a.text(1)?)?,
            time_unit: unit(2)?,
            time_zone: zone(3)?,
            arg_type: arguments(4)?,
        },
        "TimeRange" => R::TimeRange { interval: a.span(0)?, closed: closed_window(a.text(1)?)? },
        "TimeRanges" => R::TimeRanges { interval: a.span(0)?, closed: closed_window(a.text(1)?)? },
        _ => return Err(lacking(format!("the function RangeFunction.{name}"))),
    })
}

/// Rolling windows with a fixed number of rows: (window_size, min_periods, weights, center, parameters).
fn rolling(name: &str, a: &Args, input: Vec<Expr>) -> Result<Expr> {
    let [column] = input.as_slice() else { return Err(lacking(format!("RollingFunction.{name} of several columns"))) };
    let weights = if a.any(2)?.is_null() { None } else { Some(a.floats(2)?) };
    let options = RollingOptionsFixedWindow {
        window_size: a.size(0)?,
        min_periods: a.size(1)?,
        weights,
        center: a.bool(3)?,
        fn_params: None,
    };
    let column = column.clone();
    let of = |at: usize| a.list(4)?.get(at).ok_or_else(|| damaged(format!("{name} has too few parameters")));
    let ddof = || of(0)?.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or_else(|| damaged("no ddof"));
    Ok(match name {
        "Min" => column.rolling_min(options),
        "Max" => column.rolling_max(options),
        "Mean" => column.rolling_mean(options),
        "Sum" => column.rolling_sum(options),
        "Var" => column.rolling_var(with_ddof(options, ddof()?)),
        "Std" => column.rolling_std(with_ddof(options, ddof()?)),
        "Quantile" => {
            let method = quantile_method(of(1)?.as_str().unwrap_or_default())?;
            column.rolling_quantile(method, values::float(of(0)?)?.unwrap_or(f64::NAN), options)
        }
        _ => return Err(lacking(format!("the function RollingFunction.{name}"))),
    })
}

fn with_ddof(options: RollingOptionsFixedWindow, ddof: u8) -> RollingOptionsFixedWindow {
    RollingOptionsFixedWindow { fn_params: Some(RollingFnParams::Var(RollingVarParams { ddof })), ..options }
}
