//! The summary of a query: where the result is, rows, time, bytes shuffled, what ran on one worker and why.

use std::fmt::Write as _;
use std::time::Duration;

use floe_api::report::{Category, Outcome, RunError};
use serde_json::{Value, json};

use crate::args::Output;
use crate::{human, print};

/// List at most this many reasons; the others are only counted.
const MAX_REASONS: usize = 8;

pub fn print_outcome(name: &str, outcome: &Outcome, output: Output, quiet: bool) {
    match output {
        Output::Json => print::out(json!({"name": name, "outcome": outcome})),
        Output::Table => {
            if let Some(table) = &outcome.table {
                print::out(table.trim_end());
            }
            if !quiet {
                print::out(text(name, outcome).trim_end());
            }
        }
    }
}

pub fn print_error(name: &str, error: &RunError, output: Output) {
    if output == Output::Json {
        print::out(error_json(name, error));
    }
    print::err(error_text(name, error).trim_end());
}

pub fn error_json(name: &str, error: &RunError) -> Value {
    let error = json!({"category": error.category.as_str(), "class": error.class, "message": error.message});
    json!({"name": name, "error": error})
}

fn text(name: &str, outcome: &Outcome) -> String {
    let mut out = String::new();
    let rows = human::plural(outcome.rows, "row");
    let time = human::duration(Duration::from_millis(outcome.duration_ms));
    // Writing to a string does not fail.
    let _ = writeln!(out, "{name}: {rows} in {time}");
    if let Some(uri) = &outcome.sink_uri {
        let (files, bytes) = (human::plural(outcome.files, "file"), human::bytes(outcome.bytes_written));
        let _ = writeln!(out, "  written to  {} ({files}, {bytes})", human::path(uri));
    }
    let stages = human::plural(outcome.stages.len() as u64, "stage");
    if outcome.bytes_shuffled > 0 {
        let _ = writeln!(out, "  shuffled    {} over {stages}", human::bytes(outcome.bytes_shuffled));
    } else if !outcome.stages.is_empty() {
        let _ = writeln!(out, "  shuffled    nothing ({stages})");
    }
    for single in outcome.single_worker.iter().take(MAX_REASONS) {
        let _ = writeln!(out, "  one worker  {} (stage {}): {}", single.node, single.stage, single.reason);
    }
    if let Some(more) = outcome.single_worker.len().checked_sub(MAX_REASONS).filter(|more| *more > 0) {
        let _ = writeln!(out, "  one worker  and {more} more");
    }
    if let Some(why) = &outcome.fell_back {
        let why = why.trim_end().replace('\n', " ");
        let _ = writeln!(out, "  warning     the stages failed, and the query ran again on one worker: {why}");
    }
    for warning in &outcome.warnings {
        let _ = writeln!(out, "  warning     {warning}");
    }
    out
}

fn error_text(name: &str, error: &RunError) -> String {
    let mut out = format!("error: {name}: {}: {}\n", error.class, error.message.trim_end());
    let advice = match error.category {
        Category::OutOfMemory => Some("give the workers more memory (spec.compute.memory), or more workers"),
        Category::Deadline => Some("give it more time (spec.activeDeadlineSeconds or --timeout), or more workers"),
        Category::LostWorker => Some("workers went away more often than spec.execution.retries allows"),
        Category::Io => Some("a file or store did not answer as it should; the query can be run again as it is"),
        Category::User | Category::Cancelled | Category::Internal => None,
    };
    if let Some(advice) = advice {
        out.push_str(&format!("  {advice}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_where_how_many_how_long_and_what_was_shuffled() {
        let outcome: Outcome = serde_json::from_value(json!({
            "rows": 11620, "durationMs": 1340, "bytesWritten": 345000, "bytesShuffled": 12_300_000,
            "sinkUri": "out/q3/", "files": 2, "stages": [{}, {}, {}],
            "singleWorker": [{"stage": 2, "node": "SORT", "reason": "keeps order"}],
            "warnings": ["zfill differs"],
        }))
        .unwrap();
        assert_eq!(
            text("q3", &outcome),
            "q3: 11,620 rows in 1.34 s\n  written to  out/q3/ (2 files, 345 kB)\n  shuffled    12 MB over 3 stages\n  \
             one worker  SORT (stage 2): keeps order\n  warning     zfill differs\n"
        );
    }

    #[test]
    fn a_fall_back_to_one_worker_is_a_warning_with_its_reason() {
        let outcome: Outcome = serde_json::from_value(json!({
            "rows": 1, "stages": [{}], "fellBack": "ShapeError: zip node received\nunequal inputs\n",
        }))
        .unwrap();
        assert_eq!(
            text("q", &outcome),
            "q: 1 row in 0 ms\n  shuffled    nothing (1 stage)\n  warning     the stages failed, and the query ran again \
             on one worker: ShapeError: zip node received unequal inputs\n"
        );
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(json["fellBack"], "ShapeError: zip node received\nunequal inputs\n");
    }

    #[test]
    fn an_error_says_what_to_do_where_something_can_be_done() {
        let error = |category| RunError { category, class: "C".into(), message: "m\n".into() };
        assert_eq!(error_text("q", &error(Category::User)), "error: q: C: m\n");
        assert!(error_text("q", &error(Category::OutOfMemory)).contains("spec.compute.memory"));
    }
}
