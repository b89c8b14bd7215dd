//! As-of joins: every row looks its match up by itself, in a small other side sent whole to every task; with `by` keys and a
//! large one, both sides go by those.

use polars_ops::frame::AsOfOptions;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, FunctionIR, IR};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use super::context::Cx;
use super::expr;
use super::join::{Parts, Side};
use super::rel::{Order, Rel};
use floe_wire::error::Result;
use floe_wire::graph::{Exchange, Read};

impl Cx<'_> {
    pub(super) fn asof(
        &mut self,
        node: Node,
        inputs: (Node, Node),
        left: Rel,
        right: Rel,
        parts: Parts,
        options: &AsOfOptions,
    ) -> Result<Rel> {
        // Polars then checks the order of all rows, not of each key's.
        let hinted = self.hinted(inputs.0) || self.hinted(inputs.1);
        let by = options.left_by.as_ref().zip(options.right_by.as_ref()).filter(|(left, _)| !left.is_empty());
        let small =
            right.bytes.is_some_and(|bytes| bytes <= self.options.broadcast_limit_bytes as f64) && !left.is_one();
        // Parts of rows that do not rise could each be in order by chance, and nobody would see what Polars refuses.
        let seen = by.is_some() || !options.check_sortedness;
        if small && (seen && !hinted || self.rises_in(inputs.0, &parts.left_on)) {
            let order: &[Side] = if self.order_seen(node) { &[Side::Left] } else { &[] };
            let left = self.sort_locally(left, false);
            let right = self.in_order(right)?;
            return self.whole_side(left, right, Side::Left, parts, order);
        }
        match by {
            _ if left.is_one() => self.join_alone(node, left, right, "its input is in one task already"),
            _ if hinted => self.join_alone(node, left, right, "its input is declared sorted"),
            None if small => self.asof_after(left, right, parts),
            None => self.join_alone(
                node,
                left,
                right,
                "an as-of join without `by` keys, of a side too large to be sent whole",
            ),
            Some((lk, rk)) => self.asof_by(node, left, right, parts, (&lk[..], &rk[..])),
        }
    }

    fn hinted(&self, node: Node) -> bool {
        let ir = self.ir.get(node);
        matches!(ir, IR::MapFunction { function: FunctionIR::Hint(_), .. }) || ir.inputs().any(|n| self.hinted(n))
    }

    /// Whether the rows are known to rise in this key.
    fn rises_in(&self, node: Node, key: &[ExprIR]) -> bool {
        let [key] = key else { return false };
        let mut key = key.node();
        // Whole numbers made wider keep their order.
        while let AExpr::Cast { expr, dtype, .. } = self.ex.get(key) {
            if !matches!(dtype, polars_core::prelude::DataType::Int128 | polars_core::prelude::DataType::UInt128) {
                return false;
            }
            key = *expr;
        }
        self.same_column(key).is_some_and(|name| self.rises(node, &name))
    }

    /// Each task has the last row of every task before above its own: Polars then sees rows that do not rise.
    fn asof_after(&mut self, left: Rel, right: Rel, parts: Parts) -> Result<Rel> {
        let rows = self.lined_up(left)?;
        let names = parts.names.clone();
        let right = self.in_order(right)?;
        let bytes = rows.looked_up_bytes(&right);
        let above = self.edges(&rows, true)?;
        let schema = self.rel_schema(&right);
        let stages = self.close(&right, Exchange::Whole, None)?;
        let rel = self.among(rows, Some(above), None, names, |cx, root| {
            let leaf = cx.exchange_leaf(schema, stages, Read::All);
            cx.put_join(root, leaf, &parts, &[])
        })?;
        Ok(Rel { bytes, ..rel })
    }

    fn asof_by(
        &mut self,
        node: Node,
        left: Rel,
        right: Rel,
        parts: Parts,
        (lk, rk): (&[PlSmallStr], &[PlSmallStr]),
    ) -> Result<Rel> {
        let (ls, rs) = (self.rel_schema(&left), self.rel_schema(&right));
        let alike =
            lk.iter().zip(rk).all(|(l, r)| ls.get(l).map(expr::portable_dtype) == rs.get(r).map(expr::portable_dtype));
        if !alike {
            return self.join_alone(node, left, right, "`by` keys of different types");
        }
        let ordered = self.order_seen(node);
        let partitions = self.partitions(&left).max(self.partitions(&right));
        let (rows, bytes) = (left.rows, left.bytes);
        // Both sides are searched in their order.
        let mend = |rel: &Rel| matches!(rel.order, Order::Tags { .. });
        let (ml, mr) = (mend(&left), mend(&right));
        let left = self.hash(left, lk, Some(partitions), ordered || ml)?;
        let left = self.sort_locally(left, false);
        let right = self.hash(right, rk, Some(partitions), mr)?;
        let right = self.sort_locally(right, false);
        let order: &[Side] = if ordered { &[Side::Left] } else { &[] };
        self.meet(left, right, parts, order, partitions, rows, bytes)
    }
}
