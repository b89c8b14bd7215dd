//! Distributes `over`, and functions like `is_unique`: puts rows with equal partition keys into one task, computes each
//! window in a column of its own, then the expression over those columns row by row. Each distinct set of keys takes
//! one exchange.

use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, AExprBuilder, IR};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::operators::subexpressions::Extraction;
use crate::properties::expr;
use crate::properties::rel::Rel;
use floe_wire::error::Result;

struct Group {
    keys: Vec<Node>,
    windows: Vec<(Node, PlSmallStr)>,
}

impl Cx<'_> {
    /// A select, with_columns or filter: by subexpression extraction if possible, else on one worker.
    pub fn windowed(&mut self, node: Node, rel: Rel, exprs: Vec<ExprIR>) -> Result<Rel> {
        let one_value =
            matches!(self.ir.get(node), IR::Select { .. }) && exprs.iter().all(|e| expr::scalar(e, &self.ex));
        if one_value {
            let rel = self.gather(rel)?;
            return Ok(self.on_one(node, vec![rel], "literals only"));
        }
        let before: Vec<PlSmallStr> = {
            let tags = rel.tags();
            self.rel_schema(&rel).iter_names().filter(|n| !tags.contains(n)).cloned().collect()
        };
        match self.extract_subexpressions(node, rel, &exprs)? {
            Extraction::Done(rel, exprs) => {
                let rel = self.finish(node, rel, exprs, before)?;
                Ok(if self.order_out(node) { rel } else { self.unordered(rel) })
            }
            Extraction::NeedsAllRows(rel, why) => {
                let rel = self.gather(rel)?;
                Ok(self.on_one(node, vec![rel], &why))
            }
        }
    }

    /// Adds a column for each window.
    pub(crate) fn with_windows(
        &mut self,
        mut rel: Rel,
        windows: Vec<(Node, PlSmallStr)>,
        ordered: bool,
    ) -> Result<Rel> {
        for group in self.group_by_keys(windows) {
            let keys: Vec<ExprIR> = group.keys.iter().map(|k| AExprBuilder::new_from_node(*k).expr_ir("k")).collect();
            let (with_keys, names) = self.as_columns(rel, &keys);
            let by: Vec<ExprIR> = names.iter().map(|name| expr::col(name, &mut self.ex)).collect();
            rel = match self.together(&with_keys, &by)? {
                Some(rel) => rel,
                None => {
                    let rel = self.hash(with_keys, &names, None, ordered)?;
                    self.sort_locally(rel, false)
                }
            };
            let columns =
                group.windows.iter().map(|(w, n)| AExprBuilder::new_from_node(*w).expr_ir(n.clone())).collect();
            rel = self.with_columns_within(rel, columns);
        }
        Ok(rel)
    }

    pub(crate) fn finish(
        &mut self,
        node: Node,
        rel: Rel,
        exprs: Vec<ExprIR>,
        mut before: Vec<PlSmallStr>,
    ) -> Result<Rel> {
        match self.ir.get(node).clone() {
            IR::Filter { .. } => {
                let Some(predicate) = exprs.into_iter().next() else { return Ok(rel) };
                let rel = self.filter(rel, predicate);
                Ok(self.project(rel, &before))
            }
            IR::HStack { .. } => {
                for e in &exprs {
                    if !before.contains(e.output_name()) {
                        before.push(e.output_name().clone());
                    }
                }
                let rel = self.with_columns(rel, exprs);
                Ok(self.project(rel, &before))
            }
            _ => Ok(self.select_rows(node, rel, exprs)),
        }
    }

    /// Windows with the same keys share an exchange. Constant keys are left out: rows equal in the others are equal in
    /// all.
    fn group_by_keys(&mut self, windows: Vec<(Node, PlSmallStr)>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (window, name) in windows {
            let keys: Vec<Node> = match self.ex.get(window) {
                AExpr::Over { partition_by, .. } => partition_by.clone(),
                // `is_unique` and kin.
                AExpr::Function { input, .. } => input.iter().map(ExprIR::node).collect(),
                _ => continue,
            };
            let keys: Vec<Node> = keys.into_iter().filter(|key| expr::has_column(*key, &self.ex)).collect();
            let same = |g: &Group, ex: &_| {
                g.keys.len() == keys.len() && g.keys.iter().zip(&keys).all(|(a, b)| expr::same(*a, *b, ex))
            };
            match groups.iter_mut().find(|g| same(g, &self.ex)) {
                Some(group) => group.windows.push((window, name)),
                None => groups.push(Group { keys, windows: vec![(window, name)] }),
            }
        }
        groups
    }
}
