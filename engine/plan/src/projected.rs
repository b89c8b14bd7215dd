//! Joins of which one side has no columns. Where no column of a select of aggregates is used, Polars 0.55 drops the select,
//! and with it that there is one row: a cross join with it then repeats its rows.

use polars_core::prelude::PolarsResult;
use polars_lazy::frame::LazyFrame;
use polars_plan::plans::{ArenaLpIter, IR, IRPlan};

/// Optimizes a plan; without dropping columns, if that would leave a side of a join without any.
pub fn optimize(frame: LazyFrame) -> PolarsResult<IRPlan> {
    let plan = frame.clone().to_alp_optimized()?;
    match joins_no_columns(&plan) {
        true => frame.with_projection_pushdown(false).to_alp_optimized(),
        false => Ok(plan),
    }
}

/// Whether a side of a join has no columns.
pub fn joins_no_columns(plan: &IRPlan) -> bool {
    let has_none = |ir: &IR| ir.inputs().any(|input| plan.lp_arena.get(input).schema(&plan.lp_arena).is_empty());
    plan.lp_arena.iter(plan.lp_top).any(|(_, ir)| matches!(ir, IR::Join { .. }) && has_none(ir))
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    #[test]
    fn one_row_of_aggregates_stays_one_row_where_none_is_used() {
        let (a, b) = (df!("a" => [1, 2]).unwrap().lazy(), df!("b" => [1, 2, 3]).unwrap().lazy());
        let joined = a.cross_join(b.select([col("b").min()]), None);
        for used in [vec![len()], vec![col("a")]] {
            let plan = crate::optimize(joined.clone().select(used).logical_plan).unwrap();
            assert!(plan.describe().contains("min()"), "{}", plan.describe());
        }
    }
}
