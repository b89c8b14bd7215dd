//! Conditional writes: create an object only if it does not exist, or replace it only if it is unchanged since its
//! writer read it. For stores without conditions, reads first instead, which leaves a short race; the user is warned
//! once.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::{Store, error::object_error, runtime::wait};
use floe_wire::error::Result;

/// The state of an object when it was read or written.
#[derive(Clone, Debug, PartialEq)]
pub struct Version(UpdateVersion);

/// Whether a store honours conditions, as far as known.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    ignored: AtomicBool,
    heeded: AtomicBool,
}

impl Store {
    /// An object and its version, if it exists.
    pub fn read_version(&self, path: &str) -> Result<Option<(Bytes, Version)>> {
        self.request(path, |store, key| async move {
            let found = match store.get(&key).await {
                Err(Error::NotFound { .. }) => return Ok(None),
                found => found?,
            };
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok(Some((found.bytes().await?, Version(version))))
        })
    }

    /// Writes an object if its version is still `expected`, or, without one, if it does not exist. Returns the new
    /// version; `None` if another writer was faster. If only the answer was lost, the retried write is refused: the
    /// object then has exactly these bytes.
    pub fn put_if(&self, path: &str, data: Bytes, expected: Option<&Version>) -> Result<Option<Version>> {
        if self.conditions.ignored.load(Ordering::Relaxed) {
            return self.put_after_a_look(path, data, expected);
        }
        match self.try_put_if(path, data.clone(), expected)? {
            Put::Done(version) if expected.is_none() && !self.conditions.heeded.load(Ordering::Relaxed) => {
                // Some stores accept conditions but ignore them: a second write with the same condition must be
                // refused.
                match self.try_put_if(path, data, None)? {
                    Put::Done(version) => {
                        self.no_conditions("it passes over If-None-Match");
                        Ok(Some(version))
                    }
                    Put::Refused => {
                        self.conditions.heeded.store(true, Ordering::Relaxed);
                        Ok(Some(version))
                    }
                    Put::Unknown => Ok(Some(version)),
                }
            }
            Put::Done(version) => Ok(Some(version)),
            Put::Refused => Ok(None),
            Put::Unknown => {
                self.no_conditions("it does not know them");
                self.put_after_a_look(path, data, expected)
            }
        }
    }

    fn no_conditions(&self, why: &str) {
        if !self.conditions.ignored.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                store = self.root(),
                "the store takes no conditional writes ({why}): two coordinators that are at one query at the very same \
                 moment could both go on"
            );
        }
    }

    fn try_put_if(&self, path: &str, data: Bytes, expected: Option<&Version>) -> Result<Put> {
        let mode = expected.map_or(PutMode::Create, |version| PutMode::Update(version.0.clone()));
        let (objects, key) = (self.objects.clone(), self.key(path)?);
        let options = PutOptions { mode, ..PutOptions::default() };
        match wait(async move { objects.put_opts(&key, PutPayload::from(data), options).await })? {
            Ok(made) => Ok(Put::Done(Version(UpdateVersion { e_tag: made.e_tag, version: made.version }))),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. }) => {
                Ok(Put::Refused)
            }
            Err(Error::NotImplemented { .. }) => Ok(Put::Unknown),
            Err(error) => Err(object_error(&self.uri(path), &error)),
        }
    }

    fn put_after_a_look(&self, path: &str, data: Bytes, expected: Option<&Version>) -> Result<Option<Version>> {
        let found = self.read_version(path)?.map(|(_, version)| version);
        if found.as_ref() != expected {
            return Ok(None);
        }
        self.put(path, data)?;
        Ok(self.read_version(path)?.map(|(_, version)| version))
    }
}

enum Put {
    Done(Version),
    Refused,
    Unknown,
}
