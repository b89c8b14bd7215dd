//! A result without a sink: it stays on the workers until its handle is dropped.

use std::sync::Arc;

use polars_core::frame::DataFrame;
use polars_core::prelude::SchemaRef;

use crate::shuffle;
use floe_wire::error::Result;
use floe_wire::graph::{Location, Piece};

use super::driver::Hold;

pub struct ResultHandle {
    /// In the order of the rows.
    pub pieces: Vec<Piece>,
    pub schema: SchemaRef,
    query: String,
    token: String,
    store: Arc<shuffle::Store>,
    _hold: Option<Hold>,
}

impl ResultHandle {
    /// Gives the workers free at once when all pieces came along.
    pub(super) fn new(
        pieces: Vec<Piece>,
        schema: SchemaRef,
        query: String,
        token: String,
        store: Arc<shuffle::Store>,
        hold: Hold,
    ) -> ResultHandle {
        let here = pieces.iter().all(|piece| matches!(piece.at, Location::Inline(_)));
        ResultHandle { pieces, schema, query, token, store, _hold: (!here).then_some(hold) }
    }

    /// All rows. Blocking.
    pub fn read(&self) -> Result<DataFrame> {
        self.read_pieces(&self.pieces)
    }

    /// At least the first `rows` rows, if there are so many. Blocking.
    pub fn read_first(&self, rows: u64) -> Result<DataFrame> {
        let mut seen = 0;
        let wanted = self.pieces.iter().take_while(|piece| {
            let before = seen;
            seen += piece.rows;
            before < rows
        });
        self.read_pieces(&self.pieces[..wanted.count()])
    }

    /// One piece, so that a large result can be streamed. Blocking.
    pub fn read_piece(&self, index: usize) -> Result<DataFrame> {
        self.read_pieces(&self.pieces[index..=index])
    }

    fn read_pieces(&self, pieces: &[Piece]) -> Result<DataFrame> {
        let store = crate::worker::Shuffled { store: self.store.clone(), token: self.token.clone() };
        floe_exec::read(pieces, &self.schema, &self.query, &store)
    }
}
