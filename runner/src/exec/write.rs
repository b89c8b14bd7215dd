//! A task's result laid out as its exchange wants it.

use bytes::Bytes;
use polars_core::runtime::RAYON;
use polars_core::prelude::*;
use rayon::prelude::*;

use super::{Context, frames, partition};
use crate::error::{QueryError, Result};
use crate::graph::{Exchange, KEYS, Location, Piece, PieceOut, TaskOutput, TaskSpec};
use crate::plan::polars_error;

/// Chunks that a sorted task cuts its rows into, for each range that readers will want.
const CHUNKS_PER_RANGE: usize = 4;
/// Fewer rows than this are not worth a chunk of their own.
const CHUNK_ROWS: usize = 256;

struct Part {
    partition: u32,
    df: DataFrame,
    bounds: Option<(Bytes, Bytes)>,
}

pub fn tagged(mut df: DataFrame, column: &str, base: u64) -> Result<DataFrame> {
    let rows = df.height() as u64;
    let tag = UInt64Chunked::from_vec(PlSmallStr::from_str(column), (base..base + rows).collect());
    df.with_column(tag.into_column()).map_err(polars_error)?;
    Ok(df)
}

pub fn output(df: DataFrame, note: Option<Vec<u8>>, task: &TaskSpec, ctx: &Context, out: &mut TaskOutput) -> Result<()> {
    let parts = match &task.output {
        Exchange::Whole | Exchange::Result => vec![Part { partition: 0, df, bounds: None }],
        Exchange::Hash { keys, partitions: 1, .. } if !keys.is_empty() => vec![Part { partition: 0, df, bounds: None }],
        Exchange::Hash { keys, partitions } => hashed(&df, keys, *partitions as usize)?,
        Exchange::Range { key, partitions } => ranged(df, key, *partitions as usize)?,
        Exchange::Sink { sink } => {
            let mut writer = (ctx.open_sink)(*sink, task.id, task.attempt)?;
            writer.write(df)?;
            out.staged = writer.finish()?;
            return Ok(());
        },
    };
    write_parts(parts, note, task, ctx, out)
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
    if df.height() < 4096 {
        return rows.into_iter().enumerate().filter_map(gather).collect();
    }
    RAYON.install(|| rows.into_par_iter().enumerate().filter_map(gather).collect())
}

fn ranged(df: DataFrame, key: &str, n: usize) -> Result<Vec<Part>> {
    if df.height() == 0 {
        return Ok(Vec::new());
    }
    let options = SortMultipleOptions::default().with_maintain_order(true);
    let df = df.sort([key], options).map_err(polars_error)?;
    let rows = df.height();
    let chunks = (rows / CHUNK_ROWS).clamp(1, n * CHUNKS_PER_RANGE);
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

fn write_parts(
    parts: Vec<Part>,
    note: Option<Vec<u8>>,
    task: &TaskSpec,
    ctx: &Context,
    out: &mut TaskOutput,
) -> Result<()> {
    let encode = |part: Part| -> Result<(u32, u64, Option<(Bytes, Bytes)>, Vec<u8>)> {
        let rows = part.df.height() as u64;
        let mut buf = Vec::new();
        if part.df.width() > 0 {
            frames::write_ipc(&mut buf, part.df, ctx.compression)?;
        }
        Ok((part.partition, rows, part.bounds, buf))
    };
    let small = parts.iter().map(|p| p.df.height()).sum::<usize>() < 4096;
    let parts: Vec<Part> = parts.into_iter().filter(|p| p.df.height() > 0).collect();
    if parts.is_empty() {
        return Ok(());
    }
    let mut encoded: Vec<_> = if small {
        parts.into_iter().map(encode).collect::<Result<_>>()?
    } else {
        RAYON.install(|| parts.into_par_iter().map(encode).collect::<Result<_>>())?
    };
    encoded.extend(note.map(|note| (KEYS, 0, None, note)));
    let mut writer = ctx.store.create(&ctx.query, task.id, task.attempt)?;
    let mut written = Vec::with_capacity(encoded.len());
    for (partition, rows, bounds, buf) in encoded {
        let offset = writer.position();
        writer.write_all(&buf).map_err(|e| QueryError::io(format!("writing shuffle data failed: {e}")))?;
        let piece = Piece { at: Location::Inline(Bytes::new()), offset, len: buf.len() as u64, rows };
        written.push(PieceOut { partition, piece, bounds });
    }
    out.bytes = writer.position();
    let at = writer.finish()?;
    for piece in &mut written {
        // Inline bytes travel with the messages: each piece takes its own only.
        match &at {
            Location::Inline(all) => {
                let from = piece.piece.offset as usize;
                piece.piece.at = Location::Inline(all.slice(from..from + piece.piece.len as usize));
                piece.piece.offset = 0;
            },
            other => piece.piece.at = other.clone(),
        }
    }
    out.pieces = written;
    Ok(())
}
