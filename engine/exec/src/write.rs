//! Lays out a batch of a task's rows as its exchange requires.

use polars_core::prelude::*;
use polars_core::runtime::RAYON;
use polars_io::ipc::IpcCompression;
use rayon::prelude::*;

use super::partition;
use floe_polars::polars_error;
use floe_wire::chunk::KeyBounds;
use floe_wire::error::Result;
use floe_wire::graph::Exchange;

/// Chunks that a sorted batch is cut into per range of the exchange.
const CHUNKS_PER_RANGE: usize = 4;
/// Fewer rows than this are not worth a chunk of their own, …
const CHUNK_ROWS: usize = 256;
/// … nor, if there are many rows, fewer bytes: a chunk's entry in the table takes space, too.
const CHUNK_BYTES: usize = 128 << 10;
/// Even few bytes are cut into this many chunks, so that they can be spread.
const MIN_CHUNKS: usize = 32;
/// Parts of a batch that are encoded at the same time.
const MAX_PARTS_AT_ONCE: usize = 16;
/// Fewer rows than this are partitioned on one thread.
const PARALLEL_FROM_ROWS: usize = 4096;

/// A batch with the assignment of its rows to the partitions of an exchange.
pub struct Parts {
    df: DataFrame,
    parts: Vec<Part>,
}

struct Part {
    partition: u32,
    rows: Rows,
    bounds: Option<KeyBounds>,
}

enum Rows {
    All,
    Numbers(Vec<IdxSize>),
    Slice(usize, usize),
}

pub struct Encoded {
    pub partition: u32,
    pub rows: usize,
    pub bounds: Option<KeyBounds>,
    pub ipc: Vec<u8>,
}

pub fn tagged(mut df: DataFrame, column: &str, base: u64) -> Result<DataFrame> {
    let rows = df.height() as u64;
    let tag = UInt64Chunked::from_vec(PlSmallStr::from_str(column), (0..rows).map(|row| base + row).collect());
    df.with_column(tag.into_column()).map_err(polars_error)?;
    Ok(df)
}

/// Lays out the rows of one batch as the readers of the exchange want them.
pub fn parts(df: DataFrame, exchange: &Exchange) -> Result<Parts> {
    match exchange {
        Exchange::Hash { keys, partitions } if *partitions > 1 || keys.is_empty() => {
            let rows = partition::by_partition(&df, keys, *partitions as usize)?;
            let part = |(p, rows): (usize, Vec<IdxSize>)| Part {
                partition: p as u32,
                rows: Rows::Numbers(rows),
                bounds: None,
            };
            Ok(Parts { df, parts: rows.into_iter().enumerate().map(part).collect() })
        }
        Exchange::Range { key, partitions } => ranged(df, key, *partitions as usize),
        Exchange::Hash { .. } | Exchange::Whole | Exchange::Result | Exchange::Sink { .. } => {
            Ok(Parts { df, parts: vec![Part { partition: 0, rows: Rows::All, bounds: None }] })
        }
    }
}

fn ranged(df: DataFrame, key: &str, n: usize) -> Result<Parts> {
    if df.height() == 0 {
        return Ok(Parts { df, parts: Vec::new() });
    }
    let options = SortMultipleOptions::default().with_maintain_order(true);
    let sorted = df.sort([key], options).map_err(polars_error)?;
    drop(df);
    let rows = sorted.height();
    let most = (sorted.estimated_size() / CHUNK_BYTES).max(MIN_CHUNKS).min(n * CHUNKS_PER_RANGE);
    let chunks = (rows / CHUNK_ROWS).clamp(1, most.max(1));
    let keys = sorted.column(key).and_then(|c| c.as_materialized_series().binary().cloned()).map_err(polars_error)?;
    let at = |i: usize| keys.get(i).unwrap_or(&[]);
    let parts = (0..chunks).map(|c| {
        let (from, to) = (rows * c / chunks, rows * (c + 1) / chunks);
        Part { partition: 0, rows: Rows::Slice(from, to), bounds: Some(KeyBounds::new(at(from), at(to - 1))) }
    });
    Ok(Parts { parts: parts.collect(), df: sorted })
}

impl Parts {
    /// Writes the parts that have rows, as IPC, in order. Only a few are encoded at a time: together they are as large
    /// as the batch itself.
    pub fn write(
        self,
        compression: Option<IpcCompression>,
        mut write: impl FnMut(Encoded) -> Result<()>,
    ) -> Result<()> {
        let Parts { df, mut parts } = self;
        parts.retain(|part| part.rows.count(&df) > 0);
        let encode = |Part { partition, rows, bounds }: Part| -> Result<Encoded> {
            let df = rows.of(&df)?;
            let rows = df.height();
            let mut ipc = Vec::new();
            if df.width() > 0 {
                floe_polars::write_ipc(&mut ipc, df, compression)?;
            }
            Ok(Encoded { partition, rows, bounds, ipc })
        };
        if df.height() < PARALLEL_FROM_ROWS {
            return parts.into_iter().try_for_each(|part| write(encode(part)?));
        }
        let mut parts = parts.into_iter();
        loop {
            let some: Vec<Part> = parts.by_ref().take(MAX_PARTS_AT_ONCE).collect();
            if some.is_empty() {
                return Ok(());
            }
            let encoded: Vec<Encoded> = RAYON.install(|| some.into_par_iter().map(encode).collect::<Result<_>>())?;
            encoded.into_iter().try_for_each(&mut write)?;
        }
    }
}

impl Rows {
    fn count(&self, df: &DataFrame) -> usize {
        match self {
            Rows::All => df.height(),
            Rows::Numbers(rows) => rows.len(),
            Rows::Slice(from, to) => to - from,
        }
    }

    fn of(self, df: &DataFrame) -> Result<DataFrame> {
        match self {
            Rows::All => Ok(df.clone()),
            // Row numbers come from this very frame.
            Rows::Numbers(rows) => df.take(&IdxCa::from_vec(PlSmallStr::EMPTY, rows)).map_err(polars_error),
            Rows::Slice(from, to) => Ok(df.slice(from as i64, to - from)),
        }
    }
}
