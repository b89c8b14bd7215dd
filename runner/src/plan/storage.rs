//! The query's own storage options as Polars wants them: the only credentials a plan ever reads or writes with.

use std::collections::BTreeMap;

use polars_io::cloud::CloudOptions;
use polars_utils::pl_path::CloudScheme;

use super::errors::polars_error;
use crate::error::{QueryError, Result};

/// Options by the names that Polars' `storage_options` have (`aws_access_key_id`, `endpoint_url`, …). Values are
/// secrets: they are never printed.
#[derive(Clone, Default)]
pub struct StorageOptions {
    options: BTreeMap<String, String>,
}

impl std::fmt::Debug for StorageOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.options.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for StorageOptions {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(options: I) -> Self {
        Self { options: options.into_iter().map(|(k, v)| (k.into(), v.into())).collect() }
    }
}

impl StorageOptions {
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Polars' options for the store that `uri` names, or `None` where the query says nothing about it.
    pub fn for_uri(&self, uri: &str) -> Result<Option<CloudOptions>> {
        let scheme = CloudScheme::from_path(uri);
        if self.options.is_empty() || matches!(scheme, None | Some(CloudScheme::File | CloudScheme::FileNoHostname)) {
            return Ok(None);
        }
        // HuggingFace takes one option and fails on every other.
        let hf = scheme == Some(CloudScheme::Hf);
        let options = self.options.iter().filter(|(key, _)| !hf || *key == "token");
        CloudOptions::from_untyped_config(scheme, options).map(Some).map_err(polars_error)
    }

    /// The same, encoded as plans carry it.
    pub(super) fn cloud_options(&self, uri: &str) -> Result<Option<Vec<u8>>> {
        match self.for_uri(uri)? {
            None => Ok(None),
            Some(options) => rmp_serde::to_vec_named(&options)
                .map(Some)
                .map_err(|e| QueryError::internal(format!("cannot encode storage options: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_the_store_they_fit_and_are_never_printed() {
        let storage: StorageOptions = [("aws_access_key_id", "KEY"), ("aws_secret_access_key", "SECRET")].into_iter().collect();
        assert_eq!(format!("{storage:?}"), r#"{"aws_access_key_id", "aws_secret_access_key"}"#);
        let s3 = storage.cloud_options("s3://bucket/x").unwrap().unwrap();
        assert!(String::from_utf8_lossy(&s3).contains("SECRET"));
        assert!(storage.cloud_options("/local/x").unwrap().is_none());
        assert!(storage.cloud_options("file:///local/x").unwrap().is_none());
        assert!(StorageOptions::default().cloud_options("s3://bucket/x").unwrap().is_none());
        let http = storage.cloud_options("https://example.org/x").unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&http).contains("SECRET"));
    }
}
