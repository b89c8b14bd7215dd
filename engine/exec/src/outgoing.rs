//! Rows on their way out of a task: taken as the engine makes them and laid out for the exchange a batch at a time, while
//! the engine goes on, so that no task holds its whole output.

use std::time::{Duration, Instant};

use bytes::Bytes;
use polars_core::prelude::*;
use polars_core::utils::accumulate_dataframes_vertical_unchecked;

use super::keys::{Filter, Noting};
use super::{Context, PieceWriter, RowSink, write};
use floe_planner::{Notes, Tag};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{Exchange, KEYS, Location, Piece, PieceOut, TaskId, TaskOutput, TaskSpec};

pub struct Outgoing {
    ctx: Context,
    id: TaskId,
    attempt: u32,
    exchange: Exchange,
    filters: Vec<Filter>,
    /// Tells a row's place in the whole relation.
    tag: Option<Tag>,
    noting: Option<Noting>,
    batch: Vec<DataFrame>,
    batch_bytes: usize,
    to: To,
    written: Vec<PieceOut>,
    rows: u64,
    size: u64,
    busy: Duration,
}

/// Opened when the first rows are there: a task that fails before leaves nothing to clean up.
enum To {
    Nothing,
    Pieces(Box<dyn PieceWriter>),
    Sink(Box<dyn RowSink>),
}

impl Outgoing {
    pub fn new(
        task: &TaskSpec,
        ctx: &Context,
        filters: Vec<Filter>,
        tag: Option<&Tag>,
        notes: Option<&Notes>,
    ) -> Outgoing {
        Outgoing {
            ctx: ctx.clone(),
            id: task.id,
            attempt: task.attempt,
            exchange: task.output.clone(),
            filters,
            tag: tag.cloned(),
            noting: notes.map(Noting::new),
            batch: Vec::new(),
            batch_bytes: 0,
            to: To::Nothing,
            written: Vec::new(),
            rows: 0,
            size: 0,
            busy: Duration::ZERO,
        }
    }

    /// Rows in the order in which the engine puts them out.
    pub fn take(&mut self, mut df: DataFrame) -> Result<()> {
        let begun = Instant::now();
        self.ctx.check()?;
        for filter in &self.filters {
            df = filter.keep(df)?;
        }
        if df.height() > 0 {
            self.batch_bytes += df.estimated_size();
            self.batch.push(df);
        }
        if self.batch_bytes >= self.batch_limit() {
            self.flush()?;
        }
        self.busy += begun.elapsed();
        Ok(())
    }

    /// Bytes of rows that are laid out at once. What is sorted comes in fewer and longer runs then.
    fn batch_limit(&self) -> usize {
        match self.exchange {
            Exchange::Range { .. } => self.ctx.run_bytes,
            _ => self.ctx.batch_bytes,
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut df = accumulate_dataframes_vertical_unchecked(std::mem::take(&mut self.batch));
        self.batch_bytes = 0;
        if let Some(tag) = &self.tag {
            let first = tag.first(self.id.task, self.rows, df.height() as u64)?;
            df = write::tagged(df, &tag.column, first)?;
        }
        self.rows += df.height() as u64;
        self.size += df.estimated_size() as u64;
        if let Some(noting) = &mut self.noting {
            noting.add(&df)?;
        }
        if let Exchange::Sink { .. } = self.exchange {
            self.sink()?.write(df)?;
        } else {
            let compression = self.ctx.compression;
            write::parts(df, &self.exchange)?.write(compression, |encoded| self.piece(encoded))?;
        }
        self.tell();
        Ok(())
    }

    fn sink(&mut self) -> Result<&mut Box<dyn RowSink>> {
        if let (To::Nothing, Exchange::Sink { sink }) = (&self.to, &self.exchange) {
            self.to = To::Sink((self.ctx.open_sink)(*sink, self.id, self.attempt)?);
        }
        match &mut self.to {
            To::Sink(sink) => Ok(sink),
            To::Nothing | To::Pieces(_) => Err(QueryError::internal("a task without a sink writes to one")),
        }
    }

    fn piece(&mut self, encoded: write::Encoded) -> Result<()> {
        if let To::Nothing = self.to {
            self.to = To::Pieces(self.ctx.store.create(&self.ctx.query, self.id, self.attempt)?);
        }
        let To::Pieces(writer) = &mut self.to else {
            return Err(QueryError::internal("a task with a sink writes to an exchange"));
        };
        let write::Encoded { partition, rows, bounds, ipc } = encoded;
        let offset = writer.position();
        writer.write_all(&ipc).map_err(|e| QueryError::io(format!("writing shuffle data failed: {e}")))?;
        // Where that is becomes known when the file is whole.
        let piece = Piece { at: Location::Inline(Bytes::new()), offset, len: ipc.len() as u64, rows };
        self.written.push(PieceOut { partition, piece, bounds });
        Ok(())
    }

    fn tell(&self) {
        let progress = &self.ctx.progress;
        progress.rows.store(self.rows, std::sync::atomic::Ordering::Relaxed);
        if let To::Pieces(writer) = &self.to {
            progress.bytes.store(writer.position(), std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// All rows were taken; they have `schema` where there were none.
    pub fn finish(&mut self, schema: &Schema, out: &mut TaskOutput) -> Result<()> {
        let begun = Instant::now();
        self.flush()?;
        if let Some(note) = self.noting.take().map(Noting::finish).transpose()?.flatten() {
            self.piece(write::Encoded { partition: KEYS, rows: 0, bounds: None, ipc: note })?;
        }
        if let Exchange::Sink { .. } = self.exchange
            && self.rows == 0
        {
            self.sink()?.write(DataFrame::empty_with_schema(schema))?;
        }
        self.tell();
        match std::mem::replace(&mut self.to, To::Nothing) {
            To::Nothing => {}
            To::Sink(sink) => out.staged = sink.finish()?,
            To::Pieces(writer) => {
                out.bytes = writer.position();
                out.pieces = placed(std::mem::take(&mut self.written), &writer.finish()?);
            }
        }
        (out.rows, out.size) = (self.rows, self.size);
        out.metrics.write_us = (self.busy + begun.elapsed()).as_micros() as u64;
        Ok(())
    }
}

/// The pieces of a file that is whole now. Inline bytes travel with the messages: each piece takes its own only.
fn placed(mut pieces: Vec<PieceOut>, at: &Location) -> Vec<PieceOut> {
    for PieceOut { piece, .. } in &mut pieces {
        piece.at = match at {
            Location::Inline(all) => {
                let from = std::mem::take(&mut piece.offset) as usize;
                Location::Inline(all.slice(from..from + piece.len as usize))
            }
            other => other.clone(),
        };
    }
    pieces
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
