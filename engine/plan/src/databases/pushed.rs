//! Filters of a plan as conditions that a database can be asked for. What is said here means the same for each row in
//! Polars; whether it does so in the database, too, is for `floe_postgres::sql` to decide.

use floe_postgres::pushed::{Clause, Comparison, Literal};
use polars::prelude::ClosedInterval;
use polars_core::prelude::*;
use polars_plan::dsl::{BooleanFunction, Expr, FunctionExpr, Operator, StringFunction};
use polars_plan::plans::{DynLiteralValue, LiteralValue};

use crate::membership;

/// The condition that an expression is; nothing if it cannot be said.
pub(super) fn clause(expr: &Expr, schema: &Schema) -> Option<Clause> {
    let inner = |expr: &Expr| clause(expr, schema);
    match expr {
        Expr::Column(name) => (schema.get(name)? == &DataType::Boolean).then(|| Clause::True(name.to_string())),
        Expr::BinaryExpr { left, op, right } => match op {
            Operator::And | Operator::LogicalAnd => Some(Clause::All(vec![inner(left)?, inner(right)?])),
            Operator::Or | Operator::LogicalOr => Some(Clause::Any(vec![inner(left)?, inner(right)?])),
            op => compared(left, comparison(*op)?, right, schema),
        },
        Expr::Function { input, function: FunctionExpr::Boolean(function) } => match (function, input.as_slice()) {
            (BooleanFunction::IsNull, [Expr::Column(name)]) => Some(Clause::Null(known(name, schema)?)),
            (BooleanFunction::IsNotNull, [Expr::Column(name)]) => Some(Clause::NotNull(known(name, schema)?)),
            (BooleanFunction::Not, [of]) => Some(Clause::Not(Box::new(inner(of)?))),
            (BooleanFunction::IsIn { nulls_equal: false }, [column, Expr::Literal(values)]) => {
                let name = widened(column, schema)?;
                Some(Clause::In { column: known(name, schema)?, of: members(values, schema.get(name)?)? })
            }
            (BooleanFunction::IsBetween { closed }, [of @ Expr::Column(_), low, high]) => {
                let (from, to) = match closed {
                    ClosedInterval::Both => (Comparison::GreaterOrEqual, Comparison::LessOrEqual),
                    ClosedInterval::Left => (Comparison::GreaterOrEqual, Comparison::Less),
                    ClosedInterval::Right => (Comparison::Greater, Comparison::LessOrEqual),
                    ClosedInterval::None => (Comparison::Greater, Comparison::Less),
                };
                Some(Clause::All(vec![compared(of, from, low, schema)?, compared(of, to, high, schema)?]))
            }
            _ => None,
        },
        Expr::Function { input, function: FunctionExpr::StringExpr(StringFunction::StartsWith) } => {
            let [Expr::Column(name), Expr::Literal(prefix)] = input.as_slice() else { return None };
            let Literal::String(prefix) = literal(prefix, schema.get(name)?)? else { return None };
            Some(Clause::StartsWith { column: known(name, schema)?, prefix })
        }
        _ => None,
    }
}

/// A column, also one whose integers are made wider to be compared with others.
fn widened<'e>(expr: &'e Expr, schema: &Schema) -> Option<&'e PlSmallStr> {
    match expr {
        Expr::Column(name) => Some(name),
        Expr::Cast { expr, dtype, .. } => {
            let Expr::Column(name) = expr.as_ref() else { return None };
            (integer_bits(dtype.as_literal()?)? >= integer_bits(schema.get(name)?)?).then_some(name)
        }
        _ => None,
    }
}

fn integer_bits(dtype: &DataType) -> Option<u8> {
    Some(match dtype {
        DataType::Int8 => 8,
        DataType::Int16 => 16,
        DataType::Int32 => 32,
        DataType::Int64 => 64,
        DataType::Int128 => 128,
        _ => return None,
    })
}

fn known(name: &PlSmallStr, schema: &Schema) -> Option<String> {
    schema.contains(name).then(|| name.to_string())
}

fn comparison(op: Operator) -> Option<Comparison> {
    Some(match op {
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        Operator::EqValidity => Comparison::EqualMissing,
        Operator::NotEqValidity => Comparison::NotEqualMissing,
        _ => return None,
    })
}

fn flipped(by: Comparison) -> Comparison {
    match by {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}

fn compared(left: &Expr, by: Comparison, right: &Expr, schema: &Schema) -> Option<Clause> {
    let (name, by, value) = match (left, right) {
        (Expr::Column(name), Expr::Literal(value)) => (name, by, value),
        (Expr::Literal(value), Expr::Column(name)) => (name, flipped(by), value),
        _ => return None,
    };
    Some(Clause::Compare { column: known(name, schema)?, by, to: literal(value, schema.get(name)?)? })
}

/// A literal that is of the column's very type, or has none of its own yet.
fn literal(value: &LiteralValue, dtype: &DataType) -> Option<Literal> {
    match value {
        LiteralValue::Scalar(scalar) if scalar.dtype() == dtype => of_value(scalar.as_any_value(), dtype),
        LiteralValue::Dyn(DynLiteralValue::Str(text)) if *dtype == DataType::String => {
            Some(Literal::String(text.to_string()))
        }
        LiteralValue::Dyn(DynLiteralValue::Int(value)) => {
            let value = i64::try_from(*value).ok()?;
            let fits = match dtype {
                DataType::Int16 => i16::try_from(value).is_ok(),
                DataType::Int32 => i32::try_from(value).is_ok(),
                DataType::Int64 => true,
                DataType::UInt32 => u32::try_from(value).is_ok(),
                _ => false,
            };
            fits.then_some(Literal::Int(value))
        }
        LiteralValue::Dyn(DynLiteralValue::Float(value)) if *dtype == DataType::Float64 => {
            Some(Literal::Float64(*value))
        }
        _ => None,
    }
}

/// The values of a membership as those of a column.
fn members(list: &LiteralValue, dtype: &DataType) -> Option<Vec<Literal>> {
    let series = membership::values(list)?;
    let series = match (series.dtype(), dtype) {
        (of, to) if of == to => series,
        // What does not fit the column is equal to none of its values, and becomes null here.
        (of, to) if of.is_integer() && to.is_integer() => series.cast(to).ok()?.drop_nulls(),
        _ => return None,
    };
    series.iter().map(|value| of_value(value, dtype)).collect()
}

fn of_value(value: AnyValue<'_>, dtype: &DataType) -> Option<Literal> {
    Some(match (value, dtype) {
        (AnyValue::Boolean(value), _) => Literal::Bool(value),
        (AnyValue::Int16(value), _) => Literal::Int(i64::from(value)),
        (AnyValue::Int32(value), _) => Literal::Int(i64::from(value)),
        (AnyValue::Int64(value), _) => Literal::Int(value),
        (AnyValue::UInt32(value), _) => Literal::Int(i64::from(value)),
        (AnyValue::Float32(value), _) => Literal::Float32(value),
        (AnyValue::Float64(value), _) => Literal::Float64(value),
        (AnyValue::Decimal(value, _, scale), _) => Literal::Decimal { value, scale: u8::try_from(scale).ok()? },
        (AnyValue::String(value), _) => Literal::String(value.to_owned()),
        (AnyValue::StringOwned(value), _) => Literal::String(value.to_string()),
        (AnyValue::Binary(value), _) => Literal::Binary(value.to_vec()),
        (AnyValue::BinaryOwned(value), _) => Literal::Binary(value),
        (AnyValue::Date(days), _) => Literal::Date(days),
        (AnyValue::Time(ns), _) => Literal::Time(ns),
        (
            AnyValue::Datetime(us, TimeUnit::Microseconds, _) | AnyValue::DatetimeOwned(us, TimeUnit::Microseconds, _),
            DataType::Datetime(_, zone),
        ) => match zone {
            None => Literal::Datetime(us),
            Some(_) => Literal::DatetimeUtc(us),
        },
        _ => return None,
    })
}
