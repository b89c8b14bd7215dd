//! What is known of a catalog before it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use floe_api::Secret;
use floe_wire::error::{QueryError, Result};
use reqwest_tls::Url;
use reqwest_tls::header::{HeaderMap, HeaderName, HeaderValue};

/// Properties of a catalog, by the names that Iceberg's clients give them.
pub type Properties = BTreeMap<String, Secret>;

/// How long an answer may take, unless `rest.client.socket-timeout-ms` says otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A catalog and how to reach it. Values of properties are never printed.
#[derive(Clone, Debug, Default)]
pub struct CatalogOptions {
    /// Its name in the query, for messages.
    pub name: String,
    /// Up to but without `/v1`.
    pub uri: String,
    pub warehouse: Option<String>,
    /// `credential`, `token`, `scope`, `oauth2-server-uri`, `prefix`, `header.…`, `s3.…`, …
    pub properties: Properties,
}

impl CatalogOptions {
    /// From properties that have `uri` and `warehouse` among them, as `Job::catalog_properties` returns them.
    pub fn of_properties(name: impl Into<String>, mut properties: Properties) -> Self {
        let mut take = |key: &str| properties.remove(key).map(|value| value.reveal().to_owned());
        let (uri, warehouse) = (take("uri").unwrap_or_default(), take("warehouse"));
        Self { name: name.into(), uri, warehouse, properties }
    }

    /// The address without a slash at its end.
    pub(crate) fn base(&self) -> Result<Url> {
        let bad = |what: &str| {
            QueryError::user(
                "BadCatalog",
                format!("catalog {}: its uri {what}: write https://… or http://…", self.name),
            )
        };
        let url = Url::parse(self.uri.trim_end_matches('/')).map_err(|_| bad("is no address"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad("is no address of a server"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("has a user and password, which belong into the credential"));
        }
        Ok(url)
    }

    /// What the catalog, or the user, asks for and this client cannot do.
    pub(crate) fn check(&self, properties: &Properties) -> Result<()> {
        let value = |key: &str| properties.get(key).map(|value| value.reveal().to_ascii_lowercase());
        let refuse = |what: String| {
            let message = format!(
                "catalog {}: it asks for {what}, which Floe cannot do: use client credentials, a bearer token or basic \
                 authentication",
                self.name
            );
            Err(QueryError::user("UnsupportedCatalog", message))
        };
        if value("rest.sigv4-enabled").as_deref() == Some("true") {
            return refuse("requests signed for AWS (rest.sigv4-enabled)".into());
        }
        match value("rest.auth.type").as_deref() {
            None | Some("none" | "oauth2" | "basic") => Ok(()),
            Some(other) => refuse(format!("authentication of the type {other} (rest.auth.type)")),
        }
    }

    /// `header.X: v` is sent with every request.
    pub(crate) fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (key, value) in &self.properties {
            let Some(name) = key.strip_prefix("header.") else { continue };
            let bad = || {
                QueryError::user("BadCatalog", format!("catalog {}: its property {key} is no HTTP header", self.name))
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    pub(crate) fn answer_limit(&self) -> Result<Duration> {
        let Some(text) = self.properties.get("rest.client.socket-timeout-ms") else { return Ok(ANSWER_LIMIT) };
        match text.reveal().parse::<u64>() {
            Ok(ms @ 1..=600_000) => Ok(Duration::from_millis(ms)),
            _ => Err(QueryError::user(
                "BadCatalog",
                format!("catalog {}: rest.client.socket-timeout-ms must be a number from 1 to 600000", self.name),
            )),
        }
    }
}
