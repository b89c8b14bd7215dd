//! Prints a fragment: its nodes as Polars prints them, its leaves by what they read.

use polars_plan::plans::IRPlan;

use floe_wire::graph::{Leaf, Read};

pub fn describe(plan: &IRPlan, leaves: &[Leaf]) -> Vec<String> {
    // Placeholders are empty frames: Polars prints each as one line that begins with DF, in the order of the leaves.
    let mut frames = leaves.iter().filter_map(|leaf| match leaf {
        Leaf::Exchange { stages, read } => {
            if *read == Read::KeySummaries {
                return None;
            }
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
        Leaf::Source { what, .. } if what.starts_with("frame") => Some(what.to_uppercase()),
        Leaf::Source { .. } => None,
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
