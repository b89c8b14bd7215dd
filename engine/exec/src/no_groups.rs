//! Group-bys over no rows. A whole input is seldom empty; of many tasks some often have no rows. There, some group-bys
//! that Polars runs in memory fail (`arg_max` returns one value where none is expected), and windows leave out the
//! boundaries that the plan declares. So such a group-by becomes a function of its whole input, as in Polars itself,
//! which returns an empty frame of the declared columns if there are no rows.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_expr::state::ExecutionState;
use polars_mem_engine::create_physical_plan;
use polars_plan::dsl::GroupbyOptions;
use polars_plan::plans::{AExpr, ArenaExprIter, FunctionIR, IR, IRFunctionExpr, IRPlan};
use polars_time::{LB_NAME, UB_NAME};
use polars_utils::arena::{Arena, Node};

pub fn settle(plan: &mut IRPlan) {
    let mut found = Vec::new();
    find(plan, plan.lp_top, &mut found);
    for node in found {
        let ir = plan.lp_arena.get(node).clone();
        let IR::GroupBy { input, schema, options, .. } = &ir else { continue };
        let (input, empty) = (*input, empty(schema, options));
        let (schema, exprs) = (schema.clone(), plan.expr_arena.clone());
        let function = move |df: DataFrame| match df.height() {
            0 => Ok(empty.clone()),
            _ => group(ir.clone(), df, exprs.clone()),
        };
        let function = FunctionIR::Opaque {
            function: Arc::new(function),
            schema: Some(Arc::new(move |_: &Schema| Ok(schema.clone()))),
            predicate_pd: false,
            projection_pd: false,
            streamable: false,
            fmt_str: PlSmallStr::from_static("group by"),
        };
        plan.lp_arena.replace(node, IR::MapFunction { input, function });
    }
}

/// Groups the rows of `df`.
fn group(group_by: IR, df: DataFrame, mut exprs: Arena<AExpr>) -> PolarsResult<DataFrame> {
    let mut plans = Arena::default();
    let schema = df.schema().clone();
    let input = plans.add(IR::DataFrameScan { df: Arc::new(df), schema, output_schema: None });
    let top = plans.add(group_by.with_inputs([input]));
    create_physical_plan(top, &mut plans, &mut exprs, None)?.execute(&mut ExecutionState::new())
}

/// The result for no rows.
fn empty(schema: &Schema, options: &GroupbyOptions) -> DataFrame {
    let mut schema = schema.clone();
    let of_dates = options.dynamic.as_ref().is_some_and(|windows| {
        schema.get(&windows.index_column).is_some_and(DataType::is_date) && windows.include_boundaries
    });
    if of_dates {
        // Boundaries of dates are datetimes, whatever the schema says.
        for bound in [LB_NAME, UB_NAME] {
            schema.set_dtype(bound, DataType::Datetime(TimeUnit::Microseconds, None));
        }
    }
    DataFrame::empty_with_schema(&schema)
}

/// The group-bys to be replaced. Windows without keys are streamed, and need it not.
fn find(plan: &IRPlan, node: Node, found: &mut Vec<Node>) {
    let ir = plan.lp_arena.get(node);
    for input in ir.inputs() {
        find(plan, input, found);
    }
    if let IR::GroupBy { keys, aggs, apply: None, options, .. } = ir
        && !keys.is_empty()
        && (has_boundaries(options) || aggs.iter().any(|agg| fails(plan, agg.node())))
        && !found.contains(&node)
    {
        found.push(node);
    }
}

fn has_boundaries(options: &GroupbyOptions) -> bool {
    options.dynamic.as_ref().is_some_and(|windows| windows.include_boundaries)
}

/// Whether an aggregate returns a value although there is no group.
fn fails(plan: &IRPlan, aggregate: Node) -> bool {
    let gives = |function: &IRFunctionExpr| matches!(function, IRFunctionExpr::ArgMin | IRFunctionExpr::ArgMax);
    plan.expr_arena.iter(aggregate).any(|(_, ae)| matches!(ae, AExpr::Function { function, .. } if gives(function)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use polars::prelude::*;

    use super::settle;
    use crate::{Failure, concat_frames, execute};

    fn rows() -> DataFrame {
        let frame = df![
            "k" => ["a", "b", "a", "a"],
            "t" => [1i64, 2, 30, 31],
            "x" => [1.5, 2.5, 0.5, 3.5],
        ];
        let lists = frame.unwrap().lazy().with_column(concat_list([col("t"), col("t")]).unwrap().alias("l"));
        lists.collect().unwrap()
    }

    fn group_bys(frame: DataFrame) -> Vec<(&'static str, LazyFrame)> {
        let windows = |include_boundaries| DynamicGroupOptions {
            every: Duration::parse("10i"),
            period: Duration::parse("10i"),
            offset: Duration::parse("0i"),
            index_column: "t".into(),
            include_boundaries,
            ..Default::default()
        };
        let rolling = RollingGroupOptions {
            index_column: "t".into(),
            period: Duration::parse("5i"),
            offset: Duration::parse("-5i"),
            closed_window: ClosedWindow::Right,
        };
        let lf = frame.lazy();
        let days = lf.clone().with_column(col("t").cast(DataType::Date));
        let (every, offset) = (Duration::parse("1d"), Duration::parse("0d"));
        let of_days = DynamicGroupOptions { every, period: every, offset, ..windows(true) };
        vec![
            ("arg_max", lf.clone().group_by_stable([col("k")]).agg([col("x").arg_max()])),
            (
                "arg_max beside lists",
                lf.clone().group_by_stable([col("k")]).agg([col("x").arg_min(), col("l").first()]),
            ),
            ("windows", lf.clone().group_by_dynamic(col("t"), [col("k")], windows(false)).agg([col("x").arg_max()])),
            ("boundaries", lf.clone().group_by_dynamic(col("t"), [col("k")], windows(true)).agg([col("x").sum()])),
            ("boundaries of dates", days.group_by_dynamic(col("t"), [col("k")], of_days).agg([col("x").sum()])),
            ("rolling", lf.rolling(col("t"), [col("k")], rolling).agg([col("x").arg_max()])),
        ]
    }

    fn run(lf: LazyFrame) -> DataFrame {
        let mut plan = lf.to_alp_optimized().unwrap();
        let schema = plan.lp_arena.get(plan.lp_top).schema(&plan.lp_arena).into_owned();
        settle(&mut plan);
        let frames = Arc::new(Mutex::new(Vec::new()));
        let kept = frames.clone();
        let take = move |df| {
            kept.lock().unwrap().push(df);
            Ok(())
        };
        execute(plan, Failure::default(), take).map_err(|e| format!("{e:?}")).unwrap();
        concat_frames(std::mem::take(&mut *frames.lock().unwrap()), &schema).unwrap()
    }

    #[test]
    fn rows_are_grouped_as_before() {
        for (name, lf) in group_bys(rows()) {
            assert!(run(lf.clone()).equals(&lf.collect().unwrap()), "{name}");
        }
    }

    #[test]
    fn no_rows_have_the_columns_of_some() {
        let expected: Vec<DataFrame> = group_bys(rows()).into_iter().map(|(_, lf)| run(lf)).collect();
        for ((name, lf), expected) in group_bys(rows().clear()).into_iter().zip(expected) {
            let df = run(lf);
            // Not the types: boundaries of dates are datetimes, and the schema says dates.
            assert_eq!(df.height(), 0, "{name}");
            assert_eq!(df.get_column_names(), expected.get_column_names(), "{name}");
        }
    }
}
