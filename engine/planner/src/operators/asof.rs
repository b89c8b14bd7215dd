//! As-of joins, where every row looks up its own match: a small right side is broadcast; with `by` keys and a large
//! right side, both sides are partitioned by those.
//!
//! Tasks see part of the rows, and must refuse what Polars refuses for all. Without `by` keys, Polars requires rows
//! that rise in the key. With them, it checks the order only where it knows both sides to be sorted by the `by` keys,
//! and then requires rows that rise in all of them; elsewhere it warns that it did not check. So a task's join is given
//! what is known of all rows, and no more.

use std::sync::Arc;

use polars_ops::frame::AsOfOptions;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, FunctionIR, HintIR, IR, Sorted, are_keys_sorted_any, is_sorted};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::operators::join::Parts;
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Rel};
use crate::strategies::{AsofFacts, Side, Strategy, choose_asof};
use floe_wire::error::Result;
use floe_wire::graph::Exchange;

/// What Polars knows of the order of `by` keys, and therefore checks.
#[derive(Clone, Default)]
pub(crate) enum ByOrder {
    /// There are no `by` keys, or the plan disables the checks.
    #[default]
    NotAsked,
    /// Nothing is known: rows in any order are accepted.
    Unknown,
    /// Both sides are sorted by the keys, and rows with equal keys must rise.
    Known { left: Arc<[Sorted]>, right: Arc<[Sorted]> },
}

type By<'a> = Option<(&'a Vec<PlSmallStr>, &'a Vec<PlSmallStr>)>;

impl Cx<'_> {
    pub(crate) fn asof(
        &mut self,
        node: Node,
        inputs: (Node, Node),
        left: Rel,
        right: Rel,
        parts: Parts,
        options: &AsOfOptions,
    ) -> Result<Rel> {
        let by: By = options.left_by.as_ref().zip(options.right_by.as_ref()).filter(|(left, _)| !left.is_empty());
        let by_order = if options.check_sortedness { self.by_order(inputs, by) } else { ByOrder::NotAsked };
        // Each part of unsorted rows could be sorted by chance, which would hide the error.
        let parts_tell_unsorted = match &by_order {
            ByOrder::NotAsked => !options.check_sortedness || self.rises_in(inputs.0, &parts.left_on),
            ByOrder::Unknown => true,
            ByOrder::Known { left, .. } => self.rises_in_all(inputs.0, left, &parts.left_on),
        };
        // An order that is only declared: parts could be sorted where the whole is not.
        let known = matches!(by_order, ByOrder::Known { .. });
        let declared = known && !by.is_some_and(|(lk, rk)| self.sorts(inputs.0, lk) && self.sorts(inputs.1, rk));
        let facts = AsofFacts {
            left: left.size(),
            right: right.size(),
            by_keys: by.is_some(),
            parts_tell_unsorted,
            declared,
            partitions: self.partitions(&left).max(self.partitions(&right)),
        };
        let choice = choose_asof(&facts, &self.limits());
        let decision = choice.decision(&self.described(node));
        let parts = Parts { by_order: by_order.clone(), decision: Some(decision.clone()), ..parts };
        match (choice.strategy, by) {
            (Strategy::Broadcast(_), _) => {
                let order: &[Side] = if self.order_seen(node) { &[Side::Left] } else { &[] };
                let left = self.sort_locally(left, false);
                let right = self.in_order(right)?;
                let bound = self.estimated(&right);
                self.broadcast_join(left, right, Side::Left, parts, order, bound)
            }
            (Strategy::Halo, _) => self.asof_after(left, right, parts),
            (Strategy::Shuffle(_), Some((lk, rk))) => self.asof_by(node, left, right, parts, (&lk[..], &rk[..])),
            _ => {
                let rel = self.asof_alone(node, left, right, &by_order, &choice.reason)?;
                self.decided(rel.root(), decision);
                Ok(rel)
            }
        }
    }

    /// Derives the known order of `by` keys as Polars' streaming engine does.
    fn by_order(&mut self, inputs: (Node, Node), by: By) -> ByOrder {
        let Some((left_by, right_by)) = by else { return ByOrder::NotAsked };
        let of = |cx: &mut Self, input: Node, by: &[PlSmallStr]| {
            let keys: Vec<ExprIR> = by.iter().map(|name| expr::col(name, &mut cx.ex)).collect();
            let schema = cx.schema(input);
            let known = is_sorted(input, &cx.ir, &cx.ex);
            are_keys_sorted_any(known.as_ref(), &keys, &cx.ex, &schema)
        };
        let (left, right) = (of(self, inputs.0, left_by), of(self, inputs.1, right_by));
        match (left, right) {
            (Some(left), Some(right)) if left == right => {
                let named = |by: &[PlSmallStr]| -> Arc<[Sorted]> {
                    let sorted = |(column, how): (&PlSmallStr, &polars_plan::plans::AExprSorted)| Sorted {
                        column: column.clone(),
                        descending: how.descending,
                        nulls_last: how.nulls_last,
                    };
                    by.iter().zip(&left).map(sorted).collect()
                };
                ByOrder::Known { left: named(left_by), right: named(right_by) }
            }
            _ => ByOrder::Unknown,
        }
    }

    /// Gives the join the known order of all rows, or none, whatever the parts look like.
    pub(crate) fn as_known(&mut self, left: Node, right: Node, by_order: &ByOrder) -> (Node, Node) {
        let mut told = |input: Node, sorted: &Arc<[Sorted]>| {
            let function = FunctionIR::Hint(HintIR::Sorted(sorted.clone()));
            self.ir.add(IR::MapFunction { input, function })
        };
        match by_order {
            ByOrder::NotAsked => (left, right),
            ByOrder::Known { left: of_left, right: of_right } => (told(left, of_left), told(right, of_right)),
            // Behind a rechunk, the engine assumes no order.
            ByOrder::Unknown => (left, self.ir.add(IR::MapFunction { input: right, function: FunctionIR::Rechunk })),
        }
    }

    fn asof_alone(&mut self, node: Node, left: Rel, right: Rel, by_order: &ByOrder, why: &str) -> Result<Rel> {
        let rel = self.join_alone(node, left, right, why)?;
        let root = rel.root();
        if let IR::Join { input_left, input_right, .. } = *self.ir.get(root) {
            let (left, right) = self.as_known(input_left, input_right, by_order);
            let join = self.ir.get(root).clone().with_inputs([left, right]);
            let join = self.ir.add(join);
            self.single(join, why);
            return Ok(self.put(rel, Effect::RowByRow(Names::Same), |_, _| join));
        }
        Ok(rel)
    }

    /// Whether the order of these columns was made by a sort, and is not just declared.
    fn sorts(&self, node: Node, columns: &[PlSmallStr]) -> bool {
        match self.ir.get(node) {
            IR::Sort { .. } => true,
            IR::Filter { input, .. }
            | IR::Slice { input, .. }
            | IR::SimpleProjection { input, .. }
            | IR::Cache { input, .. } => self.sorts(*input, columns),
            IR::HStack { input, exprs, .. } => {
                !exprs.iter().any(|e| columns.contains(e.output_name())) && self.sorts(*input, columns)
            }
            _ => false,
        }
    }

    /// Whether the rows are known to be sorted by these columns and to rise in the key within them.
    fn rises_in_all(&self, node: Node, by: &[Sorted], key: &[ExprIR]) -> bool {
        let [key] = key else { return false };
        let Some(key) = self.same_column(key.node()) else { return false };
        let mut columns: Vec<PlSmallStr> = by.iter().map(|sorted| sorted.column.clone()).collect();
        columns.push(key.clone());
        let known = is_sorted(node, &self.ir, &self.ex);
        let next = known.as_ref().and_then(|known| known.0.get(by.len()));
        self.sorts(node, &columns)
            && next.is_some_and(|next| {
                next.column == key && next.descending == Some(false) && next.nulls_last == Some(false)
            })
    }

    /// Whether the rows are known to rise in this key.
    fn rises_in(&self, node: Node, key: &[ExprIR]) -> bool {
        let [key] = key else { return false };
        let mut key = key.node();
        // Widening integers keeps their order.
        while let AExpr::Cast { expr, dtype, .. } = self.ex.get(key) {
            if !matches!(dtype, polars_core::prelude::DataType::Int128 | polars_core::prelude::DataType::UInt128) {
                return false;
            }
            key = *expr;
        }
        self.same_column(key).is_some_and(|name| self.rises(node, &name))
    }

    /// Puts the last row of every earlier task above each task's own, so that Polars notices rows that do not rise.
    fn asof_after(&mut self, left: Rel, right: Rel, parts: Parts) -> Result<Rel> {
        let rows = self.lined_up(left)?;
        let names = parts.names.clone();
        let right = self.in_order(right)?;
        let bytes = rows.looked_up_bytes(&right);
        let above = self.edges(&rows, true)?;
        let schema = self.rel_schema(&right);
        let bound = self.estimated(&right);
        let stages = self.close(&right, Exchange::Whole, None)?;
        let rel = self.among(rows, Some(above), None, names, |cx, root| {
            let leaf = cx.broadcast_leaf(schema, stages, bound);
            cx.put_join(root, leaf, &parts, &[])
        })?;
        let rows = rel.rows();
        Ok(rel.sized(rows, bytes))
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
        let (rows, bytes) = (left.rows(), left.bytes());
        // The join searches both sides in their order.
        let (ml, mr) = (left.is_tagged(), right.is_tagged());
        let left = self.hash(left, lk, Some(partitions), ordered || ml)?;
        let left = self.sort_locally(left, false);
        let right = self.hash(right, rk, Some(partitions), mr)?;
        let right = self.sort_locally(right, false);
        let order: &[Side] = if ordered { &[Side::Left] } else { &[] };
        self.join_partitions(left, right, parts, order, partitions, rows, bytes)
    }
}
