//! Writes a task's files: to its part of the staging directory, or as parts of uploads.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use floe_lake::table::Value;
use polars_error::PolarsError;
use polars_io::utils::file::{Writable, WritableTrait};

use super::{
    Plan,
    staged::{self, At},
};
use crate::writeback::Writeback;
use floe_storage::{Location, Store, path_error};
use floe_wire::error::{Category, QueryError, Result};
use floe_wire::graph::TaskId;

/// Size of an upload's first parts. Stores require at least 5 MiB in all parts but the last.
const PART_BYTES: usize = 8 << 20;
/// S3 accepts 10,000 parts per upload: double the part size after this many parts.
const PARTS_PER_DOUBLING: usize = 1000;
/// Parts of one file in flight at once: more would only use memory.
const PARTS_IN_FLIGHT: usize = 3;
/// Send smaller files to the coordinator instead of uploading them …
const INLINE_BYTES: u64 = 1 << 20;
/// … while those of a task are smaller than this in total.
const INLINE_TASK_BYTES: u64 = 4 << 20;
const PART_TIMEOUT: Duration = Duration::from_secs(600);

pub(super) fn to_polars(error: QueryError) -> PolarsError {
    io::Error::other(error.message).into()
}

/// The files staged so far by one attempt at a task.
pub(super) struct Stage {
    plan: Plan,
    task: TaskId,
    /// Directory of this attempt, below the staging directory.
    directory: Option<String>,
    store: Option<Store>,
    files: Mutex<Vec<staged::File>>,
    /// Object name and upload id, from the start of the upload.
    uploads: Mutex<Vec<(String, String)>>,
    failure: Mutex<Option<QueryError>>,
    next: AtomicUsize,
    inline: AtomicU64,
    bytes: AtomicU64,
    discarded: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    pub(super) fn new(plan: &Plan, task: TaskId, attempt: u32) -> Result<Stage> {
        let (mut directory, mut store) = (None, None);
        match &plan.root {
            Location::Object { root, .. } => store = Some(Store::open(root, &plan.storage)?),
            Location::Local(_) if !plan.is_device() => {
                let staging = plan.staging.as_ref().ok_or_else(|| QueryError::internal("a sink that was not begun"))?;
                let name = format!("{:02}-{:05}-{attempt}-{}", task.stage.0, task.task, unique());
                // Create no parents: after the end of the query, a late task must not recreate the directory.
                std::fs::create_dir(staging.join(&name)).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => QueryError::io(format!(
                        "{}: the sink's staging directory is not there: the query is over, or this worker does not \
                         share the directory with its coordinator (use an object store or a shared volume)",
                        staging.display()
                    )),
                    _ => path_error(staging, &error),
                })?;
                directory = Some(name);
            }
            _ => {}
        }
        Ok(Stage {
            plan: plan.clone(),
            task,
            directory,
            store,
            files: Mutex::default(),
            uploads: Mutex::default(),
            failure: Mutex::default(),
            next: AtomicUsize::new(0),
            inline: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            discarded: AtomicBool::new(false),
        })
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn failure(&self) -> Option<QueryError> {
        lock(&self.failure).clone()
    }

    fn fail(&self, error: QueryError) -> QueryError {
        lock(&self.failure).get_or_insert(error.clone());
        error
    }

    /// Opens the `n`-th file of a directory below the root.
    pub(super) fn open(self: &Arc<Self>, dir: String, n: usize, keys: Vec<Option<Value>>) -> Result<Writable> {
        if self.discarded.load(Ordering::Acquire) {
            return Err(QueryError::new(Category::Cancelled, "Cancelled", "the sink was abandoned"));
        }
        let name = self.plan.file_name(self.task, n);
        if let Some(store) = &self.store {
            let path = self.plan.root.join(&format!("{dir}{name}"));
            let Location::Object { path, .. } = path else { return Err(QueryError::internal("not an object")) };
            return Ok(Writable::Dyn(Box::new(ObjectWriter {
                stage: self.clone(),
                store: store.clone(),
                file: Some(staged::File { dir, name, n, size: 0, at: At::Written, keys }),
                path,
                buffer: BytesMut::new(),
                upload: None,
                size: 0,
            })));
        }
        let root = self.plan.root.local_path().ok_or_else(|| QueryError::internal("not a local sink"))?;
        let (path, at): (PathBuf, At) = match (&self.directory, &self.plan.staging) {
            (Some(directory), Some(staging)) => {
                let below = format!("{directory}/{}", self.next.fetch_add(1, Ordering::Relaxed));
                (staging.join(&below), At::Local { path: below })
            }
            _ => (root.join(&name), At::Written),
        };
        let file = std::fs::File::options()
            .write(true)
            .create(at != At::Written)
            .truncate(at != At::Written)
            .open(&path)
            .map_err(|error| self.fail(path_error(&path, &error)))?;
        lock(&self.files).push(staged::File { dir, name, n, size: 0, at, keys });
        Ok(Writable::Dyn(Box::new(LocalWriter { stage: self.clone(), file, writeback: Writeback::default() })))
    }

    /// Returns the report. Call it after all files are closed.
    pub(super) fn finish(&self, rows: u64) -> Result<Bytes> {
        let mut files = std::mem::take(&mut *lock(&self.files));
        files.sort_by(|a, b| (&a.dir, a.n).cmp(&(&b.dir, b.n)));
        for file in &mut files {
            if let (At::Local { path }, Some(staging)) = (&file.at, &self.plan.staging) {
                let path = staging.join(path);
                file.size = path.metadata().map_err(|error| path_error(&path, &error))?.len();
            }
        }
        staged::encode(&staged::Task { rows, files })
    }

    /// Removes everything staged. Best effort: the coordinator's abort finds the rest.
    pub(super) fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
        if let (Some(staging), Some(directory)) = (&self.plan.staging, &self.directory) {
            let _ = std::fs::remove_dir_all(staging.join(directory));
        }
        if let Some(store) = &self.store {
            for (path, upload) in std::mem::take(&mut *lock(&self.uploads)) {
                if let Err(error) = store.abort_upload(&path, &upload) {
                    tracing::warn!(%error, "cannot abort an upload");
                }
            }
        }
    }
}

/// Two workers may get the same attempt number after a loss, so their directories need unique names.
fn unique() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    id[..8].to_owned()
}

/// A file in the staging directory, or a device.
struct LocalWriter {
    stage: Arc<Stage>,
    file: std::fs::File,
    writeback: Writeback,
}

impl Write for LocalWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.writeback.wrote(&self.file, written as u64);
        self.stage.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WritableTrait for LocalWriter {
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// An object written part by part; invisible until it is completed.
struct ObjectWriter {
    stage: Arc<Stage>,
    store: Store,
    /// Taken when the file is closed.
    file: Option<staged::File>,
    path: String,
    buffer: BytesMut,
    upload: Option<Upload>,
    size: u64,
}

struct Upload {
    id: String,
    parts: Vec<Option<String>>,
    in_flight: usize,
    sender: mpsc::Sender<(usize, Result<String>)>,
    receiver: mpsc::Receiver<(usize, Result<String>)>,
}

impl ObjectWriter {
    fn part_bytes(&self) -> usize {
        let sent = self.upload.as_ref().map_or(0, |upload| upload.parts.len());
        PART_BYTES << (sent / PARTS_PER_DOUBLING).min(6)
    }

    fn send(&mut self, data: Bytes) -> Result<()> {
        if self.stage.discarded.load(Ordering::Acquire) {
            return Err(QueryError::new(Category::Cancelled, "Cancelled", "the sink was abandoned"));
        }
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let id = self.store.start_upload(&self.path)?;
                lock(&self.stage.uploads).push((self.path.clone(), id.clone()));
                let (sender, receiver) = mpsc::channel();
                self.upload.insert(Upload { id, parts: Vec::new(), in_flight: 0, sender, receiver })
            }
        };
        while upload.in_flight >= PARTS_IN_FLIGHT {
            upload.receive()?;
        }
        let index = upload.parts.len();
        upload.parts.push(None);
        upload.in_flight += 1;
        let sender = upload.sender.clone();
        self.store.send_part(&self.path, &upload.id, index, data, move |sent| {
            // The receiver is gone if the task failed.
            let _ = sender.send((index, sent));
        })
    }

    fn finish(&mut self) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.size = self.size;
        let rest = self.buffer.split().freeze();
        let small = self.upload.is_none()
            && self.size <= INLINE_BYTES
            && self.stage.inline.fetch_add(self.size, Ordering::Relaxed) + self.size <= INLINE_TASK_BYTES;
        if small {
            file.at = At::Inline { data: rest };
        } else {
            if !rest.is_empty() || self.upload.is_none() {
                self.send(rest)?;
            }
            let Some(upload) = &mut self.upload else { return Err(QueryError::internal("an upload without parts")) };
            while upload.in_flight > 0 {
                upload.receive()?;
            }
            let parts = std::mem::take(&mut upload.parts).into_iter().collect::<Option<Vec<String>>>();
            let parts = parts.ok_or_else(|| QueryError::internal("a part of an upload is missing"))?;
            file.at = At::Upload { id: upload.id.clone(), parts };
        }
        lock(&self.stage.files).push(file);
        Ok(())
    }
}

impl Upload {
    fn receive(&mut self) -> Result<()> {
        let (index, sent) =
            self.receiver.recv_timeout(PART_TIMEOUT).map_err(|_| QueryError::io("an upload does not go on"))?;
        self.in_flight -= 1;
        self.parts[index] = Some(sent?);
        Ok(())
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        self.size += data.len() as u64;
        self.stage.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        while self.buffer.len() >= self.part_bytes() {
            let part = self.buffer.split_to(self.part_bytes()).freeze();
            self.send(part).map_err(|error| io::Error::other(self.stage.fail(error).message))?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WritableTrait for ObjectWriter {
    fn close(&mut self) -> io::Result<()> {
        self.finish().map_err(|error| io::Error::other(self.stage.fail(error).message))
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
