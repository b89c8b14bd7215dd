//! A leaf whose rows the engine requests part by part.
//!
//! Polars' engine takes rows from frames and from files, not from a function. So it gets an IPC file of part numbers,
//! one per record batch, and a function node that replaces each number by the rows of its part. The order of the record
//! batches is the order of the rows, and the engine's backpressure limits how many it reads.

use std::sync::Arc;

use polars_arrow::array::PrimitiveArray;
use polars_buffer::Buffer;
use polars_core::prelude::*;
use polars_io::SerWriter;
use polars_io::ipc::{IpcScanOptions, IpcWriter};
use polars_plan::dsl::{FileScanIR, ScanSources};
use polars_plan::plans::{DataFrameUdf, FileInfo, FunctionIR, IR, UdfSchema};

use super::Failure;
use super::incoming::{Incoming, Reading};
use floe_polars::polars_error;
use floe_wire::error::{Result, TaskError};

pub(super) const PART: &str = "part";

/// The scan of the part numbers, and the function to put on top of it.
pub fn streamed(incoming: Incoming, failure: &Failure) -> Result<(IR, FunctionIR), TaskError> {
    let schema = incoming.peek()?;
    let scan = numbers(incoming.len())?;
    let rows = Rows { reading: Reading(Arc::new(incoming)), schema: schema.clone(), failure: failure.clone() };
    let function = FunctionIR::Opaque {
        function: Arc::new(rows),
        schema: Some(Arc::new(move |_: &Schema| Ok::<_, PolarsError>(schema.clone())) as Arc<dyn UdfSchema>),
        predicate_pd: false,
        projection_pd: false,
        streamable: true,
        fmt_str: PlSmallStr::from_static("exchange"),
    };
    Ok((scan, function))
}

struct Rows {
    reading: Reading,
    schema: SchemaRef,
    failure: Failure,
}

impl DataFrameUdf for Rows {
    fn call_udf(&self, numbers: DataFrame) -> PolarsResult<DataFrame> {
        let mut all: Option<DataFrame> = None;
        for number in numbers.column(PART)?.u64()?.iter().flatten() {
            let rows = self.reading.0.part(number as usize).map_err(|error| self.failure.keep(error))?;
            match &mut all {
                Some(all) => {
                    all.vstack_mut_owned(rows)?;
                }
                None => all = Some(rows),
            }
        }
        Ok(all.unwrap_or_else(|| DataFrame::empty_with_schema(&self.schema)))
    }
}

/// A scan of the numbers below `count`, each a record batch of its own.
pub(super) fn numbers(count: usize) -> Result<IR> {
    let batches = (0..count as u64).map(|number| PrimitiveArray::from_vec(vec![number]));
    let numbers = UInt64Chunked::from_chunk_iter(PlSmallStr::from_static(PART), batches).into_column();
    let mut df = DataFrame::new(count, vec![numbers]).map_err(polars_error)?;
    let schema = df.schema().clone();
    let mut ipc = Vec::new();
    IpcWriter::new(&mut ipc).with_parallel(false).finish(&mut df).map_err(polars_error)?;
    Ok(IR::Scan {
        sources: ScanSources::Buffers(Arc::from([Buffer::from_vec(ipc)])),
        file_info: FileInfo::new(schema, None, (Some(count), count)),
        hive_parts: None,
        predicate: None,
        predicate_file_skip_applied: None,
        output_schema: None,
        scan_type: Box::new(FileScanIR::Ipc { options: IpcScanOptions::default(), metadata: None }),
        unified_scan_args: Box::default(),
    })
}
