//! A result as one Arrow IPC stream, made while it is read.

use std::io::{self, Write};

use axum::body::Bytes;
use polars::prelude::{IpcStreamWriter, SerWriter};
use tokio::sync::mpsc::Sender;

use floe_wire::error::Result;

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
    let mut frame = handle.read()?;
    let mut out = Chunks { sender, buffer: Vec::new() };
    IpcStreamWriter::new(&mut out).finish(&mut frame).map_err(floe_polars::polars_error)?;
    out.flush().map_err(|error| floe_wire::error::QueryError::io(error.to_string()))
}

struct Chunks<'a> {
    sender: &'a Sender<Chunk>,
    buffer: Vec<u8>,
}

const CHUNK_BYTES: usize = 1 << 20;

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
