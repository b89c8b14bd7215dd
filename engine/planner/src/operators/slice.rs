//! Distributes slices, heads, tails and row indexes, which need the number of rows before.

use polars_plan::plans::IR;
use polars_utils::IdxSize;
use polars_utils::arena::Node;

use crate::context::Cx;
use crate::properties::rel::{Effect, Names, Rel};
use floe_wire::error::Result;

/// A slice that ends within this many rows is cut in every task before it is gathered.
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
            // Drop rows that cannot be in the slice before they travel.
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

    /// Each task continues the count of the rows before it, which is known when the previous stage is done.
    pub fn row_index(&mut self, node: Node, rel: Rel) -> Result<Rel> {
        let rel = self.in_order(rel)?;
        let rel = if rel.is_one() { rel } else { self.keep(rel)? };
        // The numbers fix an order, even where the rows had none before.
        Ok(self.put_same(node, rel).settled())
    }
}
