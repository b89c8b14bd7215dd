//! Copies a result from workers to the coordinator, so that workers may leave: into memory, or into one unnamed file
//! that is mapped. What cannot be copied stays where it is.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use floe_wire::chunk::{Chunk, Place};
use floe_wire::error::{QueryError, TaskError};
use floe_wire::task::Portion;

use crate::shuffle::{self, Reader};

/// How large a result the coordinator copies, and where to.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Largest result kept in memory; outputs on this machine are mapped, which costs nothing.
    pub memory_bytes: u64,
    /// Directory of the file for larger results, and their largest size in bytes.
    pub disk: Option<(PathBuf, u64)>,
}

/// Copies portions of one chunk each. Blocks.
pub fn bring(rows: Vec<Portion>, room: &Room, reader: &Reader) -> Vec<Portion> {
    let bytes = rows.iter().flat_map(|portion| &portion.chunks).map(|chunk| chunk.len).sum::<u64>();
    let brought = match &room.disk {
        _ if bytes <= room.memory_bytes => in_memory(&rows, reader),
        Some((dir, most)) if bytes <= *most => on_disk(&rows, bytes, dir.clone(), reader),
        Some(_) | None => return rows,
    };
    match brought {
        Ok(here) => here,
        Err(error) => {
            tracing::warn!("the result stays with its workers: {error}");
            rows
        }
    }
}

fn in_memory(rows: &[Portion], reader: &Reader) -> Result<Vec<Portion>, TaskError> {
    let bring = |portion: &Portion| match read(portion, reader)? {
        Some((chunk, bytes)) => Ok(inline(portion, chunk, bytes)),
        None => Ok(portion.clone()),
    };
    rows.iter().map(bring).collect()
}

fn on_disk(rows: &[Portion], bytes: u64, dir: PathBuf, reader: &Reader) -> Result<Vec<Portion>, TaskError> {
    let cannot = |what: &str, error: io::Error| QueryError::io(format!("cannot {what} {}: {error}", dir.display()));
    let mut file = tempfile::tempfile_in(&dir).map_err(|error| cannot("make a file in", error))?;
    let (mut written, mut places) = (0u64, Vec::with_capacity(rows.len()));
    for portion in rows {
        let place = match read(portion, reader)? {
            Some((chunk, bytes)) => {
                file.write_all(&bytes).map_err(|error| cannot("write to a file in", error))?;
                let from = written;
                written += bytes.len() as u64;
                Some((chunk, from..written))
            }
            None => None,
        };
        places.push(place);
    }
    debug_assert!(written <= bytes);
    let all = if written == 0 { Ok(Bytes::new()) } else { shuffle::map_file(&file, written as usize) };
    let all = all.map_err(|error| cannot("map a file in", error))?;
    let place = |(portion, place): (&Portion, Option<(Chunk, std::ops::Range<u64>)>)| match place {
        Some((chunk, at)) => inline(portion, chunk, all.slice(at.start as usize..at.end as usize)),
        None => portion.clone(),
    };
    Ok(rows.iter().zip(places).map(place).collect())
}

/// Reads a chunk that lies on a worker or in a store; none if the portion is in the message.
fn read(portion: &Portion, reader: &Reader) -> Result<Option<(Chunk, Bytes)>, TaskError> {
    match (&portion.place, &portion.chunks[..]) {
        (Place::Worker { .. } | Place::Store, [chunk]) => {
            Ok(Some((*chunk, reader.open(portion.output, &portion.place, chunk.span())?)))
        }
        _ => Ok(None),
    }
}

fn inline(portion: &Portion, chunk: Chunk, bytes: Bytes) -> Portion {
    let chunks = vec![Chunk { offset: 0, ..chunk }];
    Portion { output: portion.output, place: Place::Inline(bytes), chunks }
}
