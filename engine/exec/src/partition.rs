//! The partition that a row belongs to: the same for equal keys in every process and on every machine.

use std::hash::BuildHasher;

use polars_core::prelude::row_encode::_get_rows_encoded_ca_unordered;
use polars_core::prelude::*;
use polars_utils::aliases::PlFixedStateQuality;
use polars_utils::hashing::HashPartitioner;

use floe_polars::polars_error;
use floe_wire::error::Result;

const SEED: u64 = 0x666c_6f65;
const NULL: u64 = 0x6e75_6c6c_6e75_6c6c;

/// Row numbers by partition.
pub fn by_partition(df: &DataFrame, keys: &[String], n: usize) -> Result<Vec<Vec<IdxSize>>> {
    let partitioner = HashPartitioner::new(n, SEED);
    let mut out: Vec<Vec<IdxSize>> = vec![Vec::with_capacity(df.height() / n + 16); n];
    let mut row = 0;
    each_hash(df, keys, &mut |hash| {
        out[partitioner.hash_to_partition(hash)].push(row);
        row += 1;
    })?;
    Ok(out)
}

/// Hashes every row's keys, in order.
pub fn each_hash(df: &DataFrame, keys: &[String], f: &mut dyn FnMut(u64)) -> Result<()> {
    let state = PlFixedStateQuality::with_seed(SEED);
    let columns: Vec<Column> =
        keys.iter().map(|k| df.column(k).cloned()).collect::<PolarsResult<_>>().map_err(polars_error)?;
    if let [column] = &columns[..] {
        let series = column.as_materialized_series().to_physical_repr();
        macro_rules! integers {
            ($ca:expr) => {{
                $ca.iter().for_each(|v| f(v.map_or(NULL, |v| state.hash_one(v as i64))));
                return Ok(());
            }};
        }
        match series.dtype() {
            DataType::Int8 => integers!(series.i8().map_err(polars_error)?),
            DataType::Int16 => integers!(series.i16().map_err(polars_error)?),
            DataType::Int32 => integers!(series.i32().map_err(polars_error)?),
            DataType::Int64 => integers!(series.i64().map_err(polars_error)?),
            DataType::UInt8 => integers!(series.u8().map_err(polars_error)?),
            DataType::UInt16 => integers!(series.u16().map_err(polars_error)?),
            DataType::UInt32 => integers!(series.u32().map_err(polars_error)?),
            DataType::UInt64 => integers!(series.u64().map_err(polars_error)?),
            DataType::String => {
                let ca = series.str().map_err(polars_error)?;
                ca.iter().for_each(|v| f(v.map_or(NULL, |v| state.hash_one(v.as_bytes()))));
                return Ok(());
            }
            _ => {}
        }
    }
    let rows = _get_rows_encoded_ca_unordered(PlSmallStr::EMPTY, &columns).map_err(polars_error)?;
    rows.iter().for_each(|v| f(v.map_or(NULL, |v| state.hash_one(v))));
    Ok(())
}
