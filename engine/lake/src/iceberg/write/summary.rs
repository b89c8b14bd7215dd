//! What a snapshot's summary says: what came, what went, and the totals.

use std::collections::BTreeMap;

use super::state::{ATTEMPT, QUERY, Snapshot};
use crate::iceberg::avro::decode::Datum;
use crate::write::{Mode, Request, Written};

/// Files that a snapshot takes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub bytes: i64,
    pub data_files: i64,
    pub records: i64,
    pub position_files: i64,
    pub vectors: i64,
    pub position_deletes: i64,
    pub equality_files: i64,
    pub equality_deletes: i64,
}

impl Removed {
    /// Counts a file of a manifest's entry.
    pub fn add(&mut self, file: &Datum<'_>) {
        let number = |id: i32| file.field(id).int().unwrap_or(0);
        let rows = number(103);
        let vector = file.field(101).string().is_some_and(|format| format.eq_ignore_ascii_case("puffin"));
        // A file of several deletion vectors counts with the part of each.
        self.bytes += if vector { file.field(145).int().unwrap_or(0) } else { number(104) };
        match number(134) {
            1 => {
                *(if vector { &mut self.vectors } else { &mut self.position_files }) += 1;
                self.position_deletes += rows;
            }
            2 => {
                self.equality_files += 1;
                self.equality_deletes += rows;
            }
            _ => {
                self.data_files += 1;
                self.records += rows;
            }
        }
    }

    pub fn merge(&mut self, other: &Removed) {
        self.bytes += other.bytes;
        self.data_files += other.data_files;
        self.records += other.records;
        self.position_files += other.position_files;
        self.vectors += other.vectors;
        self.position_deletes += other.position_deletes;
        self.equality_files += other.equality_files;
        self.equality_deletes += other.equality_deletes;
    }

    fn delete_files(&self) -> i64 {
        self.position_files + self.vectors + self.equality_files
    }
}

pub fn of(
    request: &Request,
    parent: Option<&Snapshot>,
    written: &[Written],
    gone: &Removed,
) -> BTreeMap<String, String> {
    let count = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0i64, |sum, n| sum.saturating_add(n as i64));
    let records = count(&mut written.iter().map(|file| file.rows));
    let bytes = count(&mut written.iter().map(|file| file.bytes));
    let files = written.len() as i64;
    let replaces = gone.data_files + gone.delete_files() > 0;
    let operation = match request.mode.removes() {
        false => "append",
        true if files == 0 && replaces => "delete",
        true => "overwrite",
    };
    let mut summary = BTreeMap::from([
        ("operation".to_string(), operation.to_string()),
        (QUERY.to_string(), request.query.clone()),
        (ATTEMPT.to_string(), request.attempt.clone()),
        ("engine-name".to_string(), "floe".to_string()),
    ]);
    if request.mode == Mode::OverwritePartitions {
        summary.insert("replace-partitions".into(), "true".into());
    }
    let changes = [
        ("added-data-files", files),
        ("added-records", records),
        ("added-files-size", bytes),
        ("deleted-data-files", gone.data_files),
        ("deleted-records", gone.records),
        ("removed-files-size", gone.bytes),
        ("removed-delete-files", gone.delete_files()),
        ("removed-position-delete-files", gone.position_files),
        ("removed-dvs", gone.vectors),
        ("removed-position-deletes", gone.position_deletes),
        ("removed-equality-delete-files", gone.equality_files),
        ("removed-equality-deletes", gone.equality_deletes),
    ];
    summary.extend(changes.into_iter().filter(|(_, n)| *n != 0).map(|(key, n)| (key.to_string(), n.to_string())));
    let totals = [
        ("total-data-files", files - gone.data_files),
        ("total-records", records - gone.records),
        ("total-files-size", bytes - gone.bytes),
        ("total-delete-files", -gone.delete_files()),
        ("total-position-deletes", -gone.position_deletes),
        ("total-equality-deletes", -gone.equality_deletes),
    ];
    for (key, change) in totals {
        // A total that the parent does not have, or a negative one, is left out as unknown.
        let before = match parent {
            None => Some(0),
            Some(parent) => parent.summary.get(key).and_then(|total| total.parse::<i64>().ok()),
        };
        let total = match request.mode {
            Mode::Overwrite => Some(change + removed(key, gone)),
            _ => before.map(|before| before + change),
        };
        summary.extend(total.filter(|total| *total >= 0).map(|total| (key.to_string(), total.to_string())));
    }
    summary
}

/// What was removed from a total. After an overwrite the total is what was added.
fn removed(key: &str, gone: &Removed) -> i64 {
    match key {
        "total-data-files" => gone.data_files,
        "total-records" => gone.records,
        "total-files-size" => gone.bytes,
        "total-delete-files" => gone.delete_files(),
        "total-position-deletes" => gone.position_deletes,
        _ => gone.equality_deletes,
    }
}
