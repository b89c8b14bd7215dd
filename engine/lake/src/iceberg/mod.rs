//! Iceberg tables: from the metadata of a table (versions 1 to 3) to the files of one of its snapshots, and in `write`
//! from data files to a new snapshot.

mod avro;
mod deletes;
mod locate;
mod manifest;
mod metadata;
mod plan;
mod schema;
mod schemas;
#[cfg(test)]
mod tests;
pub mod values;
pub mod write;

use bytes::Bytes;
use floe_wire::error::{Category, QueryError, Result};

use crate::files::Files;
use crate::parallel;
use crate::table::{At, Field, Mapping, Table};
use manifest::{Listed, Manifest};
use metadata::{Metadata, Snapshot};

/// Manifests of at most so many bytes are read at once.
const BATCH_BYTES: u64 = 256 << 20;

/// Reads the snapshot of the table at this root, or that of this metadata file (`….metadata.json`).
pub fn table(files: &dyn Files, root_or_metadata_uri: &str, at: &At) -> Result<Table> {
    let (metadata, uri) = locate::metadata(files, root_or_metadata_uri)?;
    table_of(files, &metadata, &uri, at)
}

/// Reads the snapshot of the table with this metadata (JSON), which was found at this URI.
pub fn table_of(files: &dyn Files, metadata: &[u8], metadata_uri: &str, at: &At) -> Result<Table> {
    let metadata = metadata::parse(metadata, metadata_uri)?;
    snapshot(files, &metadata, at).map_err(|error| match error.category {
        Category::User => {
            QueryError { message: format!("Iceberg table {}: {}", metadata.location, error.message), ..error }
        }
        _ => error,
    })
}

fn snapshot(files: &dyn Files, metadata: &Metadata, at: &At) -> Result<Table> {
    let (snapshot, schema) = metadata.at(at)?;
    let names = match metadata.properties.get("schema.name-mapping.default") {
        Some(mapping) => schema::name_mapping(mapping)?,
        None => schema::Names::new(),
    };
    let columns = schema::columns(schema, &names)?;
    let groups = match snapshot {
        Some(snapshot) => plan::groups(files, &manifests(files, metadata, snapshot, &columns)?, &columns)?,
        None => Vec::new(),
    };
    let root = uri(metadata.location.trim_end_matches('/'));
    let version = snapshot.map(|snapshot| snapshot.snapshot_id);
    Ok(Table { root, version, columns, mapping: Mapping::Id, groups })
}

fn manifests(files: &dyn Files, metadata: &Metadata, snapshot: &Snapshot, columns: &[Field]) -> Result<Vec<Manifest>> {
    if snapshot.key_id.is_some() {
        return Err(encrypted("its manifest list"));
    }
    let listed = match (&snapshot.manifest_list, &snapshot.manifests) {
        (Some(path), _) => {
            let path = uri(path);
            let bytes = files.read_all(std::slice::from_ref(&path))?;
            let bytes = bytes.first().cloned().unwrap_or_default();
            manifest::list(&bytes).map_err(|what| bad_file("manifest list", &path, &what))?
        }
        (None, Some(paths)) => paths.iter().map(|path| Listed { path: path.clone(), ..Listed::default() }).collect(),
        (None, None) => {
            let message = format!("its snapshot {} has no manifest list", snapshot.snapshot_id);
            return Err(QueryError::user("BadTable", message));
        }
    };
    let listed: Vec<Listed> = listed.into_iter().filter(|listed| !listed.empty).collect();
    if let Some(listed) = listed.iter().find(|listed| listed.encrypted) {
        return Err(encrypted(&format!("its manifest {}", listed.path)));
    }
    let specs = metadata.specs();
    let mut manifests = Vec::with_capacity(listed.len());
    for batch in batches(&listed) {
        let uris: Vec<String> = batch.iter().map(|listed| uri(&listed.path)).collect();
        let read: Vec<(&Listed, Bytes)> = batch.iter().zip(files.read_all(&uris)?).collect();
        manifests.extend(parallel::map(&read, parallel::cores(), |(listed, bytes)| {
            manifest::read(bytes, listed, &specs, columns).map_err(|what| bad_file("manifest", &listed.path, &what))
        })?);
    }
    Ok(manifests)
}

fn batches(listed: &[Listed]) -> Vec<&[Listed]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (index, manifest) in listed.iter().enumerate() {
        if index > start && bytes.saturating_add(manifest.bytes) > BATCH_BYTES {
            batches.push(&listed[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(manifest.bytes);
    }
    batches.push(&listed[start..]);
    batches
}

/// A path in metadata as `Files` takes it: Hadoop writes `file:/path` and `s3a://`.
fn uri(path: &str) -> String {
    if let Some(rest) = path.strip_prefix("file:") {
        return format!("file:///{}", rest.trim_start_matches('/'));
    }
    match path.strip_prefix("s3a://").or_else(|| path.strip_prefix("s3n://")) {
        Some(rest) => format!("s3://{rest}"),
        None => path.to_string(),
    }
}

fn encrypted(what: &str) -> QueryError {
    QueryError::user("UnsupportedTable", format!("{what} is encrypted, and encrypted tables are not supported"))
}

fn bad_file(kind: &str, uri: &str, what: &str) -> QueryError {
    QueryError::user("BadTable", format!("its {kind} {uri} cannot be read: {what}"))
}
