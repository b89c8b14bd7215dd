//! Converts types and values of the crossing format to Polars' own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use polars::prelude::*;
use polars_core::scalar::Scalar;
use polars_plan::prelude::LiteralValue;
use serde_json::Value;

use super::damaged;
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

/// Parses a type: its name, or a list that begins with its name.
pub fn dtype(data: &Value) -> Result<DataType> {
    let unknown = || refused_type(data);
    if let Some(name) = data.as_str() {
        return Ok(match name {
            "Boolean" => DataType::Boolean,
            "Int8" => DataType::Int8,
            "Int16" => DataType::Int16,
            "Int32" => DataType::Int32,
            "Int64" => DataType::Int64,
            "Int128" => DataType::Int128,
            "UInt8" => DataType::UInt8,
            "UInt16" => DataType::UInt16,
            "UInt32" => DataType::UInt32,
            "UInt64" => DataType::UInt64,
            "UInt128" => DataType::UInt128,
            "Float16" => DataType::Float16,
            "Float32" => DataType::Float32,
            "Float64" => DataType::Float64,
            "String" => DataType::String,
            "Binary" => DataType::Binary,
            "Date" => DataType::Date,
            "Time" => DataType::Time,
            "Null" => DataType::Null,
            _ => return Err(unknown()),
        });
    }
    let parts = data.as_array().ok_or_else(unknown)?;
    let text = |i: usize| parts.get(i).and_then(Value::as_str);
    let number = |i: usize| parts.get(i).and_then(Value::as_u64).map(|n| n as usize).ok_or_else(unknown);
    let inner = || parts.get(1).map(dtype).ok_or_else(unknown)?.map(Box::new);
    Ok(match text(0) {
        Some("Decimal") => DataType::Decimal(number(1)?, number(2)?),
        Some("Datetime") => {
            let zone = match text(2) {
                Some(zone) => TimeZone::opt_try_new(Some(zone)).map_err(polars_error)?,
                None => None,
            };
            DataType::Datetime(time_unit(parts.get(1))?, zone)
        }
        Some("Duration") => DataType::Duration(time_unit(parts.get(1))?),
        Some("List") => DataType::List(inner()?),
        Some("Array") => DataType::Array(inner()?, number(2)?),
        Some("Struct") => {
            let fields = parts.get(1).and_then(Value::as_array).ok_or_else(unknown)?;
            let field = |pair: &Value| {
                let name = pair.get(0).and_then(Value::as_str).ok_or_else(unknown)?;
                Ok(Field::new(name.into(), dtype(pair.get(1).ok_or_else(unknown)?)?))
            };
            DataType::Struct(fields.iter().map(field).collect::<Result<_>>()?)
        }
        Some("Categorical") => DataType::from_categories(Categories::global()),
        Some("Enum") => {
            let names = parts.get(1).and_then(Value::as_array).ok_or_else(unknown)?;
            let names = names.iter().map(|name| name.as_str().ok_or_else(unknown)).collect::<Result<Vec<_>>>()?;
            DataType::from_frozen_categories(FrozenCategories::new(names).map_err(polars_error)?)
        }
        _ => return Err(unknown()),
    })
}

fn refused_type(data: &Value) -> QueryError {
    QueryError::user("UnsupportedPlan", format!("the query needs the type {data}, which this engine does not have"))
}

pub fn time_unit(data: Option<&Value>) -> Result<TimeUnit> {
    match data.and_then(Value::as_str) {
        Some("ns") => Ok(TimeUnit::Nanoseconds),
        Some("us") => Ok(TimeUnit::Microseconds),
        Some("ms") => Ok(TimeUnit::Milliseconds),
        _ => Err(damaged("a time unit is missing")),
    }
}

/// The inverse of `dtype`, for the schemas sent to the child. `None` for types without a name in the format.
pub fn dtype_data(dtype: &DataType) -> Option<Value> {
    use serde_json::json;
    Some(match dtype {
        DataType::Decimal(precision, scale) => json!(["Decimal", precision, scale]),
        DataType::Datetime(unit, zone) => json!(["Datetime", unit.to_ascii(), zone.as_ref().map(|zone| zone.as_str())]),
        DataType::Duration(unit) => json!(["Duration", unit.to_ascii()]),
        DataType::List(inner) => json!(["List", dtype_data(inner)?]),
        DataType::Array(inner, width) => json!(["Array", dtype_data(inner)?, width]),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| Some(json!([field.name().as_str(), dtype_data(field.dtype())?])));
            json!(["Struct", fields.collect::<Option<Vec<_>>>()?])
        }
        DataType::Categorical(..) => json!(["Categorical"]),
        DataType::Enum(categories, _) => {
            json!(["Enum", categories.categories().values_iter().collect::<Vec<_>>()])
        }
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Int128
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::UInt128
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::String
        | DataType::Binary
        | DataType::Date
        | DataType::Time
        | DataType::Null => json!(format!("{dtype:?}")),
        _ => return None,
    })
}

/// Parses a column of values as `traverse.py` writes them: integers as text, dates and times as integers in their unit,
/// decimals unscaled.
pub fn series(name: &str, dtype: &DataType, values: &[Value]) -> Result<Series> {
    let name: PlSmallStr = name.into();
    let made = match dtype {
        DataType::Null => Series::full_null(name, values.len(), dtype),
        DataType::Boolean => Series::new(name, values.iter().map(Value::as_bool).collect::<Vec<_>>()),
        DataType::String => Series::new(name, values.iter().map(Value::as_str).collect::<Vec<_>>()),
        DataType::Categorical(..) | DataType::Enum(..) => {
            let text = Series::new(name, values.iter().map(Value::as_str).collect::<Vec<_>>());
            text.strict_cast(dtype).map_err(polars_error)?
        }
        DataType::Binary => {
            let bytes = |value: &Value| {
                value
                    .as_str()
                    .map(|text| STANDARD.decode(text).map_err(|_| damaged("bytes that are not base64")))
                    .transpose()
            };
            Series::new(name, values.iter().map(bytes).collect::<Result<Vec<_>>>()?)
        }
        dtype if dtype.is_float() => {
            let numbers = values.iter().map(float).collect::<Result<Vec<_>>>()?;
            Series::new(name, numbers).strict_cast(dtype).map_err(polars_error)?
        }
        DataType::Decimal(precision, scale) => Int128Chunked::from_iter_options(name, integers(values)?.into_iter())
            .into_decimal(*precision, *scale)
            .map_err(polars_error)?
            .into_series(),
        dtype if dtype.is_integer() => Int128Chunked::from_iter_options(name, integers(values)?.into_iter())
            .into_series()
            .strict_cast(dtype)
            .map_err(polars_error)?,
        dtype if dtype.is_temporal() => Int128Chunked::from_iter_options(name, integers(values)?.into_iter())
            .into_series()
            .strict_cast(&dtype.to_physical())
            .and_then(|physical| physical.strict_cast(dtype))
            .map_err(polars_error)?,
        _ => {
            let values = values.iter().map(|value| nested(dtype, value)).collect::<Result<Vec<_>>>()?;
            Series::from_any_values_and_dtype(name, &values, dtype, true).map_err(polars_error)?
        }
    };
    Ok(made)
}

fn nested(dtype: &DataType, value: &Value) -> Result<AnyValue<'static>> {
    let Some(items) = value.as_array() else { return Ok(AnyValue::Null) };
    match dtype {
        DataType::List(inner) => Ok(AnyValue::List(series("", inner, items)?)),
        DataType::Array(inner, width) => Ok(AnyValue::Array(series("", inner, items)?, *width)),
        DataType::Struct(fields) => {
            let values = fields.iter().zip(items).map(|(field, value)| any_value(field.dtype(), value));
            Ok(AnyValue::StructOwned(Box::new((values.collect::<Result<_>>()?, fields.clone()))))
        }
        _ => Err(damaged("a value of a type that has no parts")),
    }
}

fn any_value(dtype: &DataType, value: &Value) -> Result<AnyValue<'static>> {
    let one = series("", dtype, std::slice::from_ref(value))?;
    one.get(0).map(AnyValue::into_static).map_err(polars_error)
}

fn integers(values: &[Value]) -> Result<Vec<Option<i128>>> {
    let number = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| damaged("a number that is none")),
        Value::Number(number) => Ok(number.as_i64().map(i128::from)),
        _ => Err(damaged("a number that is none")),
    };
    values.iter().map(number).collect()
}

pub fn float(value: &Value) -> Result<Option<f64>> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        Value::String(text) => text.parse().map(Some).map_err(|_| damaged("a number that is none")),
        _ => Err(damaged("a number that is none")),
    }
}

pub fn literal(dtype: &DataType, value: &Value) -> Result<LiteralValue> {
    Ok(LiteralValue::Scalar(Scalar::new(dtype.clone(), any_value(dtype, value)?)))
}
