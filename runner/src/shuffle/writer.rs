//! Writes one task's output: kept in memory while small, then in the memory-backed directory, then on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use floe_wire::chunk::{OutputId, Place, Shelf};
use floe_wire::error::{QueryError, Result};

use super::name::file_name;
use super::store::{Held, Store};
use crate::writeback::Writeback;

/// Writes are gathered to this size before they reach a file.
const BUFFER_BYTES: usize = 256 << 10;

pub struct Writer {
    store: Arc<Store>,
    query: String,
    output: OutputId,
    /// Bytes not yet in the file; all of them while there is no file.
    buffer: Vec<u8>,
    target: Option<Target>,
    written: u64,
    finished: bool,
}

struct Target {
    file: File,
    path: PathBuf,
    shelf: Shelf,
    /// Bytes counted against the budget of its place.
    reserved: u64,
    writeback: Writeback,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>, query: String, output: OutputId) -> Writer {
        Writer { store, query, output, buffer: Vec::new(), target: None, written: 0, finished: false }
    }

    /// Bytes written so far: where the next chunk starts.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether memory had no room for it.
    pub fn on_disk(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.shelf == Shelf::Disk)
    }

    /// Makes the output readable; returns where it lies and its size.
    pub fn finish(mut self) -> Result<(Place, u64)> {
        let bytes = self.position();
        if self.target.is_none() {
            self.finished = true;
            return Ok((Place::Inline(Bytes::from(std::mem::take(&mut self.buffer))), bytes));
        }
        self.spill().map_err(|error| QueryError::io(format!("cannot write shuffle file: {error}")))?;
        let Some(target) = self.target.take() else {
            return Err(QueryError::internal("a shuffle file vanished while it was finished"));
        };
        let path = target.path.with_file_name(file_name(self.output));
        let held = Held { path: path.clone(), bytes: target.reserved, shelf: target.shelf };
        let shelf = target.shelf;
        if let Err(error) = std::fs::rename(&target.path, &path) {
            self.target = Some(target);
            return Err(QueryError::io(format!("cannot finish shuffle file {}: {error}", path.display())));
        }
        self.finished = true;
        if let Some(remote) = self.store.remote(&self.query) {
            let sent = remote.upload(&path, self.output);
            self.store.remove(&self.query, &held);
            sent?;
            self.store.sent(&self.query, self.output);
            return Ok((Place::Store, bytes));
        }
        let kept = |worker| self.store.keep(&self.query, self.output, held.clone()).map(|()| worker);
        match self.store.worker().and_then(kept) {
            Ok(worker) => Ok((Place::Worker { worker, shelf }, bytes)),
            Err(error) => {
                self.store.remove(&self.query, &held);
                if let Some(dir) = path.parent() {
                    let _ = std::fs::remove_dir(dir);
                }
                Err(error)
            }
        }
    }

    fn limit(&self) -> usize {
        match self.target {
            None => self.store.options.inline_limit_bytes,
            Some(_) => BUFFER_BYTES,
        }
    }

    /// Moves the buffer into the file.
    fn spill(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.put(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.make_room(bytes.len() as u64)?;
        let Some(target) = self.target.as_mut() else {
            return Err(io::Error::other("no shuffle file is open"));
        };
        target.file.write_all(bytes)?;
        if target.shelf == Shelf::Disk {
            target.writeback.wrote(&target.file, bytes.len() as u64);
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Reserves `more` bytes in the budget of the directory in use; moves the file to disk when memory is full.
    fn make_room(&mut self, more: u64) -> io::Result<()> {
        if self.target.is_none() {
            let first = match &self.store.options.memory_dir {
                Some(_) => self.open(Shelf::Memory).ok(),
                None => None,
            };
            self.target = Some(match first {
                Some(target) => target,
                None => self.open(Shelf::Disk)?,
            });
        }
        let store = self.store.clone();
        let Some(target) = self.target.as_mut() else { return Ok(()) };
        let is_there = match target.shelf {
            Shelf::Memory => store.take_memory(&self.query, more),
            Shelf::Disk => store.take_disk(more),
        };
        if is_there {
            target.reserved += more;
            return Ok(());
        }
        if target.shelf == Shelf::Disk {
            let budget = store.options.disk_budget_bytes;
            let message = format!("the shuffle files of this worker would pass its disk budget of {budget} bytes");
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        self.move_to_disk()?;
        self.make_room(more)
    }

    fn open(&self, wanted: Shelf) -> io::Result<Target> {
        let (dir, shelf) = match (&self.store.options.memory_dir, wanted) {
            (Some(dir), Shelf::Memory) => (dir, Shelf::Memory),
            (_, Shelf::Memory | Shelf::Disk) => (&self.store.options.dir, Shelf::Disk),
        };
        let dir = dir.join(&self.query);
        std::fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{}.part", file_name(self.output)));
        // Truncate what an earlier process of this worker may have left under the name.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Target { file, path, shelf, reserved: 0, writeback: Writeback::default() })
    }

    fn move_to_disk(&mut self) -> io::Result<()> {
        let Some(mut from) = self.target.take() else { return Ok(()) };
        let moved = self.open(Shelf::Disk).and_then(|mut to| {
            let used = &self.store.disk_used;
            used.fetch_add(from.reserved, Ordering::Relaxed);
            to.reserved = from.reserved;
            from.file.seek(SeekFrom::Start(0))?;
            io::copy(&mut Read::take(&from.file, from.reserved), &mut to.file)?;
            to.writeback.wrote(&to.file, from.reserved);
            Ok(to)
        });
        self.discard(from);
        self.target = Some(moved?);
        Ok(())
    }

    fn discard(&self, target: Target) {
        let held = Held { path: target.path, bytes: target.reserved, shelf: target.shelf };
        self.store.remove(&self.query, &held);
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() <= self.limit() {
            self.buffer.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        self.spill()?;
        if bytes.len() >= BUFFER_BYTES {
            self.put(bytes)?;
        } else {
            if self.target.is_none() {
                // An empty buffer was spilled, so there is no file yet, and these bytes need one.
                self.put(bytes)?;
            } else {
                self.buffer.extend_from_slice(bytes);
            }
        }
        Ok(bytes.len())
    }

    /// Does nothing: readers see nothing before `finish`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished
            && let Some(target) = self.target.take()
        {
            let dir = target.path.parent().map(PathBuf::from);
            self.discard(target);
            if let Some(dir) = dir
                && self.store.has_ended(&self.query)
            {
                // Succeeds only for the last file of the query.
                let _ = std::fs::remove_dir(dir);
            }
        }
    }
}
