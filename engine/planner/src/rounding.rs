//! Functions over windows of rows whose results are the same wherever Polars begins. It goes from window to window by taking
//! off the rows that leave and adding those that come: sums and moments of floats carry the rounding of every row before
//! along. A task that begins in the middle would round otherwise, and what is 0.0 on one node would be −2.8e-14, so these
//! are computed in one task. What is exact, and what is made anew for each window, is split.

use polars_core::prelude::*;
use polars_plan::plans::{
    AExpr, ArenaExprIter, IRAggExpr, IRFunctionExpr, IRRollingFunction, IRRollingFunctionBy, ToFieldContext,
};
use polars_time::prelude::RollingOptionsDynamicWindow;
use polars_utils::arena::{Arena, Node};

/// Over a number of rows.
pub(super) fn rolls_exactly(function: &IRRollingFunction, options: &RollingOptionsFixedWindow, of: &DataType) -> bool {
    use IRRollingFunction as F;
    match function {
        F::Min | F::Max | F::Quantile => true,
        F::Rank => ranks_exactly(options.fn_params.as_ref()),
        F::CorrCov { .. } | F::Map(_) => false,
        // Weighted windows are summed one by one.
        F::Sum | F::Mean | F::Var | F::Std if options.weights.is_some() => true,
        F::Sum => sums_exactly(of),
        F::Mean => averages_exactly(of),
        F::Var | F::Std | F::Skew | F::Kurtosis => false,
    }
}

/// Over a span of another column.
pub(super) fn rolls_exactly_by(
    function: &IRRollingFunctionBy,
    options: &RollingOptionsDynamicWindow,
    of: &DataType,
) -> bool {
    use IRRollingFunctionBy as F;
    match function {
        F::MinBy | F::MaxBy | F::QuantileBy => true,
        F::RankBy => ranks_exactly(options.fn_params.as_ref()),
        F::SumBy => sums_exactly(of),
        F::MeanBy => averages_exactly(of),
        F::VarBy | F::StdBy => false,
    }
}

/// Aggregates over groups of rows that overlap.
pub(super) fn aggregates_exactly(node: Node, schema: &Schema, arena: &Arena<AExpr>) -> bool {
    let dtype = |of: &Node| arena.get(*of).to_dtype(&ToFieldContext::new(arena, schema)).ok();
    arena.iter(node).all(|(_, ae)| match ae {
        AExpr::Agg(IRAggExpr::Sum(of)) => dtype(of).is_some_and(|of| sums_exactly(&of)),
        AExpr::Agg(IRAggExpr::Mean(of)) => dtype(of).is_some_and(|of| averages_exactly(&of)),
        AExpr::Agg(IRAggExpr::Var(..) | IRAggExpr::Std(..)) => false,
        AExpr::Function {
            function: IRFunctionExpr::RollingExpr { .. } | IRFunctionExpr::RollingExprBy { .. }, ..
        } => false,
        _ => true,
    })
}

/// Aggregates that windows have and groups by key have not: of what cannot be added up, windows give nulls.
pub(super) fn needs_windows(node: Node, schema: &Schema, arena: &Arena<AExpr>) -> bool {
    let dtype = |of: &Node| arena.get(*of).to_dtype(&ToFieldContext::new(arena, schema)).unwrap_or(DataType::Null);
    arena.iter(node).any(|(_, ae)| match ae {
        AExpr::Agg(IRAggExpr::Sum(of) | IRAggExpr::Mean(of)) => {
            let of = dtype(of);
            !(of.is_primitive_numeric() || of.is_decimal() || of.is_bool() || of.is_duration())
        }
        _ => false,
    })
}

fn sums_exactly(of: &DataType) -> bool {
    of.is_integer() || of.is_bool() || of.is_decimal() || of.is_duration()
}

/// As floats of 64 bits: whole numbers of up to 32 bits add up exactly, in windows of up to two million rows at their largest.
fn averages_exactly(of: &DataType) -> bool {
    use DataType::{Boolean, Int8, Int16, Int32, UInt8, UInt16, UInt32};
    matches!(of, Boolean | Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32)
}

/// Ties broken by chance are broken by one row after the other.
fn ranks_exactly(params: Option<&RollingFnParams>) -> bool {
    !matches!(params, Some(RollingFnParams::Rank { method: RollingRankMethod::Random, .. }))
}
