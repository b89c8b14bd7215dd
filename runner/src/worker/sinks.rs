//! The query's sinks as tasks see them.

use bytes::Bytes;
use polars_core::prelude::DataFrame;

use crate::sink;
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::TaskId;

use super::Settings;

pub fn open(settings: &Settings, index: u32, task: TaskId, attempt: u32) -> Result<Box<dyn floe_exec::RowSink>> {
    let missing = || QueryError::internal(format!("the job has no sink {index}"));
    let plan = settings.sinks.get(index as usize).ok_or_else(missing)?;
    Ok(Box::new(Rows(sink::TaskWriter::new(plan, task, attempt)?)))
}

struct Rows(sink::TaskWriter);

impl floe_exec::RowSink for Rows {
    fn write(&mut self, df: DataFrame) -> Result<()> {
        self.0.write(df)
    }

    fn finish(self: Box<Self>) -> Result<Vec<Bytes>> {
        self.0.finish()
    }
}
