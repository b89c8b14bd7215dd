//! What a stage's opaque bytes hold: the IR of the fragment and what a task must do around it.

use bytes::Bytes;
use polars_plan::plans::IRPlan;
use serde::{Deserialize, Serialize};

use floe_wire::error::{QueryError, Result};

pub struct Fragment {
    pub plan: IRPlan,
    /// Leaves of the plan (depth first, left to right) are placeholders; false: the plan holds its data.
    pub placeholders: bool,
    /// Rows get a number that tells their place in the whole relation before they are exchanged.
    pub tag: Option<Tag>,
    /// What is noted of the keys of the rows that go on, for the filters of other stages.
    pub notes: Option<Notes>,
    /// Rows to drop before they are exchanged. Each reads the notes that one of the last inputs brings, in this order.
    pub filters: Vec<KeyFilter>,
}

/// Keys are noted with their bounds and their hashes: one by one, or in a Bloom filter of so many blocks where that is
/// smaller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notes {
    pub keys: Vec<String>,
    pub blocks: u32,
}

/// Rows whose keys nobody noted have no match in a join to come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyFilter {
    pub keys: Vec<String>,
    /// Leaf and column of the scan that has the only key as it is: files and row groups are passed over by its bounds.
    pub scan: Option<(usize, String)>,
}

/// `Fragment` as it travels; the plan is bytes of its own, read by the one crate that knows how.
#[derive(Serialize, Deserialize)]
struct Packed {
    plan: Bytes,
    placeholders: bool,
    tag: Option<Tag>,
    notes: Option<Notes>,
    filters: Vec<KeyFilter>,
}

impl Fragment {
    pub fn pack(&self) -> Result<Bytes> {
        let plan = floe_codec::encode_ir(&self.plan)
            .map_err(|e| QueryError::internal(format!("a plan fragment could not be written: {e}")))?;
        encode(&Packed {
            plan: Bytes::from(plan),
            placeholders: self.placeholders,
            tag: self.tag.clone(),
            notes: self.notes.clone(),
            filters: self.filters.clone(),
        })
    }

    pub fn unpack(bytes: &[u8]) -> Result<Self> {
        let Packed { plan, placeholders, tag, notes, filters } = decode(bytes)?;
        let plan = floe_codec::decode_ir(&plan)
            .map_err(|e| QueryError::internal(format!("a plan fragment could not be read: {e}")))?;
        Ok(Fragment { plan, placeholders, tag, notes, filters })
    }
}

/// A u64 column: branch of the union, task and row number in one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    pub column: String,
    pub branch: u32,
}

impl Tag {
    /// 14 bits of branch, 18 of task, 32 of row.
    pub fn base(&self, task: u32) -> u64 {
        (u64::from(self.branch) << 50) | (u64::from(task) << 32)
    }
}

/// The part of base data that one task reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SourceUnit {
    /// `count` files of the scan's source list from `first` on; of them `rows` (offset, length) only; `rows_before`
    /// counts the rows of the scan before these, for its row index; `keep` drops rows that are another task's.
    Files { first: usize, count: usize, rows: Option<(usize, usize)>, rows_before: u64, keep: Option<Keep> },
    /// A part of a frame as IPC, with its height for frames without columns.
    Frame { height: usize, ipc: Bytes },
}

/// Rows whose whole number or date in `column` is in [from, to).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    pub column: String,
    pub from: Option<i64>,
    pub to: Option<i64>,
}

pub fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    rmp_serde::to_vec_named(value)
        .map(Bytes::from)
        .map_err(|e| QueryError::internal(format!("a plan fragment could not be written: {e}")))
}

pub fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|e| QueryError::internal(format!("a plan fragment could not be read: {e}")))
}
