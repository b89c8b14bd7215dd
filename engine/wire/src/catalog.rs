//! The catalog, in which the outputs of finished tasks are looked up when their readers are launched.

use crate::chunk::OutputId;
use crate::graph::{StageId, TaskId};
use crate::task::TaskOutput;

/// Looks up the current outputs of a run. Readers keep no copy of an output's place, so that an output made again
/// elsewhere is found there.
pub trait Catalog {
    /// The number of tasks that a stage was cut into; none before it is.
    fn tasks(&self, stage: StageId) -> Option<u32>;
    /// The output of a task and the attempt that made it, if it is there.
    fn output(&self, task: TaskId) -> Option<Found<'_>>;
}

#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub id: OutputId,
    pub output: &'a TaskOutput,
}

/// Finished stages, each with the outputs of its tasks: for runs in one process, where nothing is lost.
impl Catalog for std::collections::HashMap<StageId, Vec<TaskOutput>> {
    fn tasks(&self, stage: StageId) -> Option<u32> {
        self.get(&stage).map(|outputs| outputs.len() as u32)
    }

    fn output(&self, task: TaskId) -> Option<Found<'_>> {
        let output = self.get(&task.stage)?.get(task.task as usize)?;
        Some(Found { id: OutputId { task, attempt: 0 }, output })
    }
}
