//! Builds functions that belong to no namespace.

use polars::prelude::*;
use polars_plan::dsl::{FunctionExpr, PowFunction, TrigonometricFunction};

use super::functions::Args;
use super::{damaged, lacking, texts};
use floe_wire::error::Result;

pub fn quantile_method(name: &str) -> Result<QuantileMethod> {
    Ok(match name {
        "nearest" => QuantileMethod::Nearest,
        "lower" => QuantileMethod::Lower,
        "higher" => QuantileMethod::Higher,
        "midpoint" => QuantileMethod::Midpoint,
        "linear" => QuantileMethod::Linear,
        "equiprobable" => QuantileMethod::Equiprobable,
        _ => return Err(damaged(format!("the quantile method {name}"))),
    })
}

fn trigonometry(name: &str) -> Option<TrigonometricFunction> {
    use TrigonometricFunction as T;
    Some(match name {
        "cos" => T::Cos,
        "cot" => T::Cot,
        "sin" => T::Sin,
        "tan" => T::Tan,
        "arccos" => T::ArcCos,
        "arcsin" => T::ArcSin,
        "arctan" => T::ArcTan,
        "cosh" => T::Cosh,
        "sinh" => T::Sinh,
        "tanh" => T::Tanh,
        "arccosh" => T::ArcCosh,
        "arcsinh" => T::ArcSinh,
        "arctanh" => T::ArcTanh,
        "degrees" => T::Degrees,
        "radians" => T::Radians,
        _ => return None,
    })
}

pub fn plain(name: &str, a: &Args, arguments: usize, dtype: Option<&DataType>) -> Result<FunctionExpr> {
    use FunctionExpr as F;
    if let Some(function) = trigonometry(name) {
        return Ok(F::Trigonometry(function));
    }
    let seed = |at: usize| -> Result<Option<u64>> { Ok(a.any(at)?.as_i64().map(|seed| seed as u64)) };
    Ok(match name {
        "abs" => F::Abs,
        "negate" => F::Negate,
        "null_count" => F::NullCount,
        "pow" => F::Pow(PowFunction::Generic),
        "sqrt" => F::Pow(PowFunction::Sqrt),
        "cbrt" => F::Pow(PowFunction::Cbrt),
        "hash" => {
            let part = |at: usize| a.any(at)?.as_u64().ok_or_else(|| damaged("a seed of hash"));
            F::Hash(part(0)?, part(1)?, part(2)?, part(3)?)
        }
        "argwhere" => F::ArgWhere,
        "index_of" => F::IndexOf,
        "atan2" => F::Atan2,
        "sign" => F::Sign,
        "fill_null" => F::FillNull,
        "fill_null_with_strategy" => {
            let limit = a.any(1)?.as_u64().map(|n| n as IdxSize);
            F::FillNullWithStrategy(match a.text(0)? {
                "forward" => FillNullStrategy::Forward(limit),
                "backward" => FillNullStrategy::Backward(limit),
                "min" => FillNullStrategy::Min,
                "max" => FillNullStrategy::Max,
                "mean" => FillNullStrategy::Mean,
                "zero" => FillNullStrategy::Zero,
                "one" => FillNullStrategy::One,
                other => return Err(damaged(format!("fill_null by {other}"))),
            })
        }
        "rechunk" => F::Rechunk,
        "shift_and_fill" => F::ShiftAndFill,
        "shift" => F::Shift,
        "drop_nans" => F::DropNans,
        "drop_nulls" => F::DropNulls,
        "quantile" => F::Quantile { method: quantile_method(a.text(0)?)? },
        "mode" => F::Mode { maintain_order: a.bool(0)? },
        "skew" => F::Skew(a.bool(0)?),
        "kurtosis" => F::Kurtosis(a.bool(0)?, a.bool(1)?),
        "repeat_by" => F::RepeatBy,
        "arg_unique" => F::ArgUnique,
        "arg_min" => F::ArgMin,
        // The traverser also uses this name for arg_sort.
        "arg_max" if arguments == 2 => F::ArgSort { descending: a.bool(0)?, nulls_last: a.bool(1)? },
        "arg_max" => F::ArgMax,
        "arg_sort" => F::ArgSort { descending: a.bool(0)?, nulls_last: a.bool(1)? },
        "min_by" => F::MinBy,
        "max_by" => F::MaxBy,
        "product" => F::Product,
        "repeat" => F::Repeat,
        "rank" => F::Rank {
            options: RankOptions {
                method: match a.text(0)? {
                    "average" => RankMethod::Average,
                    "min" => RankMethod::Min,
                    "max" => RankMethod::Max,
                    "dense" => RankMethod::Dense,
                    "ordinal" => RankMethod::Ordinal,
                    "random" => RankMethod::Random,
                    other => return Err(damaged(format!("the rank method {other}"))),
                },
                descending: a.bool(1)?,
            },
            seed: seed(2)?,
        },
        "clip" => F::Clip { has_min: a.bool(0)?, has_max: a.bool(1)? },
        "as_list" => F::AsList,
        "as_struct" => F::AsStruct,
        "top_k" => F::TopK { descending: a.bool(0)? },
        "cum_count" => F::CumCount { reverse: a.bool(0)? },
        "cum_sum" => F::CumSum { reverse: a.bool(0)? },
        "cum_prod" => F::CumProd { reverse: a.bool(0)? },
        "cum_min" => F::CumMin { reverse: a.bool(0)? },
        "cum_max" => F::CumMax { reverse: a.bool(0)? },
        "reverse" => F::Reverse,
        "value_counts" => {
            F::ValueCounts { sort: a.bool(0)?, parallel: a.bool(1)?, name: a.text(2)?.into(), normalize: a.bool(3)? }
        }
        "unique_counts" => F::UniqueCounts,
        "approx_n_unique" => F::ApproxNUnique,
        "coalesce" => F::Coalesce,
        "diff" => F::Diff(texts::null_behavior(a.text(0)?)?),
        "pct_change" => F::PctChange,
        "interpolate" => F::Interpolate(match a.text(0)? {
            "nearest" => InterpolationMethod::Nearest,
            _ => InterpolationMethod::Linear,
        }),
        "interpolate_by" => F::InterpolateBy,
        "entropy" => F::Entropy { base: a.float(0)?, normalize: a.bool(1)? },
        "log" => F::Log,
        "log1p" => F::Log1p,
        "exp" => F::Exp,
        "unique" => F::Unique(a.bool(0)?),
        "round" => F::Round {
            decimals: a.small(0)?,
            mode: match a.text(1)? {
                "half_to_even" => RoundMode::HalfToEven,
                "half_away_from_zero" => RoundMode::HalfAwayFromZero,
                other => return Err(lacking(format!("rounding {other}"))),
            },
        },
        "round_sig_figs" => F::RoundSF { digits: a.small(0)? },
        "truncate" => F::Truncate { decimals: a.small(0)? },
        "floor" => F::Floor,
        "ceil" => F::Ceil,
        "concat" => F::ConcatExpr(a.bool(0)?),
        "corr" => F::Correlation {
            method: match a.text(0)? {
                "pearson" => polars_plan::dsl::CorrelationMethod::Pearson,
                "spearman_rank" => polars_plan::dsl::CorrelationMethod::SpearmanRank(a.bool(1)?),
                "covariance" => polars_plan::dsl::CorrelationMethod::Covariance(a.small(1)?),
                other => return Err(lacking(format!("the correlation {other}"))),
            },
        },
        // The traverser swaps these two names.
        "peak_max" => F::PeakMin,
        "peak_min" => F::PeakMax,
        "cut" => F::Cut {
            breaks: a.floats(0)?,
            labels: if a.any(1)?.is_null() { None } else { Some(a.names(1)?) },
            left_closed: a.bool(2)?,
            include_breaks: a.bool(3)?,
        },
        "qcut" => F::QCut {
            probs: a.floats(0)?,
            labels: if a.any(1)?.is_null() { None } else { Some(a.names(1)?) },
            left_closed: a.bool(2)?,
            allow_duplicates: a.bool(3)?,
            include_breaks: a.bool(4)?,
        },
        "rle" => F::RLE,
        "rle_id" => F::RLEID,
        "to_physical" => F::ToPhysical,
        "max_horizontal" => F::MaxHorizontal,
        "min_horizontal" => F::MinHorizontal,
        "sum_horizontal" => F::SumHorizontal { ignore_nulls: a.bool(0)? },
        "mean_horizontal" => F::MeanHorizontal { ignore_nulls: a.bool(0)? },
        "replace" => F::Replace,
        "replace_strict" => F::ReplaceStrict { return_dtype: dtype.cloned().map(Into::into) },
        "gather_every" => F::GatherEvery { n: a.size(1)?, offset: a.size(0)? },
        "reinterpret" => F::Reinterpret(None, Some(a.dtype(0)?)),
        "extend_constant" => F::ExtendConstant,
        "top_k_by" => {
            let flags = a.list(0)?.iter().map(|flag| flag.as_bool().ok_or_else(|| damaged("top_k_by")));
            F::TopKBy { descending: flags.collect::<Result<_>>()? }
        }
        _ => return Err(lacking(format!("the function {name}"))),
    })
}
