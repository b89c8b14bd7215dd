//! Tables that are kept by their own files, as Hadoop's catalog does it: version N of a table is
//! `metadata/v{N}.metadata.json`, and the writer that creates this file has made the version.
//!
//! The store must be able to create a file only if there is none. `version-hint.text` follows after the commit; readers
//! go on from it to the newest version, so it may be behind or missing.
//!
//! Metadata files of the form `00007-….metadata.json` belong to a catalog (a REST service, Glue, a database), which
//! alone knows the newest one. A version beside it would be unknown to the catalog's readers, and lost or a rival of
//! the catalog's next version. No name could claim it safely, so such tables are refused here.

use bytes::Bytes;
use floe_wire::error::{QueryError, Result};
use serde_json::{Value as Json, json};

use super::catalog::{Catalog, Change, Draft, Loaded, Outcome};
use super::state::unsupported;
use super::updates::{apply, creation};
use crate::iceberg::locate;
use crate::unique;
use crate::write::Store;

/// A table at a root directory.
pub struct FileCatalog<'a> {
    store: &'a dyn Store,
    root: String,
    uuid: String,
}

impl<'a> FileCatalog<'a> {
    pub fn new(store: &'a dyn Store, root: &str) -> Self {
        Self { store, root: root.trim_end_matches('/').to_string(), uuid: unique::uuid() }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/metadata/{name}", self.root)
    }
}

impl Catalog for FileCatalog<'_> {
    fn name(&self) -> String {
        self.root.clone()
    }

    fn load(&self) -> Result<Option<Loaded>> {
        if self.root.ends_with(".json") || self.root.ends_with(".json.gz") {
            return Err(QueryError::user(
                "BadTable",
                format!("{} is a metadata file, which never changes: give the table's root to write to it", self.root),
            ));
        }
        match locate::metadata(self.store, &self.root) {
            Ok((bytes, uri)) => {
                let metadata = serde_json::from_slice(&bytes).map_err(|error| {
                    QueryError::user("BadTable", format!("the Iceberg metadata file {uri} is not JSON: {error}"))
                })?;
                version(&uri)?;
                Ok(Some(Loaded { metadata, uri }))
            }
            Err(error) if error.class == "TableNotFound" => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stage(&self, draft: &Draft) -> Result<Json> {
        let location = draft.location.clone().unwrap_or_else(|| self.root.clone());
        let base = json!({
            "format-version": draft.format_version, "table-uuid": self.uuid, "location": location,
            "last-column-id": draft.last_column_id, "schemas": [draft.schema], "partition-specs": [draft.spec],
            "sort-orders": [{"order-id": 0, "fields": []}], "properties": draft.properties,
        });
        apply(None, &creation(&base)?, 0)
    }

    fn commit(&self, change: &Change) -> Result<Outcome> {
        // The requirements hold: the change was made for the version that it follows, and no other can follow it.
        let (base, next) = match &change.base {
            Some(loaded) => (Some((&loaded.metadata, loaded.uri.as_str())), version(&loaded.uri)? + 1),
            None => (None, 1),
        };
        let metadata = apply(base, &change.updates, change.timestamp_ms)?;
        let (bytes, suffix) = encode(&metadata)?;
        let uri = self.path(&format!("v{next}{suffix}"));
        if !self.store.create(&uri, bytes.clone())? && self.store.read(&uri)?.as_ref() != Some(&bytes) {
            return Ok(Outcome::Conflict);
        }
        // The version is made, whether the hint can be written or not.
        let _ = self.store.write(&self.path("version-hint.text"), Bytes::from(next.to_string()));
        Ok(Outcome::Done)
    }
}

/// `7` of `v7.metadata.json`.
fn version(uri: &str) -> Result<u64> {
    let name = uri.rsplit('/').next().unwrap_or_default();
    let number = name.strip_prefix('v').and_then(|rest| rest.split('.').next()).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| {
        unsupported(format!(
            "the Iceberg table's metadata file {uri} is named by a catalog, and a version that is written without it \
             would be lost: write to the table through its catalog"
        ))
    })
}

/// Metadata as a file, and the end of its name.
fn encode(metadata: &Json) -> Result<(Bytes, &'static str)> {
    let failed = |error: &dyn std::fmt::Display| QueryError::internal(format!("writing Iceberg metadata: {error}"));
    let json = serde_json::to_vec(metadata).map_err(|error| failed(&error))?;
    let codec = metadata.get("properties").and_then(|all| all.get("write.metadata.compression-codec"));
    if codec.and_then(Json::as_str).is_some_and(|codec| codec.eq_ignore_ascii_case("gzip")) {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let zipped = std::io::Write::write_all(&mut gzip, &json).and_then(|()| gzip.finish());
        return Ok((zipped.map_err(|error| failed(&error))?.into(), ".gz.metadata.json"));
    }
    Ok((json.into(), ".metadata.json"))
}
