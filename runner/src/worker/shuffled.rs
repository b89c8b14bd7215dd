//! Adapts the worker's shuffle store to the interface of `exec`.

use std::sync::Arc;

use floe_exec::{OutputWriter, Outputs, Store};
use floe_wire::chunk::{OutputId, Place, Span};
use floe_wire::error::{Result, TaskError};
use polars_buffer::Buffer;

use crate::shuffle;

/// Writes to this worker's store and reads from every worker's, for one run.
pub struct Shuffled {
    pub store: Arc<shuffle::Store>,
    pub reader: shuffle::Reader,
}

impl Store for Shuffled {
    fn create(&self, output: OutputId) -> Result<Box<dyn OutputWriter>> {
        Ok(Box::new(self.store.create(&self.reader.run, output)?))
    }
}

impl Outputs for Shuffled {
    fn open(&self, output: OutputId, place: &Place, span: Span) -> Result<Buffer<u8>, TaskError> {
        Outputs::open(&self.reader, output, place, span)
    }
}

impl Outputs for shuffle::Reader {
    fn open(&self, output: OutputId, place: &Place, span: Span) -> Result<Buffer<u8>, TaskError> {
        shuffle::Reader::open(self, output, place, span).map(Buffer::from_owner)
    }
}

impl OutputWriter for shuffle::Writer {
    fn position(&self) -> u64 {
        shuffle::Writer::position(self)
    }

    fn on_disk(&self) -> bool {
        shuffle::Writer::on_disk(self)
    }

    fn finish(self: Box<Self>) -> Result<Place> {
        shuffle::Writer::finish(*self).map(|(place, _)| place)
    }
}
