//! A PostgreSQL of this test's own (`tests/postgres.sh`), and what tests ask of it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use floe_postgres::columns::{Array, Values};
use floe_postgres::sql::{self, Select};
use floe_postgres::types::Type;
use floe_postgres::{Batch, Described, Limits, Part, Pushed, Reading, Snapshot, Source, describe};
use serde_json::{Value, json};
use tempfile::TempDir;

pub struct Server {
    pub directory: TempDir,
    pub port: u16,
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/postgres.sh")
}

impl Server {
    pub fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new(script()).arg("up").arg(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let port = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        Server { directory, port }
    }

    pub fn uri(&self) -> String {
        format!("postgres://floe@127.0.0.1:{}/postgres", self.port)
    }

    pub fn source(&self, options: Value) -> Source {
        // Handshakes are slow without optimization, and only one test is about them.
        self.source_at("?sslmode=disable", options, &[]).unwrap()
    }

    pub fn source_at(
        &self,
        parameters: &str,
        options: Value,
        secret: &[(&str, &str)],
    ) -> floe_wire::error::Result<Source> {
        let mut all = BTreeMap::from([("password".to_owned(), "floe-test".to_owned())]);
        all.extend(secret.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Source::parse(&format!("{}{parameters}", self.uri()), &serde_json::from_value(options).unwrap(), &all)
    }

    /// As an administrator, in a session of its own.
    pub fn run(&self, sql: &str) -> String {
        let bin = Command::new(script()).arg("bin").output().unwrap().stdout;
        let psql = PathBuf::from(String::from_utf8(bin).unwrap().trim()).join("psql");
        let output = Command::new(psql)
            .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.uri()])
            .env("PGPASSWORD", "floe-test")
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg("down").arg(self.directory.path()).status();
    }
}

pub async fn described(source: &Source) -> (Snapshot, Described) {
    let mut snapshot = Snapshot::export(source).await.unwrap();
    let described = describe(&mut snapshot.connection, &source.what).await.unwrap();
    (snapshot, described)
}

/// All columns of one part.
pub fn all(described: &Described) -> Pushed {
    Pushed { columns: described.columns.iter().map(|column| column.name.clone()).collect(), ..Pushed::default() }
}

pub async fn read(source: &Source, snapshot: &Snapshot, described: &Described, pushed: &Pushed) -> Vec<Vec<String>> {
    read_part(source, snapshot, described, pushed, &Part::Whole).await.unwrap()
}

pub async fn read_part(
    source: &Source,
    snapshot: &Snapshot,
    described: &Described,
    pushed: &Pushed,
    part: &Part,
) -> floe_wire::error::Result<Vec<Vec<String>>> {
    let select = sql::select(described, pushed, part)?;
    let mut reading = Reading::open(source, Some(&snapshot.id), &select, Limits::default()).await?;
    let mut rows = Vec::new();
    while let Some(batch) = reading.next().await? {
        rows.extend(shown(&batch, &select));
    }
    Ok(rows)
}

/// Each value as a test writes it.
pub fn shown(batch: &Batch, select: &Select) -> Vec<Vec<String>> {
    (0..batch.rows)
        .map(|row| batch.columns.iter().zip(&select.types).map(|(array, r#type)| show(array, r#type, row)).collect())
        .collect()
}

fn show(array: &Array, r#type: &Type, row: usize) -> String {
    if array.validity.as_ref().is_some_and(|validity| !validity.get(row)) {
        return "null".to_owned();
    }
    let range = |offsets: &[i64]| offsets[row] as usize..offsets[row + 1] as usize;
    match &array.values {
        Values::Bool(bits) => bits.get(row).to_string(),
        Values::Int16(values) => values[row].to_string(),
        Values::Int32(values) => values[row].to_string(),
        Values::Int64(values) => values[row].to_string(),
        Values::UInt32(values) => values[row].to_string(),
        Values::Float32(values) => values[row].to_string(),
        Values::Float64(values) => values[row].to_string(),
        Values::Decimal(values) => values[row].to_string(),
        Values::Bytes { offsets, bytes } => {
            let value = &bytes[range(offsets)];
            match r#type {
                Type::String => String::from_utf8(value.to_vec()).unwrap(),
                _ => format!("{value:02x?}"),
            }
        }
        Values::List { offsets, items } => {
            let Type::List(inner) = r#type else { panic!("{type:?}") };
            let items: Vec<String> = range(offsets).map(|at| show(items, inner, at)).collect();
            format!("[{}]", items.join(","))
        }
    }
}

pub fn table(name: &str) -> Value {
    json!({"table": name})
}

pub fn query(text: &str) -> Value {
    json!({"query": text})
}
