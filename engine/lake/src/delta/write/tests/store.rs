//! A store in memory that can fail, and what tests write to it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use serde_json::Value as Json;

use crate::delta::tests::memory::{Memory, ROOT};
use crate::delta::write::{commit, prepare};
use crate::files::{Entry, Files};
use crate::table::{Bounds, Field, Table, Type, Value};
use crate::write::{Committed, Mode, PartitionKey, Request, Store, Target, Transform, Written};
use floe_wire::error::{QueryError, Result};

/// What goes wrong with the next file that is created.
pub enum Fault {
    /// Another writer is faster, with these actions.
    Overtaken(Vec<Json>),
    /// The file is written, but the answer is lost.
    Lost,
    /// The same, and the client asks again and hears that there is one.
    AskedAgain,
    /// Nothing is written.
    Refused,
    None,
}

#[derive(Default)]
pub struct Faulty {
    memory: Mutex<Memory>,
    faults: Mutex<VecDeque<Fault>>,
}

impl Faulty {
    pub fn new(memory: Memory) -> Self {
        Self { memory: Mutex::new(memory), faults: Mutex::default() }
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub fn latest(&self) -> Table {
        self.memory().latest()
    }

    /// The actions of a commit of this kind.
    pub fn actions(&self, version: i64, kind: &str) -> Vec<Json> {
        let bytes = self.read(&format!("{ROOT}/_delta_log/{version:020}.json")).unwrap().unwrap();
        let lines = std::str::from_utf8(&bytes).unwrap().lines();
        lines.filter_map(|line| serde_json::from_str::<Json>(line).unwrap().get(kind).cloned()).collect()
    }

    pub fn action(&self, version: i64, kind: &str) -> Json {
        let mut found = self.actions(version, kind);
        assert_eq!(found.len(), 1, "{kind}");
        found.remove(0)
    }

    pub fn prepare(&self, request: &Request) -> Result<Target> {
        prepare(self, ROOT, request)
    }

    pub fn commit(&self, request: &Request, written: &[Written]) -> Result<Committed> {
        let target = self.prepare(request)?;
        commit(self, &target, request, written)
    }
}

/// Class and message.
pub fn failure<T: std::fmt::Debug>(result: Result<T>) -> (String, String) {
    let error = result.unwrap_err();
    assert!(error.message.contains(ROOT), "{error} names the table");
    (error.class, error.message)
}

pub fn field(name: &str, dtype: Type) -> Field {
    Field { name: name.to_owned(), dtype, nullable: true, physical: None, id: None, initial: None }
}

pub fn list(dtype: Type) -> Type {
    Type::List(Box::new(field("element", dtype)))
}

/// A query that writes these columns.
pub fn request(query: &str, mode: Mode, columns: &[(&str, Type)]) -> Request {
    Request {
        query: query.to_owned(),
        attempt: "1".to_owned(),
        mode,
        columns: columns.iter().map(|(name, dtype)| field(name, dtype.clone())).collect(),
        partition: None,
        evolve: false,
        properties: BTreeMap::new(),
    }
}

pub fn by(columns: &[&str]) -> Option<Vec<PartitionKey>> {
    let key = |column: &&str| PartitionKey { column: (*column).to_owned(), transform: Transform::Identity };
    Some(columns.iter().map(key).collect())
}

pub fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub fn written(path: &str, partition: &[Option<Value>]) -> Written {
    let uri = format!("{ROOT}/{path}");
    Written { uri, bytes: 7, rows: 3, partition: partition.to_vec(), bounds: BTreeMap::new() }
}

pub fn bounds(min: Value, max: Value, nulls: u64) -> Bounds {
    Bounds { min: Some(min), max: Some(max), nulls: Some(nulls) }
}

impl Files for Faulty {
    fn read(&self, uri: &str) -> Result<Option<Bytes>> {
        self.memory().read(uri)
    }
    fn read_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        self.memory().read_range(uri, range)
    }
    fn read_all(&self, uris: &[String]) -> Result<Vec<Bytes>> {
        self.memory().read_all(uris)
    }
    fn list(&self, directory: &str) -> Result<Vec<Entry>> {
        self.memory().list(directory)
    }
    fn parquet_rows(&self, uri: &str, columns: &[&str]) -> Result<String> {
        self.memory().parquet_rows(uri, columns)
    }
    fn positions(&self, uri: &str) -> Result<Vec<(String, u64)>> {
        self.memory().positions(uri)
    }
}

impl Store for Faulty {
    fn create(&self, uri: &str, bytes: Bytes) -> Result<bool> {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let mut memory = self.memory();
        match fault {
            Fault::Overtaken(actions) => {
                let text: String = actions.iter().map(|action| format!("{action}\n")).collect();
                assert!(memory.create(uri, text.into()));
                Ok(false)
            }
            Fault::Lost => {
                memory.create(uri, bytes);
                Err(QueryError::io(format!("{uri}: no answer")))
            }
            Fault::AskedAgain => {
                memory.create(uri, bytes);
                Ok(false)
            }
            Fault::Refused => Err(QueryError::io(format!("{uri}: not written"))),
            Fault::None => Ok(memory.create(uri, bytes)),
        }
    }
    fn write(&self, uri: &str, _: Bytes) -> Result<()> {
        panic!("{uri}: nothing of a log is replaced")
    }
    fn delete(&self, uri: &str) -> Result<()> {
        panic!("{uri}: nothing of a log is deleted")
    }
}
