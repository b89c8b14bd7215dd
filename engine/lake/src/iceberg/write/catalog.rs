//! What keeps a table's current metadata: a catalog, or for tables without one their own files (`files`).

use std::collections::BTreeMap;

use floe_wire::error::Result;
use serde_json::Value as Json;

use super::updates::{Requirement, Update};

/// A table's current metadata.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub metadata: Json,
    /// The metadata file.
    pub uri: String,
}

/// A table that is to be created.
#[derive(Clone, Debug)]
pub struct Draft {
    /// `None`: the catalog chooses it.
    pub location: Option<String>,
    pub format_version: u32,
    pub schema: Json,
    pub last_column_id: i32,
    pub spec: Json,
    pub properties: BTreeMap<String, String>,
}

/// A change of a table, which is made as a whole or not at all.
#[derive(Clone, Debug)]
pub struct Change {
    /// The table that it was made for; `None` if it creates the table.
    pub base: Option<Loaded>,
    pub requirements: Vec<Requirement>,
    pub updates: Vec<Update>,
    pub timestamp_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Another writer was first. The change can no longer be made.
    Conflict,
}

/// One table in a catalog.
pub trait Catalog {
    /// What users know the table by.
    fn name(&self) -> String;

    /// `None`: there is no such table.
    fn load(&self) -> Result<Option<Loaded>>;

    /// What the metadata of a new table is to be, without making it. Ids may differ from those of the draft.
    fn stage(&self, draft: &Draft) -> Result<Json>;

    /// Makes a change. An error of the category `User` means that nothing was changed, and after any other one it is
    /// unknown whether it was. Making the same change again is safe: what was made already is not made twice, it is
    /// done or a conflict.
    fn commit(&self, change: &Change) -> Result<Outcome>;
}
