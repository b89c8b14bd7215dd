//! Writes a task's rows for its exchange: takes them as the engine produces them and lays them out one batch at a time
//! while the engine goes on, so that no task holds its whole output.

use std::time::{Duration, Instant};

use polars_core::prelude::*;
use polars_core::utils::accumulate_dataframes_vertical_unchecked;

use super::keys::{Filter, KeySummaryBuilder};
use super::{Context, OutputWriter, write};
use floe_planner::{SummarySpec, Tag};
use floe_wire::chunk::{Chunk, Chunks, KeyBounds, OutputId, Span};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::Exchange;
use floe_wire::task::{TaskOutput, TaskSpec};

pub struct Outgoing {
    ctx: Context,
    id: OutputId,
    exchange: Exchange,
    filters: Vec<Filter>,
    /// The order tag to add.
    tag: Option<Tag>,
    key_summary: Option<KeySummaryBuilder>,
    batch: Vec<DataFrame>,
    batch_bytes: usize,
    /// Opened when the first rows come, so that a task which fails before leaves nothing to clean up.
    to: Option<Box<dyn OutputWriter>>,
    written: Vec<(Chunk, Option<KeyBounds>)>,
    summary: Option<Span>,
    rows: u64,
    size: u64,
    busy: Duration,
}

impl Outgoing {
    pub fn new(
        task: &TaskSpec,
        ctx: &Context,
        filters: Vec<Filter>,
        tag: Option<&Tag>,
        summary: Option<&SummarySpec>,
    ) -> Outgoing {
        Outgoing {
            ctx: ctx.clone(),
            id: task.id,
            exchange: task.output.clone(),
            filters,
            tag: tag.cloned(),
            key_summary: summary.map(KeySummaryBuilder::new),
            batch: Vec::new(),
            batch_bytes: 0,
            to: None,
            written: Vec::new(),
            summary: None,
            rows: 0,
            size: 0,
            busy: Duration::ZERO,
        }
    }

    /// Takes rows in the order in which the engine produces them.
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

    /// Bytes of a batch; more where rows are sorted, for fewer and longer runs.
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
            let first = tag.first(self.id.task.task, self.rows, df.height() as u64)?;
            df = write::tagged(df, &tag.column, first)?;
        }
        self.rows += df.height() as u64;
        self.size += df.estimated_size() as u64;
        if let Some(key_summary) = &mut self.key_summary {
            key_summary.add(&df)?;
        }
        let on_disk = self.to.as_ref().is_some_and(|writer| writer.on_disk());
        let compression = if on_disk { self.ctx.disk_compression } else { self.ctx.compression };
        write::parts(df, &self.exchange)?.write(compression, |encoded| self.chunk(encoded))?;
        self.tell();
        Ok(())
    }

    fn chunk(&mut self, encoded: write::Encoded) -> Result<()> {
        let write::Encoded { partition, rows, bounds, ipc } = encoded;
        let Span { offset, len } = self.put(&ipc)?;
        let too_many = |_| QueryError::internal(format!("{rows} rows at once, more than Polars can count"));
        let rows = u32::try_from(rows).map_err(too_many)?;
        self.written.push((Chunk { partition, rows, offset, len }, bounds));
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<Span> {
        let writer = match &mut self.to {
            Some(writer) => writer,
            None => self.to.insert(self.ctx.store.create(self.id)?),
        };
        let offset = writer.position();
        writer.write_all(bytes).map_err(|e| QueryError::io(format!("writing shuffle data failed: {e}")))?;
        Ok(Span { offset, len: bytes.len() as u64 })
    }

    fn tell(&self) {
        let progress = &self.ctx.progress;
        progress.rows.store(self.rows, std::sync::atomic::Ordering::Relaxed);
        if let Some(writer) = &self.to {
            progress.bytes.store(writer.position(), std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Writes the last batch and reports the output.
    pub fn finish(&mut self, out: &mut TaskOutput) -> Result<()> {
        let begun = Instant::now();
        self.flush()?;
        if let Some(summary) = self.key_summary.take().map(KeySummaryBuilder::finish).transpose()?.flatten() {
            self.summary = Some(self.put(&summary)?);
        }
        self.tell();
        if let Some(writer) = self.to.take() {
            out.bytes = writer.position();
            out.place = writer.finish()?;
            out.chunks = chunks(std::mem::take(&mut self.written), &self.exchange);
            out.summary = self.summary.take();
        }
        (out.rows, out.size) = (self.rows, self.size);
        out.metrics.write_us = (self.busy + begun.elapsed()).as_micros() as u64;
        Ok(())
    }
}

/// The table of the chunks that were written.
fn chunks(written: Vec<(Chunk, Option<KeyBounds>)>, exchange: &Exchange) -> Chunks {
    match exchange {
        Exchange::Range { .. } => {
            Chunks::sorted(written.into_iter().filter_map(|(chunk, bounds)| Some((chunk, bounds?))).collect())
        }
        Exchange::Hash { .. } | Exchange::Whole | Exchange::Result | Exchange::Sink { .. } => {
            Chunks::new(written.into_iter().map(|(chunk, _)| chunk).collect())
        }
    }
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
