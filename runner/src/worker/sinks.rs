//! Adapts the query's sinks to the interface of `exec`.

use crate::sink;
use floe_exec;
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::TaskId;

use super::Settings;

pub fn open(settings: &Settings, index: u32, task: TaskId, attempt: u32) -> Result<Box<dyn floe_exec::RowSink>> {
    let missing = || QueryError::internal(format!("the job has no sink {index}"));
    let plan = settings.sinks.get(index as usize).ok_or_else(missing)?;
    Ok(Box::new(sink::TaskSink::new(plan, task, attempt)?))
}
