//! The actions of a Delta log as they are written: in commits (JSON), and in checkpoints (JSON, or rows of Parquet
//! that were made JSON). Only what Floe needs.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::stats::Stats;
use crate::delta::error::bad_table;
use floe_wire::error::Result;

/// A line of a log. In checkpoints all the others are null.
#[derive(Debug, Default, Deserialize)]
pub struct Action {
    pub add: Option<Add>,
    pub remove: Option<Remove>,
    #[serde(rename = "metaData")]
    pub metadata: Option<Metadata>,
    pub protocol: Option<Protocol>,
    pub txn: Option<Transaction>,
    pub sidecar: Option<Sidecar>,
}

/// A file of the table. Fields are optional because rows of Parquet may spell "no such action" as a struct of nulls.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Add {
    pub path: Option<String>,
    #[serde(rename = "partitionValues")]
    pub partition: Option<Pairs<Option<String>>>,
    pub size: Option<u64>,
    /// Statistics as a string of JSON.
    pub stats: Option<String>,
    /// The same, as a checkpoint may have them instead.
    pub stats_parsed: Option<Stats>,
    #[serde(rename = "deletionVector")]
    pub vector: Option<Vector>,
    pub tags: Option<Pairs<Option<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Remove {
    pub path: Option<String>,
    #[serde(rename = "deletionVector")]
    pub vector: Option<Vector>,
}

/// How far an application has come that writes to the table.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Transaction {
    pub app_id: Option<String>,
    pub version: Option<i64>,
}

/// Where the deletion vector of a file is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Vector {
    pub storage_type: Option<String>,
    pub path_or_inline_dv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    pub size_in_bytes: Option<u64>,
    pub cardinality: Option<u64>,
}

impl Vector {
    /// What tells the vectors of a file apart. `None` if there is no vector: a struct of nulls.
    pub fn id(&self) -> Option<String> {
        let (kind, path) = (self.storage_type.as_deref()?, self.path_or_inline_dv.as_deref()?);
        Some(match self.offset {
            Some(offset) => format!("{kind}{path}@{offset}"),
            None => format!("{kind}{path}"),
        })
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Protocol {
    pub min_reader_version: Option<i64>,
    pub min_writer_version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub format: Option<Format>,
    pub schema_string: Option<String>,
    pub partition_columns: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
    pub configuration: Option<Pairs<Option<String>>>,
}

impl Metadata {
    /// A property of the table.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.configuration.as_ref()?.get(name)?.as_deref()
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Format {
    pub provider: Option<String>,
    pub options: Option<Pairs<Option<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sidecar {
    pub path: Option<String>,
}

/// The time of a commit, in the action that comes first in it where commits carry their times.
#[derive(Debug, Deserialize)]
pub struct Commit {
    #[serde(rename = "commitInfo")]
    pub info: Option<CommitInfo>,
}

#[derive(Debug, Deserialize)]
pub struct CommitInfo {
    #[serde(rename = "inCommitTimestamp")]
    pub timestamp_ms: Option<i64>,
}

/// Reads the actions in a file of JSON lines.
pub fn parse(root: &str, file: &str, text: &[u8]) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let action = serde_json::from_slice(line)
            .map_err(|error| bad_table(root, format!("line {} of {file} is no action: {error}", number + 1)))?;
        actions.push(action);
    }
    Ok(actions)
}

/// A map, which rows of Parquet may have as a list of `key` and `value`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pairs<V>(pub BTreeMap<String, V>);

impl<V> Pairs<V> {
    pub fn get(&self, key: &str) -> Option<&V> {
        self.0.get(key)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
    type Value = Pairs<V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map, or a list of keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            pairs.insert(key, value);
        }
        Ok(Pairs(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        struct Pair<V> {
            key: String,
            value: V,
        }
        let mut pairs = BTreeMap::new();
        while let Some(Pair { key, value }) = list.next_element()? {
            pairs.insert(key, value);
        }
        Ok(Pairs(pairs))
    }
}
