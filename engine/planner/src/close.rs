//! Closes fragments into stages: one stage per branch of a relation, with its facts, its adaptive form, and the decisions
//! made in it. Goes back to a checkpoint when a way of planning turns out not to work.

use polars_core::prelude::*;
use polars_plan::plans::IRPlan;
use polars_plan::plans::prune::prune;
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::exchanges::runtime_filters::KeyFilters;
use crate::fragment::{Fragment, KeyFilter, SummarySpec, Tag};
use crate::properties::rel::{Branch, Rel};
use floe_wire::error::{QueryError, Result};
use floe_wire::facts::{Column, Grouping, JoinDecision, Placeholder, RowOrder, StageFacts};
use floe_wire::graph::{Exchange, Leaf, SingleWorker, Stage, StageId};

/// A point in planning to return to: the stages closed and decisions made until then.
pub(crate) struct Checkpoint {
    stages: usize,
    single_worker: usize,
    pending_joins: Vec<(Node, JoinDecision)>,
    pending_single: Vec<(Node, String, String)>,
}

impl Cx<'_> {
    /// Closes the fragments of a relation: one stage per branch.
    pub fn close(&mut self, rel: &Rel, output: Exchange, tag: Option<PlSmallStr>) -> Result<Vec<StageId>> {
        self.close_with(rel, output, tag, &KeyFilters::default())
    }

    pub(crate) fn close_with(
        &mut self,
        rel: &Rel,
        output: Exchange,
        tag: Option<PlSmallStr>,
        key_filters: &KeyFilters,
    ) -> Result<Vec<StageId>> {
        let mut ids = Vec::with_capacity(rel.branches().len());
        for (i, branch) in rel.branches().iter().enumerate() {
            let tag = tag.as_ref().map(|t| Tag::new(t.to_string(), i)).transpose()?;
            let id = self.close_branch(branch, rel.row_order(branch), output.clone(), tag, key_filters)?;
            self.graph.stages[id.0 as usize].facts.ranges = rel.key_ranges();
            ids.push(id);
        }
        Ok(ids)
    }

    fn close_branch(
        &mut self,
        branch: &Branch,
        order: RowOrder,
        output: Exchange,
        tag: Option<Tag>,
        key_filters: &KeyFilters,
    ) -> Result<StageId> {
        let id = StageId(self.graph.stages.len() as u32);
        let mut nodes = Vec::new();
        let mut leaves = Vec::new();
        self.collect(branch.root(), &mut nodes, &mut leaves)?;
        let (mut lp_arena, mut expr_arena) = (Arena::new(), Arena::new());
        let roots = prune(&[branch.root()], &self.ir, &self.ex, &mut lp_arena, &mut expr_arena);
        let mut plan = IRPlan { lp_top: roots[0], lp_arena, expr_arena };
        crate::inputs::leaves::drop_metadata(&mut plan);
        let mut explain = crate::explain::describe(&plan, &leaves);
        explain.extend(nodes.iter().filter_map(|node| self.databases.get(node)).flatten().cloned());
        let (summary, filters) =
            self.summary_and_filters(branch.root(), key_filters, &output, &mut leaves, &mut explain);
        let tasks = branch.width().tasks();
        let mut facts = self.facts(branch.root(), &nodes, tasks, order.clone(), tag.as_ref(), &summary, &filters);
        let fragment = Fragment { plan, placeholders: true, tag: tag.clone(), summary, filters }.pack()?;
        let label = crate::walk::label(&nodes.iter().map(|n| self.ir.get(*n)).collect::<Vec<_>>(), &leaves);
        self.note_single(&nodes, id);
        facts.joins = self.joins_of(&nodes);
        let varies = self.varies(branch.root(), tag.as_ref());
        let nondeterminism = varies.nondeterminism(&output);
        if varies.order() {
            self.varying_order.insert(id);
        }
        let adaptive = self.adaptive_form(branch.root(), order, &output, tag.as_ref(), key_filters)?;
        // The adaptive form also does the work of the stage that it replaces.
        let left_out = adaptive.as_ref().and_then(|form| self.graph.stages.get(form.replaces.0 as usize));
        let nondeterminism = nondeterminism.or(left_out.and_then(|stage| stage.nondeterminism));
        let stage = Stage { id, label, fragment, explain, leaves, output, adaptive, nondeterminism, facts };
        self.graph.stages.push(stage);
        Ok(id)
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            stages: self.graph.stages.len(),
            single_worker: self.graph.single_worker.len(),
            pending_joins: self.pending_joins.clone(),
            pending_single: self.pending_single.clone(),
        }
    }

    /// Forgets the stages closed since the checkpoint, which must have no readers, and the decisions made in them.
    pub(crate) fn undo_to(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { stages, single_worker, pending_joins, pending_single } = checkpoint;
        self.graph.stages.truncate(stages);
        self.graph.single_worker.truncate(single_worker);
        self.varying_order.retain(|stage| (stage.0 as usize) < stages);
        self.pending_joins = pending_joins;
        self.pending_single = pending_single;
    }

    /// The facts that the checker needs of a stage whose fragment has these nodes.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn facts(
        &self,
        root: Node,
        nodes: &[Node],
        tasks: u32,
        order: RowOrder,
        tag: Option<&Tag>,
        summary: &Option<SummarySpec>,
        filters: &[KeyFilter],
    ) -> StageFacts {
        let mut columns = columns(&self.schema(root));
        columns.extend(tag.map(|tag| tag_column(&tag.column)));
        let is_leaf = |node: &&Node| self.ir.get(**node).inputs().next().is_none();
        let placeholder = |node: &Node| Placeholder {
            columns: self::columns(&self.schema(*node)),
            bound: self.bounds.get(node).copied(),
            ranges: self.ranges.get(node).cloned(),
        };
        StageFacts {
            columns,
            tasks,
            order,
            placeholders: nodes.iter().filter(is_leaf).map(placeholder).collect(),
            key_summary: summary.as_ref().map(|summary| summary.keys.clone()),
            key_filters: filters.iter().map(|filter| filter.keys.clone()).collect(),
            joins: Vec::new(),
            ranges: None,
            groupings: nodes.iter().filter_map(|node| self.grouping(*node)).collect(),
        }
    }

    fn grouping(&self, node: Node) -> Option<Grouping> {
        let grouping = if self.partial.contains(&node) { Grouping::Partial } else { Grouping::Whole };
        crate::checks::is_grouping(self.ir.get(node)).then_some(grouping)
    }

    fn note_single(&mut self, nodes: &[Node], stage: StageId) {
        let (mine, rest) = std::mem::take(&mut self.pending_single).into_iter().partition(|(n, ..)| nodes.contains(n));
        self.pending_single = rest;
        self.graph.single_worker.extend(
            Vec::<(Node, String, String)>::into_iter(mine).map(|(_, node, reason)| SingleWorker {
                stage,
                node,
                reason,
            }),
        );
    }

    /// Takes the decisions of the joins among these nodes, in the order of the plan.
    fn joins_of(&mut self, nodes: &[Node]) -> Vec<JoinDecision> {
        let (mine, rest) = std::mem::take(&mut self.pending_joins).into_iter().partition(|(n, _)| nodes.contains(n));
        self.pending_joins = rest;
        Vec::<(Node, JoinDecision)>::into_iter(mine).map(|(_, decision)| decision).collect()
    }

    /// Records how a join is done; reported with the stage it ends in.
    pub fn decided(&mut self, node: Node, decision: JoinDecision) {
        self.pending_joins.push((node, decision));
    }

    /// Records why a node runs on one worker; reported with the stage it ends in.
    pub fn single(&mut self, node: Node, reason: impl Into<String>) {
        let name = crate::walk::node_name(self.ir.get(node));
        self.pending_single.push((node, name, reason.into()));
    }

    /// Collects the nodes top down, and what their leaves read, left to right.
    pub(crate) fn collect(&self, node: Node, nodes: &mut Vec<Node>, leaves: &mut Vec<Leaf>) -> Result<()> {
        nodes.push(node);
        let inputs: Vec<Node> = self.ir.get(node).inputs().collect();
        if inputs.is_empty() {
            let leaf = self.leaves.get(&node).cloned();
            leaves.push(leaf.ok_or_else(|| QueryError::internal("a fragment has a leaf without data"))?);
        }
        inputs.into_iter().try_for_each(|n| self.collect(n, nodes, leaves))
    }

    /// Makes the plan below a node one stage that holds its own data.
    pub fn whole_plan_stage(&mut self, root: Node, output: Exchange, reason: &str) -> Result<Vec<StageId>> {
        let id = StageId(self.graph.stages.len() as u32);
        let (mut lp_arena, mut expr_arena) = (Arena::new(), Arena::new());
        let roots = prune(&[root], &self.ir, &self.ex, &mut lp_arena, &mut expr_arena);
        let mut plan = IRPlan { lp_top: roots[0], lp_arena, expr_arena };
        crate::inputs::leaves::drop_metadata(&mut plan);
        let explain = crate::explain::describe_whole(&plan);
        let facts = StageFacts {
            columns: columns(&self.schema(root)),
            tasks: 1,
            order: RowOrder::Promised,
            ..StageFacts::default()
        };
        let fragment = Fragment { plan, placeholders: false, tag: None, summary: None, filters: Vec::new() }.pack()?;
        self.graph.single_worker.push(SingleWorker { stage: id, node: "the whole plan".into(), reason: reason.into() });
        let label = "the whole plan".to_string();
        self.graph.stages.push(Stage {
            id,
            label,
            fragment,
            explain,
            leaves: Vec::new(),
            output,
            adaptive: None,
            // No stage reads its output, so that two versions of it cannot be mixed.
            nondeterminism: None,
            facts,
        });
        Ok(vec![id])
    }
}

/// The columns of a schema as the checker sees them.
pub(crate) fn columns(schema: &Schema) -> Vec<Column> {
    schema.iter().map(|(name, dtype)| Column::new(name.as_str(), shown(dtype))).collect()
}

/// The column of a stage's order tags.
pub(crate) fn tag_column(name: &str) -> Column {
    Column::new(name, shown(&DataType::UInt64))
}

/// Prints a type; two types print alike only if Polars treats them as the same.
fn shown(dtype: &DataType) -> String {
    format!("{dtype:?}")
}
