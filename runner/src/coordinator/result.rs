//! Holds a result without a sink: its rows on workers or in a store stay there until the handle is dropped.

use polars_core::frame::DataFrame;
use polars_core::prelude::SchemaRef;

use floe_wire::chunk::Place;
use floe_wire::error::Result;
use floe_wire::task::Portion;

use crate::shuffle::Reader;

use super::driver::Hold;

pub struct ResultHandle {
    /// In the order of the rows, one chunk each.
    pub rows: Vec<Portion>,
    pub schema: SchemaRef,
    reader: Reader,
    _hold: Option<Hold>,
}

impl ResultHandle {
    /// Frees the workers at once if all rows came in messages.
    pub(super) fn new(rows: Vec<Portion>, schema: SchemaRef, reader: Reader, hold: Hold) -> ResultHandle {
        let here = rows.iter().all(|portion| matches!(portion.place, Place::Inline(_)));
        ResultHandle { rows, schema, reader, _hold: (!here).then_some(hold) }
    }

    /// Whether some of the rows lie on a worker.
    pub fn needs_workers(&self) -> bool {
        self.rows.iter().any(|portion| matches!(portion.place, Place::Worker { .. }))
    }

    pub fn bytes(&self) -> u64 {
        self.rows.iter().flat_map(|portion| &portion.chunks).map(|chunk| chunk.len).sum()
    }

    /// Row count of a portion, without reading it.
    pub fn portion_rows(&self, index: usize) -> u64 {
        self.rows[index].chunks.iter().map(|chunk| u64::from(chunk.rows)).sum()
    }

    /// Reads all rows. Blocks.
    pub fn read(&self) -> Result<DataFrame> {
        self.read_portions(&self.rows)
    }

    /// Reads at least the first `rows` rows, if there are that many. Blocks.
    pub fn read_first(&self, rows: u64) -> Result<DataFrame> {
        let mut seen = 0;
        let wanted = self.rows.iter().take_while(|portion| {
            let before = seen;
            seen += portion.chunks.iter().map(|chunk| u64::from(chunk.rows)).sum::<u64>();
            before < rows
        });
        self.read_portions(&self.rows[..wanted.count()])
    }

    /// Reads one portion, so that a large result can be streamed. Blocks.
    pub fn read_portion(&self, index: usize) -> Result<DataFrame> {
        self.read_portions(&self.rows[index..=index])
    }

    fn read_portions(&self, rows: &[Portion]) -> Result<DataFrame> {
        Ok(floe_exec::read(rows, &self.schema, &self.reader)?)
    }
}
