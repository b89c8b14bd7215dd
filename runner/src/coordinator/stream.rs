//! Streams a result as bytes, encoded while it is read: one portion at a time is in memory (of Parquet, one row group).
//! Whole portions before the offset are skipped without being read.

use std::io::{self, Write};

use axum::body::Bytes;
use polars_core::prelude::*;
use tokio::sync::mpsc::Sender;

use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

use super::form::{Form, Writer};
use super::result::ResultHandle;

type Chunk = io::Result<Bytes>;

/// What a reader requested.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub form: Form,
    /// The Arrow types that the reader knows: at the newest level, string views are written without conversion.
    pub level: CompatLevel,
    /// Rows to skip.
    pub offset: u64,
    /// The most rows to send.
    pub rows: u64,
}

impl Shape {
    /// Turns a file with categoricals into a stream: a file's dictionaries must not change, and theirs grow while the
    /// rows of several workers are read.
    pub fn fit(self, schema: &Schema) -> Shape {
        let changes = self.form == Form::File && schema.iter_values().any(has_categories);
        Shape { form: if changes { Form::Stream } else { self.form }, ..self }
    }
}

fn has_categories(dtype: &DataType) -> bool {
    match dtype {
        DataType::Categorical(..) => true,
        DataType::List(inner) | DataType::Array(inner, _) => has_categories(inner),
        DataType::Struct(fields) => fields.iter().any(|field| has_categories(field.dtype())),
        _ => false,
    }
}

/// Sends a result. Blocks; stops early if the reader is gone. An error breaks the stream off, so that part of a result
/// never passes for all of it.
pub fn send(handle: &ResultHandle, shape: Shape, sender: &Sender<Chunk>) {
    if let Err(error) = write(handle, shape, sender) {
        let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
    }
}

fn write(handle: &ResultHandle, shape: Shape, sender: &Sender<Chunk>) -> Result<()> {
    let mut portions = Cut { offset: shape.offset, left: shape.rows, portion: 0 };
    let first = match portions.next(handle)? {
        Some(frame) => frame,
        None => handle.read_first(0)?.clear(),
    };
    let mut out = Chunks { sender, buffer: Vec::new() };
    // The schema of the first frame is that of all.
    let schema = first.schema().clone();
    let mut writer = Writer::start(shape.form, &mut out, &schema, shape.level).map_err(polars_error)?;
    writer.write(first).map_err(polars_error)?;
    while let Some(frame) = portions.next(handle)? {
        writer.write(like(frame, &schema).map_err(polars_error)?).map_err(polars_error)?;
    }
    writer.finish().map_err(polars_error)?;
    out.flush().map_err(|error| QueryError::io(error.to_string()))
}

fn like(frame: DataFrame, schema: &Schema) -> PolarsResult<DataFrame> {
    if **frame.schema() == *schema {
        return Ok(frame);
    }
    let cast = frame.columns().iter().zip(schema.iter_values()).map(|(column, dtype)| column.strict_cast(dtype));
    DataFrame::new(frame.height(), cast.collect::<PolarsResult<Vec<_>>>()?)
}

/// Walks over a result's portions and keeps the requested rows.
struct Cut {
    offset: u64,
    left: u64,
    portion: usize,
}

impl Cut {
    fn next(&mut self, handle: &ResultHandle) -> Result<Option<DataFrame>> {
        while self.left > 0 && self.portion < handle.rows.len() {
            let at = self.portion;
            self.portion += 1;
            if self.passes(handle.portion_rows(at)) {
                continue;
            }
            let frame = handle.read_portion(at)?;
            let (skip, take) = self.take(frame.height() as u64);
            return Ok(Some(frame.slice(skip as i64, take as usize)));
        }
        Ok(None)
    }

    /// Skips the next portion, of `rows` rows, if it lies before the offset; returns whether it does.
    fn passes(&mut self, rows: u64) -> bool {
        let before = rows <= self.offset && rows > 0;
        if before {
            self.offset -= rows;
        }
        before
    }

    /// Returns rows to skip and rows to take from the next `rows`.
    fn take(&mut self, rows: u64) -> (u64, u64) {
        let skip = self.offset.min(rows);
        let take = (rows - skip).min(self.left);
        self.offset -= skip;
        self.left -= take;
        (skip, take)
    }
}

struct Chunks<'a> {
    sender: &'a Sender<Chunk>,
    buffer: Vec<u8>,
}

const CHUNK_BYTES: usize = 1 << 20;

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A large column comes as one slice: copy it in steps of at most a chunk.
        let taken = bytes.len().min(CHUNK_BYTES - self.buffer.len());
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(CHUNK_BYTES);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a page, and how many portions are read for it; `portions`: the row count of each.
    fn page(offset: u64, left: u64, portions: &[u64]) -> (Vec<u64>, usize) {
        let mut cut = Cut { offset, left, portion: 0 };
        let (mut rows, mut read, mut start) = (Vec::new(), 0, 0);
        for count in portions {
            if cut.left > 0 && !cut.passes(*count) {
                read += 1;
                let (skip, take) = cut.take(*count);
                rows.extend(start + skip..start + skip + take);
            }
            start += count;
        }
        (rows, read)
    }

    #[test]
    fn a_page_has_the_rows_that_are_asked_for_and_reads_no_others() {
        let portions = [3, 0, 4, 5, 2];
        for offset in 0..16 {
            for left in 0..16 {
                let (rows, _) = page(offset, left, &portions);
                assert_eq!(rows, (offset.min(14)..(offset + left).min(14)).collect::<Vec<_>>(), "{offset} {left}");
            }
        }
        assert_eq!(page(8, 2, &portions), (vec![8, 9], 2), "the empty one and the third");
        assert_eq!(page(12, u64::MAX, &portions).0, [12, 13]);
    }
}
