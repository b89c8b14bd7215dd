//! What the footers of written files say of their columns, as tables keep it in their metadata.

use std::collections::BTreeMap;

use floe_lake::table::{Bounds, Field, Type, Value};
use polars_io::parquet::metadata::FileMetadataRef;
use polars_parquet::parquet::statistics::Statistics;

use super::columns::name_in_files;
use crate::lake::types::is_plain;

/// The bounds of the plain ones of `columns`, by their names in the table.
pub fn of(footer: &FileMetadataRef, columns: &[&Field]) -> BTreeMap<String, Bounds> {
    let plain = columns.iter().filter(|column| is_plain(&column.dtype));
    plain.filter_map(|column| Some((column.name.clone(), of_column(footer, column)?))).collect()
}

fn of_column(footer: &FileMetadataRef, column: &Field) -> Option<Bounds> {
    let (mut all, mut rows): (Option<Bounds>, u64) = (None, 0);
    for group in footer.row_groups.iter().filter(|group| group.num_rows() > 0) {
        let chunk = group.columns_under_root_iter(name_in_files(column))?.next()?;
        let found = bounds(chunk.statistics(&footer.footer_buf)?.ok()?, &column.dtype);
        let has_values = found.nulls != u64::try_from(group.num_rows()).ok();
        all = Some(match all {
            None => found,
            Some(all) if !has_values => Bounds { nulls: sum(all.nulls, found.nulls), ..all },
            // All rows so far are null.
            Some(all) if all.nulls == Some(rows) => Bounds { nulls: sum(all.nulls, found.nulls), ..found },
            Some(all) => Bounds {
                min: least(all.min, found.min),
                max: greatest(all.max, found.max),
                nulls: sum(all.nulls, found.nulls),
            },
        });
        rows += u64::try_from(group.num_rows()).ok()?;
    }
    all
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a?.checked_add(b?)
}

fn bounds(of: Statistics, dtype: &Type) -> Bounds {
    let count = |nulls: Option<i64>| nulls.and_then(|nulls| u64::try_from(nulls).ok());
    macro_rules! bounds {
        ($of:expr, $value:expr) => {
            Bounds {
                min: $of.min_value.and_then(|value| $value(value)),
                max: $of.max_value.and_then(|value| $value(value)),
                nulls: count($of.null_count),
            }
        };
    }
    match of {
        Statistics::Boolean(of) => bounds!(of, |value| Some(Value::Boolean(value))),
        Statistics::Int32(of) => bounds!(of, |value: i32| integer(i64::from(value), dtype)),
        Statistics::Int64(of) => bounds!(of, |value: i64| integer(value, dtype)),
        // Footers pass over NaN, which is greater than all: that there is none, they do not say.
        Statistics::Float(of) => Bounds { max: None, ..bounds!(of, |value: f32| float(f64::from(value))) },
        Statistics::Double(of) => Bounds { max: None, ..bounds!(of, float) },
        Statistics::Binary(of) => bounds!(of, |value: Vec<u8>| bytes(value, dtype)),
        Statistics::FixedLen(of) => bounds!(of, |value: Vec<u8>| bytes(value, dtype)),
        Statistics::Int96(of) => Bounds { min: None, max: None, nulls: count(of.null_count) },
    }
}

fn integer(value: i64, dtype: &Type) -> Option<Value> {
    Some(match dtype {
        Type::Decimal { .. } => Value::Decimal(i128::from(value)),
        _ => Value::Int(value),
    })
}

fn float(value: f64) -> Option<Value> {
    (!value.is_nan()).then_some(Value::Float(value))
}

fn bytes(value: Vec<u8>, dtype: &Type) -> Option<Value> {
    match dtype {
        Type::String => String::from_utf8(value).ok().map(Value::String),
        Type::Decimal { .. } if !value.is_empty() && value.len() <= 16 => {
            let fill = if value[0] & 0x80 == 0 { 0 } else { 0xff };
            let mut whole = [fill; 16];
            whole[16 - value.len()..].copy_from_slice(&value);
            Some(Value::Decimal(i128::from_be_bytes(whole)))
        }
        Type::Binary | Type::Fixed(_) | Type::Uuid => Some(Value::Binary(value)),
        _ => None,
    }
}

fn least(a: Option<Value>, b: Option<Value>) -> Option<Value> {
    let (a, b) = (a?, b?);
    Some(if is_less(&b, &a)? { b } else { a })
}

fn greatest(a: Option<Value>, b: Option<Value>) -> Option<Value> {
    let (a, b) = (a?, b?);
    Some(if is_less(&a, &b)? { b } else { a })
}

fn is_less(a: &Value, b: &Value) -> Option<bool> {
    Some(match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a < b,
        (Value::Int(a), Value::Int(b)) => a < b,
        (Value::Float(a), Value::Float(b)) => a < b,
        (Value::Decimal(a), Value::Decimal(b)) => a < b,
        (Value::String(a), Value::String(b)) => a < b,
        (Value::Binary(a), Value::Binary(b)) => a < b,
        _ => return None,
    })
}
