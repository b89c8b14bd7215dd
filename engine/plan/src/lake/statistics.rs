//! What a table's metadata says of its files, in the form in which Polars leaves out files that a filter rules out: for
//! each file its number of rows and, for each column, the least and the greatest value and the number of nulls.

use std::sync::Arc;

use floe_lake::table::{Bounds, DataFile, Field};
use polars_core::prelude::*;
use polars_plan::dsl::TableStatistics;
use polars_utils::format_pl_smallstr;

use super::types::{dtype, is_plain, values};

/// `columns` with their names in the scan. `None` where two of the names made here would be the same (of the columns `a`
/// and `a_min`).
pub fn statistics(columns: &[(&Field, &str)], files: &[&DataFile]) -> PolarsResult<Option<TableStatistics>> {
    let count = |n: Option<u64>| n.and_then(|n| IdxSize::try_from(n).ok());
    let rows = IdxCa::from_iter_options("len".into(), files.iter().map(|file| count(file.rows)));
    let mut all = vec![rows.into_column()];
    for (column, name) in columns {
        if !is_plain(&column.dtype) {
            let unknown = |end: &str, dtype: &DataType| {
                Column::full_null(format_pl_smallstr!("{name}_{end}"), files.len(), dtype)
            };
            let dtype = dtype(&column.dtype);
            all.extend([unknown("min", &dtype), unknown("max", &dtype), unknown("nc", &null_counts(&dtype))]);
            continue;
        }
        let bounds = || files.iter().map(|file| file.bounds.get(&column.name));
        let value = |of: fn(&Bounds) -> Option<&floe_lake::table::Value>| bounds().map(move |b| b.and_then(of));
        all.push(values(format_pl_smallstr!("{name}_min"), &column.dtype, value(|b| b.min.as_ref()))?);
        all.push(values(format_pl_smallstr!("{name}_max"), &column.dtype, value(|b| b.max.as_ref()))?);
        let nulls = bounds().map(|bounds| count(bounds.and_then(|bounds| bounds.nulls)));
        all.push(IdxCa::from_iter_options(format_pl_smallstr!("{name}_nc"), nulls).into_column());
    }
    let mut seen = PlHashSet::with_capacity(all.len());
    if !all.iter().all(|column| seen.insert(column.name().clone())) {
        return Ok(None);
    }
    Ok(Some(TableStatistics(Arc::new(DataFrame::new(files.len(), all)?))))
}

/// The type in which Polars counts the nulls of a column: those of structs field by field.
fn null_counts(dtype: &DataType) -> DataType {
    match dtype {
        DataType::Struct(fields) => DataType::Struct(
            fields.iter().map(|f| polars_core::prelude::Field::new(f.name().clone(), null_counts(f.dtype()))).collect(),
        ),
        _ => IDX_DTYPE,
    }
}
