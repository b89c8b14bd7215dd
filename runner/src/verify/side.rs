//! The other side of a comparison: the distributed engine with warm workers in this process's children, or the
//! in-memory engine when only the oracles are compared. Here the plans of files and query objects become jobs.

use std::path::Path;
use std::time::Duration;

use polars_plan::dsl::DslPlan;

use super::Args;
use super::judge::{Ran, Side};
use super::oracle::{self, With};
use crate::error::QueryError;

/// Polars' in-memory engine as the other side.
pub struct InMemory {
    pub limit: Duration,
}

impl Side for InMemory {
    fn run(&self, _name: &str, _bytes: &[u8], plan: &DslPlan) -> Ran {
        let (outcome, elapsed) = oracle::run(plan.clone(), With::InMemory, self.limit);
        Ran { outcome, stages: 1, tasks: 1, single_worker: Vec::new(), fell_back: None, elapsed }
    }

    fn is_in_memory_engine(&self) -> bool {
        true
    }
}

/// The bytes of a plan file.
pub fn plan_bytes(path: &Path) -> Result<Vec<u8>, QueryError> {
    std::fs::read(path).map_err(|e| QueryError::io(format!("{}: {e}", path.display())))
}

/// The distributed engine with its workers up.
pub fn distributed(_args: &Args, _limit: Duration) -> anyhow::Result<Box<dyn Side>> {
    anyhow::bail!("the distributed side is not there yet: use --oracles")
}
