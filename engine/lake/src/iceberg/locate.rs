//! Finds a table's newest metadata file where no catalog names it, and reads it.

use std::io::Read;

use bytes::Bytes;
use floe_wire::error::{QueryError, Result};

use crate::files::Files;

/// Even tables with tens of thousands of snapshots have less metadata.
const METADATA_BYTES: u64 = 1 << 30;
/// In the order in which Iceberg's own reader looks for them.
const SUFFIXES: [&str; 3] = [".metadata.json", ".gz.metadata.json", ".metadata.json.gz"];

/// The metadata (JSON) of the table at this root or in this metadata file, and the file's URI.
pub fn metadata(files: &dyn Files, root_or_uri: &str) -> Result<(Bytes, String)> {
    if SUFFIXES.iter().any(|suffix| root_or_uri.ends_with(suffix)) {
        let uri = root_or_uri.to_string();
        let bytes = files.read(&uri)?;
        let bytes = bytes.ok_or_else(|| not_found(format!("there is no Iceberg metadata file {uri}")))?;
        return Ok((unzip(bytes, &uri)?, uri));
    }
    let directory = format!("{}/metadata", root_or_uri.trim_end_matches('/'));
    if let Some((bytes, uri)) = hinted(files, &directory)? {
        return Ok((unzip(bytes, &uri)?, uri));
    }
    let uri = newest(files, root_or_uri, &directory)?;
    let bytes = files.read(&uri)?.ok_or_else(|| not_found(format!("there is no Iceberg metadata file {uri}")))?;
    Ok((unzip(bytes, &uri)?, uri))
}

/// What `version-hint.text` leads to. Writers change it after the commit, so that newer versions may be there.
fn hinted(files: &dyn Files, directory: &str) -> Result<Option<(Bytes, String)>> {
    let Some(hint) = files.read(&format!("{directory}/version-hint.text"))? else {
        return Ok(None);
    };
    let hint = String::from_utf8_lossy(&hint).trim().to_string();
    let Ok(mut version) = hint.parse::<u64>() else {
        return if hint.is_empty() || hint.contains('/') { Ok(None) } else { named(files, directory, &hint) };
    };
    let mut found = named(files, directory, &format!("v{version}"))?;
    while found.is_some() {
        version += 1;
        match named(files, directory, &format!("v{version}"))? {
            Some(newer) => found = Some(newer),
            None => break,
        }
    }
    Ok(found)
}

fn named(files: &dyn Files, directory: &str, name: &str) -> Result<Option<(Bytes, String)>> {
    for suffix in SUFFIXES {
        let uri = format!("{directory}/{name}{suffix}");
        if let Some(bytes) = files.read(&uri)? {
            return Ok(Some((bytes, uri)));
        }
    }
    Ok(None)
}

/// The metadata file of the greatest number.
fn newest(files: &dyn Files, root: &str, directory: &str) -> Result<String> {
    let mut found = Vec::new();
    for entry in files.list(directory)? {
        let name = entry.uri.rsplit('/').next().unwrap_or_default();
        let direct =
            entry.uri.len() > name.len() && entry.uri[..entry.uri.len() - name.len() - 1].ends_with("/metadata");
        if direct && SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            found.push((number(name), entry.uri));
        }
    }
    found.sort();
    let Some((number, uri)) = found.pop() else {
        return Err(not_found(format!(
            "there is no Iceberg table at {root}: {directory} has no file ….metadata.json; give the table's root \
             directory or a metadata file"
        )));
    };
    let rivals: Vec<&str> = found.iter().filter(|rival| rival.0 == number).map(|rival| rival.1.as_str()).collect();
    if rivals.is_empty() {
        return Ok(uri);
    }
    Err(QueryError::user(
        "BadTable",
        format!(
            "the Iceberg table at {root} has several newest metadata files, and only its catalog knows which one is \
             the table's: give one of {} or {uri} instead of the root",
            rivals.join(", ")
        ),
    ))
}

/// `7` of `00007-….metadata.json` and of `v7.metadata.json`.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix('v').unwrap_or(name);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    match digits.as_bytes().get(end) {
        Some(b'-' | b'.') => digits[..end].parse().ok(),
        _ => None,
    }
}

fn unzip(bytes: Bytes, uri: &str) -> Result<Bytes> {
    // Decided by the content, since some stores decompress files themselves.
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut json = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(bytes.as_ref()).take(METADATA_BYTES + 1).read_to_end(&mut json);
    if let Err(error) = read {
        return Err(QueryError::user(
            "BadTable",
            format!("the Iceberg metadata file {uri} cannot be unzipped: {error}"),
        ));
    }
    if json.len() as u64 > METADATA_BYTES {
        return Err(QueryError::user("BadTable", format!("the Iceberg metadata file {uri} is larger than 1 GiB")));
    }
    Ok(json.into())
}

fn not_found(message: String) -> QueryError {
    QueryError::user("TableNotFound", message)
}
