//! A table in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::delta::table;
use crate::files::{Entry, Files};
use crate::table::{At, DataFile, Table};
use floe_wire::error::{QueryError, Result};

pub const ROOT: &str = "s3://bucket/table";

/// Files by their URIs. "Parquet" files are the JSON lines that they would be read as.
#[derive(Clone, Default)]
pub struct Memory {
    files: BTreeMap<String, (Bytes, i64)>,
}

impl Memory {
    /// A table of one column `id`, with these actions in version 0 after its protocol and metadata.
    pub fn new(actions: &[Json]) -> Self {
        Self::with(protocol(), metadata(ID), actions)
    }

    pub fn with(protocol: Json, metadata: Json, actions: &[Json]) -> Self {
        let mut memory = Self::default();
        memory.commit(0, &[&[protocol, metadata], actions].concat());
        memory
    }

    /// Writes a commit, a second after the one before it.
    pub fn commit(&mut self, version: i64, actions: &[Json]) -> &mut Self {
        self.log(&format!("{version:020}.json"), actions).touch(version, version * 1_000)
    }

    /// Writes a file of actions in the log.
    pub fn log(&mut self, name: &str, actions: &[Json]) -> &mut Self {
        let text: String = actions.iter().map(|action| format!("{action}\n")).collect();
        self.put(&format!("_delta_log/{name}"), text.into())
    }

    pub fn put(&mut self, path: &str, data: Vec<u8>) -> &mut Self {
        self.files.insert(format!("{ROOT}/{path}"), (data.into(), 0));
        self
    }

    /// Writes a file by its URI if there is none.
    pub fn create(&mut self, uri: &str, data: Bytes) -> bool {
        let is_new = !self.files.contains_key(uri);
        if is_new {
            self.files.insert(uri.to_owned(), (data, 0));
        }
        is_new
    }

    /// Sets when a commit was written.
    pub fn touch(&mut self, version: i64, modified_ms: i64) -> &mut Self {
        self.files.get_mut(&format!("{ROOT}/_delta_log/{version:020}.json")).unwrap().1 = modified_ms;
        self
    }

    pub fn delete(&mut self, name: &str) -> &mut Self {
        self.files.remove(&format!("{ROOT}/_delta_log/{name}")).unwrap();
        self
    }

    pub fn read_at(&self, at: At) -> Result<Table> {
        table(self, ROOT, &at)
    }

    pub fn version(&self, version: i64) -> Result<Table> {
        self.read_at(At { version: Some(version), ..At::default() })
    }

    pub fn at_ms(&self, timestamp_ms: i64) -> Result<Table> {
        self.read_at(At { timestamp_ms: Some(timestamp_ms), ..At::default() })
    }

    pub fn latest(&self) -> Table {
        self.read_at(At::default()).unwrap()
    }

    pub fn error(&self) -> (String, String) {
        failure(self.read_at(At::default()))
    }
}

/// Class and message.
pub fn failure(result: Result<Table>) -> (String, String) {
    let error = result.unwrap_err();
    assert!(error.message.contains(ROOT), "{error} names the table");
    (error.class, error.message)
}

pub fn files(table: &Table) -> &[DataFile] {
    table.groups.first().map_or(&[], |group| &group.files)
}

/// The names of the files.
pub fn names(table: &Table) -> Vec<&str> {
    files(table).iter().map(|file| file.uri.strip_prefix(ROOT).unwrap().trim_start_matches('/')).collect()
}

pub const ID: &str = r#"{"type":"struct","fields":[{"name":"id","type":"long","nullable":true,"metadata":{}}]}"#;

pub fn protocol() -> Json {
    json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
}

pub fn features(names: &[&str]) -> Json {
    json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": names, "writerFeatures": names}})
}

pub fn metadata(schema: &str) -> Json {
    json!({"metaData": {"id": "0", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": [], "configuration": {}}})
}

pub fn add(path: &str) -> Json {
    json!({"add": {"path": path, "partitionValues": {}, "size": 10, "modificationTime": 0, "dataChange": true}})
}

pub fn remove(path: &str) -> Json {
    json!({"remove": {"path": path, "deletionTimestamp": 0, "dataChange": true}})
}

impl Files for Memory {
    fn read(&self, uri: &str) -> Result<Option<Bytes>> {
        Ok(self.files.get(uri).map(|file| file.0.clone()))
    }
    fn read_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        let data = self.read(uri)?.ok_or_else(|| QueryError::io(format!("{uri} is missing")))?;
        Ok(data.slice((range.start as usize).min(data.len())..(range.end as usize).min(data.len())))
    }
    fn read_all(&self, uris: &[String]) -> Result<Vec<Bytes>> {
        uris.iter().map(|uri| self.read(uri)?.ok_or_else(|| QueryError::io(format!("{uri} is missing")))).collect()
    }
    fn list(&self, directory: &str) -> Result<Vec<Entry>> {
        let within = self.files.iter().filter(|(uri, _)| uri.starts_with(&format!("{directory}/")));
        let entry = |(uri, file): (&String, &(Bytes, i64))| Entry {
            uri: uri.clone(),
            bytes: file.0.len() as u64,
            modified_ms: file.1,
        };
        Ok(within.map(entry).collect())
    }
    /// Only the columns that are asked for are there, and each row has all of them.
    fn parquet_rows(&self, uri: &str, columns: &[&str]) -> Result<String> {
        let data = self.read(uri)?.ok_or_else(|| QueryError::io(format!("{uri} is missing")))?;
        let mut rows = String::new();
        for line in std::str::from_utf8(&data).unwrap().lines() {
            let row: Json = serde_json::from_str(line).unwrap();
            let row: serde_json::Map<_, _> = columns
                .iter()
                .map(|column| (column.to_string(), row.get(*column).cloned().unwrap_or(Json::Null)))
                .collect();
            rows.push_str(&format!("{}\n", Json::from(row)));
        }
        Ok(rows)
    }
    fn positions(&self, uri: &str) -> Result<Vec<(String, u64)>> {
        Err(QueryError::internal(uri))
    }
}
