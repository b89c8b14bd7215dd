//! Whether an input is too small for stages to pay.

use polars_plan::plans::{AExpr, ArenaExprIter, ArenaLpIter, IRPlan};

use crate::Options;
use crate::inputs::leaves::{source_bytes, source_rows};
use floe_plan::functions;

/// Up to this many rows, calling Python functions on one worker is faster than distributing them.
const FEW_ROWS: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Small,
    /// Few bytes, for whose rows Python functions are called: these take longer than the rows are large.
    Called,
    /// Or unknown.
    Large,
}

pub fn size(plan: &IRPlan, options: &Options) -> Size {
    match source_bytes(plan) {
        Some(bytes) if bytes <= options.small_input_bytes => {}
        _ => return Size::Large,
    }
    let called = python_sources(plan) > 1 || calls_functions(plan) && source_rows(plan) > FEW_ROWS;
    if called && options.workers > 1 { Size::Called } else { Size::Small }
}

/// Nobody knows how much a source of Python reads: several of them are shared.
fn python_sources(plan: &IRPlan) -> usize {
    plan.lp_arena.iter(plan.lp_top).filter(|(_, ir)| functions::is_source(ir)).count()
}

fn calls_functions(plan: &IRPlan) -> bool {
    let is_call =
        |e: &AExpr| matches!(e, AExpr::AnonymousFunction { fmt_str, .. } if fmt_str.as_str() == functions::SHOWN);
    plan.lp_arena
        .iter(plan.lp_top)
        .any(|(_, ir)| ir.exprs().any(|e| plan.expr_arena.iter(e.node()).any(|(_, e)| is_call(e))))
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::*;

    /// Rows for which a function is called that is shown by this name.
    fn called(rows: i64, name: &'static str) -> LazyFrame {
        let frame = df!["n" => (0..rows).collect::<Vec<_>>()].unwrap().lazy();
        frame.select([col("n").map_with_fmt_str(Ok, |_, field| Ok(field.clone()), name)])
    }

    fn sized(frame: LazyFrame, workers: u32) -> Size {
        let ir = floe_plan::optimize(frame.logical_plan).unwrap();
        size(&ir, &Options { workers, ..Options::default() })
    }

    #[test]
    fn functions_make_many_rows_of_few_bytes_worth_sharing() {
        assert_eq!(sized(called(10_000, functions::SHOWN), 2), Size::Called);
        assert_eq!(sized(called(1_000, functions::SHOWN), 2), Size::Small);
        assert_eq!(sized(called(10_000, functions::SHOWN), 1), Size::Small);
        assert_eq!(sized(called(10_000, "another"), 2), Size::Small);
        assert_eq!(sized(called(10_000_000, functions::SHOWN), 2), Size::Large);
    }
}
