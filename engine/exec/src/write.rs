//! A batch of a task's rows laid out as its exchange wants it.

use bytes::Bytes;
use polars_core::prelude::*;
use polars_core::runtime::RAYON;
use polars_io::ipc::IpcCompression;
use rayon::prelude::*;

use super::partition;
use floe_polars::polars_error;
use floe_wire::error::Result;
use floe_wire::graph::Exchange;

/// Chunks that a sorted task cuts its rows into, for each range that readers will want.
const CHUNKS_PER_RANGE: usize = 4;
/// Fewer rows than this are not worth a chunk of their own, …
const CHUNK_ROWS: usize = 256;
/// … and of many rows no fewer bytes: what is told of a chunk has a size, too.
const CHUNK_BYTES: usize = 128 << 10;
/// In as many chunks even few bytes are cut, so that they can be spread.
const CHUNKS_OF_FEW: usize = 32;
/// Fewer rows than this are not worth other threads.
const SMALL: usize = 4096;

pub struct Part {
    partition: u32,
    df: DataFrame,
    bounds: Option<(Bytes, Bytes)>,
}

pub struct Encoded {
    pub partition: u32,
    pub rows: u64,
    pub bounds: Option<(Bytes, Bytes)>,
    pub ipc: Vec<u8>,
}

pub fn tagged(mut df: DataFrame, column: &str, base: u64) -> Result<DataFrame> {
    let rows = df.height() as u64;
    let tag = UInt64Chunked::from_vec(PlSmallStr::from_str(column), (base..base + rows).collect());
    df.with_column(tag.into_column()).map_err(polars_error)?;
    Ok(df)
}

/// The rows of one batch as the readers of the exchange want them.
pub fn parts(df: DataFrame, exchange: &Exchange) -> Result<Vec<Part>> {
    match exchange {
        Exchange::Hash { keys, partitions } if *partitions > 1 || keys.is_empty() => {
            hashed(&df, keys, *partitions as usize)
        }
        Exchange::Range { key, partitions } => ranged(df, key, *partitions as usize),
        Exchange::Hash { .. } | Exchange::Whole | Exchange::Result | Exchange::Sink { .. } => {
            Ok(vec![Part { partition: 0, df, bounds: None }])
        }
    }
}

fn hashed(df: &DataFrame, keys: &[String], n: usize) -> Result<Vec<Part>> {
    let rows = partition::by_partition(df, keys, n)?;
    let gather = |(p, idx): (usize, Vec<IdxSize>)| {
        if idx.is_empty() {
            return None;
        }
        let idx = IdxCa::from_vec(PlSmallStr::EMPTY, idx);
        // Row numbers come from this very frame.
        let df = df.take(&idx);
        Some(df.map(|df| Part { partition: p as u32, df, bounds: None }).map_err(polars_error))
    };
    if df.height() < SMALL {
        return rows.into_iter().enumerate().filter_map(gather).collect();
    }
    RAYON.install(|| rows.into_par_iter().enumerate().filter_map(gather).collect())
}

fn ranged(df: DataFrame, key: &str, n: usize) -> Result<Vec<Part>> {
    if df.height() == 0 {
        return Ok(Vec::new());
    }
    let options = SortMultipleOptions::default().with_maintain_order(true);
    // Only one of the two is held while the chunks are written.
    let df = df.sort([key], options).map_err(polars_error)?;
    let rows = df.height();
    let most = (df.estimated_size() / CHUNK_BYTES).max(CHUNKS_OF_FEW).min(n * CHUNKS_PER_RANGE);
    let chunks = (rows / CHUNK_ROWS).clamp(1, most.max(1));
    let keys = df.column(key).and_then(|c| c.as_materialized_series().binary().cloned()).map_err(polars_error)?;
    let at = |i: usize| Bytes::copy_from_slice(keys.get(i).unwrap_or(&[]));
    Ok((0..chunks)
        .map(|c| {
            let (from, to) = (rows * c / chunks, rows * (c + 1) / chunks);
            let bounds = Some((at(from), at(to - 1)));
            Part { partition: c as u32, df: df.slice(from as i64, to - from), bounds }
        })
        .collect())
}

/// The parts that have rows, as IPC.
pub fn encoded(parts: Vec<Part>, compression: Option<IpcCompression>) -> Result<Vec<Encoded>> {
    let encode = |Part { partition, df, bounds }: Part| -> Result<Encoded> {
        let rows = df.height() as u64;
        let mut ipc = Vec::new();
        if df.width() > 0 {
            floe_polars::write_ipc(&mut ipc, df, compression)?;
        }
        Ok(Encoded { partition, rows, bounds, ipc })
    };
    let parts: Vec<Part> = parts.into_iter().filter(|part| part.df.height() > 0).collect();
    if parts.iter().map(|part| part.df.height()).sum::<usize>() < SMALL {
        return parts.into_iter().map(encode).collect();
    }
    RAYON.install(|| parts.into_par_iter().map(encode).collect())
}
