//! The job: the input of a coordinator, as a file that only it can read. It contains the spec with every reference
//! resolved, but not the query's token.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{DistributedQuerySpec, Secret};

/// Options of a storage, including secrets, named as in Polars' `storage_options`.
pub type StorageOptions = BTreeMap<String, Secret>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Unique among all queries: the object's UID on a cluster.
    pub id: String,
    /// The query's name, for people.
    pub name: String,
    /// The attempt at the whole query, from 1.
    #[serde(default)]
    pub attempt: u32,
    pub spec: DistributedQuerySpec,
    /// The directory that relative paths of the plan refer to. If omitted, the coordinator's working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// W3C trace context of the client that submitted the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The options that `secretRef`s resolved to, by the name of the storage; the default storage has the empty name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, StorageOptions>,
    /// The properties that `secretRef`s of catalogs resolved to, by the name of the catalog.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub catalog_secrets: BTreeMap<String, StorageOptions>,
}

impl Job {
    pub fn new(id: impl Into<String>, name: impl Into<String>, spec: DistributedQuerySpec) -> Self {
        Self { id: id.into(), name: name.into(), attempt: 1, spec, ..Self::default() }
    }

    /// The options for reaching `uri` with the storage `name` (or the default one): the spec's options, overridden by
    /// those of the Secret, and endpoint and region as the URI's provider names them. Empty for local paths.
    pub fn storage_options(&self, uri: &str, name: Option<&str>) -> StorageOptions {
        let provider = Provider::of(uri);
        let mut options = StorageOptions::new();
        if provider == Provider::Local {
            return options;
        }
        if let Some(storage) = self.spec.storage_named(name) {
            if let (Some(endpoint), Some(key)) = (&storage.endpoint, provider.endpoint_key()) {
                options.insert(key.into(), endpoint.as_str().into());
                if endpoint.starts_with("http://") && provider == Provider::S3 {
                    options.insert("aws_allow_http".into(), "true".into());
                }
            }
            if let (Some(region), Provider::S3) = (&storage.region, provider) {
                options.insert("aws_region".into(), region.as_str().into());
            }
            options.extend(storage.options.clone());
        }
        if let Some(secrets) = self.secrets.get(name.unwrap_or("")) {
            options.extend(secrets.clone());
        }
        options
    }

    /// All that is known of a catalog, as properties that Iceberg's clients name (`uri`, `warehouse`, `credential`, …):
    /// the spec's options, overridden by those of the Secret. `None` if it is not described.
    pub fn catalog_properties(&self, name: &str) -> Option<StorageOptions> {
        let catalog = self.spec.catalogs.get(name)?;
        let mut properties = catalog.options.clone();
        properties.extend(self.catalog_secrets.get(name).cloned().unwrap_or_default());
        let fields = [
            ("uri", Some(&catalog.uri)),
            ("warehouse", catalog.warehouse.as_ref()),
            ("prefix", catalog.prefix.as_ref()),
            ("scope", catalog.scope.as_ref()),
            ("oauth2-server-uri", catalog.oauth2_server_uri.as_ref()),
        ];
        let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Secret::new(value?))));
        properties.extend(given);
        Some(properties)
    }
}

/// The kind of store that a URI refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Local,
    S3,
    Gcs,
    Azure,
    Http,
}

impl Provider {
    pub fn of(uri: &str) -> Provider {
        match uri.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
            Some("s3" | "s3a") => Provider::S3,
            Some("gs" | "gcs") => Provider::Gcs,
            Some("az" | "azure" | "adl" | "abfs" | "abfss") => Provider::Azure,
            Some("http" | "https" | "hf") => Provider::Http,
            _ => Provider::Local,
        }
    }

    fn endpoint_key(self) -> Option<&'static str> {
        match self {
            Provider::S3 => Some("aws_endpoint_url"),
            Provider::Gcs => Some("google_base_url"),
            Provider::Azure => Some("azure_storage_endpoint"),
            Provider::Local | Provider::Http => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CatalogSpec, StorageSpec};

    #[test]
    fn properties_of_a_catalog_come_from_its_fields_and_secrets() {
        let mut lake = CatalogSpec { uri: "https://c".into(), warehouse: Some("w".into()), ..CatalogSpec::default() };
        lake.options.insert("token".into(), "spec".into());
        lake.options.insert("header.X-Tenant".into(), "t".into());
        lake.options.insert("uri".into(), "http://elsewhere".into());
        let spec = DistributedQuerySpec { catalogs: [("lake".into(), lake)].into(), ..DistributedQuerySpec::default() };
        let mut job = Job::new("id", "q", spec);
        job.catalog_secrets.insert("lake".into(), [("token".into(), "hunter2".into())].into());
        // A storage of the same name has secrets of its own.
        job.secrets.insert("lake".into(), [("token".into(), "storage".into())].into());
        let properties = job.catalog_properties("lake").unwrap();
        let shown: Vec<_> = properties.iter().map(|(key, value)| (key.as_str(), value.reveal())).collect();
        let want = [("header.X-Tenant", "t"), ("token", "hunter2"), ("uri", "https://c"), ("warehouse", "w")];
        assert_eq!(shown, want);
        assert!(job.catalog_properties("sea").is_none());
        assert!(!format!("{job:?}").contains("hunter2"));
    }

    #[test]
    fn options_of_a_uri_come_from_its_storage_and_secrets_win() {
        let mut spec = DistributedQuerySpec {
            storage: Some(StorageSpec {
                endpoint: Some("http://minio:9000".into()),
                region: Some("eu-1".into()),
                ..StorageSpec::default()
            }),
            ..DistributedQuerySpec::default()
        };
        let mut lake = StorageSpec::default();
        lake.options.insert("aws_access_key_id".into(), "spec".into());
        spec.storages.insert("lake".into(), lake);
        let mut job = Job::new("id", "q", spec);
        job.secrets.insert("lake".into(), [("aws_access_key_id".into(), "secret".into())].into());

        let default = job.storage_options("s3://b/x", None);
        assert_eq!(default["aws_endpoint_url"].reveal(), "http://minio:9000");
        assert_eq!(default["aws_allow_http"].reveal(), "true");
        assert_eq!(default["aws_region"].reveal(), "eu-1");
        assert_eq!(job.storage_options("s3://b/x", Some("lake"))["aws_access_key_id"].reveal(), "secret");
        assert!(job.storage_options("data/x.parquet", None).is_empty());
        assert!(!format!("{job:?}").contains("secret\""));
    }

    #[test]
    fn a_job_survives_its_file() {
        let mut job = Job::new("id", "q", DistributedQuerySpec::default());
        job.secrets.insert(String::new(), [("k".into(), "v".into())].into());
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }
}
