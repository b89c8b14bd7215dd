//! What one task reads over one connection at a time, as it is sent to it. The password is in it: it is not to be printed.

use serde::{Deserialize, Serialize};

use crate::options::{Given, Source};
use crate::read::{Limits, Reading};
use crate::sql::Select;
use floe_wire::error::{QueryError, Result};

#[derive(Clone, Serialize, Deserialize)]
pub struct Unit {
    given: Given,
    /// The snapshot that it is read in.
    snapshot: String,
    /// The table as messages and plans name it.
    pub name: String,
    /// One after another.
    pub selects: Vec<Select>,
    /// Guesses, of all its statements.
    pub rows: u64,
    pub bytes: u64,
}

impl Unit {
    pub fn new(source: &Source, snapshot: &str, name: String, selects: Vec<Select>) -> Unit {
        Unit { given: source.given().clone(), snapshot: snapshot.to_owned(), name, selects, rows: 0, bytes: 0 }
    }

    pub fn pack(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| QueryError::internal(format!("a part of a table: {error}")))
    }

    pub fn unpack(bytes: &[u8]) -> Result<Unit> {
        serde_json::from_slice(bytes).map_err(|error| QueryError::internal(format!("a part of a table: {error}")))
    }

    /// Begins to read a statement over a connection of its own.
    pub async fn open(&self, select: &Select, limits: Limits) -> Result<Reading> {
        Reading::open(&Source::of(&self.given)?, Some(&self.snapshot), select, limits).await
    }
}
