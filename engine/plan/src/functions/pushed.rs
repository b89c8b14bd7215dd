//! Filters as Python sources get them: JSON of which the child builds an expression of its own Polars. Only what means
//! the same in every release: comparisons of columns with literals, nulls, memberships, and their combinations.

use polars_core::prelude::*;
use polars_plan::dsl::{BooleanFunction, Expr, FunctionExpr, Operator};
use polars_plan::plans::{DynLiteralValue, LiteralValue};
use polars_utils::pl_str::PlSmallStr;
use serde_json::{Value, json};

use crate::membership;

/// The parts of a filter that can be said, all of which hold for the rows that it keeps. `None`: none can be said.
pub fn of_predicate(predicate: &Expr) -> Option<Value> {
    let (mut open, mut parts) = (vec![predicate], Vec::new());
    while let Some(expr) = open.pop() {
        match expr {
            Expr::BinaryExpr { left, op: Operator::And | Operator::LogicalAnd, right } => {
                open.extend([&**right, &**left]);
            }
            other => parts.extend(said(other)),
        }
    }
    parts.into_iter().reduce(|all, part| json!(["and", all, part]))
}

/// Names of the columns that an expression uses.
pub fn columns(expr: &Expr) -> Vec<PlSmallStr> {
    let names = expr.into_iter().filter_map(|expr| match expr {
        Expr::Column(name) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

fn said(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Column(name) => name_of(name),
        Expr::Literal(value) => literal(value),
        Expr::BinaryExpr { left, op, right } => {
            let op = match op {
                Operator::Eq => "eq",
                Operator::NotEq => "ne",
                Operator::Lt => "lt",
                Operator::LtEq => "le",
                Operator::Gt => "gt",
                Operator::GtEq => "ge",
                Operator::And | Operator::LogicalAnd => "and",
                Operator::Or | Operator::LogicalOr => "or",
                _ => return None,
            };
            Some(json!([op, said(left)?, said(right)?]))
        }
        Expr::Function { input, function: FunctionExpr::Boolean(function) } => match (function, input.as_slice()) {
            (BooleanFunction::IsNull, [of]) => Some(json!(["is_null", said(of)?])),
            (BooleanFunction::IsNotNull, [of]) => Some(json!(["is_not_null", said(of)?])),
            (BooleanFunction::Not, [of]) => Some(json!(["not", said(of)?])),
            (BooleanFunction::IsIn { nulls_equal: false }, [of, Expr::Literal(values)]) => {
                Some(json!(["is_in", said(of)?, members(values)?]))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Names that Polars in Python would take for a pattern are not said.
fn name_of(name: &PlSmallStr) -> Option<Value> {
    let pattern = name.starts_with('^') || name.contains('*');
    (!pattern).then(|| json!(["col", name.as_str()]))
}

fn literal(value: &LiteralValue) -> Option<Value> {
    match value {
        LiteralValue::Scalar(scalar) => scalar_value(scalar.as_any_value()).map(|value| json!(["lit", value])),
        LiteralValue::Dyn(DynLiteralValue::Int(value)) => {
            i64::try_from(*value).ok().map(|value| json!(["lit", {"plain": value}]))
        }
        LiteralValue::Dyn(DynLiteralValue::Float(value)) => {
            finite(*value).map(|value| json!(["lit", {"plain": value}]))
        }
        LiteralValue::Dyn(DynLiteralValue::Str(value)) => Some(json!(["lit", {"plain": value.as_str()}])),
        _ => None,
    }
}

fn members(list: &LiteralValue) -> Option<Vec<Value>> {
    membership::values(list)?.iter().map(scalar_value).collect()
}

/// A value and, where JSON has none of its kind, its type.
fn scalar_value(value: AnyValue<'_>) -> Option<Value> {
    Some(match value {
        AnyValue::Boolean(value) => json!({"plain": value}),
        AnyValue::String(value) => json!({"plain": value}),
        AnyValue::StringOwned(value) => json!({"plain": value.as_str()}),
        AnyValue::Int8(value) => json!({"plain": value}),
        AnyValue::Int16(value) => json!({"plain": value}),
        AnyValue::Int32(value) => json!({"plain": value}),
        AnyValue::Int64(value) => json!({"plain": value}),
        AnyValue::UInt8(value) => json!({"plain": value}),
        AnyValue::UInt16(value) => json!({"plain": value}),
        AnyValue::UInt32(value) => json!({"plain": value}),
        AnyValue::UInt64(value) => json!({"plain": value}),
        AnyValue::Float32(value) => json!({"plain": finite(f64::from(value))?}),
        AnyValue::Float64(value) => json!({"plain": finite(value)?}),
        AnyValue::Date(days) => json!({"date": days}),
        // Python has no nanoseconds.
        AnyValue::Datetime(value, TimeUnit::Nanoseconds, _)
        | AnyValue::DatetimeOwned(value, TimeUnit::Nanoseconds, _)
            if value % 1000 != 0 =>
        {
            return None;
        }
        AnyValue::Datetime(value, unit, zone) => {
            json!({"datetime": value, "unit": unit.to_ascii(), "zone": zone.map(|zone| zone.as_str())})
        }
        AnyValue::DatetimeOwned(value, unit, zone) => {
            json!({"datetime": value, "unit": unit.to_ascii(), "zone": zone.as_ref().map(|zone| zone.as_str())})
        }
        _ => return None,
    })
}

fn finite(value: f64) -> Option<f64> {
    Some(value).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use polars_plan::prelude::{col, lit};

    use super::*;

    #[test]
    fn parts_that_can_be_said_are_said_and_others_left_out() {
        let rounded = col("c").sqrt().gt(lit(2.5));
        let predicate =
            col("a").gt_eq(lit(3i64)).and(rounded.clone()).and(col("b").is_null().or(col("b").eq(lit("x"))));
        let want = json!(["and",
            ["ge", ["col", "a"], ["lit", {"plain": 3}]],
            ["or", ["is_null", ["col", "b"]], ["eq", ["col", "b"], ["lit", {"plain": "x"}]]]]);
        assert_eq!(of_predicate(&predicate), Some(want));
        assert_eq!(of_predicate(&rounded), None);
        assert_eq!(of_predicate(&col("^a.*$").gt(lit(1))), None);
        // One side of an alternative cannot be left out.
        assert_eq!(of_predicate(&rounded.or(col("a").eq(lit(1)))), None);
        assert_eq!(columns(&predicate), ["a", "c", "b", "b"].map(PlSmallStr::from));
    }
}
