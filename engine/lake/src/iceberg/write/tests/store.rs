//! A store in memory whose answers can get lost, and what tests ask of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;
use floe_wire::error::{QueryError, Result};
use serde_json::Value as Json;

use crate::files::{Entry, Files};
use crate::iceberg::write::{commit, prepare};
use crate::table::{At, Field, Table, Type, Value};
use crate::write::{Committed, Mode, PartitionKey, Request, Store, Transform, Written};

pub const ROOT: &str = "s3://lake/t";

/// What happens at the next `create`.
pub enum Fault {
    /// The file is written, and the answer is an error.
    LoseAnswer,
    Fail,
    /// Somebody else does this first.
    Compete(Box<dyn FnOnce(&Memory) + Send>),
}

#[derive(Default)]
pub struct Memory {
    pub files: Mutex<BTreeMap<String, Bytes>>,
    pub faults: Mutex<Vec<Fault>>,
}

impl Files for Memory {
    fn read(&self, uri: &str) -> Result<Option<Bytes>> {
        Ok(self.files.lock().unwrap().get(uri).cloned())
    }
    fn read_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        let file = self.read(uri)?.ok_or_else(|| QueryError::io(format!("no {uri}")))?;
        Ok(file.slice(range.start as usize..range.end as usize))
    }
    fn read_all(&self, uris: &[String]) -> Result<Vec<Bytes>> {
        uris.iter().map(|uri| self.read(uri)?.ok_or_else(|| QueryError::io(format!("no {uri}")))).collect()
    }
    fn list(&self, directory: &str) -> Result<Vec<Entry>> {
        let files = self.files.lock().unwrap();
        let uris = files.keys().filter(|uri| uri.starts_with(directory));
        Ok(uris.map(|uri| Entry { uri: uri.clone(), bytes: 0, modified_ms: 0 }).collect())
    }
    fn parquet_rows(&self, _: &str, _: &[&str]) -> Result<String> {
        Err(QueryError::io("not used"))
    }
    fn positions(&self, uri: &str) -> Result<Vec<(String, u64)>> {
        Err(QueryError::io(format!("no positions {uri}")))
    }
}

impl Store for Memory {
    fn create(&self, uri: &str, bytes: Bytes) -> Result<bool> {
        let fault = self.faults.lock().unwrap().pop();
        let lose = matches!(fault, Some(Fault::LoseAnswer));
        match fault {
            Some(Fault::Fail) => return Err(QueryError::io("no answer")),
            Some(Fault::Compete(other)) => other(self),
            _ => {}
        }
        let mut files = self.files.lock().unwrap();
        if files.contains_key(uri) {
            return Ok(false);
        }
        files.insert(uri.to_string(), bytes);
        if lose { Err(QueryError::io("the answer is lost")) } else { Ok(true) }
    }
    fn write(&self, uri: &str, bytes: Bytes) -> Result<()> {
        self.files.lock().unwrap().insert(uri.to_string(), bytes);
        Ok(())
    }
    fn delete(&self, uri: &str) -> Result<()> {
        self.files.lock().unwrap().remove(uri);
        Ok(())
    }
}

impl Memory {
    pub fn commit(&self, request: &Request, written: &[Written]) -> Result<Committed> {
        commit(self, &prepare(self, ROOT, request)?, request, written)
    }

    pub fn read_table(&self) -> Table {
        crate::iceberg::table(self, ROOT, &At::default()).unwrap()
    }

    /// The names of the data files, sorted.
    pub fn names(&self) -> Vec<String> {
        names(&self.read_table())
    }

    pub fn metadata(&self) -> Json {
        let (bytes, _) = crate::iceberg::locate::metadata(self, ROOT).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Replaces the newest metadata by what becomes of it.
    pub fn change(&self, change: impl FnOnce(&mut Json)) {
        let (bytes, uri) = crate::iceberg::locate::metadata(self, ROOT).unwrap();
        let mut metadata = serde_json::from_slice(&bytes).unwrap();
        change(&mut metadata);
        self.write(&uri, metadata.to_string().into()).unwrap();
    }

    /// The manifests and lists that are there.
    pub fn avro_files(&self) -> Vec<String> {
        self.files.lock().unwrap().keys().filter(|uri| uri.ends_with(".avro")).cloned().collect()
    }

    pub fn fault(&self, fault: Fault) {
        self.faults.lock().unwrap().insert(0, fault);
    }
}

pub fn names(table: &Table) -> Vec<String> {
    let files = table.groups.iter().flat_map(|group| &group.files);
    let mut names: Vec<String> = files.map(|file| file.uri.rsplit('/').next().unwrap().to_string()).collect();
    names.sort();
    names
}

pub fn field(name: &str, dtype: Type) -> Field {
    Field { name: name.into(), dtype, nullable: true, physical: None, id: None, initial: None }
}

/// A query that writes the columns `id` and `g`.
pub fn request(query: &str, mode: Mode) -> Request {
    Request {
        query: query.into(),
        attempt: "1".into(),
        mode,
        columns: vec![field("id", Type::Int64), field("g", Type::String)],
        partition: None,
        evolve: false,
        properties: BTreeMap::new(),
    }
}

pub fn by_g() -> Option<Vec<PartitionKey>> {
    Some(vec![PartitionKey { column: "g".into(), transform: Transform::Identity }])
}

/// A file of ten rows, in the partition of this value.
pub fn file(name: &str, g: Option<Option<&str>>) -> Written {
    let partition = g.map(|g| g.map(|g| Value::String(g.into()))).into_iter().collect();
    Written { uri: format!("{ROOT}/data/{name}"), bytes: 100, rows: 10, partition, bounds: BTreeMap::new() }
}
