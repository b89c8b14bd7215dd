//! Puts the files of a snapshot into groups that one scan reads alike.

use std::collections::HashMap;
use std::sync::Arc;

use floe_wire::error::{QueryError, Result};

use super::deletes::{self, Equality, File};
use super::manifest::{Content, Entry, Manifest};
use super::{encrypted, uri};
use crate::files::Files;
use crate::table::{DataFile, Field, Group};

pub fn groups(files: &dyn Files, manifests: &[Manifest], columns: &[Field]) -> Result<Vec<Group>> {
    let (mut data, mut positions, mut equality): (Vec<File<'_>>, Vec<File<'_>>, Vec<File<'_>>) = Default::default();
    for manifest in manifests {
        for entry in &manifest.entries {
            check(entry)?;
            match entry.content {
                Content::Data => data.push((manifest, entry)),
                Content::Positions => positions.push((manifest, entry)),
                Content::Equality => equality.push((manifest, entry)),
            }
        }
    }
    let mut deleted = deletes::positions(files, &data, &positions)?;
    let equality = Equality::new(&equality, columns);
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<(&[usize], Vec<usize>), usize> = HashMap::new();
    for (index, (manifest, entry)) in data.into_iter().enumerate() {
        let key = (manifest.identity.as_slice(), equality.of((manifest, entry))?);
        let group = match known.get(&key) {
            Some(group) => *group,
            None => {
                let partition = key.0.iter().map(|column| columns[*column].name.clone()).collect();
                groups.push(Group { partition, files: Vec::new(), deletes: equality.merged(&key.1)? });
                known.insert(key, groups.len() - 1);
                groups.len() - 1
            }
        };
        groups[group].files.push(DataFile {
            uri: uri(&entry.path),
            bytes: entry.bytes,
            rows: entry.rows,
            partition: entry.identity.clone(),
            bounds: entry.bounds.clone(),
            deleted: deleted.remove(&index).map(Arc::new),
        });
    }
    Ok(groups)
}

fn check(entry: &Entry) -> Result<()> {
    if entry.encrypted {
        return Err(encrypted(&format!("its file {}", entry.path)));
    }
    let puffin = entry.content == Content::Positions && entry.format == "puffin";
    if entry.format != "parquet" && !puffin {
        let message =
            format!("its file {} has the format {}, and only Parquet files are supported", entry.path, entry.format);
        return Err(QueryError::user("UnsupportedTable", message));
    }
    Ok(())
}
