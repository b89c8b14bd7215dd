//! Rows of a database as frames: its columns are laid out as arrays already.

use floe_postgres::Batch;
use floe_postgres::columns::{Array, Bits, Values};
use floe_postgres::types::Type;
use polars_arrow::array::{ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, Utf8Array};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::ArrowDataType;
use polars_arrow::offset::OffsetsBuffer;
use polars_arrow::types::NativeType;
use polars_buffer::Buffer;
use polars_core::prelude::*;

use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

/// Polars' type of a column.
pub(super) fn dtype(of: &Type) -> DataType {
    match of {
        Type::Bool => DataType::Boolean,
        Type::Int16 => DataType::Int16,
        Type::Int32 => DataType::Int32,
        Type::Int64 => DataType::Int64,
        Type::UInt32 => DataType::UInt32,
        Type::Float32 => DataType::Float32,
        Type::Float64 => DataType::Float64,
        Type::Decimal { precision, scale } => DataType::Decimal(usize::from(*precision), usize::from(*scale)),
        Type::String => DataType::String,
        Type::Binary => DataType::Binary,
        Type::Date => DataType::Date,
        Type::Time => DataType::Time,
        Type::Datetime => DataType::Datetime(TimeUnit::Microseconds, None),
        Type::DatetimeUtc => DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)),
        Type::List(item) => DataType::List(Box::new(dtype(item))),
    }
}

/// The rows of a batch, whose columns are those of `schema`.
pub fn frame(batch: Batch, schema: &Schema) -> Result<DataFrame> {
    if batch.columns.len() != schema.len() {
        let message = format!("{} columns of a database instead of {}", batch.columns.len(), schema.len());
        return Err(QueryError::internal(message));
    }
    let columns = batch.columns.into_iter().zip(schema.iter()).map(|(array, (name, dtype))| {
        let array = arrow(array, dtype)?;
        Series::try_from((name.clone(), array)).map(IntoColumn::into_column)
    });
    columns
        .collect::<PolarsResult<Vec<_>>>()
        .and_then(|columns| DataFrame::new(batch.rows, columns))
        .map_err(polars_error)
}

fn arrow(array: Array, dtype: &DataType) -> PolarsResult<ArrayRef> {
    let to = dtype.to_arrow(CompatLevel::oldest());
    let validity = array.validity.map(bitmap).transpose()?;
    Ok(match array.values {
        Values::Bool(bits) => Box::new(BooleanArray::try_new(to, bitmap(bits)?, validity)?),
        Values::Int16(values) => primitive(to, values, validity)?,
        Values::Int32(values) => primitive(to, values, validity)?,
        Values::Int64(values) => primitive(to, values, validity)?,
        Values::UInt32(values) => primitive(to, values, validity)?,
        Values::Float32(values) => primitive(to, values, validity)?,
        Values::Float64(values) => primitive(to, values, validity)?,
        Values::Decimal(values) => primitive(to, values, validity)?,
        Values::Bytes { offsets, bytes } => {
            let (offsets, bytes) = (offsets_of(offsets)?, Buffer::from_vec(bytes));
            match dtype {
                DataType::String => Box::new(Utf8Array::<i64>::try_new(to, offsets, bytes, validity)?),
                _ => Box::new(BinaryArray::<i64>::try_new(to, offsets, bytes, validity)?),
            }
        }
        Values::List { offsets, items } => {
            let DataType::List(inner) = dtype else {
                polars_bail!(SchemaMismatch: "an array of a database as {dtype}");
            };
            let items = arrow(*items, inner)?;
            Box::new(ListArray::<i64>::try_new(to, offsets_of(offsets)?, items, validity)?)
        }
    })
}

fn primitive<T: NativeType>(to: ArrowDataType, values: Vec<T>, validity: Option<Bitmap>) -> PolarsResult<ArrayRef> {
    Ok(Box::new(PrimitiveArray::try_new(to, Buffer::from_vec(values), validity)?))
}

fn bitmap(bits: Bits) -> PolarsResult<Bitmap> {
    Bitmap::try_new(bits.bytes, bits.len)
}

fn offsets_of(offsets: Vec<i64>) -> PolarsResult<OffsetsBuffer<i64>> {
    OffsetsBuffer::try_from(Buffer::from_vec(offsets))
}
