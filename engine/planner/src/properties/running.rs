//! Lists running functions that tasks can continue from one another: the types for which Polars has each, and the types
//! in which it computes them. A pair that is not in this table is never split: Polars itself gives its result, or says
//! why there is none.

use polars_core::prelude::*;
use polars_plan::plans::IRFunctionExpr;

/// What the function is computed from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Taken {
    Values,
    /// Values in the type in which Polars adds or multiplies them.
    As(DataType),
    /// Whether there is a value: a count is a running sum in 64 bits, cast back at the end.
    Counted,
}

/// A function over ordered rows for which a task needs just one value from each task before (or after) it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Running {
    pub taken: Taken,
    pub from_below: bool,
}

/// `output` is the type in the plan's schema: if Polars computes in another one, the function is not split.
pub(crate) fn running(function: &IRFunctionExpr, input: &DataType, output: &DataType) -> Option<Running> {
    use IRFunctionExpr as F;
    let (taken, from_below) = match function {
        F::CumSum { reverse } => (summed(input)?, *reverse),
        F::CumProd { reverse } => (multiplied(input)?, *reverse),
        F::CumMin { reverse } | F::CumMax { reverse } => (compared(input)?, *reverse),
        F::CumCount { reverse } => (Taken::Counted, *reverse),
        F::FillNullWithStrategy(FillNullStrategy::Forward(None)) => (filled(input)?, false),
        F::FillNullWithStrategy(FillNullStrategy::Backward(None)) => (filled(input)?, true),
        _ => return None,
    };
    let computed_in = match &taken {
        Taken::Values => input,
        Taken::As(dtype) => dtype,
        Taken::Counted => &DataType::IDX_DTYPE,
    };
    (computed_in == output).then_some(Running { taken, from_below })
}

/// Floats of fewer than 64 bits are left out: Polars sums them in 64 bits and rounds each result, so tasks would carry
/// on rounded values.
fn summed(input: &DataType) -> Option<Taken> {
    use DataType::{
        Boolean, Duration, Float64, Int8, Int16, Int32, Int64, Int128, UInt8, UInt16, UInt32, UInt64, UInt128,
    };
    match input {
        Boolean => Some(Taken::As(UInt32)),
        Int8 | UInt8 | Int16 | UInt16 => Some(Taken::As(Int64)),
        Int32 | UInt32 | Int64 | UInt64 | Int128 | UInt128 | Float64 | Duration(_) => Some(Taken::Values),
        _ => None,
    }
}

fn multiplied(input: &DataType) -> Option<Taken> {
    use DataType::{Boolean, Float64, Int8, Int16, Int32, Int64, Int128, UInt8, UInt16, UInt32, UInt64, UInt128};
    match input {
        Boolean | Int8 | UInt8 | Int16 | UInt16 | Int32 | UInt32 => Some(Taken::As(Int64)),
        Int64 | UInt64 | Int128 | UInt128 | Float64 => Some(Taken::Values),
        _ => None,
    }
}

/// Enums and categoricals are left out: Polars compares their numbers, which only mean something within one process.
fn compared(input: &DataType) -> Option<Taken> {
    let numbers = input.is_primitive_numeric() || input.is_temporal() || input.is_bool() || input.is_decimal();
    numbers.then_some(Taken::Values)
}

fn filled(input: &DataType) -> Option<Taken> {
    (!input.is_nested() && !input.is_null()).then_some(Taken::Values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_split_only_if_polars_computes_in_the_planned_type() {
        let sum = IRFunctionExpr::CumSum { reverse: false };
        let product = IRFunctionExpr::CumProd { reverse: true };
        let least = IRFunctionExpr::CumMin { reverse: false };
        let taken = |function: &IRFunctionExpr, input: DataType, output: DataType| {
            running(function, &input, &output).map(|running| running.taken)
        };
        assert_eq!(taken(&sum, DataType::Int8, DataType::Int64), Some(Taken::As(DataType::Int64)));
        assert_eq!(taken(&sum, DataType::Int32, DataType::Int32), Some(Taken::Values));
        // The plan says Int64, but Polars computes in 128 bits.
        assert_eq!(taken(&sum, DataType::UInt128, DataType::Int64), None);
        assert_eq!(taken(&product, DataType::UInt128, DataType::Int64), None);
        for text in [DataType::String, DataType::Date, DataType::Time, DataType::Null, DataType::Binary] {
            assert_eq!(taken(&sum, text.clone(), DataType::Int64), None);
            assert_eq!(taken(&sum, text.clone(), text.clone()), None);
            assert_eq!(taken(&product, text.clone(), DataType::Int64), None);
        }
        assert_eq!(taken(&least, DataType::Date, DataType::Date), Some(Taken::Values));
        assert_eq!(taken(&least, DataType::String, DataType::String), None);
        let nested = DataType::List(Box::new(DataType::Int64));
        let fill = IRFunctionExpr::FillNullWithStrategy(FillNullStrategy::Backward(None));
        assert_eq!(taken(&fill, nested.clone(), nested), None);
        let filled = running(&fill, &DataType::String, &DataType::String);
        assert_eq!(filled, Some(Running { taken: Taken::Values, from_below: true }));
    }
}
