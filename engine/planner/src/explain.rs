//! Prints a fragment: its nodes as Polars prints them, its leaves by what they read.

use polars_plan::plans::{IR, IRPlan};

use crate::checks::{inputs_of, reads_keys};
use floe_plan::databases;
use floe_postgres::Unit;
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

/// A plan that holds its own data: frames that stand for tables are shown as these.
pub fn describe_whole(plan: &IRPlan) -> Vec<String> {
    let frames = inputs_of(plan).into_iter().filter_map(|node| match plan.lp_arena.get(node) {
        IR::DataFrameScan { df, schema, output_schema } => {
            Some((databases::units(df).ok().flatten(), output_schema.as_ref().unwrap_or(schema).clone()))
        }
        _ => None,
    });
    let (mut frames, mut asked) = (frames, Vec::new());
    let line = |line: &str| {
        let trimmed = line.trim_start();
        let frame = if trimmed.starts_with("DF [") { frames.next() } else { None };
        let Some((Some(units), schema)) = frame else { return line.to_owned() };
        let name = units.first().map(|unit| unit.name.as_str()).unwrap_or_default();
        asked.extend(statements(&units));
        let columns: Vec<String> = schema.iter_names().map(|name| format!("\"{name}\"")).collect();
        format!("{}POSTGRES {name} [{}]", &line[..line.len() - trimmed.len()], columns.join(", "))
    };
    let mut lines: Vec<String> = plan.describe().lines().map(line).collect();
    lines.extend(asked);
    lines
}

/// What a database is asked for, one line for each connection that reads.
pub fn statements(units: &[Unit]) -> Vec<String> {
    let of = units.len();
    let line = |(at, unit): (usize, &Unit)| {
        let part = if of > 1 { format!(", {} of {of}", at + 1) } else { String::new() };
        let sql: Vec<&str> = unit.selects.iter().map(|select| select.sql.as_str()).collect();
        // A query of several lines is one here.
        let sql: Vec<&str> = sql.iter().flat_map(|sql| sql.split_whitespace()).collect();
        format!("SQL for {}{part}: {}", unit.name, sql.join(" "))
    };
    units.iter().enumerate().map(line).collect()
}
