//! Runs a plan with single-node Polars in this process: what a result should be. Panics become errors, every run has a
//! time limit, and a run that exceeds it is left behind on its own thread (nothing can stop it from outside).
//!
//! Nothing here compares or judges; it only runs.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use polars::prelude::{DataFrame, Engine, IntoLazy as _, PolarsResult};
use polars_core::query_result::QueryResult;
use polars_plan::dsl::DslPlan;
use polars_plan::frame::OptFlags;

use super::mended;
use super::sinks;
use floe_wire::error::{Category, QueryError};

/// What a run gave: a frame for each sink, or the error as a user sees it.
pub type Outcome = Result<Vec<DataFrame>, QueryError>;

/// Which of Polars' engines runs the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// The engine that workers use.
    Streaming,
    /// The second opinion.
    InMemory,
    /// Streaming, without the optimization that drops unobserved orders. Perturbed plans run with it, lest the
    /// optimizer undo the perturbation.
    StreamingOrdered,
}

/// Runs a plan on one node, for at most `limit`.
pub fn run(plan: DslPlan, with: With, limit: Duration) -> (Outcome, Duration) {
    let started = Instant::now();
    let (send, receive) = mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name("oracle".into()).stack_size(16 << 20).spawn(move || {
        // The receiver is gone if the limit has passed: then nobody wants the result.
        let _ = send.send(contained(plan, with));
    });
    let outcome = match spawned {
        Err(e) => Err(QueryError::internal(format!("no thread for the oracle: {e}"))),
        Ok(_) => receive.recv_timeout(limit).unwrap_or_else(|_| {
            Err(QueryError::new(
                Category::Deadline,
                "Timeout",
                format!("single-node Polars did not finish within {} s", limit.as_secs()),
            ))
        }),
    };
    (outcome, started.elapsed())
}

fn contained(plan: DslPlan, with: With) -> Outcome {
    floe_plan::can_run(&plan)?;
    // A plan that writes files must write them where only this run looks.
    if let Some(redirected) = sinks::redirect(&plan) {
        let redirected = redirected?;
        match with {
            // That engine does not write: it makes the rows, which are written as they are.
            With::InMemory => contained_run(rows_first(redirected.plan.clone())?, With::Streaming)?,
            with => contained_run(redirected.plan.clone(), with)?,
        };
        return redirected.read();
    }
    contained_run(plan, with)
}

/// The plan with the rows of its sinks, as the in-memory engine makes them.
fn rows_first(plan: DslPlan) -> Result<DslPlan, QueryError> {
    Ok(match plan {
        DslPlan::Sink { input, payload } => {
            let rows = contained_run(Arc::unwrap_or_clone(input), With::InMemory)?;
            let rows = rows.into_iter().next().unwrap_or_default().lazy();
            DslPlan::Sink { input: Arc::new(rows.logical_plan), payload }
        }
        DslPlan::SinkMultiple { inputs } => {
            DslPlan::SinkMultiple { inputs: inputs.into_iter().map(rows_first).collect::<Result<_, _>>()? }
        }
        DslPlan::IR { dsl, .. } => rows_first(Arc::unwrap_or_clone(dsl))?,
        other => other,
    })
}

/// Runs a plan as it is on this thread, with panics contained.
pub fn contained_run(plan: DslPlan, with: With) -> Outcome {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| collect(plan, with)));
    match ran {
        Ok(Ok(frames)) => Ok(frames),
        Ok(Err(e)) => Err(floe_polars::polars_error(e)),
        Err(payload) => Err(panic_error(payload.as_ref())),
    }
}

fn collect(plan: DslPlan, with: With) -> PolarsResult<Vec<DataFrame>> {
    let with = if floe_plan::functions::has_source(&plan) { With::InMemory } else { with };
    let frame = mended::frame(plan);
    let result = match with {
        With::Streaming => frame.collect_with_engine(Engine::Streaming)?,
        With::InMemory => frame.collect_with_engine(Engine::InMemory)?,
        With::StreamingOrdered => {
            let flags = frame.get_current_optimizations() - OptFlags::CHECK_ORDER_OBSERVE;
            frame.with_optimizations(flags).collect_with_engine(Engine::Streaming)?
        }
    };
    Ok(match result {
        QueryResult::Single(frame) => vec![frame],
        QueryResult::Multiple(frames) => frames,
    })
}

/// A contained panic, with the class that Python gives it.
pub fn panic_error(payload: &(dyn std::any::Any + Send)) -> QueryError {
    let message = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into());
    QueryError::user("PanicException", message)
}

/// An error message without what changes from run to run: temporary names, addresses, and the plan that Polars
/// prints below it.
pub fn steady(message: &str) -> String {
    const TRAILERS: [&str; 4] = [
        "\n\nThis error occurred",
        "This error occurred in the following",
        "Resolved plan until failure",
        "\n\nLogical plan",
    ];
    let mut text = message;
    for trailer in TRAILERS {
        if let Some(at) = text.find(trailer) {
            text = &text[..at];
        }
    }
    let text = text.trim_end();
    let mut steady = String::with_capacity(text.len());
    for token in split_words(text) {
        if token.contains("_POLARS") || token.starts_with("0x") && token.len() > 2 {
            let mut number = false;
            for c in token.chars() {
                let digit = c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
                if !digit {
                    steady.push(c);
                } else if !number {
                    steady.push('#');
                }
                number = digit;
            }
        } else {
            steady.push_str(token);
        }
    }
    steady
}

/// The message of a failed conversion without how many values failed, and which: Polars counts only those in the part
/// of the column that it looks at.
pub fn uncounted(message: &str) -> String {
    let text = steady(message);
    let Some(at) = text.find(" failed in column ").or_else(|| text.find(" parsing failed for ")) else { return text };
    let Some(counts) = text[at..].find(" for ") else { return text };
    let (before, counted) = text.split_at(at + counts);
    let list = counted.find('[').zip(counted.rfind(']')).filter(|(from, to)| from < to);
    let (counted, after) = match list {
        Some((from, to)) => (&counted[..from], &counted[to..]),
        None => (counted, ""),
    };
    let digits: String = counted.chars().filter(|c| !c.is_ascii_digit()).collect();
    format!("{before}{digits}{after}")
}

/// Runs of word characters and runs of others, in turn.
fn split_words(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut parts = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (at, c) in text.char_indices() {
        let now = word(c);
        if last.is_some_and(|before| before != now) {
            parts.push(&text[start..at]);
            start = at;
        }
        last = Some(now);
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

/// Whether two errors are the same to a user: class and message.
pub fn same_error(left: &QueryError, right: &QueryError) -> bool {
    left.class == right.class && steady(&left.message) == steady(&right.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_and_trailers_do_not_count() {
        let a = "column `_POLARS_TMP_12` not found at 0x7f00ab12\n\nThis error occurred in the following plan: x";
        let b = "column `_POLARS_TMP_7` not found at 0x7f00ab99";
        assert_eq!(steady(a), steady(b));
        assert_ne!(steady("column `a1` not found"), steady("column `a2` not found"));
    }

    #[test]
    fn counts_of_failed_values_are_those_of_a_part() {
        let failed =
            |counts: &str| format!("conversion from `str` to `i64` failed in column 'a' for {counts}\n\nYou might");
        let (all, part) = (failed("2 out of 30 values: [\"x\", \"y\"]"), failed("1 out of 10 values: [\"x\"]"));
        assert_eq!(uncounted(&all), uncounted(&part));
        assert_ne!(uncounted(&all), uncounted(&part.replace("i64", "i32")));
        assert_ne!(uncounted("1 value"), uncounted("2 values"));
    }

    #[test]
    fn class_and_message_both_count() {
        let e = |class: &str, message: &str| QueryError::user(class, message);
        assert!(same_error(&e("A", "m"), &e("A", "m")));
        assert!(!same_error(&e("A", "m"), &e("B", "m")));
        assert!(!same_error(&e("A", "m"), &e("A", "n")));
    }

    #[test]
    fn a_panic_is_an_error() {
        let caught = std::panic::catch_unwind(|| std::panic::panic_any("boom")).unwrap_err();
        let error = panic_error(caught.as_ref());
        assert_eq!((error.class.as_str(), error.message.as_str()), ("PanicException", "boom"));
    }
}
