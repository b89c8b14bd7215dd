//! Messages of the control protocol (generated from `proto/control.proto`), and conversions of the engine's types.
//! Contains data types only; the protocol's flow is in `coordinator` and `worker`.

use floe_wire::chunk::WorkerId;
use floe_wire::graph::{StageId, TaskId};

use crate::shuffle;

#[allow(clippy::all)]
mod generated {
    tonic::include_proto!("floe.control.v1");
}

pub use generated::*;

/// Message size limit. Messages carry the inline inputs and small results of tasks.
pub const MAX_MESSAGE_BYTES: usize = 512 << 20;

/// Both ends of a stream must be the same build, because fragments are Polars' internal types.
pub fn version() -> String {
    format!("{}+{}", env!("CARGO_PKG_VERSION"), option_env!("FLOE_BUILD").unwrap_or("dev"))
}

impl Attempt {
    pub fn new(query: &str, task: TaskId, attempt: u32) -> Self {
        Attempt { query: query.to_string(), stage: task.stage.0, task: task.task, attempt }
    }

    pub fn task_id(&self) -> TaskId {
        TaskId { stage: StageId(self.stage), task: self.task }
    }
}

impl Peer {
    pub fn new(worker: WorkerId, peer: &shuffle::Peer) -> Self {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let memory_dir = peer.memory_dir.as_deref().map(text).unwrap_or_default();
        Peer { worker: worker.0, url: peer.url.clone(), dir: text(&peer.dir), memory_dir }
    }

    pub fn place(&self) -> (WorkerId, shuffle::Peer) {
        let memory_dir = (!self.memory_dir.is_empty()).then(|| self.memory_dir.clone().into());
        (WorkerId(self.worker), shuffle::Peer { url: self.url.clone(), dir: self.dir.clone().into(), memory_dir })
    }
}

impl From<to_worker::Message> for ToWorker {
    fn from(message: to_worker::Message) -> Self {
        ToWorker { message: Some(message) }
    }
}

impl From<from_worker::Message> for FromWorker {
    fn from(message: from_worker::Message) -> Self {
        FromWorker { message: Some(message) }
    }
}
