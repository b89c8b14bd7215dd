//! Computes aggregates of all rows beside the rows, as in `x - x.mean()`: by partial aggregation where they decompose,
//! else on one worker from just the columns they need. Their one row is broadcast to every task.

use std::sync::Arc;

use polars_core::prelude::Schema;
use polars_ops::frame::{JoinArgs, JoinType};
use polars_plan::dsl::JoinOptionsIR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, AExprBuilder, ArenaExprIter};
use polars_plan::prelude::ProjectionOptions;
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::operators::aggregate::{Decomposed, Setting, decompose};
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Rel};
use floe_wire::error::Result;

impl Cx<'_> {
    /// Whether the aggregate of all rows can be computed in parts.
    pub(crate) fn decomposes(&mut self, node: Node, schema: &Schema) -> bool {
        let wanted = [AExprBuilder::new_from_node(node).expr_ir("s")];
        decompose(&wanted, schema, Setting::Columns, &mut self.ex, &mut || PlSmallStr::from_static("s")).is_ok()
    }

    /// Adds the aggregates to the relation, each in a column of its own.
    pub(crate) fn with_scalars(&mut self, rel: Rel, scalars: &[(Node, PlSmallStr)]) -> Result<Rel> {
        let schema = self.rel_schema(&rel);
        let (mut parts, mut whole) = (Decomposed::default(), Vec::new());
        let mut counter = 0;
        let prefix = self.name("r");
        let mut name = || {
            counter += 1;
            PlSmallStr::from_string(format!("{prefix}_{counter}"))
        };
        for (scalar, column) in scalars {
            let wanted = AExprBuilder::new_from_node(*scalar).expr_ir(column.clone());
            match decompose(std::slice::from_ref(&wanted), &schema, Setting::Columns, &mut self.ex, &mut name) {
                Ok(one) => parts.add(one),
                Err(why) => whole.push((wanted, why)),
            }
        }
        let ordered = scalars.iter().any(|(scalar, _)| expr::asks_order(*scalar, &self.ex));
        let rows = if ordered { self.in_order(rel)? } else { rel };
        let rows = self.keep(rows)?;
        let mut all = self.reread(&rows);
        if !parts.finish.is_empty() {
            let again = self.reread(&rows);
            let one = self.in_parts(again, &parts)?;
            all = self.with_one(all, one)?;
        }
        if !whole.is_empty() {
            let again = self.reread(&rows);
            let one = self.of_all(again, &whole)?;
            all = self.with_one(all, one)?;
        }
        Ok(all)
    }

    /// One row: partial aggregation in every task, combined in one.
    pub(crate) fn in_parts(&mut self, rel: Rel, parts: &Decomposed) -> Result<Rel> {
        // Partials are combined in the order of the tasks without tags, too.
        let rel = self.unordered(rel);
        let partial = self.select_of(rel, &parts.partial);
        let partial = partial.sized(Some(64.0), Some(4096.0));
        let together = self.gather(partial)?;
        let combined = self.select_of(together, &parts.combine);
        let one = self.select_of(combined, &parts.finish);
        Ok(one.in_promised_order().sized(Some(1.0), Some(64.0)))
    }

    /// One row, computed in one task from just the columns that it needs.
    fn of_all(&mut self, rel: Rel, wanted: &[(ExprIR, String)]) -> Result<Rel> {
        let mut needed: Vec<PlSmallStr> = Vec::new();
        for (e, _) in wanted {
            for (_, ae) in self.ex.iter(e.node()) {
                if let AExpr::Column(name) = ae
                    && !needed.contains(name)
                {
                    needed.push(name.clone());
                }
            }
        }
        let rel = if needed.is_empty() { rel } else { self.project(rel, &needed) };
        let rel = self.gather(rel)?;
        let exprs: Vec<ExprIR> = wanted.iter().map(|(e, _)| e.clone()).collect();
        let one = self.select_of(rel, &exprs);
        if let [(_, why), ..] = wanted {
            self.single(one.root(), why.clone());
        }
        Ok(one.in_promised_order().sized(Some(1.0), Some(64.0)))
    }

    fn select_of(&mut self, rel: Rel, exprs: &[ExprIR]) -> Rel {
        self.put(rel, Effect::WithinTaskInOrder(Names::Only(&[])), |cx, root| {
            let exprs = exprs.to_vec();
            cx.build(root, |b| b.project(exprs, ProjectionOptions::default()))
        })
    }

    fn with_one(&mut self, rows: Rel, one: Rel) -> Result<Rel> {
        let cross = JoinOptionsIR {
            allow_parallel: true,
            force_parallel: false,
            args: JoinArgs { how: JoinType::Cross, ..JoinArgs::default() },
            options: None,
        };
        self.with_single_row(rows, one, Arc::new(cross))
    }
}
