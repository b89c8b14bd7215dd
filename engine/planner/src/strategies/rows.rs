//! Estimates rows for the order of joins: of a table, of a join of several tables, by footers, filters and bounds.

use std::collections::HashMap;

use polars_ops::frame::JoinType;
use polars_plan::plans::IR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_utils::arena::Node;

use super::reorder::{Pass, Run, Source};
use crate::inputs::estimate::{self, Known};
use crate::inputs::leaves;
use crate::properties::expr;
use floe_plan::databases;

impl Pass<'_> {
    /// Rows of a node, and its rows before filters.
    pub(super) fn estimated(&self, node: Node, depth: usize) -> Option<(f64, f64)> {
        if depth > 64 {
            return None;
        }
        let below = |input: Node| self.estimated(input, depth + 1);
        match self.ir.get(node) {
            IR::Scan { sources, scan_type, predicate, unified_scan_args, .. } => {
                let files = leaves::footers(sources, scan_type)?;
                let rows: f64 = files.iter().map(|file| file.num_rows as f64).sum();
                let rows = unified_scan_args.pre_slice.as_ref().map_or(rows, |slice| rows.min(slice.len() as f64));
                let part = predicate.as_ref().map_or(1.0, |predicate| {
                    let bounds = |column: &str| estimate::file_bounds(&files, column);
                    let distinct = |column: &str| estimate::file_distinct(&files, column);
                    estimate::passing(predicate.node(), self.ex, Known { bounds: &bounds, distinct: &distinct })
                });
                Some((rows * part, rows))
            }
            IR::Slice { input, len, .. } => {
                let (rows, base) = below(*input)?;
                Some((rows.min(f64::from(*len)), base.min(f64::from(*len))))
            }
            IR::DataFrameScan { df, .. } => {
                let rows = databases::guessed(df).map_or(df.height() as f64, |(rows, _)| rows as f64);
                Some((rows, rows))
            }
            IR::Filter { input, predicate } => {
                let (rows, base) = below(*input)?;
                Some((rows * estimate::passing(predicate.node(), self.ex, Known::NOTHING), base))
            }
            IR::SimpleProjection { input, .. }
            | IR::HStack { input, .. }
            | IR::Sort { input, slice: None, .. }
            | IR::Cache { input, .. } => below(*input),
            IR::Select { input, expr, .. } if expr.iter().all(|e| expr::elementwise(e, self.ex)) => {
                let column = |e: &ExprIR| expr::has_column(e.node(), self.ex);
                if expr.iter().any(column) { below(*input) } else { None }
            }
            IR::Join { input_left, options, .. } if matches!(options.args.how, JoinType::Semi | JoinType::Anti) => {
                let (rows, base) = below(*input_left)?;
                Some((rows * 0.5, base))
            }
            IR::GroupBy { input, .. } | IR::Distinct { input, .. } => {
                let (rows, _) = below(*input)?;
                Some((rows * 0.2, rows * 0.2))
            }
            _ => None,
        }
    }

    /// The number of distinct values of a table's column: by its bounds if known, else one per row.
    fn distinct(&self, run: &Run, (table, column): &Source) -> f64 {
        let table = &run.tables[*table];
        let bounds = self.scan_below(table.node).and_then(|node| match self.ir.get(node) {
            IR::Scan { sources, scan_type, .. } => {
                estimate::file_bounds(&leaves::footers(sources, scan_type)?, column.as_str())
            }
            _ => None,
        });
        let spread = bounds.map_or(table.base, |(least, most)| (most as f64 - least as f64 + 1.0).min(table.base));
        spread.min(table.rows.max(1.0)).max(1.0)
    }

    pub(super) fn scan_below(&self, mut node: Node) -> Option<Node> {
        loop {
            match self.ir.get(node) {
                IR::Scan { .. } => return Some(node),
                IR::Filter { input, .. } | IR::SimpleProjection { input, .. } | IR::Cache { input, .. } => {
                    node = *input
                }
                _ => return None,
            }
        }
    }

    /// Estimates the rows of the join of a set of tables, by all columns that are equal among them.
    pub(super) fn rows(&self, run: &Run, set: u32) -> Option<f64> {
        let within = |table: usize| set & (1 << table) != 0;
        let mut rows: f64 = (0..run.tables.len()).filter(|at| within(*at)).map(|at| run.tables[at].rows).product();
        // Several equalities between two tables are one key.
        let mut pairs: HashMap<(usize, usize), Vec<(f64, f64)>> = HashMap::new();
        for (a, b) in &run.edges {
            if within(a.0) && within(b.0) {
                let (a, b) = if a.0 <= b.0 { (a, b) } else { (b, a) };
                pairs.entry((a.0, b.0)).or_default().push((self.distinct(run, a), self.distinct(run, b)));
            }
        }
        for ((a, b), keys) in pairs {
            let spread = |table: usize, side: &dyn Fn(&(f64, f64)) -> f64| {
                keys.iter().map(side).product::<f64>().min(run.tables[table].rows.max(1.0))
            };
            let (of_a, of_b) = (spread(a, &|key| key.0), spread(b, &|key| key.1));
            rows /= if keys.len() == 1 { of_a.max(of_b) } else { of_a.min(of_b) }.max(1.0);
        }
        Some(rows.max(1.0)).filter(|rows| rows.is_finite())
    }
}
