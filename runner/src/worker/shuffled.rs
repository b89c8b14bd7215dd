//! The worker's shuffle store as tasks see it.

use std::sync::Arc;

use polars_buffer::Buffer;

use crate::shuffle;
use floe_exec::{PieceWriter, Store};
use floe_wire::error::Result;
use floe_wire::graph::{Location, Piece, TaskId};

/// A worker's own store for writing, and everyone's for reading, with one query's token.
pub struct Shuffled {
    pub store: Arc<shuffle::Store>,
    pub token: String,
}

impl Store for Shuffled {
    fn create(&self, query: &str, task: TaskId, attempt: u32) -> Result<Box<dyn PieceWriter>> {
        Ok(Box::new(self.store.create(query, task, attempt)?))
    }

    fn open(&self, _query: &str, piece: &Piece) -> Result<Buffer<u8>> {
        shuffle::open(piece, &self.token)
    }
}

impl PieceWriter for shuffle::Writer {
    fn position(&self) -> u64 {
        shuffle::Writer::position(self)
    }

    fn finish(self: Box<Self>) -> Result<Location> {
        shuffle::Writer::finish(*self).map(|(at, _)| at)
    }
}
