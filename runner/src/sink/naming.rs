//! Names of files, of the query in file names, and of the hidden staging place.

use sha2::{Digest, Sha256};

use super::{Names, Plan, Run};
use floe_wire::graph::TaskId;

/// Prefix of hidden directories and objects.
pub(super) const HIDDEN: &str = ".floe-";

fn short_hash(text: &str, digits: usize) -> String {
    let mut hex: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

impl Plan {
    /// Id of the query in file names: the same for all attempts.
    pub(super) fn short_id(&self) -> String {
        short_hash(&self.query, 12)
    }

    /// Suffix of all hidden names for this target.
    pub(super) fn target_tag(&self) -> String {
        short_hash(&self.uri(), 10)
    }

    /// Hidden prefix of this query and target in an object store; all attempts share it, and its lease.
    pub(super) fn hidden_prefix(&self) -> String {
        format!("{HIDDEN}{}-{}", self.short_id(), self.target_tag())
    }

    /// Hidden directory of a run of this query and target: each run has its own, which a later one can take over.
    pub(super) fn hidden_directory(&self, run: &Run) -> String {
        format!("{HIDDEN}{}.{run}-{}", self.short_id(), self.target_tag())
    }

    /// Prefix of all files of this query, of any attempt.
    pub(super) fn own_prefix(&self) -> String {
        format!("part-{}-", self.short_id())
    }

    /// Prefix of all files of this run.
    pub(super) fn run_prefix(&self) -> String {
        format!("{}{}-", self.own_prefix(), self.run)
    }

    /// Name of a task's n-th staged file in a directory. With Polars' names, the final name is set by the commit, when
    /// the files of all tasks are counted.
    pub(super) fn file_name(&self, task: TaskId, n: usize) -> String {
        if let Some(file) = &self.file {
            return file.clone();
        }
        match self.names {
            Names::Floe => {
                format!("{}{:02}-{:05}-{n:03}.{}", self.run_prefix(), task.stage.0, task.task, self.extension)
            }
            Names::Polars => format!("{n:08x}.{}", self.extension),
        }
    }
}

/// Owner of a hidden name for this target: the query's short id, and the run if the name contains it.
pub(super) fn hidden_owner(name: &str, target_tag: &str) -> Option<(String, Option<Run>)> {
    let (owner, tag) = name.strip_prefix(HIDDEN)?.split_once('-')?;
    if tag != target_tag {
        return None;
    }
    Some(match owner.split_once('.') {
        Some((query, run)) => (query.to_owned(), Run::parse(run)),
        None => (owner.to_owned(), None),
    })
}
