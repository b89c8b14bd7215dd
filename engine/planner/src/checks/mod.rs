//! Checks decoded fragments without the planner's own bookkeeping: each fragment matches its stated facts, its nodes
//! give the order that the stage claims, and every join has its matching rows in one task.

mod order;
mod placement;
mod promise;
#[cfg(test)]
mod tests;

pub use promise::promised;

use polars_plan::plans::{IR, IRPlan};
use polars_utils::arena::Node;

use crate::close::columns;
use crate::fragment::Fragment;
use floe_wire::check::Finding;
use floe_wire::facts::{Column, StageFacts};
use floe_wire::graph::{Leaf, Read, StageGraph, StageId};

/// Finds what is wrong with a graph; looks into the fragments only if the graph itself is sound.
pub fn check(graph: &StageGraph) -> Vec<Finding> {
    let mut findings = graph.check();
    if !findings.is_empty() {
        return findings;
    }
    for stage in &graph.stages {
        let mut form = |fragment: &[u8], leaves: &[Leaf], facts: &StageFacts| {
            // A stage without leaves holds the whole plan with its data.
            if !leaves.is_empty() {
                let leaves: Vec<&Leaf> = leaves.iter().filter(|leaf| !reads_keys(leaf)).collect();
                findings.extend(check_form(graph, stage.id, fragment, &leaves, facts));
            }
        };
        form(&stage.fragment, &stage.leaves, &stage.facts);
        if let Some(adaptive) = &stage.adaptive {
            form(&adaptive.fragment, &adaptive.leaves, &adaptive.facts);
        }
    }
    findings
}

fn reads_keys(leaf: &Leaf) -> bool {
    matches!(leaf, Leaf::Exchange { read: Read::KeySummaries, .. })
}

fn check_form(
    graph: &StageGraph,
    stage: StageId,
    fragment: &[u8],
    leaves: &[&Leaf],
    facts: &StageFacts,
) -> Vec<Finding> {
    let fragment = match Fragment::unpack(fragment) {
        Ok(fragment) => fragment,
        Err(error) => return vec![Finding::FragmentUnreadable { stage, error: error.to_string() }],
    };
    let plan = &fragment.plan;
    let found = inputs_of(plan);
    if found.len() != leaves.len() || !fragment.placeholders {
        return vec![Finding::FragmentLeaves { stage, found: found.len(), stated: leaves.len() }];
    }
    let mut findings = Vec::new();
    let mut differs = |stated: &[Column], found: Vec<Column>| {
        if stated != found {
            findings.push(Finding::FragmentColumns { stage, stated: stated.to_vec(), found });
        }
    };
    let schema = |node: Node| plan.lp_arena.get(node).schema(&plan.lp_arena).into_owned();
    for (node, placeholder) in found.iter().zip(&facts.placeholders) {
        differs(&placeholder.columns, columns(&schema(*node)));
    }
    let mut output = columns(&schema(plan.lp_top));
    output.extend(fragment.tag.iter().map(|tag| crate::close::tag_column(&tag.column)));
    differs(&facts.columns, output);
    let form = Form { graph, stage, plan, leaves, facts };
    findings.extend(order::check(&form, &facts.order));
    findings.extend(placement::check(&form));
    findings
}

/// A decoded fragment and what its leaves read, in the order of its leaves.
struct Form<'a> {
    graph: &'a StageGraph,
    stage: StageId,
    plan: &'a IRPlan,
    leaves: &'a [&'a Leaf],
    facts: &'a StageFacts,
}

/// The leaves of a plan, depth first, left to right: the order in which a task fills them.
fn inputs_of(plan: &IRPlan) -> Vec<Node> {
    fn collect(plan: &IRPlan, node: Node, leaves: &mut Vec<Node>) {
        let ir: &IR = plan.lp_arena.get(node);
        let mut inputs = ir.inputs().peekable();
        if inputs.peek().is_none() {
            leaves.push(node);
        }
        inputs.for_each(|input| collect(plan, input, leaves));
    }
    let mut leaves = Vec::new();
    collect(plan, plan.lp_top, &mut leaves);
    leaves
}
