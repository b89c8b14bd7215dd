//! Memory for shuffle files: taken by writers within their query's share, and given back when finished files move to
//! disk, for another query or for the tasks that run.

use std::fs::File;
use std::io::{self, Read};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use floe_wire::chunk::{OutputId, Shelf};

use super::name::file_name;
use super::share::{Candidate, Holding, Room, leaving, room, share};
use super::store::{Held, State, Store};
use crate::writeback::Writeback;

/// Bytes copied at once, so that dirty pages stay bounded.
const STEP_BYTES: u64 = 4 << 20;

/// A finished file that moves to disk.
struct Leaving {
    query: String,
    output: OutputId,
    from: Held,
}

impl State {
    fn holdings(&self) -> Vec<Holding<'_>> {
        self.in_memory.iter().map(|(query, bytes)| Holding { query, bytes: *bytes }).collect()
    }

    /// Chooses the files that leave memory, of queries that `may` lose some.
    fn leaving(&self, bytes: u64, keep: u64, may: impl Fn(&str) -> bool) -> Vec<Leaving> {
        let theirs = self.queries.iter().filter(|(query, _)| may(query));
        let files = theirs.flat_map(|(query, all)| all.files.iter().map(move |(output, held)| (query, output, held)));
        let in_memory = files.filter(|(_, _, held)| held.shelf == Shelf::Memory);
        let files: Vec<Candidate<'_>> =
            in_memory.map(|(query, output, held)| Candidate { query, output: *output, bytes: held.bytes }).collect();
        let chosen = leaving(bytes, keep, &self.holdings(), &files);
        let held = |file: &Candidate<'_>| self.queries.get(file.query)?.files.get(&file.output).cloned();
        let leaving = chosen
            .iter()
            .filter_map(|file| Some(Leaving { query: file.query.to_string(), output: file.output, from: held(file)? }));
        leaving.collect()
    }
}

impl Store {
    /// Counts bytes that a query is about to write into memory; false: its file has to go to disk. Blocks while files
    /// of queries that hold more than their share are moved.
    pub(super) fn take_memory(&self, query: &str, more: u64) -> bool {
        let budget = self.options.memory_budget_bytes;
        let leaving = {
            let mut state = self.state();
            let holdings = state.holdings();
            match room(budget, &holdings, query, more) {
                Room::There => {
                    self.count_memory(&mut state, query, more);
                    return true;
                }
                Room::After(bytes) => {
                    let keep = share(budget, &holdings, query);
                    state.leaving(bytes, keep, |other| other != query)
                }
                Room::None => return false,
            }
        };
        self.move_out(leaving);
        let mut state = self.state();
        let is_there = room(budget, &state.holdings(), query, more) == Room::There;
        if is_there {
            self.count_memory(&mut state, query, more);
        }
        is_there
    }

    pub(super) fn take_disk(&self, more: u64) -> bool {
        if self.disk_used.fetch_add(more, Ordering::Relaxed).saturating_add(more) <= self.options.disk_budget_bytes {
            return true;
        }
        self.disk_used.fetch_sub(more, Ordering::Relaxed);
        false
    }

    /// Moves finished files of queries that `may` lose some to disk, until `bytes` of memory are free; returns how many
    /// are. Blocks.
    pub fn make_way(&self, bytes: u64, may: impl Fn(&str) -> bool) -> u64 {
        let leaving = self.state().leaving(bytes, 0, may);
        self.move_out(leaving)
    }

    /// The memory of the queries that `are` meant.
    pub fn memory_of(&self, are: impl Fn(&str) -> bool) -> u64 {
        self.state().in_memory.iter().filter(|(query, _)| are(query)).map(|(_, bytes)| *bytes).sum()
    }

    fn move_out(&self, files: Vec<Leaving>) -> u64 {
        let _only = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moved = 0;
        for Leaving { query, output, from } in files {
            let is_there = |held: &Held| held.path == from.path;
            let find = |state: &State| state.queries.get(&query)?.files.get(&output).cloned();
            if find(&self.state()).is_none_or(|held| !is_there(&held)) {
                // Released or moved meanwhile.
                continue;
            }
            let to = match self.copy_to_disk(&query, output, &from) {
                Ok(to) => to,
                Err(error) => {
                    tracing::warn!("shuffle files stay in memory: {error}");
                    break;
                }
            };
            let mut state = self.state();
            let held = state.queries.get_mut(&query).and_then(|files| files.files.get_mut(&output));
            match held.filter(|held| is_there(held)) {
                Some(held) => {
                    *held = to;
                    drop(state);
                    moved += from.bytes;
                    self.remove(&query, &from);
                }
                None => {
                    let has_ended = !state.queries.contains_key(&query);
                    drop(state);
                    self.remove(&query, &to);
                    if has_ended {
                        self.remove_empty(&query);
                    }
                }
            }
        }
        moved
    }

    /// Copies a finished file; its place in memory stays as it is.
    fn copy_to_disk(&self, query: &str, output: OutputId, from: &Held) -> io::Result<Held> {
        if !self.take_disk(from.bytes) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk budget is used up"));
        }
        let dir = self.options.dir.join(query);
        let path = dir.join(file_name(output));
        let part = dir.join(format!("{}.part", file_name(output)));
        let copied = std::fs::create_dir_all(&dir).and_then(|()| {
            let (mut source, mut target) = (File::open(&from.path)?, File::create(&part)?);
            let mut writeback = Writeback::default();
            loop {
                let bytes = io::copy(&mut Read::take(&mut source, STEP_BYTES), &mut target)?;
                if bytes == 0 {
                    break;
                }
                writeback.wrote(&target, bytes);
            }
            std::fs::rename(&part, &path)
        });
        if let Err(error) = copied {
            let _ = std::fs::remove_file(&part);
            self.disk_used.fetch_sub(from.bytes, Ordering::Relaxed);
            return Err(error);
        }
        Ok(Held { path, bytes: from.bytes, shelf: Shelf::Disk })
    }
}
