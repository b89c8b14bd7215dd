//! Options and credentials of a store, by the names of Polars' `storage_options`. Values are never printed.

use std::{collections::BTreeMap, fmt};

use polars_io::cloud::{CloudConfig, CloudOptions};
use polars_utils::pl_path::CloudScheme;
use serde::{Deserialize, Serialize};

use super::display_uri;
use floe_wire::error::{QueryError, Result};

/// Keys are in lower case. Serialized with their values: they are sent to workers in messages that require the query's
/// token.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Options(BTreeMap<String, String>);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|key| (key, "…"))).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into().to_ascii_lowercase(), value.into())).collect())
    }
}

impl From<&floe_api::job::StorageOptions> for Options {
    fn from(options: &floe_api::job::StorageOptions) -> Self {
        options.iter().map(|(key, value)| (key.as_str(), value.reveal())).collect()
    }
}

impl Options {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Plain values for a client. Never log them.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// These options, with those of `base` where an option is missing.
    pub fn or(&self, base: &Options) -> Options {
        let mut all = base.0.clone();
        all.extend(self.0.iter().map(|(key, value)| (key.clone(), value.clone())));
        Options(all)
    }

    /// The options for a Polars scan or sink of this URI. `None` for local files without options.
    pub fn cloud_options(&self, uri: &str) -> Result<Option<CloudOptions>> {
        let scheme = CloudScheme::from_path(uri);
        if scheme.is_none_or(|scheme| scheme.is_file()) || self.is_empty() {
            return Ok(None);
        }
        CloudOptions::from_untyped_config(scheme, self.pairs())
            .map(Some)
            .map_err(|error| QueryError::user("BadStorage", format!("{}: {error}", display_uri(uri))))
    }

    /// The plain options of a scan or sink in a plan, without pickled credential providers.
    pub fn from_cloud_options(options: &CloudOptions) -> Options {
        match &options.config {
            None => Options::default(),
            Some(CloudConfig::Aws(pairs)) => pairs.iter().map(|(key, value)| (key.as_ref(), value.as_str())).collect(),
            Some(CloudConfig::Azure(pairs)) => {
                pairs.iter().map(|(key, value)| (key.as_ref(), value.as_str())).collect()
            }
            Some(CloudConfig::Gcp(pairs)) => pairs.iter().map(|(key, value)| (key.as_ref(), value.as_str())).collect(),
            Some(CloudConfig::Http { headers }) => headers.iter().cloned().collect(),
            Some(CloudConfig::Ext { options }) => options.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_never_printed() {
        let options: Options = [("AWS_Secret_Access_Key", "hunter2"), ("region", "eu-west-1")].into_iter().collect();
        let shown = format!("{options:?} {:#?}", options.clone());
        assert!(!shown.contains("hunter2") && shown.contains("aws_secret_access_key"), "{shown}");
    }

    #[test]
    fn options_become_cloud_options_and_back() {
        let options: Options =
            [("aws_access_key_id", "a"), ("endpoint_url", "http://x"), ("azure_storage_account_name", "z")]
                .into_iter()
                .collect();
        let cloud = options.cloud_options("s3://b/x").unwrap().unwrap();
        let back = Options::from_cloud_options(&cloud);
        assert_eq!(back.get("aws_access_key_id"), Some("a"));
        assert!(back.get("azure_storage_account_name").is_none());
        assert!(options.cloud_options("/x").unwrap().is_none());
        let base: Options = [("aws_access_key_id", "base"), ("region", "r")].into_iter().collect();
        assert_eq!(options.or(&base).get("aws_access_key_id"), Some("a"));
        assert_eq!(options.or(&base).get("region"), Some("r"));
    }
}
