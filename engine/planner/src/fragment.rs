//! Defines what a stage's opaque bytes hold: the IR of the fragment and what a task must do around it.

use bytes::Bytes;
use polars_plan::plans::IRPlan;
use serde::{Deserialize, Serialize};

use floe_wire::error::{QueryError, Result};

pub struct Fragment {
    pub plan: IRPlan,
    /// Leaves of the plan (depth first, left to right) are placeholders; false: the plan holds its data.
    pub placeholders: bool,
    /// Adds an order tag to the rows before they are exchanged.
    pub tag: Option<Tag>,
    /// The summary of the output's keys to write, for the runtime filters of other stages.
    pub summary: Option<SummarySpec>,
    /// Runtime filters: rows to drop before they are exchanged. Each reads the key summaries of one of the last leaves,
    /// in this order.
    pub filters: Vec<KeyFilter>,
}

/// A key summary holds bounds and hashes: each hash by itself, or a Bloom filter of `blocks` blocks where that is
/// smaller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummarySpec {
    pub keys: Vec<String>,
    pub blocks: u32,
}

/// Drops rows whose keys are in no summary: they have no match in the join to come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyFilter {
    pub keys: Vec<String>,
    /// Leaf and column of the scan that has the only key unchanged: its bounds skip files and row groups.
    pub scan: Option<(usize, String)>,
}

/// `Fragment` as it is sent; its plan is bytes, which only the codec crate reads.
#[derive(Serialize, Deserialize)]
struct Packed {
    plan: Bytes,
    placeholders: bool,
    tag: Option<Tag>,
    summary: Option<SummarySpec>,
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
            summary: self.summary.clone(),
            filters: self.filters.clone(),
        })
    }

    pub fn unpack(bytes: &[u8]) -> Result<Self> {
        let Packed { plan, placeholders, tag, summary, filters } = decode(bytes)?;
        let mut plan = floe_codec::decode_ir(&plan)
            .map_err(|e| QueryError::internal(format!("a plan fragment could not be read: {e}")))?;
        crate::operators::unsorted::arm(&mut plan);
        floe_plan::functions::arm(&mut plan)?;
        Ok(Fragment { plan, placeholders, tag, summary, filters })
    }
}

impl Fragment {
    /// A copy of the plan for one task, which fills its leaves.
    pub fn copy_of_plan(&self) -> IRPlan {
        let IRPlan { lp_top, lp_arena, expr_arena } = &self.plan;
        IRPlan { lp_top: *lp_top, lp_arena: lp_arena.clone(), expr_arena: expr_arena.clone() }
    }
}

/// An order tag: a u64 column with a row's place in the whole relation (branch of the union, task, row). Numbers that
/// do not fit fail by name and never wrap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    pub column: String,
    branch: u32,
}

/// Bits of an order tag for the task and for the row within it; the branch has the rest.
const TASK_BITS: u32 = 18;
const ROW_BITS: u32 = 32;

impl Tag {
    pub fn new(column: String, branch: usize) -> Result<Tag> {
        const BRANCHES: u32 = 1 << (u64::BITS - TASK_BITS - ROW_BITS);
        match u32::try_from(branch) {
            Ok(branch) if branch < BRANCHES => Ok(Tag { column, branch }),
            _ => Err(too_many(&format!("{} inputs of a union", branch + 1), u64::from(BRANCHES))),
        }
    }

    /// The tag of the first of `rows` rows that follow `before` others of the task.
    pub fn first(&self, task: u32, before: u64, rows: u64) -> Result<u64> {
        if task >> TASK_BITS != 0 {
            return Err(too_many(&format!("task {task} of a stage"), 1 << TASK_BITS));
        }
        match before.checked_add(rows) {
            Some(all) if all <= 1 << ROW_BITS => {}
            _ => return Err(too_many(&format!("{before} and {rows} more rows of one task"), 1 << ROW_BITS)),
        }
        Ok(u64::from(self.branch) << (TASK_BITS + ROW_BITS) | u64::from(task) << ROW_BITS | before)
    }
}

fn too_many(what: &str, limit: u64) -> QueryError {
    QueryError::user(
        "TooManyToOrder",
        format!(
            "{what} cannot be kept in order: there are numbers for {limit}. Cut the query differently \
             (execution.partitionsPerWorker, execution.scanTaskBytes), or leave the order to a sort at its end"
        ),
    )
}

/// The part of base data that one task reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SourceUnit {
    /// `count` files of the scan's source list from `first` on. `rows` (offset, length) limits their rows;
    /// `rows_before` counts the rows of the scan before these, for its row index; `keep` drops rows of other tasks.
    Files { first: usize, count: usize, rows: Option<(usize, usize)>, rows_before: u64, keep: Option<Keep> },
    /// A part of a frame as IPC, with its height for frames without columns.
    Frame { height: usize, ipc: Bytes },
    /// What one connection to a database reads.
    Database { unit: Bytes },
}

/// Keeps the rows whose integer or date in `column` is in [from, to).
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(branch: usize) -> Result<Tag> {
        Tag::new("t".into(), branch)
    }

    #[test]
    fn tags_are_in_the_order_of_branch_task_and_row() {
        let last_row = tag(0).unwrap().first(0, (1 << 32) - 1, 1).unwrap();
        let last_task = tag(0).unwrap().first((1 << 18) - 1, 0, 1).unwrap();
        let last = tag((1 << 14) - 1).unwrap().first((1 << 18) - 1, (1 << 32) - 1, 1).unwrap();
        assert_eq!(last_row + 1, tag(0).unwrap().first(1, 0, 0).unwrap());
        assert_eq!(last_task + (1 << 32), tag(1).unwrap().first(0, 0, 5).unwrap());
        assert_eq!(last, u64::MAX);
    }

    #[test]
    fn numbers_that_do_not_fit_into_a_tag_fail_by_name() {
        let class = |error: QueryError| error.class;
        assert_eq!(class(tag(1 << 14).unwrap_err()), "TooManyToOrder");
        assert_eq!(class(tag(usize::MAX - 1).unwrap_err()), "TooManyToOrder");
        let tag = tag(3).unwrap();
        assert_eq!(class(tag.first(1 << 18, 0, 1).unwrap_err()), "TooManyToOrder");
        assert_eq!(class(tag.first(u32::MAX, 0, 1).unwrap_err()), "TooManyToOrder");
        assert_eq!(class(tag.first(0, 1 << 32, 1).unwrap_err()), "TooManyToOrder");
        assert_eq!(class(tag.first(0, (1 << 32) - 1, 2).unwrap_err()), "TooManyToOrder");
        assert_eq!(class(tag.first(0, u64::MAX, 1).unwrap_err()), "TooManyToOrder");
        assert!(tag.first((1 << 18) - 1, (1 << 32) - 2, 2).is_ok());
    }
}
