//! Plans that Polars 0.55 computes wrongly, in a form that it computes rightly. Later releases have mended both, and so does
//! the engine (`floe_plan::projected`, filters on partition columns).

use polars::prelude::{LazyFrame, lit};
use polars_plan::dsl::{DslPlan, ScanSources};

use floe_plan::inputs::{inputs, inputs_mut};
use floe_plan::projected;

/// The plan as a frame to compute.
pub fn frame(mut plan: DslPlan) -> LazyFrame {
    if any(&plan, &is_partitioned) {
        null_is_false(&mut plan);
    }
    let joins = any(&plan, &|plan| matches!(plan, DslPlan::Join { .. }));
    let frame = LazyFrame::from(plan);
    // What fails here fails again where it counts.
    let keeps_columns = joins && frame.clone().to_alp_optimized().is_ok_and(|ir| projected::joins_no_columns(&ir));
    if keeps_columns { frame.with_projection_pushdown(false) } else { frame }
}

fn any(plan: &DslPlan, holds: &dyn Fn(&DslPlan) -> bool) -> bool {
    holds(plan) || inputs(plan).into_iter().any(|input| any(input, holds))
}

/// Whether a plan is a scan of files in folders that are named by values.
fn is_partitioned(plan: &DslPlan) -> bool {
    let DslPlan::Scan { sources: ScanSources::Paths(paths), unified_scan_args, .. } = plan else { return false };
    unified_scan_args.hive_options.enabled != Some(false)
        && paths.iter().any(|path| path.as_str().contains(['=', '*']) || !path.as_str().contains(".parquet"))
}

/// A filter that is null for all rows of a file leaves the file out.
fn null_is_false(plan: &mut DslPlan) {
    if let DslPlan::Filter { predicate, .. } = plan {
        *predicate = std::mem::take(predicate).fill_null(lit(false));
    }
    inputs_mut(plan).into_iter().for_each(null_is_false);
}
