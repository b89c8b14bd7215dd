//! A join by hash that becomes a broadcast by measured size: when the smaller side is done and turns out small, the larger
//! side is not exchanged. The joining stage has a second form for that, with the larger side's fragment in it.

use polars_plan::plans::prune::prune;
use polars_plan::plans::{IR, IRPlan};
use polars_utils::arena::{Arena, Node};

use super::context::Cx;
use super::fragment::{Fragment, Tag};
use super::keys::Beside;
use super::rel::Rel;
use floe_wire::error::Result;
use floe_wire::facts::{BroadcastBound, RowOrder};
use floe_wire::graph::{Exchange, Instead, Leaf, Read};

/// The side behind a leaf is not exchanged if the other one is small.
#[derive(Clone, Debug)]
pub(super) struct Switch {
    small: Node,
    bytes: u64,
}

impl Cx<'_> {
    /// Two sides that were closed by hash may be joined in another way, if that pays for the measured size.
    pub(super) fn switch(&mut self, small: &Rel, large: &Rel, pays: f64) {
        let limit = self.options.broadcast_limit_bytes.min(pays as u64);
        let (leaf, other) = (large.root(), small.root());
        let (Some(Leaf::Exchange { stages: before, .. }), Some(Leaf::Exchange { stages: after, .. })) =
            (self.leaves.get(&other), self.leaves.get(&leaf))
        else {
            return;
        };
        // The larger side waits for the smaller one, which must stand before it.
        let waits = before.iter().max() < after.iter().min();
        if waits && self.closed.contains_key(&leaf) {
            self.switches.insert(leaf, Switch { small: other, bytes: limit });
        }
    }

    /// The other form of a stage that is about to be closed.
    pub(super) fn instead(
        &mut self,
        root: Node,
        order: RowOrder,
        output: &Exchange,
        tag: Option<&Tag>,
        beside: &Beside,
    ) -> Result<Option<Box<Instead>>> {
        let mut found = Vec::new();
        self.switching(root, &mut found);
        let [large] = found[..] else { return Ok(None) };
        let (Some(Switch { small, bytes }), Some(inner)) =
            (self.switches.remove(&large), self.closed.get(&large).copied())
        else {
            return Ok(None);
        };
        let stages = |node: &Node| match self.leaves.get(node) {
            Some(Leaf::Exchange { stages, .. }) => stages.clone(),
            _ => Vec::new(),
        };
        let (before, after) = (stages(&small), stages(&large));
        let [without] = after[..] else { return Ok(None) };
        let bound = BroadcastBound::Measured { limit_bytes: bytes };
        let whole = self.broadcast_leaf(self.schema(small), before.clone(), bound);
        let root = self.graft(root, &[(large, inner), (small, whole)]);
        let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
        self.collect(root, &mut nodes, &mut leaves)?;
        // What the larger side itself reads is kept until the join is done: no more than base data and what is small.
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
        super::leaves::drop_metadata(&mut plan);
        let mut explain = super::explain::describe(&plan, &leaves);
        let label = super::walk::label(&nodes.iter().map(|n| self.ir.get(*n)).collect::<Vec<_>>(), &leaves);
        let (notes, filters) = self.noted_and_filtered(root, beside, output, &mut leaves, &mut explain);
        let tasks = leaves.iter().find_map(|leaf| match leaf {
            Leaf::Source { per_task, .. } => Some(per_task.len() as u32),
            Leaf::Exchange { .. } => None,
        });
        let facts = self.facts(root, &nodes, tasks.unwrap_or(1), order, tag, &notes, &filters);
        let fragment = Fragment { plan, placeholders: true, tag: tag.cloned(), notes, filters }.pack()?;
        Ok(Some(Box::new(Instead { small: before, bytes, without, label, fragment, explain, leaves, facts })))
    }

    fn switching(&self, node: Node, found: &mut Vec<Node>) {
        if self.switches.contains_key(&node) {
            found.push(node);
        }
        self.ir.get(node).inputs().for_each(|input| self.switching(input, found));
    }

    /// The tree below a node with other nodes in place of some.
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
        self.ir.add(ir)
    }
}
