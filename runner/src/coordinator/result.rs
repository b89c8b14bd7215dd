//! A result without a sink: it stays on the workers until its handle is dropped.

use polars_core::frame::DataFrame;
use polars_core::prelude::SchemaRef;

use floe_wire::chunk::Place;
use floe_wire::error::Result;
use floe_wire::graph::Portion;

use crate::shuffle::Reader;

use super::driver::Hold;

pub struct ResultHandle {
    /// In the order of the rows, each of one chunk.
    pub rows: Vec<Portion>,
    pub schema: SchemaRef,
    reader: Reader,
    _hold: Option<Hold>,
}

impl ResultHandle {
    /// Gives the workers free at once when all rows came along.
    pub(super) fn new(rows: Vec<Portion>, schema: SchemaRef, reader: Reader, hold: Hold) -> ResultHandle {
        let here = rows.iter().all(|portion| matches!(portion.place, Place::Inline(_)));
        ResultHandle { rows, schema, reader, _hold: (!here).then_some(hold) }
    }

    pub fn bytes(&self) -> u64 {
        self.rows.iter().flat_map(|portion| &portion.chunks).map(|chunk| chunk.len).sum()
    }

    /// All rows. Blocking.
    pub fn read(&self) -> Result<DataFrame> {
        self.read_portions(&self.rows)
    }

    /// At least the first `rows` rows, if there are so many. Blocking.
    pub fn read_first(&self, rows: u64) -> Result<DataFrame> {
        let mut seen = 0;
        let wanted = self.rows.iter().take_while(|portion| {
            let before = seen;
            seen += portion.chunks.iter().map(|chunk| u64::from(chunk.rows)).sum::<u64>();
            before < rows
        });
        self.read_portions(&self.rows[..wanted.count()])
    }

    /// Rows that were written together, so that a large result can be streamed. Blocking.
    pub fn read_portion(&self, index: usize) -> Result<DataFrame> {
        self.read_portions(&self.rows[index..=index])
    }

    fn read_portions(&self, rows: &[Portion]) -> Result<DataFrame> {
        Ok(floe_exec::read(rows, &self.schema, &self.reader)?)
    }
}
