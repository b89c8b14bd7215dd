//! Joins, and which way each is done: a small side is sent whole to every task of the other, else rows with equal keys
//! meet by hash; cross and inequality joins send one side whole.

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

use super::asof::ByOrder;
use super::context::Cx;
use super::expr;
use super::rel::{Effect, Names, Rel};
use floe_wire::error::Result;
use floe_wire::facts::BroadcastBound;

/// What the join promises about order, by its `maintain_order`: the sides whose order counts, most important first.
fn promised(order: MaintainOrderJoin) -> &'static [Side] {
    match order {
        MaintainOrderJoin::None => &[],
        MaintainOrderJoin::Left => &[Side::Left],
        MaintainOrderJoin::Right => &[Side::Right],
        MaintainOrderJoin::LeftRight => &[Side::Left, Side::Right],
        MaintainOrderJoin::RightLeft => &[Side::Right, Side::Left],
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Side {
    /// Whether rows of this side that match nothing change neither the result nor an error.
    pub fn may_lose_unmatched(self, args: &JoinArgs) -> bool {
        let loses = match args.how {
            JoinType::Inner | JoinType::Semi => true,
            JoinType::Left | JoinType::Anti => self == Side::Right,
            JoinType::Right => self == Side::Left,
            _ => false,
        };
        loses && !args.validation.needs_checks()
    }
}

/// Whether a side can go whole to every task of the other: its rows that match nothing are not in the result.
pub(super) fn may_send(side: Side, how: &JoinType) -> bool {
    match side {
        Side::Left => matches!(how, JoinType::Inner | JoinType::Right),
        Side::Right => matches!(how, JoinType::Inner | JoinType::Left | JoinType::Semi | JoinType::Anti),
    }
}

pub(super) struct Parts {
    pub left_on: Vec<ExprIR>,
    pub right_on: Vec<ExprIR>,
    pub options: Arc<JoinOptionsIR>,
    pub names: Vec<PlSmallStr>,
    /// Of an as-of join.
    pub by_order: ByOrder,
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
        let parts = Parts { left_on, right_on, options, names, by_order: ByOrder::NotAsked };
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

    /// A slice of its own sees the order, whoever looks at it afterwards.
    pub(super) fn order_seen(&self, node: Node) -> bool {
        let sliced = matches!(self.ir.get(node), IR::Join { options, .. } if options.args.slice.is_some());
        sliced || self.order_out(node)
    }

    pub(super) fn join_alone(&mut self, node: Node, left: Rel, right: Rel, reason: &str) -> Result<Rel> {
        let (left, right) = (self.gather(left)?, self.gather(right)?);
        let rel = self.on_one(node, vec![left, right], reason);
        // The caller slices, however the join is done.
        if let IR::Join { options, .. } = self.ir.get_mut(rel.root()) {
            let args = JoinArgs { slice: None, ..options.args.clone() };
            *options = Arc::new(JoinOptionsIR { args, ..(**options).clone() });
        }
        Ok(rel)
    }

    fn equi(&mut self, node: Node, left: Rel, right: Rel, parts: Parts) -> Result<Rel> {
        let args = &parts.options.args;
        let how = args.how.clone();
        let order = if self.order_seen(node) { promised(args.maintain_order) } else { &[] };
        if !self.same_key_types(&left, &right, &parts)? {
            return self.join_alone(node, left, right, "join keys of different types");
        }
        let checked = args.validation.needs_checks();
        if checked && how == JoinType::Inner && parts.left_on.len() > 1 {
            return self.checked(left, right, parts, order);
        }
        let (left, right) = match order {
            [] => match self.side_by_side(&left, &right, &parts.left_on, &parts.right_on)? {
                Some((left, right)) => return self.in_place(left, right, parts),
                None => (left, right),
            },
            _ => (left, right),
        };
        let limit = self.options.broadcast_limit_bytes as f64;
        let small = |rel: &Rel| rel.bytes().is_some_and(|b| b <= limit);
        // Looking many keys up among few is cheaper than having every worker build a table of the many.
        let much_smaller = |a: &Rel, b: &Rel| {
            a.bytes()
                .zip(b.bytes())
                .is_some_and(|(a, b)| a * 4.0 <= b && b > self.options.partition_bytes as f64 / 16.0)
        };
        let (left, right, parts) = if matches!(how, JoinType::Semi | JoinType::Anti)
            && small(&left)
            && (!small(&right) || much_smaller(&left, &right))
            && !checked
            && !right.is_one()
            && self.options.runtime_filters
        {
            self.narrowed(left, right, parts)?
        } else {
            (left, right, parts)
        };
        let order_allows = |kept: Side| order.iter().all(|s| *s == kept);
        let right_whole = may_send(Side::Right, &how)
            && !checked
            && small(&right)
            && self.worth(&right, &left)
            && (order_allows(Side::Left) || order == [Side::Left, Side::Right]);
        let left_whole = may_send(Side::Left, &how)
            && !checked
            && small(&left)
            && self.worth(&left, &right)
            && (order_allows(Side::Right) || order == [Side::Right, Side::Left]);
        let smaller_left = left.bytes().zip(right.bytes()).is_some_and(|(l, r)| l < r);
        // Where the other side is likely to be much smaller in the end, its measured size decides.
        let (right_whole, left_whole) = match order {
            [] if !checked => (
                right_whole && !(may_send(Side::Left, &how) && self.likely_fewer(&left, &right)),
                left_whole && !(may_send(Side::Right, &how) && self.likely_fewer(&right, &left)),
            ),
            _ => (right_whole, left_whole),
        };
        let rel = if left_whole && (smaller_left || !right_whole) && !right.is_one() {
            let bound = self.estimated(&left);
            self.whole_side(right, left, Side::Right, parts, order, bound)?
        } else if right_whole && !left.is_one() {
            let bound = self.estimated(&right);
            self.whole_side(left, right, Side::Left, parts, order, bound)?
        } else {
            self.by_hash(left, right, parts, order)?
        };
        Ok(rel)
    }

    /// Up to how many bytes a side pays to be sent whole to the tasks of the other, each of which builds its table anew:
    /// beyond, it is cheaper to exchange both.
    pub(super) fn pays_whole(&self, kept: &Rel) -> f64 {
        let tasks = f64::from(kept.tasks().max(self.options.workers));
        match kept.bytes() {
            Some(bytes) if tasks > 3.0 => 3.0 * bytes / (tasks - 3.0),
            _ => f64::INFINITY,
        }
    }

    fn worth(&self, sent: &Rel, kept: &Rel) -> bool {
        sent.bytes().is_none_or(|bytes| bytes <= self.pays_whole(kept))
    }

    /// A semi or anti join of a small side with a large one asks only which of the small side's keys the large one has:
    /// every task of the large side looks its own up among them and sends on what it found, once each.
    fn narrowed(&mut self, left: Rel, right: Rel, mut parts: Parts) -> Result<(Rel, Rel, Parts)> {
        let left = self.keep(left)?;
        let bound = self.estimated(&left);
        let stages = self.stages_of(&left)?;
        let right = self.unordered(right);
        let (right, mut keys) = self.as_columns(right, &parts.right_on);
        let schema = self.rel_schema(&left);
        let mut options = (*parts.options).clone();
        options.args.how = JoinType::Semi;
        options.args.maintain_order = MaintainOrderJoin::None;
        let (left_on, right_on) =
            (parts.left_on.clone(), keys.iter().map(|key| expr::col(key, &mut self.ex)).collect::<Vec<_>>());
        let options = Arc::new(options);
        let right = self.put(right, Effect::RowByRow(Names::Same), |cx, root| {
            let leaf = cx.broadcast_leaf(schema.clone(), stages.clone(), bound);
            let (left_on, right_on, options) = (left_on.clone(), right_on.clone(), options.clone());
            cx.build(root, |b| b.join(leaf, right_on, left_on, options))
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

    /// Cross and inequality joins.
    fn all_pairs(&mut self, node: Node, left: Rel, right: Rel, parts: Parts) -> Result<Rel> {
        let order = if self.order_seen(node) { promised(parts.options.args.maintain_order) } else { &[] };
        let larger_right = left.bytes().zip(right.bytes()).is_some_and(|(l, r)| l < r);
        let keep_right = match order {
            [] => (larger_right || left.is_one()) && !right.is_one(),
            [Side::Right, ..] => true,
            [Side::Left, ..] => false,
        };
        if left.is_one() && right.is_one() {
            return self.join_alone(node, left, right, "both sides are in one task already");
        }
        if keep_right {
            self.whole_side(right, left, Side::Right, parts, order, BroadcastBound::OnlyForm)
        } else {
            self.whole_side(left, right, Side::Left, parts, order, BroadcastBound::OnlyForm)
        }
    }
}
