//! Makes the manifests and the list of a new snapshot.

use std::collections::HashSet;

use bytes::Bytes;
use floe_wire::error::{QueryError, Result};
use serde_json::json;

use super::catalog::Change;
use super::list::{self, ADDED, EXISTING, ManifestFile};
use super::partition::Part;
use super::plan::Plan;
use super::rewrite::{self, Into};
use super::state::{State, bad_table, unsupported};
use super::summary::{self, Removed};
use super::updates::{MAIN, Update};
use super::{added, random};
use crate::iceberg::avro::decode::Datum;
use crate::iceberg::manifest::{Key, key};
use crate::iceberg::{bad_file, uri, values};
use crate::write::{Mode, Request, Store, Written};

/// A change that adds a snapshot, whose files are there.
pub struct Snapshot {
    pub id: i64,
    pub change: Change,
}

/// Writes the files of a snapshot. `files` gets the URI of each before it is written, so that they can be removed.
pub fn make(
    store: &dyn Store,
    plan: &Plan,
    request: &Request,
    written: &[Written],
    files: &mut Vec<String>,
) -> Result<Snapshot> {
    let state = &plan.state;
    let parent = state.main()?;
    let id = loop {
        let id = random::snapshot_id();
        if !state.has(id) {
            break id;
        }
    };
    let sequence = state.last_sequence_number + 1;
    let into = Into { format: state.format_version, snapshot: id, sequence };
    let mut out = Out { store, directory: state.metadata(), uuid: random::uuid(), files, state };
    let mut manifests = Vec::new();
    for chunk in written.chunks(added::MANIFEST_FILES) {
        let made = added::manifest(plan, chunk, id, sequence);
        let (bytes, manifest) = made.map_err(|what| QueryError::internal(format!("writing a manifest: {what}")))?;
        manifests.push(out.manifest(bytes, manifest)?);
    }
    let old = match parent {
        Some(parent) => listed(store, parent)?,
        None => Vec::new(),
    };
    let gone = Gone::of(plan, request, written)?;
    let mut removed = Removed::default();
    for manifest in old {
        manifests.extend(keep(&mut out, plan, manifest, &gone, into, &mut removed)?);
    }
    let first_row = state.next_row_id.filter(|_| state.format_version >= 3);
    let rows = first_row.map(|first_row| number_rows(&mut manifests, first_row));
    // The clock may be behind that of the writer before.
    let timestamp_ms = random::now_ms().max(state.last_updated_ms);
    let header = [
        ("snapshot-id", id.to_string()),
        ("parent-snapshot-id", parent.map_or("null".into(), |parent| parent.snapshot_id.to_string())),
        ("sequence-number", sequence.to_string()),
        ("format-version", state.format_version.to_string()),
    ];
    let header: Vec<(&str, &str)> = header.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let bytes = list::write(&manifests, &header, state.format_version)
        .map_err(|what| QueryError::internal(format!("writing a manifest list: {what}")))?;
    let path = out.write(&format!("snap-{id}-1-{}.avro", out.uuid), bytes)?;
    let mut snapshot = json!({
        "snapshot-id": id, "sequence-number": sequence, "timestamp-ms": timestamp_ms, "manifest-list": path,
        "summary": summary::of(request, parent, written, &removed), "schema-id": plan.schema.get("schema-id"),
    });
    if let Some(parent) = parent {
        snapshot["parent-snapshot-id"] = parent.snapshot_id.into();
    }
    if let (Some(first_row), Some(rows)) = (first_row, rows) {
        snapshot["first-row-id"] = first_row.into();
        snapshot["added-rows"] = rows.into();
    }
    let mut updates = plan.updates.clone();
    updates.push(Update::AddSnapshot { snapshot });
    updates.push(Update::SetSnapshotRef { ref_name: MAIN.into(), r#type: "branch".into(), snapshot_id: id });
    let (base, requirements) = (plan.loaded.clone(), plan.requirements.clone());
    Ok(Snapshot { id, change: Change { base, requirements, updates, timestamp_ms } })
}

/// The manifests of a snapshot.
pub fn listed(store: &dyn Store, snapshot: &super::state::Snapshot) -> Result<Vec<ManifestFile>> {
    let path = snapshot.manifest_list.as_ref().ok_or_else(|| {
        unsupported(format!(
            "its snapshot {} has no manifest list, as the format's first version allows",
            snapshot.snapshot_id
        ))
    })?;
    let bytes = read(store, path)?;
    let manifests = list::read(&bytes).map_err(|what| bad_file("manifest list", path, &what))?;
    match manifests.iter().find(|manifest| manifest.encrypted) {
        Some(manifest) => {
            Err(unsupported(format!("its manifest {} is encrypted, which is not supported", manifest.path)))
        }
        None => Ok(manifests),
    }
}

/// The URIs of the data files that a snapshot added.
pub fn added_files(store: &dyn Store, snapshot: &super::state::Snapshot) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for manifest in listed(store, snapshot)? {
        if manifest.is_data() && manifest.snapshot == snapshot.snapshot_id {
            let bytes = read(store, &manifest.path)?;
            let paths = rewrite::added_paths(&bytes).map_err(|what| bad_file("manifest", &manifest.path, &what))?;
            files.extend(paths.iter().map(|path| uri(path)));
        }
    }
    Ok(files)
}

fn read(store: &dyn Store, path: &str) -> Result<Bytes> {
    store.read_all(&[uri(path)])?.pop().ok_or_else(|| QueryError::internal(format!("{path} was not read")))
}

/// Which files go.
enum Gone {
    Nothing,
    Everything,
    /// Those of these partitions, in the table's specification.
    Partitions(HashSet<Vec<Key>>),
}

impl Gone {
    fn of(plan: &Plan, request: &Request, written: &[Written]) -> Result<Self> {
        Ok(match request.mode {
            Mode::Create | Mode::Append => Gone::Nothing,
            Mode::Overwrite => Gone::Everything,
            Mode::OverwritePartitions if written.is_empty() => Gone::Nothing,
            // All rows are in the one partition that there is.
            Mode::OverwritePartitions if plan.target.partition.is_empty() => Gone::Everything,
            Mode::OverwritePartitions => {
                let keys = written.iter().map(|file| {
                    let values = added::partition_values(&plan.parts, file);
                    added::record(&plan.parts, &values).map(|record| key(&record)).map_err(QueryError::internal)
                });
                Gone::Partitions(keys.collect::<Result<_>>()?)
            }
        })
    }
}

/// What becomes of a manifest of the snapshot before.
fn keep(
    out: &mut Out<'_>,
    plan: &Plan,
    mut manifest: ManifestFile,
    gone: &Gone,
    into: Into,
    removed: &mut Removed,
) -> Result<Option<ManifestFile>> {
    let bad = |path: &str, what: &str| bad_file("manifest", path, what);
    if manifest.counts.is_none() {
        let bytes = read(out.store, &manifest.path)?;
        manifest.counts = Some(rewrite::count(&bytes).map_err(|what| bad(&manifest.path, &what))?);
    }
    if manifest.is_empty() {
        return Ok(None);
    }
    let partitions = match gone {
        Gone::Nothing => return Ok(Some(manifest)),
        Gone::Everything => None,
        Gone::Partitions(partitions) => Some(partitions),
    };
    let own = manifest.spec == plan.state.default_spec_id;
    if partitions.is_some() && !own {
        if manifest.is_data() {
            return Err(unsupported(format!(
                "it has files of an earlier partitioning ({}), so that the partitions to overwrite cannot be told apart: \
                 rewrite its files first, or overwrite the whole table",
                manifest.path
            )));
        }
        // Deletes of another partitioning are of the files of that one, or of all older files.
        return Ok(Some(manifest));
    }
    let bytes = read(out.store, &manifest.path)?;
    let rewritten = rewrite::without(&bytes, &manifest, into, |partition| match partitions {
        None => Ok(true),
        Some(partitions) => Ok(partitions.contains(&comparable(partition, &plan.parts)?)),
    });
    match rewritten.map_err(|what| bad(&manifest.path, &what))? {
        None => Ok(Some(manifest)),
        Some((bytes, manifest, gone)) => {
            removed.merge(&gone);
            out.manifest(bytes, manifest).map(Some)
        }
    }
}

/// A partition as the new files have theirs: it may have been written when a column had the type before.
fn comparable(partition: &Datum<'_>, parts: &[Part]) -> Result<Vec<Key>, String> {
    let mut owned = Vec::with_capacity(parts.len());
    for part in parts {
        let value = values::from_partition(partition.field(part.id), &part.dtype);
        owned.push(value.map_err(|()| format!("a value of its partition field {} is not of the type", part.name))?);
    }
    let borrowed: Vec<_> = owned.iter().map(Option::as_ref).collect();
    Ok(key(&added::record(parts, &borrowed)?))
}

/// Gives ids to the rows of data manifests that have none, as version 3 wants it; says how many.
fn number_rows(manifests: &mut [ManifestFile], first_row: i64) -> i64 {
    let mut next = first_row;
    for manifest in manifests.iter_mut().filter(|manifest| manifest.is_data() && manifest.first_row.is_none()) {
        manifest.first_row = Some(next);
        let rows = manifest.counts.unwrap_or_default().rows;
        next += rows[ADDED] + rows[EXISTING];
    }
    next - first_row
}

/// Where the files of a snapshot go.
struct Out<'a> {
    store: &'a dyn Store,
    directory: String,
    uuid: String,
    files: &'a mut Vec<String>,
    state: &'a State,
}

impl Out<'_> {
    fn manifest(&mut self, bytes: Vec<u8>, mut manifest: ManifestFile) -> Result<ManifestFile> {
        manifest.bytes = i64::try_from(bytes.len()).map_err(|_| bad_table("a manifest is too large".into()))?;
        let name = format!("{}-m{}.avro", self.uuid, self.files.len());
        manifest.path = self.write(&name, bytes)?;
        Ok(manifest)
    }

    /// The path as the table has it.
    fn write(&mut self, name: &str, bytes: Vec<u8>) -> Result<String> {
        let uri = format!("{}/{name}", self.directory);
        self.files.push(uri.clone());
        self.store.write(&uri, bytes.into())?;
        Ok(self.state.own(&uri))
    }
}
