//! `over`: rows with equal partition keys in one place, each window in a column of its own, then the expression over
//! those columns row by row. Several windows with different keys take several exchanges.

use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, AExprBuilder, IR};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use super::context::Cx;
use super::expr;
use super::rel::Rel;
use crate::error::Result;

struct Group {
    keys: Vec<Node>,
    windows: Vec<(Node, PlSmallStr)>,
}

impl Cx<'_> {
    /// A select, with_columns or filter whose expressions are row-wise over windows with keys; else on one worker.
    pub fn windowed(&mut self, node: Node, rel: Rel, exprs: Vec<ExprIR>) -> Result<Rel> {
        let mut found = Vec::new();
        let all = exprs.iter().all(|e| expr::windows(e.node(), &self.ex, &mut found));
        let adds = matches!(self.ir.get(node), IR::HStack { .. });
        let some_column = adds || exprs.iter().any(|e| !expr::scalar(e, &self.ex));
        if !all || found.is_empty() || !some_column {
            if some_column && let Some(parts) = self.scalar_parts(&exprs) {
                return self.beside_scalars(node, rel, exprs, parts);
            }
            let why = exprs
                .iter()
                .find(|e| !expr::elementwise(e, &self.ex))
                .map_or_else(|| "literals only".to_string(), |e| format!("{} needs all rows", super::walk::show(e, &self.ex)));
            let rel = self.gather(rel)?;
            return Ok(self.on_one(node, vec![rel], &why));
        }
        let before: Vec<PlSmallStr> = {
            let tags = rel.tags();
            self.rel_schema(&rel).iter_names().filter(|n| !tags.contains(n)).cloned().collect()
        };
        let ordered = self.order_out(node);
        let ordered_in = self.order_in(node, 0);
        let mut rel = rel;
        let mut groups = self.group_by_keys(&found);
        for group in &mut groups {
            let keys: Vec<ExprIR> = group.keys.iter().map(|k| AExprBuilder::new_from_node(*k).expr_ir("k")).collect();
            let (with_keys, names) = self.as_columns(rel, &keys);
            let by: Vec<ExprIR> = names.iter().map(|name| expr::col(name, &mut self.ex)).collect();
            rel = match self.together(&with_keys, &by)? {
                Some(rel) => rel,
                None => {
                    let rel = self.hash(with_keys, &names, None, ordered || ordered_in)?;
                    self.sort_locally(rel, false)
                },
            };
            let columns = group.windows.iter().map(|(w, n)| AExprBuilder::new_from_node(*w).expr_ir(n.clone())).collect();
            rel = self.with_columns(rel, columns).fixed();
        }
        let columns: Vec<(Node, PlSmallStr)> = groups.into_iter().flat_map(|g| g.windows).collect();
        let rewritten: Vec<ExprIR> = exprs
            .iter()
            .map(|e| {
                let new = expr::rewrite(e.node(), &mut self.ex, &mut |n, arena: &mut _| {
                    let column = columns.iter().find(|(w, _)| *w == n)?;
                    Some(AExprBuilder::col(column.1.clone(), arena).node())
                });
                AExprBuilder::new_from_node(new).expr_ir(e.output_name().clone())
            })
            .collect();
        let rel = self.finish(node, rel, rewritten, before)?;
        Ok(if ordered { rel } else { self.unordered(rel) })
    }

    pub(super) fn finish(&mut self, node: Node, rel: Rel, exprs: Vec<ExprIR>, mut before: Vec<PlSmallStr>) -> Result<Rel> {
        match self.ir.get(node).clone() {
            IR::Filter { .. } => {
                let Some(predicate) = exprs.into_iter().next() else { return Ok(rel) };
                let rel = self.put(rel, |cx, root| cx.ir.add(IR::Filter { input: root, predicate: predicate.clone() }));
                Ok(self.project(rel, &before))
            },
            IR::HStack { .. } => {
                for e in &exprs {
                    if !before.contains(e.output_name()) {
                        before.push(e.output_name().clone());
                    }
                }
                let hashed = rel.hashed.clone().filter(|h| !exprs.iter().any(|e| h.contains(e.output_name())));
                let rel = rel.renamed(|name| (!exprs.iter().any(|e| e.output_name() == name)).then(|| name.clone()));
                let mut rel = self.with_columns(rel, exprs);
                rel.hashed = hashed.filter(|h| h.iter().all(|k| before.contains(k)));
                Ok(self.project(rel, &before))
            },
            _ => Ok(self.select_rows(node, rel, exprs)),
        }
    }

    /// Windows with the same keys share an exchange.
    fn group_by_keys(&mut self, windows: &[Node]) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for window in windows {
            let AExpr::Over { partition_by, .. } = self.ex.get(*window) else { continue };
            let keys = partition_by.clone();
            let name = self.name("w");
            let same = |g: &Group, ex: &_| {
                g.keys.len() == keys.len() && g.keys.iter().zip(&keys).all(|(a, b)| expr::same(*a, *b, ex))
            };
            match groups.iter_mut().find(|g| same(g, &self.ex)) {
                Some(group) => {
                    if !group.windows.iter().any(|(w, _)| w == window) {
                        group.windows.push((*window, name));
                    }
                },
                None => groups.push(Group { keys, windows: vec![(*window, name)] }),
            }
        }
        groups
    }
}
