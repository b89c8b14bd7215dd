//! The direct inputs of plan nodes.

use std::sync::Arc;

use polars_plan::dsl::DslPlan;

pub fn inputs(plan: &DslPlan) -> Vec<&DslPlan> {
    match plan {
        DslPlan::Filter { input, .. }
        | DslPlan::Cache { input, .. }
        | DslPlan::Select { input, .. }
        | DslPlan::GroupBy { input, .. }
        | DslPlan::HStack { input, .. }
        | DslPlan::MatchToSchema { input, .. }
        | DslPlan::Pivot { input, .. }
        | DslPlan::Distinct { input, .. }
        | DslPlan::Sort { input, .. }
        | DslPlan::Slice { input, .. }
        | DslPlan::MapFunction { input, .. }
        | DslPlan::Sink { input, .. } => vec![input],
        DslPlan::Join { input_left, input_right, .. } | DslPlan::MergeSorted { input_left, input_right, .. } => {
            vec![input_left, input_right]
        }
        DslPlan::Gather { input, idxs, .. } => vec![input, idxs],
        DslPlan::ExtContext { input, contexts } => std::iter::once(&**input).chain(contexts).collect(),
        DslPlan::Union { inputs, .. } | DslPlan::HConcat { inputs, .. } | DslPlan::SinkMultiple { inputs } => {
            inputs.iter().collect()
        }
        DslPlan::PipeWithSchema { input, .. } => input.iter().collect(),
        DslPlan::IR { dsl, .. } => vec![dsl],
        DslPlan::Scan { .. } | DslPlan::DataFrameScan { .. } => Vec::new(),
        #[allow(unreachable_patterns, reason = "Python scans exist only with a feature that this build leaves out")]
        _ => Vec::new(),
    }
}

/// The inputs, for replacement. Leaves out those of `PipeWithSchema`, which are shared with its function.
pub fn inputs_mut(plan: &mut DslPlan) -> Vec<&mut DslPlan> {
    match plan {
        DslPlan::Filter { input, .. }
        | DslPlan::Cache { input, .. }
        | DslPlan::Select { input, .. }
        | DslPlan::GroupBy { input, .. }
        | DslPlan::HStack { input, .. }
        | DslPlan::MatchToSchema { input, .. }
        | DslPlan::Pivot { input, .. }
        | DslPlan::Distinct { input, .. }
        | DslPlan::Sort { input, .. }
        | DslPlan::Slice { input, .. }
        | DslPlan::MapFunction { input, .. }
        | DslPlan::Sink { input, .. } => vec![Arc::make_mut(input)],
        DslPlan::Join { input_left, input_right, .. } | DslPlan::MergeSorted { input_left, input_right, .. } => {
            vec![Arc::make_mut(input_left), Arc::make_mut(input_right)]
        }
        DslPlan::Gather { input, idxs, .. } => vec![Arc::make_mut(input), Arc::make_mut(idxs)],
        DslPlan::ExtContext { input, contexts } => std::iter::once(Arc::make_mut(input)).chain(contexts).collect(),
        DslPlan::Union { inputs, .. } | DslPlan::HConcat { inputs, .. } | DslPlan::SinkMultiple { inputs } => {
            inputs.iter_mut().collect()
        }
        DslPlan::IR { dsl, .. } => vec![Arc::make_mut(dsl)],
        DslPlan::PipeWithSchema { .. } | DslPlan::Scan { .. } | DslPlan::DataFrameScan { .. } => Vec::new(),
        #[allow(unreachable_patterns, reason = "Python scans exist only with a feature that this build leaves out")]
        _ => Vec::new(),
    }
}

/// Replaces each input of a node by `f(input)`. A node that was already optimized is replaced by its DSL, because its
/// optimized form still has the old inputs.
pub fn map_inputs(mut plan: DslPlan, f: &mut dyn FnMut(DslPlan) -> DslPlan) -> DslPlan {
    if let DslPlan::IR { dsl, .. } = plan {
        return f(Arc::unwrap_or_clone(dsl));
    }
    for input in inputs_mut(&mut plan) {
        *input = f(std::mem::take(input));
    }
    plan
}
