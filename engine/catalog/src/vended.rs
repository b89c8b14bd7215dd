//! Credentials and endpoints that a catalog gives for a table's files, as Polars' `storage_options` name them.

use std::collections::BTreeMap;

use floe_api::Secret;
use floe_api::job::{Provider, StorageOptions};
use floe_wire::error::{QueryError, Result};

/// Credentials for the files whose URIs begin with `prefix`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vended {
    pub prefix: String,
    /// By the names of Iceberg's properties.
    pub config: BTreeMap<String, Secret>,
}

/// Names of Iceberg, and of Polars, for values that are taken as they are. Of two that give the same option the later
/// one counts.
const PLAIN: [(&str, &str, Provider); 13] = [
    ("client.region", "aws_region", Provider::S3),
    ("s3.region", "aws_region", Provider::S3),
    ("s3.access-key-id", "aws_access_key_id", Provider::S3),
    ("s3.secret-access-key", "aws_secret_access_key", Provider::S3),
    ("s3.session-token", "aws_session_token", Provider::S3),
    ("s3.endpoint", "aws_endpoint_url", Provider::S3),
    ("gcs.service.host", "google_base_url", Provider::Gcs),
    ("gcs.service-host", "google_base_url", Provider::Gcs),
    ("gcs.no-auth", "google_skip_signature", Provider::Gcs),
    ("adls.auth.shared-key.account.name", "azure_storage_account_name", Provider::Azure),
    ("adls.auth.shared-key.account.key", "azure_storage_account_key", Provider::Azure),
    ("adls.account-name", "azure_storage_account_name", Provider::Azure),
    ("adls.token", "azure_storage_token", Provider::Azure),
];

/// Options for `uri` from such properties. What is not known is left alone.
pub fn options(config: &BTreeMap<String, Secret>, uri: &str) -> StorageOptions {
    let provider = Provider::of(uri);
    let mut options = StorageOptions::new();
    for (from, to, of) in PLAIN {
        if let (Some(value), true) = (config.get(from), of == provider) {
            options.insert(to.into(), value.clone());
        }
    }
    match provider {
        Provider::S3 => {
            if config.get("s3.endpoint").is_some_and(|endpoint| endpoint.reveal().starts_with("http://")) {
                options.insert("aws_allow_http".into(), "true".into());
            }
            // Addresses with the bucket as host are not asked for: with an endpoint the store takes it for one of them.
            if config.get("s3.path-style-access").is_some_and(|given| given.reveal().eq_ignore_ascii_case("true")) {
                options.insert("aws_virtual_hosted_style_request".into(), "false".into());
            }
        }
        Provider::Azure => azure(config, uri, &mut options),
        Provider::Local | Provider::Gcs | Provider::Http => {}
    }
    options
}

/// Tokens are named by the account that they are for: `adls.sas-token.<account>.dfs.core.windows.net`.
fn azure(config: &BTreeMap<String, Secret>, uri: &str, options: &mut StorageOptions) {
    // `abfss://container@account.dfs.core.windows.net/…`
    let host =
        uri.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.split_once('@')).map(|(_, host)| host);
    let account = host.and_then(|host| host.split('.').next());
    let tokens = config.iter().filter_map(|(key, value)| {
        let of = key.strip_prefix("adls.sas-token")?;
        let of = of.strip_prefix('.').unwrap_or(of);
        Some((of.split('.').next().unwrap_or_default(), value))
    });
    for (of, value) in tokens {
        if of.is_empty() || account.is_none_or(|account| account == of) {
            options.insert("azure_storage_sas_token".into(), value.clone());
            if !of.is_empty() {
                options.insert("azure_storage_account_name".into(), of.into());
            }
        }
    }
    if let Some(account) = account {
        options.entry("azure_storage_account_name".into()).or_insert_with(|| account.into());
    }
}

/// Why these properties do not open the files, although they say how to.
pub fn unusable(config: &BTreeMap<String, Secret>, uri: &str) -> Option<&'static str> {
    let is_true = |key: &str| config.get(key).is_some_and(|value| value.reveal().eq_ignore_ascii_case("true"));
    match Provider::of(uri) {
        Provider::S3 if is_true("s3.remote-signing-enabled") && !config.contains_key("s3.access-key-id") => {
            Some("it signs requests to the store itself (s3.remote-signing-enabled) and gives no keys")
        }
        Provider::Gcs if config.contains_key("gcs.oauth2.token") => {
            Some("it gives a token of Google's (gcs.oauth2.token), which Polars' stores do not take")
        }
        _ => None,
    }
}

/// When the first of the credentials expires, in milliseconds since 1970.
pub fn expires_at_ms(config: &BTreeMap<String, Secret>) -> Option<i64> {
    const NAMES: [&str; 4] = [
        "s3.session-token-expires-at-ms",
        "gcs.oauth2.token-expires-at",
        "adls.sas-token-expires-at-ms",
        "adls.sas-token.expires-at-ms",
    ];
    let times = config.iter().filter(|(key, _)| NAMES.iter().any(|name| key.starts_with(name)));
    times.filter_map(|(_, value)| value.reveal().parse().ok()).min()
}

/// The properties for `uri`: those of the whole table, and over them those of the longest prefix that fits.
pub fn config_for(table: &BTreeMap<String, Secret>, vended: &[Vended], uri: &str) -> BTreeMap<String, Secret> {
    let mut config = table.clone();
    let uri = plain(uri);
    let fitting = vended.iter().filter(|vended| uri.starts_with(&plain(&vended.prefix)));
    if let Some(vended) = fitting.max_by_key(|vended| vended.prefix.len()) {
        config.extend(vended.config.clone());
    }
    config
}

/// Writers of one table may say `s3a://` and `s3://`.
fn plain(uri: &str) -> String {
    match uri.strip_prefix("s3a://").or_else(|| uri.strip_prefix("s3n://")) {
        Some(rest) => format!("s3://{rest}"),
        None => uri.to_owned(),
    }
}

/// Refuses files that nothing opens: the catalog's way cannot be gone, and the query has no keys of its own.
pub fn refuse_unusable(what: &str, config: &BTreeMap<String, Secret>, own: &StorageOptions, uri: &str) -> Result<()> {
    const KEYS: [&str; 8] = ["key", "secret", "token", "account", "role", "credential", "skip_signature", "profile"];
    let Some(why) = unusable(config, uri) else { return Ok(()) };
    if own.keys().any(|name| KEYS.iter().any(|key| name.to_ascii_lowercase().contains(key))) {
        return Ok(());
    }
    let message = format!(
        "{what}: its files cannot be opened as the catalog wants: {why}; give keys of the store in spec.storage"
    );
    Err(QueryError::user("UnsupportedCatalog", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::from(*value))).collect()
    }

    fn shown(options: &StorageOptions) -> Vec<(&str, &str)> {
        options.iter().map(|(key, value)| (key.as_str(), value.reveal())).collect()
    }

    #[test]
    fn keys_of_s3_get_their_names() {
        let given = config(&[
            ("s3.access-key-id", "id"),
            ("s3.secret-access-key", "secret"),
            ("s3.session-token", "session"),
            ("client.region", "eu-1"),
            ("s3.endpoint", "http://minio:9000"),
            ("s3.path-style-access", "true"),
            ("s3.delete-enabled", "true"),
            ("adls.token", "other"),
        ]);
        let want = [
            ("aws_access_key_id", "id"),
            ("aws_allow_http", "true"),
            ("aws_endpoint_url", "http://minio:9000"),
            ("aws_region", "eu-1"),
            ("aws_secret_access_key", "secret"),
            ("aws_session_token", "session"),
            ("aws_virtual_hosted_style_request", "false"),
        ];
        assert_eq!(shown(&options(&given, "s3a://b/t")), want);
        assert!(options(&given, "file:///t").is_empty());
        let regions = config(&[("client.region", "a"), ("s3.region", "b")]);
        assert_eq!(shown(&options(&regions, "s3://b")), [("aws_region", "b")]);
    }

    #[test]
    fn tokens_of_azure_are_those_of_the_account() {
        let given = config(&[
            ("adls.sas-token.one.dfs.core.windows.net", "sig1"),
            ("adls.sas-token.two.dfs.core.windows.net", "sig2"),
        ]);
        let two = options(&given, "abfss://c@two.dfs.core.windows.net/t");
        assert_eq!(shown(&two), [("azure_storage_account_name", "two"), ("azure_storage_sas_token", "sig2")]);
        let short = config(&[("adls.sas-token.one", "sig1")]);
        let one = options(&short, "abfss://c@one.dfs.core.windows.net/t");
        assert_eq!(shown(&one), [("azure_storage_account_name", "one"), ("azure_storage_sas_token", "sig1")]);
    }

    #[test]
    fn the_longest_prefix_counts() {
        let vended = [
            Vended { prefix: "s3://b/".into(), config: config(&[("s3.access-key-id", "wide")]) },
            Vended { prefix: "s3://b/t/".into(), config: config(&[("s3.access-key-id", "narrow")]) },
            Vended { prefix: "s3://other/".into(), config: config(&[("s3.access-key-id", "other")]) },
        ];
        let table = config(&[("s3.access-key-id", "table"), ("s3.region", "r")]);
        let id = |uri: &str| config_for(&table, &vended, uri)["s3.access-key-id"].reveal().to_owned();
        assert_eq!(id("s3a://b/t/data/1.parquet"), "narrow");
        assert_eq!(id("s3://b/x"), "wide");
        assert_eq!(id("s3://c/x"), "table");
        assert_eq!(config_for(&table, &vended, "s3://b/x")["s3.region"].reveal(), "r");
    }

    #[test]
    fn what_cannot_be_done_is_refused_unless_the_query_has_keys() {
        let signing = config(&[("s3.remote-signing-enabled", "true")]);
        let error =
            refuse_unusable("catalog lake: table ns.t", &signing, &StorageOptions::new(), "s3://b/t").unwrap_err();
        assert_eq!(error.class, "UnsupportedCatalog");
        assert!(
            error.message.starts_with("catalog lake: table ns.t: ")
                && error.message.contains("s3.remote-signing-enabled")
        );
        let own = [("aws_access_key_id".to_owned(), Secret::from("k"))].into();
        assert!(refuse_unusable("t", &signing, &own, "s3://b/t").is_ok());
        let both = config(&[("s3.remote-signing-enabled", "true"), ("s3.access-key-id", "k")]);
        assert!(refuse_unusable("t", &both, &StorageOptions::new(), "s3://b/t").is_ok());
        let google = config(&[("gcs.oauth2.token", "t")]);
        assert!(refuse_unusable("t", &google, &StorageOptions::new(), "gs://b/t").is_err());
        assert!(refuse_unusable("t", &google, &StorageOptions::new(), "s3://b/t").is_ok());
    }

    #[test]
    fn the_first_to_expire_counts() {
        let given = config(&[("s3.session-token-expires-at-ms", "20"), ("gcs.oauth2.token-expires-at", "10")]);
        assert_eq!(expires_at_ms(&given), Some(10));
        assert_eq!(expires_at_ms(&config(&[("s3.region", "1")])), None);
    }
}
