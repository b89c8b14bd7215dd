//! A task's report of its staged files, and the choice of which of them become visible under which names.

use std::collections::HashMap;

use bytes::Bytes;
use floe_lake::table::Value;
use serde::{Deserialize, Serialize};

use super::{Names, Plan, Summary};
use floe_wire::error::{QueryError, Result};

/// The files of one task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub rows: u64,
    pub files: Vec<File>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct File {
    /// Directory below the root with a trailing slash, or empty.
    pub dir: String,
    pub name: String,
    /// Number of the file within its directory and task.
    pub n: usize,
    pub size: u64,
    pub at: At,
    /// The values of its partition keys, if the files become part of a table.
    pub keys: Vec<Option<Value>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum At {
    /// Below the plan's staging directory.
    Local { path: String },
    /// A multipart upload, still to be completed.
    Upload { id: String, parts: Vec<String> },
    /// Small enough for a message; written by the commit.
    Inline { data: Bytes },
    /// Written in place (a device).
    Written,
}

/// A file of the result, with its final name below the root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Final {
    pub name: String,
    pub size: u64,
    pub at: At,
    pub keys: Vec<Option<Value>>,
}

pub(super) struct Chosen {
    pub files: Vec<Final>,
    /// Uploads of files that are not used.
    pub dropped: Vec<Final>,
    pub summary: Summary,
}

pub(super) fn encode(task: &Task) -> Result<Bytes> {
    rmp_serde::to_vec(task).map(Bytes::from).map_err(|error| QueryError::internal(format!("staged files: {error}")))
}

pub(super) fn decode(bytes: &[u8]) -> Result<Task> {
    rmp_serde::from_slice(bytes).map_err(|error| QueryError::internal(format!("staged files: {error}")))
}

/// Tasks without rows staged a file with only the schema. If there are no rows at all, one of these becomes the result;
/// otherwise none does.
pub(super) fn choose(plan: &Plan, staged: &[Vec<Bytes>]) -> Result<Chosen> {
    let tasks = staged.iter().flatten().map(|bytes| decode(bytes)).collect::<Result<Vec<Task>>>()?;
    let rows: u64 = tasks.iter().map(|task| task.rows).sum();
    let keep_schema_of = if rows == 0 { tasks.iter().position(|task| !task.files.is_empty()) } else { None };
    let mut chosen = Chosen {
        files: Vec::new(),
        dropped: Vec::new(),
        summary: Summary { uri: plan.result_uri(), rows, ..Summary::default() },
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (index, task) in tasks.into_iter().enumerate() {
        let keep = task.rows > 0 || keep_schema_of == Some(index);
        for file in task.files {
            let renumber = plan.names == Names::Polars && plan.file.is_none() && matches!(file.at, At::Local { .. });
            let mut name = format!("{}{}", file.dir, file.name);
            if keep && renumber {
                let count = counts.entry(file.dir.clone()).or_default();
                name = format!("{}{:08x}.{}", file.dir, *count, plan.extension);
                *count += 1;
            }
            let list = if keep { &mut chosen.files } else { &mut chosen.dropped };
            list.push(Final { name, size: file.size, at: file.at, keys: file.keys });
        }
    }
    let mut names: Vec<&str> = chosen.files.iter().map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(QueryError::internal(format!("two tasks staged {} in {}", pair[0], plan.uri())));
    }
    chosen.summary.files = chosen.files.len() as u64;
    chosen.summary.bytes = chosen.files.iter().map(|file| file.size).sum();
    Ok(chosen)
}
