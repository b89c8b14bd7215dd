//! A table in a directory, for other readers of Iceberg to look at.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use floe_wire::error::{QueryError, Result};

use super::store::{field, request};
use crate::files::{Entry, Files};
use crate::iceberg::write::{commit, prepare};
use crate::table::{At, Bounds, Type, Unit, Value};
use crate::write::{Mode, PartitionKey, Request, Store, Transform, Written};

struct Local;

fn failed(error: std::io::Error) -> QueryError {
    QueryError::io(error.to_string())
}

impl Files for Local {
    fn read(&self, uri: &str) -> Result<Option<Bytes>> {
        match fs::read(uri) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
    fn read_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        Ok(Bytes::from(fs::read(uri).map_err(failed)?).slice(range.start as usize..range.end as usize))
    }
    fn read_all(&self, uris: &[String]) -> Result<Vec<Bytes>> {
        uris.iter().map(|uri| fs::read(uri).map(Bytes::from).map_err(failed)).collect()
    }
    fn list(&self, directory: &str) -> Result<Vec<Entry>> {
        let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
        let uris = entries.map(|entry| entry.unwrap().path().to_str().unwrap().to_string());
        Ok(uris.map(|uri| Entry { uri, bytes: 0, modified_ms: 0 }).collect())
    }
    fn parquet_rows(&self, _: &str, _: &[&str]) -> Result<String> {
        Err(QueryError::io("not used"))
    }
    fn positions(&self, _: &str) -> Result<Vec<(String, u64)>> {
        Err(QueryError::io("not used"))
    }
}

impl Store for Local {
    fn create(&self, uri: &str, bytes: Bytes) -> Result<bool> {
        if Path::new(uri).exists() {
            return Ok(false);
        }
        self.write(uri, bytes).map(|()| true)
    }
    fn write(&self, uri: &str, bytes: Bytes) -> Result<()> {
        fs::create_dir_all(Path::new(uri).parent().unwrap()).map_err(failed)?;
        fs::write(uri, bytes).map_err(failed)
    }
    fn delete(&self, uri: &str) -> Result<()> {
        fs::remove_file(uri).map_err(failed)
    }
}

/// The data files are those that the directory `FLOE_ICEBERG_TABLE` has, if it is set: it stays. Each has the columns
/// `id`, `g`, `ts` and `d` by the ids 1 to 4, with two rows: `{n}0` and `{n}1` in `id`.
#[test]
fn a_table_in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    for format in ["2", "3"] {
        let root = match std::env::var("FLOE_ICEBERG_TABLE") {
            Ok(root) => format!("{root}/v{format}"),
            Err(_) => format!("{}/v{format}", directory.path().display()),
        };
        let columns = vec![
            field("id", Type::Int64),
            field("g", Type::String),
            field("ts", Type::Timestamp { unit: Unit::Micros, utc: true }),
            field("d", Type::Decimal { precision: 10, scale: 2 }),
        ];
        let key = |column: &str, transform| PartitionKey { column: column.into(), transform };
        let keys = vec![key("g", Transform::Identity), key("ts", Transform::Day), key("d", Transform::Identity)];
        let with = |query: &str, mode| Request { columns: columns.clone(), ..request(query, mode) };
        let file = |n: i64, g: Option<&str>, day: i64| {
            let uri = format!("{root}/data/{n}.parquet");
            let bytes = fs::metadata(&uri).map_or(100, |file| file.len());
            let bounds = |min, max| Bounds { min: Some(min), max: Some(max), nulls: Some(0) };
            let bounds = BTreeMap::from([
                ("id".to_string(), bounds(Value::Int(n * 10), Value::Int(n * 10 + 1))),
                ("d".to_string(), bounds(Value::Decimal(i128::from(n) * 100), Value::Decimal(i128::from(n) * 100))),
            ]);
            let g = g.map(|g| Value::String(g.into()));
            let partition = vec![g, Some(Value::Int(day)), Some(Value::Decimal(i128::from(n) * 100))];
            Written { uri, bytes, rows: 2, partition, bounds }
        };
        let mut create = Request { partition: Some(keys), ..with("create", Mode::Create) };
        create.properties.insert("format-version".into(), format.into());
        let run = |request: &Request, files: &[Written]| {
            commit(&Local, &prepare(&Local, &root, request).unwrap(), request, files).unwrap();
        };
        run(&create, &[file(1, Some("u"), 20_000), file(2, Some("v"), 20_000), file(3, None, 20_001)]);
        run(&with("append", Mode::Append), &[file(4, Some("w"), 20_002)]);
        run(&with("replace", Mode::OverwritePartitions), &[file(2, Some("v"), 20_000)]);
        let mut wider = with("evolve", Mode::Append);
        wider.evolve = true;
        wider.columns.push(field("more", Type::Boolean));
        run(&wider, &[]);
        let table = crate::iceberg::table(&Local, &root, &At::default()).unwrap();
        let expected = ["1.parquet", "2.parquet", "3.parquet", "4.parquet"];
        assert_eq!(super::store::names(&table), expected);
    }
}
