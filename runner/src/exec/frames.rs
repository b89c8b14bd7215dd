//! Frames to IPC and back. A piece is one IPC file with one record batch, so that a column has one dictionary.

use std::io::Cursor;

use bytes::Bytes;
use polars_core::prelude::*;
use polars_core::utils::accumulate_dataframes_vertical_unchecked;
use polars_io::ipc::{IpcCompression, IpcReader, IpcWriter};
use polars_io::{SerReader, SerWriter};

use super::Store;
use crate::error::Result;
use crate::graph::Piece;
use crate::plan::polars_error;

pub fn frame_to_ipc(df: DataFrame) -> Result<Bytes> {
    let mut buf = Vec::new();
    write_ipc(&mut buf, df, None)?;
    Ok(Bytes::from(buf))
}

pub fn write_ipc(buf: &mut Vec<u8>, mut df: DataFrame, compression: Option<IpcCompression>) -> Result<()> {
    df.rechunk_mut();
    IpcWriter::new(buf)
        .with_compression(compression)
        .with_compat_level(CompatLevel::newest())
        .with_parallel(false)
        .finish(&mut df)
        .map_err(polars_error)
}

/// `height` counts for frames without columns, which IPC cannot tell.
pub fn frame_from_ipc(ipc: &[u8], height: usize, schema: &SchemaRef) -> Result<DataFrame> {
    if schema.is_empty() {
        return Ok(DataFrame::empty_with_height(height));
    }
    IpcReader::new(Cursor::new(ipc)).set_rechunk(false).finish().map_err(polars_error)
}

pub fn read_pieces(pieces: &[Piece], schema: &SchemaRef, query: &str, store: &dyn Store) -> Result<DataFrame> {
    let mut frames = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let bytes = store.open(query, piece)?;
        frames.push(frame_from_ipc(&bytes, piece.rows as usize, schema)?);
    }
    Ok(match frames.len() {
        0 => DataFrame::empty_with_schema(schema),
        1 => frames.swap_remove(0),
        _ => accumulate_dataframes_vertical_unchecked(frames),
    })
}
