//! Joins: a small side is sent whole to every task of the other, else rows with equal keys meet by hash; cross and inequality joins send one side whole.

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

use super::context::Cx;
use super::expr;
use super::keys::Beside;
use super::rel::{Branch, Order, Rel, Width};
use crate::error::Result;
use crate::graph::{Exchange, Read};

/// Every task builds a table of the side that is sent whole: it shall have so many times the bytes to look up in it.
const LOOKED_UP: f64 = 4.0;

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
    fn may_lose_unmatched(self, args: &JoinArgs) -> bool {
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
fn may_send(side: Side, how: &JoinType) -> bool {
    match side {
        Side::Left => matches!(how, JoinType::Inner | JoinType::Right),
        Side::Right => matches!(how, JoinType::Inner | JoinType::Left | JoinType::Semi | JoinType::Anti),
    }
}

/// What filters of both sides leave of the matches: of those of a fact and its dimension, the one and the other.
fn likely_joined(left: &Rel, right: &Rel, parts: &Parts) -> f64 {
    match parts.options.args.how {
        JoinType::Inner | JoinType::Semi | JoinType::Cross => left.likely * right.likely,
        JoinType::Left | JoinType::Anti => left.likely,
        JoinType::Right => right.likely,
        _ => left.likely.max(right.likely),
    }
}

pub(super) struct Parts {
    pub left_on: Vec<ExprIR>,
    right_on: Vec<ExprIR>,
    options: Arc<JoinOptionsIR>,
    pub names: Vec<PlSmallStr>,
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
        let parts = Parts { left_on, right_on, options, names };
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
        if let IR::Join { options, .. } = self.ir.get_mut(rel.branches[0].root) {
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
        let (left, right) = match order {
            [] => match self.side_by_side(&left, &right, &parts.left_on, &parts.right_on)? {
                Some((left, right)) => return self.in_place(left, right, parts),
                None => (left, right),
            },
            _ => (left, right),
        };
        let limit = self.options.broadcast_limit_bytes as f64;
        let small = |rel: &Rel| rel.bytes.is_some_and(|b| b <= limit);
        // Looking many keys up among few is cheaper than having every worker build a table of the many.
        let much_smaller = |a: &Rel, b: &Rel| {
            a.bytes.zip(b.bytes).is_some_and(|(a, b)| a * 4.0 <= b && b > self.options.partition_bytes as f64 / 16.0)
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
        let smaller_left = left.bytes.zip(right.bytes).is_some_and(|(l, r)| l < r);
        // Where the other side is likely to be much smaller in the end, its measured size decides.
        let (right_whole, left_whole) = match order {
            [] if !checked => (
                right_whole && !(may_send(Side::Left, &how) && self.likely_fewer(&left, &right)),
                left_whole && !(may_send(Side::Right, &how) && self.likely_fewer(&right, &left)),
            ),
            _ => (right_whole, left_whole),
        };
        let rel = if left_whole && (smaller_left || !right_whole) && !right.is_one() {
            self.whole_side(right, left, Side::Right, parts, order)?
        } else if right_whole && !left.is_one() {
            self.whole_side(left, right, Side::Left, parts, order)?
        } else {
            self.by_hash(left, right, parts, order)?
        };
        Ok(rel)
    }

    /// Up to how many bytes a side pays to be sent whole to the tasks of the other, each of which builds its table anew:
    /// beyond, it is cheaper to exchange both.
    pub(super) fn pays_whole(&self, kept: &Rel) -> f64 {
        let tasks = f64::from(kept.tasks().max(self.options.workers));
        match kept.bytes {
            Some(bytes) if tasks > 3.0 => 3.0 * bytes / (tasks - 3.0),
            _ => f64::INFINITY,
        }
    }

    fn worth(&self, sent: &Rel, kept: &Rel) -> bool {
        sent.bytes.is_none_or(|bytes| bytes <= self.pays_whole(kept))
    }

    /// A semi or anti join of a small side with a large one asks only which of the small side's keys the large one has:
    /// every task of the large side looks its own up among them and sends on what it found, once each.
    fn narrowed(&mut self, left: Rel, right: Rel, mut parts: Parts) -> Result<(Rel, Rel, Parts)> {
        let left = self.keep(left)?;
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
        let right = self.put(right, |cx, root| {
            let leaf = cx.exchange_leaf(schema.clone(), stages.clone(), Read::All);
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
        let right = self.put(right, |cx, root| cx.ir.add(IR::Distinct { input: root, options: once.clone() }));
        let bytes = left.bytes.zip(right.bytes).map_or(left.bytes, |(l, r)| Some(l.min(r)));
        parts.right_on = right_on;
        Ok((left, Rel { bytes, rows: None, ..right.scattered() }, parts))
    }

    /// Every row of `rows` with the one row of `one`.
    pub(super) fn beside(&mut self, rows: Rel, one: Rel, options: Arc<JoinOptionsIR>) -> Result<Rel> {
        let names: Vec<PlSmallStr> = {
            let (left, right) = (self.rel_schema(&rows), self.rel_schema(&one));
            let tags = rows.tags();
            left.iter_names().filter(|name| !tags.contains(name)).chain(right.iter_names()).cloned().collect()
        };
        let parts = Parts { left_on: Vec::new(), right_on: Vec::new(), options, names };
        let order: &[Side] = if rows.order == Order::Free { &[] } else { &[Side::Left] };
        self.whole_side(rows, one, Side::Left, parts, order)
    }

    /// Both sides are cut at the same keys.
    fn in_place(&mut self, left: Rel, right: Rel, parts: Parts) -> Result<Rel> {
        let Width::Many(tasks) = left.branches[0].width else {
            return Err(crate::error::QueryError::internal("a relation cut by ranges is in one task"));
        };
        let how = parts.options.args.how.clone();
        let names = parts.names.clone();
        let ranged = left.ranged.clone();
        let (rows, bytes) =
            (left.rows.zip(right.rows).map(|(l, r)| l.max(r)), left.bytes.zip(right.bytes).map(|(l, r)| l + r));
        let (left, right) = (self.unordered(left), self.unordered(right));
        let likely = likely_joined(&left, &right, &parts);
        let mut rel = Rel { likely, ..self.meet(left, right, parts, &[], tasks, rows, bytes)? };
        // Rows of the right side alone have no key in the left one's columns.
        if matches!(how, JoinType::Inner | JoinType::Left | JoinType::Semi | JoinType::Anti) {
            rel.ranged = ranged;
        }
        Ok(rel.renamed(|name| names.contains(name).then(|| name.clone())))
    }

    fn same_key_types(&mut self, left: &Rel, right: &Rel, parts: &Parts) -> Result<bool> {
        let (ls, rs) = (self.rel_schema(left), self.rel_schema(right));
        let dtype =
            |e: &ExprIR, schema: &Schema| self.ex.get(e.node()).to_dtype(&ToFieldContext::new(&self.ex, schema));
        for (l, r) in parts.left_on.iter().zip(&parts.right_on) {
            let l = dtype(l, &ls).map_err(crate::plan::polars_error)?;
            let r = dtype(r, &rs).map_err(crate::plan::polars_error)?;
            if expr::portable_dtype(&l) != expr::portable_dtype(&r) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `kept` stays where it is, every task of it reads the whole of `sent`.
    pub(super) fn whole_side(&mut self, kept: Rel, sent: Rel, side: Side, parts: Parts, order: &[Side]) -> Result<Rel> {
        let kept = match kept.bytes.zip(sent.bytes) {
            Some((many, few)) => {
                self.coarser(kept, ((many / (few * LOOKED_UP)) as usize).max(2 * self.options.workers as usize))?
            }
            None => kept,
        };
        let wanted = !order.is_empty();
        let searched = matches!(parts.options.args.how, JoinType::AsOf(_));
        let kept = if wanted || searched { kept } else { self.unordered(kept) };
        let sent = if order.len() == 2 || searched { self.in_order(sent)? } else { self.unordered(sent) };
        let schema = self.rel_schema(&sent);
        let (rows, bytes) = (kept.rows, kept.bytes.zip(sent.bytes).map(|(k, s)| k + s.min(k)));
        let likely =
            if side == Side::Left { likely_joined(&kept, &sent, &parts) } else { likely_joined(&sent, &kept, &parts) };
        let stages = self.close(&sent, Exchange::Whole, None)?;
        // Several matches of one row would share its tags: their places in the other side tell them apart.
        let place = (order.len() == 2 && !kept.tags().is_empty()).then(|| self.name("ord"));
        let mut out = kept.clone();
        for branch in &mut out.branches {
            let mut leaf = self.exchange_leaf(schema.clone(), stages.clone(), Read::All);
            if let Some(place) = &place {
                leaf = self.build(leaf, |b| b.row_index(place.clone(), None));
            }
            let (l, r) = if side == Side::Left { (branch.root, leaf) } else { (leaf, branch.root) };
            branch.root = self.put_join(l, r, &parts, order);
        }
        if let (Some(place), Order::Tags { columns, .. }) = (place, &mut out.order) {
            columns.push(place);
        }
        out.hashed = None;
        let others = schema.clone();
        let names = &parts.names;
        // A column of the right side goes on under another name where the left one has it too.
        out = out.renamed(|name| {
            let same = names.contains(name) && (side == Side::Left || !others.contains(name));
            same.then(|| name.clone())
        });
        (out.rows, out.bytes, out.likely) = (rows, bytes, likely);
        if !wanted {
            out = self.unordered(out);
        }
        Ok(self.project(out, &parts.names))
    }

    fn by_hash(&mut self, left: Rel, right: Rel, parts: Parts, order: &[Side]) -> Result<Rel> {
        let partitions = self.partitions(&left).max(self.partitions(&right));
        let (left, lk) = self.as_columns(left, &parts.left_on);
        let (right, rk) = self.as_columns(right, &parts.right_on);
        let (rows, bytes) =
            (left.rows.zip(right.rows).map(|(l, r)| l.max(r)), left.bytes.zip(right.bytes).map(|(l, r)| l + r));
        let (keep_left, keep_right) = (order.contains(&Side::Left), order.contains(&Side::Right));
        let args = &parts.options.args;
        let notes_of_left = self.filter_pays(&left, &right).filter(|_| Side::Right.may_lose_unmatched(args));
        let notes_of_right = self.filter_pays(&right, &left).filter(|_| Side::Left.may_lose_unmatched(args));
        let may_switch = order.is_empty() && !args.validation.needs_checks();
        let left_whole = may_switch && may_send(Side::Left, &args.how) && self.switch_pays(&left, &right);
        let right_whole = may_switch && may_send(Side::Right, &args.how) && self.switch_pays(&right, &left);
        let likely = likely_joined(&left, &right, &parts);
        // The side that the other one waits for comes first.
        let right_first = notes_of_right.is_some() || right_whole;
        let notes = if right_first { notes_of_right } else { notes_of_left };
        let whole = if right_first { right_whole } else { left_whole };
        let mut sides = [(left, lk, keep_left), (right, rk, keep_right)];
        if right_first {
            sides.reverse();
        }
        let [(first, first_keys, keep_first), (second, second_keys, keep_second)] = sides;
        let pays = self.pays_whole(&second);
        let first = self.hash_with(
            first,
            &first_keys,
            Some(partitions),
            keep_first,
            notes.as_ref().unwrap_or(&Beside::default()),
        )?;
        let filter = if notes.is_some() { Beside::filtered_by(self.stages_of(&first)?) } else { Beside::default() };
        let second = self.hash_with(second, &second_keys, Some(partitions), keep_second, &filter)?;
        if whole {
            self.switch(&first, &second, pays);
        }
        let (left, right) = if right_first { (second, first) } else { (first, second) };
        Ok(Rel { likely, ..self.meet(left, right, parts, order, partitions, rows, bytes)? })
    }

    /// Both sides are in tasks by key: join them there.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn meet(
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
        let root = self.put_join(left.branches[0].root, right.branches[0].root, &parts, &[]);
        let order = if tags.is_empty() { Order::Free } else { Order::Tags { columns: tags, local: false } };
        let branches = vec![Branch { root, width: Width::Many(partitions) }];
        let rel = Rel { rows, bytes, ..Rel::of(branches, order) };
        Ok(self.project(rel, &parts.names))
    }

    /// The join node; it keeps order by itself only where the caller relies on that.
    pub(super) fn put_join(&mut self, left: Node, right: Node, parts: &Parts, order: &[Side]) -> Node {
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
        self.build(left, |b| b.join(right, left_on, right_on, Arc::new(options)))
    }

    /// Cross and inequality joins.
    fn all_pairs(&mut self, node: Node, left: Rel, right: Rel, parts: Parts) -> Result<Rel> {
        let order = if self.order_seen(node) { promised(parts.options.args.maintain_order) } else { &[] };
        let larger_right = left.bytes.zip(right.bytes).is_some_and(|(l, r)| l < r);
        let keep_right = match order {
            [] => (larger_right || left.is_one()) && !right.is_one(),
            [Side::Right, ..] => true,
            [Side::Left, ..] => false,
        };
        if left.is_one() && right.is_one() {
            return self.join_alone(node, left, right, "both sides are in one task already");
        }
        if keep_right {
            self.whole_side(right, left, Side::Right, parts, order)
        } else {
            self.whole_side(left, right, Side::Left, parts, order)
        }
    }
}
