//! Conditional writes: an object is created only if it does not exist, or replaced only if it is still what its writer
//! has read. Stores without conditions get the same by reading first, which leaves a moment in between; whoever relies
//! on it is warned once.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::{Store, error::object_error, runtime::wait};
use floe_wire::error::Result;

/// The state of an object when it was read or written.
#[derive(Clone, Debug, PartialEq)]
pub struct Version(UpdateVersion);

/// Whether a store honours conditions, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    ignored: AtomicBool,
    heeded: AtomicBool,
}

impl Store {
    /// An object and its version, if it is there.
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

    /// Writes an object if it is still `expected`, or (none) does not exist. Returns its new version; none if another
    /// writer was faster. If the answer was lost, the retried write is refused: the object then has these very bytes.
    pub fn put_if(&self, path: &str, data: Bytes, expected: Option<&Version>) -> Result<Option<Version>> {
        if self.conditions.ignored.load(Ordering::Relaxed) {
            return self.put_after_a_look(path, data, expected);
        }
        match self.try_put_if(path, data.clone(), expected)? {
            Put::Done(version) if expected.is_none() && !self.conditions.heeded.load(Ordering::Relaxed) => {
                // Some stores accept conditions but ignore them: this write must be refused now.
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
