//! Moves semi and anti joins below inner joins. Both filter rows of their left side by key; above a run of inner joins
//! they look at every row that the run produces, below it at the rows of the one table that has the keys.

use std::collections::HashMap;

use polars_ops::frame::{JoinType, MaintainOrderJoin};
use polars_plan::plans::IR;
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use super::reorder::{Pass, Run, count};
use crate::properties::expr;

/// Estimates that differ by a smaller factor count as equal.
const SAME: f64 = 1.01;

/// Counts the readers of each node: one with several readers is not changed for one of them.
pub(super) fn readers(top: Node, ir: &Arena<IR>) -> HashMap<Node, usize> {
    let (mut readers, mut open) = (HashMap::from([(top, 1)]), vec![top]);
    while let Some(node) = open.pop() {
        for input in ir.get(node).inputs() {
            let known = readers.entry(input).or_insert(0);
            *known += 1;
            if *known == 1 {
                open.push(input);
            }
        }
    }
    readers
}

impl Pass<'_> {
    /// Pushes a semi or anti join down to the table in the run that has its keys, unless that table has more rows than
    /// the run returns: the joins then read fewer rows. Estimates of their results are rather too low (keys with gaps
    /// look like more keys).
    pub(super) fn sink(&mut self, node: Node) {
        let IR::Join { input_left, input_right, left_on, right_on, options, .. } = self.ir.get(node).clone() else {
            return;
        };
        let args = &options.args;
        let filters = matches!(args.how, JoinType::Semi | JoinType::Anti)
            && args.slice.is_none()
            && args.maintain_order == MaintainOrderJoin::None
            && !args.validation.needs_checks()
            && options.options.is_none();
        if !filters {
            return;
        }
        self.sink(input_left);
        let Some(run) = self.run(input_left).filter(|run| run.tables.len() > 1) else { return };
        let keys = left_on.iter().map(|key| expr::column_name(key, self.ex)).collect::<Option<Vec<_>>>();
        let Some((table, columns)) = keys.and_then(|keys| self.smallest(&run, &keys)) else { return };
        let (here, there) = (run.tables[table].rows, self.rows(&run, run.set).unwrap_or(0.0));
        let target = run.tables[table].node;
        if here > there * SAME || self.readers.get(&target).copied().unwrap_or(0) > 1 {
            return;
        }
        let how = if args.how == JoinType::Semi { "semi" } else { "anti" };
        let name = self.named(target);
        let schema = self.schema(target);
        let below = self.ir.get(target).clone();
        let below = self.ir.add(below);
        let left_on = columns.iter().map(|column| expr::col(column, self.ex)).collect();
        self.ir.replace(target, IR::Join { input_left: below, input_right, schema, left_on, right_on, options });
        let left = self.ir.get(input_left).clone();
        self.ir.replace(node, left);
        self.notes.push(format!(
            "a {how} join is done on {name} before the joins below it: about {} rows instead of {}",
            count(here),
            count(there)
        ));
    }

    /// The smallest table that has all keys, or columns that are equal to them, and what they are called there.
    fn smallest(&self, run: &Run, keys: &[PlSmallStr]) -> Option<(usize, Vec<PlSmallStr>)> {
        let sources: Option<Vec<_>> =
            keys.iter().map(|key| run.columns.iter().find(|(name, _)| name == key).map(|(_, source)| source)).collect();
        let sources = sources.filter(|sources| !sources.is_empty())?;
        let mut tables: Vec<usize> = (0..run.tables.len()).collect();
        tables.sort_by(|a, b| run.tables[*a].rows.total_cmp(&run.tables[*b].rows));
        tables.into_iter().find_map(|table| {
            let columns: Option<Vec<_>> = sources
                .iter()
                .map(|source| {
                    if source.0 == table {
                        return Some(source.1.clone());
                    }
                    let equal = run.edges.iter().find_map(|(a, b)| match (a, b) {
                        (a, b) if a == *source && b.0 == table => Some(b),
                        (a, b) if b == *source && a.0 == table => Some(a),
                        _ => None,
                    })?;
                    let dtype = |(table, column): &(usize, PlSmallStr)| {
                        self.schema(run.tables[*table].node).get(column).cloned()
                    };
                    (dtype(equal) == dtype(source)).then(|| equal.1.clone())
                })
                .collect();
            Some((table, columns?))
        })
    }
}
