//! The planner's working state and its basic operations: puts a node on a relation, sizes an exchange, reads stages back
//! through one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::dsl::SinkTypeIR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::simplify_ordering::ir_node_key::IRNodeKey;
use polars_plan::plans::simplify_ordering::simplify_and_fetch_orderings;
use polars_plan::plans::{AExpr, IR, IRBuilder, IRPlan};
use polars_plan::prelude::ProjectionOptions;
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_path::PlRefPath;
use polars_utils::pl_str::PlSmallStr;
use polars_utils::unique_id::UniqueId;

use super::Options;
use crate::exchanges::adaptive_broadcast::BroadcastOffer;
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Rel};
use floe_wire::facts::{BroadcastBound, JoinDecision, KeyRanges};
use floe_wire::graph::{Leaf, Read, StageGraph, StageId};

/// Partitions per worker up to which more bytes give more partitions. A task splits every batch over all partitions,
/// and small chunks are mostly overhead: past this, partitions grow first…
const PARTITIONS_PER_WORKER: f64 = 64.0;
/// …up to this multiple of their target size, …
const PARTITION_GROWTH_FACTOR: f64 = 4.0;
/// …then there are more of them, up to these limits per worker and in all.
const MAX_PARTITIONS_PER_WORKER: f64 = 512.0;
const MAX_PARTITIONS: u32 = 4096;
/// Sorted chunks are cut by size, not by range, so that extra ranges cost little.
const RANGES_PER_PARTITION: u32 = 4;

pub(crate) struct Cx<'a> {
    pub ir: Arena<IR>,
    pub ex: Arena<AExpr>,
    pub options: &'a Options,
    pub graph: StageGraph,
    /// By hash-exchange leaf: the root closed behind it.
    pub closed: HashMap<Node, Node>,
    pub offers: HashMap<Node, BroadcastOffer>,
    /// Key cuts made so far, by files and column. Scans with the same cuts are joined without an exchange.
    pub cuts: HashMap<(Vec<PlRefPath>, PlSmallStr), Arc<[i64]>>,
    /// Common subplans, closed once and read by each of their users.
    pub caches: HashMap<UniqueId, Rel>,
    /// What the leaves of open fragments read, and why the broadcast ones are small enough.
    pub leaves: HashMap<Node, Leaf>,
    pub bounds: HashMap<Node, BroadcastBound>,
    /// The ranges that scans of open fragments are cut by.
    pub ranges: HashMap<Node, KeyRanges>,
    /// What leaves of open fragments ask databases for, as lines of an explained plan.
    pub databases: HashMap<Node, Vec<String>>,
    /// Group-bys and uniques of the rows that a task has, which a later one combines.
    pub partial: HashSet<Node>,
    /// Stages whose rows come in an order that may change from run to run.
    pub varying_order: BTreeSet<StageId>,
    /// Whether anyone observes the order of a node's output, and of each of its inputs.
    ordered_out: HashMap<IRNodeKey, bool>,
    ordered_in: HashMap<IRNodeKey, Vec<bool>>,
    /// Decisions of joins whose stage is not known yet.
    pub pending_joins: Vec<(Node, JoinDecision)>,
    /// Why nodes run on one worker, until their stage is known.
    pub pending_single: Vec<(Node, String, String)>,
    names: u32,
}

impl<'a> Cx<'a> {
    /// The state, and the roots to plan (one per sink).
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
            offers: HashMap::new(),
            cuts: HashMap::new(),
            caches: HashMap::new(),
            leaves: HashMap::new(),
            bounds: HashMap::new(),
            ranges: HashMap::new(),
            databases: HashMap::new(),
            partial: HashSet::new(),
            varying_order: BTreeSet::new(),
            ordered_out,
            ordered_in,
            pending_joins: Vec::new(),
            pending_single: Vec::new(),
            names: 0,
        };
        (cx, roots)
    }

    /// Whether the order of this node's output is produced and observed.
    pub fn order_out(&self, node: Node) -> bool {
        self.ordered_out.get(&IRNodeKey::new(node, &self.ir)).copied().unwrap_or(true)
    }

    /// Whether this node needs the order of its `i`-th input.
    pub fn order_in(&self, node: Node, i: usize) -> bool {
        self.ordered_in.get(&IRNodeKey::new(node, &self.ir)).and_then(|v| v.get(i)).copied().unwrap_or(true)
    }

    /// Whether the plan pairs rows by position (`HConcat`): then even rows without a promised order must stay where a
    /// common subplan put them.
    pub fn pairs_rows(&self) -> bool {
        (0..self.ir.len()).any(|at| matches!(self.ir.get(Node(at)), IR::HConcat { .. }))
    }

    pub fn schema(&self, node: Node) -> SchemaRef {
        self.ir.get(node).schema(&self.ir).into_owned()
    }

    pub fn rel_schema(&self, rel: &Rel) -> SchemaRef {
        self.schema(rel.root())
    }

    /// Makes a column name that no user's column has.
    pub fn name(&mut self, what: &str) -> PlSmallStr {
        self.names += 1;
        PlSmallStr::from_string(format!("__floe_{what}{}", self.names))
    }

    pub fn build(&mut self, root: Node, f: impl FnOnce(IRBuilder<'_>) -> IRBuilder<'_>) -> Node {
        f(IRBuilder::new(root, &mut self.ex, &mut self.ir)).node()
    }

    /// Puts a node on every branch; `effect` says what it does to the rows.
    pub fn put(&mut self, rel: Rel, effect: Effect<'_>, mut f: impl FnMut(&mut Self, Node) -> Node) -> Rel {
        rel.put(effect, |root| f(self, root))
    }

    /// States that the topmost node groups only the rows that its task has, and that a later one combines the groups.
    pub fn in_part(&mut self, rel: Rel) -> Rel {
        self.partial.extend(rel.branches().iter().map(|branch| branch.root()));
        rel
    }

    /// Adds columns that are computed row by row.
    pub fn with_columns(&mut self, rel: Rel, exprs: Vec<ExprIR>) -> Rel {
        let made: Vec<PlSmallStr> = exprs.iter().map(|e| e.output_name().clone()).collect();
        self.with_columns_by(rel, exprs, Effect::RowByRow(Names::Except(&made)))
    }

    /// Adds columns that look at several rows of a task.
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

    /// Keeps the rows for which a row-wise predicate is true.
    pub fn filter(&mut self, rel: Rel, predicate: ExprIR) -> Rel {
        self.put(rel, Effect::RowByRow(Names::Same), |cx, root| {
            cx.ir.add(IR::Filter { input: root, predicate: predicate.clone() })
        })
    }

    /// Keeps just these columns (and the relation's tags), in this order.
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

    /// Forgets the order, and drops the columns that kept it.
    pub fn unordered(&mut self, rel: Rel) -> Rel {
        let tags = rel.tags().to_vec();
        let rel = rel.in_any_order();
        if tags.is_empty() {
            return rel;
        }
        let names: Vec<_> = self.rel_schema(&rel).iter_names().filter(|n| !tags.contains(n)).cloned().collect();
        self.project(rel, &names)
    }

    /// Puts these expressions in columns: uses plain columns as they are and adds the others.
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

    /// The number of partitions for an exchange of these rows. Prefers too many: estimates are rough, and small
    /// partitions are coalesced once their sizes are known.
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
        let per_worker = per_worker
            .clamp(1.0, PARTITIONS_PER_WORKER)
            .max((per_worker / PARTITION_GROWTH_FACTOR).min(MAX_PARTITIONS_PER_WORKER)) as u32;
        (workers * per_worker).min(MAX_PARTITIONS).max(workers)
    }

    /// The number of ranges for a range exchange of these rows.
    pub fn ranges(&self, rel: &Rel) -> u32 {
        let parts = self.partitions(rel);
        let many = self.options.partitions_per_worker.is_none()
            && f64::from(parts) >= PARTITIONS_PER_WORKER * f64::from(self.options.workers.max(1));
        if many { (parts * RANGES_PER_PARTITION).min(MAX_PARTITIONS) } else { parts }
    }

    /// A leaf that reads stages. Its rows have `schema`.
    pub fn exchange_leaf(&mut self, schema: SchemaRef, stages: Vec<StageId>, read: Read) -> Node {
        let df = Arc::new(DataFrame::empty_with_schema(&schema));
        let node = self.ir.add(IR::DataFrameScan { df, schema, output_schema: None });
        self.leaves.insert(node, Leaf::Exchange { stages, read });
        node
    }

    /// A leaf by which every task reads all output of these stages; `bound` says why that is small enough.
    pub fn broadcast_leaf(&mut self, schema: SchemaRef, stages: Vec<StageId>, bound: BroadcastBound) -> Node {
        let leaf = self.exchange_leaf(schema, stages, Read::All);
        self.bounds.insert(leaf, bound);
        leaf
    }

    /// Bounds a relation that is broadcast for its estimated size.
    pub fn estimated(&self, rel: &Rel) -> BroadcastBound {
        let expected_bytes = rel.bytes().unwrap_or(f64::MAX) as u64;
        BroadcastBound::Estimate { expected_bytes, limit_bytes: self.options.broadcast_limit_bytes }
    }
}
