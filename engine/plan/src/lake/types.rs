//! The types and values of tables in Polars' form.

use floe_lake::table::{Field, Type, Unit, Value};
use polars_arrow::datatypes::{ArrowSchema, Metadata};
use polars_core::prelude::*;

/// Nanoseconds in a microsecond: Polars' times count nanoseconds.
const NANOS: i64 = 1_000;

/// Polars' type of a column. Maps are lists of structs of `key` and `value`, as Polars reads them from Parquet.
pub fn dtype(of: &Type) -> DataType {
    match of {
        Type::Boolean => DataType::Boolean,
        Type::Int8 => DataType::Int8,
        Type::Int16 => DataType::Int16,
        Type::Int32 => DataType::Int32,
        Type::Int64 => DataType::Int64,
        Type::Float32 => DataType::Float32,
        Type::Float64 => DataType::Float64,
        Type::Decimal { precision, scale } => DataType::Decimal(usize::from(*precision), usize::from(*scale)),
        Type::String => DataType::String,
        Type::Binary | Type::Fixed(_) | Type::Uuid => DataType::Binary,
        Type::Date => DataType::Date,
        Type::Time => DataType::Time,
        Type::Timestamp { unit, utc } => {
            let unit = match unit {
                Unit::Micros => TimeUnit::Microseconds,
                Unit::Nanos => TimeUnit::Nanoseconds,
            };
            DataType::Datetime(unit, utc.then_some(TimeZone::UTC))
        }
        Type::List(item) => DataType::List(Box::new(dtype(&item.dtype))),
        Type::Map { key, value } => DataType::List(Box::new(DataType::Struct(vec![
            polars_core::prelude::Field::new("key".into(), dtype(&key.dtype)),
            polars_core::prelude::Field::new("value".into(), dtype(&value.dtype)),
        ]))),
        Type::Struct(fields) => DataType::Struct(
            fields.iter().map(|f| polars_core::prelude::Field::new(f.name.as_str().into(), dtype(&f.dtype))).collect(),
        ),
    }
}

/// The schema of some columns, with their ids, by which Polars finds them in files.
pub fn schema_with_ids(columns: &[&Field]) -> ArrowSchema {
    columns
        .iter()
        .map(|column| with_id(column, &column.name, CompatLevel::newest()))
        .map(|field| (field.name.clone(), field))
        .collect()
}

/// The schema of files that are written, by the names that columns have there. Other engines read texts of the older
/// kind only.
pub fn schema_of_files(columns: &[&Field]) -> ArrowSchema {
    let name = |column: &Field| column.physical.clone().unwrap_or_else(|| column.name.clone());
    columns
        .iter()
        .map(|column| with_id(column, &name(column), CompatLevel::oldest()))
        .map(|field| (field.name.clone(), field))
        .collect()
}

fn with_id(column: &Field, name: &str, compat: CompatLevel) -> ArrowField {
    let mut field = dtype(&column.dtype).to_arrow_field(name.into(), compat);
    put_ids(&mut field, column.id, &column.dtype);
    field
}

fn put_ids(field: &mut ArrowField, id: Option<i32>, of: &Type) {
    if let Some(id) = id {
        let metadata: Metadata = [("PARQUET:field_id".into(), id.to_string().into())].into_iter().collect();
        field.metadata = Some(Arc::new(metadata));
    }
    match (&mut field.dtype, of) {
        (ArrowDataType::LargeList(item), Type::List(of)) => put_ids(item, of.id, &of.dtype),
        (ArrowDataType::LargeList(entry), Type::Map { key, value }) => {
            if let ArrowDataType::Struct(fields) = &mut entry.dtype {
                for (field, of) in fields.iter_mut().zip([key, value]) {
                    put_ids(field, of.id, &of.dtype);
                }
            }
        }
        (ArrowDataType::Struct(fields), Type::Struct(of)) => {
            for (field, of) in fields.iter_mut().zip(of) {
                put_ids(field, of.id, &of.dtype);
            }
        }
        _ => {}
    }
}

/// A column of values from metadata.
pub fn values<'a>(
    name: PlSmallStr,
    of: &Type,
    values: impl ExactSizeIterator<Item = Option<&'a Value>>,
) -> PolarsResult<Column> {
    let target = dtype(of);
    let ints = |scale: i64| {
        move |value: Option<&Value>| match value {
            Some(Value::Int(value)) => value.checked_mul(scale),
            _ => None,
        }
    };
    let series = match of {
        Type::Boolean => {
            let values = values.map(|value| match value {
                Some(Value::Boolean(value)) => Some(*value),
                _ => None,
            });
            BooleanChunked::from_iter_options(name, values).into_series()
        }
        Type::Float32 | Type::Float64 => {
            let values = values.map(|value| match value {
                Some(Value::Float(value)) => Some(*value),
                _ => None,
            });
            Float64Chunked::from_iter_options(name, values).into_series().cast(&target)?
        }
        Type::Decimal { precision, scale } => {
            let values = values.map(|value| match value {
                Some(Value::Decimal(value)) => Some(*value),
                _ => None,
            });
            let (precision, scale) = (usize::from(*precision), usize::from(*scale));
            Int128Chunked::from_iter_options(name, values).into_decimal(precision, scale)?.into_series()
        }
        Type::String => {
            let values = values.map(|value| match value {
                Some(Value::String(value)) => Some(value.as_str()),
                _ => None,
            });
            StringChunked::from_iter_options(name, values).into_series()
        }
        Type::Binary | Type::Fixed(_) | Type::Uuid => {
            let values = values.map(|value| match value {
                Some(Value::Binary(value)) => Some(value.as_slice()),
                _ => None,
            });
            BinaryChunked::from_iter_options(name, values).into_series()
        }
        Type::Date => Int64Chunked::from_iter_options(name, values.map(ints(1)))
            .into_series()
            .cast(&DataType::Int32)?
            .cast(&target)?,
        Type::Time => Int64Chunked::from_iter_options(name, values.map(ints(NANOS))).into_series().cast(&target)?,
        Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64 | Type::Timestamp { .. } => {
            Int64Chunked::from_iter_options(name, values.map(ints(1))).into_series().cast(&target)?
        }
        Type::List(_) | Type::Map { .. } | Type::Struct(_) => Series::full_null(name, values.len(), &target),
    };
    Ok(series.into_column())
}

/// A value of rows as metadata holds it; `None` is null.
pub fn value(of: &AnyValue<'_>) -> PolarsResult<Option<Value>> {
    Ok(Some(match of {
        AnyValue::Null => return Ok(None),
        AnyValue::Boolean(value) => Value::Boolean(*value),
        AnyValue::Date(days) => Value::Int(i64::from(*days)),
        AnyValue::Datetime(value, ..) | AnyValue::DatetimeOwned(value, ..) => Value::Int(*value),
        AnyValue::Float32(value) => Value::Float(f64::from(*value)),
        AnyValue::Float64(value) => Value::Float(*value),
        AnyValue::Decimal(value, ..) => Value::Decimal(*value),
        AnyValue::String(text) => Value::String((*text).to_owned()),
        AnyValue::StringOwned(text) => Value::String(text.to_string()),
        AnyValue::Binary(bytes) => Value::Binary(bytes.to_vec()),
        AnyValue::BinaryOwned(bytes) => Value::Binary(bytes.clone()),
        AnyValue::Int8(value) => Value::Int(i64::from(*value)),
        AnyValue::Int16(value) => Value::Int(i64::from(*value)),
        AnyValue::Int32(value) => Value::Int(i64::from(*value)),
        AnyValue::Int64(value) => Value::Int(*value),
        other => polars_bail!(ComputeError: "rows cannot be parted by a value of type {}", other.dtype()),
    }))
}

/// Whether metadata can hold values of a type.
pub fn is_plain(of: &Type) -> bool {
    !matches!(of, Type::List(_) | Type::Map { .. } | Type::Struct(_))
}
