//! The newest version of a table as a writer sees it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::delta::actions::{self, Action, Commit, Metadata, Protocol};
use crate::delta::error::{NOT_FOUND, bad_table};
use crate::delta::log::Log;
use crate::delta::replay::{self, Live};
use crate::delta::{READERS, check_format, paths, protocol};
use crate::files::Files;
use crate::parallel;
use floe_wire::error::Result;

/// How many commits are looked through at once for the one of a query.
const COMMITS: usize = 64;

pub struct State {
    pub version: i64,
    pub protocol: Protocol,
    pub metadata: Metadata,
    /// The version that each application reached.
    pub applications: HashMap<String, i64>,
    /// The files of the table, if they were asked for.
    pub files: Option<Vec<Live>>,
}

/// The commit that a query made.
pub struct Earlier {
    pub version: i64,
    /// The files that it added; `None` if the log has been cleaned of it.
    pub files: Option<Vec<String>>,
}

impl State {
    /// Reads the last version. `None` if there is no table.
    pub fn read(files: &dyn Files, root: &str, with_files: bool) -> Result<Option<Self>> {
        let log = match Log::list(files, root) {
            Err(error) if error.class == NOT_FOUND => return Ok(None),
            log => log?,
        };
        let segment = log.segment(root, log.latest())?;
        let snapshot = replay::for_writer(files, root, &segment, with_files)?;
        let state = Self {
            version: segment.version,
            protocol: snapshot.protocol,
            metadata: snapshot.metadata,
            applications: snapshot.applications,
            files: with_files.then_some(snapshot.files),
        };
        state.check(root)?;
        Ok(Some(state))
    }

    /// Takes up the commits that were made since.
    pub fn advance(&mut self, files: &dyn Files, root: &str) -> Result<()> {
        loop {
            let uri = commit_uri(root, self.version + 1);
            let Some(bytes) = files.read(&uri)? else { return Ok(()) };
            self.apply(root, &uri, &bytes)?;
            self.version += 1;
        }
    }

    fn apply(&mut self, root: &str, uri: &str, bytes: &Bytes) -> Result<()> {
        let (mut seen, mut added) = (HashSet::new(), Vec::new());
        // As when a snapshot is read: the last action about a file is the one that counts.
        for action in actions::parse(root, uri, bytes)?.into_iter().rev() {
            let Action { add, remove, metadata, protocol, txn, .. } = action;
            if let Some((path, add)) = add.and_then(|add| Some((add.path.clone()?, add))) {
                let file = paths::resolve(root, &path);
                if seen.insert(replay::key(&file, add.vector.as_ref())) {
                    added.push(Live { uri: file, add });
                }
            }
            if let Some((path, remove)) = remove.and_then(|remove| Some((remove.path.clone()?, remove))) {
                seen.insert(replay::key(&paths::resolve(root, &path), remove.vector.as_ref()));
            }
            if let Some((application, version)) = txn.and_then(|txn| txn.app_id.zip(txn.version)) {
                self.applications.insert(application, version);
            }
            if let Some(metadata) = metadata {
                self.metadata = metadata;
            }
            if let Some(protocol) = protocol {
                self.protocol = protocol;
            }
        }
        if let Some(files) = &mut self.files {
            files.retain(|file| !seen.contains(&replay::key(&file.uri, file.add.vector.as_ref())));
            files.extend(added.into_iter().rev());
        }
        self.check(root)
    }

    fn check(&self, root: &str) -> Result<()> {
        protocol::check(root, &self.protocol)?;
        check_format(root, &self.metadata)
    }

    /// The time that the last commit carries, where commits do.
    pub fn time_ms(&self, files: &dyn Files, root: &str) -> Result<i64> {
        let uri = commit_uri(root, self.version);
        let bytes = files.read(&uri)?.ok_or_else(|| bad_table(root, format!("its commit {uri} is missing")))?;
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let commit: Option<Commit> = serde_json::from_slice(line).ok();
        commit
            .and_then(|commit| commit.info?.timestamp_ms)
            .ok_or_else(|| bad_table(root, format!("the first action of {uri} has no \"inCommitTimestamp\"")))
    }

    /// The commit of this application, if it made one.
    pub fn earlier(&self, files: &dyn Files, root: &str, application: &str) -> Result<Option<Earlier>> {
        if self.applications.get(application).is_none_or(|version| *version < 1) {
            return Ok(None);
        }
        let log = Log::list(files, root)?;
        let commits: Vec<_> = log.commits.range(..=self.version).rev().collect();
        for commits in commits.chunks(COMMITS) {
            let found = parallel::map(commits, READERS, |(version, entry)| {
                // Another process may clean up the log at any time.
                let Some(bytes) = files.read(&entry.uri)? else { return Ok(None) };
                let actions = actions::parse(root, &entry.uri, &bytes)?;
                let is_own =
                    |action: &Action| action.txn.as_ref().is_some_and(|txn| txn.app_id.as_deref() == Some(application));
                Ok(actions.iter().any(is_own).then_some((**version, actions)))
            })?;
            if let Some((version, actions)) = found.into_iter().flatten().next() {
                let added = actions.into_iter().filter_map(|action| Some(paths::resolve(root, &action.add?.path?)));
                return Ok(Some(Earlier { version, files: Some(added.collect()) }));
            }
        }
        Ok(Some(Earlier { version: self.version, files: None }))
    }
}

pub fn commit_uri(root: &str, version: i64) -> String {
    format!("{root}/_delta_log/{version:020}.json")
}
