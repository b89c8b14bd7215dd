//! A place to write to (a temporary directory, or a bucket of the test's own server), with helpers.

use std::{
    io::Cursor,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use floe_api::{SinkMode, SinkSpec};
use polars::prelude::*;

use super::super::{Plan, Run, Summary, TaskSink, begin, commit, from_spec, lease, prepare};
use floe_exec::RowSink;
use floe_storage::{Options, Store};
use floe_wire::error::Result;
use floe_wire::graph::{StageId, TaskId};

/// Killed at the end of the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) struct Place {
    pub directory: tempfile::TempDir,
    pub options: Options,
    server: Option<Server>,
    base: String,
}

pub(super) fn local() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().display().to_string();
    Place { directory, options: Options::default(), server: None, base }
}

pub(super) fn s3() -> Place {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("buckets/bucket")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/s3-server.sh");
    let child = Command::new(script)
        .arg("run")
        .arg(directory.path())
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child);
    // The first run on a machine builds the server.
    let limit = Instant::now() + Duration::from_secs(900);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < limit, "the S3 server does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let options = [
        ("aws_access_key_id", "floe"),
        ("aws_secret_access_key", "floe-secret"),
        ("aws_region", "us-east-1"),
        ("aws_endpoint_url", &format!("http://127.0.0.1:{port}")),
    ]
    .into_iter()
    .collect();
    Place { directory, options, server: Some(server), base: "s3://bucket".to_owned() }
}

impl Place {
    pub fn uri(&self, below: &str) -> String {
        format!("{}/{below}", self.base)
    }

    fn is_s3(&self) -> bool {
        self.server.is_some()
    }

    pub fn store(&self) -> Store {
        Store::open("s3://bucket", &self.options).unwrap()
    }

    /// All files or objects, including hidden ones and empty directories, and pending uploads.
    pub fn everything(&self) -> Vec<String> {
        if self.is_s3() {
            let store = self.store();
            let mut all: Vec<String> = store.list_text("").unwrap().into_iter().map(|entry| entry.path).collect();
            all.extend(store.pending_uploads("").unwrap().into_iter().map(|upload| format!("upload {}", upload.path)));
            return all;
        }
        let mut all = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(below) = open.pop() {
            let mut count = 0;
            for child in std::fs::read_dir(self.directory.path().join(&below)).unwrap() {
                let child = child.unwrap();
                let name = below.join(child.file_name());
                count += 1;
                if child.file_type().unwrap().is_dir() {
                    open.push(name);
                } else {
                    all.push(name.display().to_string());
                }
            }
            if count == 0 && below != Path::new("") {
                all.push(format!("{}/", below.display()));
            }
        }
        all.sort();
        all
    }

    pub fn read(&self, below: &str) -> Bytes {
        floe_storage::read(&self.uri(below), &self.options).unwrap()
    }

    pub fn put(&self, below: &str, data: &'static [u8]) {
        floe_storage::write(&self.uri(below), Bytes::from_static(data), &self.options).unwrap();
    }

    /// The values of column `a` in all Parquet files, in the order of the file names.
    pub fn values(&self) -> Vec<i64> {
        let mut values = Vec::new();
        for name in self.everything() {
            if !name.starts_with("upload ") && !name.starts_with('.') && name.ends_with(".parquet") {
                let frame = ParquetReader::new(Cursor::new(self.read(&name))).finish().unwrap();
                values.extend(frame.column("a").unwrap().i64().unwrap().iter().flatten());
            }
        }
        values
    }

    pub fn sorted(&self) -> Vec<i64> {
        let mut values = self.values();
        values.sort_unstable();
        values
    }

    /// Whether nothing hidden and no pending upload is left.
    pub fn is_clean(&self) -> bool {
        let all = self.everything();
        all.iter().all(|name| !name.contains(".floe-") && !name.starts_with("upload "))
    }

    pub fn spec(&self, below: &str, mode: SinkMode) -> SinkSpec {
        SinkSpec { uri: self.uri(below), mode, format: Some(floe_api::Format::Parquet), ..SinkSpec::default() }
    }

    pub fn prepare(&self, spec: &SinkSpec, query: &str) -> Result<Plan> {
        prepare(spec, &self.options, query)
    }

    /// Prepares an attempt of several at the same query.
    pub fn attempt(&self, spec: &SinkSpec, query: &str, attempt: u32) -> Result<Plan> {
        let mut plan = from_spec(spec, &self.options, query)?;
        plan.run = Run::new(attempt);
        begin(&mut plan)?;
        Ok(plan)
    }

    /// Runs a whole query: prepare, one task per frame, commit.
    pub fn run(&self, spec: &SinkSpec, query: &str, frames: &[DataFrame]) -> Result<Summary> {
        let plan = self.prepare(spec, query)?;
        let staged = stage(&plan, frames);
        let summary = commit(&plan, &staged);
        lease::die_quietly(&plan);
        summary
    }
}

pub(super) fn task(task: u32) -> TaskId {
    TaskId { stage: StageId(2), task }
}

/// Runs one task on these rows, and returns its report.
pub(super) fn write(plan: &Plan, id: TaskId, frame: &DataFrame) -> Result<Vec<Bytes>> {
    let sink = Box::new(TaskSink::new(plan, id, 1)?);
    let mut rows = frame.clone().lazy().to_alp_optimized().unwrap();
    sink.attach(&mut rows, Arc::new(|frame, _| Ok(frame)))?;
    let ran = polars_stream::run_query(rows.lp_top, &mut rows.lp_arena, &mut rows.expr_arena);
    ran.map_err(|error| sink.failure().unwrap_or(floe_polars::polars_error(error)))?;
    assert_eq!(sink.passed().rows, frame.height() as u64);
    sink.finish()
}

pub(super) fn stage(plan: &Plan, frames: &[DataFrame]) -> Vec<Vec<Bytes>> {
    let one = |(index, frame): (usize, &DataFrame)| write(plan, task(index as u32), frame).unwrap();
    frames.iter().enumerate().map(one).collect()
}

/// Rows `from..to` with a key of three values.
pub(super) fn rows(from: i64, to: i64) -> DataFrame {
    let key: Vec<String> = (from..to).map(|i| format!("k {}/%", i % 3)).collect();
    df!("a" => (from..to).collect::<Vec<i64>>(), "k" => key).unwrap()
}

/// Rows too large to travel inline, and hard to compress.
pub(super) fn large(from: i64, count: i64) -> DataFrame {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_add(from as u64);
    let noise: Vec<u64> = (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
        .collect();
    df!("a" => (from..from + count).collect::<Vec<i64>>(), "noise" => noise).unwrap()
}
