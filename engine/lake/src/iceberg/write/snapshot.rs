//! Makes the manifests and the list of a new snapshot.

use std::collections::HashSet;

use bytes::Bytes;
use floe_wire::error::{QueryError, Result};
use serde_json::json;

use super::added;
use super::catalog::Change;
use super::list::{self, ADDED, EXISTING, ManifestFile};
use super::partition::{self, Part};
use super::plan::Plan;
use super::rewrite::{self, Into};
use super::state::{State, bad_table, unsupported};
use super::summary::{self, Removed};
use super::updates::{MAIN, Update};
use crate::filter::Bound;
use crate::iceberg::avro::decode::Datum;
use crate::iceberg::manifest::{Key, key};
use crate::iceberg::{bad_file, uri, values};
use crate::table::{Type, Value};
use crate::unique;
use crate::write::{Mode, Request, Store, Written};

/// A change that adds a snapshot. The snapshot's files have been written.
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
        let id = unique::snapshot_id();
        if !state.has(id) {
            break id;
        }
    };
    let sequence = state.last_sequence_number + 1;
    let into = Into { format: state.format_version, snapshot: id, sequence };
    let mut out = Out { store, directory: state.metadata(), uuid: unique::uuid(), files, state };
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
    let timestamp_ms = unique::now_ms().max(state.last_updated_ms);
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

/// Which files of the previous snapshot are removed.
enum Gone<'a> {
    Nothing,
    Everything,
    /// Those of these partitions, in the table's specification.
    Partitions(HashSet<Vec<Key>>),
    /// Those of partitions for which the filter holds.
    Where(&'a Bound),
}

impl<'a> Gone<'a> {
    fn of(plan: &'a Plan, request: &Request, written: &[Written]) -> Result<Self> {
        Ok(match request.mode {
            Mode::Create | Mode::Append => Gone::Nothing,
            Mode::Overwrite => Gone::Everything,
            // The plan always has the filter in this mode.
            Mode::OverwriteWhere(_) => plan.filter.as_ref().map_or(Gone::Nothing, Gone::Where),
            Mode::OverwritePartitions if written.is_empty() => Gone::Nothing,
            // The table is not partitioned: all rows are in one partition.
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

/// Carries a manifest of the previous snapshot over, without the files that are removed; `None` if it has none left.
fn keep(
    out: &mut Out<'_>,
    plan: &Plan,
    mut manifest: ManifestFile,
    gone: &Gone<'_>,
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
    let own = manifest.spec == plan.state.default_spec_id;
    let is_gone: IsGone<'_> = match gone {
        Gone::Nothing => return Ok(Some(manifest)),
        Gone::Everything => Box::new(|_| Ok(true)),
        Gone::Partitions(partitions) if own => {
            Box::new(|partition| Ok(partitions.contains(&comparable(partition, &plan.parts)?)))
        }
        // Deletes under another specification apply to its files, or to all older files.
        Gone::Partitions(_) if !manifest.is_data() => return Ok(Some(manifest)),
        Gone::Partitions(_) => {
            return Err(unsupported(format!(
                "it has files of an earlier partitioning ({}), so that the partitions to overwrite cannot be told apart: \
                 rewrite its files first, or overwrite the whole table",
                manifest.path
            )));
        }
        Gone::Where(filter) => match identities(plan, filter, manifest.spec)? {
            Ok(keys) => Box::new(move |partition| Ok(filter.holds(&values_of(partition, &keys)?))),
            Err(_) if !manifest.is_data() => return Ok(Some(manifest)),
            Err(column) => {
                return Err(unsupported(format!(
                    "it has files of an earlier partitioning ({}), which is not by the values of {column}, so that the \
                     files to overwrite cannot be told apart: rewrite its files first, or overwrite the whole table",
                    manifest.path
                )));
            }
        },
    };
    let bytes = read(out.store, &manifest.path)?;
    let rewritten = rewrite::without(&bytes, &manifest, into, is_gone);
    match rewritten.map_err(|what| bad(&manifest.path, &what))? {
        None => Ok(Some(manifest)),
        Some((bytes, manifest, gone)) => {
            removed.merge(&gone);
            out.manifest(bytes, manifest).map(Some)
        }
    }
}

/// Whether a commit takes the files of a partition out of the table.
type IsGone<'a> = Box<dyn Fn(&Datum<'_>) -> Result<bool, String> + 'a>;

/// For each key of the current partitioning, the id of the field that has its values and the column's type.
type Identities = Vec<Option<(i32, Type)>>;

/// Where partitions of a specification have the values that the filter needs: for each key of the current partitioning
/// the id of the field and the column's type, `None` for keys that the filter does not use. `Err` is a column whose
/// values they do not have.
fn identities(plan: &Plan, filter: &Bound, spec: i32) -> Result<std::result::Result<Identities, String>> {
    let (wanted, fields) = (filter.keys(), partition::identities(plan.state.spec(spec)?));
    let keys = plan.parts.iter().filter_map(|part| Some((part, part.key.as_ref()?)));
    let mut found = Vec::new();
    for (at, (part, key)) in keys.enumerate() {
        let field = fields.iter().find(|(source, _)| *source == part.source);
        found.push(match field {
            _ if !wanted.contains(&at) => None,
            Some((_, field)) => Some((*field, part.dtype.clone())),
            None => return Ok(Err(key.column.clone())),
        });
    }
    Ok(Ok(found))
}

/// The values of these keys in a partition.
fn values_of(partition: &Datum<'_>, keys: &[Option<(i32, Type)>]) -> Result<Vec<Option<Value>>, String> {
    let value = |key: &Option<(i32, Type)>| match key {
        None => Ok(None),
        Some((id, dtype)) => values::from_partition(partition.field(*id), dtype)
            .map_err(|()| format!("a value of its partition field {id} is not of the type")),
    };
    keys.iter().map(value).collect()
}

/// Converts a partition so that it compares with those of the new files: it may have been written before the type of a
/// column was promoted.
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
