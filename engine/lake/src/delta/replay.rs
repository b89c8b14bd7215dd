//! What a version consists of: the log's actions, reconciled.

use std::collections::{HashMap, HashSet};

use super::READERS;
use super::actions::{self, Action, Add, Metadata, Protocol, Transaction, Vector};
use super::error::bad_table;
use super::log::Segment;
use super::paths;
use crate::files::Files;
use crate::parallel;
use floe_wire::error::Result;

/// The actions that hold at a version.
#[derive(Debug)]
pub struct Snapshot {
    pub protocol: Protocol,
    pub metadata: Metadata,
    /// The version that each application reached. Complete only where it is read for a writer.
    pub applications: HashMap<String, i64>,
    /// The files, oldest first.
    pub files: Vec<Live>,
}

/// A file of the table.
#[derive(Debug)]
pub struct Live {
    pub uri: String,
    pub add: Add,
}

/// What is looked for in a checkpoint. Its other columns, such as tombstones, matter to writers only.
const COLUMNS: [&str; 4] = ["protocol", "metaData", "add", "sidecar"];
/// The same without the files.
const SETTINGS: [&str; 2] = ["protocol", "metaData"];

/// What a writer looks for that keeps all files, and one that removes some.
const WRITER_SETTINGS: [&str; 3] = ["protocol", "metaData", "txn"];
const WRITER_COLUMNS: [&str; 5] = ["protocol", "metaData", "txn", "add", "sidecar"];

/// Reads a version: from the last commit back, so that the first word about a file is the one that counts.
pub fn snapshot(files: &dyn Files, root: &str, segment: &Segment) -> Result<Snapshot> {
    replay(files, root, segment, &COLUMNS)
}

/// Reads the protocol and the metadata of a version only.
pub fn settings(files: &dyn Files, root: &str, segment: &Segment) -> Result<(Protocol, Metadata)> {
    let snapshot = replay(files, root, segment, &SETTINGS)?;
    Ok((snapshot.protocol, snapshot.metadata))
}

/// Reads a version for a writer. Unless it asks for the files, those of the checkpoint are left out.
pub fn for_writer(files: &dyn Files, root: &str, segment: &Segment, with_files: bool) -> Result<Snapshot> {
    replay(files, root, segment, if with_files { &WRITER_COLUMNS } else { &WRITER_SETTINGS })
}

fn replay(files: &dyn Files, root: &str, segment: &Segment, columns: &[&str]) -> Result<Snapshot> {
    let mut replay = Replay {
        root,
        protocol: None,
        metadata: None,
        applications: HashMap::new(),
        seen: HashSet::new(),
        files: Vec::new(),
    };
    let commits = files.read_all(&segment.commits)?;
    let commits: Vec<_> = segment.commits.iter().zip(&commits).collect();
    let parsed = parallel::map(&commits, parallel::cores(), |(uri, bytes)| actions::parse(root, uri, bytes))?;
    for (uri, actions) in segment.commits.iter().zip(parsed).rev() {
        replay.commit(uri, actions)?;
    }
    replay.files.reverse();
    let newer = std::mem::take(&mut replay.files);
    for actions in checkpoint(files, root, segment, columns)? {
        replay.checkpoint(actions);
    }
    replay.files.extend(newer);
    let missing =
        |what: &str| bad_table(root, format!("its log has no {what} action up to version {}", segment.version));
    Ok(Snapshot {
        protocol: replay.protocol.ok_or_else(|| missing("protocol"))?,
        metadata: replay.metadata.ok_or_else(|| missing("metaData"))?,
        applications: replay.applications,
        files: replay.files,
    })
}

/// The actions of the checkpoint, file by file, those of its sidecars too.
fn checkpoint(files: &dyn Files, root: &str, segment: &Segment, columns: &[&str]) -> Result<Vec<Vec<Action>>> {
    let mut parts = parallel::map(&segment.checkpoint, READERS, |uri| rows(files, root, uri, columns))?;
    if !columns.contains(&"sidecar") {
        return Ok(parts);
    }
    let sidecars: Vec<_> = parts
        .iter()
        .flatten()
        .filter_map(|action| action.sidecar.as_ref()?.path.as_deref())
        .map(|path| sidecar(root, path))
        .collect();
    parts.extend(parallel::map(&sidecars, READERS, |uri| rows(files, root, uri, &["add"]))?);
    Ok(parts)
}

fn rows(files: &dyn Files, root: &str, uri: &str, columns: &[&str]) -> Result<Vec<Action>> {
    if uri.ends_with(".json") {
        let bytes = files.read(uri)?.ok_or_else(|| bad_table(root, format!("its checkpoint {uri} is missing")))?;
        return actions::parse(root, uri, &bytes);
    }
    actions::parse(root, uri, files.parquet_rows(uri, columns)?.as_bytes())
}

/// A sidecar is named by its file name alone, or in full.
fn sidecar(root: &str, path: &str) -> String {
    if path.contains('/') {
        paths::resolve(root, path)
    } else {
        format!("{root}/_delta_log/_sidecars/{}", paths::decode(path))
    }
}

struct Replay<'a> {
    root: &'a str,
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    applications: HashMap<String, i64>,
    /// The logical files that were added or removed in commits.
    seen: HashSet<String>,
    files: Vec<Live>,
}

impl Replay<'_> {
    /// Takes the actions of a commit, the last first: of two about one file the later counts.
    fn commit(&mut self, uri: &str, actions: Vec<Action>) -> Result<()> {
        for action in actions.into_iter().rev() {
            if let Some(add) = action.add {
                let Some(path) = &add.path else {
                    return Err(bad_table(self.root, format!("an \"add\" in {uri} has no \"path\"")));
                };
                let file = paths::resolve(self.root, path);
                if self.seen.insert(key(&file, add.vector.as_ref())) {
                    self.files.push(Live { uri: file, add });
                }
            } else if let Some(remove) = action.remove {
                let Some(path) = &remove.path else {
                    return Err(bad_table(self.root, format!("a \"remove\" in {uri} has no \"path\"")));
                };
                self.seen.insert(key(&paths::resolve(self.root, path), remove.vector.as_ref()));
            }
            self.transaction(action.txn);
            self.protocol = self.protocol.take().or(action.protocol);
            self.metadata = self.metadata.take().or(action.metadata);
        }
        Ok(())
    }

    /// Takes the actions of a checkpoint, which names no file twice.
    fn checkpoint(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Some(add) = action.add
                && let Some(path) = &add.path
            {
                let uri = paths::resolve(self.root, path);
                if self.seen.is_empty() || !self.seen.contains(&key(&uri, add.vector.as_ref())) {
                    self.files.push(Live { uri, add });
                }
            }
            self.transaction(action.txn);
            let protocol = action.protocol.filter(|protocol| protocol.min_reader_version.is_some());
            self.protocol = self.protocol.take().or(protocol);
            let metadata = action.metadata.filter(|metadata| metadata.schema_string.is_some());
            self.metadata = self.metadata.take().or(metadata);
        }
    }

    /// Newer ones come first.
    fn transaction(&mut self, transaction: Option<Transaction>) {
        if let Some(Transaction { app_id: Some(application), version: Some(version) }) = transaction {
            self.applications.entry(application).or_insert(version);
        }
    }
}

/// What a logical file is known by: the same file with another deletion vector is another one.
pub fn key(uri: &str, vector: Option<&Vector>) -> String {
    match vector.and_then(Vector::id) {
        Some(id) => format!("{uri}\0{id}"),
        None => uri.to_owned(),
    }
}
