//! Builds joins: co-located where the rows already are, by broadcasting one side, or by hash of both sides' keys.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_core::scalar::Scalar;
use polars_ops::frame::{JoinBuildSide, JoinType, MaintainOrderJoin};
use polars_plan::dsl::JoinOptionsIR;
use polars_plan::plans::AExprBuilder;
use polars_plan::plans::expr_ir::{ExprIR, OutputName};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::exchanges::runtime_filters::KeyFilters;
use crate::operators::asof::ByOrder;
use crate::operators::join::Parts;
use crate::properties::rel::{Effect, Names, Order, Rel, Width};
use crate::strategies::{Shuffle, Side, broadcast_pays_bytes};
use floe_wire::error::Result;
use floe_wire::facts::BroadcastBound;
use floe_wire::graph::Exchange;

/// Every task builds a hash table of the broadcast side, so it should probe it with this many times the bytes.
const PROBE_BYTES_PER_TABLE_BYTE: f64 = 4.0;

/// The share of matches that is likely to pass the filters of both sides; the shares of a fact table and its dimension
/// multiply.
fn likely_joined(left: &Rel, right: &Rel, parts: &Parts) -> f64 {
    match parts.options.args.how {
        JoinType::Inner | JoinType::Semi | JoinType::Cross => left.likelihood() * right.likelihood(),
        JoinType::Left | JoinType::Anti => left.likelihood(),
        JoinType::Right => right.likelihood(),
        _ => left.likelihood().max(right.likelihood()),
    }
}

impl Cx<'_> {
    /// Joins every row of `rows` with the one row of `one`.
    pub(crate) fn with_single_row(&mut self, rows: Rel, one: Rel, options: Arc<JoinOptionsIR>) -> Result<Rel> {
        let names: Vec<PlSmallStr> = {
            let (left, right) = (self.rel_schema(&rows), self.rel_schema(&one));
            let tags = rows.tags();
            left.iter_names().filter(|name| !tags.contains(name)).chain(right.iter_names()).cloned().collect()
        };
        let by_order = ByOrder::NotAsked;
        let parts = Parts { left_on: Vec::new(), right_on: Vec::new(), options, names, by_order, decision: None };
        let order: &[Side] = if *rows.order() == Order::Free { &[] } else { &[Side::Left] };
        self.broadcast_join(rows, one, Side::Left, parts, order, BroadcastBound::Rows { max_rows: 1 })
    }

    /// A co-located join: both sides are cut at the same keys.
    pub(crate) fn colocated_join(&mut self, left: Rel, right: Rel, parts: Parts) -> Result<Rel> {
        let (rows, bytes) = left.joined_size(&right);
        let (left, right) = (self.unordered(left), self.unordered(right));
        let likely = likely_joined(&left, &right, &parts);
        // Unmatched rows of the right side have no key in the left side's columns.
        let keyed =
            matches!(parts.options.args.how, JoinType::Inner | JoinType::Left | JoinType::Semi | JoinType::Anti);
        let effect = if keyed { Effect::WithinTask(Names::Only(&parts.names)) } else { Effect::Opaque };
        let other = right.root();
        let rel = self.put(left, effect, |cx, root| cx.put_join(root, other, &parts, &[]));
        let rel = rel.sized(rows, bytes).likely(likely);
        Ok(self.project(rel, &parts.names))
    }

    /// A broadcast join: `kept` stays where it is, and every task of it reads the whole of `sent`.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn broadcast_join(
        &mut self,
        kept: Rel,
        sent: Rel,
        side: Side,
        mut parts: Parts,
        order: &[Side],
        bound: BroadcastBound,
    ) -> Result<Rel> {
        if parts.options.args.how == JoinType::Cross {
            let held = self.held(&kept, &sent, side);
            Arc::make_mut(&mut parts.options).args.build_side = Some(held);
        }
        let kept = match kept.bytes().zip(sent.bytes()) {
            Some((many, few)) => self.coarser(
                kept,
                ((many / (few * PROBE_BYTES_PER_TABLE_BYTE)) as usize).max(2 * self.options.workers as usize),
            )?,
            None => kept,
        };
        let wanted = !order.is_empty();
        let searched = matches!(parts.options.args.how, JoinType::AsOf(_));
        let kept = if wanted || searched { kept } else { self.unordered(kept) };
        let sent = if order.len() == 2 || searched { self.in_order(sent)? } else { self.unordered(sent) };
        let schema = self.rel_schema(&sent);
        let (rows, bytes) = (kept.rows(), kept.looked_up_bytes(&sent));
        let likely =
            if side == Side::Left { likely_joined(&kept, &sent, &parts) } else { likely_joined(&sent, &kept, &parts) };
        let stages = self.close(&sent, Exchange::Whole, None)?;
        // Several matches of one row share its tags: their positions in the other side order them.
        let place = (order.len() == 2 && !kept.tags().is_empty()).then(|| self.name("ord"));
        let tags = kept.tags().to_vec();
        // A column of the right side is renamed where the left one has the same name.
        let same = |name: &PlSmallStr| {
            let own = parts.names.contains(name) && (side == Side::Left || !schema.contains(name));
            (own || tags.contains(name)).then(|| name.clone())
        };
        let out = self.put(kept, Effect::RowByRow(Names::Renamed(&same)), |cx, root| {
            let mut leaf = cx.broadcast_leaf(schema.clone(), stages.clone(), bound);
            if let Some(place) = &place {
                leaf = cx.build(leaf, |b| b.row_index(place.clone(), None));
            }
            let (l, r) = if side == Side::Left { (root, leaf) } else { (leaf, root) };
            cx.put_join(l, r, &parts, order)
        });
        let out = match (place, out.order().clone()) {
            (Some(place), Order::Tags { mut columns, local }) => {
                columns.push(place);
                out.in_order(Order::Tags { columns, local })
            }
            _ => out,
        };
        let out = out.sized(rows, bytes).likely(likely);
        let out = if wanted { out } else { self.unordered(out) };
        Ok(self.project(out, &parts.names))
    }

    /// The side that a cross join holds in memory: the broadcast one, except that Polars can repeat rows of structs
    /// only on the side that it holds.
    fn held(&self, kept: &Rel, sent: &Rel, side: Side) -> JoinBuildSide {
        let structs = |rel| self.rel_schema(rel).iter_values().any(DataType::is_struct);
        let holds_kept = structs(kept) && !structs(sent);
        if holds_kept == (side == Side::Left) { JoinBuildSide::ForceLeft } else { JoinBuildSide::ForceRight }
    }

    /// An inner join that validates its keys. With several keys, Polars skips the check where one side is empty, which
    /// a single partition may well be; a left join is always checked.
    pub(crate) fn validated_join(&mut self, left: Rel, right: Rel, mut parts: Parts, order: &[Side]) -> Result<Rel> {
        let met = self.name("met");
        let yes = AExprBuilder::lit_scalar(Scalar::from(true), &mut self.ex).node();
        let right = self.with_columns(right, vec![ExprIR::new(yes, OutputName::Alias(met.clone()))]);
        let names = std::mem::take(&mut parts.names);
        parts.names = names.iter().chain([&met]).cloned().collect();
        Arc::make_mut(&mut parts.options).args.how = JoinType::Left;
        let rel = self.hash_join(left, right, parts, order, Shuffle::default())?;
        let matched = AExprBuilder::col(met.clone(), &mut self.ex).is_not_null(&mut self.ex).node();
        let matched = ExprIR::new(matched, OutputName::Alias(met));
        let rel = self.filter(rel, matched);
        Ok(self.project(rel, &names))
    }

    /// A hash join. The side that the other waits for is closed first.
    pub(crate) fn hash_join(
        &mut self,
        left: Rel,
        right: Rel,
        parts: Parts,
        order: &[Side],
        shuffle: Shuffle,
    ) -> Result<Rel> {
        let partitions = self.partitions(&left).max(self.partitions(&right));
        let (left, lk) = self.as_columns(left, &parts.left_on);
        let (right, rk) = self.as_columns(right, &parts.right_on);
        let (rows, bytes) = left.joined_size(&right);
        let (keep_left, keep_right) = (order.contains(&Side::Left), order.contains(&Side::Right));
        let likely = likely_joined(&left, &right, &parts);
        let right_first = shuffle.first == Some(Side::Right);
        let mut sides = [(left, lk, keep_left), (right, rk, keep_right)];
        if right_first {
            sides.reverse();
        }
        let [(first, first_keys, keep_first), (second, second_keys, keep_second)] = sides;
        let pays_bytes = broadcast_pays_bytes(&second.size(), &self.limits());
        let summarized =
            first.rows().filter(|_| shuffle.runtime_filter).map(|rows| KeyFilters::summarizing(rows, first.tasks()));
        let first =
            self.hash_with(first, &first_keys, Some(partitions), keep_first, &summarized.clone().unwrap_or_default())?;
        let filter =
            if summarized.is_some() { KeyFilters::filtered_by(self.stages_of(&first)?) } else { KeyFilters::default() };
        let second = self.hash_with(second, &second_keys, Some(partitions), keep_second, &filter)?;
        if shuffle.adaptive {
            self.offer_broadcast(&first, &second, pays_bytes);
        }
        let (left, right) = if right_first { (second, first) } else { (first, second) };
        Ok(self.join_partitions(left, right, parts, order, partitions, rows, bytes)?.likely(likely))
    }

    /// Joins two sides that are partitioned by key.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn join_partitions(
        &mut self,
        left: Rel,
        right: Rel,
        parts: Parts,
        order: &[Side],
        partitions: u32,
        rows: Option<f64>,
        bytes: Option<f64>,
    ) -> Result<Rel> {
        let mut tags = Vec::new();
        for side in order {
            let rel = if *side == Side::Left { &left } else { &right };
            tags.extend(rel.tags().iter().cloned());
        }
        let root = self.put_join(left.root(), right.root(), &parts, &[]);
        let order = if tags.is_empty() { Order::Free } else { Order::Tags { columns: tags, local: false } };
        let rel = Rel::new(root, Width::Many(partitions), order).sized(rows, bytes);
        Ok(self.project(rel, &parts.names))
    }

    /// Puts the join node; it keeps order by itself only where the caller relies on that.
    pub(crate) fn put_join(&mut self, left: Node, right: Node, parts: &Parts, order: &[Side]) -> Node {
        let mut options = (*parts.options).clone();
        if !matches!(options.args.how, JoinType::AsOf(_)) {
            options.args.maintain_order = match order {
                [] => MaintainOrderJoin::None,
                [Side::Left] => MaintainOrderJoin::Left,
                [Side::Right] => MaintainOrderJoin::Right,
                [Side::Left, ..] => MaintainOrderJoin::LeftRight,
                [Side::Right, ..] => MaintainOrderJoin::RightLeft,
            };
        }
        let (left_on, right_on) = (parts.left_on.clone(), parts.right_on.clone());
        let (left, right) = self.as_known(left, right, &parts.by_order);
        let join = self.build(left, |b| b.join(right, left_on, right_on, Arc::new(options)));
        if let Some(decision) = &parts.decision {
            self.decided(join, decision.clone());
        }
        join
    }
}
