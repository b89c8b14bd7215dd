//! Which files a table's log has, and which of them make a version.
//!
//! The whole log is listed, so `_last_checkpoint` would save nothing; it may be missing, stale or damaged. Compacted
//! commits are not used: the commits that they stand for are there as well.

use std::collections::BTreeMap;

use super::error::{bad_table, no_such_version, not_found};
use crate::files::{Entry, Files};
use floe_wire::error::Result;

/// The commits and checkpoints of a table, by version.
#[derive(Debug, Default)]
pub struct Log {
    pub commits: BTreeMap<i64, Entry>,
    checkpoints: BTreeMap<i64, Checkpoint>,
}

/// The files of a checkpoint. Those of several kinds may exist for a version; the first kind is read.
#[derive(Clone, Debug, Default)]
struct Checkpoint {
    classic: Option<String>,
    named: Option<String>,
    /// By the number of parts: the parts that exist, by their number.
    parts: BTreeMap<u64, BTreeMap<u64, String>>,
}

impl Checkpoint {
    /// `None` if parts are missing, which a writer that failed leaves behind.
    fn files(&self) -> Option<Vec<String>> {
        if let Some(file) = self.classic.as_ref().or(self.named.as_ref()) {
            return Some(vec![file.clone()]);
        }
        let complete = self.parts.iter().find(|(count, parts)| parts.len() as u64 == **count)?;
        Some(complete.1.values().cloned().collect())
    }
}

/// What is read for a version.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment {
    pub version: i64,
    /// The files of the checkpoint it starts from.
    pub checkpoint: Vec<String>,
    /// The commits after it, in order.
    pub commits: Vec<String>,
}

enum Kind {
    Commit,
    Classic,
    Named,
    Part(u64, u64),
}

impl Log {
    /// Lists the log of the table at this root.
    pub fn list(files: &dyn Files, root: &str) -> Result<Self> {
        let mut log = Log::default();
        for entry in files.list(&format!("{root}/_delta_log"))? {
            let name = entry.uri.rsplit_once("_delta_log/").map_or(entry.uri.as_str(), |(_, name)| name);
            let Some((version, kind)) = parse_name(name) else { continue };
            if let Kind::Commit = kind {
                log.commits.insert(version, entry);
                continue;
            }
            // Left behind by a writer that failed.
            if entry.bytes == 0 {
                continue;
            }
            let checkpoint = log.checkpoints.entry(version).or_default();
            match kind {
                Kind::Classic => checkpoint.classic = Some(entry.uri),
                Kind::Named => checkpoint.named = Some(entry.uri),
                Kind::Part(part, count) => {
                    checkpoint.parts.entry(count).or_default().insert(part, entry.uri);
                }
                Kind::Commit => {}
            }
        }
        log.checkpoints.retain(|_, checkpoint| checkpoint.files().is_some());
        if log.commits.is_empty() && log.checkpoints.is_empty() { Err(not_found(root)) } else { Ok(log) }
    }

    /// The last version.
    pub fn latest(&self) -> i64 {
        let commit = self.commits.keys().next_back();
        let checkpoint = self.checkpoints.keys().next_back();
        commit.max(checkpoint).copied().unwrap_or(-1)
    }

    /// The first version that can be read. Those before it may have been cleaned up.
    pub fn earliest(&self, root: &str) -> Result<i64> {
        if self.commits.contains_key(&0) {
            return Ok(0);
        }
        self.checkpoints.keys().next().copied().ok_or_else(|| {
            let first = self.commits.keys().next().copied().unwrap_or(0);
            bad_table(
                root,
                format!("version 0 is missing from its log: the first commit is {first}, and there is no checkpoint"),
            )
        })
    }

    /// What is read for this version.
    pub fn segment(&self, root: &str, version: i64) -> Result<Segment> {
        let (earliest, latest) = (self.earliest(root)?, self.latest());
        if version < earliest || version > latest {
            return Err(no_such_version(root, format!("version {version}"), earliest, latest));
        }
        let checkpoint = self.checkpoints.range(..=version).next_back();
        let (first, checkpoint) = match checkpoint {
            Some((at, checkpoint)) => (at + 1, checkpoint.files().unwrap_or_default()),
            None => (0, Vec::new()),
        };
        let mut commits = Vec::new();
        for wanted in first..=version {
            let Some(commit) = self.commits.get(&wanted) else {
                return Err(bad_table(root, format!("version {wanted} is missing from its log ({wanted:020}.json)")));
            };
            commits.push(commit.uri.clone());
        }
        Ok(Segment { version, checkpoint, commits })
    }
}

/// Reads the name of a file in the log. `None` for those that make no version.
fn parse_name(name: &str) -> Option<(i64, Kind)> {
    let (version, rest) = name.split_once('.')?;
    let version = number(version, 20)?;
    let kind = match rest.split('.').collect::<Vec<_>>()[..] {
        ["json"] => Kind::Commit,
        ["checkpoint", "parquet"] => Kind::Classic,
        ["checkpoint", _, "json" | "parquet"] => Kind::Named,
        ["checkpoint", part, count, "parquet"] => {
            let (part, count) = (number(part, 10)?, number(count, 10)?);
            if part == 0 || part > count {
                return None;
            }
            Kind::Part(part, count)
        }
        _ => return None,
    };
    Some((i64::try_from(version).ok()?, kind))
}

fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|each| each.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}
