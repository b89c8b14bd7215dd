//! A result as one Arrow IPC stream, made while it is read: one portion of it at a time is in memory.

use std::io::{self, Write};

use axum::body::Bytes;
use polars_arrow::io::ipc::write::{StreamWriter, WriteOptions};
use polars_core::frame::chunk_df_for_writing;
use polars_core::prelude::*;
use tokio::sync::mpsc::Sender;

use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

use super::result::ResultHandle;

type Chunk = io::Result<Bytes>;

/// Blocking; stops early when nobody reads any more. An error breaks the stream, so that half a result never passes
/// for a whole one.
pub fn send(handle: &ResultHandle, sender: &Sender<Chunk>) {
    if let Err(error) = write(handle, sender) {
        let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
    }
}

fn write(handle: &ResultHandle, sender: &Sender<Chunk>) -> Result<()> {
    let mut out = Chunks { sender, buffer: Vec::new() };
    let mut frames = Frames { writer: StreamWriter::new(&mut out, WriteOptions { compression: None }), schema: None };
    for portion in 0..handle.rows.len() {
        frames.write(handle.read_portion(portion)?)?;
    }
    if frames.schema.is_none() {
        frames.write(handle.read()?)?;
    }
    frames.writer.finish().map_err(polars_error)?;
    out.flush().map_err(|error| QueryError::io(error.to_string()))
}

/// Rows per batch at most.
const BATCH_ROWS: usize = 512 * 512;

struct Frames<W: Write> {
    writer: StreamWriter<W>,
    /// Of the first frame, which is that of the stream.
    schema: Option<SchemaRef>,
}

impl<W: Write> Frames<W> {
    fn write(&mut self, mut df: DataFrame) -> Result<()> {
        // What every reader of Arrow knows.
        let level = CompatLevel::oldest();
        match &self.schema {
            None => {
                let schema = df.schema().clone();
                self.writer.start(&schema.to_arrow(level), None).map_err(polars_error)?;
                self.schema = Some(schema);
            }
            Some(schema) if df.schema() != schema => {
                let cast =
                    df.columns().iter().zip(schema.iter_values()).map(|(column, dtype)| column.strict_cast(dtype));
                let columns = cast.collect::<PolarsResult<Vec<_>>>().map_err(polars_error)?;
                df = DataFrame::new(df.height(), columns).map_err(polars_error)?;
            }
            Some(_) => {}
        }
        let df = chunk_df_for_writing(&mut df, BATCH_ROWS).map_err(polars_error)?;
        for batch in df.iter_chunks(level, true) {
            self.writer.write(&batch, None).map_err(polars_error)?;
        }
        Ok(())
    }
}

struct Chunks<'a> {
    sender: &'a Sender<Chunk>,
    buffer: Vec<u8>,
}

const CHUNK_BYTES: usize = 1 << 20;

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A column of a large piece comes in one: no more of it is copied than the channel holds.
        let taken = bytes.len().min(CHUNK_BYTES - self.buffer.len().min(CHUNK_BYTES - 1));
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
