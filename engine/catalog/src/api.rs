//! What a catalog is asked and answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use floe_api::Secret;
use floe_api::job::StorageOptions;
use floe_wire::error::Result;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error;
use crate::options::Properties;
use crate::vended::{self, Vended};

/// A table as a catalog has it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where the metadata is. `None`: the table is staged and is made by its first commit.
    pub metadata_location: Option<String>,
    /// The metadata as JSON, as `floe_lake::iceberg::table_of` takes it.
    pub metadata: Bytes,
    /// The table's root.
    pub location: String,
    /// What the catalog gives for the table's root, as Polars' `storage_options` name it. `storage_for` is for scans.
    pub storage_options: StorageOptions,
    /// When the first of these credentials expires, in milliseconds since 1970. Load the table again before.
    pub expires_at_ms: Option<i64>,
    /// For messages: `catalog lake: table ns.t`.
    what: String,
    config: BTreeMap<String, Secret>,
    vended: Vec<Vended>,
}

impl Loaded {
    /// The options for a file of the table: the query's own, and over them what the catalog gives for it. Refuses a way
    /// that cannot be gone (requests that the catalog signs) if there are no own keys.
    pub fn storage_for(&self, uri: &str, own: &StorageOptions) -> Result<StorageOptions> {
        let config = vended::config_for(&self.config, &self.vended, uri);
        vended::refuse_unusable(&self.what, &config, own, uri)?;
        let mut options = own.clone();
        options.extend(vended::options(&config, uri));
        Ok(options)
    }

    /// Beginnings of URIs that have credentials of their own.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.vended.iter().map(|vended| vended.prefix.as_str())
    }

    /// The metadata as a value.
    pub fn metadata_value(&self) -> Result<Value> {
        error::parse_metadata(&self.what, &self.metadata)
    }
}

/// A table to be made.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// An Iceberg schema as JSON.
    pub schema: Value,
    pub partition_spec: Option<Value>,
    pub write_order: Option<Value>,
    /// If unset, the catalog chooses.
    pub location: Option<String>,
    pub properties: BTreeMap<String, String>,
    /// Only prepare it: the first commit, which requires that there is no table (`assert-create`), makes it.
    pub stage: bool,
}

impl Create {
    pub(crate) fn body(&self, name: &str) -> Value {
        let mut body = Map::new();
        body.insert("name".into(), name.into());
        body.insert("schema".into(), self.schema.clone());
        let optional = [
            ("location", self.location.clone().map(Value::from)),
            ("partition-spec", self.partition_spec.clone()),
            ("write-order", self.write_order.clone()),
        ];
        body.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        body.insert("stage-create".into(), self.stage.into());
        body.insert("properties".into(), json!(self.properties));
        Value::Object(body)
    }
}

/// How a change ends.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is made. A commit's answer has no credentials: those of `load` stay in use.
    Done(Box<Loaded>),
    /// It is not made: a requirement does not hold (any more), or the table exists already.
    Conflict(String),
    /// It may be made or not: load the table and look.
    Unknown(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigAnswer {
    #[serde(default)]
    defaults: Option<BTreeMap<String, Option<Secret>>>,
    #[serde(default)]
    overrides: Option<BTreeMap<String, Option<Secret>>>,
}

impl ConfigAnswer {
    /// The client's properties between the server's defaults and overrides.
    pub fn merged(self, own: &Properties) -> Properties {
        let mut merged = given(self.defaults);
        merged.extend(own.clone());
        merged.extend(given(self.overrides));
        merged
    }
}

fn given(properties: Option<BTreeMap<String, Option<Secret>>>) -> Properties {
    properties.into_iter().flatten().filter_map(|(key, value)| Some((key, value?))).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableAnswer<'a> {
    #[serde(default)]
    metadata_location: Option<String>,
    #[serde(borrow)]
    metadata: &'a RawValue,
    #[serde(default)]
    config: Option<BTreeMap<String, Option<Secret>>>,
    #[serde(default)]
    storage_credentials: Option<Vec<CredentialAnswer>>,
}

#[derive(Deserialize)]
struct CredentialAnswer {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    config: Option<BTreeMap<String, Option<Secret>>>,
}

impl TableAnswer<'_> {
    /// `what`: for messages. `properties`: those of the catalog, which hold where the table's say nothing else.
    pub fn loaded(self, what: String, properties: &Properties) -> Result<Loaded> {
        #[derive(Deserialize)]
        struct Located {
            location: String,
        }
        let metadata = Bytes::from(self.metadata.get().to_owned());
        let Located { location } = error::parse_metadata(&what, &metadata)?;
        let stores = ["s3.", "client.", "gcs.", "adls."];
        let of_stores = |key: &str| stores.iter().any(|start| key.starts_with(start));
        let mut config: Properties = properties
            .iter()
            .filter(|(key, _)| of_stores(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        config.extend(given(self.config));
        let credentials = self.storage_credentials.unwrap_or_default().into_iter();
        let vended: Vec<Vended> =
            credentials.map(|one| Vended { prefix: one.prefix, config: given(one.config) }).collect();
        let storage_options = vended::options(&vended::config_for(&config, &vended, &location), &location);
        let all = vended.iter().map(|vended| &vended.config).chain([&config]);
        let expires_at_ms = all.filter_map(vended::expires_at_ms).min();
        let metadata_location = self.metadata_location.filter(|location| !location.is_empty());
        Ok(Loaded { metadata_location, metadata, location, storage_options, expires_at_ms, what, config, vended })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Page {
    #[serde(default)]
    pub namespaces: Vec<Vec<String>>,
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    #[serde(default)]
    pub next_page_token: Option<String>,
}

#[derive(Deserialize)]
pub struct Identifier {
    pub name: String,
}
