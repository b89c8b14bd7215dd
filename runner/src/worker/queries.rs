//! Keeps what a worker knows of its queries: settings, tokens and the fragments of stages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::proto;
use floe_planner::Fragment;
use floe_wire::error::{QueryError, Result};

use super::Settings;

pub struct Query {
    pub id: String,
    pub token: String,
    packed: Bytes,
    settings: OnceLock<Result<Arc<Settings>>>,
    fragments: Mutex<HashMap<u32, Arc<Packed>>>,
}

/// A stage's fragment as it was sent, and as its tasks share it once it is decoded.
struct Packed {
    bytes: Bytes,
    fragment: OnceLock<Result<Arc<Fragment>>>,
}

impl Query {
    /// Decoded by the first task that wants them, on its own thread.
    pub fn settings(&self) -> Result<Arc<Settings>> {
        self.settings.get_or_init(|| floe_wire::unpack(&self.packed).map(Arc::new)).clone()
    }

    /// Decoded by the stage's first task here, on its own thread.
    pub fn fragment(&self, stage: u32) -> Result<Arc<Fragment>> {
        let packed = {
            let fragments = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
            let missing = || QueryError::internal(format!("stage {stage} of {} came without its fragment", self.id));
            fragments.get(&stage).cloned().ok_or_else(missing)?
        };
        packed.fragment.get_or_init(|| Fragment::unpack(&packed.bytes).map(Arc::new)).clone()
    }

    pub fn add_fragment(&self, stage: u32, fragment: Bytes) {
        let packed = Packed { bytes: fragment, fragment: OnceLock::new() };
        self.fragments.lock().unwrap_or_else(PoisonError::into_inner).insert(stage, Arc::new(packed));
    }
}

#[derive(Default)]
pub struct Queries {
    queries: HashMap<String, Arc<Query>>,
}

impl Queries {
    pub fn start(&mut self, message: proto::QueryStart) {
        let query = Query {
            id: message.query.clone(),
            token: message.token,
            packed: message.settings_msgpack,
            settings: OnceLock::new(),
            fragments: Mutex::default(),
        };
        self.queries.insert(message.query, Arc::new(query));
    }

    pub fn get(&self, query: &str) -> Option<&Arc<Query>> {
        self.queries.get(query)
    }

    pub fn end(&mut self, query: &str) -> Option<Arc<Query>> {
        floe_plan::functions::release(query);
        self.queries.remove(query)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Query>> {
        self.queries.values()
    }
}
