//! Checks decoded fragments without the planner's own bookkeeping: each fragment matches its stated facts, its nodes
//! give the order that the stage claims, and every join, group-by, unique and window has its matching rows in one task.

mod groups;
mod keys;
mod order;
mod placement;
mod promise;
#[cfg(test)]
mod tests;

pub(crate) use placement::is_grouping;
pub use promise::promised;

use polars_plan::plans::{IR, IRPlan};
use polars_utils::arena::Node;

use crate::close::columns;
use crate::fragment::Fragment;
use floe_wire::check::Finding;
use floe_wire::facts::{Column, StageFacts};
use floe_wire::graph::{Exchange, Leaf, Read, Stage, StageGraph, StageId};

/// Finds what is wrong with a graph; looks into the fragments only if the graph itself is sound.
pub fn check(graph: &StageGraph) -> Vec<Finding> {
    let mut findings = graph.check();
    if !findings.is_empty() {
        return findings;
    }
    let mut written = Written::default();
    for stage in &graph.stages {
        let mut partial = false;
        let mut form = |fragment: &[u8], leaves: &[Leaf], facts: &StageFacts| -> Option<IRPlan> {
            // A stage without leaves holds the whole plan with its data.
            if leaves.is_empty() {
                return None;
            }
            let leaves: Vec<&Leaf> = leaves.iter().filter(|leaf| !reads_keys(leaf)).collect();
            let fragment = match Fragment::unpack(fragment) {
                Ok(fragment) => fragment,
                Err(error) => {
                    findings.push(Finding::FragmentUnreadable { stage: stage.id, error: error.to_string() });
                    return None;
                }
            };
            partial |= check_form(graph, stage, &fragment, &leaves, facts, &written, &mut findings);
            Some(fragment.plan)
        };
        let plan = form(&stage.fragment, &stage.leaves, &stage.facts);
        if let Some(adaptive) = &stage.adaptive {
            form(&adaptive.fragment, &adaptive.leaves, &adaptive.facts);
        }
        written.plans.push(plan);
        written.partial.push(partial);
    }
    findings
}

pub(crate) fn reads_keys(leaf: &Leaf) -> bool {
    matches!(leaf, Leaf::Exchange { read: Read::KeySummaries, .. })
}

/// Adds what is wrong with a form of a stage; returns whether it gives partial groups.
fn check_form(
    graph: &StageGraph,
    of: &Stage,
    fragment: &Fragment,
    leaves: &[&Leaf],
    facts: &StageFacts,
    written: &Written,
    findings: &mut Vec<Finding>,
) -> bool {
    let (plan, stage) = (&fragment.plan, of.id);
    let found = inputs_of(plan);
    if found.len() != leaves.len() || !fragment.placeholders {
        findings.push(Finding::FragmentLeaves { stage, found: found.len(), stated: leaves.len() });
        return false;
    }
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
    let form = Form { graph, stage, output: &of.output, plan, leaves, facts, written };
    findings.extend(order::check(&form, &facts.order));
    let (apart, partial) = placement::check(&form);
    findings.extend(apart);
    partial
}

/// What is known of the stages before.
#[derive(Default)]
struct Written {
    /// Their decoded fragments, of those that have leaves.
    plans: Vec<Option<IRPlan>>,
    /// Whether their rows are partial groups.
    partial: Vec<bool>,
}

/// A decoded fragment and what its leaves read, in the order of its leaves.
struct Form<'a> {
    graph: &'a StageGraph,
    stage: StageId,
    output: &'a Exchange,
    plan: &'a IRPlan,
    leaves: &'a [&'a Leaf],
    facts: &'a StageFacts,
    written: &'a Written,
}

impl Form<'_> {
    /// Whether no other stage reads its rows.
    fn gives_result(&self) -> bool {
        matches!(self.output, Exchange::Result | Exchange::Sink { .. })
    }
}

/// The leaves of a plan, depth first, left to right: the order in which a task fills them.
pub(crate) fn inputs_of(plan: &IRPlan) -> Vec<Node> {
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
