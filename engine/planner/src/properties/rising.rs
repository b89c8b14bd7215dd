//! Finds columns that are known to rise from row to row, by the nodes that produce the rows.

use polars_core::prelude::*;
use polars_core::series::IsSorted;
use polars_ops::series::SeriesMethods;
use polars_plan::plans::{AExpr, FunctionIR, IR, IRFunctionExpr};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::properties::expr;
use floe_plan::databases;

impl Cx<'_> {
    /// Whether the rows are known to rise in this column.
    pub(crate) fn rises(&self, node: Node, column: &PlSmallStr) -> bool {
        match self.ir.get(node) {
            IR::Filter { input, .. }
            | IR::SimpleProjection { input, .. }
            | IR::Slice { input, .. }
            | IR::Cache { input, .. } => self.rises(*input, column),
            IR::Sort { by_column, sort_options, .. } => {
                let first = by_column.first().and_then(|by| expr::column_name(by, &self.ex));
                let falls =
                    sort_options.descending.first() == Some(&true) || sort_options.nulls_last.first() == Some(&true);
                first.as_ref() == Some(column) && !falls
            }
            IR::HStack { input, exprs, .. } => match exprs.iter().find(|e| e.output_name() == column) {
                Some(e) => self.same_column(e.node()).is_some_and(|name| self.rises(*input, &name)),
                None => self.rises(*input, column),
            },
            IR::Select { input, expr, .. } => {
                expr.iter().all(|e| expr::elementwise(e, &self.ex))
                    && expr
                        .iter()
                        .find(|e| e.output_name() == column)
                        .is_some_and(|e| self.same_column(e.node()).is_some_and(|name| self.rises(*input, &name)))
            }
            IR::MapFunction { input, function } => match function {
                FunctionIR::RowIndex { name, .. } if name == column => true,
                FunctionIR::RowIndex { .. } | FunctionIR::Hint(_) | FunctionIR::Rechunk => self.rises(*input, column),
                _ => false,
            },
            IR::DataFrameScan { df, .. } if databases::stands_for_table(df) => false,
            IR::DataFrameScan { df, .. } => df.column(column).is_ok_and(|values| {
                let mut values = values.as_materialized_series().clone();
                // Don't trust a flag that a user set.
                values.set_sorted_flag(IsSorted::Not);
                values.null_count() == 0 && values.is_sorted(SortOptions::default()).unwrap_or(false)
            }),
            _ => false,
        }
    }

    /// The column that an expression passes on with its values in the same order.
    pub(crate) fn same_column(&self, node: Node) -> Option<PlSmallStr> {
        match self.ex.get(node) {
            AExpr::Column(name) => Some(name.clone()),
            AExpr::Function { input, function: IRFunctionExpr::SetSortedFlag(_), .. } => {
                self.same_column(input[0].node())
            }
            _ => None,
        }
    }
}
