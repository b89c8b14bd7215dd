//! Which version was current at a time.

use std::collections::BTreeMap;

use super::actions::Commit;
use super::error::bad_table;
use super::log::Log;
use super::replay;
use crate::files::Files;
use floe_wire::error::{QueryError, Result};

/// The last version at that time.
pub fn version_at(files: &dyn Files, root: &str, log: &Log, wanted_ms: i64) -> Result<i64> {
    let earliest = log.earliest(root)?;
    let latest = log.segment(root, log.latest())?;
    let (_, metadata) = replay::settings(files, root, &latest)?;
    let number = |name: &str| metadata.property(name).and_then(|text| text.parse::<i64>().ok());
    if metadata.property("delta.enableInCommitTimestamps").is_some_and(|on| on.eq_ignore_ascii_case("true")) {
        // From which version commits carry their times; from the first one, if nothing is said.
        let since_ms = number("delta.inCommitTimestampEnablementTimestamp");
        let since = number("delta.inCommitTimestampEnablementVersion").unwrap_or(0);
        if since_ms.is_none_or(|since_ms| wanted_ms >= since_ms) {
            return by_commits(files, root, log, wanted_ms, since.max(earliest));
        }
        return by_files(root, log, wanted_ms, earliest, Some(since));
    }
    by_files(root, log, wanted_ms, earliest, None)
}

/// By the times in commits, which only grow.
fn by_commits(files: &dyn Files, root: &str, log: &Log, wanted_ms: i64, first: i64) -> Result<i64> {
    let commits: Vec<_> = log.commits.range(first..).collect();
    let time = |at: usize| {
        let uri = &commits[at].1.uri;
        let bytes = files.read(uri)?.ok_or_else(|| bad_table(root, format!("its commit {uri} is missing")))?;
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let commit: Option<Commit> = serde_json::from_slice(line).ok();
        let time = commit.and_then(|commit| commit.info?.timestamp_ms);
        time.ok_or_else(|| bad_table(root, format!("the first action of {uri} has no \"inCommitTimestamp\"")))
    };
    // The first commit that is too late.
    let (mut low, mut high) = (0, commits.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if time(middle)? <= wanted_ms {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    match low.checked_sub(1) {
        Some(at) => Ok(*commits[at].0),
        None if commits.is_empty() => Err(too_early(root, wanted_ms, first, None)),
        None => Err(too_early(root, wanted_ms, *commits[0].0, Some(time(0)?))),
    }
}

/// By the times of files. One that is not later than that of the version before counts as a millisecond later.
fn by_files(root: &str, log: &Log, wanted_ms: i64, earliest: i64, before: Option<i64>) -> Result<i64> {
    let mut times = BTreeMap::new();
    let mut last_ms: Option<i64> = None;
    for (&version, commit) in &log.commits {
        let time_ms = last_ms.map_or(commit.modified_ms, |last| commit.modified_ms.max(last.saturating_add(1)));
        last_ms = Some(time_ms);
        if version >= earliest && before.is_none_or(|before| version < before) {
            times.insert(version, time_ms);
        }
    }
    let found = times.iter().rev().find(|(_, time_ms)| **time_ms <= wanted_ms);
    match found {
        Some((&version, _)) => Ok(version),
        None => {
            let first = times.first_key_value();
            Err(too_early(root, wanted_ms, first.map_or(earliest, |first| *first.0), first.map(|first| *first.1)))
        }
    }
}

fn too_early(root: &str, wanted_ms: i64, version: i64, time_ms: Option<i64>) -> QueryError {
    let text = |ms: i64| jiff::Timestamp::from_millisecond(ms).map_or(format!("{ms} ms"), |time| time.to_string());
    let wanted = text(wanted_ms);
    let known = match time_ms {
        Some(time_ms) => format!("its first version that can be read is {version} of {}", text(time_ms)),
        None => format!("the time of its first version that can be read, {version}, is not known"),
    };
    QueryError::user(
        "NoSuchVersion",
        format!("the Delta table {root} has no version as early as {wanted}: {known}; give a later time"),
    )
}
