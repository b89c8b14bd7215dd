//! Slices, heads, tails, row indexes: what needs to know how many rows stand before.

use polars_plan::plans::IR;
use polars_utils::IdxSize;
use polars_utils::arena::Node;

use super::context::Cx;
use super::rel::{Order, Rel};
use floe_wire::error::Result;

/// A slice up to this end is cut in every task before it is gathered.
const CUT_EARLY_ROWS: i64 = 1 << 24;

impl Cx<'_> {
    pub fn slice(&mut self, rel: Rel, offset: i64, len: usize) -> Result<Rel> {
        let cut = |cx: &mut Self, rel: Rel, offset: i64, len: usize| {
            let len = len.min(IdxSize::MAX as usize) as IdxSize;
            cx.put(rel, |cx, root| cx.ir.add(IR::Slice { input: root, offset, len })).fixed()
        };
        let until = i64::try_from(len).unwrap_or(i64::MAX);
        let end = if offset >= 0 { offset.saturating_add(until) } else { offset.checked_neg().unwrap_or(i64::MAX) };
        let rel = if !rel.is_one() && end < CUT_EARLY_ROWS {
            // Rows that cannot be in the slice need not travel.
            let rel = self.sort_locally(rel, false);
            let rel = if offset >= 0 { cut(self, rel, 0, end as usize) } else { cut(self, rel, -end, end as usize) };
            let tasks = rel.branches.len() as f64;
            Rel { rows: Some(end as f64 * tasks), bytes: Some(end as f64 * tasks * 64.0), ..rel }
        } else {
            rel
        };
        let ordered = rel.order != Order::Free;
        let rel = self.gather(rel)?;
        let mut rel = cut(self, rel, offset, len);
        rel.order = if ordered { Order::Tasks } else { Order::Free };
        rel.rows = Some(len.min(1 << 40) as f64);
        rel.bytes = Some(len.min(1 << 34) as f64 * 64.0);
        Ok(rel)
    }

    /// Each task counts on from the rows before it, known when the stage before is done.
    pub fn row_index(&mut self, node: Node, rel: Rel) -> Result<Rel> {
        let rel = self.in_order(rel)?;
        let rel = if rel.is_one() { rel } else { self.keep(rel)? };
        // The numbers are an order of their own, also where the rows had none before.
        Ok(self.put_same(node, rel).scattered().settled())
    }
}
