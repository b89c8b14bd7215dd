//! The columns of a result as those of a table, and its rows in the table's types.

use floe_lake::table::{Field as Column, Type, Unit};
use floe_lake::write::Target;
use polars_core::prelude::*;
use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::DslPlan;
use polars_plan::prelude::{Expr, col};

use super::super::fields;
use super::super::types::dtype;
use super::partition;
use floe_wire::error::{QueryError, Result};

/// The columns of rows with this schema. Where the formats lack a type, a wider one that holds all its values.
pub fn of(schema: &Schema) -> Result<Vec<Column>> {
    schema.iter().map(|(name, dtype)| column(name, dtype, name)).collect()
}

fn column(name: &str, dtype: &DataType, path: &str) -> Result<Column> {
    Ok(Column {
        name: name.to_owned(),
        dtype: stored(dtype, path)?,
        nullable: true,
        physical: None,
        id: None,
        initial: None,
    })
}

fn stored(dtype: &DataType, path: &str) -> Result<Type> {
    let refused = |instead: &str| {
        Err(QueryError::user(
            "UnsupportedType",
            format!("column '{path}': tables have no type for {dtype}; {instead} before it is written"),
        ))
    };
    Ok(match dtype {
        DataType::Boolean => Type::Boolean,
        DataType::Int8 => Type::Int8,
        DataType::Int16 | DataType::UInt8 => Type::Int16,
        DataType::Int32 | DataType::UInt16 => Type::Int32,
        DataType::Int64 | DataType::UInt32 => Type::Int64,
        DataType::UInt64 => Type::Decimal { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 => Type::Float32,
        DataType::Float64 => Type::Float64,
        DataType::Decimal(precision, scale) => match (u8::try_from(*precision), u8::try_from(*scale)) {
            (Ok(precision), Ok(scale)) => Type::Decimal { precision, scale },
            _ => return refused("cast it to a decimal of at most 38 digits"),
        },
        DataType::String | DataType::Categorical(..) | DataType::Enum(..) => Type::String,
        DataType::Binary => Type::Binary,
        DataType::Date => Type::Date,
        DataType::Datetime(TimeUnit::Milliseconds | TimeUnit::Microseconds, zone) => {
            Type::Timestamp { unit: Unit::Micros, utc: zone.is_some() }
        }
        DataType::Datetime(TimeUnit::Nanoseconds, _) => return refused("cast it to Datetime(\"us\")"),
        DataType::Time => return refused("cast it to Int64 or String"),
        DataType::Duration(_) => return refused("cast it to Int64"),
        DataType::List(item) | DataType::Array(item, _) => {
            Type::List(Box::new(column("element", item, &format!("{path}.element"))?))
        }
        DataType::Struct(fields) if fields.is_empty() => return refused("give it a field or drop it"),
        DataType::Struct(fields) => Type::Struct(
            fields
                .iter()
                .map(|f| column(f.name(), f.dtype(), &format!("{path}.{}", f.name())))
                .collect::<Result<_>>()?,
        ),
        DataType::Int128 | DataType::UInt128 => return refused("cast it to Decimal(38, 0)"),
        _ => return refused("cast it to another type or drop it"),
    })
}

/// Name of the column that parts rows by the target's `at`-th key.
pub fn key_name(at: usize) -> String {
    format!("__floe_key_{at}")
}

/// The rows in the table's types under the names in its files, and beside them the values of the partition keys.
pub fn rows(plan: DslPlan, schema: &Schema, target: &Target) -> Result<DslPlan> {
    let mut out: Vec<Expr> = Vec::with_capacity(target.columns.len() + target.partition.len());
    for (column, _) in target.columns.iter().zip(&target.stored).filter(|(_, stored)| **stored) {
        refuse(column)?;
        out.push(values(column, schema).alias(name_in_files(column)));
    }
    for (at, key) in target.partition.iter().enumerate() {
        let Some(column) = target.columns.iter().find(|column| column.name == key.column) else {
            return Err(QueryError::user(
                "ColumnNotFoundError",
                format!("the table is partitioned by '{}', which the result lacks", key.column),
            ));
        };
        out.push(partition::value(key, values(column, schema), &dtype(&column.dtype))?.alias(key_name(at)));
    }
    Ok(LazyFrame::from(plan).select(out).logical_plan)
}

/// What the writer of Parquet files cannot lay out as the formats ask.
fn refuse(column: &Column) -> Result<()> {
    let refused = |what: &str| {
        let message = format!("column '{}': {what} cannot be written yet; leave the column out", column.name);
        Err(QueryError::user("UnsupportedTable", message))
    };
    if fields::has_renamed(&column.dtype) {
        return refused("fields of a nested column under other names (column mapping)");
    }
    match first(&column.dtype, &|of| matches!(of, Type::Map { .. } | Type::Fixed(_) | Type::Uuid | Type::Time)) {
        Some(Type::Map { .. }) => refused("maps"),
        Some(Type::Fixed(_)) => refused("bytes of a fixed length"),
        Some(Type::Uuid) => refused("UUIDs"),
        Some(Type::Time) => refused("times"),
        _ => Ok(()),
    }
}

/// The first type that fits, of this one and those in it.
fn first<'t>(of: &'t Type, fits: &dyn Fn(&Type) -> bool) -> Option<&'t Type> {
    if fits(of) {
        return Some(of);
    }
    match of {
        Type::List(item) => first(&item.dtype, fits),
        Type::Struct(fields) => fields.iter().find_map(|field| first(&field.dtype, fits)),
        _ => None,
    }
}

/// The values of a column in the table's type; an error for one that does not fit.
fn values(column: &Column, schema: &Schema) -> Expr {
    let (values, to) = (col(column.name.as_str()), dtype(&column.dtype));
    match schema.get(&column.name) {
        Some(from) if *from == to => values,
        _ => values.strict_cast(to),
    }
}

pub fn name_in_files(column: &Column) -> &str {
    column.physical.as_deref().unwrap_or(&column.name)
}
