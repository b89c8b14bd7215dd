//! Slices, heads, tails, row indexes: what needs to know how many rows stand before.

use polars_plan::plans::IR;
use polars_utils::IdxSize;
use polars_utils::arena::Node;

use super::context::Cx;
use super::rel::{Effect, Names, Rel};
use floe_wire::error::Result;

/// A slice up to this end is cut in every task before it is gathered.
const CUT_EARLY_ROWS: i64 = 1 << 24;

impl Cx<'_> {
    pub fn slice(&mut self, rel: Rel, offset: i64, len: usize) -> Result<Rel> {
        let cut = |cx: &mut Self, rel: Rel, offset: i64, len: usize| {
            let len = len.min(IdxSize::MAX as usize) as IdxSize;
            let effect = Effect::WithinTaskInOrder(Names::Same);
            cx.put(rel, effect, |cx, root| cx.ir.add(IR::Slice { input: root, offset, len }))
        };
        let until = i64::try_from(len).unwrap_or(i64::MAX);
        let end = if offset >= 0 { offset.saturating_add(until) } else { offset.checked_neg().unwrap_or(i64::MAX) };
        let rel = if !rel.is_one() && end < CUT_EARLY_ROWS {
            // Rows that cannot be in the slice need not travel.
            let rel = self.sort_locally(rel, false);
            let rel = if offset >= 0 { cut(self, rel, 0, end as usize) } else { cut(self, rel, -end, end as usize) };
            let rows = end as f64 * rel.branches().len() as f64;
            rel.sized(Some(rows), Some(rows * 64.0))
        } else {
            rel
        };
        let rel = self.gather(rel)?;
        let rel = cut(self, rel, offset, len);
        Ok(rel.sized(Some(len.min(1 << 40) as f64), Some(len.min(1 << 34) as f64 * 64.0)))
    }

    /// Each task counts on from the rows before it, known when the stage before is done.
    pub fn row_index(&mut self, node: Node, rel: Rel) -> Result<Rel> {
        let rel = self.in_order(rel)?;
        let rel = if rel.is_one() { rel } else { self.keep(rel)? };
        // The numbers are an order of their own, also where the rows had none before.
        Ok(self.put_same(node, rel).settled())
    }
}
