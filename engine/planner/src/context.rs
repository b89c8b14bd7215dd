//! The planner's working state and its few verbs: put a node on a relation, close a relation into stages, read
//! stages back through an exchange, gather.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::dsl::SinkTypeIR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::prune::prune;
use polars_plan::plans::simplify_ordering::ir_node_key::IRNodeKey;
use polars_plan::plans::simplify_ordering::simplify_and_fetch_orderings;
use polars_plan::plans::{AExpr, IR, IRBuilder, IRPlan};
use polars_plan::prelude::ProjectionOptions;
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_path::PlRefPath;
use polars_utils::pl_str::PlSmallStr;
use polars_utils::unique_id::UniqueId;

use super::fragment::{Fragment, KeyFilter, Notes, Tag};
use super::keys::Beside;
use super::rel::{Branch, Effect, Names, Rel};
use super::switch::Switch;
use super::{Options, expr};
use floe_wire::error::{QueryError, Result};
use floe_wire::facts::{BroadcastBound, Column, JoinDecision, Placeholder, RowOrder, StageFacts};
use floe_wire::graph::{Exchange, Leaf, Read, SingleWorker, Stage, StageGraph, StageId};

/// Parts of an exchange for each worker. Every batch of a task has some rows for each part, and the fewer they are the more
/// of it is overhead: beyond so many, parts get larger first…
const PARTS_A_WORKER: f64 = 64.0;
/// …up to so many times what they should hold, …
const LARGER: f64 = 8.0;
/// …and then they are more, up to so many for each worker and in all.
const MOST_PARTS_A_WORKER: f64 = 512.0;
const MOST_PARTS: u32 = 4096;
/// Chunks of sorted rows are cut by size, not by range: so ranges may well be too many.
const SPARE_RANGES: u32 = 4;

pub(super) struct Cx<'a> {
    pub ir: Arena<IR>,
    pub ex: Arena<AExpr>,
    pub options: &'a Options,
    pub graph: StageGraph,
    /// What was closed behind the leaf of a hash exchange, and by which other leaf's size that may be undone.
    pub closed: HashMap<Node, Node>,
    pub switches: HashMap<Node, Switch>,
    /// Where scans were cut by key so far: the files and the column, and the cuts. What is cut alike is joined in place.
    pub cuts: HashMap<(Vec<PlRefPath>, PlSmallStr), Arc<[i64]>>,
    /// Common subplans, closed once and read by each of their users.
    pub caches: HashMap<UniqueId, Rel>,
    /// What stands behind the leaves of open fragments, and why those that are broadcast may be.
    pub leaves: HashMap<Node, Leaf>,
    pub bounds: HashMap<Node, BroadcastBound>,
    /// Stages whose rows come in an order that is left to chance.
    pub varying_order: BTreeSet<StageId>,
    /// Does anyone observe the order of a node's output; per input: of what it reads.
    ordered_out: HashMap<IRNodeKey, bool>,
    ordered_in: HashMap<IRNodeKey, Vec<bool>>,
    /// How joins are done whose stage is not known yet.
    pending_joins: Vec<(Node, JoinDecision)>,
    /// Reasons found for nodes whose stage is not known yet.
    pending_single: Vec<(Node, String, String)>,
    names: u32,
}

impl<'a> Cx<'a> {
    /// The state and the roots to plan (one a sink).
    pub fn new(plan: IRPlan, options: &'a Options) -> (Self, Vec<Node>) {
        let IRPlan { lp_top, lp_arena: mut ir, expr_arena: mut ex } = plan;
        let inputs = match ir.get(lp_top).clone() {
            IR::SinkMultiple { inputs } => inputs,
            _ => vec![lp_top],
        };
        let roots: Vec<Node> = inputs
            .into_iter()
            .map(|n| match ir.get(n) {
                IR::Sink { .. } => n,
                _ => ir.add(IR::Sink { input: n, payload: SinkTypeIR::Memory }),
            })
            .collect();
        let (nodes, edges) = simplify_and_fetch_orderings(&roots, &mut ir, &mut ex);
        let ordered =
            |keys: &[_]| keys.iter().map(|k| edges.get(*k).is_some_and(|e| !e.is_unordered())).collect::<Vec<_>>();
        let ordered_out = nodes.iter().map(|(k, e)| (*k, ordered(&e.out_edges).iter().any(|o| *o))).collect();
        let ordered_in = nodes.iter().map(|(k, e)| (*k, ordered(&e.in_edges))).collect();
        let cx = Cx {
            ir,
            ex,
            options,
            graph: StageGraph::default(),
            closed: HashMap::new(),
            switches: HashMap::new(),
            cuts: HashMap::new(),
            caches: HashMap::new(),
            leaves: HashMap::new(),
            bounds: HashMap::new(),
            varying_order: BTreeSet::new(),
            ordered_out,
            ordered_in,
            pending_joins: Vec::new(),
            pending_single: Vec::new(),
            names: 0,
        };
        (cx, roots)
    }

    /// Is the order of this node's output produced and observed?
    pub fn order_out(&self, node: Node) -> bool {
        self.ordered_out.get(&IRNodeKey::new(node, &self.ir)).copied().unwrap_or(true)
    }

    /// Does this node need the order of its `i`-th input?
    pub fn order_in(&self, node: Node, i: usize) -> bool {
        self.ordered_in.get(&IRNodeKey::new(node, &self.ir)).and_then(|v| v.get(i)).copied().unwrap_or(true)
    }

    /// Whether rows meet by nothing but their place somewhere: then even those of no promised order stay where a common
    /// subplan put them.
    pub fn pairs_rows(&self) -> bool {
        (0..self.ir.len()).any(|at| matches!(self.ir.get(Node(at)), IR::HConcat { .. }))
    }

    pub fn schema(&self, node: Node) -> SchemaRef {
        self.ir.get(node).schema(&self.ir).into_owned()
    }

    pub fn rel_schema(&self, rel: &Rel) -> SchemaRef {
        self.schema(rel.root())
    }

    /// A column name that no user has.
    pub fn name(&mut self, what: &str) -> PlSmallStr {
        self.names += 1;
        PlSmallStr::from_string(format!("__floe_{what}{}", self.names))
    }

    pub fn build(&mut self, root: Node, f: impl FnOnce(IRBuilder<'_>) -> IRBuilder<'_>) -> Node {
        f(IRBuilder::new(root, &mut self.ex, &mut self.ir)).node()
    }

    /// Puts a node on every branch, which does this to its rows.
    pub fn put(&mut self, rel: Rel, effect: Effect<'_>, mut f: impl FnMut(&mut Self, Node) -> Node) -> Rel {
        rel.put(effect, |root| f(self, root))
    }

    /// Columns that each row gives by itself.
    pub fn with_columns(&mut self, rel: Rel, exprs: Vec<ExprIR>) -> Rel {
        let made: Vec<PlSmallStr> = exprs.iter().map(|e| e.output_name().clone()).collect();
        self.with_columns_by(rel, exprs, Effect::RowByRow(Names::Except(&made)))
    }

    /// Columns that take several rows of a task.
    pub fn with_columns_within(&mut self, rel: Rel, exprs: Vec<ExprIR>) -> Rel {
        let made: Vec<PlSmallStr> = exprs.iter().map(|e| e.output_name().clone()).collect();
        self.with_columns_by(rel, exprs, Effect::WithinTaskInOrder(Names::Except(&made)))
    }

    fn with_columns_by(&mut self, rel: Rel, exprs: Vec<ExprIR>, effect: Effect<'_>) -> Rel {
        if exprs.is_empty() {
            return rel;
        }
        self.put(rel, effect, |cx, root| {
            let exprs = exprs.clone();
            cx.build(root, |b| b.with_columns(exprs, ProjectionOptions::default()))
        })
    }

    /// The rows for which this is true, which each tells by itself.
    pub fn filter(&mut self, rel: Rel, predicate: ExprIR) -> Rel {
        self.put(rel, Effect::RowByRow(Names::Same), |cx, root| {
            cx.ir.add(IR::Filter { input: root, predicate: predicate.clone() })
        })
    }

    /// Just these columns (and the relation's tags), in this order.
    pub fn project(&mut self, rel: Rel, names: &[PlSmallStr]) -> Rel {
        let schema = self.rel_schema(&rel);
        let mut all: Vec<PlSmallStr> = names.to_vec();
        all.extend(rel.tags().iter().filter(|t| !names.contains(t)).cloned());
        if all.len() == schema.len() && all.iter().zip(schema.iter_names()).all(|(a, b)| a == b) {
            return rel;
        }
        let effect = Effect::RowByRow(Names::Only(&all));
        self.put(rel, effect, |cx, root| {
            let schema = cx.schema(root);
            let columns: Schema =
                all.iter().filter_map(|n| schema.get(n).map(|d| Field::new(n.clone(), d.clone()))).collect();
            cx.ir.add(IR::SimpleProjection { input: root, columns: Arc::new(columns) })
        })
    }

    /// Forgets the order, and the columns that kept it.
    pub fn unordered(&mut self, rel: Rel) -> Rel {
        let tags = rel.tags().to_vec();
        let rel = rel.in_any_order();
        if tags.is_empty() {
            return rel;
        }
        let names: Vec<_> = self.rel_schema(&rel).iter_names().filter(|n| !tags.contains(n)).cloned().collect();
        self.project(rel, &names)
    }

    /// Columns that hold these expressions: the columns themselves where they are plain, else added ones.
    pub fn as_columns(&mut self, rel: Rel, exprs: &[ExprIR]) -> (Rel, Vec<PlSmallStr>) {
        let mut added = Vec::new();
        let mut names = Vec::with_capacity(exprs.len());
        for e in exprs {
            match expr::column_name(e, &self.ex) {
                Some(name) => names.push(name),
                None => {
                    let name = self.name("k");
                    added.push(e.with_alias(name.clone()));
                    names.push(name);
                }
            }
        }
        (self.with_columns(rel, added), names)
    }

    /// Into how many parts an exchange of these rows is cut. Estimates are rough, and parts that turn out small are
    /// put together again when their sizes are known: so rather too many.
    pub fn partitions(&self, rel: &Rel) -> u32 {
        let workers = self.options.workers.max(1);
        if let Some(fixed) = self.options.partitions_per_worker {
            return workers * fixed.max(1);
        }
        let parts = match rel.bytes() {
            Some(bytes) => 2.0 * bytes / self.options.partition_bytes.max(1) as f64,
            None if self.options.adaptive => 4.0 * f64::from(workers),
            None => 1.0,
        };
        let per_worker = (parts / f64::from(workers)).ceil();
        let per_worker =
            per_worker.clamp(1.0, PARTS_A_WORKER).max((per_worker / LARGER).min(MOST_PARTS_A_WORKER)) as u32;
        (workers * per_worker).min(MOST_PARTS).max(workers)
    }

    /// The same for ranges.
    pub fn ranges(&self, rel: &Rel) -> u32 {
        let parts = self.partitions(rel);
        let many = self.options.partitions_per_worker.is_none()
            && f64::from(parts) >= PARTS_A_WORKER * f64::from(self.options.workers.max(1));
        if many { (parts * SPARE_RANGES).min(MOST_PARTS) } else { parts }
    }

    /// Ends the fragments of a relation: one stage a branch.
    pub fn close(&mut self, rel: &Rel, output: Exchange, tag: Option<PlSmallStr>) -> Result<Vec<StageId>> {
        self.close_with(rel, output, tag, &Beside::default())
    }

    pub(super) fn close_with(
        &mut self,
        rel: &Rel,
        output: Exchange,
        tag: Option<PlSmallStr>,
        beside: &Beside,
    ) -> Result<Vec<StageId>> {
        let mut ids = Vec::with_capacity(rel.branches().len());
        for (i, branch) in rel.branches().iter().enumerate() {
            let tag = tag.as_ref().map(|t| Tag::new(t.to_string(), i)).transpose()?;
            ids.push(self.close_branch(branch, rel.row_order(branch), output.clone(), tag, beside)?);
        }
        Ok(ids)
    }

    fn close_branch(
        &mut self,
        branch: &Branch,
        order: RowOrder,
        output: Exchange,
        tag: Option<Tag>,
        beside: &Beside,
    ) -> Result<StageId> {
        let id = StageId(self.graph.stages.len() as u32);
        let mut nodes = Vec::new();
        let mut leaves = Vec::new();
        self.collect(branch.root(), &mut nodes, &mut leaves)?;
        let (mut lp_arena, mut expr_arena) = (Arena::new(), Arena::new());
        let roots = prune(&[branch.root()], &self.ir, &self.ex, &mut lp_arena, &mut expr_arena);
        let mut plan = IRPlan { lp_top: roots[0], lp_arena, expr_arena };
        super::leaves::drop_metadata(&mut plan);
        let mut explain = super::explain::describe(&plan, &leaves);
        let (notes, filters) = self.noted_and_filtered(branch.root(), beside, &output, &mut leaves, &mut explain);
        let tasks = branch.width().tasks();
        let mut facts = self.facts(branch.root(), &nodes, tasks, order.clone(), tag.as_ref(), &notes, &filters);
        let fragment = Fragment { plan, placeholders: true, tag: tag.clone(), notes, filters }.pack()?;
        let label = super::walk::label(&nodes.iter().map(|n| self.ir.get(*n)).collect::<Vec<_>>(), &leaves);
        self.note_single(&nodes, id);
        facts.joins = self.joins_of(&nodes);
        let varies = self.varies(branch.root(), tag.as_ref());
        let nondeterminism = varies.nondeterminism(&output);
        if varies.order() {
            self.varying_order.insert(id);
        }
        let instead = self.instead(branch.root(), order, &output, tag.as_ref(), beside)?;
        // The other form does the work of the stage that it leaves out.
        let left_out = instead.as_ref().and_then(|instead| self.graph.stages.get(instead.without.0 as usize));
        let nondeterminism = nondeterminism.or(left_out.and_then(|stage| stage.nondeterminism));
        let stage = Stage { id, label, fragment, explain, leaves, output, instead, nondeterminism, facts };
        self.graph.stages.push(stage);
        Ok(id)
    }

    /// What is stated about a stage whose fragment has these nodes, for those who check the graph.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn facts(
        &self,
        root: Node,
        nodes: &[Node],
        tasks: u32,
        order: RowOrder,
        tag: Option<&Tag>,
        notes: &Option<Notes>,
        filters: &[KeyFilter],
    ) -> StageFacts {
        let mut columns = columns(&self.schema(root));
        columns.extend(tag.map(|tag| tag_column(&tag.column)));
        let is_leaf = |node: &&Node| self.ir.get(**node).inputs().next().is_none();
        let placeholder = |node: &Node| Placeholder {
            columns: self::columns(&self.schema(*node)),
            bound: self.bounds.get(node).copied(),
        };
        StageFacts {
            columns,
            tasks,
            order,
            placeholders: nodes.iter().filter(is_leaf).map(placeholder).collect(),
            key_summary: notes.as_ref().map(|notes| notes.keys.clone()),
            key_filters: filters.iter().map(|filter| filter.keys.clone()).collect(),
            joins: Vec::new(),
        }
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

    /// How the joins among these nodes are done, in the order of the plan.
    fn joins_of(&mut self, nodes: &[Node]) -> Vec<JoinDecision> {
        let (mine, rest) = std::mem::take(&mut self.pending_joins).into_iter().partition(|(n, _)| nodes.contains(n));
        self.pending_joins = rest;
        Vec::<(Node, JoinDecision)>::into_iter(mine).map(|(_, decision)| decision).collect()
    }

    /// Keeps how a join is done; reported with the stage it ends in.
    pub fn decided(&mut self, node: Node, decision: JoinDecision) {
        self.pending_joins.push((node, decision));
    }

    /// Keeps why a node runs on one worker; reported with the stage it ends in.
    pub fn single(&mut self, node: Node, reason: impl Into<String>) {
        let name = super::walk::node_name(self.ir.get(node));
        self.pending_single.push((node, name, reason.into()));
    }

    /// Nodes top down, and what stands behind the leaves, left to right.
    pub(super) fn collect(&self, node: Node, nodes: &mut Vec<Node>, leaves: &mut Vec<Leaf>) -> Result<()> {
        nodes.push(node);
        let inputs: Vec<Node> = self.ir.get(node).inputs().collect();
        if inputs.is_empty() {
            let leaf = self.leaves.get(&node).cloned();
            leaves.push(leaf.ok_or_else(|| QueryError::internal("a fragment has a leaf without data"))?);
        }
        inputs.into_iter().try_for_each(|n| self.collect(n, nodes, leaves))
    }

    /// A leaf that reads stages. Its rows have `schema`.
    pub fn exchange_leaf(&mut self, schema: SchemaRef, stages: Vec<StageId>, read: Read) -> Node {
        let df = Arc::new(DataFrame::empty_with_schema(&schema));
        let node = self.ir.add(IR::DataFrameScan { df, schema, output_schema: None });
        self.leaves.insert(node, Leaf::Exchange { stages, read });
        node
    }

    /// A leaf by which every task reads all that these stages make, which is fine because of `bound`.
    pub fn broadcast_leaf(&mut self, schema: SchemaRef, stages: Vec<StageId>, bound: BroadcastBound) -> Node {
        let leaf = self.exchange_leaf(schema, stages, Read::All);
        self.bounds.insert(leaf, bound);
        leaf
    }

    /// A relation may be broadcast that is not expected to be larger than the limit.
    pub fn estimated(&self, rel: &Rel) -> BroadcastBound {
        let expected_bytes = rel.bytes().unwrap_or(f64::MAX) as u64;
        BroadcastBound::Estimate { expected_bytes, limit_bytes: self.options.broadcast_limit_bytes }
    }

    /// The plan below a node as one stage that holds its own data.
    pub fn whole_plan_stage(&mut self, root: Node, output: Exchange, reason: &str) -> Result<Vec<StageId>> {
        let id = StageId(self.graph.stages.len() as u32);
        let (mut lp_arena, mut expr_arena) = (Arena::new(), Arena::new());
        let roots = prune(&[root], &self.ir, &self.ex, &mut lp_arena, &mut expr_arena);
        let mut plan = IRPlan { lp_top: roots[0], lp_arena, expr_arena };
        super::leaves::drop_metadata(&mut plan);
        let explain = plan.describe().lines().map(str::to_owned).collect();
        let facts = StageFacts {
            columns: columns(&self.schema(root)),
            tasks: 1,
            order: RowOrder::Promised,
            ..StageFacts::default()
        };
        let fragment = Fragment { plan, placeholders: false, tag: None, notes: None, filters: Vec::new() }.pack()?;
        self.graph.single_worker.push(SingleWorker { stage: id, node: "the whole plan".into(), reason: reason.into() });
        let label = "the whole plan".to_string();
        self.graph.stages.push(Stage {
            id,
            label,
            fragment,
            explain,
            leaves: Vec::new(),
            output,
            instead: None,
            // Alone: nobody reads what it gives, so that there is nothing to mix.
            nondeterminism: None,
            facts,
        });
        Ok(vec![id])
    }
}

/// The columns of a schema as the checker sees them.
pub(super) fn columns(schema: &Schema) -> Vec<Column> {
    schema.iter().map(|(name, dtype)| Column::new(name.as_str(), shown(dtype))).collect()
}

/// The column by which a stage numbers its rows.
pub(super) fn tag_column(name: &str) -> Column {
    Column::new(name, shown(&DataType::UInt64))
}

/// Types that are the same to Polars, and only those, are shown alike.
fn shown(dtype: &DataType) -> String {
    format!("{dtype:?}")
}
