//! Manifest lists, read so that they can be written again with other manifests.

use std::sync::Arc;

use crate::iceberg::avro::decode::Datum;
use crate::iceberg::avro::write::Writer;
use crate::iceberg::avro::{Container, Result};
use crate::iceberg::schemas;

pub const ADDED: usize = 0;
pub const EXISTING: usize = 1;
pub const DELETED: usize = 2;
/// Fields of the numbers of files and rows, in this order.
const FILES: [i32; 3] = [504, 505, 506];
const ROWS: [i32; 3] = [512, 513, 514];

/// A row of a manifest list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManifestFile {
    pub path: String,
    pub bytes: i64,
    pub spec: i32,
    /// 0 for data, 1 for deletes.
    pub content: i64,
    pub sequence: i64,
    pub min_sequence: i64,
    pub snapshot: i64,
    /// Added, existing and deleted ones; unknown in some lists of version 1.
    pub counts: Option<Counts>,
    pub partitions: Option<Arc<[Summary]>>,
    pub first_row: Option<i64>,
    pub encrypted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub files: [i64; 3],
    pub rows: [i64; 3],
}

/// What is said of the values of a partition field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub nulls: bool,
    pub nans: Option<bool>,
    pub lower: Option<Vec<u8>>,
    pub upper: Option<Vec<u8>>,
}

impl ManifestFile {
    pub fn is_data(&self) -> bool {
        self.content == 0
    }

    /// Whether it is known to have no live file.
    pub fn is_empty(&self) -> bool {
        self.counts.is_some_and(|counts| counts.files[ADDED] + counts.files[EXISTING] == 0)
    }
}

pub fn read(bytes: &[u8]) -> Result<Vec<ManifestFile>> {
    let mut manifests = Vec::new();
    Container::open(bytes, &[])?.rows(|row| {
        let number = |id: i32| row.field(id).int();
        let three = |ids: [i32; 3]| Some([number(ids[0])?, number(ids[1])?, number(ids[2])?]);
        let counts = || Some(Counts { files: three(FILES)?, rows: three(ROWS)? });
        let path = row.field(500).string().ok_or("a row has no manifest_path")?.to_string();
        manifests.push(ManifestFile {
            bytes: number(501).ok_or("a row has no manifest_length")?,
            spec: number(502).and_then(|id| id.try_into().ok()).ok_or("a row has no partition_spec_id")?,
            content: number(517).unwrap_or(0),
            sequence: number(515).unwrap_or(0),
            min_sequence: number(516).unwrap_or(0),
            snapshot: number(503).ok_or_else(|| format!("the row of {path} has no added_snapshot_id"))?,
            counts: counts(),
            partitions: summaries(row.field(507)),
            first_row: number(520),
            encrypted: *row.field(519) != Datum::Null,
            path,
        });
        Ok(())
    })?;
    Ok(manifests)
}

fn summaries(datum: &Datum<'_>) -> Option<Arc<[Summary]>> {
    let Datum::Array(items) = datum else { return None };
    let flag = |datum: &Datum<'_>| match datum {
        Datum::Boolean(value) => Some(*value),
        _ => None,
    };
    let summary = |item: &Datum<'_>| Summary {
        nulls: flag(item.field(509)).unwrap_or(true),
        nans: flag(item.field(518)),
        lower: item.field(510).bytes().map(<[u8]>::to_vec),
        upper: item.field(511).bytes().map(<[u8]>::to_vec),
    };
    Some(items.iter().map(summary).collect())
}

/// The list of a snapshot. `header` has what Iceberg's own writer says of it.
pub fn write(manifests: &[ManifestFile], header: &[(&str, &str)], format: u32) -> Result<Vec<u8>> {
    let mut writer = Writer::new(&schemas::manifest_list(format), header)?;
    for manifest in manifests {
        let counts = manifest.counts.ok_or_else(|| format!("the files of {} are not counted", manifest.path))?;
        writer.row(&row(manifest, &counts))?;
    }
    writer.finish()
}

fn row<'a>(manifest: &'a ManifestFile, counts: &Counts) -> Datum<'a> {
    let bytes = |bytes: &'a Option<Vec<u8>>| bytes.as_deref().map_or(Datum::Null, Datum::Bytes);
    let summary = |one: &'a Summary| {
        Datum::Record(vec![
            (509, Datum::Boolean(one.nulls)),
            (518, one.nans.map_or(Datum::Null, Datum::Boolean)),
            (510, bytes(&one.lower)),
            (511, bytes(&one.upper)),
        ])
    };
    let partitions = manifest.partitions.as_ref();
    let mut fields = vec![
        (500, Datum::String(&manifest.path)),
        (501, Datum::Int(manifest.bytes)),
        (502, Datum::Int(manifest.spec.into())),
        (517, Datum::Int(manifest.content)),
        (515, Datum::Int(manifest.sequence)),
        (516, Datum::Int(manifest.min_sequence)),
        (503, Datum::Int(manifest.snapshot)),
        (507, partitions.map_or(Datum::Null, |all| Datum::Array(all.iter().map(summary).collect()))),
        (520, manifest.first_row.map_or(Datum::Null, Datum::Int)),
    ];
    fields.extend(FILES.into_iter().zip(counts.files.map(Datum::Int)));
    fields.extend(ROWS.into_iter().zip(counts.rows.map(Datum::Int)));
    Datum::Record(fields)
}
