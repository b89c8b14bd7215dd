//! Where the outputs of finished tasks are looked up when their readers are launched.

use crate::chunk::OutputId;
use crate::graph::{StageId, TaskId, TaskOutput};

/// The outputs of a run that count now. Whoever keeps them answers; readers never keep a copy of where things lie, so that
/// an output which was made again elsewhere is found there.
pub trait Catalog {
    /// How many tasks a stage was cut into; none before that.
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
