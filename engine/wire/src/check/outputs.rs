//! Checks that every output is written, with the columns of the user's plan, in the order that Polars promises.

use std::collections::BTreeSet;

use super::{Finding, has_column, same_names};
use crate::facts::{HIDDEN_PREFIX, PlanOutput, RowOrder};
use crate::graph::{Exchange, Stage, StageGraph};

pub(super) fn check(graph: &StageGraph, findings: &mut Vec<Finding>) {
    if graph.roots.is_empty() {
        findings.push(Finding::NoRoots);
        return;
    }
    let (mut seen, mut written, mut lost) = (BTreeSet::new(), BTreeSet::new(), false);
    for root in &graph.roots {
        if !seen.insert(*root) {
            findings.push(Finding::RepeatedRoot { root: *root });
            continue;
        }
        let stage = &graph.stages[root.0 as usize];
        let output = match stage.output {
            // A plan with sinks has an output for each; one without has a single output, kept for the client.
            Exchange::Result => 0,
            Exchange::Sink { sink } => sink as usize,
            Exchange::Hash { .. } | Exchange::Range { .. } | Exchange::Whole => {
                findings.push(Finding::RootExchanges { root: *root });
                continue;
            }
        };
        match graph.outputs.get(output) {
            Some(expected) => check_output(stage, expected, findings),
            None => {
                let outputs = graph.outputs.len();
                findings.push(Finding::SinkOutOfRange { stage: stage.id, sink: output as u32, outputs });
                lost = true;
            }
        }
        written.insert(output);
    }
    // Rows for a sink that does not exist are missing from another one: report one fault.
    let unwritten = (0..graph.outputs.len()).filter(|output| !lost && !written.contains(output));
    findings.extend(unwritten.map(|output| Finding::OutputUnwritten { output }));
    for stage in &graph.stages {
        if let RowOrder::Tags(tags) = &stage.facts.order {
            let missing = tags.iter().filter(|tag| !has_column(&stage.facts.columns, tag));
            findings.extend(missing.map(|tag| Finding::MissingOrderTag { stage: stage.id, tag: tag.clone() }));
        }
    }
}

fn check_output(stage: &Stage, expected: &PlanOutput, findings: &mut Vec<Finding>) {
    let columns = &stage.facts.columns;
    let hidden: Vec<_> = columns
        .iter()
        .filter(|column| column.name.starts_with(HIDDEN_PREFIX) && !has_column(&expected.columns, &column.name))
        .collect();
    if hidden.is_empty() {
        if !same_names(columns, &expected.columns) {
            let (expected, written) = (expected.columns.clone(), columns.clone());
            findings.push(Finding::OutputColumns { stage: stage.id, expected, written });
        }
    } else {
        let found =
            |column: &crate::facts::Column| Finding::HiddenColumn { stage: stage.id, column: column.name.clone() };
        findings.extend(hidden.into_iter().map(found));
    }
    if expected.ordered && !matches!(stage.facts.order, RowOrder::Promised | RowOrder::Any) {
        findings.push(Finding::OrderLost { stage: stage.id });
    }
}
