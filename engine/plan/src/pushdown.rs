//! Plans that ask nothing less of their sources: whole files, all rows, all columns. For comparison with the usual way,
//! in which Polars' optimizer hands projections, filters and slices to scans. While it runs, a function that returns its
//! rows as they are, and that it must not look into, stands above every scan.

use std::sync::Arc;

use polars_core::frame::DataFrame;
use polars_plan::dsl::DslPlan;
use polars_plan::plans::{DslFunction, FunctionIR, IR, IRPlan};

use crate::inputs::inputs_mut;

/// How the function is called in plans.
const FENCE: &str = "floe-fence";

/// Fences off every scan.
pub fn fence(plan: &mut DslPlan) {
    if let DslPlan::Scan { .. } = plan {
        let function = FunctionIR::Opaque {
            function: Arc::new(|rows: DataFrame| Ok(rows)),
            schema: None,
            predicate_pd: false,
            projection_pd: false,
            streamable: true,
            fmt_str: FENCE.into(),
        };
        let input = Arc::new(std::mem::take(plan));
        *plan = DslPlan::MapFunction { input, function: DslFunction::FunctionIR(function) };
        return;
    }
    inputs_mut(plan).into_iter().for_each(fence);
}

/// Takes the fences away.
pub fn unfence(plan: &mut IRPlan) {
    let mut open = vec![plan.lp_top];
    while let Some(node) = open.pop() {
        if let IR::MapFunction { input, function: FunctionIR::Opaque { fmt_str, .. } } = plan.lp_arena.get(node)
            && fmt_str == FENCE
        {
            let scan = plan.lp_arena.get(*input).clone();
            plan.lp_arena.replace(node, scan);
        }
        open.extend(plan.lp_arena.get(node).inputs());
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    #[test]
    fn scans_read_all_columns_and_rows_without_pushdown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.parquet");
        let mut rows = df!("a" => (0..100).collect::<Vec<i64>>(), "b" => (0..100).collect::<Vec<i64>>()).unwrap();
        ParquetWriter::new(std::fs::File::create(&path).unwrap()).finish(&mut rows).unwrap();
        let scan = LazyFrame::scan_parquet(path.to_str().unwrap().into(), Default::default()).unwrap();
        let asked = scan.filter(col("a").lt(lit(3))).select([col("b")]).slice(0, 2);
        let with = crate::optimize(asked.logical_plan.clone()).unwrap().describe();
        assert!(with.contains("PROJECT 2/2 COLUMNS") || with.contains("SELECTION"), "{with}");
        let without = crate::optimize_with(asked.logical_plan, false).unwrap().describe();
        assert!(without.contains("PROJECT */2 COLUMNS") && !without.contains("SELECTION"), "{without}");
        assert!(!without.contains(super::FENCE), "{without}");
    }
}
