//! The query's own storage options in Polars' form: the only credentials a plan reads or writes with.

use std::collections::BTreeMap;
use std::sync::Arc;

use floe_api::job::{Job, Provider};
use polars_io::cloud::CloudOptions;
use polars_utils::pl_path::CloudScheme;

use crate::databases::Databases;
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

/// Options by the names of Polars' `storage_options`. Values are secrets.
type Options = BTreeMap<String, floe_api::Secret>;

/// Selects the options for a URI. Never prints a value.
#[derive(Clone, Debug, Default)]
pub struct StorageOptions {
    /// Options of tables with their own storage, by URI prefix.
    by_prefix: Vec<(String, Options)>,
    by_provider: Vec<(Provider, Options)>,
    /// For every store that is not listed above.
    rest: Options,
    /// Properties of catalogs, by their names in the query.
    catalogs: BTreeMap<String, Options>,
    /// Options of storages, by their names in the query.
    by_name: BTreeMap<String, Options>,
    /// For databases whose tables name no storage.
    of_databases: Options,
    databases: Arc<Databases>,
}

/// Options for one scan or sink, encoded as plans carry them.
pub(super) struct Own {
    pub bytes: Vec<u8>,
    /// Set if the query has no HuggingFace token: a token in the options is then one that Polars found on this machine.
    pub found: bool,
}

/// Parts of the names of options that are credentials, or say where to get some.
const CREDENTIALS: [&str; 11] = [
    "access_key",
    "account_key",
    "authority",
    "bearer",
    "client_id",
    "credential",
    "role",
    "sas",
    "secret",
    "service_account",
    "token",
];

/// One set of options for every store.
impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for StorageOptions {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(options: I) -> Self {
        let rest = options.into_iter().map(|(key, value)| (key.into(), value.into().into())).collect();
        Self { rest, ..Self::default() }
    }
}

impl StorageOptions {
    pub fn of_job(job: &Job) -> Self {
        let of_provider = |(provider, uri): (Provider, &str)| (provider, job.storage_options(uri, None));
        let providers = [
            (Provider::S3, "s3://b/k"),
            (Provider::Gcs, "gs://b/k"),
            (Provider::Azure, "az://b/k"),
            (Provider::Http, "https://h/k"),
        ];
        let tables = job.spec.tables.values().filter(|table| !table.uri.is_empty()).filter_map(|table| {
            let options = job.storage_options(&table.uri, Some(table.storage.as_deref()?));
            let pattern = table.uri.find(['*', '?', '[']).unwrap_or(table.uri.len());
            Some((table.uri[..pattern].to_owned(), options))
        });
        let sink =
            job.spec.sink.as_ref().filter(|sink| !sink.uri.is_empty()).and_then(|sink| {
                Some((sink.uri.clone(), job.storage_options(&sink.uri, Some(sink.storage.as_deref()?))))
            });
        let catalogs = job.spec.catalogs.keys();
        let catalogs = catalogs.filter_map(|name| Some((name.clone(), job.catalog_properties(name)?))).collect();
        let by_name = job.spec.storages.keys().map(|name| (name.clone(), job.storage_options("s3://b/k", Some(name))));
        Self {
            by_prefix: tables.chain(sink).collect(),
            by_provider: providers.map(of_provider).into(),
            rest: Options::new(),
            catalogs,
            by_name: by_name.collect(),
            of_databases: job.storage_options("s3://b/k", None),
            databases: Arc::default(),
        }
    }

    /// The options of the storage with this name, or of the query's own, for a client of databases. Never log them.
    pub(super) fn of_database(&self, name: Option<&str>) -> BTreeMap<String, String> {
        let options = name.map_or(Some(&self.of_databases), |name| self.by_name.get(name));
        let plain = options.into_iter().flatten();
        plain.map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect()
    }

    pub(super) fn databases(&self) -> &Databases {
        &self.databases
    }

    /// What is known of a catalog.
    pub(super) fn catalog(&self, name: &str) -> Option<&Options> {
        self.catalogs.get(name)
    }

    pub(super) fn catalogs(&self) -> impl Iterator<Item = &str> {
        self.catalogs.keys().map(String::as_str)
    }

    /// The options of the storage with this name; of the store of `uri`, if it is none.
    pub(super) fn of_table(&self, name: Option<&str>, uri: &str) -> &Options {
        name.and_then(|name| self.by_name.get(name)).unwrap_or_else(|| self.options(uri))
    }

    /// Uses these options for URIs that begin so.
    pub(super) fn put(&mut self, prefix: &str, options: Options) {
        self.by_prefix.retain(|(other, _)| other != prefix);
        self.by_prefix.push((prefix.to_owned(), options));
    }

    fn options(&self, uri: &str) -> &Options {
        let fits = self.by_prefix.iter().filter(|(prefix, _)| uri.starts_with(prefix.as_str()));
        if let Some((_, options)) = fits.max_by_key(|(prefix, _)| prefix.len()) {
            return options;
        }
        let provider = Provider::of(uri);
        self.by_provider.iter().find(|(p, _)| *p == provider).map_or(&self.rest, |(_, options)| options)
    }

    /// These options, with those of a table in a plan under them for its URI, as those of a plan's scans are: option by
    /// option, but with the credentials of only one of the two.
    pub(super) fn over(&self, uri: &str, plan: &BTreeMap<String, String>) -> Self {
        let own = self.options(uri);
        let is_credential = |name: &str| CREDENTIALS.iter().any(|part| name.to_ascii_lowercase().contains(part));
        let identified = own.keys().any(|name| is_credential(name));
        let plain = |name: &str| name.to_ascii_lowercase().trim_start_matches("aws_").to_owned();
        let theirs = plan.iter().filter(|(name, _)| {
            !(identified && is_credential(name)) && !own.keys().any(|own| plain(own) == plain(name))
        });
        let mut merged: Options = theirs.map(|(name, value)| (name.clone(), value.clone().into())).collect();
        merged.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut all = self.clone();
        all.by_prefix.push((uri.to_owned(), merged));
        all
    }

    /// Plain values for a client that needs them, such as the process of a plan script. Never log them.
    pub(super) fn reveal(&self, uri: &str) -> BTreeMap<&str, &str> {
        self.options(uri).iter().map(|(key, value)| (key.as_str(), value.reveal())).collect()
    }

    /// Polars' options for the store of `uri`, or `None` where the query sets none.
    pub fn for_uri(&self, uri: &str) -> Result<Option<CloudOptions>> {
        let scheme = CloudScheme::from_path(uri);
        let options = self.options(uri);
        if options.is_empty() || matches!(scheme, None | Some(CloudScheme::File | CloudScheme::FileNoHostname)) {
            return Ok(None);
        }
        if scheme == Some(CloudScheme::Hf) {
            // HuggingFace accepts the token and fails on every other option.
            let token = hf_token(options).map(|token| ("token", token));
            return CloudOptions::from_untyped_config(scheme, token).map(Some).map_err(polars_error);
        }
        let options = options.iter().map(|(key, value)| (key, value.reveal()));
        CloudOptions::from_untyped_config(scheme, options).map(Some).map_err(polars_error)
    }

    /// The same, encoded as plans carry it.
    pub(super) fn cloud_options(&self, uri: &str) -> Result<Option<Own>> {
        let Some(options) = self.for_uri(uri)? else { return Ok(None) };
        let found = CloudScheme::from_path(uri) == Some(CloudScheme::Hf) && hf_token(self.options(uri)).is_none();
        rmp_serde::to_vec_named(&options)
            .map(|bytes| Some(Own { bytes, found }))
            .map_err(|e| QueryError::internal(format!("cannot encode storage options: {e}")))
    }
}

/// `token` is also an option of S3 and Azure; a storage with credentials for those uses `hf_token` for HuggingFace.
fn hf_token(options: &Options) -> Option<&str> {
    options.get("hf_token").or_else(|| options.get("token")).map(floe_api::Secret::reveal)
}

#[cfg(test)]
mod tests {
    use floe_api::{DistributedQuerySpec, StorageSpec, TableSpec};

    use super::*;

    #[test]
    fn options_go_to_the_store_they_fit_and_are_never_printed() {
        let storage: StorageOptions =
            [("aws_access_key_id", "KEY"), ("aws_secret_access_key", "SECRET")].into_iter().collect();
        assert!(!format!("{storage:?}").contains("SECRET"));
        let s3 = storage.cloud_options("s3://bucket/x").unwrap().unwrap().bytes;
        assert!(String::from_utf8_lossy(&s3).contains("SECRET"));
        assert!(storage.cloud_options("/local/x").unwrap().is_none());
        assert!(storage.cloud_options("file:///local/x").unwrap().is_none());
        assert!(StorageOptions::default().cloud_options("s3://bucket/x").unwrap().is_none());
        let http = storage.cloud_options("https://example.org/x").unwrap().unwrap().bytes;
        assert!(!String::from_utf8_lossy(&http).contains("SECRET"));
    }

    #[test]
    fn a_token_of_huggingface_is_not_one_of_another_store() {
        let storage: StorageOptions = [("hf_token", "HF"), ("aws_session_token", "S3")].into_iter().collect();
        let hf = storage.cloud_options("hf://datasets/a/b/x.parquet").unwrap().unwrap();
        assert!(String::from_utf8_lossy(&hf.bytes).contains("Bearer HF") && !hf.found);
        let s3 = storage.cloud_options("s3://bucket/x").unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&s3.bytes).contains("HF"));
        let other: StorageOptions = [("aws_region", "r")].into_iter().collect();
        assert!(other.cloud_options("hf://datasets/a/b/x.parquet").unwrap().unwrap().found);
    }

    #[test]
    fn the_options_of_a_table_in_a_plan_are_under_the_querys() {
        let plan: BTreeMap<String, String> =
            [("aws_access_key_id", "THEIRS"), ("aws_region", "far"), ("AWS_ENDPOINT_URL", "http://e")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let own: StorageOptions = [("region", "home"), ("aws_secret_access_key", "OWN")].into_iter().collect();
        let both = own.over("s3://b/t", &plan);
        assert_eq!(
            both.reveal("s3://b/t/x"),
            [("AWS_ENDPOINT_URL", "http://e"), ("aws_secret_access_key", "OWN"), ("region", "home")].into()
        );
        assert_eq!(both.reveal("s3://other/x"), own.reveal("s3://other/x"));
        let none = StorageOptions::default().over("s3://b/t", &plan);
        assert_eq!(none.reveal("s3://b/t/x")["aws_access_key_id"], "THEIRS");
    }

    #[test]
    fn a_table_in_a_storage_of_its_own_is_read_with_that_one() {
        let mut spec = DistributedQuerySpec {
            storage: Some(StorageSpec { region: Some("home".into()), ..Default::default() }),
            ..Default::default()
        };
        spec.storages.insert("lake".into(), StorageSpec { region: Some("far".into()), ..Default::default() });
        let uri = "s3://lake/t/*.parquet".to_owned();
        spec.tables.insert("t".into(), TableSpec { uri, storage: Some("lake".into()), ..Default::default() });
        let storage = StorageOptions::of_job(&Job::new("id", "q", spec));
        assert_eq!(storage.reveal("s3://lake/t/1.parquet"), [("aws_region", "far")].into());
        assert_eq!(storage.reveal("s3://lake/other"), [("aws_region", "home")].into());
        assert_eq!(storage.reveal("gs://lake/other"), BTreeMap::new());
        assert!(!format!("{storage:?}").contains("far\""));
    }
}
