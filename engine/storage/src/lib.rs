//! Access to files: local paths, `s3://`, `gs://`, `az://` and `http(s)://` behind one small set of functions, based on
//! the object_store crate, which Polars links anyway.
//!
//! Belongs here: URIs, options and credentials (never printed), reading, listing, deleting, multipart uploads, and
//! their typed errors. Does not belong here: file formats, and anything about queries.
//!
//! The functions block. They may be called from any thread, including one that runs async code, because a runtime of
//! this crate does the work.

mod aws_profile;
mod conditional;
mod error;
mod local;
mod location;
mod options;
mod runtime;
mod store;
#[cfg(test)]
mod tests;
mod uploads;

use bytes::Bytes;

pub use self::{
    conditional::Version,
    error::{object_error, path_error},
    location::{Location, display_uri},
    options::Options,
    runtime::wait,
    store::{Entry, Store},
    uploads::Pending,
};
use floe_wire::error::{QueryError, Result};

/// Reads a whole file.
pub fn read(uri: &str, options: &Options) -> Result<Bytes> {
    match Location::parse(uri)? {
        Location::Local(path) => local::read(&path),
        Location::Object { root, path } => {
            let store = Store::open(&root, options)?;
            store.read(&path)
        }
        Location::Http(url) => store::read_http(&url),
    }
}

/// Writes a small file at once. Not for results, which go through `sink`.
pub fn write(uri: &str, data: Bytes, options: &Options) -> Result<()> {
    match Location::parse(uri)? {
        Location::Local(path) => local::write(&path, &data),
        Location::Object { root, path } => Store::open(&root, options)?.put(&path, data),
        Location::Http(url) => Err(read_only(&url)),
    }
}

/// Writes a small file that does not exist yet; false, and nothing is changed, if it does.
pub fn create(uri: &str, data: Bytes, options: &Options) -> Result<bool> {
    match Location::parse(uri)? {
        Location::Local(path) => local::create(&path, &data),
        Location::Object { root, path } => Ok(Store::open(&root, options)?.put_if(&path, data, None)?.is_some()),
        Location::Http(url) => Err(read_only(&url)),
    }
}

/// Removes a file. No error if there is none.
pub fn delete(uri: &str, options: &Options) -> Result<()> {
    match Location::parse(uri)? {
        Location::Local(path) => local::delete(&path),
        Location::Object { root, path } => Store::open(&root, options)?.delete(&path),
        Location::Http(url) => Err(read_only(&url)),
    }
}

/// All files under a directory or prefix, or the single file of that name, sorted. Empty if nothing exists.
pub fn list(uri: &str, options: &Options) -> Result<Vec<Entry>> {
    match Location::parse(uri)? {
        Location::Local(path) => local::list(&path),
        Location::Object { root, path } => list_objects(&Store::open(&root, options)?, &path),
        Location::Http(url) => Err(QueryError::user(
            "BadUri",
            format!("{}: files behind http(s) cannot be listed, name each file", display_uri(&url)),
        )),
    }
}

fn list_objects(store: &Store, path: &str) -> Result<Vec<Entry>> {
    let mut entries = store.list(path)?;
    if entries.is_empty() && !path.is_empty() {
        entries.extend(store.head(path)?);
    }
    Ok(entries)
}

/// Whether a file or directory exists (in an object store: an object, or objects under the prefix).
pub fn exists(uri: &str, options: &Options) -> Result<bool> {
    match Location::parse(uri)? {
        Location::Local(path) => path.try_exists().map_err(|error| path_error(&path, &error)),
        Location::Object { root, path } => {
            let store = Store::open(&root, options)?;
            Ok(!list_objects(&store, &path)?.is_empty())
        }
        Location::Http(url) => store::read_http(&url).map(|_| true),
    }
}

/// Removes all files under a directory or prefix, and a local directory itself. Returns the number of removed files.
pub fn delete_prefix(uri: &str, options: &Options) -> Result<usize> {
    match Location::parse(uri)? {
        Location::Local(path) => local::delete_prefix(&path),
        Location::Object { root, path } => {
            let store = Store::open(&root, options)?;
            if path.is_empty() {
                return Err(QueryError::internal(format!("{uri}: will not delete a whole bucket")));
            }
            let entries = list_objects(&store, &path)?;
            for entry in &entries {
                store.delete(&entry.path)?;
            }
            Ok(entries.len())
        }
        Location::Http(url) => Err(read_only(&url)),
    }
}

fn read_only(url: &str) -> QueryError {
    QueryError::user("BadUri", format!("{}: http(s) is for reading only", display_uri(url)))
}
