//! Names: of files, of the query in them, of the hidden place where files wait.

use sha2::{Digest, Sha256};

use super::{Names, Plan, Run};
use floe_wire::graph::TaskId;

/// First characters of hidden directories and prefixes.
pub(super) const HIDDEN: &str = ".floe-";

fn short_hash(text: &str, digits: usize) -> String {
    let mut hex: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

impl Plan {
    /// The query in file names: the same for every try at it.
    pub(super) fn short_id(&self) -> String {
        short_hash(&self.query, 12)
    }

    /// What hidden names of all queries with this target end with.
    pub(super) fn target_tag(&self) -> String {
        short_hash(&self.uri(), 10)
    }

    /// The hidden prefix of this query and target in an object store: all attempts meet there, at one lease.
    pub(super) fn hidden_prefix(&self) -> String {
        format!("{HIDDEN}{}-{}", self.short_id(), self.target_tag())
    }

    /// The hidden directory of a run of this query and target: each run has its own, which another can take away.
    pub(super) fn hidden_directory(&self, run: &Run) -> String {
        format!("{HIDDEN}{}.{run}-{}", self.short_id(), self.target_tag())
    }

    /// What names of all files of this query start with, whatever attempt wrote them.
    pub(super) fn own_prefix(&self) -> String {
        format!("part-{}-", self.short_id())
    }

    /// What names of all files of this run start with.
    pub(super) fn run_prefix(&self) -> String {
        format!("{}{}-", self.own_prefix(), self.run)
    }

    /// The name under which a task's n-th file of a directory is made. With Polars' names the final one follows at
    /// commit, when the files of all tasks are counted.
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

/// The owner of a hidden name, if its target is this one: the query's short id, and the run if the name contains it.
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
