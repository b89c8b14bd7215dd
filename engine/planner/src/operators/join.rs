//! Distributes joins: a small side is broadcast, else both sides are partitioned by hash of the keys; cross and
//! inequality joins broadcast one side.

use std::sync::Arc;

use polars_core::frame::UniqueKeepStrategy;
use polars_core::prelude::*;
use polars_ops::frame::{JoinArgs, JoinType, MaintainOrderJoin};
use polars_plan::dsl::JoinOptionsIR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{IR, ToFieldContext};
use polars_plan::prelude::DistinctOptionsIR;
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::operators::asof::ByOrder;
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Rel};
use crate::strategies::{EquiFacts, Limits, PairFacts, Side, Strategy, choose_equi, choose_pairs};
use floe_wire::error::{QueryError, Result};
use floe_wire::facts::{BroadcastBound, JoinDecision};

/// The sides whose order a join promises by its `maintain_order`, most important first.
fn promised(order: MaintainOrderJoin) -> &'static [Side] {
    match order {
        MaintainOrderJoin::None => &[],
        MaintainOrderJoin::Left => &[Side::Left],
        MaintainOrderJoin::Right => &[Side::Right],
        MaintainOrderJoin::LeftRight => &[Side::Left, Side::Right],
        MaintainOrderJoin::RightLeft => &[Side::Right, Side::Left],
    }
}

pub(crate) struct Parts {
    pub left_on: Vec<ExprIR>,
    pub right_on: Vec<ExprIR>,
    pub options: Arc<JoinOptionsIR>,
    pub names: Vec<PlSmallStr>,
    /// For an as-of join: the known order of its `by` keys.
    pub by_order: ByOrder,
    /// Why the join is done this way; none for a join that the planner added.
    pub decision: Option<JoinDecision>,
}

impl Cx<'_> {
    pub fn join(&mut self, node: Node) -> Result<Rel> {
        let IR::Join { input_left, input_right, schema, left_on, right_on, options } = self.ir.get(node).clone() else {
            return self.alone(node, "not a join");
        };
        let slice = options.args.slice;
        let options =
            Arc::new(JoinOptionsIR { args: JoinArgs { slice: None, ..options.args.clone() }, ..(*options).clone() });
        let names = schema.iter_names().cloned().collect();
        let by_order = ByOrder::NotAsked;
        let parts = Parts { left_on, right_on, options, names, by_order, decision: None };
        let keys_row_wise = parts.left_on.iter().chain(&parts.right_on).all(|e| expr::elementwise(e, &self.ex));
        if !keys_row_wise {
            return self.alone(node, "a join key that is not computed row by row");
        }
        let (left, right) = (self.walk(input_left)?, self.walk(input_right)?);
        let rel = match parts.options.args.how.clone() {
            JoinType::AsOf(asof) => self.asof(node, (input_left, input_right), left, right, parts, &asof)?,
            JoinType::Cross | JoinType::IEJoin | JoinType::Range => self.all_pairs(node, left, right, parts)?,
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full | JoinType::Semi | JoinType::Anti => {
                self.equi(node, left, right, parts)?
            }
        };
        match slice {
            Some((offset, len)) => self.slice(rel, offset, len),
            None => Ok(rel),
        }
    }

    /// Whether the order is observed: the join's own slice observes it, even if nothing after it does.
    pub(crate) fn order_seen(&self, node: Node) -> bool {
        let sliced = matches!(self.ir.get(node), IR::Join { options, .. } if options.args.slice.is_some());
        sliced || self.order_out(node)
    }

    pub(crate) fn join_alone(&mut self, node: Node, left: Rel, right: Rel, reason: &str) -> Result<Rel> {
        let (left, right) = (self.gather(left)?, self.gather(right)?);
        let rel = self.on_one(node, vec![left, right], reason);
        // The caller applies the slice, whatever the strategy.
        if let IR::Join { options, .. } = self.ir.get_mut(rel.root()) {
            let args = JoinArgs { slice: None, ..options.args.clone() };
            *options = Arc::new(JoinOptionsIR { args, ..(**options).clone() });
        }
        Ok(rel)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            workers: self.options.workers,
            broadcast_limit_bytes: self.options.broadcast_limit_bytes as f64,
            partition_bytes: self.options.partition_bytes as f64,
            adaptive: self.options.adaptive,
            runtime_filters: self.options.runtime_filters,
        }
    }

    /// Describes a join by its kind and keys.
    pub(crate) fn described(&self, node: Node) -> String {
        let ir = self.ir.get(node);
        let name = crate::walk::node_name(ir);
        let IR::Join { left_on, right_on, .. } = ir else { return name };
        let shown = |e: &ExprIR| crate::walk::show(e, &self.ex);
        let pair = |(l, r): (&ExprIR, &ExprIR)| match (shown(l), shown(r)) {
            (l, r) if l == r => l,
            (l, r) => format!("{l} = {r}"),
        };
        let keys: Vec<String> = left_on.iter().zip(right_on).map(pair).collect();
        if keys.is_empty() { name } else { format!("{name} on {}", keys.join(", ")) }
    }

    fn equi(&mut self, node: Node, left: Rel, right: Rel, mut parts: Parts) -> Result<Rel> {
        let args = parts.options.args.clone();
        let order = if self.order_seen(node) { promised(args.maintain_order) } else { &[] };
        let same_key_types = self.same_key_types(&left, &right, &parts)?;
        let as_left_join = args.validation.needs_checks() && args.how == JoinType::Inner && parts.left_on.len() > 1;
        let (left, right, colocated) = match order {
            [] if same_key_types && !as_left_join => {
                match self.side_by_side(&left, &right, &parts.left_on, &parts.right_on)? {
                    Some((left, right)) => (left, right, true),
                    None => (left, right, false),
                }
            }
            _ => (left, right, false),
        };
        let choose = |cx: &Self, left: &Rel, right: &Rel, colocated: bool, keys_were_sent: bool| {
            let partitions = cx.partitions(left).max(cx.partitions(right));
            let (left, right) = (left.size(), right.size());
            let args = &args;
            let facts = EquiFacts { args, left, right, order, same_key_types, colocated, keys_were_sent, partitions };
            choose_equi(&facts, &cx.limits())
        };
        let join = self.described(node);
        let mut choice = choose(self, &left, &right, colocated, false);
        let (left, right, mut parts) = if choice.strategy == Strategy::SendKeys {
            parts.decision = Some(choice.decision(&join));
            let (left, right, parts) = self.keys_sent(left, right, parts)?;
            choice = choose(self, &left, &right, false, true);
            (left, right, parts)
        } else {
            (left, right, parts)
        };
        let decision = choice.decision(&join);
        match choice.strategy {
            Strategy::SingleWorker => {
                let rel = self.join_alone(node, left, right, &choice.reason)?;
                self.decided(rel.root(), decision);
                return Ok(rel);
            }
            _ => parts.decision = Some(decision),
        }
        match choice.strategy {
            Strategy::Colocated => self.colocated_join(left, right, parts),
            Strategy::Broadcast(Side::Left) => {
                let bound = self.estimated(&left);
                self.broadcast_join(right, left, Side::Right, parts, order, bound)
            }
            Strategy::Broadcast(Side::Right) => {
                let bound = self.estimated(&right);
                self.broadcast_join(left, right, Side::Left, parts, order, bound)
            }
            Strategy::Shuffle(_) if as_left_join => self.validated_join(left, right, parts, order),
            Strategy::Shuffle(shuffle) => self.hash_join(left, right, parts, order, shuffle),
            Strategy::SendKeys | Strategy::Halo | Strategy::SingleWorker => {
                Err(QueryError::internal(format!("{join} was to be done in a way that it has not")))
            }
        }
    }

    /// Semi-join reduction of a semi or anti join: broadcasts the small left side to the tasks of the large right one,
    /// each of which looks up its keys there and sends back those that match, once each.
    fn keys_sent(&mut self, left: Rel, right: Rel, mut parts: Parts) -> Result<(Rel, Rel, Parts)> {
        let left = self.keep(left)?;
        let bound = self.estimated(&left);
        let stages = self.stages_of(&left)?;
        let right = self.unordered(right);
        let (right, mut keys) = self.as_columns(right, &parts.right_on);
        let schema = self.rel_schema(&left);
        let mut options = (*parts.options).clone();
        options.args.how = JoinType::Semi;
        options.args.maintain_order = MaintainOrderJoin::None;
        let decision = parts.decision.take();
        let (left_on, right_on) =
            (parts.left_on.clone(), keys.iter().map(|key| expr::col(key, &mut self.ex)).collect::<Vec<_>>());
        let options = Arc::new(options);
        let right = self.put(right, Effect::RowByRow(Names::Same), |cx, root| {
            let leaf = cx.broadcast_leaf(schema.clone(), stages.clone(), bound);
            let (left_on, right_on, options) = (left_on.clone(), right_on.clone(), options.clone());
            let join = cx.build(root, |b| b.join(leaf, right_on, left_on, options));
            if let Some(decision) = decision.clone() {
                cx.decided(join, decision);
            }
            join
        });
        keys.sort_unstable();
        keys.dedup();
        let right = self.project(right, &keys);
        let once = DistinctOptionsIR {
            subset: None,
            maintain_order: false,
            keep_strategy: UniqueKeepStrategy::Any,
            slice: None,
        };
        let effect = Effect::WithinTask(Names::Same);
        let right = self.put(right, effect, |cx, root| cx.ir.add(IR::Distinct { input: root, options: once.clone() }));
        let right = self.in_part(right);
        let bytes = left.bytes().zip(right.bytes()).map_or(left.bytes(), |(l, r)| Some(l.min(r)));
        parts.right_on = right_on;
        Ok((left, right.scattered().sized(None, bytes), parts))
    }

    fn same_key_types(&mut self, left: &Rel, right: &Rel, parts: &Parts) -> Result<bool> {
        let (ls, rs) = (self.rel_schema(left), self.rel_schema(right));
        let dtype =
            |e: &ExprIR, schema: &Schema| self.ex.get(e.node()).to_dtype(&ToFieldContext::new(&self.ex, schema));
        for (l, r) in parts.left_on.iter().zip(&parts.right_on) {
            let l = dtype(l, &ls).map_err(floe_polars::polars_error)?;
            let r = dtype(r, &rs).map_err(floe_polars::polars_error)?;
            if expr::portable_dtype(&l) != expr::portable_dtype(&r) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Distributes cross and inequality joins.
    fn all_pairs(&mut self, node: Node, left: Rel, right: Rel, parts: Parts) -> Result<Rel> {
        let order = if self.order_seen(node) { promised(parts.options.args.maintain_order) } else { &[] };
        let facts = PairFacts { left: left.size(), right: right.size(), order };
        let choice = choose_pairs(&facts, &self.limits());
        let decision = choice.decision(&self.described(node));
        let parts = Parts { decision: Some(decision.clone()), ..parts };
        match choice.strategy {
            Strategy::Broadcast(Side::Left) => {
                self.broadcast_join(right, left, Side::Right, parts, order, BroadcastBound::OnlyForm)
            }
            Strategy::Broadcast(Side::Right) => {
                self.broadcast_join(left, right, Side::Left, parts, order, BroadcastBound::OnlyForm)
            }
            _ => {
                let rel = self.join_alone(node, left, right, &choice.reason)?;
                self.decided(rel.root(), decision);
                Ok(rel)
            }
        }
    }
}
