//! A string that is never shown. It serializes to its value, because the object and the job must contain it; code that
//! shows a spec to people must pass it through `redacted` first.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::DistributedQuerySpec;

/// The text shown in place of a secret.
pub const HIDDEN: &str = "***";

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, only for the client that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The spec as it may be logged: the values of all options of storages and catalogs are hidden, their names kept.
pub fn redacted(spec: &DistributedQuerySpec) -> DistributedQuerySpec {
    let mut spec = spec.clone();
    let storages = spec.storage.iter_mut().chain(spec.storages.values_mut()).map(|storage| &mut storage.options);
    let catalogs = spec.catalogs.values_mut().map(|catalog| &mut catalog.options);
    for value in storages.chain(catalogs).flat_map(|options| options.values_mut()) {
        *value = Secret::from(HIDDEN);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CatalogSpec, StorageSpec};

    #[test]
    fn a_secret_is_carried_but_never_shown() {
        let mut spec = DistributedQuerySpec::default();
        let mut storage = StorageSpec::default();
        storage.options.insert("aws_secret_access_key".into(), "hunter2".into());
        spec.storage = Some(storage.clone());
        spec.storages.insert("lake".into(), storage);
        let mut catalog = CatalogSpec::default();
        catalog.options.insert("token".into(), "hunter2".into());
        spec.catalogs.insert("lake".into(), catalog);
        assert!(serde_json::to_string(&spec).unwrap().contains("hunter2"));
        assert!(!format!("{spec:?} {spec:#?} {}", Secret::from("hunter2")).contains("hunter2"));
        let shown = serde_json::to_string(&redacted(&spec)).unwrap();
        assert!(!shown.contains("hunter2"));
        assert!(shown.contains("aws_secret_access_key"));
    }
}
