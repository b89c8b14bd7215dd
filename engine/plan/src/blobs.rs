//! Checks the Arrow streams (frames and series) that a plan carries. Polars allocates what a buffer claims as its
//! length before it reads the buffer, and a failed allocation aborts the process; so compare the claims with the bytes
//! that are there first. All other damage is left to Polars, which reports it as an error.

use super::msgpack::Node;
use super::refuse;
use floe_wire::error::Result;

/// Continuation marker that begins every message of an Arrow IPC stream.
const MESSAGE: [u8; 4] = [0xff; 4];
/// Highest possible ratio of inflated to compressed bytes: Zstandard blocks encode no longer runs.
const MAX_INFLATION_RATIO: u64 = 1 << 17;

/// Refuses the first frame in a plan's document that claims more bytes than it has.
pub fn check(document: &Node<'_>) -> Result<()> {
    match document {
        Node::Map(entries) => entries.iter().try_for_each(|(key, value)| {
            let carries = matches!(key.as_str(), Some("dataframes" | "Series"));
            if carries { streams(value) } else { check(value) }
        }),
        Node::Seq(items) => items.iter().try_for_each(check),
        Node::Raw(_) | Node::Owned(_) => Ok(()),
    }
}

/// Checks all blobs below a node that holds frames.
fn streams(node: &Node<'_>) -> Result<()> {
    match node {
        Node::Map(entries) => entries.iter().try_for_each(|(_, value)| streams(value)),
        Node::Seq(items) => items.iter().try_for_each(streams),
        Node::Raw(_) | Node::Owned(_) => {
            if node.head_bytes(4).as_deref() != Some(&MESSAGE) {
                return Ok(());
            }
            let bytes = node.head_bytes(usize::MAX).unwrap_or_default();
            match overstated(&bytes) {
                None => Ok(()),
                Some(claim) => Err(refuse::bad_plan(format!(
                    "the plan is damaged: a buffer of a frame claims {claim} bytes, and the frame has {}",
                    bytes.len()
                ))),
            }
        }
    }
}

/// The first claim in the stream that its bytes cannot satisfy; `None` also where the stream cannot be parsed.
fn overstated(stream: &[u8]) -> Option<u64> {
    let mut at = 0usize;
    while stream.get(at..at + 4) == Some(&MESSAGE) {
        let length = u32::from_le_bytes(stream.get(at + 4..at + 8)?.try_into().ok()?) as usize;
        let start = at + 8;
        let body = start.checked_add(length)?;
        let message = Table::root(stream.get(start..body)?)?;
        if let Some(claim) = claims(&message, stream.get(body..)?) {
            return Some(claim);
        }
        at = body.checked_add(usize::try_from(message.u64(3).unwrap_or(0)).ok()?)?;
    }
    None
}

/// Compares the buffer lengths of a record batch (or of a dictionary, which holds one) with the bytes after the
/// message.
fn claims(message: &Table<'_>, body: &[u8]) -> Option<u64> {
    let header = message.table(2)?;
    let batch = match message.u8(1)? {
        2 => header.table(1)?,
        3 => header,
        _ => return None,
    };
    let compressed = batch.table(3).is_some();
    for buffer in batch.structs(2)? {
        let (offset, length) = (u64_at(buffer, 0)?, u64_at(buffer, 8)?);
        if length > body.len() as u64 {
            return Some(length);
        }
        let inflated = usize::try_from(offset).ok().and_then(|offset| u64_at(body, offset)).filter(|n| *n != u64::MAX);
        if let Some(inflated) =
            inflated.filter(|n| compressed && length >= 8 && *n > length.saturating_mul(MAX_INFLATION_RATIO))
        {
            return Some(inflated);
        }
    }
    None
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A flatbuffer table. Its vtable, the list of field offsets, can be anywhere before or after it.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    fn root(bytes: &'a [u8]) -> Option<Table<'a>> {
        Table { bytes, at: 0 }.behind(0)
    }

    /// Follows the table offset stored at `at`.
    fn behind(&self, at: usize) -> Option<Table<'a>> {
        let offset = u32::from_le_bytes(self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize;
        Some(Table { bytes: self.bytes, at: at.checked_add(offset)? })
    }

    /// Position of field `n`, if present.
    fn field(&self, n: usize) -> Option<usize> {
        let back = i32::from_le_bytes(self.bytes.get(self.at..self.at.checked_add(4)?)?.try_into().ok()?);
        let list = usize::try_from(i64::try_from(self.at).ok()? - i64::from(back)).ok()?;
        let u16_at = |at: usize| Some(usize::from(u16::from_le_bytes(self.bytes.get(at..at + 2)?.try_into().ok()?)));
        let entry = 4 + 2 * n;
        if entry + 2 > u16_at(list)? {
            return None;
        }
        match u16_at(list + entry)? {
            0 => None,
            offset => Some(self.at + offset),
        }
    }

    fn u8(&self, n: usize) -> Option<u8> {
        self.bytes.get(self.field(n)?).copied()
    }

    fn u64(&self, n: usize) -> Option<u64> {
        u64_at(self.bytes, self.field(n)?)
    }

    fn table(&self, n: usize) -> Option<Table<'a>> {
        self.behind(self.field(n)?)
    }

    /// Elements of a vector of 16-byte structs.
    fn structs(&self, n: usize) -> Option<impl Iterator<Item = &'a [u8]>> {
        let vector = self.behind(self.field(n)?)?.at;
        let count = u32::from_le_bytes(self.bytes.get(vector..vector.checked_add(4)?)?.try_into().ok()?) as usize;
        Some(self.bytes.get(vector + 4..)?.chunks_exact(16).take(count))
    }
}

#[cfg(test)]
mod tests {
    use polars_core::prelude::*;

    use super::*;

    fn stream() -> Vec<u8> {
        let mut df =
            df!("x" => [1i64, 2, 3], "s" => [Some("a"), None, Some("a text of more than twelve bytes")]).unwrap();
        df.serialize_to_bytes().unwrap()
    }

    #[test]
    fn sound_streams_pass() {
        assert_eq!(overstated(&stream()), None);
        assert_eq!(overstated(&[]), None);
        for end in 0..stream().len() {
            overstated(&stream()[..end]);
        }
    }

    #[test]
    fn a_buffer_of_more_bytes_than_there_are_is_refused() {
        let sound = stream();
        let lengths = (0..sound.len() - 8).filter(|at| u64_at(&sound, *at) == Some(24)).collect::<Vec<_>>();
        let refused = lengths.iter().filter(|at| {
            let mut broken = sound.clone();
            broken[**at + 5] = 7;
            overstated(&broken) == Some(24 + (7 << 40))
        });
        assert_eq!(refused.count(), 1, "{lengths:?}");
        let mut broken = sound;
        broken[lengths[0] + 5] = 7;
        let blob = |bytes: &[u8]| {
            let mut out = vec![0xc5];
            out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            out.extend_from_slice(bytes);
            Node::Owned(out)
        };
        let held = |key: &str| check(&Node::map([(key, Node::Seq(vec![blob(&broken)]))]));
        assert!(held("Binary").is_ok());
        assert_eq!(held("dataframes").is_err(), overstated(&broken).is_some());
    }
}
