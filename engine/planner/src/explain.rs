//! Prints a fragment: its nodes as Polars prints them, its leaves by what they read.

use polars_plan::plans::{IR, IRPlan};

use crate::checks::{inputs_of, reads_keys};
use floe_wire::graph::{Leaf, Read};

pub fn describe(plan: &IRPlan, leaves: &[Leaf]) -> Vec<String> {
    // Placeholders are empty frames: Polars prints each as one line that begins with DF, in the order of the leaves.
    let placed = leaves.iter().filter(|leaf| !reads_keys(leaf)).zip(inputs_of(plan));
    let mut frames = placed.filter_map(|(leaf, node)| match leaf {
        Leaf::Exchange { stages, read } => {
            let from = stages.iter().map(|s| s.0.to_string()).collect::<Vec<_>>().join(", ");
            let how = match read {
                Read::Partition => "its partition",
                Read::All => "all",
                Read::Forward => "task by task",
                Read::Neighbours { .. } => "of neighbouring tasks",
                Read::Before => "of the tasks before",
                Read::After => "of the tasks after",
                Read::KeySummaries => "keys",
            };
            let stages = if stages.len() == 1 { "stage" } else { "stages" };
            Some(format!("READ {stages} {from}, {how}"))
        }
        Leaf::Source { what, .. } => {
            matches!(plan.lp_arena.get(node), IR::DataFrameScan { .. }).then(|| what.to_uppercase())
        }
    });
    let line = |line: &str| {
        let trimmed = line.trim_start();
        if !trimmed.starts_with("DF [") {
            return line.to_owned();
        }
        let columns = trimmed.trim_start_matches("DF ").split(';').next().unwrap_or_default().to_owned();
        let indent = &line[..line.len() - trimmed.len()];
        frames.next().map_or_else(|| line.to_owned(), |words| format!("{indent}{words} {columns}"))
    };
    plan.describe().lines().map(line).collect()
}
