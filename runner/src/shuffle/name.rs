//! File names of task outputs: made from the task and its attempt, so that two attempts never meet, and read back
//! when an output is gone, to say whose it was.

use floe_wire::graph::{Location, StageId, TaskId};

/// Whose output a file is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Producer {
    pub query: String,
    pub task: TaskId,
    pub attempt: u32,
    /// The worker that held it; empty for an object store.
    pub worker: String,
}

pub fn file_name(task: TaskId, attempt: u32) -> String {
    format!("s{}-t{}-a{}.ipc", task.stage.0, task.task, attempt)
}

/// The producer of an output, from its location; `None` for what travels inline.
pub fn producer(at: &Location) -> Option<Producer> {
    let (address, worker) = match at {
        Location::Inline(_) => return None,
        Location::Worker { worker, path, url } => (if path.is_empty() { url } else { path }, worker.clone()),
        Location::Store { uri } => (uri, String::new()),
    };
    let mut parts = address.rsplit('/');
    let (task, attempt) = parse(parts.next()?)?;
    let query = parts.next()?.to_string();
    Some(Producer { query, task, attempt, worker })
}

fn parse(name: &str) -> Option<(TaskId, u32)> {
    let mut parts = name.strip_suffix(".ipc")?.split('-');
    let stage = parts.next()?.strip_prefix('s')?.parse().ok()?;
    let task = parts.next()?.strip_prefix('t')?.parse().ok()?;
    let attempt = parts.next()?.strip_prefix('a')?.parse().ok()?;
    parts.next().is_none().then_some((TaskId { stage: StageId(stage), task }, attempt))
}
