//! Checks stage graphs, independently of the planner that makes them: it knows nothing of Polars and trusts only the
//! plain data of the graph. A graph with a finding is a fault of the planner, and is not run.
//!
//! Rules about who reads what come first; the others apply only if every named stage exists and comes before its
//! readers.

mod adaptive;
mod exchanges;
mod finding;
mod outputs;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use finding::{AdaptiveFault, Finding};

use crate::error::{Category, QueryError};
use crate::facts::{Column, StageFacts};
use crate::graph::{Exchange, Leaf, Read, Stage, StageGraph, StageId};

/// The error for a graph with these findings.
pub fn rejection(findings: &[Finding]) -> Option<QueryError> {
    let (first, others) = findings.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
    let message = format!("the stage graph of this query is faulty: {first}{more}");
    Some(QueryError::new(Category::Internal, "StageGraphError", message))
}

/// A form of a stage: the planned one or the adaptive one.
#[derive(Clone, Copy)]
struct Form<'a> {
    stage: StageId,
    leaves: &'a [Leaf],
    facts: &'a StageFacts,
    adaptive: bool,
}

impl StageGraph {
    /// Finds all faults of this graph.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.check_places(&mut findings);
        if !findings.is_empty() {
            // The other rules look stages up by their ids.
            return findings;
        }
        for stage in &self.stages {
            for form in stage.forms() {
                check_leaves(form, &mut findings);
                self.check_columns(form, &mut findings);
                exchanges::check_inputs(self, form, &mut findings);
                check_broadcasts(form, &mut findings);
                check_key_filters(self, form, &mut findings);
            }
            exchanges::check_output(self, stage, &mut findings);
            adaptive::check(self, stage, &mut findings);
        }
        self.check_readers(&mut findings);
        exchanges::check_tasks(self, &mut findings);
        outputs::check(self, &mut findings);
        findings
    }

    /// Checks that every named stage exists and comes before its readers, which rules out cycles.
    fn check_places(&self, findings: &mut Vec<Finding>) {
        let exists = |id: StageId| (id.0 as usize) < self.stages.len();
        for (place, stage) in self.stages.iter().enumerate() {
            if stage.id.0 as usize != place {
                findings.push(Finding::Misplaced { place: place as u32, id: stage.id });
            }
            let reader = StageId(place as u32);
            let named: BTreeSet<StageId> = stage.forms().flat_map(Form::inputs).collect();
            for input in named {
                if !exists(input) {
                    findings.push(Finding::UnknownInput { reader, input });
                } else if input >= reader {
                    findings.push(Finding::InputAfterReader { reader, input });
                }
            }
            let chosen_by = stage.adaptive.iter().flat_map(|form| form.small.iter().chain([&form.replaces]));
            findings
                .extend(chosen_by.filter(|id| !exists(**id)).map(|id| Finding::UnknownInput { reader, input: *id }));
        }
        let missing = self.roots.iter().filter(|root| !exists(**root));
        findings.extend(missing.map(|root| Finding::UnknownRoot { root: *root }));
        let alone = self.single_worker.iter().filter(|node| !exists(node.stage));
        findings.extend(alone.map(|node| Finding::UnknownSingleWorker { stage: node.stage }));
    }

    /// Checks that nothing is computed or written without a reader.
    fn check_readers(&self, findings: &mut Vec<Finding>) {
        let (mut read, mut by_partition, mut by_keys) =
            (BTreeSet::<StageId>::new(), BTreeSet::<StageId>::new(), BTreeSet::<StageId>::new());
        for leaf in self.stages.iter().flat_map(Stage::forms).flat_map(|form| form.leaves) {
            if let Leaf::Exchange { stages, read: how } = leaf {
                match how {
                    Read::KeySummaries => by_keys.extend(stages),
                    Read::Partition => by_partition.extend(stages),
                    Read::All | Read::Forward | Read::Neighbours { .. } | Read::Before | Read::After => {}
                }
                if *how != Read::KeySummaries {
                    read.extend(stages);
                }
            }
        }
        for stage in &self.stages {
            let id = &stage.id;
            let exchanged = matches!(stage.output, Exchange::Hash { .. } | Exchange::Range { .. });
            if !read.contains(id) && !self.roots.contains(id) {
                findings.push(Finding::Unread { stage: *id });
            } else if exchanged && !self.roots.contains(id) && !by_partition.contains(id) {
                findings.push(Finding::PartitionsUnread { stage: *id });
            }
            let summed = stage.forms().any(|form| form.facts.key_summary.is_some());
            if summed && !by_keys.contains(id) {
                findings.push(Finding::KeySummaryUnread { stage: *id });
            }
        }
    }

    /// Checks that every placeholder gets the columns that it expects.
    fn check_columns(&self, form: Form<'_>, findings: &mut Vec<Finding>) {
        for (leaf, (input, placeholder)) in form.filled().enumerate() {
            let Leaf::Exchange { stages, .. } = input else { continue };
            for input in stages {
                let written = &self.stages[input.0 as usize].facts.columns;
                if !same_names(written, &placeholder.columns) {
                    findings.push(Finding::LeafColumns {
                        stage: form.stage,
                        leaf,
                        input: *input,
                        expected: placeholder.columns.clone(),
                        written: written.clone(),
                    });
                }
            }
        }
    }
}

impl Stage {
    fn forms(&self) -> impl Iterator<Item = Form<'_>> {
        let planned = Form { stage: self.id, leaves: &self.leaves, facts: &self.facts, adaptive: false };
        let other = self.adaptive.iter().map(|form| Form {
            stage: self.id,
            leaves: &form.leaves,
            facts: &form.facts,
            adaptive: true,
        });
        std::iter::once(planned).chain(other)
    }
}

impl<'a> Form<'a> {
    fn inputs(self) -> impl Iterator<Item = StageId> + 'a {
        let of = |leaf: &'a Leaf| match leaf {
            Leaf::Source { .. } => &[][..],
            Leaf::Exchange { stages, .. } => stages.as_slice(),
        };
        self.leaves.iter().flat_map(of).copied()
    }

    /// The leaves that fill placeholders, each with its placeholder.
    fn filled(self) -> impl Iterator<Item = (&'a Leaf, &'a crate::facts::Placeholder)> {
        self.leaves.iter().filter(|leaf| !reads_keys(leaf)).zip(&self.facts.placeholders)
    }
}

fn reads_keys(leaf: &Leaf) -> bool {
    matches!(leaf, Leaf::Exchange { read: Read::KeySummaries, .. })
}

fn has_column(columns: &[Column], name: &str) -> bool {
    columns.iter().any(|column| column.name == name)
}

/// Only names must agree: Polars is not always consistent about the type of a column (coalesced keys of different
/// number types, nulls in a union), and casts while it runs.
fn same_names(one: &[Column], other: &[Column]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.name == other.name)
}

fn check_leaves(form: Form<'_>, findings: &mut Vec<Finding>) {
    let stage = form.stage;
    for (leaf, input) in form.leaves.iter().enumerate() {
        let empty = match input {
            Leaf::Source { per_task, .. } => per_task.is_empty(),
            Leaf::Exchange { stages, .. } => stages.is_empty(),
        };
        if empty {
            findings.push(Finding::EmptyLeaf { stage, leaf });
        }
    }
    let leaves = form.leaves.iter().filter(|leaf| !reads_keys(leaf)).count();
    let placeholders = form.facts.placeholders.len();
    if leaves != placeholders {
        findings.push(Finding::LeafCount { stage, leaves, placeholders });
    } else if let Some(leaf) = form.leaves.iter().take(leaves).position(reads_keys) {
        findings.push(Finding::KeyLeafNotLast { stage, leaf });
    }
}

/// Checks that a broadcast is known to be small, or that the operation has no other form.
fn check_broadcasts(form: Form<'_>, findings: &mut Vec<Finding>) {
    use crate::facts::BroadcastBound as Bound;
    let (stage, tasks) = (form.stage, form.facts.tasks);
    if tasks < 2 {
        return;
    }
    for (leaf, (input, placeholder)) in form.filled().enumerate() {
        if !matches!(input, Leaf::Exchange { read: Read::All, .. }) {
            continue;
        }
        match placeholder.bound {
            None => findings.push(Finding::UnlimitedBroadcast { stage, leaf, tasks }),
            Some(Bound::Estimate { expected_bytes, limit_bytes }) if expected_bytes > limit_bytes => {
                findings.push(Finding::BroadcastOverLimit { stage, leaf, expected_bytes, limit_bytes });
            }
            // Only the adaptive form, which is chosen by a measured size, may rely on one.
            Some(Bound::Measured { .. }) if !form.adaptive => {
                findings.push(Finding::UnlimitedBroadcast { stage, leaf, tasks });
            }
            Some(Bound::Estimate { .. } | Bound::Measured { .. } | Bound::Rows { .. } | Bound::OnlyForm) => {}
        }
    }
}

/// Checks that runtime filters read summaries that are written, of keys that exist.
fn check_key_filters(graph: &StageGraph, form: Form<'_>, findings: &mut Vec<Finding>) {
    let (stage, facts) = (form.stage, form.facts);
    let leaves: Vec<&Leaf> = form.leaves.iter().filter(|leaf| reads_keys(leaf)).collect();
    if leaves.len() != facts.key_filters.len() {
        let filters = facts.key_filters.len();
        findings.push(Finding::KeyFilterCount { stage, filters, leaves: leaves.len() });
    }
    for leaf in leaves {
        let Leaf::Exchange { stages, .. } = leaf else { continue };
        for input in stages {
            if graph.stages[input.0 as usize].facts.key_summary.is_none() {
                findings.push(Finding::NoKeySummary { stage, input: *input });
            }
        }
    }
    let missing = |key: &&String| !has_column(&facts.columns, key);
    let summed = facts.key_summary.iter().flatten().filter(missing);
    findings.extend(summed.map(|key| Finding::MissingSummaryKey { stage, key: key.clone() }));
    let filtered = facts.key_filters.iter().flatten().filter(missing);
    findings.extend(filtered.map(|key| Finding::MissingFilterKey { stage, key: key.clone() }));
}
