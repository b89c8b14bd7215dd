//! Finds functions over windows of rows whose results do not depend on the row at which Polars begins. Polars moves
//! from window to window by subtracting the rows that leave and adding those that enter, so sums and moments of floats
//! carry the rounding errors of all earlier rows along. A task that begins in the middle would round differently (0.0
//! on one node becomes −2.8e-14), so these are computed in one task. Functions that are exact, or computed anew for
//! each window, are split.

use polars_core::prelude::*;
use polars_plan::plans::{
    AExpr, ArenaExprIter, IRAggExpr, IRFunctionExpr, IRRollingFunction, IRRollingFunctionBy, ToFieldContext,
};
use polars_time::prelude::RollingOptionsDynamicWindow;
use polars_utils::arena::{Arena, Node};

/// Whether a function over windows of a fixed number of rows can be split.
pub(crate) fn rolls_exactly(function: &IRRollingFunction, options: &RollingOptionsFixedWindow, of: &DataType) -> bool {
    use IRRollingFunction as F;
    match function {
        F::Min | F::Max | F::Quantile => true,
        F::Rank => ranks_exactly(options.fn_params.as_ref()),
        F::CorrCov { .. } | F::Map(_) => false,
        // Weighted windows are each summed anew.
        F::Sum | F::Mean | F::Var | F::Std if options.weights.is_some() => true,
        F::Sum => sums_exactly(of),
        F::Mean => averages_exactly(of),
        F::Var | F::Std | F::Skew | F::Kurtosis => false,
    }
}

/// Whether a function over windows of a span of another column can be split.
pub(crate) fn rolls_exactly_by(
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

/// Whether an aggregate over overlapping groups of rows can be split.
pub(crate) fn aggregates_exactly(node: Node, schema: &Schema, arena: &Arena<AExpr>) -> bool {
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

/// Aggregates that differ between windows and group-bys by key: for types that cannot be summed, windows give nulls, and
/// where floats hold NaN, the index of the least and greatest value depends on how groups are laid out.
pub(crate) fn needs_windows(node: Node, schema: &Schema, arena: &Arena<AExpr>) -> bool {
    let dtype = |of: &Node| arena.get(*of).to_dtype(&ToFieldContext::new(arena, schema)).unwrap_or(DataType::Null);
    arena.iter(node).any(|(_, ae)| match ae {
        AExpr::Agg(IRAggExpr::Sum(of) | IRAggExpr::Mean(of)) => {
            let of = dtype(of);
            !(of.is_primitive_numeric() || of.is_decimal() || of.is_bool() || of.is_duration())
        }
        AExpr::Function { input, function: IRFunctionExpr::ArgMin | IRFunctionExpr::ArgMax, .. } => {
            input.iter().any(|of| dtype(&of.node()).is_float())
        }
        _ => false,
    })
}

fn sums_exactly(of: &DataType) -> bool {
    of.is_integer() || of.is_bool() || of.is_decimal() || of.is_duration()
}

/// Means are computed in 64-bit floats: integers of up to 32 bits sum exactly, for windows of up to two million extreme
/// values.
fn averages_exactly(of: &DataType) -> bool {
    use DataType::{Boolean, Int8, Int16, Int32, UInt8, UInt16, UInt32};
    matches!(of, Boolean | Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32)
}

/// Random tie-breaking draws row after row, so it depends on where a task begins.
fn ranks_exactly(params: Option<&RollingFnParams>) -> bool {
    !matches!(params, Some(RollingFnParams::Rank { method: RollingRankMethod::Random, .. }))
}
