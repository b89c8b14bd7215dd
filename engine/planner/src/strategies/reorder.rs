//! Reorders inner joins. Polars joins in the written order, which can be ruinous: runs of inner joins on columns are
//! put into the order with the fewest intermediate rows, by the files' statistics of rows, bounds and distinct values.
//! Only where no join promises an order of rows, all sizes are known, and the gain is clear.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use polars_core::prelude::*;
use polars_ops::frame::{JoinArgs, JoinCoalesce, JoinType, MaintainOrderJoin};
use polars_plan::dsl::JoinOptionsIR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, IR, IRBuilder, IRPlan};
use polars_plan::prelude::ProjectionOptions;
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use super::semis::readers;
use crate::inputs::leaves;
use crate::properties::expr;

/// Larger runs keep their order, since all orders are tried.
const MAX_TABLES: usize = 10;
/// Estimates are rough: another order must have at most this share of the intermediate rows…
const CLEAR_GAIN: f64 = 0.5;
/// …and the written one at least this many, or there is nothing to gain.
const MIN_ROWS: f64 = 100_000.0;

/// A table of a run: an input of the joins, whatever it is computed from.
pub(super) struct Table {
    pub(super) node: Node,
    pub(super) rows: f64,
    /// Rows before filters; bounds the distinct keys.
    pub(super) base: f64,
}

/// A column of a table of the run.
pub(super) type Source = (usize, PlSmallStr);

/// A run of inner joins.
pub(super) struct Run {
    pub(super) tables: Vec<Table>,
    /// Pairs of columns that the joins equate.
    pub(super) edges: Vec<(Source, Source)>,
    /// The output columns of the run, in order, with their sources.
    pub(super) columns: Vec<(PlSmallStr, Source)>,
    /// The intermediate rows of the written order.
    written: f64,
    /// Tables of the run's own last join, for its estimate.
    pub(super) set: u32,
}

/// Reorders the joins of a plan; returns notes on what it changed.
pub fn reorder(plan: &mut IRPlan) -> Vec<String> {
    let readers = readers(plan.lp_top, &plan.lp_arena);
    let (ir, ex) = (&mut plan.lp_arena, &mut plan.expr_arena);
    let mut pass = Pass { ir, ex, readers, seen: HashSet::new(), notes: vec![] };
    pass.node(plan.lp_top);
    pass.notes
}

pub(super) struct Pass<'a> {
    pub(super) ir: &'a mut Arena<IR>,
    pub(super) ex: &'a mut Arena<AExpr>,
    pub(super) readers: HashMap<Node, usize>,
    seen: HashSet<Node>,
    pub(super) notes: Vec<String>,
}

impl Pass<'_> {
    /// Visits the plan from the root down: a whole run first, then the inputs of its tables.
    fn node(&mut self, root: Node) {
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            if !self.seen.insert(node) {
                continue;
            }
            self.sink(node);
            match self.run(node) {
                Some(run) if run.tables.len() > 2 => {
                    open.extend(run.tables.iter().map(|table| table.node));
                    self.improve(node, &run);
                }
                _ => open.extend(self.ir.get(node).inputs()),
            }
        }
    }

    pub(super) fn schema(&self, node: Node) -> SchemaRef {
        self.ir.get(node).schema(self.ir).into_owned()
    }

    /// The run that ends in a node; `None` where it is no join that may be moved, or nothing is known of its size.
    pub(super) fn run(&self, node: Node) -> Option<Run> {
        match self.ir.get(node) {
            IR::SimpleProjection { input, columns } => {
                let mut run = self.run(*input)?;
                run.columns.retain(|(name, _)| columns.contains(name));
                // In the projection's order.
                run.columns.sort_by_key(|(name, _)| columns.index_of(name));
                Some(run)
            }
            IR::Join { input_left, input_right, schema, left_on, right_on, options } => {
                let args = &options.args;
                let movable = args.how == JoinType::Inner
                    && args.slice.is_none()
                    && args.maintain_order == MaintainOrderJoin::None
                    && !args.nulls_equal
                    && !args.validation.needs_checks()
                    && options.options.is_none();
                if !movable {
                    return None;
                }
                let (left, right) = (self.side(*input_left)?, self.side(*input_right)?);
                let names = |keys: &[ExprIR]| {
                    keys.iter().map(|key| expr::column_name(key, self.ex)).collect::<Option<Vec<_>>>()
                };
                let (left_on, right_on) = (names(left_on)?, names(right_on)?);
                let run = joined(left, right, &left_on, &right_on, args, schema)?;
                let mut run = run;
                run.written += self.rows(&run, run.set)?;
                Some(run)
            }
            _ => None,
        }
    }

    fn side(&self, node: Node) -> Option<Run> {
        if let Some(run) = self.run(node) {
            return Some(run);
        }
        let (rows, base) = self.estimated(node, 0)?;
        let columns = self.schema(node).iter_names().map(|name| (name.clone(), (0, name.clone()))).collect();
        let tables = vec![Table { node, rows: rows.max(1.0), base: base.max(1.0) }];
        Some(Run { tables, edges: vec![], columns, written: 0.0, set: 1 })
    }

    /// Rebuilds a run in the best order, if that is clearly better than the written one.
    fn improve(&mut self, node: Node, run: &Run) {
        if run.tables.len() > MAX_TABLES || run.written < MIN_ROWS {
            return;
        }
        let Some((order, made)) = self.best(run) else { return };
        if made > run.written * CLEAR_GAIN {
            return;
        }
        let names: Vec<String> = order.iter().map(|at| self.named(run.tables[*at].node)).collect();
        let Some(built) = self.rebuilt(node, run, &order) else { return };
        let built = self.ir.get(built).clone();
        self.ir.replace(node, built);
        self.notes.push(format!(
            "joins are done in the order {}: about {} rows on the way, {} as written",
            names.join(", "),
            count(made),
            count(run.written)
        ));
    }

    pub(super) fn named(&self, node: Node) -> String {
        match self.scan_below(node).map(|node| self.ir.get(node)) {
            Some(IR::Scan { sources, .. }) => leaves::source_name(sources, sources.len()),
            _ => crate::walk::node_name(self.ir.get(node)),
        }
    }

    /// Finds the order of tables with the fewest intermediate rows and without cross products, by dynamic programming
    /// over sets of tables.
    fn best(&self, run: &Run) -> Option<(Vec<usize>, f64)> {
        let tables = run.tables.len();
        let mut linked = vec![0u32; tables];
        for (a, b) in &run.edges {
            linked[a.0] |= 1 << b.0;
            linked[b.0] |= 1 << a.0;
        }
        let mut best: HashMap<u32, (f64, Vec<usize>)> = (0..tables).map(|at| (1 << at, (0.0, vec![at]))).collect();
        for size in 1..tables {
            let sets: Vec<u32> = best.keys().copied().filter(|set| set.count_ones() as usize == size).collect();
            for set in sets {
                let (made, order) = best[&set].clone();
                for next in (0..tables).filter(|at| set & (1 << at) == 0 && linked[*at] & set != 0) {
                    let with = set | (1 << next);
                    let made = made + self.rows(run, with)?;
                    if best.get(&with).is_none_or(|(known, _)| made < *known) {
                        let mut order = order.clone();
                        order.push(next);
                        best.insert(with, (made, order));
                    }
                }
            }
        }
        let (made, mut order) = best.remove(&((1 << tables) - 1))?;
        // Of the first two, the larger one comes first: it probes the other.
        if let [first, second, ..] = order[..]
            && run.tables[first].rows < run.tables[second].rows
        {
            order.swap(0, 1);
        }
        Some((order, made))
    }

    fn rebuilt(&mut self, node: Node, run: &Run, order: &[usize]) -> Option<Node> {
        let wanted = self.schema(node);
        // Make names that several tables have distinct while the tables are joined.
        let mut taken: HashSet<PlSmallStr> = HashSet::new();
        let mut names: HashMap<Source, PlSmallStr> = HashMap::new();
        let mut inputs = vec![];
        for at in order {
            let table = run.tables[*at].node;
            let columns: Vec<PlSmallStr> = self.schema(table).iter_names().cloned().collect();
            let mut renamed = false;
            let mut exprs = vec![];
            for column in columns {
                let name = if taken.contains(&column) {
                    renamed = true;
                    PlSmallStr::from_string(format!("__floe_join{at}_{column}"))
                } else {
                    column.clone()
                };
                let key = expr::col(&column, self.ex);
                exprs.push(if name == column { key } else { key.with_alias(name.clone()) });
                taken.insert(name.clone());
                names.insert((*at, column), name);
            }
            inputs.push(if renamed { self.select(table, exprs) } else { table });
        }
        let mut joined: HashSet<usize> = HashSet::from([order[0]]);
        let mut root = inputs[0];
        for (input, at) in inputs.iter().zip(order).skip(1) {
            let (mut left_on, mut right_on) = (vec![], vec![]);
            for (a, b) in &run.edges {
                let (there, here) = match (joined.contains(&a.0), joined.contains(&b.0)) {
                    (true, false) if b.0 == *at => (a, b),
                    (false, true) if a.0 == *at => (b, a),
                    _ => continue,
                };
                left_on.push(expr::col(names.get(there)?, self.ex));
                right_on.push(expr::col(names.get(here)?, self.ex));
            }
            if left_on.is_empty() {
                return None;
            }
            joined.insert(*at);
            let args = JoinArgs { coalesce: JoinCoalesce::KeepColumns, ..JoinArgs::new(JoinType::Inner) };
            let options = Arc::new(JoinOptionsIR { allow_parallel: true, force_parallel: false, args, options: None });
            root = IRBuilder::new(root, self.ex, self.ir).join(*input, left_on, right_on, options).node();
            root = self.narrowed(root, run, &joined, &names)?;
        }
        let exprs = run.columns.iter().map(|(name, source)| {
            let from = names.get(source)?;
            let column = expr::col(from, self.ex);
            Some(if from == name { column } else { column.with_alias(name.clone()) })
        });
        let exprs = exprs.collect::<Option<Vec<_>>>()?;
        let root = self.select(root, exprs);
        // Keep the plan unless the columns and their types are the same.
        (self.schema(root) == wanted).then_some(root)
    }

    fn select(&mut self, input: Node, exprs: Vec<ExprIR>) -> Node {
        IRBuilder::new(input, self.ex, self.ir).project(exprs, ProjectionOptions::default()).node()
    }

    /// Drops the columns that neither the result nor a later join needs.
    fn narrowed(
        &mut self,
        root: Node,
        run: &Run,
        joined: &HashSet<usize>,
        names: &HashMap<Source, PlSmallStr>,
    ) -> Option<Node> {
        let mut needed: HashSet<&PlSmallStr> = run.columns.iter().filter_map(|(_, source)| names.get(source)).collect();
        for (a, b) in &run.edges {
            if joined.contains(&a.0) != joined.contains(&b.0) {
                needed.extend([names.get(a)?, names.get(b)?]);
            }
        }
        let schema = self.schema(root);
        let kept: Vec<PlSmallStr> = schema.iter_names().filter(|name| needed.contains(name)).cloned().collect();
        if kept.len() == schema.len() || kept.is_empty() {
            return Some(root);
        }
        Some(IRBuilder::new(root, self.ex, self.ir).project_simple(kept).ok()?.node())
    }
}

/// Merges two runs into one, with the columns of the join.
fn joined(
    left: Run,
    right: Run,
    left_on: &[PlSmallStr],
    right_on: &[PlSmallStr],
    args: &JoinArgs,
    schema: &Schema,
) -> Option<Run> {
    let shift = left.tables.len();
    if shift + right.tables.len() > 31 {
        return None;
    }
    let moved = |(table, column): Source| (table + shift, column);
    let source_of = |columns: &[(PlSmallStr, Source)], name: &PlSmallStr| {
        columns.iter().find(|(known, _)| known == name).map(|(_, source)| source.clone())
    };
    let mut edges = left.edges;
    edges.extend(right.edges.into_iter().map(|(a, b)| (moved(a), moved(b))));
    for (l, r) in left_on.iter().zip(right_on) {
        edges.push((source_of(&left.columns, l)?, moved(source_of(&right.columns, r)?)));
    }
    let coalesced = args.should_coalesce();
    let mut columns = left.columns;
    for (name, source) in right.columns {
        if coalesced && right_on.contains(&name) {
            continue;
        }
        let there = columns.iter().any(|(known, _)| *known == name);
        let name = if there { PlSmallStr::from_string(format!("{name}{}", args.suffix())) } else { name };
        columns.push((name, moved(source)));
    }
    // The join's own columns must be those computed here.
    if !schema.iter_names().eq(columns.iter().map(|(name, _)| name)) {
        return None;
    }
    let mut tables = left.tables;
    tables.extend(right.tables);
    let set = left.set | (right.set << shift);
    Some(Run { tables, edges, columns, written: left.written + right.written, set })
}

/// Prints a count for people: 6.0 million.
pub(super) fn count(rows: f64) -> String {
    match rows {
        rows if rows >= 1e9 => format!("{:.1} billion", rows / 1e9),
        rows if rows >= 1e6 => format!("{:.1} million", rows / 1e6),
        rows => format!("{rows:.0}"),
    }
}
