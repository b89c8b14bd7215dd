//! Which rows of which data files are deleted: position deletes, deletion vectors and equality deletes.

use std::collections::{BTreeMap, HashMap};

use floe_wire::error::{QueryError, Result};
use roaring::RoaringTreemap;

use super::manifest::{Entry, Key, Manifest};
use super::{bad_file, uri, values};
use crate::checksum::crc32;
use crate::files::Files;
use crate::parallel;
use crate::table::{Bounds, EqualityDelete, Field};

/// Reading small files is mostly waiting.
const READERS: usize = 16;
const VECTOR_BYTES: u64 = 1 << 30;
const VECTOR_MAGIC: [u8; 4] = [0xd1, 0xd3, 0x39, 0x64];

/// A file and the manifest that has it.
pub type File<'a> = (&'a Manifest, &'a Entry);

/// Deletes of a partition are for that partition of that specification only.
type Scope<'a> = (i32, &'a [Key]);

fn scope<'a>((manifest, entry): File<'a>) -> Scope<'a> {
    (manifest.spec.spec_id, &entry.partition)
}

/// The deleted positions by the index of the data file.
pub fn positions(files: &dyn Files, data: &[File<'_>], deletes: &[File<'_>]) -> Result<HashMap<usize, RoaringTreemap>> {
    if deletes.is_empty() {
        return Ok(HashMap::new());
    }
    let mut by_uri: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, (_, entry)) in data.iter().enumerate() {
        by_uri.entry(uri(&entry.path)).or_default().push(index);
    }
    let (vectors, deletes): (Vec<File<'_>>, Vec<File<'_>>) =
        deletes.iter().partition(|(_, delete)| delete.format == "puffin");
    let mut deleted = self::vectors(files, data, &by_uri, &vectors)?;
    // A vector has all deletes of its file.
    let open = |index: usize, sequence: i64| !deleted.contains_key(&index) && data[index].1.sequence <= sequence;
    let mut oldest: HashMap<Scope<'_>, i64> = HashMap::new();
    let mut oldest_of_all = i64::MAX;
    for (index, file) in data.iter().enumerate().filter(|(index, _)| !deleted.contains_key(index)) {
        let sequence = data[index].1.sequence;
        oldest.entry(scope(*file)).and_modify(|oldest| *oldest = sequence.min(*oldest)).or_insert(sequence);
        oldest_of_all = oldest_of_all.min(sequence);
    }
    let needed = |(manifest, delete): &File<'_>| match &delete.referenced {
        Some(path) => by_uri.get(&uri(path)).is_some_and(|all| all.iter().any(|index| open(*index, delete.sequence))),
        None if manifest.spec.is_unpartitioned() => oldest_of_all <= delete.sequence,
        None => oldest.get(&scope((manifest, delete))).is_some_and(|oldest| *oldest <= delete.sequence),
    };
    let needed: Vec<File<'_>> = deletes.into_iter().filter(needed).collect();
    let read = parallel::map(&needed, READERS, |(manifest, delete)| {
        let global = manifest.spec.is_unpartitioned() || delete.referenced.is_some();
        let mut found: HashMap<usize, RoaringTreemap> = HashMap::new();
        let (mut path, mut targets) = (String::new(), Vec::new());
        for (next, position) in files.positions(&uri(&delete.path))? {
            if next != path {
                let all = by_uri.get(&uri(&next)).map_or(&[] as &[usize], Vec::as_slice).iter().copied();
                let applies = |index: &usize| {
                    open(*index, delete.sequence) && (global || scope(data[*index]) == scope((manifest, delete)))
                };
                (path, targets) = (next, all.filter(applies).collect());
            }
            for index in &targets {
                found.entry(*index).or_default().insert(position);
            }
        }
        Ok(found)
    });
    for found in read? {
        for (index, positions) in found {
            *deleted.entry(index).or_default() |= positions;
        }
    }
    for (index, positions) in &mut deleted {
        let entry = data[*index].1;
        let rows = entry.rows.ok_or_else(|| {
            QueryError::user("BadTable", format!("its file {} has deleted rows and no record_count", entry.path))
        })?;
        positions.remove_range(rows..);
    }
    deleted.retain(|_, positions| !positions.is_empty());
    Ok(deleted)
}

fn vectors(
    files: &dyn Files,
    data: &[File<'_>],
    by_uri: &HashMap<String, Vec<usize>>,
    vectors: &[File<'_>],
) -> Result<HashMap<usize, RoaringTreemap>> {
    let mut wanted: BTreeMap<usize, &Entry> = BTreeMap::new();
    for (_, vector) in vectors {
        let path = vector.referenced.as_ref().ok_or_else(|| {
            bad_file("deletion vector", &vector.path, "the manifest does not say which data file it is of")
        })?;
        for index in by_uri.get(&uri(path)).into_iter().flatten() {
            if data[*index].1.sequence <= vector.sequence && wanted.insert(*index, vector).is_some() {
                let message = format!("its file {path} has several deletion vectors, and one at most is allowed");
                return Err(QueryError::user("BadTable", message));
            }
        }
    }
    let wanted: Vec<(usize, &Entry)> = wanted.into_iter().collect();
    let read = parallel::map(&wanted, READERS, |(index, vector)| {
        let bad = |what: &str| bad_file("deletion vector", &vector.path, what);
        let (offset, size) = vector.blob.ok_or_else(|| bad("the manifest does not say where it is in the file"))?;
        let end = offset.checked_add(size).filter(|_| size <= VECTOR_BYTES);
        let range = offset..end.ok_or_else(|| bad("it is larger than 1 GiB"))?;
        let blob = files.read_range(&uri(&vector.path), range)?;
        let bitmap = bitmap(&blob).map_err(|what| bad(what.as_str()))?;
        if vector.rows.is_some_and(|rows| rows != bitmap.len()) {
            return Err(bad(&format!("it has {} positions and should have {:?}", bitmap.len(), vector.rows)));
        }
        Ok((*index, bitmap))
    });
    Ok(read?.into_iter().collect())
}

/// A blob of the type `deletion-vector-v1`.
fn bitmap(blob: &[u8]) -> std::result::Result<RoaringTreemap, String> {
    let (length, rest) = blob.split_first_chunk::<4>().ok_or("it is too short")?;
    let (content, sum) = rest.split_last_chunk::<4>().ok_or("it is too short")?;
    if u32::from_be_bytes(*length) as usize != content.len() {
        return Err("its length is not what it says".into());
    }
    let mut vector = content.strip_prefix(&VECTOR_MAGIC).ok_or("it is not a deletion vector")?;
    if crc32(content) != u32::from_be_bytes(*sum) {
        return Err("its checksum is wrong".into());
    }
    let bitmap = RoaringTreemap::deserialize_from(&mut vector).map_err(|error| error.to_string())?;
    if vector.is_empty() { Ok(bitmap) } else { Err("it has bytes after its bitmap".into()) }
}

/// The equality deletes that apply to data files.
pub struct Equality<'a> {
    deletes: &'a [File<'a>],
    /// The names of the columns of each, or why it cannot be applied.
    columns: Vec<Result<Vec<&'a str>>>,
    global: Vec<usize>,
    scoped: HashMap<Scope<'a>, Vec<usize>>,
}

impl<'a> Equality<'a> {
    pub fn new(deletes: &'a [File<'a>], columns: &'a [Field]) -> Self {
        let columns = deletes.iter().map(|(_, delete)| names(delete, columns)).collect();
        let mut found = Self { deletes, columns, global: Vec::new(), scoped: HashMap::new() };
        for (index, delete) in deletes.iter().enumerate() {
            if delete.0.spec.is_unpartitioned() {
                found.global.push(index);
            } else {
                found.scoped.entry(scope(*delete)).or_default().push(index);
            }
        }
        found
    }

    /// The indices of those that apply to this data file, in their order.
    pub fn of(&self, data: File<'_>) -> Result<Vec<usize>> {
        let scoped = self.scoped.get(&scope(data)).map_or(&[] as &[usize], Vec::as_slice);
        let mut applying = Vec::new();
        for index in self.global.iter().chain(scoped).copied() {
            let delete = self.deletes[index].1;
            if data.1.sequence >= delete.sequence {
                continue;
            }
            let columns = self.names(index)?;
            if columns.iter().all(|column| may_meet(data.1.bounds.get(*column), delete.bounds.get(*column))) {
                applying.push(index);
            }
        }
        applying.sort_unstable();
        Ok(applying)
    }

    /// Files of the same columns together.
    pub fn merged(&self, indices: &[usize]) -> Result<Vec<EqualityDelete>> {
        let mut merged: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
        for index in indices {
            let delete = self.deletes[*index].1;
            merged.entry(self.names(*index)?.to_vec()).or_default().push(uri(&delete.path));
        }
        let named = |(columns, uris): (Vec<&str>, _)| EqualityDelete {
            columns: columns.into_iter().map(str::to_string).collect(),
            uris,
        };
        Ok(merged.into_iter().map(named).collect())
    }

    fn names(&self, index: usize) -> Result<&[&'a str]> {
        self.columns[index].as_deref().map_err(Clone::clone)
    }
}

/// The columns that rows are compared by, in the order of their ids.
fn names<'a>(delete: &Entry, columns: &'a [Field]) -> Result<Vec<&'a str>> {
    if delete.equality_ids.is_empty() {
        return Err(bad_file("equality delete file", &delete.path, "the manifest names no columns (equality_ids)"));
    }
    let mut ids = delete.equality_ids.clone();
    ids.sort_unstable();
    ids.dedup();
    let name = |id: i32| {
        let column = columns.iter().find(|column| column.id == Some(id));
        column.map(|column| column.name.as_str()).ok_or_else(|| {
            let message = format!(
                "its equality deletes {} are by the field {id}, which is not a column of the table (it was dropped or \
                 is nested): this is not supported; rewrite the table's data files",
                delete.path
            );
            QueryError::user("UnsupportedTable", message)
        })
    };
    ids.into_iter().map(name).collect()
}

/// Whether a value in the data may be equal to one in the deletes, as far as their bounds tell.
fn may_meet(data: Option<&Bounds>, deletes: Option<&Bounds>) -> bool {
    let (Some(data), Some(deletes)) = (data, deletes) else { return true };
    let less = |left: &Option<_>, right: &Option<_>| match (left, right) {
        (Some(left), Some(right)) => values::compare(left, right).is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    };
    let both_null = data.nulls != Some(0) && deletes.nulls != Some(0);
    both_null || !(less(&data.max, &deletes.min) || less(&deletes.max, &data.min))
}
