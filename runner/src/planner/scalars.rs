//! Rows beside aggregates of all rows, as in `x - x.mean()`: the aggregates are computed in parts, their one row goes to
//! every task, and there the expression is row-wise.

use std::sync::Arc;

use polars_ops::frame::{JoinArgs, JoinType};
use polars_plan::dsl::JoinOptionsIR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExprBuilder, is_elementwise_rec, is_scalar_ae};
use polars_plan::prelude::ProjectionOptions;
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use super::aggregate::{Setting, decompose};
use super::context::Cx;
use super::expr;
use super::rel::{Order, Rel};
use crate::error::Result;

impl Cx<'_> {
    /// The aggregates in these expressions, if all else in them is row-wise.
    pub(super) fn scalar_parts(&self, exprs: &[ExprIR]) -> Option<Vec<Node>> {
        let mut found = Vec::new();
        exprs.iter().all(|e| self.find_scalars(e.node(), &mut found)).then_some(found)
    }

    fn find_scalars(&self, node: Node, found: &mut Vec<Node>) -> bool {
        if is_elementwise_rec(node, &self.ex) {
            return true;
        }
        if is_scalar_ae(node, &self.ex) {
            if !found.iter().any(|other| expr::same(*other, node, &self.ex)) {
                found.push(node);
            }
            return true;
        }
        let mut inputs = Vec::new();
        self.ex.get(node).inputs_rev(&mut inputs);
        expr::top_elementwise(node, &self.ex) && inputs.iter().all(|input| self.find_scalars(*input, found))
    }

    pub(super) fn beside_scalars(&mut self, node: Node, rel: Rel, exprs: Vec<ExprIR>, scalars: Vec<Node>) -> Result<Rel> {
        let before: Vec<PlSmallStr> = {
            let tags = rel.tags();
            self.rel_schema(&rel).iter_names().filter(|name| !tags.contains(name)).cloned().collect()
        };
        let columns: Vec<(Node, PlSmallStr)> = scalars.iter().map(|scalar| (*scalar, self.name("s"))).collect();
        let wanted: Vec<ExprIR> =
            columns.iter().map(|(scalar, name)| AExprBuilder::new_from_node(*scalar).expr_ir(name.clone())).collect();
        let schema = self.rel_schema(&rel);
        let mut counter = 0;
        let prefix = self.name("r");
        let mut name = || {
            counter += 1;
            PlSmallStr::from_string(format!("{prefix}_{counter}"))
        };
        let parts = match decompose(&wanted, &schema, Setting::Columns, &mut self.ex, &mut name) {
            Ok(parts) if !rel.is_one() => parts,
            Ok(_) => return Ok(self.on_one(node, vec![rel], "its input is in one task already")),
            Err(why) => {
                let rel = self.gather(rel)?;
                return Ok(self.on_one(node, vec![rel], &why));
            },
        };
        let rows = self.keep(rel)?;
        let again = self.reread(&rows);
        let project = |cx: &mut Self, rel: Rel, exprs: &[ExprIR]| {
            cx.put(rel, |cx, root| {
                let exprs = exprs.to_vec();
                cx.build(root, |b| b.project(exprs, ProjectionOptions::default()))
            })
        };
        let again = self.unordered(again);
        let again = project(self, again, &parts.partial);
        let again = self.gather(again)?;
        let again = project(self, again, &parts.combine);
        let mut one = project(self, again, &parts.finish);
        (one.order, one.rows, one.bytes) = (Order::Free, Some(1.0), Some(64.0));

        let cross = JoinOptionsIR {
            allow_parallel: true,
            force_parallel: false,
            args: JoinArgs { how: JoinType::Cross, ..JoinArgs::default() },
            options: None,
        };
        let rel = self.beside(rows, one, Arc::new(cross))?;
        let rewritten: Vec<ExprIR> = exprs
            .iter()
            .map(|e| {
                let new = expr::rewrite(e.node(), &mut self.ex, &mut |at, arena: &mut _| {
                    let (_, name) = columns.iter().find(|(scalar, _)| expr::same(*scalar, at, arena))?;
                    Some(AExprBuilder::col(name.clone(), arena).node())
                });
                AExprBuilder::new_from_node(new).expr_ir(e.output_name().clone())
            })
            .collect();
        let rel = self.finish(node, rel, rewritten, before)?;
        Ok(if self.order_out(node) { rel } else { self.unordered(rel) })
    }
}
