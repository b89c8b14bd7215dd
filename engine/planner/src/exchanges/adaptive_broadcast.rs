//! Adaptive broadcast: a hash join becomes a broadcast join when its smaller side, once done, turns out small. The
//! larger side is then not exchanged; the joining stage has a second form that contains the larger side's fragment.

use polars_plan::plans::prune::prune;
use polars_plan::plans::{IR, IRPlan};
use polars_utils::arena::{Arena, Node};

use crate::context::Cx;
use crate::exchanges::runtime_filters::KeyFilters;
use crate::fragment::{Fragment, Tag};
use crate::properties::rel::Rel;
use floe_wire::error::Result;
use floe_wire::facts::{BroadcastBound, RowOrder};
use floe_wire::graph::{AdaptiveForm, Exchange, Leaf, Read};

/// An offer not to exchange the side behind a leaf if the side behind `small` measures at most `bytes`.
#[derive(Clone, Debug)]
pub(crate) struct BroadcastOffer {
    small: Node,
    bytes: u64,
}

impl Cx<'_> {
    /// Offers a broadcast join of two sides that were closed by hash, if the small one measures at most `pays` bytes.
    pub(crate) fn offer_broadcast(&mut self, small: &Rel, large: &Rel, pays: f64) {
        let limit = self.options.broadcast_limit_bytes.min(pays as u64);
        let (leaf, other) = (large.root(), small.root());
        let (Some(Leaf::Exchange { stages: before, .. }), Some(Leaf::Exchange { stages: after, .. })) =
            (self.leaves.get(&other), self.leaves.get(&leaf))
        else {
            return;
        };
        // The larger side waits for the smaller one, so the smaller one's stages must come first.
        let waits = before.iter().max() < after.iter().min();
        if waits && self.closed.contains_key(&leaf) {
            self.offers.insert(leaf, BroadcastOffer { small: other, bytes: limit });
        }
    }

    /// The adaptive form of a stage that is about to be closed.
    pub(crate) fn adaptive_form(
        &mut self,
        root: Node,
        order: RowOrder,
        output: &Exchange,
        tag: Option<&Tag>,
        key_filters: &KeyFilters,
    ) -> Result<Option<Box<AdaptiveForm>>> {
        let mut found = Vec::new();
        self.offered(root, &mut found);
        let [large] = found[..] else { return Ok(None) };
        let (Some(BroadcastOffer { small, bytes }), Some(inner)) =
            (self.offers.remove(&large), self.closed.get(&large).copied())
        else {
            return Ok(None);
        };
        let stages = |node: &Node| match self.leaves.get(node) {
            Some(Leaf::Exchange { stages, .. }) => stages.clone(),
            _ => Vec::new(),
        };
        let (before, after) = (stages(&small), stages(&large));
        let [replaces] = after[..] else { return Ok(None) };
        let bound = BroadcastBound::Measured { limit_bytes: bytes };
        let whole = self.broadcast_leaf(self.schema(small), before.clone(), bound);
        let root = self.graft(root, &[(large, inner), (small, whole)]);
        let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
        self.collect(root, &mut nodes, &mut leaves)?;
        // The larger side's inputs are kept until the join is done, so it may only read base data and broadcasts.
        let light = |leaf: &Leaf| match leaf {
            Leaf::Source { .. } => true,
            Leaf::Exchange { read, .. } => *read == Read::All,
        };
        if !leaves.iter().all(light) || !leaves.iter().any(|leaf| matches!(leaf, Leaf::Source { .. })) {
            return Ok(None);
        }
        let (mut lp_arena, mut expr_arena) = (Arena::new(), Arena::new());
        let roots = prune(&[root], &self.ir, &self.ex, &mut lp_arena, &mut expr_arena);
        let mut plan = IRPlan { lp_top: roots[0], lp_arena, expr_arena };
        crate::inputs::leaves::drop_metadata(&mut plan);
        let mut explain = crate::explain::describe(&plan, &leaves);
        let label = crate::walk::label(&nodes.iter().map(|n| self.ir.get(*n)).collect::<Vec<_>>(), &leaves);
        let (summary, filters) = self.summary_and_filters(root, key_filters, output, &mut leaves, &mut explain);
        let tasks = leaves.iter().find_map(|leaf| match leaf {
            Leaf::Source { per_task, .. } => Some(per_task.len() as u32),
            Leaf::Exchange { .. } => None,
        });
        let facts = self.facts(root, &nodes, tasks.unwrap_or(1), order, tag, &summary, &filters);
        let fragment = Fragment { plan, placeholders: true, tag: tag.cloned(), summary, filters }.pack()?;
        Ok(Some(Box::new(AdaptiveForm { small: before, bytes, replaces, label, fragment, explain, leaves, facts })))
    }

    fn offered(&self, node: Node, found: &mut Vec<Node>) {
        if self.offers.contains_key(&node) {
            found.push(node);
        }
        self.ir.get(node).inputs().for_each(|input| self.offered(input, found));
    }

    /// Copies the tree below a node, replacing some of its nodes.
    fn graft(&mut self, node: Node, places: &[(Node, Node)]) -> Node {
        if let Some((_, new)) = places.iter().find(|(old, _)| *old == node) {
            return *new;
        }
        let inputs: Vec<Node> = self.ir.get(node).inputs().collect();
        let grafted: Vec<Node> = inputs.iter().map(|input| self.graft(*input, places)).collect();
        if grafted == inputs {
            return node;
        }
        let ir: IR = self.ir.get(node).clone().with_inputs(grafted);
        let copied = self.ir.add(ir);
        if self.partial.contains(&node) {
            self.partial.insert(copied);
        }
        copied
    }
}
