//! Prepares frames for IPC, and restores them: arrays of width 0 are sent as booleans, which say whether a value is
//! null (they hold nothing else), and null slots of enums and categoricals are cleared, because readers would use their
//! contents as keys.

use polars_core::prelude::*;

use super::polars_error;
use floe_wire::error::Result;

/// The frame to write, and the types of the columns to restore after reading it.
pub fn pack(df: DataFrame) -> Result<(DataFrame, Vec<(usize, DataType)>)> {
    let mut changed = Vec::new();
    if !df.columns().iter().any(needs) {
        return Ok((df, changed));
    }
    let height = df.height();
    let mut columns = df.into_columns();
    for (at, column) in columns.iter_mut().enumerate() {
        if holds_empty_arrays(column.dtype()) {
            changed.push((at, column.dtype().clone()));
            *column = without_arrays(column.as_materialized_series()).map_err(polars_error)?.into_column();
        } else if needs(column) {
            *column = clean(column.as_materialized_series()).map_err(polars_error)?.into_column();
        }
    }
    Ok((DataFrame::new(height, columns).map_err(polars_error)?, changed))
}

pub fn unpack(df: DataFrame, changed: &[(usize, DataType)]) -> Result<DataFrame> {
    let height = df.height();
    let mut columns = df.into_columns();
    for (at, dtype) in changed {
        let Some(column) = columns.get_mut(*at) else { continue };
        *column = with_arrays(column.as_materialized_series(), dtype).map_err(polars_error)?.into_column();
    }
    DataFrame::new(height, columns).map_err(polars_error)
}

fn needs(column: &Column) -> bool {
    holds_empty_arrays(column.dtype())
        || matches!(column.dtype(), DataType::Enum(..) | DataType::Categorical(..)) && column.null_count() > 0
}

fn holds_empty_arrays(dtype: &DataType) -> bool {
    match dtype {
        DataType::Array(_, 0) => true,
        DataType::Array(inner, _) | DataType::List(inner) => holds_empty_arrays(inner),
        DataType::Struct(fields) => fields.iter().any(|field| holds_empty_arrays(field.dtype())),
        _ => false,
    }
}

/// Sets null slots to the first category's key. The key exists unless all values are null, and then no reader looks at
/// it.
fn clean(series: &Series) -> PolarsResult<Series> {
    let there = series.is_not_null();
    let own: IdxCa = there.iter().zip(0..).map(|(there, at)| there.filter(|there| *there).map(|_| at)).collect();
    series.take(&own)
}

fn without_arrays(series: &Series) -> PolarsResult<Series> {
    match series.dtype() {
        DataType::Array(_, 0) => Ok(series.is_not_null().with_name(series.name().clone()).into_series()),
        DataType::Array(inner, _) if holds_empty_arrays(inner) => {
            Ok(series.array()?.apply_to_inner(&|inner| without_arrays(&inner))?.into_series())
        }
        DataType::List(inner) if holds_empty_arrays(inner) => {
            Ok(series.list()?.apply_to_inner(&|inner| without_arrays(&inner))?.into_series())
        }
        DataType::Struct(_) => fields(series, |_, field| without_arrays(field)),
        _ => Ok(series.clone()),
    }
}

fn with_arrays(series: &Series, dtype: &DataType) -> PolarsResult<Series> {
    match dtype {
        DataType::Array(inner, 0) => {
            let nothing = Series::new_empty(PlSmallStr::EMPTY, inner);
            let all = ArrayChunked::full(series.name().clone(), &nothing, series.len()).into_series();
            all.zip_with(series.bool()?, &Series::full_null(series.name().clone(), series.len(), dtype))
        }
        DataType::Array(inner, _) if holds_empty_arrays(inner) => {
            Ok(series.array()?.apply_to_inner(&|values| with_arrays(&values, inner))?.into_series())
        }
        DataType::List(inner) if holds_empty_arrays(inner) => {
            Ok(series.list()?.apply_to_inner(&|values| with_arrays(&values, inner))?.into_series())
        }
        DataType::Struct(wanted) => fields(series, |at, field| with_arrays(field, wanted[at].dtype())),
        _ => Ok(series.clone()),
    }
}

fn fields(series: &Series, f: impl Fn(usize, &Series) -> PolarsResult<Series>) -> PolarsResult<Series> {
    let whole = series.struct_()?;
    let fields = whole
        .fields_as_series()
        .iter()
        .enumerate()
        .map(|(at, field)| f(at, field))
        .collect::<PolarsResult<Vec<_>>>()?;
    let mut made = StructChunked::from_series(series.name().clone(), series.len(), fields.iter())?;
    made.zip_outer_validity(whole);
    Ok(made.into_series())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{frame_from_ipc, frame_to_ipc};

    #[test]
    fn arrays_without_elements_travel() {
        let narrow = DataType::Array(Box::new(DataType::Date), 0);
        let values = Series::new("n".into(), [true, false, true]);
        let flat = with_arrays(&values, &narrow).unwrap();
        assert_eq!((flat.dtype(), flat.null_count()), (&narrow, 1));
        let field = StructChunked::from_series("s".into(), 3, [&flat].into_iter()).unwrap().into_series();
        let list = flat.implode().unwrap().into_series().with_name("l".into());
        let list = list.new_from_index(0, 3);
        let df = DataFrame::new(3, vec![flat.into_column(), field.into_column(), list.into_column()]).unwrap();
        let schema = df.schema().clone();
        let read = frame_from_ipc(&frame_to_ipc(df.clone()).unwrap(), 3, &schema).unwrap();
        assert_eq!(read.schema(), df.schema());
        assert_eq!(format!("{read:?}"), format!("{df:?}"));
    }

    #[test]
    fn null_slots_of_enums_are_no_keys() {
        let dtype = DataType::from_frozen_categories(FrozenCategories::new(["a", "b"]).unwrap());
        // Null slots hold whatever the keys were computed from.
        let keys = UInt8Chunked::from_slice_options("e".into(), &[Some(1), None]).apply_values(|key| key + 7);
        let keys = keys.apply_values(|key| if key == 8 { 1 } else { key }).into_series();
        let column = keys.cast(&dtype).unwrap().into_column();
        let held = column.to_physical_repr();
        assert_eq!(held.u8().unwrap().downcast_as_array().values().as_slice(), [1, 7], "not the case that is tested");
        let df = DataFrame::new(2, vec![column]).unwrap();
        let schema = df.schema().clone();
        let read = frame_from_ipc(&frame_to_ipc(df.clone()).unwrap(), 2, &schema).unwrap();
        assert!(read.equals_missing(&df));
    }
}
