//! Checks that rows of dynamic windows rise: an expression marks rows that do not, and a task replaces the mark by a
//! function that fails on such a row as Polars itself does. A function cannot be sent with a fragment; its mark can.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::dsl::{BaseColumnUdf, LazySerde, SpecialEq};
use polars_plan::plans::expr_ir::{ExprIR, OutputName};
use polars_plan::plans::{AExpr, AExprBuilder, IR, IRPlan};
use polars_plan::prelude::FunctionOptions;
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::properties::rel::Rel;

/// Hidden columns: the index of a row, and whether it is less than that of the row above.
const INDEX: &str = "__floe_rising";
const FALLS: &str = "__floe_falls";

impl Cx<'_> {
    /// Makes rows fail whose index is less than that of the row above: the streaming engine accepts any order, and each
    /// task would make other windows.
    pub(crate) fn checked_to_rise(&mut self, rel: Rel, index: &PlSmallStr) -> Rel {
        let name = PlSmallStr::from_static(INDEX);
        let column = AExprBuilder::col(index.clone(), &mut self.ex).expr_ir(name.clone());
        let rel = self.with_columns(rel, vec![column]);
        let arena = &mut self.ex;
        let here = AExprBuilder::col(name, arena);
        let one = AExprBuilder::lit_scalar(Scalar::from(1i64), arena);
        let falls = here.lt(here.shift(one, arena), arena).expr_ir(PlSmallStr::from_static(FALLS));
        self.with_columns_within(rel, vec![falls])
    }
}

/// Replaces each such mark by the function that fails.
pub(crate) fn arm(plan: &mut IRPlan) {
    for at in 0..plan.lp_arena.len() {
        let IR::HStack { exprs, .. } = plan.lp_arena.get_mut(Node(at)) else { continue };
        for mark in exprs.iter_mut().filter(|e| e.output_name() == FALLS) {
            let checked = none_of(mark, &mut plan.expr_arena);
            mark.set_node(checked);
        }
    }
}

fn none_of(mark: &ExprIR, arena: &mut Arena<AExpr>) -> Node {
    let check = |columns: &mut [Column]| {
        if columns[0].bool()?.any() {
            polars_bail!(InvalidOperation: "argument in operation 'group_by_dynamic' is not sorted, please sort the 'expr/series/column' first");
        }
        Ok(columns[0].clone())
    };
    let field = |_: &Schema, fields: &[Field]| Ok(fields[0].clone());
    arena.add(AExpr::AnonymousFunction {
        input: vec![ExprIR::new(mark.node(), OutputName::Alias(PlSmallStr::from_static(FALLS)))],
        function: LazySerde::Deserialized(SpecialEq::new(Arc::new(BaseColumnUdf::new(check, field)))),
        options: FunctionOptions::elementwise(),
        fmt_str: Box::new(PlSmallStr::from_static("rises")),
    })
}
