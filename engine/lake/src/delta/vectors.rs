//! Deletion vectors: which rows of a file are deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::actions::Vector;
use super::error::bad_table;
use super::{READERS, paths};
use crate::checksum::crc32;
use crate::files::Files;
use crate::parallel;
use floe_wire::error::Result;

/// What the bytes of a vector start with.
const MAGIC: u32 = 1_681_511_377;
/// In files, the length before a vector and the checksum after it.
const FRAME_BYTES: u64 = 8;
/// The identity in a relative path, in Z85.
const UUID_CHARS: usize = 20;

/// Where a vector is.
enum Place {
    Inline(Vec<u8>),
    File { uri: String, start: u64, bytes: u64 },
}

/// The deleted rows by each of these vectors, in their order. Vectors that share a file are read at once.
pub fn read(files: &dyn Files, root: &str, vectors: &[&Vector]) -> Result<Vec<Arc<RoaringTreemap>>> {
    let mut deleted = vec![None; vectors.len()];
    let mut shared: BTreeMap<String, Vec<(usize, u64, u64)>> = BTreeMap::new();
    for (at, vector) in vectors.iter().enumerate() {
        match place(root, vector)? {
            Place::Inline(data) => deleted[at] = Some(decode(root, "a row of its log", vector, &data)?),
            Place::File { uri, start, bytes } => shared.entry(uri).or_default().push((at, start, bytes)),
        }
    }
    let shared: Vec<_> = shared.into_iter().collect();
    let read = parallel::map(&shared, READERS, |(uri, places)| {
        let start = places.iter().map(|place| place.1).min().unwrap_or(0);
        let end = places.iter().map(|place| place.1.saturating_add(place.2).saturating_add(FRAME_BYTES)).max();
        let data = files.read_range(uri, start..end.unwrap_or(0))?;
        let mut found = Vec::with_capacity(places.len());
        for &(at, offset, bytes) in places {
            let framed = usize::try_from(offset - start).ok().and_then(|skip| data.get(skip..));
            let data = unframe(root, uri, framed.unwrap_or_default(), bytes)?;
            found.push((at, decode(root, uri, vectors[at], data)?));
        }
        Ok(found)
    })?;
    for (at, rows) in read.into_iter().flatten() {
        deleted[at] = Some(rows);
    }
    Ok(deleted.into_iter().flatten().map(Arc::new).collect())
}

fn place(root: &str, vector: &Vector) -> Result<Place> {
    let bad = |what: &str| bad_table(root, format!("a deletion vector in its log {what}"));
    let path = vector.path_or_inline_dv.as_deref().ok_or_else(|| bad("has no \"pathOrInlineDv\""))?;
    let bytes = vector.size_in_bytes.ok_or_else(|| bad("has no \"sizeInBytes\""))?;
    let file = |uri| Place::File { uri, start: vector.offset.unwrap_or(0), bytes };
    match vector.storage_type.as_deref() {
        Some("i") => {
            let mut data = z85(path).ok_or_else(|| bad("is no Z85"))?;
            let length = usize::try_from(bytes).ok().filter(|length| *length <= data.len());
            data.truncate(length.ok_or_else(|| bad("is shorter than its \"sizeInBytes\""))?);
            Ok(Place::Inline(data))
        }
        Some("u") => {
            let split = path.len().checked_sub(UUID_CHARS).and_then(|at| path.split_at_checked(at));
            let (prefix, id) = split.ok_or_else(|| bad("has too short a path"))?;
            let id = z85(id).ok_or_else(|| bad("has a path that is no Z85"))?;
            let name = format!("deletion_vector_{}.bin", uuid(&id));
            Ok(file(if prefix.is_empty() { format!("{root}/{name}") } else { format!("{root}/{prefix}/{name}") }))
        }
        Some("p") => Ok(file(paths::resolve(root, path))),
        other => Err(bad(&format!("has the storage type {other:?}, not \"u\", \"i\" or \"p\""))),
    }
}

/// The bytes of a vector in a file, after checking their length and checksum.
fn unframe<'a>(root: &str, uri: &str, framed: &'a [u8], bytes: u64) -> Result<&'a [u8]> {
    let bad = |what: &str| bad_table(root, format!("a deletion vector in {uri} {what}"));
    let (length, rest) = framed.split_first_chunk().ok_or_else(|| bad("is cut off"))?;
    if u64::from(u32::from_be_bytes(*length)) != bytes {
        return Err(bad("has another length than the log says"));
    }
    let data = usize::try_from(bytes).ok().and_then(|length| rest.split_at_checked(length));
    let (data, rest) = data.ok_or_else(|| bad("is cut off"))?;
    let checksum = rest.first_chunk().ok_or_else(|| bad("is cut off"))?;
    if crc32(data) != u32::from_be_bytes(*checksum) {
        return Err(bad("is damaged: its checksum is another"));
    }
    Ok(data)
}

fn decode(root: &str, place: &str, vector: &Vector, data: &[u8]) -> Result<RoaringTreemap> {
    let bad = |what: String| bad_table(root, format!("the deletion vector in {place} {what}"));
    let (magic, bitmap) = data.split_first_chunk().ok_or_else(|| bad("is cut off".into()))?;
    if u32::from_le_bytes(*magic) != MAGIC {
        return Err(bad("is of another format".into()));
    }
    let rows = RoaringTreemap::deserialize_from(bitmap).map_err(|error| bad(format!("is damaged: {error}")))?;
    if let Some(count) = vector.cardinality
        && count != rows.len()
    {
        return Err(bad(format!("deletes {} rows, but the log says {count}", rows.len())));
    }
    Ok(rows)
}

/// The identity as text.
fn uuid(id: &[u8]) -> String {
    let mut text = String::new();
    for (at, byte) in id.iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

const Z85: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Decodes Z85: five characters for four bytes.
fn z85(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(5) {
        return None;
    }
    let mut data = Vec::with_capacity(text.len() / 5 * 4);
    for group in text.as_bytes().chunks(5) {
        let mut number: u32 = 0;
        for digit in group {
            let digit = Z85.iter().position(|each| each == digit)?;
            number = number.checked_mul(85)?.checked_add(u32::try_from(digit).ok()?)?;
        }
        data.extend(number.to_be_bytes());
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(kind: &str, path: &str, bytes: u64, count: u64) -> Vector {
        Vector {
            storage_type: Some(kind.into()),
            path_or_inline_dv: Some(path.into()),
            offset: (kind != "i").then_some(4),
            size_in_bytes: Some(bytes),
            cardinality: Some(count),
        }
    }

    /// The rows of the protocol's example, whose text there is of an older format.
    const INLINE: &str = "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L";

    #[test]
    fn an_inline_vector_is_decoded() {
        let vector = vector("i", INLINE, 44, 6);
        let Place::Inline(data) = place("/t", &vector).unwrap() else { panic!("not inline") };
        let rows = decode("/t", "", &vector, &data).unwrap();
        assert_eq!(rows.iter().collect::<Vec<_>>(), [3, 4, 7, 11, 18, 29]);
    }

    #[test]
    fn the_paths_of_the_protocol_are_resolved() {
        for (kind, path) in [
            ("u", "ab^-aqEH.-t@S}K{vb[*k^"),
            ("p", "s3://mytable/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"),
        ] {
            let Place::File { uri, start, bytes } = place("s3://mytable", &vector(kind, path, 40, 6)).unwrap() else {
                panic!("not a file")
            };
            assert_eq!(uri, "s3://mytable/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin");
            assert_eq!((start, bytes), (4, 40));
        }
    }

    #[test]
    fn damage_is_seen() {
        for (kind, path, bytes) in [
            ("i", "~~~~~", 4),
            ("i", "0000", 4),
            ("i", "00000", 5),
            ("u", "0", 4),
            ("u", "é0000000000000000000", 4),
            ("x", "", 4),
        ] {
            assert!(place("/t", &vector(kind, path, bytes, 1)).is_err(), "{kind}{path}");
        }
        let good = z85(INLINE).unwrap();
        for cut in 0..good.len() {
            decode("/t", "", &vector("i", INLINE, 44, 6), &good[..cut]).unwrap_err();
        }
        decode("/t", "", &vector("i", INLINE, 44, 5), &good).unwrap_err();
        let mut other = good.clone();
        other[0] ^= 1;
        decode("/t", "", &vector("i", INLINE, 44, 6), &other).unwrap_err();
    }
}
