//! Files on this machine.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{Entry, path_error};
use floe_wire::error::Result;

pub(super) fn read(path: &Path) -> Result<Bytes> {
    std::fs::read(path).map(Bytes::from).map_err(|error| path_error(path, &error))
}

/// Writes the whole file or nothing: to a temporary name first, then renames it.
pub(super) fn write(path: &Path, data: &[u8]) -> Result<()> {
    let inner = || {
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(data)?;
        file.persist(path)?;
        Ok(())
    };
    inner().map_err(|error: std::io::Error| path_error(path, &error))
}

/// Writes the whole file under a name that is free; false if it is taken.
pub(super) fn create(path: &Path, data: &[u8]) -> Result<bool> {
    let inner = || {
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(data)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(true),
            Err(failed) if failed.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(failed) => Err(failed.error),
        }
    };
    inner().map_err(|error: std::io::Error| path_error(path, &error))
}

pub(super) fn delete(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(path_error(path, &error)),
        _ => Ok(()),
    }
}

pub(super) fn list(path: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    if path.is_file() {
        push(path, &mut entries)?;
        return Ok(entries);
    }
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        let children = match std::fs::read_dir(&directory) {
            Ok(children) => children,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(path_error(&directory, &error)),
        };
        for child in children {
            let child: PathBuf = child.map_err(|error| path_error(&directory, &error))?.path();
            if child.is_dir() { open.push(child) } else { push(&child, &mut entries)? }
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn push(path: &Path, entries: &mut Vec<Entry>) -> Result<()> {
    match path.metadata() {
        Ok(metadata) => {
            let modified = metadata.modified().unwrap_or(std::time::UNIX_EPOCH);
            entries.push(Entry {
                path: path.display().to_string(),
                size: metadata.len(),
                modified_ms: super::store::unix_ms(modified),
            });
            Ok(())
        }
        // Removed since it was listed, or a dangling link.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(path_error(path, &error)),
    }
}

pub(super) fn delete_prefix(path: &Path) -> Result<usize> {
    let count = list(path)?.len();
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(path_error(path, &error)),
        _ => Ok(count),
    }
}
