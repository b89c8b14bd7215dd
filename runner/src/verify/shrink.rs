//! Reduces a plan that differs to a smaller one that differs the same way: replaces nodes by their inputs, drops
//! expressions, cuts frames, for as long as the fault stays. What is left is what to look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use floe_plan::inputs::{inputs, map_inputs};
use polars::prelude::{DataFrame, LazyFrame};
use polars_plan::dsl::{DslPlan, Expr};

use super::class::Class;
use super::judge::Judge;

/// The result of shrinking.
pub struct Small {
    pub plan: DslPlan,
    /// The plan and its frames as text.
    pub text: String,
}

/// Shrinks for at most a minute.
pub fn shrink(plan: &DslPlan, fault: Class, judge: &Judge<'_>) -> Small {
    const TIME_LIMIT: Duration = Duration::from_secs(60);
    let judge = Judge { limit: judge.limit.min(Duration::from_secs(10)), ..*judge };
    let started = Instant::now();
    let mut best = plan.clone();
    let mut detail = None;
    let mut tries = 0;
    'again: while started.elapsed() < TIME_LIMIT {
        for candidate in candidates(&best) {
            if started.elapsed() > TIME_LIMIT {
                break 'again;
            }
            tries += 1;
            let Ok(bytes) = bytes(&candidate) else { continue };
            let checked = judge.check("shrinking", &bytes, &candidate);
            if checked.outcome == fault {
                best = candidate;
                detail = checked.detail;
                continue 'again;
            }
        }
        break;
    }
    let mut text = format!("{} after {tries} tries\n{}\n\n", fault.as_str(), detail.unwrap_or_default());
    text.push_str(&LazyFrame::from(best.clone()).describe_plan().unwrap_or_else(|e| format!("{e}")));
    text.push_str("\n\noptimized\n");
    let flags = LazyFrame::from(best.clone()).with_streaming(true);
    text.push_str(&flags.describe_optimized_plan().unwrap_or_else(|e| format!("{e}")));
    let mut frames = Vec::new();
    super::perturb::frames(&best, &mut frames);
    for frame in frames {
        text.push_str(&format!("\n\n{frame}"));
    }
    Small { plan: best, text }
}

/// The plan as `LazyFrame.serialize()` writes it.
pub fn bytes(plan: &DslPlan) -> polars::prelude::PolarsResult<Vec<u8>> {
    floe_codec::encode_dsl(plan)
}

/// Smaller plans, boldest first.
fn candidates(plan: &DslPlan) -> Vec<DslPlan> {
    let mut out = Vec::new();
    here(plan, &mut out);
    // The same inside each input, one input at a time.
    let count = inputs(plan).len();
    for nth in 0..count {
        let Some(input) = inputs(plan).into_iter().nth(nth) else { continue };
        for smaller in candidates(input) {
            let mut at = 0;
            out.push(map_inputs(plan.clone(), &mut |old| {
                at += 1;
                if at - 1 == nth { smaller.clone() } else { old }
            }));
        }
    }
    out
}

fn here(plan: &DslPlan, out: &mut Vec<DslPlan>) {
    out.extend(inputs(plan).into_iter().cloned());
    match plan {
        DslPlan::Select { expr, input, options } if expr.len() > 1 => {
            for fewer in without_each(expr) {
                out.push(DslPlan::Select { expr: fewer, input: input.clone(), options: *options });
            }
        }
        DslPlan::HStack { input, exprs, options } if exprs.len() > 1 => {
            for fewer in without_each(exprs) {
                out.push(DslPlan::HStack { input: input.clone(), exprs: fewer, options: *options });
            }
        }
        DslPlan::GroupBy { input, keys, predicates, aggs, maintain_order, options, apply } => {
            let with = |keys: Vec<Expr>, aggs: Vec<Expr>| DslPlan::GroupBy {
                input: input.clone(),
                keys,
                predicates: predicates.clone(),
                aggs,
                maintain_order: *maintain_order,
                options: options.clone(),
                apply: apply.clone(),
            };
            out.extend(without_each(aggs).into_iter().map(|fewer| with(keys.clone(), fewer)));
            if keys.len() > 1 {
                out.extend(without_each(keys).into_iter().map(|fewer| with(fewer, aggs.clone())));
            }
        }
        DslPlan::Sort { input, by_column, slice: Some(_), sort_options } => {
            let (input, by_column, sort_options) = (input.clone(), by_column.clone(), sort_options.clone());
            out.push(DslPlan::Sort { input, by_column, slice: None, sort_options });
        }
        DslPlan::Union { inputs, args } if inputs.len() > 2 => {
            for nth in 0..inputs.len() {
                let mut fewer = inputs.clone();
                fewer.remove(nth);
                out.push(DslPlan::Union { inputs: fewer, args: *args });
            }
        }
        DslPlan::DataFrameScan { df, .. } => out.extend(smaller_frames(df).into_iter().map(scan)),
        _ => {}
    }
}

fn scan(frame: DataFrame) -> DslPlan {
    let schema = frame.schema().clone();
    DslPlan::DataFrameScan { df: Arc::new(frame), schema }
}

/// Halves, then without one row when few are left, then without each column.
fn smaller_frames(frame: &DataFrame) -> Vec<DataFrame> {
    let height = frame.height();
    let mut out = Vec::new();
    if height > 1 {
        let half = height / 2;
        out.push(frame.slice(0, half));
        out.push(frame.slice(half as i64, height - half));
        let quarter = height / 4;
        if quarter > 0 {
            out.push(frame.slice(0, height - quarter));
            out.push(frame.slice(quarter as i64, height - quarter));
        }
    }
    if (2..=12).contains(&height) {
        for row in 0..height {
            let (top, bottom) = (frame.slice(0, row), frame.slice(row as i64 + 1, height - row - 1));
            out.extend(top.vstack(&bottom).ok());
        }
    }
    if frame.width() > 1 {
        out.extend(frame.columns().iter().filter_map(|c| frame.drop(c.name()).ok()));
    }
    out
}

fn without_each(list: &[Expr]) -> Vec<Vec<Expr>> {
    (0..list.len())
        .map(|nth| list.iter().enumerate().filter(|(i, _)| *i != nth).map(|(_, e)| e.clone()).collect())
        .collect()
}
